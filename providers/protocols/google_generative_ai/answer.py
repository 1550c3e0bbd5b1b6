"""Google's answers as events: every chunk is a whole response object with partial parts."""

from __future__ import annotations

from typing import Final

import msgspec

from controlplane.kit.errors import Fault, FaultKind
from controlplane.kit.json import InvalidJSON, JSONDict, dumps, loads
from providers.protocols.canonical import (
    ArgumentsDelta,
    Audio,
    Base64,
    BlockEnd,
    BlockStart,
    CitationDelta,
    End,
    Event,
    Failed,
    Finish,
    Image,
    LogprobsDelta,
    ModelSpec,
    Opaque,
    Signature,
    SignatureDelta,
    Start,
    Text,
    TextDelta,
    Thinking,
    ThinkingDelta,
    UsageUpdate,
)
from providers.protocols.chunks import read_chunk
from providers.protocols.codec import Restore
from providers.protocols.errors import RemoteProtocolError
from providers.protocols.google_generative_ai.citations import citations_of, logprobs_of
from providers.protocols.google_generative_ai.errors import fault_of_error
from providers.protocols.google_generative_ai.finish import reason_of
from providers.protocols.google_generative_ai.usage import UsageMetadata, usage_of
from providers.protocols.names import digest
from providers.protocols.sse import SSEParser
from providers.protocols.tool_calls import called, custom_text

_MAX_CANDIDATE: Final = 128


class _Blob(msgspec.Struct, rename="camel"):
    mime_type: str | None = None
    data: str | None = None


class _Call(msgspec.Struct, rename="camel"):
    id: str | None = None
    name: str | None = None
    args: msgspec.Raw = msgspec.Raw(b"")
    partial_args: msgspec.Raw = msgspec.Raw(b"")


class _Part(msgspec.Struct, rename="camel"):
    text: str | None = None
    thought: bool | None = None
    thought_signature: str | None = None
    function_call: _Call | None = None
    inline_data: _Blob | None = None
    file_data: JSONDict | None = None
    executable_code: JSONDict | None = None
    code_execution_result: JSONDict | None = None
    tool_call: JSONDict | None = None
    tool_response: JSONDict | None = None


class _Content(msgspec.Struct, rename="camel"):
    parts: list[_Part] | None = None


class _Candidate(msgspec.Struct, rename="camel"):
    content: _Content | None = None
    index: int | None = 0
    finish_reason: str | None = None
    finish_message: str | None = None
    citation_metadata: JSONDict | None = None
    grounding_metadata: JSONDict | None = None
    logprobs_result: JSONDict | None = None


class _Feedback(msgspec.Struct, rename="camel"):
    block_reason: str | None = None
    block_reason_message: str | None = None


class Chunk(msgspec.Struct, rename="camel"):
    candidates: list[_Candidate] | None = None
    prompt_feedback: _Feedback | None = None
    usage_metadata: UsageMetadata | None = None
    model_version: str | None = None
    response_id: str | None = None
    error: msgspec.Raw = msgspec.Raw(b"")
    # Cloud Code Assist puts the same object one level down; bare objects occur there too.
    response: Chunk | None = None


_chunk: Final = msgspec.json.Decoder(Chunk)


def _value(raw: bytes) -> object:
    """What was skipped over unread may still be no text at all."""
    try:
        return loads(raw)
    except InvalidJSON as error:
        raise RemoteProtocolError(f"The upstream sent an unreadable chunk: {error}.") from None


def _compact(arguments: bytes) -> str:
    """A complete answer is pretty-printed, a stream is not: both give the same text. Numbers
    stay as they were written (trap 48), half a surrogate pair does not (trap 11)."""
    if b"\\ud" in arguments or b"\\uD" in arguments:
        arguments = dumps(_value(arguments))
    try:
        return msgspec.json.format(arguments, indent=-1).decode()
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RemoteProtocolError(f"The upstream sent an unreadable chunk: {error}.") from None


