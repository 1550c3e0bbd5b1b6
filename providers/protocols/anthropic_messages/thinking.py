"""Reasoning wishes as the Messages API knows them: a budget, or adaptive with an effort."""

from __future__ import annotations

from typing import Final

from controlplane.kit.json import JSONDict
from providers.protocols import levels
from providers.protocols.anthropic_messages.carried import SLUG
from providers.protocols.canonical import Level, ModelSpec, Reasoning, Request
from providers.protocols.losses import Loss, LossCode

MIN_BUDGET: Final = 1024


def decide(
    request: Request,
    model: ModelSpec,
    max_tokens: int,
    losses: list[Loss],
    *,
    off_because: str | None = None,
) -> tuple[JSONDict | None, str | None]:
    """`thinking` and `output_config.effort`, either None when not to be sent.

    `off_because`: why this request cannot think, whatever the client asked.
    """
    wanted = request.reasoning
    if wanted is None:
        return None, _own_effort(request)
    own = request.extra.get("thinking") if request.dialect == SLUG else None
    if own is not None:
        effort = None if wanted.level is None else _effort(wanted.level, model, losses)
        return own, effort
    if wanted.level == "off":
        return _off(model, losses), _own_effort(request)
    if not model.reasoning:
        losses.append(Loss("reasoning", LossCode.DROPPED, "this model does not reason"))
        return None, None
    if off_because is not None:
        losses.append(Loss("reasoning", LossCode.DROPPED, off_because))
        return _off(model, []), None
    if model.quirks.force_adaptive_thinking:
        return _adaptive(wanted, model, losses)
    return _budget(wanted, model, max_tokens, losses)


def _own_effort(request: Request) -> str | None:
    if request.dialect != SLUG:
        return None
    effort = request.extra.get("effort")
    return effort if isinstance(effort, str) else None


def can_be_off(model: ModelSpec) -> bool:
    return levels.is_supported("off", model)


def _off(model: ModelSpec, losses: list[Loss]) -> JSONDict | None:
    if not model.reasoning:
        return None
    if can_be_off(model):
        # Said aloud: leaving it out can mean "on" (trap 106).
        return {"type": "disabled"}
    losses.append(
        Loss("reasoning.level", LossCode.CLAMPED, "this model's thinking cannot be switched off")
    )
    return None


def _display(wanted: Reasoning) -> str | None:
    if wanted.show is not None:
        return "summarized" if wanted.show else "omitted"
    if wanted.summary is not None:
        return "omitted" if wanted.summary == "off" else "summarized"
    return None


def _with_display(thinking: JSONDict, wanted: Reasoning) -> JSONDict:
    display = _display(wanted)
    if display is not None:
        thinking["display"] = display
    return thinking


def _effort(level: Level, model: ModelSpec, losses: list[Loss]) -> str | None:
    clamped = levels.clamp(level, model)
    if clamped is None:
        return None
    if clamped != level:
        losses.append(
            Loss("reasoning.level", LossCode.CLAMPED, f"{level} is sent as {clamped} here")
        )
    word = levels.word(clamped, model)
    # The API's own scale begins at low.
    return "low" if word == "minimal" else word


def _adaptive(
    wanted: Reasoning, model: ModelSpec, losses: list[Loss]
) -> tuple[JSONDict, str | None]:
    thinking = _with_display({"type": "adaptive"}, wanted)
    if wanted.budget_tokens is not None:
        # These models reject a budget (trap 109).
        losses.append(
            Loss("reasoning.budget_tokens", LossCode.EMULATED, "a budget is sent as an effort")
        )
    if wanted.level is None and wanted.budget_tokens is None:
        return thinking, None
    return thinking, _effort(levels.requested_level(wanted), model, losses)


def _budget(
    wanted: Reasoning, model: ModelSpec, max_tokens: int, losses: list[Loss]
) -> tuple[JSONDict | None, str | None]:
    effort: str | None = None
    if wanted.budget_tokens is not None:
        budget = wanted.budget_tokens
    else:
        level = levels.requested_level(wanted)
        clamped = levels.clamp(level, model)
        if clamped is None:
            losses.append(Loss("reasoning", LossCode.DROPPED, f"no level near {level} is known"))
            return None, None
        if clamped != level:
            losses.append(
                Loss("reasoning.level", LossCode.CLAMPED, f"{level} is sent as {clamped} here")
            )
        budget = levels.budget_of_level(clamped, model)
        if model.quirks.supports_effort:
            effort = _effort(clamped, model, [])
    if model.quirks.supports_effort and wanted.level is not None and effort is None:
        effort = _effort(wanted.level, model, losses)
    if wanted.adaptive:
        losses.append(
            Loss("reasoning.adaptive", LossCode.EMULATED, "this model takes a budget instead")
        )
    if max_tokens <= MIN_BUDGET:
        losses.append(
            Loss(
                "reasoning",
                LossCode.DROPPED,
                f"thinking takes at least {MIN_BUDGET} tokens, and the answer may have "
                f"{max_tokens} in all",
            )
        )
        return _off(model, []), None
    # max_tokens is a promise about cost: the budget gives way, not the limit (trap 111).
    room = max(MIN_BUDGET, min(max_tokens - MIN_BUDGET, max_tokens - 1))
    fitting = max(MIN_BUDGET, min(budget, room))
    if wanted.budget_tokens is not None and budget < max_tokens:
        fitting = max(MIN_BUDGET, budget)
    if fitting != budget:
        losses.append(
            Loss("reasoning.budget_tokens", LossCode.CLAMPED, f"{budget} is sent as {fitting}")
        )
    return _with_display({"type": "enabled", "budget_tokens": fitting}, wanted), effort
