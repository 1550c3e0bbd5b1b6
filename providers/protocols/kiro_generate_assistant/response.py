"""Kiro's event stream to events."""

from __future__ import annotations

from typing import Final

import msgspec

from controlplane.kit.errors import Fault, FaultKind
from controlplane.kit.json import InvalidJSON, JSONDict, dumps_str, loads_dict
from providers.protocols import nesting, numbers
from providers.protocols.canonical import (
    ArgumentsDelta,
    BlockEnd,
    BlockStart,
    End,
    Event,
    Failed,
    Finish,
    ModelSpec,
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
from providers.protocols.kiro_generate_assistant.errors import fault_of_event
from providers.protocols.kiro_generate_assistant.prose import ProseReader
from providers.protocols.names import digest
from providers.protocols.tool_calls import called, custom_text

STOP_REASONS: Final[dict[str, StopReason]] = {
    "end_turn": "stop",
    "stop": "stop",
    "stop_sequence": "stop_sequence",
    "tool_use": "tool_use",
    "max_tokens": "length",
    "content_filtered": "content_filter",
    "guardrail_intervened": "content_filter",
    "refusal": "refusal",
    "model_context_window_exceeded": "context_overflow",
}
MAX_CALLS: Final = 1_000
MAX_HELD: Final = 32 * 1024 * 1024

_FAILURES: Final = frozenset({"invalidStateEvent", "error", "exception"})


class _Said(msgspec.Struct, forbid_unknown_fields=True):
    """What nearly every event is: text and nothing else."""

    content: str
    modelId: str | None = None  # noqa: N815  # the wire's own name


_decode_said = msgspec.json.Decoder(_Said).decode


def _read_said(data: bytes) -> _Said | None:
    """None for any other form, which is read with more patience."""
    try:
        return _decode_said(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, OverflowError):
        return None


class _Call:
    """A call whose arguments are still coming: shown only when they are whole, for Kiro cuts
    them off when the answer's limit is reached."""

    __slots__ = ("fragments", "id", "is_ended", "name")

    def __init__(self, call_id: str, name: str) -> None:
        self.id = call_id
        self.name = name
        self.fragments: list[str] = []
        self.is_ended = False


class KiroStreamDecoder:
    def __init__(self, restore: Restore, model: ModelSpec) -> None:
        self._frames = EventStreamDecoder()
        self._restore = restore
        self._model = model
        self._prose = ProseReader()
        self._calls: dict[str, _Call] = {}
        # (name, arguments) of the calls already shown, by how they came: one call is sometimes
        # said twice, once as an event and once in prose (12.2).
        self._shown: dict[str, set[tuple[str, str]]] = {"event": set(), "prose": set()}
        self._call_count = 0
        self._next_index = 0
        self._open: tuple[int, str] | None = None
        self._held = 0
        self._usage: Usage | None = None
        self._details: JSONDict = {}
        self._raw_stop = ""
        self._is_cut = False
        self._is_started = False
        self._is_over = False
        self._has_content = False

    def feed(self, chunk: bytes) -> list[Event]:
        out: list[Event] = []
        if self._is_over:
            return out
        for frame in self._frames.feed(chunk):
            self._take(frame, out)
            if self._is_over:
                break
        return out

    def close(self) -> list[Event]:
        out: list[Event] = []
        if self._is_over:
            return out
        self._is_over = True
        if self._frames.has_pending or not self._is_started:
            out.append(Failed(truncated()))
            return out
        for piece in self._prose.close():
            self._piece(piece.kind, piece.text, piece.name, out)
        for call in self._calls.values():
            if not call.is_ended:
                self._end_call(call, out)
        self._close_block(out)
        is_counted = self._usage is not None
        if not (self._has_content or self._raw_stop or self._is_cut or is_counted):
            # Only metadata came, and nothing was counted: that is no answer.
            out.append(Failed(truncated()))
            return out
        out.append(self._finish())
        if self._usage is not None:
            out.append(UsageUpdate(self._usage))
        out.append(End())
        return out

    # --- frames ---

    def _take(self, frame: Frame, out: list[Event]) -> None:
        kind = frame.text(":message-type")
        if kind == "event" and frame.headers.get(":event-type") == "assistantResponseEvent":
            said = _read_said(frame.payload)
            if said is not None:
                self._begin(out)
                self._say(said.content, out)
                return
        event_type = frame.text(":event-type") or frame.text(":exception-type")
        payload = _payload(frame)
        if (
            kind in ("exception", "error")
            or event_type in _FAILURES
            or (event_type.endswith("Exception"))
        ):
            name = event_type or frame.text(":error-code")
            if kind == "error":
                payload.setdefault("message", frame.text(":error-message"))
            self._is_over = True
            out.append(Failed(fault_of_event(name, payload)))
            return
        if not event_type and len(payload) == 1:
            event_type = next(iter(payload))
        # Flat, or nested under the event's own name.
        nested = payload.get(event_type)
        inner: JSONDict = nested if isinstance(nested, dict) else payload
        self._begin(out)
        stop = _stop_reason(inner) or _stop_reason(payload)
        if stop:
            self._raw_stop = stop
        match event_type:
            case "assistantResponseEvent":
                self._say(_text(inner.get("content")), out)
            case "toolUseEvent":
                self._tool_use(inner, out)
            case "reasoningContentEvent":
                self._reasoning(inner, out)
            case _:
                self._measures(inner)

    def _begin(self, out: list[Event]) -> None:
        if not self._is_started:
            self._is_started = True
            out.append(Start())

    # --- content ---

    def _say(self, content: str, out: list[Event]) -> None:
        for piece in self._prose.feed(content):
            self._piece(piece.kind, piece.text, piece.name, out)

    def _piece(self, kind: str, text: str, name: str, out: list[Event]) -> None:
        if kind == "cut":
            # A call that broke off is not shown as one (14.6).
            self._is_cut = True
            return
        self._has_content = True
        if kind == "call":
            self._show_call("prose", "", name, text, out)
            return
        index = self._block(kind, out)
        out.append(TextDelta(index, text) if kind == "text" else ThinkingDelta(index, text))

    def _block(self, kind: str, out: list[Event]) -> int:
        if self._open is not None and self._open[1] == kind:
            return self._open[0]
        self._close_block(out)
        index = self._new_index()
        self._open = (index, kind)
        out.append(BlockStart(index, Text(text="") if kind == "text" else Thinking()))
        return index

    def _new_index(self) -> int:
        index = self._next_index
        self._next_index += 1
        return index

    def _close_block(self, out: list[Event]) -> None:
        if self._open is not None:
            out.append(BlockEnd(self._open[0]))
            self._open = None

    def _reasoning(self, inner: JSONDict, out: list[Event]) -> None:
        text, value = inner.get("text"), inner.get("signature")
        redacted = inner.get("redactedContent")
        if isinstance(redacted, str) and redacted:
            self._has_content = True
            self._close_block(out)
            index = self._new_index()
            signature = self._signature(redacted)
            out.append(BlockStart(index, Thinking(redacted=True, signature=signature)))
            out.append(BlockEnd(index))
            return
        if isinstance(text, str) and text:
            self._has_content = True
            out.append(ThinkingDelta(self._block("thinking", out), text))
        if isinstance(value, str) and value:
            index = self._block("thinking", out)
            out.append(SignatureDelta(index, self._signature(value)))

    def _signature(self, value: str) -> Signature:
        return Signature(value=value, protocol=self._model.protocol, model=self._model.id)

    def _tool_use(self, inner: JSONDict, out: list[Event]) -> None:
        call_id, name = _text(inner.get("toolUseId")), _text(inner.get("name"))
        call = self._calls.get(call_id)
        if call is None:
            if len(self._calls) >= MAX_CALLS:
                raise RemoteProtocolError(f"The upstream made more than {MAX_CALLS} calls.")
            # What the prose reader still holds stood before the call.
            for piece in self._prose.close():
                self._piece(piece.kind, piece.text, piece.name, out)
            self._prose.restart()
            call = self._calls[call_id] = _Call(call_id, name)
        elif call.is_ended:
            return
        call.name = call.name or name
        fragment = inner.get("input")
        if isinstance(fragment, dict):
            call.fragments = [dumps_str(fragment)]
        elif isinstance(fragment, str) and fragment:
            self._held += len(fragment)
            if self._held > MAX_HELD:
                raise RemoteProtocolError(f"The upstream sent more than {MAX_HELD} bytes of calls.")
            call.fragments.append(fragment)
        if inner.get("stop") is True:
            self._end_call(call, out)

    def _end_call(self, call: _Call, out: list[Event]) -> None:
        call.is_ended = True
        arguments = "".join(call.fragments)
        if not arguments.strip():
            arguments = "{}"
        if not call.name or not _is_json(arguments):
            self._is_cut = True
            return
        self._show_call("event", call.id, call.name, arguments, out)

    def _show_call(
        self, source: str, call_id: str, name: str, arguments: str, out: list[Event]
    ) -> None:
        key = (name, _normal(arguments))
        if key in self._shown["prose"] or (source == "prose" and key in self._shown["event"]):
            return
        self._shown[source].add(key)
        self._call_count += 1
        self._has_content = True
        self._close_block(out)
        index = self._new_index()
        call_id = call_id or f"tooluse_{digest(f'{self._call_count}:{name}:{arguments}', 22)}"
        skeleton = called(self._restore, name, call_id)
        if skeleton.kind == "custom":
            arguments = custom_text(arguments)
        out.append(BlockStart(index, skeleton))
        out.append(ArgumentsDelta(index, arguments))
        out.append(BlockEnd(index))

    # --- the end ---

    def _measures(self, inner: JSONDict) -> None:
        """Events without content: token counts, the share of the context used, credits."""
        tokens = inner.get("tokenUsage")
        counts = tokens if isinstance(tokens, dict) else inner
        usage = _usage(counts)
        if usage is not None:
            self._usage = usage
        share = counts.get("contextUsagePercentage", inner.get("contextUsagePercentage"))
        if isinstance(share, int | float) and not isinstance(share, bool) and 0 <= share <= 1000:
            self._details["context_usage_percentage"] = share
        credits_used = inner.get("usage")
        if isinstance(credits_used, int | float) and not isinstance(credits_used, bool):
            unit = _text(inner.get("unit")) or "credit"
            self._details["metered"] = {"unit": unit[:40], "usage": credits_used}

    def _finish(self) -> Finish:
        raw = self._raw_stop
        if self._is_cut:
            reason: StopReason = "length"
        elif raw:
            reason = STOP_REASONS.get(raw.lower(), "error")
        else:
            # Mostly nothing is said: calls were made, or they were not.
            reason = "stop"
        if reason == "stop" and self._call_count:
            reason = "tool_use"
        elif reason == "tool_use" and not self._call_count:
            reason = "stop"
        return Finish(reason=reason, raw=raw, details=self._details or None)


def truncated() -> Fault:
    return Fault(
        kind=FaultKind.UPSTREAM,
        code="stream_truncated",
        message="The upstream's answer ended before it was complete. Try again.",
    )


def decode_answer(body: bytes, restore: Restore, model: ModelSpec) -> list[Event]:
    """Kiro has only streams: a whole answer is one that arrived at once."""
    decoder = KiroStreamDecoder(restore, model)
    return [*decoder.feed(body), *decoder.close()]


def _payload(frame: Frame) -> JSONDict:
    if not frame.payload:
        return {}
    nesting.check(frame.payload)
    try:
        return loads_dict(frame.payload)
    except InvalidJSON as error:
        raise RemoteProtocolError(f"The upstream sent an unreadable event: {error}") from None


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _stop_reason(value: JSONDict) -> str:
    return _text(value.get("stopReason")) or _text(value.get("stop_reason"))


def _is_json(text: str) -> bool:
    try:
        nesting.loads_shallow(text)
    except InvalidJSON:
        return False
    return True


def _normal(arguments: str) -> str:
    try:
        value = nesting.loads_shallow(arguments)
        return msgspec.json.encode(value, order="deterministic").decode()
    except InvalidJSON:
        return arguments


def _usage(value: JSONDict) -> Usage | None:
    """None unless the event counts tokens."""

    def first(*keys: str) -> int:
        return next((numbers.count(value[key]) for key in keys if value.get(key) is not None), 0)

    usage = Usage(
        input=first("uncachedInputTokens", "inputTokens", "promptTokens"),
        cache_read=first("cacheReadInputTokens"),
        cache_write=first("cacheWriteInputTokens"),
        output=first("outputTokens", "completionTokens"),
    )
    return usage if usage.total else None
