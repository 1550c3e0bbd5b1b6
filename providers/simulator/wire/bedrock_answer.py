"""Converse answers: one JSON object, or binary frames."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

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
    SignatureDelta,
    TextDelta,
    Thinking,
    ThinkingDelta,
    ToolCall,
    Usage,
    UsageUpdate,
)
from providers.simulator.asked import Ask

_REASONS: Final = {
    "stop": "end_turn",
    "stop_sequence": "stop_sequence",
    "length": "max_tokens",
    "tool_use": "tool_use",
    "content_filter": "guardrail_intervened",
    "refusal": "content_filtered",
}


@dataclass(slots=True)
class _Block:
    start: BlockStart
    text: list[str] = field(default_factory=list)
    signature: str = ""
    sources: list[JSONDict] = field(default_factory=list)


class _Reader:
    """Collects the blocks of an answer, and how it ended."""

    def __init__(self, ask: Ask, events: list[Event], body: JSONDict) -> None:
        # Other models' thoughts are not signed.
        self.is_signed = "claude" in ask.model
        self.blocks: dict[int, _Block] = {}
        self.usage = Usage()
        self.reason = "end_turn"
        self.fields: JSONDict | None = None
        for event in events:
            match event:
                case BlockStart():
                    self.blocks[event.index] = _Block(event)
                case TextDelta() | ThinkingDelta():
                    self.blocks[event.index].text.append(event.text)
                case ArgumentsDelta():
                    self.blocks[event.index].text.append(event.fragment)
                case SignatureDelta() if self.is_signed:
                    self.blocks[event.index].signature = event.signature.value
                case CitationDelta():
                    self.blocks[event.index].sources.append(event.citation)
                case Finish():
                    self.reason = _REASONS.get(event.reason, "malformed_model_output")
                    asked = body.get("additionalModelResponseFieldPaths") or ()
                    if "/stop_sequence" in asked:
                        self.fields = {"stop_sequence": event.stop_sequence}
                case UsageUpdate():
                    self.usage = event.usage
                case _:
                    pass
        for block in self.blocks.values():
            if isinstance(block.start.block, ToolCall) and _arguments(block) is None:
                self.reason = "malformed_tool_use"

    def ending(self) -> JSONDict:
        out: JSONDict = {"stopReason": self.reason}
        if self.fields is not None:
            out["additionalModelResponseFields"] = self.fields
        return out

    def metadata(self, body: JSONDict) -> JSONDict:
        usage = self.usage
        tokens: JSONDict = {
            "inputTokens": usage.input,
            "outputTokens": usage.output,
            "totalTokens": usage.total,
            "cacheReadInputTokens": usage.cache_read,
            "cacheWriteInputTokens": usage.cache_write,
        }
        short = usage.cache_write - usage.cache_write_1h
        details = [
            {"ttl": ttl, "inputTokens": count}
            for ttl, count in (("5m", short), ("1h", usage.cache_write_1h))
            if count
        ]
        if details:
            tokens["cacheDetails"] = details
        out: JSONDict = {"usage": tokens, "metrics": {"latencyMs": 7}}
        if body.get("serviceTier"):
            out["serviceTier"] = body["serviceTier"]
        return out


def _arguments(block: _Block) -> Any:
    """None when what the model wrote is no JSON."""
    raw = "".join(block.text)
    if not raw:
        return {}
    try:
        return json.loads(raw)
    except json.InvalidJSON:
        return None


def call_id(call: ToolCall) -> str:
    """As AWS begins them."""
    return "tooluse_" + call.id.removeprefix("call_")


def _citation(source: JSONDict) -> JSONDict:
    return {
        "title": source["title"],
        "location": {"web": {"url": source["url"], "domain": source["url"].split("/")[2]}},
    }


def answer_of(ask: Ask, events: list[Event], body: JSONDict) -> JSONDict:
    """The answer to Converse."""
    read = _Reader(ask, events, body)
    content = [whole for block in read.blocks.values() if (whole := _whole(block)) is not None]
    message = {"role": "assistant", "content": content}
    return {"output": {"message": message}, **read.ending(), **read.metadata(body)}


def _whole(block: _Block) -> JSONDict | None:
    text = "".join(block.text)
    match block.start.block:
        case ToolCall() as call:
            arguments = _arguments(block)
            if arguments is None:
                # A document cannot hold half a JSON text: only the stop reason tells of it.
                return None
            return {"toolUse": {"toolUseId": call_id(call), "name": call.name, "input": arguments}}
        case Thinking(redacted=True, signature=proof) if proof is not None:
            return {"reasoningContent": {"redactedContent": proof.value}}
        case Thinking():
            thought = {"text": text} | ({"signature": block.signature} if block.signature else {})
            return {"reasoningContent": {"reasoningText": thought}}
        case Image(source=Base64() as source):
            form = source.media_type.partition("/")[2]
            return {"image": {"format": form, "source": {"bytes": source.data}}}
        case _ if block.sources:
            return {
                "citationsContent": {
                    "content": [{"text": text}],
                    "citations": [_citation(source) for source in block.sources],
                }
            }
        case _:
            return {"text": text} if text else None


def frames_of(ask: Ask, events: list[Event], body: JSONDict) -> Iterator[bytes]:
    """The answer to ConverseStream. Text and thoughts begin without announcing themselves, and
    the figures come after the stop."""
    read = _Reader(ask, events, body)
    yield _frame("messageStart", {"role": "assistant"})
    for event in events:
        match event:
            case BlockStart():
                yield from _started(event)
            case TextDelta():
                yield _delta(event.index, {"text": event.text})
            case ThinkingDelta():
                yield _delta(event.index, {"reasoningContent": {"text": event.text}})
            case SignatureDelta() if read.is_signed:
                value = event.signature.value
                yield _delta(event.index, {"reasoningContent": {"signature": value}})
            case ArgumentsDelta():
                yield _delta(event.index, {"toolUse": {"input": event.fragment}})
            case CitationDelta():
                yield _delta(event.index, {"citation": _citation(event.citation)})
            case BlockEnd():
                yield _frame("contentBlockStop", {"contentBlockIndex": event.index})
            case _:
                pass
    yield _frame("messageStop", read.ending())
    yield _frame("metadata", read.metadata(body))


def _started(event: BlockStart) -> Iterator[bytes]:
    match event.block:
        case ToolCall() as call:
            start: JSONDict = {"toolUse": {"toolUseId": call_id(call), "name": call.name}}
            yield _frame("contentBlockStart", {"contentBlockIndex": event.index, "start": start})
        case Image(source=Base64() as source):
            start = {"image": {"format": source.media_type.partition("/")[2]}}
            yield _frame("contentBlockStart", {"contentBlockIndex": event.index, "start": start})
            yield _delta(event.index, {"image": {"source": {"bytes": source.data}}})
        case Thinking(signature=proof) if proof is not None:
            yield _delta(event.index, {"reasoningContent": {"redactedContent": proof.value}})
        case _:
            pass


def _delta(index: int, delta: JSONDict) -> bytes:
    return _frame("contentBlockDelta", {"contentBlockIndex": index, "delta": delta})


def _frame(kind: str, payload: JSONDict) -> bytes:
    return eventstream.encode_event(kind, json.dumps(payload))
