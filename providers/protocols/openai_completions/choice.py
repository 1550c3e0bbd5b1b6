"""One choice of an answer, delta by delta, as events. State is kept per tool call."""

from __future__ import annotations

from typing import Final, Protocol

from controlplane.kit.json import JSONDict
from providers.protocols.canonical import (
    ArgumentsDelta,
    BlockEnd,
    BlockStart,
    CitationDelta,
    Event,
    Finish,
    Image,
    ModelSpec,
    Opaque,
    Refusal,
    Signature,
    SignatureDelta,
    StopReason,
    Text,
    TextDelta,
    Thinking,
    ThinkingDelta,
    ToolCall,
)
from providers.protocols.codec import Restore
from providers.protocols.errors import LocalProtocolError, RemoteProtocolError
from providers.protocols.names import digest
from providers.protocols.openai_completions.chunks import CallDelta, Delta, FunctionDelta
from providers.protocols.openai_completions.citations import from_chat
from providers.protocols.openai_completions.details import Merger, signature_of
from providers.protocols.openai_completions.media import source_of
from providers.protocols.tool_calls import called, custom_text

# The vendors' extras (trap 136); whatever is not here is an error (trap 137).
_REASONS: Final[dict[str, StopReason]] = {
    "stop": "stop",
    "end": "stop",
    "eos": "stop",
    "length": "length",
    "tool_calls": "tool_use",
    "function_call": "tool_use",
    "content_filter": "content_filter",
    "sensitive": "content_filter",
    "model_length": "context_overflow",
    "model_context_window_exceeded": "context_overflow",
}
_MAX_CALLS: Final = 4096


class Answer(Protocol):
    """What the choices of one answer share."""

    restore: Restore
    model: ModelSpec
    answer_id: str

    def new_block(self) -> int: ...
    def claim(self, call_id: str) -> str: ...


class _Call:
    __slots__ = ("arguments", "block", "id", "is_buffered", "is_custom", "name")

    def __init__(self) -> None:
        self.id = ""
        self.name = ""
        self.is_custom = False
        self.block = -1
        # Arguments that came before the name, or all of an emulated custom tool's.
        self.arguments: list[str] = []
        self.is_buffered = True


