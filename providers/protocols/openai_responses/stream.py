"""A vendor's Responses stream, and its complete answer, as events."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec

from controlplane.kit.errors import Fault, FaultKind
from controlplane.kit.json import InvalidJSON, JSONDict, loads
from providers.protocols import nesting
from providers.protocols.canonical import (
    End,
    Event,
    Failed,
    Finish,
    ModelSpec,
    Start,
    StopReason,
    UsageUpdate,
)
from providers.protocols.codec import Restore
from providers.protocols.errors import RemoteProtocolError
from providers.protocols.numbers import count
from providers.protocols.openai_completions.errors import fault_in_stream, truncated
from providers.protocols.openai_responses.item_reader import ItemReader
from providers.protocols.openai_responses.usage import decode_usage
from providers.protocols.sse import SSEParser, SSEvent

_MAX_ITEMS: Final = 4096
_INCOMPLETE: Final[dict[str, StopReason]] = {
    "max_output_tokens": "length",
    "content_filter": "content_filter",
    "max_messages": "pause",
    "steered": "pause",
}
_FAILURES: Final = frozenset({"failed", "cancelled"})


class Frame(msgspec.Struct):
    """Any event: the few fields that some event has."""

    type: str = ""
    output_index: int | None = None
    content_index: int = 0
    summary_index: int = 0
    item_id: str | None = None
    delta: str | None = None
    text: str | None = None
    refusal: str | None = None
    arguments: str | None = None
    input: str | None = None
    item: JSONDict | None = None
    part: JSONDict | None = None
    annotation: JSONDict | None = None
    logprobs: list[JSONDict] | None = None
    response: JSONDict | None = None


_decode: Final = msgspec.json.Decoder(Frame).decode
_FIELDS: Final = {field.name: field for field in msgspec.structs.fields(Frame)}


def _loads(data: bytes) -> Any:
    try:
        return loads(data)
    except InvalidJSON as error:
        raise RemoteProtocolError(f"The upstream sent an event that is not JSON: {error}") from None


def _patiently(data: bytes) -> Frame | None:
    """Odd types and broken surrogates: field by field, what fits."""
    value = _loads(data)
    if type(value) is not dict:
        return None
    kept: JSONDict = {}
    for name, field in _FIELDS.items():
        if name in value:
            try:
                kept[name] = msgspec.convert(value[name], field.type)
            except (msgspec.ValidationError, RecursionError):
                continue
    return Frame(**kept)


class ResponsesStreamDecoder:
    """See StreamDecoder. A response.completed, .incomplete, .failed or .done ends it."""

    def __init__(self, restore: Restore, model: ModelSpec, protocol: str) -> None:
        self._restore = restore
        self._model = model
        self._protocol = protocol
        self._parser = SSEParser()
        self._items: dict[int | str, ItemReader] = {}
        # Where the server names items by id only.
        self._keys_of_ids: dict[str, int | str] = {}
        self._blocks = 0
        self._has_started = False
        self._is_over = False
        self._handlers: dict[str, Callable[[Frame, list[Event]], None]] = {
            "response.created": self._created,
            "response.in_progress": self._created,
            "response.queued": self._created,
            "response.output_item.added": self._added,
            "response.output_item.done": self._item_done,
            "response.output_text.delta": self._text,
            "response.output_text.done": self._text_done,
            "response.output_text.annotation.added": self._annotated,
            "response.refusal.delta": self._refusal,
            "response.refusal.done": self._refusal_done,
            "response.content_part.added": self._part_added,
            "response.content_part.done": self._part_done,
            "response.reasoning_summary_text.delta": self._summary,
            "response.reasoning_summary_text.done": self._summary_done,
            "response.reasoning_summary_part.done": self._summary_part_done,
            "response.reasoning_text.delta": self._thought,
            "response.reasoning_text.done": self._thought_done,
            "response.function_call_arguments.delta": self._arguments,
            "response.function_call_arguments.done": self._arguments_done,
            "response.custom_tool_call_input.delta": self._arguments,
            "response.custom_tool_call_input.done": self._arguments_done,
            "response.completed": self._terminal,
            "response.incomplete": self._terminal,
            "response.failed": self._terminal,
            "response.cancelled": self._terminal,
            # Codex says it this way too.
            "response.done": self._terminal,
        }

    def feed(self, chunk: bytes) -> list[Event]:
        out: list[Event] = []
        if self._is_over:
            return out
        for event in self._parser.feed(chunk):
            self._event(event, out)
            if self._is_over:
                break
        return out

    def close(self) -> list[Event]:
        out: list[Event] = []
        if self._is_over:
            return out
        # Codex closes without the last blank line (trap 119).
        try:
            for event in self._parser.close():
                self._event(event, out)
                if self._is_over:
                    return out
        except RemoteProtocolError:
            pass  # the last event was cut in the middle: that is what a cut stream looks like
        self._fail(truncated("its last event" if self._has_started else "an answer"), out)
        return out

    def _event(self, event: SSEvent, out: list[Event]) -> None:
        data = event.data
        if not data or data == b"[DONE]" or data == b"null":
            return
        nesting.check(data)
        frame: Frame | None
        try:
            frame = _decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, OverflowError):
            frame = _patiently(data)
        if frame is None:
            return
        handler = self._handlers.get(frame.type)
        if handler is not None:
            self.start(frame.response or {}, out)
            handler(frame, out)
        elif frame.type == "error" or event.event == b"error" or not frame.type:
            self._error(data, out)

    def _error(self, data: bytes, out: list[Event]) -> None:
        value = _loads(data)
        if type(value) is dict and type(value.get("error")) in (dict, str):
            # Nested as in an answer; Codex adds the status beside it.
            inner = value["error"]
            if type(inner) is dict and "status" in value and "status" not in inner:
                inner = {**inner, "status": value["status"]}
            value = inner
        elif type(value) is not dict or value.get("type") != "error":
            return
        else:
            value = {name: entry for name, entry in value.items() if name != "type"}
        self._fail(fault_in_stream(value), out)

    # --- the answer as a whole ---

    def start(self, response: JSONDict, out: list[Event]) -> None:
        if self._has_started:
            return
        self._has_started = True
        id_, model = response.get("id"), response.get("model")
        out.append(
            Start(
                id_ if type(id_) is str else "",
                model if type(model) is str else "",
                count(response.get("created_at")),
            )
        )

    def _created(self, frame: Frame, out: list[Event]) -> None:
        """Nothing more: any event of an answer begins it."""

    def _terminal(self, frame: Frame, out: list[Event]) -> None:
        response = frame.response or {}
        status = response.get("status")
        if type(status) is not str or frame.type != "response.done":
            status = frame.type.removeprefix("response.")
        self.finish(response, "completed" if status == "done" else status, out)

    def finish(self, response: JSONDict, status: str, out: list[Event]) -> None:
        self.start(response, out)  # complete answers come here at once
        if status in _FAILURES:
            usage = response.get("usage")
            if type(usage) is dict:
                out.append(UsageUpdate(decode_usage(usage, response)))
            self._fail(_fault_of(response, status), out)
            return
        output = response.get("output")
        for index, item in enumerate(output if type(output) is list else ()):
            if type(item) is dict:
                self._hydrate(index, item, out)
        for reader in self._items.values():
            if not reader.is_done:
                reader.close(out)
        out.append(self._finish(response, status))
        usage = response.get("usage")
        if type(usage) is dict:
            out.append(UsageUpdate(decode_usage(usage, response)))
        self._is_over = True
        out.append(End())

    def _hydrate(self, index: int, item: JSONDict, out: list[Event]) -> None:
        """Items that no event brought, or not to their end (trap 41)."""
        id_ = item.get("id")
        key: int | str = index
        if type(id_) is str and id_ in self._keys_of_ids:
            key = self._keys_of_ids[id_]
        reader = self._items.get(key)
        if reader is not None and reader.is_done:
            reader.sign_late(item, out)
            return
        self._reader(key).done(item, out)

    def _finish(self, response: JSONDict, status: str) -> Finish:
        readers = self._items.values()
        if status == "completed":
            if any(reader.is_call for reader in readers):
                return Finish("tool_use", status)
            has_refused = any(reader.has_refused for reader in readers)
            return Finish("refusal" if has_refused else "stop", status)
        if status == "incomplete":
            details = response.get("incomplete_details")
            reason = details.get("reason") if type(details) is dict else None
            reason = reason if type(reason) is str else ""
            return Finish(_INCOMPLETE.get(reason, "error"), reason or status)
        if status in ("queued", "in_progress"):
            # A background answer: asked for and not there yet.
            return Finish("pause", status)
        return Finish("error", status)

    def _fail(self, fault: Fault, out: list[Event]) -> None:
        for reader in self._items.values():
            if not reader.is_done:
                reader.close(out)
        self._is_over = True
        out.append(Failed(fault))

    # --- items ---

    def _reader(self, key: int | str) -> ItemReader:
        reader = self._items.get(key)
        if reader is None:
            if len(self._items) >= _MAX_ITEMS:
                raise RemoteProtocolError(f"The upstream sent more than {_MAX_ITEMS} items.")
            reader = ItemReader(self._protocol, self._restore, self._model, self._new_block)
            self._items[key] = reader
        return reader

    def _new_block(self) -> int:
        self._blocks += 1
        return self._blocks - 1

    def _of(self, frame: Frame) -> ItemReader:
        """By output index; a server that leaves it out must name the item by its id, for with
        neither parallel calls would be mixed up (trap 42)."""
        if frame.output_index is not None:
            return self._reader(frame.output_index)
        id_ = frame.item_id or (frame.item or {}).get("id")
        if type(id_) is not str or not id_:
            raise RemoteProtocolError(
                f"The upstream sent {frame.type} without output_index: it cannot be told which "
                "item is meant."
            )
        return self._reader(self._keys_of_ids.setdefault(id_, id_))

    def _added(self, frame: Frame, out: list[Event]) -> None:
        item = frame.item or {}
        id_ = item.get("id")
        if type(id_) is str and id_ and frame.output_index is not None:
            self._keys_of_ids[id_] = frame.output_index
        self._of(frame).add(item, out)

    def _item_done(self, frame: Frame, out: list[Event]) -> None:
        self._of(frame).done(frame.item or {}, out)

    def _text(self, frame: Frame, out: list[Event]) -> None:
        reader = self._of(frame)
        if frame.delta:
            reader.text(frame.content_index, frame.delta, out)
        if frame.logprobs:
            reader.logprobs(frame.logprobs, out)

    def _text_done(self, frame: Frame, out: list[Event]) -> None:
        self._of(frame).text_done(frame.content_index, frame.text or "", out)

    def _annotated(self, frame: Frame, out: list[Event]) -> None:
        if frame.annotation:
            self._of(frame).citation(frame.content_index, frame.annotation, out)

    def _refusal(self, frame: Frame, out: list[Event]) -> None:
        self._of(frame).text(frame.content_index, frame.delta or "", out, refusal=True)

    def _refusal_done(self, frame: Frame, out: list[Event]) -> None:
        self._of(frame).text_done(frame.content_index, frame.refusal or "", out, refusal=True)

    def _part_added(self, frame: Frame, out: list[Event]) -> None:
        """Nothing yet: the first delta says what kind of part it is."""

    def _part_done(self, frame: Frame, out: list[Event]) -> None:
        part = frame.part or {}
        reader = self._of(frame)
        text, refusal = part.get("text"), part.get("refusal")
        if type(refusal) is str:
            reader.text_done(frame.content_index, refusal, out, refusal=True)
        elif type(text) is str and part.get("type") == "output_text":
            reader.text_done(frame.content_index, text, out)
        else:
            return
        reader.end_text(frame.content_index, out)

    def _summary(self, frame: Frame, out: list[Event]) -> None:
        self._of(frame).thought(frame.summary_index, frame.delta or "", out)

    def _summary_done(self, frame: Frame, out: list[Event]) -> None:
        self._of(frame).thought_done(frame.summary_index, frame.text or "", out)

    def _summary_part_done(self, frame: Frame, out: list[Event]) -> None:
        text = (frame.part or {}).get("text")
        if type(text) is str:
            self._of(frame).thought_done(frame.summary_index, text, out)

    def _thought(self, frame: Frame, out: list[Event]) -> None:
        self._of(frame).thought(frame.content_index, frame.delta or "", out)

    def _thought_done(self, frame: Frame, out: list[Event]) -> None:
        self._of(frame).thought_done(frame.content_index, frame.text or "", out)

    def _arguments(self, frame: Frame, out: list[Event]) -> None:
        self._of(frame).arguments(frame.delta or "", out)

    def _arguments_done(self, frame: Frame, out: list[Event]) -> None:
        whole = frame.arguments if frame.arguments is not None else frame.input
        self._of(frame).arguments_done(whole or "", out)


def _fault_of(response: JSONDict, status: str) -> Fault:
    error = response.get("error")
    if error:
        return fault_in_stream(error)
    if status == "cancelled":
        return Fault(
            kind=FaultKind.UPSTREAM,
            code="upstream_cancelled",
            message="The upstream cancelled its answer. Try again.",
        )
    return fault_in_stream({})


def decode_answer(body: bytes, restore: Restore, model: ModelSpec, protocol: str) -> list[Event]:
    """A complete answer as a stream that arrived at once; a stream is taken as one (Codex)."""
    decoder = ResponsesStreamDecoder(restore, model, protocol)
    if body.lstrip()[:1] != b"{":
        events = decoder.feed(body) + decoder.close()
        if len(events) == 1 and isinstance(events[0], Failed):
            fault = events[0].fault
            if fault.code == "stream_truncated":
                raise RemoteProtocolError("The upstream's answer is not a response.")
        return events
    nesting.check(body)
    try:
        response = loads(body)
    except InvalidJSON as problem:
        raise RemoteProtocolError(f"The upstream's answer is not JSON: {problem}") from None
    status = response.get("status")
    error = response.get("error")
    out: list[Event] = []
    if type(response.get("output")) is not list:
        if error:
            out.append(Failed(fault_in_stream(error)))
            return out
        raise RemoteProtocolError("The upstream's answer is not a response.")
    if type(status) is not str:
        # Some compatible servers leave it out of whole answers.
        status = "completed"
    decoder.finish(response, status, out)
    return out
