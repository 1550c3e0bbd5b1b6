"""Every limit in memory, as rules by whom they bind: what the hot path asks."""

from __future__ import annotations

import threading
import uuid
from collections import defaultdict
from dataclasses import dataclass
from typing import Final

from tenants import scope
from tenants.members.models import Tenant
from tenants.quotas import price_lists
from tenants.quotas.models import Limit, UsagePolicy
from tenants.quotas.policy import EACH, Kind, Period, Rule, Scope, Window
from tenants.quotas.price_lists import ListedPrice

Bound = tuple[Rule, str]
_MOST_REMEMBERED: Final = 20_000


@dataclass(frozen=True, slots=True)
class Policy:
    """How one tenant's requests reserve and are charged."""

    reservation: str = UsagePolicy.Reservation.STRICT.value
    is_strict: bool = True
    refuses_unpriced: bool = False
    mark_up: int = 0
    # The tenant's own prices, and behind them those that hold for everybody.
    price_list: tuple[ListedPrice, ...] = ()


DEFAULT_POLICY: Final = Policy()


class LimitSnapshot:
    """Empty until the first `reload`; see tenants.revisions.watcher."""

    def __init__(self) -> None:
        self._reloading = threading.Lock()
        self._rules: dict[tuple[uuid.UUID | None, Scope, str], list[Rule]] = {}
        self._policies: dict[uuid.UUID, Policy] = {}
        # Of tenants without one.
        self._common = DEFAULT_POLICY
        self._early: dict[tuple[object, ...], tuple[Bound, ...]] = {}
        self._late: dict[tuple[object, ...], tuple[Bound, ...]] = {}

    def reload(self) -> None:
        """Three queries. Rules that stay the same keep their counters: those go by id."""
        # One at a time: else a slow reading, begun earlier, would undo a younger one.
        with self._reloading:
            self._read()

    def _read(self) -> None:
        rules: dict[tuple[uuid.UUID | None, Scope, str], list[Rule]] = defaultdict(list)
        with scope.platform("snapshot of limits"):
            zones = dict(Tenant.objects.values_list("id", "time_zone"))
            for limit in Limit.objects.order_by("id"):
                rule = rule_of(limit, zones[limit.tenant_id] if limit.tenant_id else "UTC")
                rules[limit.tenant_id, rule.scope, rule.scope_value].append(rule)
            rows: dict[uuid.UUID | None, UsagePolicy] = {
                policy.tenant_id: policy for policy in UsagePolicy.objects.all()
            }
        common = rows.get(None)
        listed = price_lists.read(common.price_list) if common is not None else ()
        # What is remembered goes first: a reader in between finds the old rules or the new ones.
        self._rules = dict(rules)
        self._common = DEFAULT_POLICY if common is None else _policy(common, listed)
        self._policies = {
            tenant_id: _policy(row, price_lists.read(row.price_list) + listed)
            for tenant_id, row in rows.items()
            if tenant_id is not None
        }
        self._early, self._late = {}, {}

    def confirm(self, as_of: float) -> None:
        """Limits have no date: they hold until somebody says otherwise."""

    def policy(self, tenant_id: uuid.UUID) -> Policy:
        return self._policies.get(tenant_id, self._common)

    def early(
        self,
        tenant_id: uuid.UUID,
        member_id: uuid.UUID | None,
        key_id: uuid.UUID | None,
        model: str,
    ) -> tuple[Bound, ...]:
        """The rules for a request whose target is still open, the widest first."""
        asked = (tenant_id, member_id, key_id, model)
        # Taken before the rules are read: what old rules say must not be remembered with new ones.
        memory = self._early
        found = memory.get(asked)
        if found is None:
            found = tuple(
                bound
                for owner in (None, tenant_id)
                for kind, subject in (
                    (Scope.PLATFORM, ""),
                    (Scope.TENANT, str(tenant_id)),
                    (Scope.MEMBER, str(member_id) if member_id else ""),
                    (Scope.KEY, str(key_id) if key_id else ""),
                    (Scope.MODEL, model),
                )
                for bound in self._bound(owner, kind, subject)
            )
            self._remember(memory, asked, found)
        return found

    def late(
        self, tenant_id: uuid.UUID, provider: str, credential_id: str, model: str, asked: str
    ) -> tuple[Bound, ...]:
        """The rules for one target. The model that serves is not counted again under the name
        that was asked for."""
        wanted = (tenant_id, provider, credential_id, model, asked)
        memory = self._late
        found = memory.get(wanted)
        if found is None:
            found = tuple(
                bound
                for owner in (None, tenant_id)
                for kind, subject in (
                    (Scope.PROVIDER, provider),
                    (Scope.CREDENTIAL, credential_id),
                    (Scope.MODEL, model if model != asked else ""),
                )
                for bound in self._bound(owner, kind, subject)
                if not (kind is Scope.MODEL and bound[0].scope_value == EACH)
            )
            self._remember(memory, wanted, found)
        return found

    def _bound(self, owner: uuid.UUID | None, kind: Scope, subject: str) -> list[Bound]:
        if kind in (Scope.PLATFORM, Scope.TENANT):
            values = [""]
            if kind is Scope.TENANT and owner is None:
                # The platform's limit "for the tenant" gives each of them this much.
                return [(rule, subject) for rule in self._rules.get((None, kind, EACH), ())]
        elif subject:
            values = [subject, EACH]
        else:
            return []
        return [
            (rule, subject)
            for value in values
            for rule in self._rules.get((owner, kind, value), ())
        ]

    def _remember(
        self,
        memory: dict[tuple[object, ...], tuple[Bound, ...]],
        asked: tuple[object, ...],
        found: tuple[Bound, ...],
    ) -> None:
        if len(memory) >= _MOST_REMEMBERED:
            memory.clear()
        memory[asked] = found


def _policy(row: UsagePolicy, listed: tuple[ListedPrice, ...]) -> Policy:
    return Policy(
        reservation=row.reservation,
        is_strict=row.durability == UsagePolicy.Durability.STRICT,
        refuses_unpriced=row.unpriced == UsagePolicy.Unpriced.REFUSE,
        mark_up=row.mark_up,
        price_list=listed,
    )


def rule_of(limit: Limit, time_zone: str) -> Rule:
    return Rule(
        rule_id=limit.id.hex,
        scope=Scope(limit.scope_kind),
        scope_value=limit.scope_value,
        kind=Kind(limit.kind),
        period=Period(limit.period),
        window=Window(limit.window),
        amount=limit.amount,
        is_enforced=limit.mode == Limit.Mode.ENFORCE,
        time_zone=time_zone,
        fiscal_day=limit.fiscal_day,
    )
