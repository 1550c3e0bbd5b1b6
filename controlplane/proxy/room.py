"""What the limits leave for a request that is only explained. Nothing is taken."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec
from django.conf import settings

from controlplane.kit.json import JSONDict
from controlplane.proxy.own_limits import own_rules
from providers.routing.plan import Candidate
from tenants import scope
from tenants.direct_sql import DirectSQL
from tenants.quotas.policy import (
    IN_NANOS,
    NEVER,
    PER_REQUEST,
    Amounts,
    Kind,
    Rule,
    Scope,
    decide,
    has_room,
)
from tenants.quotas.snapshot import Bound, LimitSnapshot
from tenants.quotas.store import StoreAway
from tenants.usage.counting import Counting

# What it costs is known afterwards: it is enough that something is left.
_ONE: Final = Amounts(requests=1)


class Room(msgspec.Struct, frozen=True):
    """`early` binds the request wherever it goes, `late` a candidate, by its place in the plan.
    `used` None = the counters cannot be asked now."""

    early: tuple[Bound, ...]
    late: tuple[tuple[Bound, ...], ...]
    used: Mapping[str, int] | None
    now: float

    def of_request(self, *, shows_platform: bool) -> list[JSONDict]:
        """How full the platform is in all is its own matter."""
        bounds = [
            bound for bound in self.early if shows_platform or bound[0].scope is not Scope.PLATFORM
        ]
        return [self._shown(*bound) for bound in bounds if bound[0].is_enforced]

    def of_candidate(self, place: int) -> list[JSONDict]:
        return [self._shown(*bound) for bound in self.late[place] if bound[0].is_enforced]

    def is_left(self, place: int) -> bool | None:
        """Whether this candidate's limits would let a request through. None = nobody knows."""
        if self.used is None:
            return None
        return all(
            has_room(
                self._used(rule, subject), rule.take(subject, _ONE, self.now).amount, rule.amount
            )
            for rule, subject in self.late[place]
            if rule.is_enforced and rule.kind not in PER_REQUEST
        )

    def _used(self, rule: Rule, subject: str) -> int:
        assert self.used is not None
        return decide(self.used, [rule.take(subject, _ONE, self.now)]).used[0]

    def _shown(self, rule: Rule, subject: str) -> JSONDict:
        is_counted = rule.kind not in PER_REQUEST and self.used is not None
        left = max(0, rule.amount - self._used(rule, subject)) if is_counted else None
        resets_at = rule.slot(self.now).resets_at
        has_reset = resets_at < NEVER and rule.kind is not Kind.PARALLEL and bool(resets_at)
        return {
            "for": rule.scope.value,
            "kind": rule.kind.value,
            "per": None if rule.period.value == "none" else rule.period.value,
            "limit": _figure(rule.kind, rule.amount),
            "left": None if left is None else _figure(rule.kind, left),
            "resets_at": resets_at if has_reset else None,
        }


def bounds_of(
    limits: LimitSnapshot,
    tenant_id: uuid.UUID,
    member_id: uuid.UUID | None,
    key_id: uuid.UUID | None,
    asked: str,
    candidates: Sequence[Candidate],
) -> Room:
    """The limits that would bind, before the counters were asked."""
    late = []
    for candidate in candidates:
        target = candidate.target
        credential_id = candidate.credentials[0].id if candidate.credentials else ""
        bounds = limits.late(tenant_id, target.endpoint.slug, credential_id, target.spec.id, asked)
        own = own_rules(target.endpoint.provider_id, target.endpoint.limits)
        late.append((*bounds, *((rule, target.endpoint.slug) for rule in own)))
    early = limits.early(tenant_id, member_id, key_id, asked)
    return Room(early, tuple(late), None, time.time())


def asked(room: Room) -> Room:
    """The same, with what the counters say. Waits for them."""
    bounds = [*room.early, *(bound for each in room.late for bound in each)]
    keys = {
        key
        for rule, subject in bounds
        if rule.kind not in PER_REQUEST
        for key in rule.take(subject, _ONE, room.now).reads
    }
    counting = Counting(settings.REDIS_URL)
    try:
        with scope.platform("what limits leave for an explained request"):
            sql = DirectSQL()
            place = counting.current(sql)
            if place.is_cache and counting.cache is not None:
                used = counting.cache.used(sorted(keys))
            else:
                used = counting.database.used(sql, sorted(keys))
    except StoreAway:
        return room
    finally:
        counting.close()
    return msgspec.structs.replace(room, used=used)


def _figure(kind: Kind, amount: int) -> int | str:
    """Dollars as text, everything else as it is counted."""
    return f"{amount / 1e9:.6f}" if kind in IN_NANOS else amount
