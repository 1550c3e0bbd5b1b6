"""What was spent as a page to look at: by whom and on what, what moved, how long budgets last.

The same figures as the reports of the API, in the platform's scope or in that of one tenant.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

from django.http import QueryDict

from controlplane.kit import clock
from controlplane.kit.csv_rows import csv_rows
from tenants import scope
from tenants.keys.models import ApiKey
from tenants.members.models import Membership, Tenant
from tenants.quotas.models import Limit, shown
from tenants.usage import reports
from tenants.usage.charts import Chart, chart_of, money
from tenants.usage.models import Rollup

PERIODS: Final = {
    "7": "Last 7 days",
    "30": "Last 30 days",
    "90": "Last 90 days",
    "this-month": "This month",
    "last-month": "Last month",
}
GROUPS: Final = ("tenant", "key", "member", "model", "provider", "day")
MOST_LINES: Final = 100
# A day begins at most this far from midnight UTC.
_HALF_DAY: Final = timedelta(hours=12)


@dataclass(frozen=True, slots=True)
class Asked:
    tenant: Tenant | None
    by: str
    period: str
    since: datetime
    until: datetime

    @property
    def scope(self) -> Any:
        return nullcontext() if self.tenant is None else scope.tenant(self.tenant.id)


@dataclass(frozen=True, slots=True)
class Line:
    name: str
    requests: str
    failed: str
    input_tokens: str
    output_tokens: str
    cost: str
    charged: str
    # Of all that was charged, in per cent: the length of a bar.
    share: float


@dataclass(frozen=True, slots=True)
class Mover:
    name: str
    before: str
    after: str
    change: str
    is_more: bool


@dataclass(frozen=True, slots=True)
class BudgetLine:
    title: str
    subject: str
    used: str
    amount: str
    percent: float
    # The bar's length and colour.
    filled: float
    tone: str
    resets_at: datetime | None
    lasts_until: datetime | None


class NoSuchTenant(Exception):
    """The name that was typed is nobody's."""


def asked_of(query: QueryDict) -> Asked:
    """What the page was asked for; what is no choice counts as not chosen. Raises NoSuchTenant."""
    slug = query.get("tenant", "").replace("\0", "").strip()
    tenant = Tenant.objects.filter(slug=slug).first() if slug else None
    if slug and tenant is None:
        raise NoSuchTenant
    by = query.get("by", "")
    if by not in GROUPS or (by == "tenant" and tenant is not None):
        by = "model" if tenant is not None else "tenant"
    period = query.get("period", "")
    if period not in PERIODS:
        period = "30"
    zone = ZoneInfo(tenant.time_zone) if tenant is not None else UTC
    since, until = _days_of(period, clock.now().astimezone(zone).date())
    return Asked(tenant, by, period, _midnight(since, zone), _midnight(until, zone))


def context_of(asked: Asked) -> dict[str, Any]:
    with asked.scope:
        rows = reports.report(by=asked.by, since=asked.since, until=asked.until)
        totals = reports.totals(since=asked.since, until=asked.until)
        per_day = (
            rows
            if asked.by == "day"
            else reports.report(by="day", since=asked.since, until=asked.until)
        )
        movers: list[dict[str, Any]] = []
        if asked.by != "day":
            movers = reports.movers(by=asked.by, since=asked.since, until=asked.until)
        budgets = reports.budgets(asked.tenant)
        errors = []
        if asked.tenant is not None:
            errors = reports.errors(since=asked.since, until=asked.until)
        subjects = {budget.subject for budget in budgets if budget.subject}
        name_of = _names(asked.by, [row[asked.by] for row in [*rows, *movers]], subjects)
    lines = [_line(name_of(row[asked.by]), row, totals["charge_nanos"]) for row in rows]
    return {
        "asked": asked,
        "by_label": asked.by.capitalize(),
        "totals": _line("Total", totals, totals["charge_nanos"]),
        "unknown": totals["unknown"],
        "estimated": money(totals["estimated_nanos"]),
        "failed_percent": _percent(totals["errors"], totals["requests"]),
        "lines": lines[:MOST_LINES],
        "hidden": max(0, len(lines) - MOST_LINES),
        "chart": _chart(asked, per_day),
        "movers": [
            _mover(name_of(row[asked.by]), row)
            for row in movers
            if row["before_nanos"] != row["after_nanos"]
        ][:10],
        "budgets": [_budget(budget, name_of) for budget in budgets],
        "errors": errors[:MOST_LINES],
    }


