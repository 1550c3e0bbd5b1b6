"""Mistral's answers: thoughts are chunks of the content, calls have nine-character ids."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any, Final

from controlplane.kit.json import JSONDict
from providers.protocols.canonical import (
    ArgumentsDelta,
    Base64,
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
from providers.simulator.asked import Ask, script_of

# Refusals and filters have no word of their own here.
_REASONS: Final = {"length": "length", "tool_use": "tool_calls"}
_ALPHABET: Final = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


def call_id(text: str) -> str:
    raw = hashlib.sha256(text.encode()).digest()
    return "".join(_ALPHABET[byte % len(_ALPHABET)] for byte in raw[:9])


def _thought(words: str, *, signature: str = "", is_closed: bool | None = None) -> JSONDict:
    chunk: JSONDict = {
        "type": "thinking",
        "thinking": [{"type": "text", "text": words}] if words else [],
    }
    if signature:
        chunk["signature"] = signature
    if is_closed is not None:
        chunk["closed"] = is_closed
    return chunk


def _image(source: Base64) -> JSONDict:
    return {"type": "image_url", "image_url": f"data:{source.media_type};base64,{source.data}"}


def usage_of(usage: Usage) -> JSONDict:
    out: JSONDict = {
        "prompt_tokens": usage.prompt,
        "total_tokens": usage.total,
        "completion_tokens": usage.output,
    }
    if usage.cache_read:
        out["num_cached_tokens"] = usage.cache_read
        out["prompt_tokens_details"] = {"cached_tokens": usage.cache_read}
    return out


def _head(ask: Ask, kind: str) -> JSONDict:
    return {
        "id": ask.id,
        "object": kind,
        "created": ask.created,
        "model": script_of(ask.model).base,
    }


class _Choice:
    """One choice of a whole answer."""

    def __init__(self) -> None:
        self.chunks: list[JSONDict] = []
        self.calls: dict[int, JSONDict] = {}
        self.reason = "stop"

    def take(self, event: Any) -> None:
        match event:
            case BlockStart():
                self._open(event)
            case TextDelta():
                self.chunks[-1]["text"] += event.text
            case ThinkingDelta():
                self.chunks[-1]["thinking"][0]["text"] += event.text
            case SignatureDelta():
                self.chunks[-1] |= {"signature": event.signature.value, "closed": True}
            case ArgumentsDelta():
                self.calls[event.index]["function"]["arguments"] += event.fragment
            case CitationDelta():
                self.chunks.append({"type": "reference", "reference_ids": [0]})
            case Finish():
                self.reason = _REASONS.get(event.reason, "stop")
            case _:
                pass

    def _open(self, event: BlockStart) -> None:
        match event.block:
            case ToolCall() as call:
                self.calls[event.index] = {
                    "id": call_id(call.id),
                    "function": {"name": call.name, "arguments": ""},
                    "index": len(self.calls),
                }
            case Thinking(signature=proof) if proof is not None:
                self.chunks.append(_thought("", signature=proof.value, is_closed=True))
            case Thinking():
                opened: JSONDict = {"type": "thinking", "closed": True}
                self.chunks.append(opened | {"thinking": [{"type": "text", "text": ""}]})
            case Image(source=Base64() as source):
                self.chunks.append(_image(source))
            case _:
                self.chunks.append({"type": "text", "text": ""})

    def message(self) -> JSONDict:
        content: Any = self.chunks
        if all(chunk["type"] == "text" for chunk in self.chunks):
            content = "".join(chunk["text"] for chunk in self.chunks)
        calls = list(self.calls.values())
        return {"role": "assistant", "tool_calls": calls or None, "content": content}


def answer_of(ask: Ask, events: list[Event]) -> JSONDict:
    choices = [_Choice() for _ in range(ask.choices)]
    usage = Usage()
    for event in events:
        if isinstance(event, UsageUpdate):
            usage = event.usage
        else:
            choices[getattr(event, "choice", 0)].take(event)
    return {
        **_head(ask, "chat.completion"),
        "choices": [
            {"index": number, "finish_reason": choice.reason, "message": choice.message()}
            for number, choice in enumerate(choices)
        ],
        "usage": usage_of(usage),
    }


def chunks_of(ask: Ask, events: list[Event]) -> Iterator[JSONDict]:
    """The stream: usage stands in the last chunk, beside the finish reason."""
    head = _head(ask, "chat.completion.chunk")

    def chunk(delta: JSONDict, choice: int, reason: str | None = None) -> JSONDict:
        one = {"index": choice, "delta": delta, "finish_reason": reason}
        return {**head, "choices": [one]}

    for choice in range(ask.choices):
        yield chunk({"role": "assistant", "content": ""}, choice)
    usage = next((event.usage for event in events if isinstance(event, UsageUpdate)), Usage())
    # Of each call: its number in its choice.
    numbers: dict[int, int] = {}
    counts = [0] * ask.choices
    finishes = [event for event in events if isinstance(event, Finish)]
    for event in events:
        if isinstance(event, BlockStart) and isinstance(event.block, ToolCall):
            numbers[event.index] = counts[event.choice]
            counts[event.choice] += 1
        delta = _delta(event, numbers)
        if delta is not None:
            yield chunk(delta, getattr(event, "choice", 0))
    for finish in finishes:
        last = chunk({"content": ""}, finish.choice, _REASONS.get(finish.reason, "stop"))
        yield {**last, "usage": usage_of(usage)} if finish is finishes[-1] else last


def _delta(event: Event, numbers: dict[int, int]) -> JSONDict | None:
    """What an event adds to the answer; None = nothing."""
    match event:
        case TextDelta():
            return {"content": event.text}
        case ThinkingDelta():
            return {"content": [_thought(event.text)]}
        case SignatureDelta():
            proof = event.signature.value
            return {"content": [_thought("", signature=proof, is_closed=True)]}
        case BlockStart(block=ToolCall() as call):
            function = {"name": call.name, "arguments": ""}
            opened = {
                "id": call_id(call.id),
                "function": function,
                "index": numbers[event.index],
            }
            return {"tool_calls": [opened]}
        case BlockStart(block=Thinking(signature=hidden)) if hidden is not None:
            return {"content": [_thought("", signature=hidden.value, is_closed=True)]}
        case BlockStart(block=Image(source=Base64() as source)):
            return {"content": [_image(source)]}
        case ArgumentsDelta():
            # What continues a call says its index; the id is the word "null".
            function = {"name": "", "arguments": event.fragment}
            more = {"id": "null", "function": function, "index": numbers[event.index]}
            return {"tool_calls": [more]}
        case CitationDelta():
            return {"content": [{"type": "reference", "reference_ids": [0]}]}
        case _:
            return None
