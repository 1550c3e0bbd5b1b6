"""What was spent, by whom and on what; how long a budget lasts. Read from the rollups.

In the scope of one tenant, or of the platform for all of them. Figures are as old as the last
rollup, a minute at most.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from django.db.models import Count, Q, QuerySet, Sum

from tenants import scope
from tenants.members.models import Tenant
from tenants.quotas.models import Counter, Limit
from tenants.quotas.policy import NEVER, PER_REQUEST, Kind
from tenants.quotas.snapshot import rule_of
from tenants.usage.models import Rollup, UsageEvent

# What usage can be told apart by; each is a column of the rollups.
DIMENSIONS: Final = {
    "tenant": "tenant_id",
    "key": "key_id",
    "member": "member_id",
    "model": "model",
    "provider": "provider",
    "day": "starts_at",
    "hour": "starts_at",
}
MOST_ROWS: Final = 1_000


@dataclass(frozen=True, slots=True)
class Budget:
    """A limit with what its period has seen. `lasts_until` is when it is used up at this pace;
    None when it is not within the period, or nothing is used."""

    limit: Limit
    subject: str
    used: int
    left: int
    percent: float
    starts_at: datetime | None
    resets_at: datetime | None
    lasts_until: datetime | None


def report(*, by: str, since: datetime, until: datetime) -> list[dict[str, Any]]:
    """Figures by one dimension, the dearest first; days and hours in their order."""
    column = DIMENSIONS[by]
    # Whole days are enough where nothing within them is told apart.
    grain = {"hour": "hour_sum", "day": "day_sum", "tenant": "day_sum"}.get(by, "day")
    rows: QuerySet[Any, dict[str, Any]] = (
        Rollup.objects.filter(grain=grain, starts_at__gte=since, starts_at__lt=until)
        .values(column)
        .annotate(**{f"sum_{name}": Sum(name) for name in Rollup.FIGURES})
    )
    is_time = column == "starts_at"
    rows = rows.order_by("starts_at" if is_time else "-sum_charge_nanos")
    return [
        {by: row[column], **{name: row[f"sum_{name}"] for name in Rollup.FIGURES}}
        for row in rows[:MOST_ROWS]
    ]


def totals(*, since: datetime, until: datetime) -> dict[str, int]:
    found = Rollup.objects.filter(
        grain="day_sum", starts_at__gte=since, starts_at__lt=until
    ).aggregate(**{name: Sum(name) for name in Rollup.FIGURES})
    return {name: found[name] or 0 for name in Rollup.FIGURES}


def movers(*, by: str, since: datetime, until: datetime) -> list[dict[str, Any]]:
    """Who spends more, or less, than in the period of the same length before."""
    before = {
        row[by]: row["charge_nanos"]
        for row in report(by=by, since=since - (until - since), until=since)
    }
    after = {row[by]: row["charge_nanos"] for row in report(by=by, since=since, until=until)}
    changes = [
        {by: name, "before_nanos": before.get(name, 0), "after_nanos": after.get(name, 0)}
        for name in {*before, *after}
    ]
    changes.sort(key=lambda row: (-abs(row["after_nanos"] - row["before_nanos"]), str(row[by])))
    return changes[:20]


def errors(*, since: datetime, until: datetime) -> list[dict[str, Any]]:
    """What went wrong how often, from the events themselves."""
    rows: QuerySet[Any, Any] = (
        UsageEvent.objects.filter(created_at__gte=since, created_at__lt=until)
        .exclude(error_code="")
        .values("provider", "status", "error_code")
        .annotate(count=Count("*"))
        .order_by("-count", "provider", "error_code")
    )
    return [dict(row) for row in rows[:MOST_ROWS]]


def budgets(tenant: Tenant | None, *, now: datetime | None = None) -> list[Budget]:
    """The limits of a tenant, or of the platform over all of them, with their present standing;
    one row per subject for those that each have."""
    at = now.timestamp() if now is not None else time.time()
    zone = tenant.time_zone if tenant is not None else "UTC"
    found = []
    limits = Limit.objects.filter(tenant=tenant)
    for limit in limits.order_by("scope_kind", "scope_value", "kind", "period"):
        if limit.kind in PER_REQUEST:
            continue
        rule = rule_of(limit, zone)
        slot = rule.slot(at)
        wanted = Q()
        for bucket in slot.buckets:
            wanted |= Q(key__endswith=f":{bucket}")
        sums: dict[str, int] = {}
        for counter in Counter.objects.filter(wanted, key__startswith=f"{rule.id}:"):
            subject = counter.key.removeprefix(f"{rule.id}:").rpartition(":")[0]
            sums[subject] = sums.get(subject, 0) + counter.used
        for subject, used in sorted(sums.items()) or [("", 0)]:
            found.append(standing(limit, subject, used, slot.starts_at, slot.resets_at, at))
    return found


def standing(limit: Limit, subject: str, used: int, starts: int, resets: int, now: float) -> Budget:
    """Where this limit stands for one subject, in a period of these epoch seconds."""
    has_period = starts > 0 and resets < NEVER and limit.window != Limit.Window.ROLLING
    began = float(starts) if has_period else limit.created_at.timestamp()
    left = max(0, limit.amount - used)
    lasts = None
    if used > 0 and limit.kind != Kind.PARALLEL and limit.window != Limit.Window.ROLLING:
        seconds = left * max(1.0, now - began) / used
        ends = now + seconds
        if ends < (resets if has_period else NEVER):
            lasts = datetime.fromtimestamp(ends, UTC)
    return Budget(
        limit=limit,
        subject=subject,
        used=used,
        left=left,
        percent=round(used * 100 / limit.amount, 1) if limit.amount else 100.0,
        starts_at=datetime.fromtimestamp(starts, UTC) if has_period else None,
        resets_at=datetime.fromtimestamp(resets, UTC) if has_period else None,
        lasts_until=lasts,
    )


EXPORTED: Final = (
    *("sequence", "created_at", "settled_at", "entry", "request_id", "part", "operation"),
    *("key_id", "member_id", "provider", "credential_label", "model_asked", "model_served"),
    *("client_protocol", "upstream_protocol", "status", "error_code", "finish_reason"),
    *("is_stream", "is_interrupted", "usage_source", "input", "cache_read", "cache_write"),
    *("output", "reasoning", "audio_input", "audio_output", "image_input", "image_output"),
    *("estimated_input", "estimated_output", "price_basis", "price_version", "cost_nanos"),
    *("charge_nanos", "estimated_nanos", "currency_note", "latency_ms", "first_byte_ms"),
    *("trace_id", "would_refuse", "reason", "author", "hash"),
)
_CHUNK: Final = 2_000


def export_chunk(
    tenant_id: uuid.UUID, *, since: datetime, until: datetime, after: int
) -> Sequence[tuple[Any, ...]]:
    """The next rows behind place `after` of the chain. Empty = that was all. A scope of its own:
    whoever streams must not hold one while it waits for its client."""
    with scope.tenant(tenant_id):
        return list(
            UsageEvent.objects.filter(
                sequence__gt=after, created_at__gte=since, created_at__lt=until
            )
            .order_by("sequence")
            .values_list(*EXPORTED)[:_CHUNK]
        )


def month_of(year: int, month: int, zone: Any) -> tuple[datetime, datetime]:
    first = datetime(year, month, 1, tzinfo=zone)
    after = (first + timedelta(days=32)).replace(day=1)
    return first.astimezone(UTC), after.astimezone(UTC)
