"""What a request used is known long after it ended: charged then, in the period of that day.

Nothing is held meanwhile, and nothing is refused here: it was spent.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from django.conf import settings

from controlplane.kit.ids import uuid7
from tenants import scope
from tenants.quotas.policy import PER_REQUEST, Amounts, Kind
from tenants.quotas.snapshot import Bound, LimitSnapshot
from tenants.usage.group import Group, Settle
from tenants.usage.models import UsageEvent
from tenants.usage.outcome import Held, HeldTake, Outcome, TargetFacts
from tenants.usage.writing import Part

_NOTHING: Final = Amounts()


@dataclass(frozen=True, slots=True)
class Charge:
    target: TargetFacts
    outcome: Outcome


def charge_afterwards(held: Held, charges: Sequence[Charge]) -> None:
    """One event for each charge, at least one; `held.request_id` is their own. Run twice, it
    charges once. Waits for the database; raises what that says."""
    with scope.platform("whether a request was charged"):
        if UsageEvent.objects.filter(request_id=held.request_id).exists():
            return
    limits = LimitSnapshot()
    limits.reload()
    held.mark_up = limits.policy(held.tenant_id).mark_up
    early = _takes(
        limits.early(held.tenant_id, held.member_id, held.key_id, held.model), held.taken_at
    )
    parts = []
    for number, charge in enumerate(charges, 1):
        target = charge.target
        takes = _takes(
            limits.late(
                held.tenant_id, target.provider, target.credential_id, target.model, held.model
            ),
            held.taken_at,
        )
        is_last = number == len(charges)
        # The last is the request's outcome: what binds the caller counts with it.
        parts.append(
            Part(
                charge.outcome,
                target,
                [*early, *takes] if is_last else takes,
                part=0 if is_last else number,
            )
        )
    group = Group(settings.REDIS_URL, process_id=uuid.UUID(int=0))
    try:
        settle = Settle(uuid7(), held, parts, has_row=False)
        group.execute([settle])
        if settle.error is not None:
            raise settle.error
    finally:
        group.counting.close()


def _takes(bounds: Sequence[Bound], now: float) -> list[HeldTake]:
    """Counters that count it, with nothing reserved in them."""
    found = []
    for rule, subject in bounds:
        if rule.kind in PER_REQUEST or rule.kind is Kind.PARALLEL:
            continue
        take = rule.take(subject, _NOTHING, now)
        found.append(HeldTake(take.key, 0, take.ends_at, rule.kind, rule.scope))
    return found