class _Choice:
    """What is open in one candidate."""

    __slots__ = (
        "cited", "finish_message", "finish_raw", "has_call", "index", "is_thinking", "signature",
        "text_index",
    )  # fmt: skip

    def __init__(self) -> None:
        self.index = -1
        self.is_thinking = False
        self.signature = ""
        self.text_index = -1
        self.has_call = False
        self.finish_raw: str | None = None
        self.finish_message: str | None = None
        self.cited: set[str] = set()


class AnswerReader:
    """Response objects in, events out. `end()` gives the last ones."""

    def __init__(self, restore: Restore, model: ModelSpec) -> None:
        self._restore = restore
        self._model = model
        self._next = 0
        self._choices: dict[int, _Choice] = {}
        self._ids: set[str] = set()
        self._response_id = ""
        self._has_started = False
        self._feedback: _Feedback | None = None
        self._usage: UsageMetadata | None = None
        self.is_done = False

    def read(self, data: bytes) -> list[Event]:
        if self.is_done:
            return []
        stripped = data.strip()
        # Some relays add OpenAI's terminator or empty data (wire-protocols 1.1).
        if stripped in (b"", b"null", b"[DONE]"):
            return []
        if stripped[:1] == b"[":
            return self._read_array(stripped)
        chunk = read_chunk(_chunk, stripped)
        return self._see(chunk.response if chunk.response is not None else chunk)

    def _read_array(self, data: bytes) -> list[Event]:
        try:
            elements = msgspec.json.decode(data, type=list[msgspec.Raw])
        except (msgspec.DecodeError, RecursionError) as error:
            raise RemoteProtocolError(f"The upstream sent an unreadable chunk: {error}.") from None
        events: list[Event] = []
        for element in elements:
            events += self.read(bytes(element))
        return events

    def _see(self, chunk: Chunk) -> list[Event]:
        out: list[Event] = []
        if bytes(chunk.error) not in (b"", b"null"):
            error = _value(bytes(chunk.error))
            self.is_done = True
            return [Failed(fault_of_error(error))]
        if not self._has_started:
            self._has_started = True
            self._response_id = chunk.response_id or ""
            out.append(Start(self._response_id, chunk.model_version or ""))
        if chunk.candidates:
            for candidate in chunk.candidates:
                self._candidate(candidate, out)
        if chunk.prompt_feedback is not None and chunk.prompt_feedback.block_reason:
            self._feedback = chunk.prompt_feedback
        meta = chunk.usage_metadata
        if meta is not None and meta != self._usage:
            self._usage = meta
            out.append(UsageUpdate(usage_of(meta)))
        return out

    # --- candidates ----------------------------------------------------------------------

    def _candidate(self, candidate: _Candidate, out: list[Event]) -> None:
        number = candidate.index or 0
        choice = self._choices.get(number)
        if choice is None:
            if not 0 <= number < _MAX_CANDIDATE:
                raise RemoteProtocolError(f"The upstream sent a candidate numbered {number}.")
            choice = self._choices[number] = _Choice()
        if candidate.content is not None and candidate.content.parts:
            for part in candidate.content.parts:
                self._part(number, choice, part, out)
        if candidate.finish_reason:
            choice.finish_raw = candidate.finish_reason
        if candidate.finish_message:
            choice.finish_message = candidate.finish_message
        if candidate.citation_metadata or candidate.grounding_metadata:
            self._citations(number, choice, candidate, out)
        if candidate.logprobs_result:
            entries = logprobs_of(candidate.logprobs_result)
            if entries:
                out.append(LogprobsDelta(entries, number))

    def _part(self, number: int, choice: _Choice, part: _Part, out: list[Event]) -> None:
        if part.function_call is not None:
            self._call(number, choice, part.function_call, part.thought_signature, out)
        elif part.text is not None or (part.thought_signature and not _has_other(part)):
            self._words(number, choice, part, out)
        elif part.inline_data is not None and part.thought is not True:
            self._inline(number, choice, part, out)
        elif _has_other(part):
            self._whole(
                number, choice, Opaque(protocol=self._model.protocol, value=_wire(part)), out
            )

    def _words(self, number: int, choice: _Choice, part: _Part, out: list[Event]) -> None:
        words = part.text or ""
        signature = part.thought_signature or ""
        is_thinking = part.thought is True
        # A part may be signed without being thought: only `thought` says so (trap 81).
        if (
            choice.index < 0
            or choice.is_thinking is not is_thinking
            or (signature and choice.signature and signature != choice.signature)
        ):
            if not words and not signature:
                return
            self._close(number, choice, out)
            choice.index = self._next
            self._next += 1
            choice.is_thinking = is_thinking
            choice.signature = ""
            if is_thinking:
                out.append(BlockStart(choice.index, Thinking(), number))
            else:
                choice.text_index = choice.index
                out.append(BlockStart(choice.index, Text(text=""), number))
        if words:
            if is_thinking:
                out.append(ThinkingDelta(choice.index, words, 0, number))
            else:
                out.append(TextDelta(choice.index, words, number))
        # Later deltas without a signature do not erase it (trap 83).
        if signature and signature != choice.signature:
            choice.signature = signature
            out.append(SignatureDelta(choice.index, self._signature(signature), number))

    def _call(
        self, number: int, choice: _Choice, call: _Call, signature: str | None, out: list[Event]
    ) -> None:
        if bytes(call.partial_args) not in (b"", b"null", b"[]"):
            raise RemoteProtocolError(
                "The upstream sent a function call in pieces, which was not asked of it."
            )
        name = call.name or ""
        if not name:
            raise RemoteProtocolError("The upstream sent a function call without a name.")
        self._close(number, choice, out)
        choice.has_call = True
        arguments = bytes(call.args)
        if arguments in (b"", b"null"):
            text = "{}"
        else:
            text = _compact(arguments)
        index = self._next
        self._next += 1
        block = called(self._restore, name, self._call_id(call, name, text))
        out.append(BlockStart(index, block, number))
        if signature:
            out.append(SignatureDelta(index, self._signature(signature), number))
        out.append(
            ArgumentsDelta(index, custom_text(text) if block.kind == "custom" else text, number)
        )
        out.append(BlockEnd(index, number))

    def _call_id(self, call: _Call, name: str, arguments: str) -> str:
        """Google's own id; before Gemini 3 there is none, and ours must be the same whenever
        this answer is read and different from every other one (traps 28, 49, 50)."""
        given = call.id or ""
        base = given
        if not given:
            seed = f"{self._response_id}\x00{len(self._ids)}\x00{name}\x00{arguments}"
            base = f"call_{digest(seed, 24)}"
        unique = base
        repeat = 1
        while unique in self._ids:
            repeat += 1
            unique = f"{base}_{repeat}"
        self._ids.add(unique)
        return unique

    def _inline(self, number: int, choice: _Choice, part: _Part, out: list[Event]) -> None:
        blob = part.inline_data
        assert blob is not None
        media_type = (blob.mime_type or "application/octet-stream").lower()
        source = Base64(media_type=media_type, data=blob.data or "")
        if media_type.startswith("image/"):
            signature = self._signature(part.thought_signature) if part.thought_signature else None
            self._whole(number, choice, Image(source=source, signature=signature), out)
        elif media_type.startswith("audio/"):
            self._whole(number, choice, Audio(source=source), out)
        else:
            self._whole(
                number, choice, Opaque(protocol=self._model.protocol, value=_wire(part)), out
            )

    def _whole(
        self, number: int, choice: _Choice, block: Image | Audio | Opaque, out: list[Event]
    ) -> None:
        self._close(number, choice, out)
        out.append(BlockStart(self._next, block, number))
        out.append(BlockEnd(self._next, number))
        self._next += 1

    def _close(self, number: int, choice: _Choice, out: list[Event]) -> None:
        if choice.index >= 0:
            out.append(BlockEnd(choice.index, number))
            choice.index = -1
            choice.signature = ""

    def _signature(self, value: str) -> Signature:
        return Signature(value=value, protocol=self._model.protocol, model=self._model.id)

    def _citations(
        self, number: int, choice: _Choice, candidate: _Candidate, out: list[Event]
    ) -> None:
        if choice.text_index < 0:
            return
        found = citations_of(candidate.citation_metadata, candidate.grounding_metadata)
        for citation in found:
            # The metadata is repeated from chunk to chunk.
            key = dumps(citation).decode()
            if key not in choice.cited:
                choice.cited.add(key)
                out.append(CitationDelta(choice.text_index, citation, number))

    # --- the end -------------------------------------------------------------------------

    def end(self) -> list[Event]:
        """Google has no terminator: the stream is whole when every candidate has said why it
        ended, and only the end of the connection shows that nothing follows."""
        if self.is_done:
            return []
        self.is_done = True
        out: list[Event] = []
        if not self._choices:
            if self._feedback is None:
                return [Failed(_EMPTY)]
            out.append(_blocked(self._feedback))
        for number, choice in sorted(self._choices.items()):
            if choice.finish_raw is None:
                return [Failed(_TRUNCATED)]
            self._close(number, choice, out)
            out.append(
                Finish(
                    reason_of(choice.finish_raw, has_call=choice.has_call),
                    choice.finish_raw,
                    None,
                    number,
                    {"message": choice.finish_message} if choice.finish_message else None,
                )
            )
        out.append(End())
        return out


