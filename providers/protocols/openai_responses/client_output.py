"""The output items of a streamed Responses answer: their events, in the grammar's order."""

from __future__ import annotations

from typing import Final

from controlplane.kit.json import JSONDict, dumps
from providers.protocols.canonical import Refusal, Signature, Text, Thinking, ToolCall
from providers.protocols.names import digest
from providers.protocols.openai_completions.citations import to_flat
from providers.protocols.openai_responses import carriers

_MAX_STEM: Final = 48


class Emit:
    """Numbers every event; the numbers leave no gaps (trap 145)."""

    def __init__(self, answer_id: str) -> None:
        self.next = 0
        self._taken: set[str] = set()
        self._stem = answer_id if len(answer_id) <= _MAX_STEM else digest(answer_id, _MAX_STEM)

    def item_id(self, prefix: str, index: int) -> str:
        return f"{prefix}_{self._stem}_{index}"

    def claim(self, known: str) -> bool:
        """Whether an item may have this id: no other one of this answer has it."""
        is_new = known not in self._taken
        self._taken.add(known)
        return is_new

    def __call__(self, name: bytes, fields: JSONDict) -> bytes:
        number = self.next
        self.next = number + 1
        return (
            b'event: %b\ndata: {"type":"%b","sequence_number":%d,' % (name, name, number)
            + dumps(fields)[1:]
            + b"\n\n"
        )

    def delta(self, head: bytes, text: str, tail: bytes) -> bytes:
        """The hot path: a template around one string. `head` stops before the number."""
        number = self.next
        self.next = number + 1
        return b"%b%d%b" % (head, number, tail) + dumps(text)


def _head(name: bytes) -> bytes:
    return b'event: %b\ndata: {"type":"%b","sequence_number":' % (name, name)


_TEXT_HEAD: Final = _head(b"response.output_text.delta")
_REFUSAL_HEAD: Final = _head(b"response.refusal.delta")
_SUMMARY_HEAD: Final = _head(b"response.reasoning_summary_text.delta")
_ARGUMENTS_HEAD: Final = _head(b"response.function_call_arguments.delta")
_INPUT_HEAD: Final = _head(b"response.custom_tool_call_input.delta")


class MessagePart:
    """One `output_text` or `refusal` of a message."""

    def __init__(self, emit: Emit, message: MessageItem, index: int, block: Text | Refusal) -> None:
        self._emit = emit
        self.skeleton: Text | Refusal = (
            Refusal(text="")
            if isinstance(block, Refusal)
            else Text(text="", phase=block.phase, signature=block.signature)
        )
        self._is_refusal = isinstance(block, Refusal)
        self._where: JSONDict = {
            "item_id": message.id,
            "output_index": message.index,
            "content_index": index,
        }
        self._middle = b"," + dumps(self._where)[1:-1] + b',"delta":'
        self._head = _REFUSAL_HEAD if self._is_refusal else _TEXT_HEAD
        self._end = b"}\n\n" if self._is_refusal else b',"logprobs":[]}\n\n'
        self._pieces: list[str] = []
        self._annotations: list[JSONDict] = []
        self._logprobs: list[JSONDict] = []
        self.is_open = True
        self.proof: Signature | None = block.signature if isinstance(block, Text) else None

    @property
    def text(self) -> str:
        return "".join(self._pieces)

    def begin(self) -> bytes:
        return self._emit(b"response.content_part.added", {**self._where, "part": self.part()})

    def add(self, text: str) -> bytes:
        self._pieces.append(text)
        return self._emit.delta(self._head, text, self._middle) + self._end

    def add_logprobs(self, entries: tuple[JSONDict, ...]) -> bytes:
        self._logprobs.extend(entries)
        return self._emit(
            b"response.output_text.delta", {**self._where, "delta": "", "logprobs": entries}
        )

    def cite(self, citation: JSONDict) -> bytes | None:
        annotation = to_flat(citation)
        if annotation is None:
            return None
        self._annotations.append(annotation)
        fields = {
            **self._where,
            "annotation_index": len(self._annotations) - 1,
            "annotation": annotation,
        }
        return self._emit(b"response.output_text.annotation.added", fields)

    def end(self, status: str) -> bytes:
        if not self.is_open:
            return b""
        self.is_open = False
        part = self.part()
        if self._is_refusal:
            done = self._emit(b"response.refusal.done", {**self._where, "refusal": self.text})
        else:
            done = self._emit(
                b"response.output_text.done",
                {**self._where, "text": self.text, "logprobs": self._logprobs},
            )
        return done + self._emit(b"response.content_part.done", {**self._where, "part": part})

    def part(self) -> JSONDict:
        if self._is_refusal:
            return {"type": "refusal", "refusal": self.text}
        return {
            "type": "output_text",
            "text": self.text,
            "annotations": list(self._annotations),
            "logprobs": list(self._logprobs),
        }


