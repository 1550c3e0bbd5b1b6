"""What vendors answer: each row is played by every simulated vendor and read by every SDK.

The events come from the simulation's own scenarios; a row says which, and what was asked.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from providers.protocols.canonical import (
    Request,
    ResponseFormat,
    Sampling,
)
from tests.conformance.request_scenarios import CLOCK, STRICT, TOOL, ask, user


@dataclass(frozen=True, slots=True)
class ReplyScenario:
    """`options` chooses the simulation's scenario; `changes` are fields of its Ask."""

    group: str
    summary: str
    options: dict[str, str]
    request: Request
    changes: dict[str, Any] = field(default_factory=dict)
    # Where the stream breaks: "error" (the vendor says so), "cut" (between two events of the
    # wire), "torn" (in the middle of one).
    breaks: str = ""


_PLAIN: Final = ask(user("Weather in Bern?"), tools=(TOOL, CLOCK))


def _rows() -> dict[str, ReplyScenario]:
    rows: dict[str, ReplyScenario] = {}

    def row(name: str, group: str, summary: str, *options: str, **fields: Any) -> None:
        chosen = dict(option.partition("=")[::2] for option in options)
        request = fields.pop("request", _PLAIN)
        rows[name] = ReplyScenario(group, summary, chosen, request, **fields)

    row("text", "text", "a few words", "text")
    row("empty", "text", "nothing at all", "empty")
    row("unicode", "text", "every width of character", "unicode")
    row("long", "text", "three hundred words", "text", "tokens=300", changes={"max_tokens": None})
    row(
        "json",
        "text",
        "JSON of the asked schema",
        "json",
        request=ask(
            response_format=ResponseFormat(kind="json_schema", name="v", schema=STRICT, strict=True)
        ),
    )
    row("choices", "text", "two answers side by side", "text", request=ask(sampling=Sampling(n=2)))
    row("citation", "text", "a text with its source", "citation")
    row("image", "text", "a text and a picture", "image")
    row("tool", "calls", "one call", "tool")
    row("tools", "calls", "text and three calls", "tools", "calls=3")
    row("interleaved", "calls", "two calls whose arguments come in turns", "interleaved")
    row("noargs", "calls", "a call without any arguments", "noargs")
    row("badargs", "calls", "a call whose arguments are cut JSON", "badargs")
    row("thinking", "reasoning", "signed thoughts, then text", "thinking")
    row("thinktool", "reasoning", "signed thoughts, then a call", "thinktool")
    row("redacted", "reasoning", "thoughts that nobody may read", "redacted")
    row("refusal", "endings", "the model refuses", "refusal")
    row("filter", "endings", "stopped by a content filter", "filter")
    row("length", "endings", "stopped by the limit", "length", changes={"max_tokens": 5})
    row(
        "stop",
        "endings",
        "stopped by a stop sequence",
        "text",
        request=ask(sampling=Sampling(stop=("model",))),
        changes={"stop": ("model",)},
    )
    row(
        "cached",
        "endings",
        "cached tokens in the usage",
        "cached",
        "read=10",
        "write=6",
        "write1h=2",
    )
    row("error", "broken", "the vendor reports an error in mid-stream", "tools", breaks="error")
    row("cut", "broken", "the stream ends between two events", "tools", breaks="cut")
    row("torn", "broken", "the stream ends inside an event", "tools", breaks="torn")
    return rows


REPLIES: Final = _rows()
WHOLE: Final = tuple(name for name, row in REPLIES.items() if not row.breaks)
BROKEN: Final = tuple(name for name, row in REPLIES.items() if row.breaks)