def as_csv(asked: Asked) -> bytes:
    """The table alone, and whole."""
    with asked.scope:
        rows = reports.report(by=asked.by, since=asked.since, until=asked.until)
        name_of = _names(asked.by, [row[asked.by] for row in rows], ())
    figures = Rollup.FIGURES
    lines = [
        (row[asked.by], name_of(row[asked.by]), *(row[name] for name in figures)) for row in rows
    ]
    return csv_rows([(asked.by, "name", *figures), *lines])


def _days_of(period: str, today: date) -> tuple[date, date]:
    """The first day, and the one after the last."""
    tomorrow = today + timedelta(days=1)
    first = today.replace(day=1)
    if period == "this-month":
        return first, tomorrow
    if period == "last-month":
        return (first - timedelta(days=1)).replace(day=1), first
    return tomorrow - timedelta(days=int(period)), tomorrow


def _midnight(day: date, zone: Any) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=zone)


def _names(by: str, groups: Iterable[Any], subjects: Iterable[str]) -> Callable[[object], str]:
    """How people call what a row is about. Keys, members and tenants are ids in the rollups, and
    so are the subjects of limits that each of them has."""
    ids = {str(group) for group in groups if group is not None} | set(subjects)
    known: dict[str, str] = {}
    if by == "tenant":
        known = {str(row.pk): row.slug for row in Tenant.objects.filter(pk__in=_uuids(ids))}
    uuids = _uuids(set(subjects) | (ids if by in ("key", "member") else set()))
    if uuids:
        known |= {str(key.pk): key.label for key in ApiKey.objects.filter(pk__in=uuids)}
        members = Membership.objects.filter(pk__in=uuids).select_related("user")
        known |= {str(member.pk): member.user.email for member in members}

    def name(group: object) -> str:
        if isinstance(group, datetime):
            return f"{(group + _HALF_DAY).astimezone(UTC):%Y-%m-%d}"
        if group is None or group == "":
            return "–"
        return known.get(str(group), str(group))

    return name


def _uuids(texts: Iterable[str]) -> list[str]:
    return [text for text in texts if len(text) == 36 and text.count("-") == 4]


def _percent(part: int, whole: int) -> float:
    return round(100 * part / whole, 1) if whole else 0.0


def _line(name: str, row: dict[str, Any], whole: int) -> Line:
    return Line(
        name=name,
        requests=f"{row['requests']:,}",
        failed=f"{row['errors']:,}",
        input_tokens=f"{row['input_tokens']:,}",
        output_tokens=f"{row['output_tokens']:,}",
        cost=money(row["cost_nanos"]),
        charged=money(row["charge_nanos"]),
        share=max(0.0, _percent(row["charge_nanos"], whole)),
    )


def _mover(name: str, row: dict[str, Any]) -> Mover:
    before, after = row["before_nanos"], row["after_nanos"]
    change = after - before
    return Mover(
        name=name,
        before=money(before),
        after=money(after),
        change=f"{'+' if change > 0 else '−'}{money(abs(change))}",
        is_more=change > 0,
    )


def _budget(budget: reports.Budget, name_of: Callable[[object], str]) -> BudgetLine:
    kind = budget.limit.kind
    is_watched = budget.limit.mode == Limit.Mode.SHADOW
    tone = "bad" if budget.percent >= 100 else "warn" if budget.percent >= 80 else "good"
    return BudgetLine(
        title=f"{budget.limit.title}{', only watched' if is_watched else ''}",
        subject=name_of(budget.subject) if budget.subject else "",
        used=shown(kind, budget.used),
        amount=shown(kind, budget.limit.amount),
        percent=budget.percent,
        filled=min(100.0, budget.percent),
        tone=tone,
        resets_at=budget.resets_at,
        lasts_until=budget.lasts_until,
    )


def _chart(asked: Asked, per_day: list[dict[str, Any]]) -> Chart:
    zone = asked.since.tzinfo
    first = asked.since.date()
    days = (asked.until.date() - first).days
    amounts = [0] * days
    for row in per_day:
        # Of all tenants together, each with days of its own: by the date of the day's middle.
        began = row["day"].astimezone(zone) if asked.tenant is not None else row["day"] + _HALF_DAY
        number = (began.date() - first).days
        if 0 <= number < days:
            amounts[number] += row["charge_nanos"]
    return chart_of(first, amounts)
