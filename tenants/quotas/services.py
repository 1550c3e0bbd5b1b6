"""Making, changing and removing limits. Each is audited in the same transaction, and is in force
in every process within a second."""

from __future__ import annotations

import uuid
from contextlib import suppress
from datetime import datetime
from typing import Any, Final

from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.db.models import F, Q, QuerySet

from controlplane.kit import clock
from tenants import scope
from tenants.audit.services import record
from tenants.errors import StaleVersion, StateConflict
from tenants.keys.lookup import TokenKind
from tenants.keys.models import ApiKey
from tenants.members.models import Membership, Tenant
from tenants.quotas.models import Counter, Limit, UsagePolicy
from tenants.quotas.policy import EACH, WITHOUT_PERIOD, Kind, Period, Scope, Window
from tenants.revisions.services import bump

EDITABLE: Final = ("amount", "mode")
COMMON_FIELDS: Final = ("reservation", "durability", "unpriced", "mark_up")
POLICY_FIELDS: Final = (*COMMON_FIELDS, "price_list")


@transaction.atomic
def create_limit(
    *,
    tenant: Tenant | None,
    is_platform_set: bool,
    now: datetime | None = None,
    **fields: Any,
) -> Limit:
    """Counts from the next request on. Raises ValidationError, by field, and StateConflict when
    there is such a limit already. In the scope of the tenant (None = the platform's)."""
    now = now or clock.now()
    limit = Limit(
        tenant=tenant, is_platform_set=is_platform_set, created_at=now, updated_at=now, **fields
    )
    _validate(limit)
    try:
        with transaction.atomic():
            limit.save(force_insert=True)
    except IntegrityError:
        raise StateConflict(
            "There is such a limit already: change that one.", param="scope_kind"
        ) from None
    _audit(limit, "limit.created", after=_facts(limit))
    bump("limits")
    return limit


@transaction.atomic
def update_limit(
    *, limit: Limit, version: int, now: datetime | None = None, **changes: Any
) -> Limit:
    """Changes any of EDITABLE; what it counts, for whom and how stays: that would be another
    limit. What was counted so far stays counted."""
    unknown = set(changes) - set(EDITABLE)
    if unknown:
        raise TypeError(f"A limit's {', '.join(sorted(unknown))} cannot be changed.")
    current = Limit.objects.get(pk=limit.pk)
    before = _facts(current)
    for name, value in changes.items():
        setattr(current, name, value)
    _validate(current)
    written = Limit.objects.filter(pk=limit.pk, version=version).update(
        **{name: getattr(current, name) for name in changes},
        version=F("version") + 1,
        updated_at=now or clock.now(),
    )
    if not written:
        raise StaleVersion("Somebody else changed this limit meanwhile: read it again.")
    current.refresh_from_db()
    _audit(current, "limit.changed", before=before, after=_facts(current))
    bump("limits")
    return current


@transaction.atomic
def remove_limit(*, limit: Limit, version: int) -> None:
    before = _facts(limit)
    deleted, _ = Limit.objects.filter(pk=limit.pk, version=version).delete()
    if not deleted:
        raise StaleVersion("Somebody else changed this limit meanwhile: read it again.")
    # Requests that are under way still settle into its counters: the sweep removes those later.
    _audit(limit, "limit.removed", before=before)
    bump("limits")


@transaction.atomic
def change_policy(
    *, tenant: Tenant | None, version: int, now: datetime | None = None, **changes: Any
) -> UsagePolicy:
    """Sets any of POLICY_FIELDS; None = of everybody without a policy, in the platform's scope.
    The defaults, where none was set yet, are version 1."""
    unknown = set(changes) - set(POLICY_FIELDS)
    if unknown:
        raise TypeError(f"A usage policy has no {', '.join(sorted(unknown))}.")
    now = now or clock.now()
    current = policy_of(tenant)
    before = _policy_facts(current)
    for name, value in changes.items():
        setattr(current, name, value)
    current.clean_fields(exclude={"tenant"})
    if current._state.adding:
        if version != current.version:
            raise StaleVersion("There are only the defaults: read them again.")
        current.version, current.created_at, current.updated_at = version + 1, now, now
        try:
            with transaction.atomic():
                current.save(force_insert=True)
        except IntegrityError:
            raise StaleVersion("Somebody else set this policy meanwhile: read it again.") from None
    else:
        written = UsagePolicy.objects.filter(tenant=tenant, version=version).update(
            **{name: getattr(current, name) for name in changes},
            version=F("version") + 1,
            updated_at=now,
        )
        if not written:
            raise StaleVersion("Somebody else changed this policy meanwhile: read it again.")
        current.refresh_from_db()
    record(
        tenant_id=None if tenant is None else tenant.id,
        action="usage_policy.changed",
        target=current,
        before=before,
        after=_policy_facts(current),
    )
    bump("limits")
    return current


