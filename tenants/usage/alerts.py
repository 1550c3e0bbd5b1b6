"""Limits that come near, and budgets that will not last: an alert once per period."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Final

from django.db.models import Q

from tenants import scope
from tenants.alerts.kinds import AlertKind
from tenants.alerts.models import Alert
from tenants.alerts.services import alert, key_of
from tenants.members.models import Tenant
from tenants.quotas.models import Counter, Limit, shown
from tenants.quotas.policy import PER_REQUEST, Kind, Slot, crossed
from tenants.quotas.snapshot import rule_of
from tenants.usage.reports import standing

THRESHOLDS: Final = (50, 80, 100)
# Rates come and go by the minute: nobody wants a letter about each.
_WORTH_A_LETTER: Final = ("day", "week", "month", "total")
# A budget is short when it ends before its period does and within this time…
_SHORT: Final = timedelta(days=3)
# …at a pace that some use has shown.
_SHOWN_PERCENT: Final = 20


def find_crossed(*, now: float | None = None) -> int:
    """Raises an alert for each threshold that was newly reached and each budget that became
    short; how many. Twice finds none: the counter and the threshold are the alert's key."""
    now = time.time() if now is None else now
    made = 0
    with scope.platform("soft thresholds of limits"):
        zones = dict(Tenant.objects.values_list("id", "time_zone"))
        limits = Limit.objects.filter(period__in=_WORTH_A_LETTER, amount__gt=0).exclude(
            kind__in=[*PER_REQUEST, Kind.PARALLEL]
        )
        for limit in limits.exclude(window=Limit.Window.ROLLING):
            rule = rule_of(limit, zones[limit.tenant_id] if limit.tenant_id else "UTC")
            slot = rule.slot(now)
            for counter in Counter.objects.filter(
                Q(key__endswith=f":{slot.bucket}"), key__startswith=f"{rule.id}:"
            ):
                used = counter.settled + counter.opening
                subject = counter.key.removeprefix(f"{rule.id}:").rpartition(":")[0]
                made += _cross(limit, counter.key, subject, used, now)
                made += _run_short(limit, counter.key, subject, used, slot, now)
    return made


def _cross(limit: Limit, counter_key: str, subject: str, used: int, now: float) -> int:
    reached = {
        percent: key_of(limit.tenant_id, f"{counter_key}:{percent}")
        for percent in crossed(used, limit.amount, THRESHOLDS)
    }
    if not reached:
        return 0
    # Asked first, since this is looked at every minute; who comes second makes no second one.
    known = set(
        Alert.objects.filter(kind=AlertKind.QUOTA, key__in=reached.values()).values_list(
            "key", flat=True
        )
    )
    what = "refuses requests" if limit.mode == Limit.Mode.ENFORCE else "is only watched"
    return sum(
        alert(
            AlertKind.QUOTA,
            tenant_id=limit.tenant_id,
            key=f"{counter_key}:{percent}",
            title=f"{percent} % used: {limit.title}",
            text=f"{_named(limit, subject)}: {shown(limit.kind, used)} of {limit.shown_amount} are "
            f"used, {percent} % or more. At 100 % this limit {what}.",
            facts={**_facts(limit, subject, used), "percent": percent},
            now=datetime.fromtimestamp(now, UTC),
        )
        for percent, key in reached.items()
        if key not in known
    )


def _run_short(
    limit: Limit, counter_key: str, subject: str, used: int, slot: Slot, now: float
) -> int:
    if limit.kind != Kind.MONEY or limit.period == Limit.Period.DAY:
        return 0
    if used >= limit.amount or used * 100 < limit.amount * _SHOWN_PERCENT:
        return 0
    budget = standing(limit, subject, used, slot.starts_at, slot.resets_at, now)
    at = datetime.fromtimestamp(now, UTC)
    if budget.lasts_until is None or budget.lasts_until > at + _SHORT:
        return 0
    key = f"{counter_key}:runway"
    if Alert.objects.filter(kind=AlertKind.RUNWAY, key=key_of(limit.tenant_id, key)).exists():
        return 0
    anew = f", and starts anew on {budget.resets_at:%Y-%m-%d}" if budget.resets_at else ""
    return int(
        alert(
            AlertKind.RUNWAY,
            tenant_id=limit.tenant_id,
            key=key,
            title=f"Lasts until {budget.lasts_until:%Y-%m-%d %H:%M} UTC: {limit.title}",
            text=f"{_named(limit, subject)}: {shown(limit.kind, used)} of {limit.shown_amount} are "
            f"used. At this pace the rest lasts until {budget.lasts_until:%Y-%m-%d %H:%M} UTC"
            f"{anew}.",
            facts={
                **_facts(limit, subject, used),
                "lasts_until": budget.lasts_until.isoformat(),
                "resets_at": budget.resets_at.isoformat() if budget.resets_at else None,
            },
            now=at,
        )
    )


def _named(limit: Limit, subject: str) -> str:
    return f"{limit.title} ({subject})" if subject and subject != limit.scope_value else limit.title


def _facts(limit: Limit, subject: str, used: int) -> dict[str, object]:
    return {
        "limit_id": str(limit.pk),
        "limit": limit.title,
        "subject": subject,
        "used": used,
        "amount": limit.amount,
        "unit": "nano-dollars" if limit.kind == Kind.MONEY else limit.kind,
    }
