"""From a limit without room to the error that says so. Pure."""

from __future__ import annotations

from typing import Final

from tenants.quotas.errors import (
    BudgetExhausted,
    Exceeded,
    QuotaError,
    RateLimited,
    RequestTooCostly,
)
from tenants.quotas.policy import IN_NANOS, NEVER, Kind, Rule, Scope, Take, Window

# Something that runs ends soon, at a moment nobody knows.
_PARALLEL_RETRY_SECONDS: Final = 1.0
_WHOSE: Final = {
    Scope.PLATFORM: "the platform",
    Scope.TENANT: "your tenant",
    Scope.MEMBER: "this member",
    Scope.KEY: "this API key",
    Scope.MODEL: "this model",
    Scope.PROVIDER: "the provider",
    Scope.CREDENTIAL: "the provider's credential",
}
_WHAT: Final = {
    Kind.REQUESTS: "requests",
    Kind.TOKENS: "tokens",
    Kind.INPUT_TOKENS: "input tokens",
    Kind.OUTPUT_TOKENS: "output tokens",
    Kind.MONEY: "dollars",
    Kind.PARALLEL: "requests at the same time",
    Kind.REQUEST_TOKENS: "tokens in one request",
    Kind.REQUEST_MONEY: "dollars for one request",
}


def exceeded(rule: Rule, subject: str, used: int, take: Take, now: float) -> QuotaError:
    slot = rule.slot(now)
    resets_at = None if slot.resets_at >= NEVER or rule.kind is Kind.PARALLEL else slot.resets_at
    facts = Exceeded(
        limit_id=rule.id,
        scope=rule.scope.value,
        subject=subject,
        kind=rule.kind.value,
        period=rule.period.value,
        used=used,
        wanted=take.amount,
        limit=rule.amount,
        resets_at=resets_at,
    )
    when = "" if rule.period.value in ("none", "total") else f" per {rule.period.value}"
    message = (
        f"The limit of {_shown(rule.kind, rule.amount)} {_WHAT[rule.kind]}{when} for "
        f"{_WHOSE[rule.scope]} is reached: {_shown(rule.kind, used)} used, this request needs "
        f"{_shown(rule.kind, take.amount)}."
    )
    wait: float | None
    if resets_at is not None:
        wait = max(1.0, resets_at - now)
        verb = "Room opens" if rule.window is Window.ROLLING else "It starts anew"
        message += f" {verb} in {_duration(wait)}."
    else:
        wait = _PARALLEL_RETRY_SECONDS if rule.kind is Kind.PARALLEL else None
    if rule.kind is Kind.MONEY:
        return BudgetExhausted(message, facts, wait)
    return RateLimited(message, facts, wait)


def too_costly(rule: Rule, subject: str, wanted: int) -> QuotaError:
    facts = Exceeded(
        limit_id=rule.id,
        scope=rule.scope.value,
        subject=subject,
        kind=rule.kind.value,
        period=rule.period.value,
        used=0,
        wanted=wanted,
        limit=rule.amount,
        resets_at=None,
    )
    return RequestTooCostly(
        f"One request of {_WHOSE[rule.scope]} may need at most "
        f"{_shown(rule.kind, rule.amount)} {_WHAT[rule.kind]}; this one may need "
        f"{_shown(rule.kind, wanted)}. Shorten it, or ask for fewer output tokens.",
        facts,
    )


def _shown(kind: Kind, amount: int) -> str:
    if kind in IN_NANOS:
        return f"{amount / 1_000_000_000:.6f}".rstrip("0").rstrip(".")
    return f"{amount:,}"


def _duration(seconds: float) -> str:
    for width, name in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * width:
            return f"{round(seconds / width)} {name}"
    return f"{round(seconds)} s"