def policy_of(tenant: Tenant | None) -> UsagePolicy:
    """The tenant's policy; everybody's, unsaved and without its price list, where it has none."""
    found: UsagePolicy | None = UsagePolicy.objects.filter(tenant=tenant).first()
    if found is not None:
        return found
    if tenant is None:
        return UsagePolicy()
    with scope.platform("how the platform charges"):
        common = policy_of(None)
    return UsagePolicy(tenant=tenant, **{name: getattr(common, name) for name in COMMON_FIELDS})


def _validate(limit: Limit) -> None:
    limit.clean_fields(exclude={"tenant"})
    kind, scope_kind = Kind(limit.kind), Scope(limit.scope_kind)
    if (kind in WITHOUT_PERIOD) != (limit.period == Period.NONE):
        raise ValidationError(
            {
                "period": "Leave it out: this kind has none."
                if kind in WITHOUT_PERIOD
                else "Say for which period: minute, hour, day, week, month or total."
            }
        )
    if limit.window == Window.FISCAL and limit.period != Period.MONTH:
        raise ValidationError({"window": "Only months have a fiscal window."})
    if limit.window == Window.ROLLING and limit.period in (Period.NONE, Period.TOTAL):
        raise ValidationError({"window": "Only a period with an end can roll."})
    if scope_kind is Scope.PLATFORM and limit.tenant_id is not None:
        raise ValidationError({"scope_kind": "A tenant's limit counts that tenant's requests."})
    wants_value = scope_kind is not Scope.PLATFORM and not (
        scope_kind is Scope.TENANT and limit.tenant_id is not None
    )
    if wants_value != bool(limit.scope_value):
        raise ValidationError(
            {
                "scope_value": f"Say which {scope_kind.value}, or * for each of them."
                if wants_value
                else "Leave it out: there is only one."
            }
        )
    if scope_kind is Scope.TENANT and limit.scope_value not in ("", EACH):
        raise ValidationError({"scope_value": "Only * is possible: one tenant's is made there."})
    if scope_kind in (Scope.KEY, Scope.MEMBER) and limit.scope_value != EACH:
        _check_id(limit, scope_kind)


def _check_id(limit: Limit, scope_kind: Scope) -> None:
    """People write a key's label or beginning and a member's address; requests carry ids. A limit
    for a key that is nobody's would bind nobody, silently."""
    text = limit.scope_value.strip()
    rows: QuerySet[Any]
    if scope_kind is Scope.KEY:
        rows = ApiKey.objects.filter(tenant=limit.tenant)
        public_id = text.removeprefix(f"pcp_{TokenKind.LIVE}_").partition("_")[0]
        named = Q(label=text) | Q(public_id=public_id)
    else:
        rows = Membership.objects.filter(tenant=limit.tenant)
        named = Q(user__email__iexact=text)
    with suppress(ValueError):
        named |= Q(pk=uuid.UUID(text))
    found = list(rows.filter(named).values_list("pk", flat=True)[:2])
    if not found:
        how = "label, beginning or id" if scope_kind is Scope.KEY else "e-mail address or id"
        raise ValidationError(
            {"scope_value": f"There is no such {scope_kind.value} here: give its {how}."}
        )
    if len(found) > 1:
        raise ValidationError({"scope_value": "Several keys are called that: give the id of one."})
    limit.scope_value = str(found[0])


def counters_of(limit: Limit) -> list[Counter]:
    return list(Counter.objects.filter(key__startswith=f"{limit.id.hex}:"))


def _facts(limit: Limit) -> dict[str, Any]:
    return {
        "scope_kind": limit.scope_kind,
        "scope_value": limit.scope_value,
        "kind": limit.kind,
        "period": limit.period,
        "window": limit.window,
        "fiscal_day": limit.fiscal_day,
        "amount": limit.amount,
        "mode": limit.mode,
    }


def _policy_facts(policy: UsagePolicy) -> dict[str, Any]:
    return {name: getattr(policy, name) for name in POLICY_FIELDS}


def _audit(
    limit: Limit,
    action: str,
    *,
    before: dict[str, Any] | None = None,
    after: dict[str, Any] | None = None,
) -> None:
    record(tenant_id=limit.tenant_id, action=action, target=limit, before=before, after=after)
