"""A month of a tenant's usage on one page, with a receipt.

The receipt names the last event that the statement covers, by place and hash: whoever kept it can
see later that the chain still passes through it, so that nothing before it was rewritten.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, time, timedelta
from operator import add
from typing import Any
from zoneinfo import ZoneInfo

from django.db.models import BigIntegerField, Count, F, Q, QuerySet, Sum, Value
from django.db.models.functions import Coalesce

from tenants import scope
from tenants.errors import NotFound
from tenants.members.models import Tenant
from tenants.usage.models import Rollup, RollupMark, UsageEvent
from tenants.usage.reports import month_of
from tenants.usage.retention import covers

_FIGURES = (
    *("requests", "errors", "unknown", "input_tokens", "output_tokens"),
    *("cost_nanos", "charge_nanos", "estimated_nanos"),
)

# By model, and the last place of the chain that is in them.
Figures = tuple[dict[str, tuple[int, ...]], int | None]


def statement(tenant: Tenant, year: int, month: int) -> dict[str, Any]:
    """Right to the last event: rollups, and what they do not count yet from the events."""
    zone = ZoneInfo(tenant.time_zone)
    since, until = month_of(year, month, zone)
    with scope.tenant(tenant.id):
        if covers(tenant.id, since):
            raise NotFound(
                "Events of this month are no longer kept: a statement would not be complete. The "
                "report has its sums.",
                param="month",
            )
        sums, last = _from_rollups(since, until, zone) or _from_events(since, until, above=0)
        receipt = None
        if last is not None:
            receipt = {
                "sequence": last,
                "hash": UsageEvent.objects.values_list("hash", flat=True).get(sequence=last),
            }
    models = [
        {"group": name, **dict(zip(_FIGURES, figures, strict=True))}
        for name, figures in sorted(
            sums.items(), key=lambda one: (-one[1][_FIGURES.index("charge_nanos")], one[0])
        )
    ]
    return {
        "tenant": tenant.name,
        "month": f"{year:04}-{month:02}",
        "since": since,
        "until": until,
        "totals": {name: sum(row[name] for row in models) for name in _FIGURES},
        "models": models,
        "receipt": receipt,
    }


def _from_rollups(since: datetime, until: datetime, zone: ZoneInfo) -> Figures | None:
    """None where they cannot tell: days of another time zone, a last place that nobody noted, or
    an adding up that went on meanwhile."""
    mark = _mark()
    days = Rollup.objects.filter(starts_at__gt=since - timedelta(days=1), starts_at__lt=until)
    wholes = list(days.filter(grain="day_sum").values_list("starts_at", "last_sequence"))
    if any(
        last is None or starts_at.astimezone(zone).time() != time() for starts_at, last in wholes
    ):
        return None
    rows: QuerySet[Any, Any] = (
        days.filter(grain="day", starts_at__gte=since)
        .order_by()
        .values_list("model")
        .annotate(*(Sum(name) for name in _FIGURES))
    )
    sums = {model: tuple(figures) for model, *figures in rows}
    newer, newest = _from_events(since, until, above=mark)
    if _mark() != mark:
        return None
    for model, figures in newer.items():
        before = sums.get(model, (0,) * len(_FIGURES))
        sums[model] = tuple(map(add, before, figures))
    known = [last for starts_at, last in wholes if starts_at >= since and last is not None]
    return sums, newest or max(known, default=None)


def _from_events(since: datetime, until: datetime, *, above: int) -> Figures:
    events = UsageEvent.objects.filter(created_at__gte=since, created_at__lt=until)
    if above:
        events = events.filter(sequence__gt=above)
    rows: QuerySet[Any, Any] = events.order_by().values("model_asked").annotate(**_sums())
    sums = {row["model_asked"]: tuple(row[f"sum_{name}"] for name in _FIGURES) for row in rows}
    return sums, events.order_by("-sequence").values_list("sequence", flat=True).first()


def _mark() -> int:
    return RollupMark.objects.values_list("sequence", flat=True).first() or 0


def statement_lines(found: dict[str, Any]) -> Iterator[list[Any]]:
    """The statement as rows of a table, its receipt at the end."""
    yield ["month", "model", *_FIGURES]
    for row in found["models"]:
        yield [found["month"], row["group"], *(row[name] for name in _FIGURES)]
    yield [found["month"], "total", *(found["totals"][name] for name in _FIGURES)]
    if found["receipt"] is not None:
        yield ["receipt", found["receipt"]["sequence"], found["receipt"]["hash"]]


def _sums() -> dict[str, Any]:
    is_request = Q(part=0, entry__in=["usage", "presumed"])
    failed = is_request & (Q(status__gte=400) | Q(status=0))

    def summed(expression: Any) -> Any:
        return Coalesce(Sum(expression, output_field=BigIntegerField()), Value(0))

    def filled(name: str) -> Any:
        return Coalesce(F(name), Value(0))

    return {
        "sum_requests": Count("id", filter=is_request),
        "sum_errors": Count("id", filter=failed),
        "sum_unknown": Count("id", filter=is_request & Q(cost_nanos=None)),
        "sum_input_tokens": summed(
            filled("input") + filled("cache_read") + filled("cache_write") + F("estimated_input")
        ),
        "sum_output_tokens": summed(filled("output") + F("estimated_output")),
        "sum_cost_nanos": summed(F("cost_nanos")),
        "sum_charge_nanos": summed(F("charge_nanos")),
        "sum_estimated_nanos": summed(F("estimated_nanos")),
    }
