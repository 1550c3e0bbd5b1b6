"""What a simulated model answers, as canonical events: the same words on every wire.

A scenario is chosen by the model's name: `sim-gpt+tools`, `sim-claude+thinking+tokens=200`.
Without one the model echoes. Everything is deterministic.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from controlplane.kit import json
from controlplane.kit.json import JSONDict
from providers.protocols.canonical import (
    ArgumentsDelta,
    Base64,
    BlockEnd,
    BlockStart,
    CitationDelta,
    Event,
    Image,
    Refusal,
    Text,
    TextDelta,
    ToolCall,
)
from providers.simulator.asked import Ask, Script, ToolAsked, script_of
from providers.simulator.writing import MAX_TOKENS, Writer, cut, example, words

DEFAULT_TOKENS: Final = 24
MAX_CALLS: Final = 128
# Two, three and four bytes, combining marks, right-to-left, a joined family, a flag.
UNICODE: Final = "naïve Ω 漢字かな नमस्ते שלום e\u0301 👩‍👩‍👧‍👦 🇨🇭 𝔘𝔫𝔦 — “done”"
# A red pixel: the smallest honest PNG.
PIXEL: Final = base64.b64encode(
    bytes.fromhex(
        "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de0000000c49444154"
        "08d763f8cfc0000003010100c9fe92ef0000000049454e44ae426082"
    )
).decode()


def events(ask: Ask, extra: dict[str, str] | None = None) -> list[Event]:
    """The whole answer. `extra` options (from a header or the control API) join the name's."""
    script = script_of(ask.model)
    options = {**script.options, **(extra or {})}
    script = Script(script.base, options)
    name = next((option for option in options if option in SCENARIOS), "")
    if not name:
        name = _natural(ask)
    writer = Writer(ask, script)
    SCENARIOS[name].play(writer)
    return writer.finished() if ask.choices == 1 else _with_choices(writer)


def _with_choices(writer: Writer) -> list[Event]:
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


@dataclass(frozen=True, slots=True)
class Scenario:
    summary: str
    play: Callable[[Writer], None]


def _tool(writer: Writer, position: int) -> ToolAsked:
    tools = writer.ask.tools or (ToolAsked("get_weather", _WEATHER), ToolAsked("get_time", _TIME))
    if writer.ask.forced_tool:
        for tool in tools:
            if tool.name == writer.ask.forced_tool:
                return tool
    return tools[position % len(tools)]


_WEATHER: Final[JSONDict] = {"type": "object", "properties": {"city": {"type": "string"}}}
_TIME: Final[JSONDict] = {"type": "object", "properties": {"zone": {"type": "string"}}}


def _echo(writer: Writer) -> None:
    images = "".join(f" [image {kind}, {size} bytes]" for kind, size in writer.ask.images)
    said = writer.ask.prompt or "nothing"
    text = f"You said: {said[:2000]}{images}"
    writer.text(cut(text, max(4, len(text) // 6)))


def _text(writer: Writer) -> None:
    count = int(min(writer.script.number("tokens", DEFAULT_TOKENS), MAX_TOKENS))
    writer.text(words(count))


def _input_of(tool: ToolAsked) -> str:
    return "simulated input" if tool.kind == "custom" else json.dumps_str(example(tool.schema))


def _call_one(writer: Writer) -> None:
    tool = _tool(writer, 0)
    writer.call(tool, _input_of(tool))


def _call_many(writer: Writer) -> None:
    writer.text(["Let me", " look."])
    for position in range(int(min(writer.script.number("calls", 2), MAX_CALLS))):
        tool = _tool(writer, position)
        writer.call(tool, _input_of(tool))


def _call_interleaved(writer: Writer) -> None:
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


def _loop(writer: Writer) -> None:
    """Calls a tool until a result is there, then answers: a whole agent turn."""
    if writer.ask.has_tool_results:
        writer.text(["The tool", " has", " answered."])
    else:
        _call_one(writer)


def _broken_arguments(writer: Writer) -> None:
    index = writer.start_call(_tool(writer, 0))
    writer.events += [ArgumentsDelta(index, '{"city": "Ber'), BlockEnd(index)]
    writer.output += 2


def _thinking(writer: Writer) -> None:
    writer.thinking(["First", " I consider", " the question."])
    writer.text(["Here", " is", " the answer."])


def _thinking_then_tool(writer: Writer) -> None:
    writer.thinking(["A tool", " is needed."])
    _call_one(writer)


def _nothing(writer: Writer) -> None:
    """No block at all: `finished` closes the answer."""


def _redacted(writer: Writer) -> None:
    writer.redacted()
    writer.text(["Done."])


def _call_without_arguments(writer: Writer) -> None:
    writer.call(_tool(writer, 0), "")


def _json(writer: Writer) -> None:
    schema = writer.ask.response_schema
    value = example(schema) if schema is not None else {"answer": "simulated"}
    writer.text(cut(json.dumps_str(value), 5))


def _refusal(writer: Writer) -> None:
    index = writer.next_index()
    writer.events.append(BlockStart(index, Refusal(text="")))
    writer.events += [TextDelta(index, piece) for piece in ("I can't", " help", " with that.")]
    writer.events.append(BlockEnd(index))
    writer.output += 3
    writer.reason = "refusal"


def _filter(writer: Writer) -> None:
    writer.text(["Some", " of"])
    writer.reason = "content_filter"


def _length(writer: Writer) -> None:
    limit = writer.ask.max_tokens or 8
    writer.text(words(limit + 8) if writer.ask.max_tokens else words(limit))
    writer.reason = "length"


def _cached(writer: Writer) -> None:
    prompt = max(1, math.ceil(writer.ask.prompt_bytes / 4))
    writer.cached = int(writer.script.number("read", prompt // 2))
    writer.cache_written = int(writer.script.number("write", prompt // 4))
    writer.cache_written_1h = int(writer.script.number("write1h", 0))
    writer.text(["From", " the cache."])


def _citation(writer: Writer) -> None:
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


def _image(writer: Writer) -> None:
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