# Seen on every Google endpoint: 200, nothing inside, no error. Worth another try (trap 134).
_EMPTY: Final = Fault(
    kind=FaultKind.UPSTREAM,
    code="stream_empty",
    message="The upstream answered with nothing at all. Try again.",
)
_TRUNCATED: Final = Fault(
    kind=FaultKind.UPSTREAM,
    code="stream_truncated",
    message="The upstream broke off its answer. What arrived is incomplete.",
)


def _blocked(feedback: _Feedback) -> Finish:
    message = feedback.block_reason_message
    return Finish(
        "content_filter",
        feedback.block_reason or "",
        details={"message": message} if message else None,
    )


def _has_other(part: _Part) -> bool:
    return (
        part.inline_data is not None
        or part.file_data is not None
        or part.executable_code is not None
        or part.code_execution_result is not None
        or part.tool_call is not None
        or part.tool_response is not None
    )


def _wire(part: _Part) -> JSONDict:
    """The part as it came, as far as anyone reads it."""
    wire = msgspec.to_builtins(part)
    assert isinstance(wire, dict)
    out: JSONDict = {
        key: value for key, value in wire.items() if value is not None and key != "functionCall"
    }
    if isinstance(out.get("inlineData"), dict):
        out["inlineData"] = {k: v for k, v in out["inlineData"].items() if v is not None}
    return out


class AnswerStream:
    """The StreamDecoder of all Google wires."""

    def __init__(self, restore: Restore, model: ModelSpec) -> None:
        self._parser = SSEParser()
        self._reader = AnswerReader(restore, model)

    def feed(self, chunk: bytes) -> list[Event]:
        reader = self._reader
        if reader.is_done:
            return []
        events: list[Event] = []
        for event in self._parser.feed(chunk):
            events += reader.read(event.data)
        return events

    def close(self) -> list[Event]:
        if self._reader.is_done:
            return []
        events: list[Event] = []
        try:
            for event in self._parser.close():
                events += self._reader.read(event.data)
        except RemoteProtocolError:
            pass  # the last event was cut in the middle: that is what a cut stream looks like
        return events + self._reader.end()


def decode_answer(body: bytes, restore: Restore, model: ModelSpec) -> list[Event]:
    reader = AnswerReader(restore, model)
    if not body.strip():
        raise RemoteProtocolError("The upstream sent an empty answer.")
    return reader.read(body) + reader.end()
