"""Reasoning levels and token budgets: one table, one clamp."""

from __future__ import annotations

from typing import Final

from providers.protocols.canonical import LEVELS, Level, ModelSpec, Reasoning

# Tokens to think with when a wire needs a number.
BUDGETS: Final[dict[Level, int]] = {
    "off": 0,
    "minimal": 1024,
    "low": 2048,
    "medium": 8192,
    "high": 16384,
    "xhigh": 16384,
    "max": 16384,
}

# Upper bounds when a client sends a number and the wire needs a level.
_THRESHOLDS: Final[tuple[tuple[int, Level], ...]] = (
    (0, "off"),
    (1024, "minimal"),
    (2048, "low"),
    (8192, "medium"),
    (24576, "high"),
    (65536, "xhigh"),
)

# Not accepted unless the catalog maps them: few models know them.
_NEEDS_MAPPING: Final = frozenset({"xhigh", "max"})


def level_of_budget(tokens: int) -> Level:
    for bound, level in _THRESHOLDS:
        if tokens <= bound:
            return level
    return "max"


def budget_of_level(level: Level, model: ModelSpec) -> int:
    own = model.quirks.thinking_budgets
    if own is not None and level in own:
        return own[level]
    return BUDGETS[level]


def requested_level(reasoning: Reasoning) -> Level:
    """The level a client asked for, whichever way it said so."""
    if reasoning.level is not None:
        return reasoning.level
    if reasoning.budget_tokens is not None and reasoning.budget_tokens >= 0:
        return level_of_budget(reasoning.budget_tokens)
    return "high" if reasoning.adaptive else "medium"


def is_supported(level: Level, model: ModelSpec) -> bool:
    if level in model.levels:
        return model.levels[level] is not None
    return level not in _NEEDS_MAPPING


def clamp(level: Level, model: ModelSpec) -> Level | None:
    """The nearest level the model accepts: first down, then up; `off` is never reached by
    clamping down from a thinking level. None = the model accepts none at all, or `off` was
    asked of a model that cannot be switched off."""
    if is_supported(level, model):
        return level
    if level == "off":
        return None
    position = LEVELS.index(level)
    for candidate in (*reversed(LEVELS[1:position]), *LEVELS[position + 1 :]):
        if is_supported(candidate, model):
            return candidate
    return None


def word(level: Level, model: ModelSpec) -> str:
    """The vendor's word for a supported level."""
    return model.levels.get(level) or level
