"""Mistral's answers as events. A complete answer takes the same path as one long chunk."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from controlplane.kit.errors import Fault, FaultKind
from controlplane.kit.json import InvalidJSON, JSONDict, dumps_str, loads
from providers.protocols.canonical import (
    ArgumentsDelta,
    BlockEnd,
    BlockStart,
    End,
    Event,
    Failed,
    Finish,
    LogprobsDelta,
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
from providers.protocols.chunks import read_chunk
from providers.protocols.codec import Restore
from providers.protocols.errors import RemoteProtocolError
from providers.protocols.mistral_conversations.errors import fault_of_error
from providers.protocols.mistral_conversations.ids import short_id
from providers.protocols.mistral_conversations.messages import SLUG, UNSIGNED
from providers.protocols.numbers import count
from providers.protocols.sse import SSEParser
from providers.protocols.tool_calls import called, custom_text

_MAX_CHOICE: Final = 128
_MAX_CALLS: Final = 4096

_REASONS: Final[dict[str, StopReason]] = {
    "stop": "stop",
    "length": "length",
    "model_length": "context_overflow",
    "tool_calls": "tool_use",
    "content_filter": "content_filter",
    "error": "error",
}


class _Function(msgspec.Struct):
    name: str | None = None
    arguments: Any = None


class _Call(msgspec.Struct):
    id: str | None = None
    index: int | None = None
    function: _Function | None = None


class _Delta(msgspec.Struct):
    content: str | list[JSONDict] | None = None
    tool_calls: list[_Call] | None = None


class _Logprobs(msgspec.Struct):
    content: list[JSONDict] | None = None


class _Choice(msgspec.Struct):
    index: int = 0
    delta: _Delta | None = None
    message: _Delta | None = None
    finish_reason: str | None = None
    logprobs: _Logprobs | None = None


class _Chunk(msgspec.Struct):
    id: str | None = None
    model: str | None = None
    created: int | None = None
    object: str | None = None
    choices: list[_Choice] | None = None
    usage: JSONDict | None = None
    error: msgspec.Raw = msgspec.Raw(b"")


_chunk: Final = msgspec.json.Decoder(_Chunk)


class _OpenCall:
    """A call while it grows. `block` is -1 until the name is known (traps 33, 34)."""

    __slots__ = ("block", "given_id", "held", "is_custom", "name")

    def __init__(self, given_id: str) -> None:
        self.given_id = given_id
        self.name = ""
        self.block = -1
        self.held: list[str] = []
        self.is_custom = False


class _State:
    """One choice."""

    __slots__ = ("block", "by_index", "calls", "finish", "has_call", "is_thinking", "signature")

    def __init__(self) -> None:
        self.block = -1
        self.is_thinking = False
        self.signature = ""
        self.calls: list[_OpenCall] = []
        self.by_index: dict[int, _OpenCall] = {}
        self.has_call = False
        self.finish: str | None = None


class AnswerReader:
    """Chunks in, events out. `end()` gives the last ones."""

    def __init__(self, restore: Restore, model: ModelSpec) -> None:
        self._restore = restore
        self._model = model
        self._next = 0
        self._states: dict[int, _State] = {}
        self._ids: set[str] = set()
        self._id = ""
        self._has_started = False
        self.is_done = False

    def read(self, data: bytes) -> list[Event]:
        if self.is_done:
            return []
        data = data.strip()
        if data in (b"", b"null"):
            return []
        if data == b"[DONE]":
            return self.end()
        chunk = read_chunk(_chunk, data)
        out: list[Event] = []
        if bytes(chunk.error) not in (b"", b"null") or chunk.object == "error":
            try:
                fault = fault_of_error(loads(data))
            except InvalidJSON as error:
                raise RemoteProtocolError(
                    f"The upstream sent an unreadable error: {error}."
                ) from None
            self.is_done = True
            return [Failed(fault)]
        if not self._has_started:
            self._has_started = True
            self._id = chunk.id or ""
            out.append(Start(self._id, chunk.model or "", count(chunk.created)))
        # Usage chunks and keep-alive objects have no choices (trap 116).
        for choice in chunk.choices or ():
            self._choice(choice, out)
        if chunk.usage is not None:
            out.append(UsageUpdate(usage_of(chunk.usage)))
        return out

    # --- choices -------------------------------------------------------------------------

    def _choice(self, choice: _Choice, out: list[Event]) -> None:
        number = choice.index
        state = self._states.get(number)
        if state is None:
            if not 0 <= number < _MAX_CHOICE:
                raise RemoteProtocolError(f"The upstream sent a choice numbered {number}.")
            state = self._states[number] = _State()
        if state.finish is not None:
            return
        delta = choice.delta if choice.delta is not None else choice.message
        if delta is not None:
            if isinstance(delta.content, str):
                self._words(number, state, delta.content, out)
            else:
                for piece in delta.content or ():
                    self._piece(number, state, piece, out)
            for call in delta.tool_calls or ():
                self._call(number, state, call, out)
        if choice.logprobs is not None and choice.logprobs.content:
            out.append(LogprobsDelta(tuple(choice.logprobs.content), number))
        if choice.finish_reason:
            self._finish(number, state, choice.finish_reason, out)

    def _words(self, number: int, state: _State, words: str, out: list[Event]) -> None:
        # Empty deltas say nothing and must not split the thoughts (trap 101).
        if not words:
            return
        if state.block < 0 or state.is_thinking:
            self._close(number, state, out)
            state.block = self._new()
            state.is_thinking = False
            out.append(BlockStart(state.block, Text(text=""), number))
        out.append(TextDelta(state.block, words, number))

    def _piece(self, number: int, state: _State, piece: JSONDict, out: list[Event]) -> None:
        kind = piece.get("type")
        if kind == "text":
            words = piece.get("text")
            self._words(number, state, words if isinstance(words, str) else "", out)
        elif kind == "thinking":
            self._thinking(number, state, piece, out)
        else:
            # References, images, resources: Mistral's own, returned to Mistral only.
            self._close(number, state, out)
            index = self._new()
            out.append(BlockStart(index, Opaque(protocol=SLUG, value=piece), number))
            out.append(BlockEnd(index, number))

    def _thinking(self, number: int, state: _State, piece: JSONDict, out: list[Event]) -> None:
        thoughts = piece.get("thinking")
        if isinstance(thoughts, str):
            words = thoughts
        else:
            words = "".join(
                inner["text"]
                for inner in (thoughts if isinstance(thoughts, list) else ())
                if isinstance(inner, dict) and isinstance(inner.get("text"), str)
            )
        signature = piece.get("signature")
        if not words and not signature:
            return
        if state.block < 0 or not state.is_thinking:
            self._close(number, state, out)
            state.block = self._new()
            state.is_thinking = True
            state.signature = UNSIGNED
            out.append(BlockStart(state.block, Thinking(), number))
        if words:
            out.append(ThinkingDelta(state.block, words, 0, number))
        if isinstance(signature, str) and signature:
            state.signature = signature

    def _close(self, number: int, state: _State, out: list[Event]) -> None:
        if state.block < 0:
            return
        if state.is_thinking:
            out.append(
                SignatureDelta(
                    state.block,
                    Signature(
                        value=state.signature,
                        protocol=self._model.protocol,
                        model=self._model.id,
                    ),
                    number,
                )
            )
        out.append(BlockEnd(state.block, number))
        state.block = -1

    # --- calls ---------------------------------------------------------------------------

    def _call(self, number: int, state: _State, delta: _Call, out: list[Event]) -> None:
        given = delta.id if delta.id not in (None, "", "null") else ""
        function = delta.function if delta.function is not None else _Function()
        call = self._matched(state, delta.index, given or "", function.name or "")
        arguments = function.arguments
        if arguments is None:
            text = ""
        else:
            # Some answers hold the object itself instead of its text.
            text = arguments if isinstance(arguments, str) else dumps_str(arguments)
        if call.block < 0:
            call.name = call.name or function.name or ""
            if text:
                call.held.append(text)
            if not call.name:
                return
            self._start(number, state, call, out)
        elif call.is_custom:
            call.held.append(text)
        elif text:
            out.append(ArgumentsDelta(call.block, text, number))

    def _matched(self, state: _State, index: int | None, given: str, name: str) -> _OpenCall:
        """The call that a delta continues. Continuations may lack the id (trap 31), and servers
        that number every call 0 are told apart by a new id with a name."""
        known = state.by_index.get(index) if index is not None else None
        if known is None and index is None:
            if given:
                known = next((call for call in state.calls if call.given_id == given), None)
            elif not name and state.calls:
                known = state.calls[-1]
        if known is not None and given and name and known.given_id not in ("", given):
            known = next((call for call in state.calls if call.given_id == given), None)
        if known is None:
            if len(state.calls) >= _MAX_CALLS:
                raise RemoteProtocolError(f"The upstream sent more than {_MAX_CALLS} calls.")
            known = _OpenCall(given)
            state.calls.append(known)
            if index is not None:
                state.by_index[index] = known
        elif given and not known.given_id:
            known.given_id = given
        return known

    def _start(self, number: int, state: _State, call: _OpenCall, out: list[Event]) -> None:
        self._close(number, state, out)
        state.has_call = True
        call.block = self._new()
        call_id = call.given_id or short_id(
            f"{self._id}\x00{number}\x00{call.block}\x00{call.name}"
        )
        repeat = 1
        while call_id in self._ids:
            repeat += 1
            call_id = short_id(f"{call.given_id}\x00{call.block}\x00{repeat}")
        self._ids.add(call_id)
        block = called(self._restore, call.name, call_id)
        call.is_custom = block.kind == "custom"
        out.append(BlockStart(call.block, block, number))
        if not call.is_custom:
            out.extend(ArgumentsDelta(call.block, text, number) for text in call.held)
            call.held = []

    def _new(self) -> int:
        self._next += 1
        return self._next - 1

    # --- the end -------------------------------------------------------------------------

    def _finish(self, number: int, state: _State, raw: str, out: list[Event]) -> None:
        state.finish = raw
        self._close(number, state, out)
        for call in state.calls:
            if call.block < 0:
                continue  # never named: nothing was announced, nothing ends
            if call.is_custom:
                out.append(ArgumentsDelta(call.block, custom_text("".join(call.held)), number))
            out.append(BlockEnd(call.block, number))
        reason = _REASONS.get(raw, "error")
        if reason == "stop" and state.has_call:
            reason = "tool_use"
        elif reason == "tool_use" and not state.has_call:
            reason = "stop"
        out.append(Finish(reason, raw, None, number))

    def end(self) -> list[Event]:
        """At the terminator, or when the connection closes without one."""
        if self.is_done:
            return []
        self.is_done = True
        out: list[Event] = []
        for number, state in sorted(self._states.items()):
            if state.finish is None:
                if self._model.quirks.supports_finish_reason:
                    return [Failed(_TRUNCATED)]
                self._finish(number, state, "stop", out)
        if not self._states:
            return [Failed(_TRUNCATED)]
        out.append(End())
        return out


_TRUNCATED: Final = Fault(
    kind=FaultKind.UPSTREAM,
    code="stream_truncated",
    message="The upstream broke off its answer. What arrived is incomplete.",
)


def usage_of(usage: JSONDict) -> Usage:
    """Cached tokens have three names; the prompt includes them."""
    prompt = count(usage.get("prompt_tokens"))
    cached = 0
    for key in ("prompt_tokens_details", "prompt_token_details"):
        details = usage.get(key)
        if isinstance(details, dict) and details.get("cached_tokens") is not None:
            cached = count(details["cached_tokens"])
            break
    else:
        cached = count(usage.get("num_cached_tokens"))
    cached = min(cached, prompt)
    details = usage.get("completion_tokens_details")
    output = count(usage.get("completion_tokens"))
    reasoning = count(details.get("reasoning_tokens")) if isinstance(details, dict) else 0
    tier = usage.get("service_tier")
    return Usage(
        input=prompt - cached,
        cache_read=cached,
        output=output,
        reasoning=min(reasoning, output),
        service_tier=tier[:64] if isinstance(tier, str) and tier else None,
    )


class AnswerStream:
    def __init__(self, restore: Restore, model: ModelSpec) -> None:
        self._parser = SSEParser()
        self._reader = AnswerReader(restore, model)

    def feed(self, chunk: bytes) -> list[Event]:
        if self._reader.is_done:
            return []
        events: list[Event] = []
        for event in self._parser.feed(chunk):
            events += self._reader.read(event.data)
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
    if not body.strip():
        raise RemoteProtocolError("The upstream sent an empty answer.")
    reader = AnswerReader(restore, model)
    return reader.read(body) + reader.end()
