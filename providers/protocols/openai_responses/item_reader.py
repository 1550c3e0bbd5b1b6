"""Output items of a Responses answer, piece by piece, as events. State is kept per item.

Servers differ in which of delta, done and final item they send: whatever comes, each piece of
text leaves once (traps 40, 41).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from controlplane.kit.json import JSONDict, dumps_str
from providers.protocols.canonical import (
    ArgumentsDelta,
    Base64,
    BlockEnd,
    BlockStart,
    CitationDelta,
    Event,
    Image,
    LogprobsDelta,
    ModelSpec,
    Opaque,
    Refusal,
    Signature,
    SignatureDelta,
    Text,
    TextDelta,
    Thinking,
    ThinkingDelta,
    ToolCall,
)
from providers.protocols.codec import Restore
from providers.protocols.openai_completions.media import sniff

_CALLS: Final = {"function_call": "arguments", "custom_tool_call": "input"}


class _Part:
    """A block that is open, and what of its text has left already."""

    __slots__ = ("block", "is_open", "kind", "sent", "summary")

    def __init__(self, block: int, kind: type) -> None:
        self.block = block
        self.kind = kind
        self.is_open = True
        self.sent: list[str] = []
        self.summary = 0

    def tail(self, whole: str) -> str:
        """What is missing of `whole`; nothing when it disagrees: deltas cannot be taken back."""
        sent = "".join(self.sent)
        self.sent = [sent]
        return whole[len(sent) :] if len(whole) > len(sent) and whole.startswith(sent) else ""


class ItemReader:
    """One output item. Its kind is known once it was added or done; deltas wait until then."""

    def __init__(
        self,
        protocol: str,
        restore: Restore,
        model: ModelSpec,
        new_block: Callable[[], int],
    ) -> None:
        self._protocol = protocol
        self._restore = restore
        self._model = model
        self._new_block = new_block
        self._parts: dict[int, _Part] = {}
        self._early: list[str] = []
        self._phase: str | None = None
        self.kind = ""
        self.item_id = ""
        self.is_done = False
        self.is_signed = False
        self._is_closed = False
        self.has_refused = False

    # --- beginnings ---

    def add(self, item: JSONDict, out: list[Event]) -> None:
        if self.kind or self._is_closed:
            return
        kind = item.get("type")
        self.kind = kind if type(kind) is str else ""
        id_ = item.get("id")
        self.item_id = id_ if type(id_) is str else ""
        phase = item.get("phase")
        self._phase = phase if type(phase) is str else None
        if self.kind in _CALLS:
            part = self._begin(0, self._call(item), out)
            for fragment in self._early:
                self._append_arguments(part, fragment, out)
            self._early.clear()

    def _call(self, item: JSONDict) -> ToolCall:
        wire_id, wire_name = _text(item.get("call_id")), _text(item.get("name"))
        namespace = item.get("namespace")
        return ToolCall(
            id=self._restore.call_ids.get(wire_id, wire_id) or self.item_id,
            name=self._restore.names.get(wire_name, wire_name),
            arguments="",
            kind="custom" if self.kind == "custom_tool_call" else "function",
            namespace=namespace if type(namespace) is str and namespace else None,
            item_id=self.item_id or None,
        )

    def _begin(
        self, number: int, block: Text | Refusal | Thinking | ToolCall, out: list[Event]
    ) -> _Part:
        part = self._parts[number] = _Part(self._new_block(), type(block))
        out.append(BlockStart(part.block, block))
        return part

    def _end(self, part: _Part, out: list[Event]) -> None:
        if part.is_open:
            part.is_open = False
            out.append(BlockEnd(part.block))

    # --- pieces ---

    def text(self, number: int, delta: str, out: list[Event], *, refusal: bool = False) -> None:
        """Created lazily: some servers send text before they announce its part (Azure)."""
        part = self._parts.get(number)
        if part is None:
            if self._is_closed:
                return
            self.kind = self.kind or "message"
            self.has_refused |= refusal
            block = Refusal(text="") if refusal else Text(text="", phase=self._phase)
            part = self._begin(number, block, out)
        if delta and part.is_open and part.kind in (Text, Refusal):
            part.sent.append(delta)
            out.append(TextDelta(part.block, delta))

    def text_done(
        self, number: int, whole: str, out: list[Event], *, refusal: bool = False
    ) -> None:
        part = self._parts.get(number)
        missing = whole if part is None else part.tail(whole)
        if missing:
            self.text(number, missing, out, refusal=refusal)

    def end_text(self, number: int, out: list[Event]) -> None:
        part = self._parts.get(number)
        if part is not None:
            self._end(part, out)

    def citation(self, number: int, annotation: JSONDict, out: list[Event]) -> None:
        self.text(number, "", out)
        part = self._parts.get(number)
        if part is not None and part.is_open and part.kind is Text:
            out.append(CitationDelta(part.block, annotation))

    def logprobs(self, entries: list[JSONDict], out: list[Event]) -> None:
        out.append(LogprobsDelta(tuple(entries)))

    def thought(self, summary: int, delta: str, out: list[Event]) -> None:
        part = self._parts.get(0)
        if part is None:
            if self._is_closed:
                return
            self.kind = self.kind or "reasoning"
            part = self._begin(0, Thinking(item_id=self.item_id or None), out)
        if delta and part.is_open and part.kind is Thinking:
            if summary != part.summary:
                part.summary = summary
                # The texts of two parts do not continue each other.
                part.sent.clear()
            part.sent.append(delta)
            out.append(ThinkingDelta(part.block, delta, summary))

    def thought_done(self, summary: int, whole: str, out: list[Event]) -> None:
        part = self._parts.get(0)
        if part is None or summary > part.summary:
            self.thought(summary, whole, out)
        elif summary == part.summary:
            missing = part.tail(whole)
            if missing:
                self.thought(summary, missing, out)

    def arguments(self, delta: str, out: list[Event]) -> None:
        part = self._parts.get(0)
        if part is None:
            # Before the item was announced (14.6).
            self._early.append(delta)
        else:
            self._append_arguments(part, delta, out)

    def arguments_done(self, whole: str, out: list[Event]) -> None:
        part = self._parts.get(0)
        if part is None:
            self._early = [whole]
        else:
            self._append_arguments(part, part.tail(whole), out)

    def _append_arguments(self, part: _Part, fragment: str, out: list[Event]) -> None:
        # A server that sends one item's deltas under another's number is not believed.
        if fragment and part.is_open and part.kind is ToolCall:
            part.sent.append(fragment)
            out.append(ArgumentsDelta(part.block, fragment))

    # --- ends ---

    def done(self, item: JSONDict, out: list[Event]) -> None:
        """The final item: whatever is missing is taken from it."""
        if self.is_done:
            return
        self.add(item, out)
        self.is_done = True
        if self.kind == "message":
            self._finish_message(item, out)
        elif self.kind in _CALLS:
            value = item.get(_CALLS[self.kind])
            if type(value) in (dict, list):
                value = dumps_str(value)
            if type(value) is str:
                self.arguments_done(value, out)
        elif self.kind == "reasoning":
            self._finish_reasoning(item, out)
        elif self.kind:
            block = self._new_block()
            picture = _picture(item) if self.kind == "image_generation_call" else None
            other = Opaque(protocol=self._protocol, value=item)
            out.append(BlockStart(block, picture or other))
            out.append(BlockEnd(block))
        self.close(out)

    def close(self, out: list[Event]) -> None:
        """Nothing begins in an item after its end."""
        self.is_done = self._is_closed = True
        for part in self._parts.values():
            self._end(part, out)

    def _finish_message(self, item: JSONDict, out: list[Event]) -> None:
        phase = item.get("phase")
        if type(phase) is str and not self._parts:
            self._phase = phase
        content = item.get("content")
        for number, part in enumerate(content if type(content) is list else ()):
            if type(part) is not dict:
                continue
            if part.get("type") == "refusal":
                self.text_done(number, _text(part.get("refusal")), out, refusal=True)
            elif part.get("type") == "output_text":
                is_new = number not in self._parts
                self.text_done(number, _text(part.get("text")), out)
                if is_new:
                    self._finish_text(number, part, out)

    def _finish_text(self, number: int, part: JSONDict, out: list[Event]) -> None:
        """Of a part that was not streamed: what else would have come beside its text."""
        for annotation in _mappings(part.get("annotations")):
            self.citation(number, annotation, out)
        logprobs = _mappings(part.get("logprobs"))
        if logprobs:
            self.logprobs(logprobs, out)

    def _finish_reasoning(self, item: JSONDict, out: list[Event]) -> None:
        summaries = _mappings(item.get("summary")) or _mappings(item.get("content"))
        for number, summary in enumerate(summaries):
            self.thought_done(number, _text(summary.get("text")), out)
        encrypted = item.get("encrypted_content")
        part = self._parts.get(0)
        if part is None:
            block = Thinking(redacted=True, item_id=self.item_id or None)
            part = self._begin(0, block, out)
        if type(encrypted) is str and encrypted and part.is_open and part.kind is Thinking:
            self.is_signed = True
            out.append(SignatureDelta(part.block, self._signature(encrypted)))

    def sign_late(self, item: JSONDict, out: list[Event]) -> None:
        """The proof was only in the final response (Azure): its block is closed by now, so it
        comes as a block of nothing but the proof. The encoder puts the two together again."""
        encrypted = item.get("encrypted_content")
        if self.kind != "reasoning" or self.is_signed or type(encrypted) is not str:
            return
        if not encrypted:
            return
        self.is_signed = True
        block = self._new_block()
        out.append(BlockStart(block, Thinking(redacted=True, item_id=self.item_id or None)))
        out.append(SignatureDelta(block, self._signature(encrypted)))
        out.append(BlockEnd(block))

    def _signature(self, encrypted: str) -> Signature:
        # Bound to who made it: protocol and model (14.12).
        return Signature(value=encrypted, protocol=self._model.protocol, model=self._model.id)

    @property
    def is_call(self) -> bool:
        return self.kind in _CALLS


def _picture(item: JSONDict) -> Image | None:
    """What the vendor's own tool drew is content: clients of every dialect see it."""
    data = item.get("result")
    if type(data) is not str or not data:
        return None
    named = item.get("output_format")
    kind = sniff(data) or (f"image/{named}" if type(named) is str and named else "image/png")
    return Image(source=Base64(media_type=kind, data=data))


def _text(value: Any) -> str:
    return value if type(value) is str else ""


def _mappings(value: Any) -> list[JSONDict]:
    return [entry for entry in value if type(entry) is dict] if type(value) is list else []
