"""What a registration says of its own limits, as rules that are metered like any other."""

from __future__ import annotations

import uuid
from functools import lru_cache
from typing import Final

from tenants.quotas.policy import Kind, Period, Rule, Scope, Window

_KINDS: Final[dict[str, tuple[Kind, Period, Window]]] = {
    "requests_per_minute": (Kind.REQUESTS, Period.MINUTE, Window.ROLLING),
    "tokens_per_minute": (Kind.TOKENS, Period.MINUTE, Window.ROLLING),
    "parallel": (Kind.PARALLEL, Period.NONE, Window.CALENDAR),
    "max_tokens_per_request": (Kind.REQUEST_TOKENS, Period.NONE, Window.CALENDAR),
}


@lru_cache(maxsize=10_000)
def own_rules(provider_id: str, limits: tuple[tuple[str, int], ...]) -> tuple[Rule, ...]:
    """Counters are found by the rule's id: the same in every process, and for every tenant that
    uses the registration."""
    return tuple(
        Rule(
            rule_id=uuid.uuid5(uuid.UUID(provider_id), name).hex,
            scope=Scope.PROVIDER,
            scope_value="",
            kind=_KINDS[name][0],
            period=_KINDS[name][1],
            window=_KINDS[name][2],
            amount=amount,
            is_enforced=True,
        )
        for name, amount in limits
        if name in _KINDS
    )
