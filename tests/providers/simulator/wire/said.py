"""What every scenario says, in no vendor's words: written by hand, compared on every wire."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from providers.simulator.scenarios import UNICODE

WEATHER: dict[str, Any] = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
}
TIME: dict[str, Any] = {
    "type": "object",
    "properties": {"zone": {"type": "string"}},
    "required": ["zone"],
}
_GET_WEATHER = ("get_weather", {"city": "simulated"})
_GET_TIME = ("get_time", {"zone": "simulated"})


@dataclass(frozen=True)
class Said:
    """What to send "hello" and two tools for. `reason` is ours: stop, tool_use, length …"""

    text: str = ""
    thoughts: str = ""
    calls: tuple[tuple[str, Any], ...] = ()
    reason: str = "stop"


SAID = {
    "echo": Said("You said: hello"),
    "text": Said("the quick answer is that", reason="stop"),
    "unicode": Said(UNICODE),
    "empty": Said(),
    "tool": Said(calls=(_GET_WEATHER,), reason="tool_use"),
    "tools": Said("Let me look.", calls=(_GET_WEATHER, _GET_TIME), reason="tool_use"),
    "interleaved": Said(calls=(_GET_WEATHER, _GET_TIME), reason="tool_use"),
    "loop": Said(calls=(_GET_WEATHER,), reason="tool_use"),
    "noargs": Said(calls=(("get_weather", {}),), reason="tool_use"),
    "badargs": Said(calls=(("get_weather", None),), reason="tool_use"),
    "thinking": Said("Here is the answer.", "First I consider the question."),
    "thinktool": Said(thoughts="A tool is needed.", calls=(_GET_WEATHER,), reason="tool_use"),
    "redacted": Said("Done."),
    "json": Said('{"answer":"simulated"}'),
    "refusal": Said("I can't help with that.", reason="refusal"),
    "filter": Said("Some of", reason="content_filter"),
    "length": Said("the quick answer is that a simulated model", reason="length"),
    "cached": Said("From the cache."),
    "citation": Said("As the source says."),
    "image": Said("Here it is:"),
}
NAMES = sorted(SAID)


def model(base: str, scenario: str) -> str:
    """A model's name that plays the scenario."""
    return f"{base}+{scenario}" + ("+tokens=5" if scenario == "text" else "")
