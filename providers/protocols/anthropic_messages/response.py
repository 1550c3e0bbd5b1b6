"""Messages API answers to events: streams, and complete answers through the same machine."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from controlplane.kit.json import InvalidJSON, JSONDict, dumps_str, loads, loads_dict
from providers.protocols import nesting
from providers.protocols.anthropic_messages.carried import SLUG
from providers.protocols.anthropic_messages.errors import fault_of_stream, truncated
from providers.protocols.anthropic_messages.usage import UsageReader
from providers.protocols.canonical import (
    ArgumentsDelta,
    BlockEnd,
    BlockStart,
    CitationDelta,
    End,
    Event,
    Failed,
    Finish,
    KeepAlive,
    ModelSpec,
    Opaque,
    Signature,
    SignatureDelta,
    Start,
    StopReason,
    Text,
    TextDelta,
    Thinking,
    ThinkingDelta,
    UsageUpdate,
)
from providers.protocols.codec import Restore
from providers.protocols.errors import RemoteProtocolError
from providers.protocols.sse import SSEParser
from providers.protocols.tool_calls import called, custom_text

STOP_REASONS: Final[dict[str, StopReason]] = {
    "end_turn": "stop",
    "stop_sequence": "stop_sequence",
    "max_tokens": "length",
    "tool_use": "tool_use",
    "pause_turn": "pause",
    "compaction": "pause",
    "refusal": "refusal",
    "sensitive": "content_filter",
    "model_context_window_exceeded": "context_overflow",
}

MAX_BLOCKS: Final = 10_000
# What may be held back of blocks that are passed on whole.
MAX_HELD: Final = 32 * 1024 * 1024


class _Delta(msgspec.Struct):
    type: str = ""
    text: str | None = None
    partial_json: str | None = None
    thinking: str | None = None
    signature: str | None = None
    citation: JSONDict | None = None
    content: Any = None
    stop_reason: str | None = None
    stop_sequence: str | None = None
    stop_details: JSONDict | None = None


class _Chunk(msgspec.Struct):
    """Every event of the stream: one typed parse instead of a generic one per chunk."""

    type: str = ""
    index: int = 0
    delta: _Delta | None = None
    content_block: JSONDict | None = None
    message: JSONDict | None = None
    usage: JSONDict | None = None
    error: Any = None


_decode_chunk = msgspec.json.Decoder(_Chunk).decode


def _read_chunk(data: bytes) -> _Chunk | None:
    nesting.check(data)
    try:
        return _decode_chunk(data)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError, OverflowError):
        pass  # half a surrogate pair, or a field of another type: the patient way decides
    try:
        value = loads(data)
        return None if value is None else msgspec.convert(value, _Chunk)
    except (InvalidJSON, msgspec.ValidationError) as error:
        raise RemoteProtocolError(f"The upstream sent an unreadable event: {error}") from None


class _Block:
    """State of one open block. `kind`: text, thinking, call, custom or opaque."""

    __slots__ = ("fragments", "has_arguments", "index", "initial", "kind", "texts", "value")

    def __init__(self, index: int, kind: str, value: JSONDict) -> None:
        self.index = index
        self.kind = kind
        self.value = value
        self.initial = value.get("input")
        self.has_arguments = False
        # Custom tools and opaque blocks are passed on whole.
        self.fragments: list[str] = []
        self.texts: list[str] = []


class AnswerMachine:
    """Wire events in, canonical events out. One per answer."""

    def __init__(self, restore: Restore, model: ModelSpec) -> None:
        self._restore = restore
        self._model = model
        self._open: dict[int, _Block] = {}
        self._next_index = 0
        self._calls = 0
        self._held = 0
        self._reader = UsageReader()
        self._stop: _Delta | None = None
        self.is_started = False
        self.is_over = False

    def take(self, chunk: _Chunk, out: list[Event]) -> None:
        delta = chunk.delta
        match chunk.type:
            case "content_block_delta":
                block = self._open.get(chunk.index)
                if block is not None and delta is not None:
                    self._delta(block, delta, out)
            case "content_block_start":
                self._begin(out, {})
                if chunk.content_block is not None:
                    self._start_block(chunk.index, chunk.content_block, out)
            case "content_block_stop":
                # A stop for a block that was never started is ignored (trap 127).
                block = self._open.pop(chunk.index, None)
                if block is not None:
                    self._end_block(block, out)
            case "message_delta":
                self._begin(out, {})
                if delta is not None and delta.stop_reason is not None:
                    self._stop = delta
                if self._reader.update(chunk.usage):
                    out.append(UsageUpdate(self._reader.usage))
            case "message_start":
                self._begin(out, chunk.message or {})
            case "message_stop":
                self._begin(out, {})
                self._finish(out)
            case "ping":
                out.append(KeepAlive())
            case "error":
                self.is_over = True
                out.append(Failed(fault_of_stream(chunk.error)))
            case _:
                pass  # new event types are to be ignored (trap 133)

    def cut_off(self, out: list[Event]) -> None:
        self.is_over = True
        out.append(Failed(truncated()))

    def _begin(self, out: list[Event], message: JSONDict) -> None:
        if not self.is_started:
            self.is_started = True
            upstream_id, model = message.get("id"), message.get("model")
            out.append(
                Start(
                    id=upstream_id if isinstance(upstream_id, str) else "",
                    model=model if isinstance(model, str) else "",
                )
            )
        if self._reader.update(message.get("usage")):
            out.append(UsageUpdate(self._reader.usage))

    def _start_block(self, wire_index: int, value: JSONDict, out: list[Event]) -> None:
        previous = self._open.pop(wire_index, None)
        if previous is not None:
            self._end_block(previous, out)
        if self._next_index >= MAX_BLOCKS:
            raise RemoteProtocolError(f"The upstream sent more than {MAX_BLOCKS} blocks.")
        index = self._next_index
        kind = value.get("type")
        match kind:
            case "text":
                block = _Block(index, "text", value)
                out.append(BlockStart(index, Text(text="")))
                self._initial_text(block, out)
            case "thinking":
                block = _Block(index, "thinking", value)
                out.append(BlockStart(index, Thinking()))
                self._initial_thinking(block, out)
            case "redacted_thinking":
                block = _Block(index, "thinking", value)
                signature = self._signature(_text(value.get("data")))
                out.append(BlockStart(index, Thinking(redacted=True, signature=signature)))
            case "tool_use":
                call = called(self._restore, _text(value.get("name")), _text(value.get("id")))
                if not call.id:
                    call = msgspec.structs.replace(call, id=f"toolu_{index}")
                toolset = value.get("toolset_name")
                if isinstance(toolset, str) and call.namespace is None:
                    call = msgspec.structs.replace(call, namespace=toolset)
                block = _Block(index, "custom" if call.kind == "custom" else "call", value)
                self._calls += 1
                out.append(BlockStart(index, call))
            case _:
                # Passed on whole when it ends: its index is given then, to stay contiguous.
                self._open[wire_index] = _Block(-1, "opaque", value)
                return
        self._next_index += 1
        self._open[wire_index] = block

    def _initial_text(self, block: _Block, out: list[Event]) -> None:
        """Blocks may begin with content (trap 128); in complete answers they are all content."""
        text = _text(block.value.get("text"))
        if text:
            out.append(TextDelta(block.index, text))
        citations = block.value.get("citations")
        for citation in citations if isinstance(citations, list) else ():
            if isinstance(citation, dict):
                out.append(CitationDelta(block.index, citation))

    def _initial_thinking(self, block: _Block, out: list[Event]) -> None:
        text = _text(block.value.get("thinking"))
        if text:
            out.append(ThinkingDelta(block.index, text))
        signature = _text(block.value.get("signature"))
        if signature:
            out.append(SignatureDelta(block.index, self._signature(signature)))

    def _signature(self, value: str) -> Signature:
        # The model we asked for, not the one a relay says answered (trap 92).
        return Signature(value=value, protocol=self._model.protocol, model=self._model.id)

    def _delta(self, block: _Block, delta: _Delta, out: list[Event]) -> None:
        kind = block.kind
        if kind in ("opaque", "custom"):
            self._held += len(delta.partial_json or delta.text or "")
            if self._held > MAX_HELD:
                raise RemoteProtocolError(
                    f"The upstream sent blocks of more than {MAX_HELD} bytes."
                )
        if kind == "opaque":
            _grow(block, delta)
        elif delta.text is not None:
            if kind == "text" and delta.text:
                out.append(TextDelta(block.index, delta.text))
        elif delta.partial_json is not None:
            if delta.partial_json and kind in ("call", "custom"):
                block.has_arguments = True
                if kind == "custom":
                    block.fragments.append(delta.partial_json)
                else:
                    out.append(ArgumentsDelta(block.index, delta.partial_json))
        elif delta.thinking is not None:
            if kind == "thinking" and delta.thinking:
                out.append(ThinkingDelta(block.index, delta.thinking))
        elif delta.signature is not None:
            if kind == "thinking" and delta.signature:
                out.append(SignatureDelta(block.index, self._signature(delta.signature)))
        elif delta.citation is not None and kind == "text":
            out.append(CitationDelta(block.index, delta.citation))

    def _end_block(self, block: _Block, out: list[Event]) -> None:
        if block.kind == "opaque":
            index = self._next_index
            self._next_index += 1
            out.append(BlockStart(index, Opaque(protocol=SLUG, value=_whole(block))))
            out.append(BlockEnd(index))
            return
        if block.kind in ("call", "custom"):
            # `input` of the start is a placeholder unless no fragment ever came.
            if not block.has_arguments:
                initial = block.initial
                block.fragments = ["{}" if initial in (None, "") else dumps_str(initial)]
            if block.fragments:
                text = "".join(block.fragments)
                if block.kind == "custom":
                    text = custom_text(text)
                out.append(ArgumentsDelta(block.index, text))
        out.append(BlockEnd(block.index))

    def _finish(self, out: list[Event]) -> None:
        for block in self._open.values():
            self._end_block(block, out)
        self._open.clear()
        stop = self._stop or _Delta()
        raw = stop.stop_reason or ""
        # A reason we do not know, or none at all, is no success (trap 137).
        reason = STOP_REASONS.get(raw, "error")
        if reason == "stop" and self._calls:
            reason = "tool_use"
        elif reason == "tool_use" and not self._calls:
            # Clients wait for ever for a call that never came (trap 36).
            reason = "stop"
        out.append(
            Finish(
                reason=reason,
                raw=raw,
                stop_sequence=stop.stop_sequence,
                details=stop.stop_details,
            )
        )
        self.is_over = True
        out.append(End())


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _grow(block: _Block, delta: _Delta) -> None:
    """Deltas of a block that we pass on whole."""
    if delta.partial_json is not None:
        block.fragments.append(delta.partial_json)
    elif delta.text is not None:
        block.texts.append(delta.text)
    elif isinstance(delta.content, str):
        block.texts.append(delta.content)
    elif delta.content is not None:
        block.value["content"] = delta.content


def _whole(block: _Block) -> JSONDict:
    if block.fragments:
        text = "".join(block.fragments)
        try:
            block.value["input"] = nesting.loads_shallow(text) if text.strip() else {}
        except InvalidJSON:
            block.value["input"] = {}
    if block.texts:
        key = "text" if "text" in block.value else "content"
        block.value[key] = _text(block.value.get(key)) + "".join(block.texts)
    return block.value


class AnthropicStreamDecoder:
    """SSE bytes to events."""

    def __init__(self, restore: Restore, model: ModelSpec) -> None:
        self._parser = SSEParser()
        self._machine = AnswerMachine(restore, model)

    def feed(self, chunk: bytes) -> list[Event]:
        out: list[Event] = []
        machine = self._machine
        if machine.is_over:
            return out
        for event in self._parser.feed(chunk):
            self._take(event.data, out)
            if machine.is_over:
                break
        return out

    def close(self) -> list[Event]:
        out: list[Event] = []
        if self._machine.is_over:
            return out
        try:
            for event in self._parser.close():
                self._take(event.data, out)
        except RemoteProtocolError:
            pass  # the last event was cut in the middle: that is what a cut stream looks like
        if not self._machine.is_over:
            self._machine.cut_off(out)
        return out

    def _take(self, data: bytes, out: list[Event]) -> None:
        # Some relays append OpenAI's terminator.
        if not data or data == b"[DONE]":
            return
        chunk = _read_chunk(data)
        if chunk is not None:
            self._machine.take(chunk, out)


def decode_answer(body: bytes, restore: Restore, model: ModelSpec) -> list[Event]:
    nesting.check(body)
    try:
        message = loads_dict(body)
    except InvalidJSON as error:
        raise RemoteProtocolError(f"The upstream's answer is not JSON: {error}") from None
    out: list[Event] = []
    machine = AnswerMachine(restore, model)
    if message.get("type") == "error" or "error" in message:
        machine.take(_Chunk(type="error", error=message.get("error")), out)
        return out
    content = message.get("content")
    if not isinstance(content, list):
        raise RemoteProtocolError("The upstream's answer has no `content`.")
    machine.take(_Chunk(type="message_start", message=message), out)
    for index, block in enumerate(content):
        if not isinstance(block, dict):
            raise RemoteProtocolError("The upstream's answer has a content block of another type.")
        machine.take(_Chunk(type="content_block_start", index=index, content_block=block), out)
        machine.take(_Chunk(type="content_block_stop", index=index), out)
    details = message.get("stop_details")
    machine.take(
        _Chunk(
            type="message_delta",
            delta=_Delta(
                stop_reason=_text(message.get("stop_reason")) or None,
                stop_sequence=_text(message.get("stop_sequence")) or None,
                stop_details=details if isinstance(details, dict) else None,
            ),
        ),
        out,
    )
    machine.take(_Chunk(type="message_stop"), out)
    return out
