"""Reasoning levels and budgets: one table, one clamp."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.protocols import levels
from providers.protocols.canonical import LEVELS, Level, ModelSpec, Reasoning
from providers.protocols.quirks import Quirks


def model(
    mapped: dict[str, str | None] | None = None, budgets: dict[str, int] | None = None
) -> ModelSpec:
    return ModelSpec(
        id="m",
        protocol="p",
        reasoning=True,
        levels=mapped or {},
        quirks=Quirks(thinking_budgets=budgets),
    )


@pytest.mark.parametrize(
    ("tokens", "level"),
    [
        (0, "off"),
        (1, "minimal"),
        (1024, "minimal"),
        (1025, "low"),
        (2048, "low"),
        (8192, "medium"),
        (8193, "high"),
        (24576, "high"),
        (24577, "xhigh"),
        (65536, "xhigh"),
        (65537, "max"),
        (10**9, "max"),
    ],
)
def test_level_of_budget(tokens: int, level: Level) -> None:
    assert levels.level_of_budget(tokens) == level


@pytest.mark.parametrize("level", LEVELS)
def test_budgets_and_levels_agree_in_order(level: Level) -> None:
    assert levels.budget_of_level(level, model()) == levels.BUDGETS[level]
    if level not in ("xhigh", "max"):
        # What these clamp to is not their own level, by intent.
        assert levels.level_of_budget(levels.BUDGETS[level]) == level


def test_a_model_has_budgets_of_its_own() -> None:
    own = model(budgets={"high": 32768})
    assert levels.budget_of_level("high", own) == 32768
    assert levels.budget_of_level("low", own) == levels.BUDGETS["low"]


@pytest.mark.parametrize(
    ("reasoning", "level"),
    [
        (Reasoning(level="low", budget_tokens=60000), "low"),
        (Reasoning(budget_tokens=60000), "xhigh"),
        (Reasoning(budget_tokens=0), "off"),
        (Reasoning(budget_tokens=-1), "medium"),
        (Reasoning(adaptive=True), "high"),
        (Reasoning(budget_tokens=-1, adaptive=True), "high"),
        (Reasoning(), "medium"),
    ],
)
def test_what_a_client_asked(reasoning: Reasoning, level: Level) -> None:
    assert levels.requested_level(reasoning) == level


@pytest.mark.parametrize(
    ("mapped", "asked", "got"),
    [
        ({}, "off", "off"),
        ({}, "high", "high"),
        ({}, "xhigh", "high"),
        ({}, "max", "high"),
        ({"xhigh": "xhigh"}, "max", "xhigh"),
        ({"minimal": None}, "minimal", "low"),
        ({"minimal": None, "medium": None}, "medium", "low"),
        ({"off": None}, "off", None),
        ({"off": None, "minimal": None, "low": None}, "low", "medium"),
        ({"minimal": None, "low": None}, "low", "medium"),
        (dict.fromkeys(LEVELS), "high", None),
        ({**dict.fromkeys(LEVELS), "max": "ultra"}, "minimal", "max"),
    ],
)
def test_clamping(mapped: dict[str, str | None], asked: Level, got: Level | None) -> None:
    assert levels.clamp(asked, model(mapped)) == got


@given(
    st.dictionaries(st.sampled_from(LEVELS), st.sampled_from([None, "word"])),
    st.sampled_from(LEVELS),
)
def test_a_clamped_level_is_supported_and_never_off_unasked(
    mapped: dict[str, str | None], asked: Level
) -> None:
    target = model(mapped)
    got = levels.clamp(asked, target)
    if got is not None:
        assert levels.is_supported(got, target)
        assert levels.clamp(got, target) == got
        assert (got == "off") is (asked == "off")


def test_the_vendors_word() -> None:
    assert levels.word("off", model({"off": "none"})) == "none"
    assert levels.word("low", model()) == "low"
