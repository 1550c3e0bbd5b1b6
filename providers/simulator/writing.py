"""An answer as it is written: canonical events with right indexes, and what they cost."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Final

from controlplane.kit.json import JSONDict
from providers.protocols.canonical import (
    ArgumentsDelta,
    BlockEnd,
    BlockStart,
    End,
    Event,
    Finish,
    LogprobsDelta,
    Signature,
    SignatureDelta,
    Start,
    StopReason,
    Text,
    TextDelta,
    Thinking,
    ThinkingDelta,
    ToolCall,
    Usage,
    UsageUpdate,
)
from providers.simulator import proofs
from providers.simulator.asked import Ask, Script, ToolAsked

MAX_TOKENS: Final = 200_000
_SENTENCE: Final = (
    "the quick answer is that a simulated model says the same thing every time so that a "
    "test can tell when anything between it and the reader has changed even by one letter"
)
_WORDS: Final = tuple(_SENTENCE.split(" "))


class Writer:
    """Builds events with right indexes, and counts what it wrote."""

    def __init__(self, ask: Ask, script: Script) -> None:
        self.ask = ask
        self.script = script
        self.events: list[Event] = [Start(ask.id, script.base, ask.created)]
        self.reason: StopReason = "stop"
        self.raw_stop_sequence: str | None = None
        self.cached = 0
        self.written = 0
        self.cache_written = 0
        self.cache_written_1h = 0
        self.output = 0
        self.reasoning = 0
        self._index = 0
        self._calls = 0

    def next_index(self) -> int:
        self._index += 1
        return self._index - 1

    def text(self, pieces: Iterator[str] | list[str]) -> None:
        index = self.next_index()
        self.events.append(BlockStart(index, Text(text="")))
        top = self.ask.logprobs
        for piece in self._limited(pieces):
            self.events.append(TextDelta(index, piece))
            if top is not None:
                self.events.append(LogprobsDelta((logprob(piece, self.output, top),)))
        self.events.append(BlockEnd(index))

    def _limited(self, pieces: Iterator[str] | list[str]) -> Iterator[str]:
        limit = self.ask.max_tokens if self.ask.max_tokens is not None else MAX_TOKENS
        said = ""
        for piece in pieces:
            if self.output >= limit:
                self.reason = "length"
                return
            said += piece
            for stop in self.ask.stop:
                if stop and stop in said:
                    self.reason = "stop_sequence"
                    self.raw_stop_sequence = stop
                    keep = len(piece) - (len(said) - said.index(stop))
                    if keep > 0:
                        yield piece[:keep]
                    return
            self.output += 1
            yield piece

    def thinking(self, pieces: list[str], *, is_signed: bool = True) -> None:
        index = self.next_index()
        self.events.append(BlockStart(index, Thinking()))
        for piece in pieces:
            self.output += 1
            self.reasoning += 1
            self.events.append(ThinkingDelta(index, piece))
        if is_signed:
            self.events.append(SignatureDelta(index, self.signature("".join(pieces))))
        self.events.append(BlockEnd(index))

    def redacted(self) -> None:
        index = self.next_index()
        block = Thinking(redacted=True, signature=self.signature("redacted"))
        self.events += [BlockStart(index, block), BlockEnd(index)]
        self.output += 8
        self.reasoning += 8

    def signature(self, text: str) -> Signature:
        return Signature(value=proofs.make(self.script.base, text), protocol=self.ask.protocol)

    def call(self, tool: ToolAsked, text: str, *, pieces: int = 4) -> int:
        index = self.start_call(tool)
        for piece in cut(text, pieces):
            self.output += 1
            self.events.append(ArgumentsDelta(index, piece))
        self.events.append(BlockEnd(index))
        return index

    def start_call(self, tool: ToolAsked) -> int:
        index = self.next_index()
        self._calls += 1
        call = ToolCall(
            id=f"{self.ask.call_prefix}{self.ask.id}_{self._calls}",
            name=tool.name,
            arguments="",
            kind=tool.kind,
            namespace=tool.namespace,
        )
        self.events.append(BlockStart(index, call))
        self.reason = "tool_use"
        return index

    def finished(self) -> list[Event]:
        return [*self.events, *self.ending()]

    def ending(self) -> tuple[Finish, UsageUpdate, End]:
        """Why it stopped, and what it cost: each choice is paid for, the prompt once."""
        prompt = max(1, math.ceil(self.ask.prompt_bytes / 4))
        cached = min(self.cached, prompt)
        written = min(self.cache_written, prompt - cached)
        usage = Usage(
            input=prompt - cached - written,
            cache_read=cached,
            cache_write=written,
            cache_write_1h=min(self.cache_written_1h, written),
            output=self.output * self.ask.choices,
            reasoning=self.reasoning * self.ask.choices,
        )
        finish = Finish(self.reason, stop_sequence=self.raw_stop_sequence)
        return finish, UsageUpdate(usage), End()


def logprob(token: str, number: int, top: int) -> JSONDict:
    """OpenAI's entry for one token: likely, a little less likely with every other one."""
    entry = {"token": token, "logprob": -0.125 * (number % 4), "bytes": list(token.encode())}
    others = [
        {
            "token": f"{token}{rank}",
            "logprob": -1.5 - rank,
            "bytes": list(f"{token}{rank}".encode()),
        }
        for rank in range(1, top)
    ]
    return {**entry, "top_logprobs": [entry, *others] if top else []}


def cut(text: str, pieces: int) -> list[str]:
    size = max(1, math.ceil(len(text) / max(1, pieces)))
    return [text[start : start + size] for start in range(0, len(text), size)]


def words(count: int) -> Iterator[str]:
    for number in range(count):
        word = _WORDS[number % len(_WORDS)]
        yield word if number == 0 else f" {word}"


def example(schema: JSONDict, depth: int = 0) -> Any:
    """A value that satisfies the schema's own words: what a careful model would answer."""
    if "const" in schema:
        return schema["const"]
    if schema.get("enum"):
        return schema["enum"][0]
    for union in ("anyOf", "oneOf"):
        if schema.get(union):
            return example(schema[union][0], depth + 1)
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = next((name for name in kind if name != "null"), "null")
    match str(kind or ("object" if "properties" in schema else "string")).lower():
        case "object":
            if depth > 8:
                return {}
            properties = schema.get("properties") or {}
            return {name: example(inner, depth + 1) for name, inner in properties.items()}
        case "array":
            count = max(1, int(schema.get("minItems", 1)))
            item = schema.get("items")
            return [example(item if isinstance(item, dict) else {}, depth + 1)] * min(count, 8)
        case "integer":
            return int(schema.get("minimum", 7))
        case "number":
            return float(schema.get("minimum", 7.5))
        case "boolean":
            return True
        case "null":
            return None
        case _:
            return "simulated"