class ChoiceReader:
    __slots__ = (
        "_answer",
        "_audio",
        "_block",
        "_by_key",
        "_calls",
        "_details",
        "_has_plain_thoughts",
        "_kind",
        "_last",
        "index",
        "is_finished",
    )

    def __init__(self, answer: Answer, index: int) -> None:
        self.index = index
        self.is_finished = False
        self._answer = answer
        self._kind: type[Text | Thinking | Refusal] | None = None
        self._block = -1
        self._calls: list[_Call] = []
        self._by_key: dict[int | str, _Call] = {}
        self._last: _Call | None = None
        self._details: Merger | None = None
        self._has_plain_thoughts = False
        self._audio: JSONDict | None = None

    def read(self, delta: Delta, out: list[Event]) -> None:
        # Reasoning first: some gateways send both in one chunk (trap 100).
        thought = delta.reasoning_content or delta.reasoning or delta.reasoning_text
        if thought:
            self._has_plain_thoughts = True
        if delta.reasoning_details:
            if self._details is None:
                self._details = Merger()
            shown = self._details.add(delta.reasoning_details)
            # Where a plain field says the thoughts, entries repeat them: in the same chunk, or
            # whole at the end.
            if not self._has_plain_thoughts:
                thought = thought or shown
        if thought:
            if self._kind is not Thinking:
                self._open(Thinking(), out)
            out.append(ThinkingDelta(self._block, thought, 0, self.index))
        if delta.content:
            if self._kind is not Text:
                self._open(Text(text=""), out)
            out.append(TextDelta(self._block, delta.content, self.index))
        if delta.refusal:
            if self._kind is not Refusal:
                self._open(Refusal(text=""), out)
            out.append(TextDelta(self._block, delta.refusal, self.index))
        if delta.tool_calls:
            for call in delta.tool_calls:
                self._tool_call(call, out)
        if delta.function_call is not None:
            self._legacy_call(delta.function_call, out)
        if delta.annotations:
            self._annotate(delta.annotations, out)
        if delta.images:
            self._show(delta.images, out)
        if delta.audio is not None:
            self._hear(delta.audio)

    # --- text, thinking, refusal: one at a time ---

    def _open(self, block: Text | Thinking | Refusal, out: list[Event]) -> None:
        self._close(out)
        if not isinstance(block, Thinking):
            self._flush_details(out)
        self._kind = type(block)
        self._block = self._answer.new_block()
        out.append(BlockStart(self._block, block, self.index))

    def _close(self, out: list[Event]) -> None:
        if self._kind is None:
            return
        if self._kind is Thinking and self._details:
            out.append(SignatureDelta(self._block, self._proof(self._details), self.index))
        out.append(BlockEnd(self._block, self.index))
        self._kind = None

    def _proof(self, details: Merger) -> Signature:
        model = self._answer.model
        return signature_of(details.take(), model.protocol, model.id)

    def _flush_details(self, out: list[Event]) -> None:
        """Entries without readable reasoning: a block of nothing but its proof (trap 82)."""
        if not self._details:
            return
        block = self._answer.new_block()
        out.append(BlockStart(block, Thinking(redacted=True), self.index))
        out.append(SignatureDelta(block, self._proof(self._details), self.index))
        out.append(BlockEnd(block, self.index))

    # --- tool calls: as many at once as the vendor likes ---

    def _legacy_call(self, delta: FunctionDelta, out: list[Event]) -> None:
        self._tool_call(CallDelta(index=0, function=delta), out)

    def _tool_call(self, delta: CallDelta, out: list[Event]) -> None:
        name, arguments = None, None
        if delta.function is not None:
            name, arguments = delta.function.name, delta.function.arguments
        elif delta.custom is not None:
            name, arguments = delta.custom.name, delta.custom.input
        # Mistral's relays write the word (trap 30).
        id_ = delta.id if delta.id != "null" else None
        call = self._find(delta.index, id_, name)
        if call.block >= 0 and not call.is_buffered:
            if arguments:
                out.append(ArgumentsDelta(call.block, arguments, self.index))
            return
        if arguments:
            call.arguments.append(arguments)
        if call.block >= 0:
            return
        if id_ and not call.id:
            call.id = id_
        if name and not call.name:
            call.name = name
        if delta.custom is not None or delta.type == "custom":
            call.is_custom = True
        if call.name:
            self._start(call, out)

    def _find(self, index: int | None, id_: str | None, name: str | None) -> _Call:
        """By index; without one by id; without either the last call (traps 31, 32)."""
        call: _Call | None
        if index is not None:
            call = self._by_key.get(index)
            if call is not None and id_ and name and call.block >= 0 and call.id not in ("", id_):
                # A vendor that numbers every call 0: another id with a name begins another.
                call = self._by_key.get(id_)
        else:
            call = self._by_key.get(id_) if id_ else self._last
        if call is None:
            if len(self._calls) >= _MAX_CALLS:
                raise RemoteProtocolError(f"The upstream made more than {_MAX_CALLS} tool calls.")
            call = _Call()
            self._calls.append(call)
        if index is not None:
            self._by_key[index] = call
        if id_:
            self._by_key[id_] = call
        self._last = call
        return call

    def _start(self, call: _Call, out: list[Event]) -> None:
        self._close(out)
        self._flush_details(out)
        answer = self._answer
        id_ = call.id
        if not id_:
            seed = f"{answer.answer_id}:{self.index}:{len(self._calls)}:{call.name}"
            id_ = f"call_{digest(seed, 24)}"
        skeleton = called(answer.restore, call.name, answer.claim(id_))
        if call.is_custom:
            skeleton = ToolCall(
                id=skeleton.id,
                name=skeleton.name,
                arguments="",
                kind="custom",
                namespace=skeleton.namespace,
            )
        call.block = answer.new_block()
        # Free text inside `{"input": …}` can only be taken out when it is whole.
        call.is_buffered = skeleton.kind == "custom" and not call.is_custom
        out.append(BlockStart(call.block, skeleton, self.index))
        if call.arguments and not call.is_buffered:
            out.append(ArgumentsDelta(call.block, "".join(call.arguments), self.index))
            call.arguments.clear()

    # --- the rest ---

    def _annotate(self, annotations: list[JSONDict], out: list[Event]) -> None:
        citations = [citation for entry in annotations if (citation := from_chat(entry))]
        if citations and self._kind is not Text:
            self._open(Text(text=""), out)
        for citation in citations:
            out.append(CitationDelta(self._block, citation, self.index))

    def _show(self, images: list[JSONDict], out: list[Event]) -> None:
        """OpenRouter's extension: pictures that the model drew, each one whole."""
        for image in images:
            link = image.get("image_url")
            url = link.get("url") if type(link) is dict else link
            if type(url) is not str:
                continue
            try:
                source = source_of(url, "images", "image/png")
            except LocalProtocolError:
                raise RemoteProtocolError("The upstream sent an image it cut off.") from None
            self._close(out)
            block = self._answer.new_block()
            out.append(BlockStart(block, Image(source=source), self.index))
            out.append(BlockEnd(block, self.index))

    def _hear(self, audio: JSONDict) -> None:
        """Spoken answers exist only here: kept together, for clients of this dialect."""
        if self._audio is None:
            self._audio = {"data": [], "transcript": []}
        for key, value in audio.items():
            if key in ("data", "transcript"):
                if type(value) is str:
                    self._audio[key].append(value)
            elif value is not None:
                self._audio[key] = value

    # --- the end ---

    def finish(self, raw: str, out: list[Event], *, is_cut_off: bool = False) -> None:
        """Ends every open block, once. With `is_cut_off` no Finish follows: Failed will."""
        if self.is_finished:
            return
        self.is_finished = True
        self._close(out)
        has_calls = False
        for call in self._calls:
            # A call that never got a name was none (trap 34).
            if call.block < 0:
                continue
            has_calls = True
            if call.is_buffered and call.arguments:
                text = custom_text("".join(call.arguments))
                out.append(ArgumentsDelta(call.block, text, self.index))
            out.append(BlockEnd(call.block, self.index))
        self._flush_details(out)
        if self._audio is not None:
            block = self._answer.new_block()
            whole = {
                **self._audio,
                "data": "".join(self._audio["data"]),
                "transcript": "".join(self._audio["transcript"]),
            }
            item = Opaque(protocol="openai-completions", value={"audio": whole})
            out.append(BlockStart(block, item, self.index))
            out.append(BlockEnd(block, self.index))
        if is_cut_off:
            return
        reason: StopReason = _REASONS.get(raw.lower(), "error") if raw else "stop"
        if reason == "stop" and has_calls:
            reason = "tool_use"
        elif reason == "tool_use" and not has_calls:
            reason = "stop"
        out.append(Finish(reason, raw, None, self.index))
