"""Kiro's answers: text, thoughts between tags in the text, calls in fragments, then figures."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Final

from controlplane.kit import json
from controlplane.kit.json import JSONDict
from providers.protocols import eventstream
from providers.protocols.canonical import (
    ArgumentsDelta,
    Base64,
    BlockEnd,
    BlockStart,
    CitationDelta,
    Event,
    Finish,
    Image,
    TextDelta,
    Thinking,
    ThinkingDelta,
    ToolCall,
    Usage,
    UsageUpdate,
)
from providers.simulator.asked import Ask, script_of
from providers.simulator.wire.bedrock_answer import call_id

# Said only where it is not what one would think: answers mostly just end.
_STOPS: Final = {
    "length": "MAX_TOKENS",
    "content_filter": "CONTENT_FILTERED",
    "refusal": "REFUSAL",
}
_OPEN: Final = ("<think", "ing>")
_CLOSE: Final = ("</thin", "king>\n\n")
_CREDITS_PER_TOKEN: Final = 0.0001


def frames_of(
    ask: Ask, events: list[Event], *, conversation_id: str, context: int
) -> Iterator[bytes]:
    """`context` is the window that the share of the context is told of."""
    calls: dict[int, ToolCall] = {}
    thoughts: set[int] = set()
    stop, usage = "", Usage()
    model = script_of(ask.model).base
    utterance = str(uuid.uuid5(uuid.NAMESPACE_OID, ask.id))
    yield _frame(
        "messageMetadataEvent", {"conversationId": conversation_id, "utteranceId": utterance}
    )

    def said(text: str) -> bytes:
        return _frame("assistantResponseEvent", {"content": text, "modelId": model})

    for event in events:
        match event:
            case BlockStart(block=ToolCall() as call):
                calls[event.index] = call
                yield _frame("toolUseEvent", {"name": call.name, "toolUseId": call_id(call)})
            case BlockStart(block=Thinking(signature=proof)) if proof is not None:
                yield _frame("reasoningContentEvent", {"redactedContent": proof.value})
            case BlockStart(block=Thinking()):
                thoughts.add(event.index)
                # The tags are cut wherever the backend likes.
                for piece in _OPEN:
                    yield said(piece)
            case BlockStart(block=Image(source=Base64() as source)):
                # It cannot send pictures; a model would say so.
                yield said(f" [a picture of type {source.media_type}]")
            case TextDelta() | ThinkingDelta():
                yield said(event.text)
            case ArgumentsDelta():
                call = calls[event.index]
                fragment = {"input": event.fragment, "name": call.name, "toolUseId": call_id(call)}
                yield _frame("toolUseEvent", fragment)
            case CitationDelta():
                link = {"url": event.citation["url"], "title": event.citation["title"]}
                yield _frame("supplementaryWebLinksEvent", {"supplementaryWebLinks": [link]})
            case BlockEnd():
                if event.index in calls:
                    call = calls[event.index]
                    ended = {"name": call.name, "stop": True, "toolUseId": call_id(call)}
                    yield _frame("toolUseEvent", ended)
                elif event.index in thoughts:
                    for piece in _CLOSE:
                        yield said(piece)
            case Finish():
                stop = _STOPS.get(event.reason, "")
            case UsageUpdate():
                usage = event.usage
            case _:
                pass
    if stop:
        yield _frame("messageStopEvent", {"stopReason": stop})
    share = round(usage.total * 100 / context, 4)
    yield _frame("contextUsageEvent", {"contextUsagePercentage": share})
    yield _frame("metadataEvent", {"tokenUsage": _tokens(usage, share)})
    credits_used = round(usage.total * _CREDITS_PER_TOKEN, 6)
    yield _frame(
        "meteringEvent", {"unit": "credit", "unitPlural": "credits", "usage": credits_used}
    )


def _tokens(usage: Usage, share: float) -> JSONDict:
    return {
        "uncachedInputTokens": usage.input,
        "cacheReadInputTokens": usage.cache_read,
        "cacheWriteInputTokens": usage.cache_write,
        "outputTokens": usage.output,
        "totalTokens": usage.total,
        "contextUsagePercentage": share,
    }


def _frame(kind: str, payload: JSONDict) -> bytes:
    return eventstream.encode_event(kind, json.dumps(payload))
