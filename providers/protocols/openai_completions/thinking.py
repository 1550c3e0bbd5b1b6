"""How each vendor is told to think: one function per way (`thinking_format`)."""

from __future__ import annotations

from typing import Any

from controlplane.kit.json import JSONDict
from providers.protocols import levels
from providers.protocols.canonical import Level, ModelSpec, Reasoning
from providers.protocols.losses import Loss, LossCode

_SWITCHES = frozenset(
    {"together", "zai", "qwen", "deepseek", "qwen-chat-template", "baseten", "chat-template"}
)


def thinking_fields(reasoning: Reasoning | None, model: ModelSpec, losses: list[Loss]) -> JSONDict:
    """Top-level fields for this wish; nothing for models that do not reason."""
    if reasoning is None:
        return {}
    wanted = levels.requested_level(reasoning)
    if not model.reasoning:
        if wanted != "off":
            losses.append(Loss("reasoning", LossCode.DROPPED, "the model does not reason"))
        return {}
    if wanted == "off":
        return _off(model, losses)
    level = levels.clamp(wanted, model)
    if level is None or level == "off":
        losses.append(Loss("reasoning", LossCode.DROPPED, "the model takes no level of thinking"))
        return {}
    if level != wanted and reasoning.level is not None:
        losses.append(Loss("reasoning.level", LossCode.CLAMPED, f"{wanted!r} is sent as {level!r}"))
    fields = _on(level, reasoning, model, losses)
    field = model.quirks.thinking_token_budget_field
    if field:
        budget = reasoning.budget_tokens
        fields[field] = budget or levels.budget_of_level(level, model)
    elif reasoning.budget_tokens is not None and model.quirks.thinking_format != "chat-template":
        losses.append(
            Loss("reasoning.budget_tokens", LossCode.EMULATED, f"sent as level {level!r}")
        )
    _report_display(reasoning, fields, model, losses)
    return fields


def _on(level: Level, reasoning: Reasoning, model: ModelSpec, losses: list[Loss]) -> JSONDict:
    quirks, word = model.quirks, levels.word(level, model)
    effort: JSONDict = {"reasoning_effort": word} if quirks.supports_reasoning_effort else {}
    style = quirks.thinking_format
    is_level_lost = reasoning.level is not None and not effort
    if is_level_lost and style in _SWITCHES and not _names_level(model):
        losses.append(Loss("reasoning.level", LossCode.CLAMPED, "the vendor knows only on and off"))
    match style:
        case "openai":
            if is_level_lost:
                losses.append(
                    Loss("reasoning.level", LossCode.DROPPED, "the vendor takes no effort")
                )
            return effort
        case "openrouter":
            return {"reasoning": {"effort": word}}
        case "deepseek":
            return {"thinking": {"type": "enabled"}, **effort}
        case "together":
            return {"reasoning": {"enabled": True}, **effort}
        case "zai":
            # Without clear_thinking replayed reasoning is ignored and the cache lost (trap 103).
            return {"thinking": {"type": "enabled", "clear_thinking": False}, **effort}
        case "qwen":
            return {"enable_thinking": True, **effort}
        case "qwen-chat-template":
            return {"chat_template_kwargs": {"enable_thinking": True, "preserve_thinking": True}}
        case "chat-template":
            budget = reasoning.budget_tokens or levels.budget_of_level(level, model)
            return {"chat_template_kwargs": _filled(quirks.chat_template_kwargs, word, budget)}
        case "baseten":
            budget = reasoning.budget_tokens or levels.budget_of_level(level, model)
            args = _filled(quirks.chat_template_args, word, budget)
            return {"chat_template_args": args, **effort}
        case "string-thinking":
            return {"thinking": word}
        case "ant-ling":
            if model.levels.get(level):
                return {"reasoning": {"effort": word}}
            losses.append(Loss("reasoning.level", LossCode.DROPPED, "the model maps no such level"))
            return {}


def _off(model: ModelSpec, losses: list[Loss]) -> JSONDict:
    """Leaving the parameter out often means *on*: an explicit off where there is one (106)."""
    quirks = model.quirks
    style = quirks.thinking_format
    mapped = model.levels.get("off")
    if not levels.is_supported("off", model):
        losses.append(
            Loss("reasoning.level", LossCode.CLAMPED, "the model cannot be kept from thinking")
        )
        return {}
    match style:
        case "openai":
            if mapped is not None and quirks.supports_reasoning_effort:
                return {"reasoning_effort": mapped}
            losses.append(
                Loss("reasoning.level", LossCode.DROPPED, "there is no word for off: not sent")
            )
            return {}
        case "openrouter":
            return {"reasoning": {"effort": "none"}}
        case "deepseek":
            return {"thinking": {"type": "disabled"}}
        case "together":
            return {"reasoning": {"enabled": False}}
        case "zai":
            return {"thinking": {"type": "disabled"}}
        case "qwen":
            return {"enable_thinking": False}
        case "qwen-chat-template":
            return {"chat_template_kwargs": {"enable_thinking": False, "preserve_thinking": True}}
        case "chat-template":
            kwargs = _filled(quirks.chat_template_kwargs, mapped or "none", 0)
            return {"chat_template_kwargs": kwargs}
        case "baseten":
            return {"chat_template_args": _filled(quirks.chat_template_args, mapped or "none", 0)}
        case "string-thinking":
            return {"thinking": "none"}
        case "ant-ling":
            losses.append(
                Loss("reasoning.level", LossCode.DROPPED, "there is no word for off: not sent")
            )
            return {}


def _names_level(model: ModelSpec) -> bool:
    quirks = model.quirks
    template = {
        "chat-template": quirks.chat_template_kwargs,
        "baseten": quirks.chat_template_args,
    }.get(quirks.thinking_format)
    return template is not None and ("{level}" in str(template) or "{budget}" in str(template))


def _filled(template: JSONDict | None, word: str, budget: int) -> JSONDict:
    """The quirk's template with `{enabled}`, `{budget}` and `{level}` put in."""
    return {
        key: _value(value, word, budget)
        for key, value in (template or {"enable_thinking": "{enabled}"}).items()
    }


def _value(value: Any, word: str, budget: int) -> Any:
    if type(value) is dict:
        return {key: _value(inner, word, budget) for key, inner in value.items()}
    if value == "{enabled}":
        return budget > 0
    if value == "{budget}":
        return budget
    return value.replace("{level}", word) if type(value) is str else value


def _report_display(
    reasoning: Reasoning, fields: JSONDict, model: ModelSpec, losses: list[Loss]
) -> None:
    if reasoning.show is False:
        if model.quirks.thinking_format == "openrouter" and "reasoning" in fields:
            fields["reasoning"]["exclude"] = True
        else:
            losses.append(Loss("reasoning.show", LossCode.DROPPED, "thoughts cannot be hidden"))
    if reasoning.summary in ("concise", "detailed"):
        losses.append(Loss("reasoning.summary", LossCode.DROPPED, "the vendor shows no summaries"))
