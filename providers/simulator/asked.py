"""What a simulated model was asked, in no dialect, and what its name asks for besides."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from controlplane.kit.json import JSONDict


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
