"""The questions, in no dialect, and what a right answer looks like. Pure.

A case says what to ask and judges the events that come back. It must hold for any model, so it
judges structure (a call with arguments that parse), never wit.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from controlplane.kit import json
from controlplane.kit.json import JSONDict
from providers.protocols.canonical import (
    ArgumentsDelta,
    Base64,
    BlockStart,
    Event,
    Failed,
    Finish,
    Image,
    Message,
    Reasoning,
    Refusal,
    Request,
    ResponseFormat,
    Sampling,
    SystemText,
    Text,
    TextDelta,
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
    UsageUpdate,
)


class Wrong(Exception):
    """Why an answer is not right, in one sentence."""


@dataclass(frozen=True, slots=True)
class Case:
    """`feature` names the capability that passing proves; empty = plain protocol duty."""

    name: str
    summary: str
    request: Request
    judge: Callable[[Sequence[Event]], None]
    feature: str = ""
    # The request must be refused with a status in this set.
    refused_with: frozenset[int] = frozenset()
    wrong_key: bool = False
    wrong_model: bool = False


def text_of(events: Sequence[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, TextDelta))


def finish_of(events: Sequence[Event]) -> Finish:
    found = [event for event in events if isinstance(event, Finish)]
    if len(found) != 1:
        raise Wrong(f"{len(found)} finish reasons instead of one")
    return found[0]


def _whole(events: Sequence[Event]) -> None:
    if events and isinstance(events[-1], Failed):
        raise Wrong(f"the answer failed: {events[-1].fault.message}")
    finish = finish_of(events)
    if finish.reason == "error":
        raise Wrong(f"an unknown finish reason {finish.raw!r}")


def _says_something(events: Sequence[Event]) -> None:
    _whole(events)
    refused = any(isinstance(e, BlockStart) and isinstance(e.block, Refusal) for e in events)
    if not text_of(events).strip() and not refused:
        raise Wrong("no text")


def _says_and_counts(events: Sequence[Event]) -> None:
    _says_something(events)
    usages = [event.usage for event in events if isinstance(event, UsageUpdate)]
    if not usages:
        raise Wrong("no usage was reported")
    if usages[-1].prompt <= 0 or usages[-1].output <= 0:
        raise Wrong(f"usage is {usages[-1].prompt} in, {usages[-1].output} out")


def _streams(events: Sequence[Event]) -> None:
    _says_and_counts(events)
    if sum(isinstance(event, TextDelta) for event in events) < 2:
        raise Wrong("the text came in one piece: this is no stream")


def _is_cut_by_length(events: Sequence[Event]) -> None:
    _whole(events)
    if finish_of(events).reason != "length":
        raise Wrong(f"finish reason {finish_of(events).reason!r} instead of length")


def _calls(events: Sequence[Event]) -> list[tuple[ToolCall, str]]:
    _whole(events)
    pieces: dict[int, list[str]] = {}
    calls: dict[int, ToolCall] = {}
    for event in events:
        if isinstance(event, BlockStart) and isinstance(event.block, ToolCall):
            calls[event.index] = event.block
            pieces[event.index] = []
        elif isinstance(event, ArgumentsDelta):
            pieces[event.index].append(event.fragment)
    return [(call, "".join(pieces[index])) for index, call in calls.items()]


def _calls_the_tool(events: Sequence[Event]) -> None:
    calls = _calls(events)
    if not calls:
        raise Wrong("no tool was called although one was forced")
    for call, arguments in calls:
        if call.name != "get_weather":
            raise Wrong(f"called {call.name!r}, which was not declared")
        if not call.id:
            raise Wrong("a call without an id")
        try:
            json.loads_dict(arguments or "{}")
        except json.InvalidJSON:
            raise Wrong("the arguments are not a JSON object") from None
    if finish_of(events).reason != "tool_use":
        raise Wrong(f"finish reason {finish_of(events).reason!r} beside a call")


def _matches_schema(events: Sequence[Event]) -> None:
    _whole(events)
    try:
        value = json.loads_dict(text_of(events))
    except json.InvalidJSON:
        raise Wrong("the text is not a JSON object") from None
    if set(value) != {"city", "degrees"} or not isinstance(value["degrees"], int):
        raise Wrong(f"the object has {sorted(value)}: not what the schema says")


def _thinks(events: Sequence[Event]) -> None:
    _says_something(events)
    thought = any(isinstance(e, BlockStart) and isinstance(e.block, Thinking) for e in events)
    counted = any(isinstance(e, UsageUpdate) and e.usage.reasoning for e in events)
    if not thought and not counted:
        raise Wrong("neither thoughts nor reasoning tokens")


_SCHEMA: Final[JSONDict] = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "degrees": {"type": "integer"}},
    "required": ["city", "degrees"],
    "additionalProperties": False,
}
_WEATHER: Final = Tool(
    name="get_weather",
    description="The weather in a city.",
    schema={
        "type": "object",
        "properties": {"city": {"type": "string", "description": "Name of the city"}},
        "required": ["city"],
    },
)


def _png(size: int = 64) -> str:
    """A plain blue square, made here so that no file has to travel along."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return len(data).to_bytes(4, "big") + body + zlib.crc32(body).to_bytes(4, "big")

    header = size.to_bytes(4, "big") * 2 + bytes((8, 2, 0, 0, 0))
    pixels = (b"\x00" + b"\x20\x40\xff" * size) * size
    raw = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(pixels))
    return base64.b64encode(raw + chunk(b"IEND", b"")).decode()


