"""What a simulated model answers, as canonical events: the same words on every wire.

A scenario is chosen by the model's name: `sim-gpt+tools`, `sim-claude+thinking+tokens=200`.
Without one the model echoes. Everything is deterministic.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import msgspec

from controlplane.kit import json
from controlplane.kit.json import JSONDict
from providers.protocols.canonical import (
    ArgumentsDelta,
    Base64,
    BlockEnd,
    BlockStart,
    CitationDelta,
    End,
    Event,
    Finish,
    Image,
    LogprobsDelta,
    Refusal,
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

DEFAULT_TOKENS: Final = 24
MAX_TOKENS: Final = 200_000
MAX_CALLS: Final = 128
_SENTENCE: Final = (
    "the quick answer is that a simulated model says the same thing every time so that a "
    "test can tell when anything between it and the reader has changed even by one letter"
)
_WORDS: Final = tuple(_SENTENCE.split(" "))
# Two, three and four bytes, combining marks, right-to-left, a joined family, a flag.
UNICODE: Final = "naïve Ω 漢字かな नमस्ते שלום e\u0301 👩‍👩‍👧‍👦 🇨🇭 𝔘𝔫𝔦 — “done”"
# A red pixel: the smallest honest PNG.
PIXEL: Final = base64.b64encode(
    bytes.fromhex(
        "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de0000000c49444154"
        "08d763f8cfc0000003010100c9fe92ef0000000049454e44ae426082"
    )
).decode()


@dataclass(frozen=True, slots=True)
class ToolAsked:
    """`schema` of a custom tool means nothing: its input is free text."""

    name: str
    schema: JSONDict = field(default_factory=dict)
    kind: Literal["function", "custom"] = "function"
    namespace: str | None = None


@dataclass(slots=True)
class Ask:
    """What a wire handler read from a request, in no dialect."""

    model: str
    prompt: str = ""
    prompt_bytes: int = 0
    tools: tuple[ToolAsked, ...] = ()
    has_tool_results: bool = False
    forced_tool: str = ""
    is_tool_required: bool = False
    are_tools_off: bool = False
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    response_schema: JSONDict | None = None
    wants_json: bool = False
    images: tuple[tuple[str, int], ...] = ()
    wants_thinking: bool = False
    choices: int = 1
    # How many alternatives per token, where log probabilities are asked for at all.
    logprobs: int | None = None
    # All that applies: from the model's name, a header, the schedule. Filled in by the caller.
    options: Mapping[str, str] = field(default_factory=dict)
    # Told the whole answer when it has been rendered, by wires whose vendor keeps answers.
    on_answer: Callable[[JSONDict], None] | None = None
    # The slug under which signatures are made, and the id for this answer.
    protocol: str = ""
    id: str = "sim"
    call_prefix: str = "call_"
    created: int = 0


@dataclass(frozen=True, slots=True)
class Script:
    """The options in a model's name: `sim-gpt+tools+tokens=50` is {"tools": "", "tokens": "50"}."""

    base: str
    options: dict[str, str]

    def number(self, name: str, default: float) -> float:
        try:
            value = float(self.options.get(name, "") or default)
        except ValueError:
            return default
        return value if math.isfinite(value) and value >= 0 else default


def script_of(model: str) -> Script:
    base, *rest = model.split("+")
    options: dict[str, str] = {}
    for option in rest:
        name, _, value = option.partition("=")
        options[name] = value
    return Script(base, options)


def events(ask: Ask, extra: dict[str, str] | None = None) -> list[Event]:
    """The whole answer. `extra` options (from a header or the control API) join the name's."""
    script = script_of(ask.model)
    options = {**script.options, **(extra or {})}
    script = Script(script.base, options)
    name = next((option for option in options if option in SCENARIOS), "")
    if not name:
        name = _natural(ask)
    writer = _Writer(ask, script)
    SCENARIOS[name].play(writer)
    return writer.finished() if ask.choices == 1 else _with_choices(writer)