class MessageItem:
    def __init__(self, emit: Emit, index: int, phase: str | None) -> None:
        self._emit = emit
        self.index = index
        self.id = emit.item_id("msg", index)
        self.phase = phase
        self.parts: list[MessagePart] = []

    def add_part(self, block: Text | Refusal) -> MessagePart:
        part = MessagePart(self._emit, self, len(self.parts), block)
        self.parts.append(part)
        return part

    def begin(self) -> bytes:
        return self._emit(
            b"response.output_item.added",
            {"output_index": self.index, "item": self.item("in_progress")},
        )

    def end(self, status: str) -> bytes:
        out = b"".join(part.end(status) for part in self.parts)
        return out + self._emit(
            b"response.output_item.done", {"output_index": self.index, "item": self.item(status)}
        )

    def item(self, status: str) -> JSONDict:
        item: JSONDict = {
            "type": "message",
            "id": self.id,
            "status": status,
            "role": "assistant",
            "content": [part.part() for part in self.parts],
        }
        if self.phase is not None:
            item["phase"] = self.phase
        return item


class ReasoningItem:
    """Thoughts leave as summary parts: that is what clients show."""

    def __init__(self, emit: Emit, index: int, block: Thinking) -> None:
        self._emit = emit
        self.index = index
        known = block.item_id or ""
        # A proof that came late is an item of its own: two items never share an id.
        is_usable = known.startswith("rs_") and len(known) <= 64 and emit.claim(known)
        self.id = known if is_usable else emit.item_id("rs", index)
        self.proof: Signature | None = block.signature
        self._parts: list[list[str]] = []
        self._current: int | None = None
        self._middle = b""

    def begin(self) -> bytes:
        item = {"type": "reasoning", "id": self.id, "summary": []}
        return self._emit(b"response.output_item.added", {"output_index": self.index, "item": item})

    def _where(self) -> JSONDict:
        return {
            "item_id": self.id,
            "output_index": self.index,
            "summary_index": len(self._parts) - 1,
        }

    def add(self, text: str, summary: int) -> bytes:
        out = b""
        if summary != self._current:
            out = self._end_part()
            self._current = summary
            self._parts.append([])
            where = self._where()
            self._middle = b"," + dumps(where)[1:-1] + b',"delta":'
            part = {"type": "summary_text", "text": ""}
            out += self._emit(b"response.reasoning_summary_part.added", {**where, "part": part})
        self._parts[-1].append(text)
        return out + self._emit.delta(_SUMMARY_HEAD, text, self._middle) + b"}\n\n"

    def _end_part(self) -> bytes:
        if self._current is None:
            return b""
        self._current = None
        where, text = self._where(), "".join(self._parts[-1])
        part = {"type": "summary_text", "text": text}
        return self._emit(
            b"response.reasoning_summary_text.done", {**where, "text": text}
        ) + self._emit(b"response.reasoning_summary_part.done", {**where, "part": part})

    def end(self, status: str) -> bytes:
        out = self._end_part()
        return out + self._emit(
            b"response.output_item.done", {"output_index": self.index, "item": self.item(status)}
        )

    def item(self, status: str) -> JSONDict:
        item: JSONDict = {
            "type": "reasoning",
            "id": self.id,
            "summary": [{"type": "summary_text", "text": "".join(part)} for part in self._parts],
        }
        if self.proof is not None:
            item["encrypted_content"] = carriers.for_thinking(self.proof)
        if status != "completed":
            item["status"] = status
        return item


class CallItem:
    """A function call, or a custom tool's with free text."""

    def __init__(self, emit: Emit, index: int, call: ToolCall) -> None:
        self._emit = emit
        self.index = index
        self.call = call
        self.proof: Signature | None = call.signature
        self._is_custom = call.kind == "custom"
        self.id = emit.item_id("ctc" if self._is_custom else "fc", index)
        self._pieces: list[str] = []
        self._head = _INPUT_HEAD if self._is_custom else _ARGUMENTS_HEAD
        where = {"item_id": self.id, "output_index": index}
        self._middle = b"," + dumps(where)[1:-1] + b',"delta":'

    def begin(self) -> bytes:
        return self._emit(
            b"response.output_item.added",
            {"output_index": self.index, "item": self.item("in_progress")},
        )

    def add(self, fragment: str) -> bytes:
        self._pieces.append(fragment)
        return self._emit.delta(self._head, fragment, self._middle) + b"}\n\n"

    def end(self, status: str) -> bytes:
        out = b""
        if not self._pieces and not self._is_custom and status == "completed":
            out = self.add("{}")
        text = "".join(self._pieces)
        where: JSONDict = {"item_id": self.id, "output_index": self.index}
        if self._is_custom:
            out += self._emit(b"response.custom_tool_call_input.done", {**where, "input": text})
        else:
            out += self._emit(
                b"response.function_call_arguments.done",
                {**where, "arguments": text, "name": self.call.name},
            )
        return out + self._emit(
            b"response.output_item.done", {"output_index": self.index, "item": self.item(status)}
        )

    def item(self, status: str) -> JSONDict:
        item: JSONDict = {
            "type": "custom_tool_call" if self._is_custom else "function_call",
            "id": self.id,
            "call_id": self.call.id,
            "name": self.call.name,
            "input" if self._is_custom else "arguments": "".join(self._pieces),
            "status": status,
        }
        if self.call.namespace is not None:
            item["namespace"] = self.call.namespace
        return item
