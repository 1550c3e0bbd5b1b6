"""Every way to tell a vendor to think, as the quirk table says."""

from __future__ import annotations

from typing import Any

import pytest

from controlplane.kit.json import JSONDict
from providers.protocols.canonical import Reasoning
from providers.protocols.losses import Loss, LossCode
from providers.protocols.openai_completions.thinking import thinking_fields
from tests.providers.protocols.openai_completions.builders import paths, spec

NO_EFFORT = {"supports_reasoning_effort": False}


def fields(
    style: str, reasoning: Reasoning, levels: JSONDict | None = None, **quirks: Any
) -> tuple[JSONDict, list[Loss]]:
    losses: list[Loss] = []
    model = spec(quirks={"thinking_format": style, **quirks}, reasoning=True, levels=levels or {})
    return thinking_fields(reasoning, model, losses), losses


HIGH, OFF = Reasoning(level="high"), Reasoning(level="off")


@pytest.mark.parametrize(
    ("style", "quirks", "on", "off"),
    [
        ("openai", {}, {"reasoning_effort": "high"}, {}),
        ("openrouter", {}, {"reasoning": {"effort": "high"}}, {"reasoning": {"effort": "none"}}),
        (
            "deepseek",
            {},
            {"thinking": {"type": "enabled"}, "reasoning_effort": "high"},
            {"thinking": {"type": "disabled"}},
        ),
        (
            "deepseek",
            NO_EFFORT,
            {"thinking": {"type": "enabled"}},
            {"thinking": {"type": "disabled"}},
        ),
        (
            "together",
            NO_EFFORT,
            {"reasoning": {"enabled": True}},
            {"reasoning": {"enabled": False}},
        ),
        pytest.param(
            "zai",
            NO_EFFORT,
            {"thinking": {"type": "enabled", "clear_thinking": False}},
            {"thinking": {"type": "disabled"}},
            id="trap_103_and_104-zai",
        ),
        ("qwen", NO_EFFORT, {"enable_thinking": True}, {"enable_thinking": False}),
        pytest.param(
            "qwen-chat-template",
            NO_EFFORT,
            {"chat_template_kwargs": {"enable_thinking": True, "preserve_thinking": True}},
            {"chat_template_kwargs": {"enable_thinking": False, "preserve_thinking": True}},
            id="trap_105-qwen-on-vllm",
        ),
        (
            "chat-template",
            {
                "chat_template_kwargs": {
                    "on": "{enabled}",
                    "how": "{level}",
                    "n": "{budget}",
                    "k": 1,
                }
            },
            {"chat_template_kwargs": {"on": True, "how": "high", "n": 16384, "k": 1}},
            {"chat_template_kwargs": {"on": False, "how": "none", "n": 0, "k": 1}},
        ),
        (
            "baseten",
            {"chat_template_args": {"enable_thinking": "{enabled}"}},
            {"chat_template_args": {"enable_thinking": True}, "reasoning_effort": "high"},
            {"chat_template_args": {"enable_thinking": False}},
        ),
        ("string-thinking", {}, {"thinking": "high"}, {"thinking": "none"}),
        ("ant-ling", {}, {}, {}),
    ],
)
def test_trap_106_on_and_off_are_said_outright(
    style: str, quirks: JSONDict, on: JSONDict, off: JSONDict
) -> None:
    assert fields(style, HIGH, **quirks)[0] == on
    assert fields(style, OFF, **quirks)[0] == off


def test_mapped_words_and_the_off_word() -> None:
    levels = {"off": "none", "high": "default", "low": None}
    assert fields("openai", OFF, levels)[0] == {"reasoning_effort": "none"}
    assert fields("openai", HIGH, levels)[0] == {"reasoning_effort": "default"}
    assert fields("ant-ling", HIGH, levels)[0] == {"reasoning": {"effort": "default"}}


def test_trap_107_a_model_that_must_think_gets_no_none() -> None:
    sent, losses = fields("openrouter", OFF, {"off": None})
    assert sent == {}
    assert losses[0].code is LossCode.CLAMPED


def test_trap_115_levels_are_clamped_to_what_the_model_maps() -> None:
    kimi = {"minimal": None, "medium": None, "max": "max"}
    sent, losses = fields("openai", Reasoning(level="medium"), kimi)
    assert sent == {"reasoning_effort": "low"}
    assert paths(losses) == {"reasoning.level"}
    assert fields("openai", Reasoning(level="max"), kimi)[0] == {"reasoning_effort": "max"}


def test_a_budget_becomes_a_level_or_has_a_field_of_its_own() -> None:
    wish = Reasoning(budget_tokens=3000)
    sent, losses = fields("openai", wish)
    assert sent == {"reasoning_effort": "medium"}
    assert [(loss.path, loss.code) for loss in losses] == [
        ("reasoning.budget_tokens", LossCode.EMULATED)
    ]
    sent, losses = fields("qwen", wish, thinking_token_budget_field="thinking_budget", **NO_EFFORT)
    assert sent == {"enable_thinking": True, "thinking_budget": 3000}
    assert losses == []


def test_a_level_lost_on_a_switch_is_reported() -> None:
    assert paths(fields("together", HIGH, **NO_EFFORT)[1]) == {"reasoning.level"}
    assert paths(fields("openai", HIGH, **NO_EFFORT)[1]) == {"reasoning.level"}
    assert fields("together", Reasoning(adaptive=True), **NO_EFFORT)[1] == []


def test_hidden_thoughts() -> None:
    hidden = Reasoning(level="high", show=False)
    assert fields("openrouter", hidden)[0] == {"reasoning": {"effort": "high", "exclude": True}}
    assert paths(fields("openai", hidden)[1]) == {"reasoning.show"}


def test_a_model_that_does_not_reason_is_told_nothing() -> None:
    losses: list[Loss] = []
    assert thinking_fields(HIGH, spec(), losses) == {}
    assert paths(losses) == {"reasoning"}
    assert thinking_fields(OFF, spec(), losses) == {}
    assert len(losses) == 1