def _with_choices(writer: _Writer) -> list[Event]:
    """The same answer `n` times, in turns, as when choices are sampled side by side."""
    start, *body = writer.events
    step = writer.next_index()
    mixed: list[Event] = [start]
    for event in body:
        mixed += [_in_choice(event, choice, step) for choice in range(writer.ask.choices)]
    finish, usage, end = writer.ending()
    mixed += [_in_choice(finish, choice, step) for choice in range(writer.ask.choices)]
    return [*mixed, usage, end]


def _in_choice(event: Any, choice: int, step: int) -> Any:
    """Blocks and calls of later choices get numbers and ids of their own."""
    if choice == 0:
        return event
    fields: dict[str, Any] = {"choice": choice}
    if hasattr(event, "index"):
        fields["index"] = event.index + choice * step
    block = getattr(event, "block", None)
    if isinstance(block, ToolCall):
        fields["block"] = msgspec.structs.replace(block, id=f"{block.id}_{choice}")
    return msgspec.structs.replace(event, **fields)


def _natural(ask: Ask) -> str:
    """What a model would do with this request when the name says nothing."""
    may_call = bool(ask.tools) and not ask.has_tool_results and not ask.are_tools_off
    if may_call and (ask.forced_tool or ask.is_tool_required):
        return "tool"
    if ask.response_schema is not None or ask.wants_json:
        return "json"
    return "thinking" if ask.wants_thinking else "echo"


class _Writer:
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


@dataclass(frozen=True, slots=True)
class Scenario:
    summary: str
    play: Callable[[_Writer], None]


def _tool(writer: _Writer, position: int) -> ToolAsked:
    tools = writer.ask.tools or (ToolAsked("get_weather", _WEATHER), ToolAsked("get_time", _TIME))
    if writer.ask.forced_tool:
        for tool in tools:
            if tool.name == writer.ask.forced_tool:
                return tool
    return tools[position % len(tools)]


_WEATHER: Final[JSONDict] = {"type": "object", "properties": {"city": {"type": "string"}}}
_TIME: Final[JSONDict] = {"type": "object", "properties": {"zone": {"type": "string"}}}


