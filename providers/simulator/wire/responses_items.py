"""The output items of a Responses stream: each knows its events, in the grammar's order."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, Protocol

from controlplane.kit.json import JSONDict, dumps
from providers.protocols.canonical import ToolCall

# Seen on the first event of an item; only the value of the finished item counts.
_PRELIMINARY: Final = "c2ltLXByZWxpbWluYXJ5"


class Tape:
    """Numbers every event, without gaps."""

    def __init__(self) -> None:
        self.number = 0

    def emit(self, name: str, /, **fields: Any) -> bytes:
        number = self.number
        self.number = number + 1
        head = f'event: {name}\ndata: {{"type":"{name}","sequence_number":{number},'
        return head.encode() + dumps(fields)[1:] + b"\n\n"

    def delta(self, head: bytes, text: str, tail: bytes) -> bytes:
        """The frequent one: a template around a number and a string."""
        number = self.number
        self.number = number + 1
        return b'%b%d,"delta":%b%b' % (head, number, dumps(text), tail)


def _head(name: str) -> bytes:
    return f'event: {name}\ndata: {{"type":"{name}","sequence_number":'.encode()


_TEXT: Final = _head("response.output_text.delta")
_REFUSAL: Final = _head("response.refusal.delta")
_SUMMARY: Final = _head("response.reasoning_summary_text.delta")
_ARGUMENTS: Final = _head("response.function_call_arguments.delta")
_INPUT: Final = _head("response.custom_tool_call_input.delta")


class Item(Protocol):
    index: int

    def begin(self) -> Iterator[bytes]: ...
    def add(self, text: str) -> Iterator[bytes]: ...
    def end(self, status: str) -> Iterator[bytes]: ...
    def value(self, status: str) -> JSONDict: ...


class MessageItem:
    """A message with one part, text or refusal."""

    def __init__(
        self, tape: Tape, index: int, id_: str, *, is_refusal: bool, is_late: bool
    ) -> None:
        self.index = index
        self._tape = tape
        self._id = f"msg_{id_}"
        self._is_refusal = is_refusal
        self._is_late = is_late
        self._is_announced = False
        self._pieces: list[str] = []
        self._annotations: list[JSONDict] = []
        self._logprobs: list[JSONDict] = []
        self._place: JSONDict = {"item_id": self._id, "output_index": index, "content_index": 0}
        tail = b"" if is_refusal else b',"logprobs":[]'
        self._tail = b"," + dumps(self._place)[1:-1] + tail + b"}\n\n"

    def begin(self) -> Iterator[bytes]:
        yield self._tape.emit(
            "response.output_item.added",
            output_index=self.index,
            item={**self.value("in_progress"), "content": []},
        )
        if not self._is_late:
            yield from self._announce()

    def _announce(self) -> Iterator[bytes]:
        if not self._is_announced:
            self._is_announced = True
            part = self._part("", [], [])
            yield self._tape.emit("response.content_part.added", **self._place, part=part)

    def add(self, text: str) -> Iterator[bytes]:
        self._pieces.append(text)
        yield self._tape.delta(_REFUSAL if self._is_refusal else _TEXT, text, self._tail)
        if not self._is_announced:
            yield from self._announce()

    def add_with_logprobs(self, text: str, entries: tuple[JSONDict, ...]) -> Iterator[bytes]:
        self._pieces.append(text)
        self._logprobs.extend(entries)
        yield self._tape.emit(
            "response.output_text.delta", **self._place, delta=text, logprobs=entries
        )
        yield from self._announce()

    def cite(self, annotation: JSONDict) -> Iterator[bytes]:
        number = len(self._annotations)
        self._annotations.append(annotation)
        yield self._tape.emit(
            "response.output_text.annotation.added",
            **self._place,
            annotation_index=number,
            annotation=annotation,
        )

    def end(self, status: str) -> Iterator[bytes]:
        yield from self._announce()
        text = "".join(self._pieces)
        if self._is_refusal:
            yield self._tape.emit("response.refusal.done", **self._place, refusal=text)
        else:
            yield self._tape.emit(
                "response.output_text.done", **self._place, text=text, logprobs=self._logprobs
            )
        yield self._tape.emit("response.content_part.done", **self._place, part=self._whole_part())
        yield self._tape.emit(
            "response.output_item.done", output_index=self.index, item=self.value(status)
        )

    def value(self, status: str) -> JSONDict:
        return {
            "id": self._id,
            "type": "message",
            "status": status,
            "role": "assistant",
            "content": [self._whole_part()],
        }

    def _whole_part(self) -> JSONDict:
        return self._part("".join(self._pieces), self._annotations, self._logprobs)

    def _part(self, text: str, annotations: list[JSONDict], logprobs: list[JSONDict]) -> JSONDict:
        if self._is_refusal:
            return {"type": "refusal", "refusal": text}
        shown = {"annotations": list(annotations), "logprobs": list(logprobs)}
        return {"type": "output_text", "text": text, **shown}


class ReasoningItem:
    """`proof` is set when it is known; shown on the item only where the vendor shows it there."""

    def __init__(
        self,
        tape: Tape,
        index: int,
        id_: str,
        *,
        shows_words: bool,
        shows_proof: bool,
        is_late: bool,
    ) -> None:
        self.index = index
        self.proof = ""
        self._tape = tape
        self._id = f"rs_{id_}"
        self._shows_words = shows_words
        self._shows_proof = shows_proof
        self._is_late = is_late
        self._pieces: list[str] = []
        self._place: JSONDict = {"item_id": self._id, "output_index": index, "summary_index": 0}
        self._tail = b"," + dumps(self._place)[1:] + b"\n\n"

    def begin(self) -> Iterator[bytes]:
        item: JSONDict = {"id": self._id, "type": "reasoning", "summary": []}
        if self._shows_proof and not self._is_late:
            item["encrypted_content"] = _PRELIMINARY
        yield self._tape.emit("response.output_item.added", output_index=self.index, item=item)

    def add(self, text: str) -> Iterator[bytes]:
        if not self._shows_words:
            return
        if not self._pieces:
            part = {"type": "summary_text", "text": ""}
            yield self._tape.emit("response.reasoning_summary_part.added", **self._place, part=part)
        self._pieces.append(text)
        yield self._tape.delta(_SUMMARY, text, self._tail)

    def end(self, status: str) -> Iterator[bytes]:
        if self._pieces:
            text = "".join(self._pieces)
            yield self._tape.emit("response.reasoning_summary_text.done", **self._place, text=text)
            part = {"type": "summary_text", "text": text}
            yield self._tape.emit("response.reasoning_summary_part.done", **self._place, part=part)
        item = self.value(status)
        if self._is_late:
            item.pop("encrypted_content", None)
        yield self._tape.emit("response.output_item.done", output_index=self.index, item=item)

    def value(self, status: str) -> JSONDict:
        summary = [{"type": "summary_text", "text": "".join(self._pieces)}] if self._pieces else []
        item: JSONDict = {"id": self._id, "type": "reasoning", "summary": summary}
        if self._shows_proof and self.proof:
            item["encrypted_content"] = self.proof
        return item


class CallItem:
    """A function call, or a custom tool's with free text."""

    def __init__(self, tape: Tape, index: int, id_: str, call: ToolCall) -> None:
        self.index = index
        self._tape = tape
        self._call = call
        self._is_custom = call.kind == "custom"
        self._id = f"{'ctc' if self._is_custom else 'fc'}_{id_}"
        self._pieces: list[str] = []
        self._place: JSONDict = {"item_id": self._id, "output_index": index}
        self._tail = b"," + dumps(self._place)[1:] + b"\n\n"

    def begin(self) -> Iterator[bytes]:
        yield self._tape.emit(
            "response.output_item.added", output_index=self.index, item=self.value("in_progress")
        )

    def add(self, text: str) -> Iterator[bytes]:
        self._pieces.append(text)
        yield self._tape.delta(_INPUT if self._is_custom else _ARGUMENTS, text, self._tail)

    def end(self, status: str) -> Iterator[bytes]:
        if self._is_custom:
            yield self._tape.emit(
                "response.custom_tool_call_input.done", **self._place, input=self._text()
            )
        else:
            yield self._tape.emit(
                "response.function_call_arguments.done",
                **self._place,
                arguments=self._text(),
                name=self._call.name,
            )
        yield self._tape.emit(
            "response.output_item.done", output_index=self.index, item=self.value(status)
        )

    def _text(self) -> str:
        text = "".join(self._pieces)
        # Without any fragment a function was called with no arguments.
        return text or ("" if self._is_custom else "{}")

    def value(self, status: str) -> JSONDict:
        text = "".join(self._pieces) if status == "in_progress" else self._text()
        item: JSONDict = {
            "id": self._id,
            "type": "custom_tool_call" if self._is_custom else "function_call",
            "status": status,
            "call_id": self._call.id,
            "name": self._call.name,
            "input" if self._is_custom else "arguments": text,
        }
        if self._call.namespace:
            item["namespace"] = self._call.namespace
        return item


class PictureItem:
    """A drawn picture, whole at once."""

    def __init__(self, tape: Tape, index: int, id_: str, data: str) -> None:
        self.index = index
        self._tape = tape
        self._id = f"ig_{id_}"
        self._data = data

    def begin(self) -> Iterator[bytes]:
        item = self.value("in_progress")
        yield self._tape.emit("response.output_item.added", output_index=self.index, item=item)
        place: JSONDict = {"item_id": self._id, "output_index": self.index}
        for step in ("in_progress", "generating", "completed"):
            yield self._tape.emit(f"response.image_generation_call.{step}", **place)

    def add(self, text: str) -> Iterator[bytes]:
        yield from ()

    def end(self, status: str) -> Iterator[bytes]:
        yield self._tape.emit(
            "response.output_item.done", output_index=self.index, item=self.value("completed")
        )

    def value(self, status: str) -> JSONDict:
        result = None if status == "in_progress" else self._data
        value = {"id": self._id, "type": "image_generation_call", "status": status}
        return {**value, "result": result}