LIMIT: Final = 200
# Long enough that an answer which obeys is cut by a small limit, whoever answers.
_LONG: Final = "Repeat this text word for word: " + " ".join(
    f"line {number} says that a stream is more than one piece." for number in range(1, 25)
)


def _ask(model: str, *messages: Message, stream: bool = False, **more: Any) -> Request:
    """`more` are fields of Request."""
    more.setdefault("sampling", Sampling(max_output_tokens=LIMIT))
    return Request(
        model=model,
        dialect="canonical",
        messages=messages,
        stream=stream,
        include_usage=stream,
        **more,
    )


def _user(*parts: Text | Image) -> Message:
    return Message(role="user", parts=parts)


def cases(model: str) -> list[Case]:
    """Every case for this model, cheapest first."""
    ask = partial(_ask, model)
    hello = _user(Text(text="Say hello in one short sentence."))
    weather = _user(Text(text="What is the weather in Bern? Use the tool."))
    called = Message(
        role="assistant",
        parts=(ToolCall(id="call_1", name="get_weather", arguments='{"city": "Bern"}'),),
    )
    result = Message(
        role="tool",
        parts=(
            ToolResult(call_id="call_1", name="get_weather", content=(Text(text="12 degrees"),)),
        ),
    )
    forced: dict[str, Any] = {
        "tools": (_WEATHER,),
        "tool_choice": ToolChoice(mode="named", names=("get_weather",)),
    }
    schema = ResponseFormat(kind="json_schema", name="weather", schema=_SCHEMA, strict=True)
    about = _user(Text(text="Bern has 12 degrees. Answer as JSON with city and degrees."))
    picture = Image(source=Base64(media_type="image/png", data=_png()))
    many = _user(Text(text=_LONG))
    short = Sampling(max_output_tokens=16)
    return [
        Case("text", "answers in text, with usage", ask(hello), _says_and_counts),
        Case(
            "stream",
            "streams text, with usage",
            ask(many, stream=True),
            _streams,
            "streaming",
        ),
        Case(
            "system",
            "takes a system prompt",
            ask(hello, system=(SystemText(text="You are terse."),)),
            _says_something,
        ),
        Case(
            "turns",
            "takes a conversation",
            ask(
                hello,
                Message(role="assistant", parts=(Text(text="Hello."),)),
                _user(Text(text="And again.")),
            ),
            _says_something,
        ),
        Case(
            "length",
            "stops at the token limit and says so",
            ask(many, sampling=short),
            _is_cut_by_length,
        ),
        Case(
            "tool",
            "calls a forced tool",
            ask(weather, **forced),
            _calls_the_tool,
            "functions",
        ),
        Case(
            "tool-stream",
            "calls a forced tool in a stream",
            ask(weather, stream=True, **forced),
            _calls_the_tool,
            "functions",
        ),
        Case(
            "tool-result",
            "goes on after a tool's result",
            ask(weather, called, result, tools=(_WEATHER,)),
            _says_something,
            "functions",
        ),
        Case(
            "tool-error",
            "takes a tool's failure",
            ask(
                weather,
                called,
                Message(
                    role="tool",
                    parts=(
                        ToolResult(
                            call_id="call_1", content=(Text(text="no such city"),), is_error=True
                        ),
                    ),
                ),
                tools=(_WEATHER,),
            ),
            _says_something,
            "functions",
        ),
        Case(
            "json-schema",
            "keeps to a JSON schema",
            ask(about, response_format=schema),
            _matches_schema,
            "structured_output",
        ),
        Case(
            "image",
            "takes a picture",
            ask(_user(Text(text="Which colour is this?"), picture)),
            _says_something,
            "vision",
        ),
        Case(
            "reasoning",
            "thinks when asked to",
            ask(
                hello,
                reasoning=Reasoning(level="low", show=True),
                sampling=Sampling(max_output_tokens=4000),
            ),
            _thinks,
            "reasoning",
        ),
        Case(
            "unknown-model",
            "refuses an unknown model",
            ask(hello),
            _says_something,
            refused_with=frozenset({400, 404}),
            wrong_model=True,
        ),
        Case(
            "wrong-key",
            "refuses a wrong key",
            ask(hello),
            _says_something,
            refused_with=frozenset({400, 401, 403}),
            wrong_key=True,
        ),
    ]