def _echo(writer: _Writer) -> None:
    images = "".join(f" [image {kind}, {size} bytes]" for kind, size in writer.ask.images)
    said = writer.ask.prompt or "nothing"
    text = f"You said: {said[:2000]}{images}"
    writer.text(cut(text, max(4, len(text) // 6)))


def _text(writer: _Writer) -> None:
    count = int(min(writer.script.number("tokens", DEFAULT_TOKENS), MAX_TOKENS))
    writer.text(words(count))


def _input_of(tool: ToolAsked) -> str:
    return "simulated input" if tool.kind == "custom" else json.dumps_str(example(tool.schema))


def _call_one(writer: _Writer) -> None:
    tool = _tool(writer, 0)
    writer.call(tool, _input_of(tool))


def _call_many(writer: _Writer) -> None:
    writer.text(["Let me", " look."])
    for position in range(int(min(writer.script.number("calls", 2), MAX_CALLS))):
        tool = _tool(writer, position)
        writer.call(tool, _input_of(tool))


def _call_interleaved(writer: _Writer) -> None:
    """Two calls whose arguments arrive in turns."""
    tools = [_tool(writer, 0), _tool(writer, 1)]
    opened = [writer.start_call(tool) for tool in tools]
    texts = [cut(_input_of(tool), 3) for tool in tools]
    for turn in range(3):
        for index, pieces in zip(opened, texts, strict=True):
            if turn < len(pieces):
                writer.output += 1
                writer.events.append(ArgumentsDelta(index, pieces[turn]))
    writer.events += [BlockEnd(index) for index in opened]


def _loop(writer: _Writer) -> None:
    """Calls a tool until a result is there, then answers: a whole agent turn."""
    if writer.ask.has_tool_results:
        writer.text(["The tool", " has", " answered."])
    else:
        _call_one(writer)


def _broken_arguments(writer: _Writer) -> None:
    index = writer.start_call(_tool(writer, 0))
    writer.events += [ArgumentsDelta(index, '{"city": "Ber'), BlockEnd(index)]
    writer.output += 2


def _thinking(writer: _Writer) -> None:
    writer.thinking(["First", " I consider", " the question."])
    writer.text(["Here", " is", " the answer."])


def _thinking_then_tool(writer: _Writer) -> None:
    writer.thinking(["A tool", " is needed."])
    _call_one(writer)


def _nothing(writer: _Writer) -> None:
    """No block at all: `finished` closes the answer."""


def _redacted(writer: _Writer) -> None:
    writer.redacted()
    writer.text(["Done."])


def _call_without_arguments(writer: _Writer) -> None:
    writer.call(_tool(writer, 0), "")


def _json(writer: _Writer) -> None:
    schema = writer.ask.response_schema
    value = example(schema) if schema is not None else {"answer": "simulated"}
    writer.text(cut(json.dumps_str(value), 5))


def _refusal(writer: _Writer) -> None:
    index = writer.next_index()
    writer.events.append(BlockStart(index, Refusal(text="")))
    writer.events += [TextDelta(index, piece) for piece in ("I can't", " help", " with that.")]
    writer.events.append(BlockEnd(index))
    writer.output += 3
    writer.reason = "refusal"


def _filter(writer: _Writer) -> None:
    writer.text(["Some", " of"])
    writer.reason = "content_filter"


def _length(writer: _Writer) -> None:
    limit = writer.ask.max_tokens or 8
    writer.text(words(limit + 8) if writer.ask.max_tokens else words(limit))
    writer.reason = "length"


def _cached(writer: _Writer) -> None:
    prompt = max(1, math.ceil(writer.ask.prompt_bytes / 4))
    writer.cached = int(writer.script.number("read", prompt // 2))
    writer.cache_written = int(writer.script.number("write", prompt // 4))
    writer.cache_written_1h = int(writer.script.number("write1h", 0))
    writer.text(["From", " the cache."])


def _citation(writer: _Writer) -> None:
    index = writer.next_index()
    writer.events.append(BlockStart(index, Text(text="")))
    writer.events.append(TextDelta(index, "As the source says."))
    citation: JSONDict = {
        "type": "url_citation",
        "url": "https://example.com/source",
        "title": "Source",
        "start_index": 0,
        "end_index": 19,
    }
    writer.events += [CitationDelta(index, citation), BlockEnd(index)]
    writer.output += 5


def _image(writer: _Writer) -> None:
    writer.text(["Here", " it is:"])
    index = writer.next_index()
    block = Image(source=Base64(media_type="image/png", data=PIXEL))
    writer.events += [BlockStart(index, block), BlockEnd(index)]
    writer.output += 64


SCENARIOS: Final[dict[str, Scenario]] = {
    "echo": Scenario("says what you said, and what images it saw", _echo),
    "text": Scenario("`tokens=N` words (24)", _text),
    "unicode": Scenario(
        "two to four byte characters, joined emoji, right to left",
        lambda writer: writer.text(cut(UNICODE, 12)),
    ),
    "empty": Scenario("an answer without any content", _nothing),
    "tool": Scenario("calls the first (or the forced) tool", _call_one),
    "tools": Scenario("text, then `calls=N` calls (2)", _call_many),
    "interleaved": Scenario("two calls whose arguments arrive in turns", _call_interleaved),
    "loop": Scenario("calls a tool, and answers once it sees a result", _loop),
    "noargs": Scenario("a call without any arguments", _call_without_arguments),
    "badargs": Scenario("a call whose arguments are cut JSON", _broken_arguments),
    "thinking": Scenario("signed thoughts, then an answer", _thinking),
    "thinktool": Scenario("signed thoughts, then a call", _thinking_then_tool),
    "redacted": Scenario(
        "redacted thoughts, then an answer",
        _redacted,
    ),
    "json": Scenario("a value that satisfies the asked schema", _json),
    "refusal": Scenario("a refusal in the vendor's own form", _refusal),
    "filter": Scenario("stopped by a content filter", _filter),
    "length": Scenario("stopped by the token limit", _length),
    "cached": Scenario("`read=N`, `write=N`, `write1h=N` cached tokens", _cached),
    "citation": Scenario("a text with a source", _citation),
    "image": Scenario("text and a one-pixel picture", _image),
}
