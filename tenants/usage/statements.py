"""A month of a tenant's usage on one page, with a receipt.

The receipt names the last event that the statement covers, by place and hash: whoever kept it can
see later that the chain still passes through it, so that nothing before it was rewritten.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from zoneinfo import ZoneInfo

from django.db.models import BigIntegerField, Count, F, Q, QuerySet, Sum, Value
from django.db.models.functions import Coalesce

from tenants import scope
from tenants.errors import NotFound
from tenants.members.models import Tenant
from tenants.usage.models import UsageEvent
from tenants.usage.reports import month_of
from tenants.usage.retention import covers

_FIGURES = (
    *("requests", "errors", "unknown", "input_tokens", "output_tokens"),
    *("cost_nanos", "charge_nanos", "estimated_nanos"),
)


def statement(tenant: Tenant, year: int, month: int) -> dict[str, Any]:
    """From the events themselves, not from rollups: it has to be right to the last one."""
    since, until = month_of(year, month, ZoneInfo(tenant.time_zone))
    with scope.tenant(tenant.id):
        if covers(tenant.id, since):
            raise NotFound(
                "Events of this month are no longer kept: a statement would not be complete. The "
                "report has its sums.",
                param="month",
            )
        events = UsageEvent.objects.filter(created_at__gte=since, created_at__lt=until)
        sums: QuerySet[Any, Any] = events.values("model_asked").annotate(**_sums())
        rows = sorted(
            sums.order_by(), key=lambda row: (-row["sum_charge_nanos"], row["model_asked"])
        )
        last = events.order_by("-sequence").first()
    models = [
        {"group": row["model_asked"], **{name: row[f"sum_{name}"] for name in _FIGURES}}
        for row in rows
    ]
    return {
        "tenant": tenant.name,
        "month": f"{year:04}-{month:02}",
        "since": since,
        "until": until,
        "totals": {name: sum(row[name] for row in models) for name in _FIGURES},
        "models": models,
        "receipt": None if last is None else {"sequence": last.sequence, "hash": last.hash},
    }


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
