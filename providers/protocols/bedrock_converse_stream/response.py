"""Converse answers to events: the binary stream, and complete answers through the same machine."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from controlplane.kit.errors import Fault, FaultKind
from controlplane.kit.json import InvalidJSON, JSONDict, dumps_str, loads, loads_dict
from providers.protocols import nesting, numbers
from providers.protocols.bedrock_converse_stream.content import SLUG
from providers.protocols.bedrock_converse_stream.errors import fault_of_exception
from providers.protocols.canonical import (
    ArgumentsDelta,
    Base64,
    BlockEnd,
    BlockStart,
    CitationDelta,
    End,
    Event,
    Failed,
    Finish,
    Image,
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
    Usage,
    UsageUpdate,
)
from providers.protocols.codec import Restore
from providers.protocols.errors import RemoteProtocolError
from providers.protocols.eventstream import EventStreamDecoder, Frame
from providers.protocols.tool_calls import called, custom_text

STOP_REASONS: Final[dict[str, StopReason]] = {
    "end_turn": "stop",
    "stop_sequence": "stop_sequence",
    "max_tokens": "length",
    "tool_use": "tool_use",
    "content_filtered": "content_filter",
    "guardrail_intervened": "content_filter",
    "model_context_window_exceeded": "context_overflow",
}
MAX_BLOCKS: Final = 10_000
MAX_HELD: Final = 32 * 1024 * 1024


class _ToolDelta(msgspec.Struct):
    input: str = ""


class _ReasoningDelta(msgspec.Struct):
    text: str | None = None
    signature: str | None = None
    redactedContent: str | None = None  # noqa: N815  # the wire's own name


class _Delta(msgspec.Struct):
    text: str | None = None
    toolUse: _ToolDelta | None = None  # noqa: N815  # the wire's own name
    reasoningContent: _ReasoningDelta | None = None  # noqa: N815  # the wire's own name
    citation: JSONDict | None = None
    image: JSONDict | None = None
    toolResult: Any = None  # noqa: N815  # the wire's own name


class _Payload(msgspec.Struct):
    contentBlockIndex: int = 0  # noqa: N815  # the wire's own name
    delta: _Delta | None = None
    start: JSONDict | None = None
    stopReason: str | None = None  # noqa: N815  # the wire's own name
    additionalModelResponseFields: JSONDict | None = None  # noqa: N815  # the wire's own name
    usage: JSONDict | None = None
    serviceTier: JSONDict | None = None  # noqa: N815  # the wire's own name


_decode_payload = msgspec.json.Decoder(_Payload).decode


def _read_payload(data: bytes) -> _Payload:
    if not data:
        return _Payload()
    nesting.check(data)
    try:
        return _decode_payload(data)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError, OverflowError):
        pass  # half a surrogate pair, or a field of another type: the patient way decides
    try:
        return msgspec.convert(loads(data), _Payload)
    except (InvalidJSON, msgspec.ValidationError) as error:
        raise RemoteProtocolError(f"The upstream sent an unreadable event: {error}") from None


class _Block:
    __slots__ = ("fragments", "index", "kind", "value")

    def __init__(self, index: int, kind: str, value: JSONDict) -> None:
        self.index = index
        self.kind = kind  # text, thinking, call, custom, image, server_tool, server_result
        self.value = value
        self.fragments: list[str] = []


class AnswerMachine:
    """Wire events in, canonical events out. One per answer."""

    def __init__(self, restore: Restore, model: ModelSpec) -> None:
        self._restore = restore
        self._model = model
        self._open: dict[int, _Block] = {}
        self._next_index = 0
        self._calls = 0
        self._held = 0
        self.is_started = False
        self.is_stopped = False
        self.is_over = False

    def begin(self, out: list[Event]) -> None:
        if not self.is_started:
            self.is_started = True
            out.append(Start())

    def start(self, wire_index: int, value: JSONDict, out: list[Event]) -> None:
        """Only calls, images and server tools announce themselves. Nothing begins after the
        stop."""
        if self.is_stopped:
            return
        self.begin(out)
        self._end(wire_index, out)
        tool = value.get("toolUse")
        if isinstance(tool, dict) and tool.get("type") == "server_tool_use":
            self._open[wire_index] = _Block(-1, "server_tool", value)
        elif isinstance(tool, dict):
            call = called(self._restore, _text(tool.get("name")), _text(tool.get("toolUseId")))
            if not call.id:
                call = msgspec.structs.replace(call, id=f"tooluse_{self._next_index}")
            self._calls += 1
            block = self._new(wire_index, "custom" if call.kind == "custom" else "call", tool)
            out.append(BlockStart(block.index, call))
        elif isinstance(value.get("image"), dict):
            self._open[wire_index] = _Block(-1, "image", value["image"])
        elif isinstance(value.get("toolResult"), dict):
            self._open[wire_index] = _Block(-1, "server_result", value)

    def delta(self, wire_index: int, delta: _Delta, out: list[Event]) -> None:
        if self.is_stopped:
            return
        self.begin(out)
        if delta.text is not None:
            block = self._of_kind(wire_index, "text", out)
            if delta.text:
                out.append(TextDelta(block.index, delta.text))
        elif delta.toolUse is not None:
            self._arguments(wire_index, delta.toolUse.input, out)
        elif delta.reasoningContent is not None:
            self._reasoning(wire_index, delta.reasoningContent, out)
        elif delta.citation is not None:
            block = self._of_kind(wire_index, "text", out)
            out.append(CitationDelta(block.index, _citation(delta.citation)))
        elif delta.image is not None:
            known = self._open.get(wire_index)
            data = _image_data(delta.image)
            if known is not None and known.kind == "image" and data:
                self._hold(known, data)
        elif delta.toolResult is not None:
            known = self._open.get(wire_index)
            if known is not None and known.kind == "server_result":
                self._hold(known, dumps_str(delta.toolResult))

    def stop_block(self, wire_index: int, out: list[Event]) -> None:
        self._end(wire_index, out)

    def stop(self, raw: str, fields: JSONDict | None, out: list[Event]) -> None:
        if self.is_stopped:
            return
        self.begin(out)
        for wire_index in list(self._open):
            self._end(wire_index, out)
        self.is_stopped = True
        # Malformed output and words we do not know are no success (trap 137).
        reason = STOP_REASONS.get(raw, "error")
        if reason == "stop" and self._calls:
            reason = "tool_use"
        elif reason == "tool_use" and not self._calls:
            reason = "stop"
        sequence = (fields or {}).get("stop_sequence")
        out.append(
            Finish(
                reason=reason,
                raw=raw,
                stop_sequence=sequence if isinstance(sequence, str) else None,
            )
        )

    def _new(self, wire_index: int, kind: str, value: JSONDict) -> _Block:
        if self._next_index >= MAX_BLOCKS:
            raise RemoteProtocolError(f"The upstream sent more than {MAX_BLOCKS} blocks.")
        block = _Block(self._next_index, kind, value)
        self._next_index += 1
        self._open[wire_index] = block
        return block

    def _of_kind(self, wire_index: int, kind: str, out: list[Event]) -> _Block:
        """The open block; text and reasoning begin with their first delta (trap 135)."""
        block = self._open.get(wire_index)
        if block is not None and block.kind == kind:
            return block
        self._end(wire_index, out)
        block = self._new(wire_index, kind, {})
        out.append(BlockStart(block.index, Text(text="") if kind == "text" else Thinking()))
        return block

    def _arguments(self, wire_index: int, fragment: str, out: list[Event]) -> None:
        block = self._open.get(wire_index)
        if block is None or not fragment:
            return
        if block.kind == "call":
            block.value = _HAS_ARGUMENTS
            out.append(ArgumentsDelta(block.index, fragment))
        elif block.kind in ("custom", "server_tool"):
            self._hold(block, fragment)

    def _hold(self, block: _Block, fragment: str) -> None:
        self._held += len(fragment)
        if self._held > MAX_HELD:
            raise RemoteProtocolError(f"The upstream sent blocks of more than {MAX_HELD} bytes.")
        block.fragments.append(fragment)

    def _reasoning(self, wire_index: int, delta: _ReasoningDelta, out: list[Event]) -> None:
        if delta.redactedContent is not None:
            self._end(wire_index, out)
            block = self._new(wire_index, "redacted", {})
            signature = self._signature(delta.redactedContent)
            out.append(BlockStart(block.index, Thinking(redacted=True, signature=signature)))
            return
        block = self._of_kind(wire_index, "thinking", out)
        if delta.text:
            out.append(ThinkingDelta(block.index, delta.text))
        if delta.signature:
            out.append(SignatureDelta(block.index, self._signature(delta.signature)))

    def _signature(self, value: str) -> Signature:
        return Signature(value=value, protocol=self._model.protocol, model=self._model.id)

    def _end(self, wire_index: int, out: list[Event]) -> None:
        block = self._open.pop(wire_index, None)
        if block is None:
            return
        if block.kind in ("image", "server_tool", "server_result"):
            self._end_whole(block, out)
            return
        if block.kind == "custom":
            out.append(ArgumentsDelta(block.index, custom_text("".join(block.fragments) or "{}")))
        elif block.kind == "call" and block.value is not _HAS_ARGUMENTS:
            out.append(ArgumentsDelta(block.index, "{}"))
        out.append(BlockEnd(block.index))

    def _end_whole(self, block: _Block, out: list[Event]) -> None:
        index = self._next_index
        self._next_index += 1
        text = "".join(block.fragments)
        if block.kind == "image":
            media_type = f"image/{_text(block.value.get('format')) or 'png'}"
            value: Image | Opaque = Image(source=Base64(media_type=media_type, data=text))
        elif block.kind == "server_tool":
            call = dict(block.value["toolUse"])
            call["input"] = _json_or_text(text) if text else {}
            value = Opaque(protocol=SLUG, value={"toolUse": call})
        else:
            result = dict(block.value["toolResult"])
            content: list[Any] = []
            for fragment in block.fragments:
                entry = _json_or_text(fragment)
                content.extend(entry if isinstance(entry, list) else [entry])
            result["content"] = content or result.get("content", [])
            value = Opaque(protocol=SLUG, value={"toolResult": result})
        out.append(BlockStart(index, value))
        out.append(BlockEnd(index))


_HAS_ARGUMENTS: JSONDict = {"has": "arguments"}


def _json_or_text(text: str) -> Any:
    try:
        return nesting.loads_shallow(text)
    except InvalidJSON:
        return {"text": text}


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _image_data(image: JSONDict) -> str:
    source = image.get("source")
    return _text(source.get("bytes")) if isinstance(source, dict) else ""


def usage_of(value: JSONDict, tier: JSONDict | None) -> Usage:
    """`inputTokens` leaves the cache out (trap 149)."""
    written = numbers.count(value.get("cacheWriteInputTokens"))
    long = 0
    details = value.get("cacheDetails")
    for detail in details if isinstance(details, list) else ():
        if isinstance(detail, dict) and detail.get("ttl") == "1h":
            long += numbers.count(detail.get("inputTokens"))
    return Usage(
        input=numbers.count(value.get("inputTokens")),
        cache_read=numbers.count(value.get("cacheReadInputTokens")),
        cache_write=written,
        cache_write_1h=min(long, written),
        output=numbers.count(value.get("outputTokens")),
        service_tier=_text((tier or {}).get("type")) or None,
    )


def truncated() -> Fault:
    return Fault(
        kind=FaultKind.UPSTREAM,
        code="stream_truncated",
        message="The upstream's answer ended before it was complete. Try again.",
    )


class BedrockStreamDecoder:
    """Event-stream bytes to events."""

    def __init__(self, restore: Restore, model: ModelSpec) -> None:
        self._frames = EventStreamDecoder()
        self._machine = AnswerMachine(restore, model)

    def feed(self, chunk: bytes) -> list[Event]:
        out: list[Event] = []
        if self._machine.is_over:
            return out
        for frame in self._frames.feed(chunk):
            self._take(frame, out)
            if self._machine.is_over:
                break
        return out

    def close(self) -> list[Event]:
        machine = self._machine
        if machine.is_over:
            return []
        machine.is_over = True
        # The end of the stream is its terminator, but only behind messageStop (trap 117).
        return [End()] if machine.is_stopped else [Failed(truncated())]

    def _take(self, frame: Frame, out: list[Event]) -> None:
        machine = self._machine
        kind = frame.text(":message-type")
        if kind in ("exception", "error"):
            machine.is_over = True
            out.append(Failed(_fault_of_frame(frame, kind)))
            return
        match frame.text(":event-type"):
            case "contentBlockDelta":
                payload = _read_payload(frame.payload)
                if payload.delta is not None:
                    machine.delta(payload.contentBlockIndex, payload.delta, out)
            case "contentBlockStart":
                payload = _read_payload(frame.payload)
                machine.start(payload.contentBlockIndex, payload.start or {}, out)
            case "contentBlockStop":
                machine.stop_block(_read_payload(frame.payload).contentBlockIndex, out)
            case "messageStart":
                machine.begin(out)
            case "messageStop":
                payload = _read_payload(frame.payload)
                machine.stop(payload.stopReason or "", payload.additionalModelResponseFields, out)
            case "metadata":
                payload = _read_payload(frame.payload)
                if payload.usage is not None:
                    machine.begin(out)
                    out.append(UsageUpdate(usage_of(payload.usage, payload.serviceTier)))
            case _:
                pass  # event types may be added


def _fault_of_frame(frame: Frame, kind: str) -> Fault:
    try:
        payload = loads_dict(frame.payload) if frame.payload else {}
    except InvalidJSON:
        payload = {"message": frame.payload.decode("utf-8", "replace")}
    if kind == "error":
        payload.setdefault("message", frame.text(":error-message"))
        return fault_of_exception(frame.text(":error-code"), payload)
    return fault_of_exception(frame.text(":exception-type"), payload)


def decode_answer(body: bytes, restore: Restore, model: ModelSpec) -> list[Event]:
    nesting.check(body)
    try:
        answer = loads_dict(body)
    except InvalidJSON as error:
        raise RemoteProtocolError(f"The upstream's answer is not JSON: {error}") from None
    output = answer.get("output")
    message = output.get("message") if isinstance(output, dict) else None
    content = message.get("content") if isinstance(message, dict) else None
    if not isinstance(content, list):
        raise RemoteProtocolError("The upstream's answer has no `output.message.content`.")
    out: list[Event] = []
    machine = AnswerMachine(restore, model)
    machine.begin(out)
    for index, block in enumerate(content):
        if not isinstance(block, dict):
            raise RemoteProtocolError("The upstream's answer has a content block of another type.")
        _whole_block(machine, index, block, out)
    fields = answer.get("additionalModelResponseFields")
    machine.stop(_text(answer.get("stopReason")), fields if isinstance(fields, dict) else None, out)
    usage, tier = answer.get("usage"), answer.get("serviceTier")
    if isinstance(usage, dict):
        out.append(UsageUpdate(usage_of(usage, tier if isinstance(tier, dict) else None)))
    out.append(End())
    return out


def _citation(citation: JSONDict) -> JSONDict:
    """A web source in the words that every client's dialect knows, beside AWS's own."""
    location = citation.get("location")
    web = location.get("web") if isinstance(location, dict) else None
    url = web.get("url") if isinstance(web, dict) else None
    if not isinstance(url, str):
        return citation
    return {**citation, "type": "url_citation", "url": url}


def _whole_block(machine: AnswerMachine, index: int, block: JSONDict, out: list[Event]) -> None:
    """A content block as the deltas that would have built it."""
    tool, reasoning = block.get("toolUse"), block.get("reasoningContent")
    cited = block.get("citationsContent")
    if isinstance(tool, dict):
        machine.start(index, {"toolUse": tool}, out)
        arguments = tool.get("input")
        text = "{}" if arguments is None else dumps_str(arguments)
        machine.delta(index, _Delta(toolUse=_ToolDelta(input=text)), out)
    elif isinstance(reasoning, dict):
        _whole_reasoning(machine, index, reasoning, out)
    elif isinstance(cited, dict):
        for entry in _dicts(cited.get("content")):
            machine.delta(index, _Delta(text=_text(entry.get("text"))), out)
        for citation in _dicts(cited.get("citations")):
            machine.delta(index, _Delta(citation=citation), out)
    elif isinstance(block.get("image"), dict):
        machine.start(index, {"image": block["image"]}, out)
        machine.delta(index, _Delta(image=block["image"]), out)
    elif isinstance(block.get("toolResult"), dict):
        machine.start(index, {"toolResult": block["toolResult"]}, out)
    elif isinstance(block.get("text"), str):
        machine.delta(index, _Delta(text=block["text"]), out)
    machine.stop_block(index, out)


def _whole_reasoning(
    machine: AnswerMachine, index: int, reasoning: JSONDict, out: list[Event]
) -> None:
    redacted, shown = reasoning.get("redactedContent"), reasoning.get("reasoningText")
    if isinstance(redacted, str):
        delta = _ReasoningDelta(redactedContent=redacted)
        machine.delta(index, _Delta(reasoningContent=delta), out)
    elif isinstance(shown, dict):
        delta = _ReasoningDelta(
            text=_text(shown.get("text")), signature=_text(shown.get("signature"))
        )
        machine.delta(index, _Delta(reasoningContent=delta), out)


def _dicts(value: object) -> list[JSONDict]:
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []
