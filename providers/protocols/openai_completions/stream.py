"""A vendor's Chat Completions stream, and its complete answer, as events."""

from __future__ import annotations

from typing import Final

from controlplane.kit.json import JSONDict
from providers.protocols.canonical import (
    End,
    Event,
    Failed,
    LogprobsDelta,
    ModelSpec,
    Start,
    UsageUpdate,
)
from providers.protocols.codec import Restore
from providers.protocols.errors import RemoteProtocolError
from providers.protocols.openai_completions.choice import ChoiceReader
from providers.protocols.openai_completions.chunks import CallDelta, Choice, Chunk, parse, read_json
from providers.protocols.openai_completions.errors import fault_in_stream, truncated
from providers.protocols.openai_completions.usage import decode_usage
from providers.protocols.sse import SSEParser, SSEvent

_MAX_CHOICES: Final = 128


class ChatStreamDecoder:
    """See StreamDecoder. `[DONE]` ends it; a finish reason followed by the end of the
    connection does too, for many vendors forget the former."""

    def __init__(self, restore: Restore, model: ModelSpec) -> None:
        self.restore = restore
        self.model = model
        self.answer_id = ""
        self._parser = SSEParser()
        self._choices: dict[int, ChoiceReader] = {}
        self._blocks = 0
        self._ids: set[str] = set()
        self._usage: JSONDict | None = None
        self._tier: str | None = None
        self._has_started = False
        self._is_over = False

    def new_block(self) -> int:
        self._blocks += 1
        return self._blocks - 1

    def claim(self, call_id: str) -> str:
        """Ids are unique in an answer, whatever the vendor does (trap 28)."""
        unique, number = call_id, 2
        while unique in self._ids:
            unique = f"{call_id}_{number}"
            number += 1
        self._ids.add(unique)
        return unique

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
        try:
            for event in self._parser.close():
                self._event(event, out)
                if self._is_over:
                    return out
        except RemoteProtocolError:
            pass  # the last event was cut in the middle: that is what a cut stream looks like
        is_whole = bool(self._choices) and all(
            choice.is_finished for choice in self._choices.values()
        )
        if is_whole or (self._choices and not self.model.quirks.supports_finish_reason):
            self.end(out)
        else:
            self._break_off(out)
        return out

    def _event(self, event: SSEvent, out: list[Event]) -> None:
        data = event.data
        if data == b"[DONE]" or data.strip() == b"[DONE]":
            if self._choices:
                self.end(out)
            else:
                self._break_off(out)
            return
        if not data or data == b"null":
            return
        chunk = parse(data)
        if chunk is None:
            return
        if event.event == b"error" and not chunk.error:
            chunk.error = read_json(data)
        self.read(chunk, out)

    def read(self, chunk: Chunk, out: list[Event]) -> None:
        if chunk.error:
            self._fail(chunk.error, out)
            return
        if chunk.object == "error":
            self._fail({"message": chunk.message}, out)
            return
        if chunk.choices:
            if not self._has_started:
                self._start(chunk, out)
            for choice in chunk.choices:
                self._choice(choice, out)
        if chunk.service_tier:
            self._tier = chunk.service_tier
        if chunk.usage:
            if not self._has_started:
                self._start(chunk, out)
            self._count(chunk.usage, out)

    def _start(self, chunk: Chunk, out: list[Event]) -> None:
        self._has_started = True
        self.answer_id = chunk.id or ""
        out.append(Start(self.answer_id, chunk.model or "", max(chunk.created or 0, 0)))

    def _choice(self, choice: Choice, out: list[Event]) -> None:
        reader = self._choices.get(choice.index)
        if reader is None:
            if len(self._choices) >= _MAX_CHOICES:
                raise RemoteProtocolError(f"The upstream sent more than {_MAX_CHOICES} choices.")
            reader = self._choices[choice.index] = ChoiceReader(self, choice.index)
        if not reader.is_finished:
            delta = choice.delta or choice.message
            if delta is not None:
                reader.read(delta, out)
            if choice.logprobs is not None and choice.logprobs.content:
                out.append(LogprobsDelta(tuple(choice.logprobs.content), choice.index))
            if choice.finish_reason:
                reader.finish(choice.finish_reason, out)
        if choice.usage:
            # Moonshot (trap 151).
            self._count(choice.usage, out)

    def _count(self, usage: JSONDict, out: list[Event]) -> None:
        if usage != self._usage:
            self._usage = usage
            out.append(UsageUpdate(decode_usage(usage, self._tier)))

    def end(self, out: list[Event]) -> None:
        """Finishes what the vendor left open, exactly once (traps 121, 122)."""
        for choice in self._choices.values():
            choice.finish("", out)
        self._is_over = True
        out.append(End())

    def _break_off(self, out: list[Event]) -> None:
        for choice in self._choices.values():
            choice.finish("", out, is_cut_off=True)
        self._is_over = True
        out.append(Failed(truncated("its finish reason" if self._choices else "an answer")))

    def _fail(self, error: object, out: list[Event]) -> None:
        for choice in self._choices.values():
            choice.finish("", out, is_cut_off=True)
        self._is_over = True
        out.append(Failed(fault_in_stream(error)))


def decode_answer(body: bytes, restore: Restore, model: ModelSpec) -> list[Event]:
    """A complete answer as a stream that arrived at once."""
    decoder = ChatStreamDecoder(restore, model)
    if body.lstrip()[:5] == b"data:":
        # A vendor that streams to everybody.
        return decoder.feed(body) + decoder.close()
    chunk = parse(body)
    if chunk is None or not (chunk.choices or chunk.error or chunk.object == "error"):
        raise RemoteProtocolError("The upstream's answer is not a chat completion.")
    out: list[Event] = []
    for choice in chunk.choices or ():
        _number_calls(choice)
    decoder.read(chunk, out)
    if not (out and isinstance(out[-1], Failed)):
        decoder.end(out)
    return out


def _number_calls(choice: Choice) -> None:
    """Whole messages do not number their calls: their order does."""
    message = choice.message or choice.delta
    calls: list[CallDelta] = (message.tool_calls if message is not None else None) or []
    for position, call in enumerate(calls):
        call.index = position
