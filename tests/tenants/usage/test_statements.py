"""A statement from rollups says what the events say, whatever is added up already."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from django.db import transaction

from controlplane.kit import clock
from tenants import scope
from tenants.direct_sql import DirectSQL
from tenants.members.models import Tenant
from tenants.usage import statements, writing
from tenants.usage.models import Rollup, UsageEvent
from tenants.usage.outcome import Held, Outcome, TargetFacts
from tenants.usage.reports import month_of, report, totals
from tenants.usage.rollups import roll_up
from tenants.usage.statements import statement

pytestmark = [pytest.mark.storage, pytest.mark.django_db]


def spend(tenant: Tenant, *moments: str, model: str = "m", cost: int | None = 7) -> None:
    entries = []
    for moment in moments:
        held = Held(
            request_id=uuid.uuid4().hex,
            tenant_id=tenant.id,
            taken_at=datetime.fromisoformat(moment).replace(tzinfo=UTC).timestamp(),
            model=model,
            expected_nanos=3,
        )
        outcome = Outcome(input=10, cache_read=1, output=2, cost_nanos=cost)
        part = writing.Part(outcome, TargetFacts(provider="acme", model=model), ())
        entries += writing.entries_of(held, [part], "", clock.now())
    with scope.platform("tests"), transaction.atomic():
        writing.append(DirectSQL(), entries)


def from_events(tenant: Tenant, year: int, month: int) -> Any:
    since, until = month_of(year, month, ZoneInfo(tenant.time_zone))
    with scope.tenant(tenant.id):
        return statements._from_events(since, until, above=0)


@pytest.fixture
def uses_rollups(monkeypatch: pytest.MonkeyPatch) -> Callable[[], bool]:
    """Whether the last statement could be made of rollups."""
    really, made = statements._from_rollups, []

    def noting(*args: Any) -> Any:
        made.append(really(*args))
        return made[-1]

    monkeypatch.setattr(statements, "_from_rollups", noting)
    return lambda: made[-1] is not None


@pytest.mark.parametrize("zone", ["UTC", "America/New_York", "Asia/Kolkata"])
def test_added_up_or_not_it_is_the_same(
    zone: str, tenant: Tenant, uses_rollups: Callable[[], bool]
) -> None:
    tenant.time_zone = zone
    tenant.save(update_fields=["time_zone"])
    edges = ("2026-04-30 23:59", "2026-05-01 00:00", "2026-05-01 04:30", "2026-04-30 18:31")
    spend(tenant, "2026-05-03 12:00", *edges)
    spend(tenant, "2026-05-31 23:00", "2026-06-01 03:59", "2026-05-31 18:29", model="n", cost=None)
    roll_up()
    spend(tenant, "2026-05-20 12:00", model="n")
    # Later in the chain, earlier in time.
    spend(tenant, "2026-04-11 12:00", "2026-06-30 12:00")
    for _ in ("the last are not added up", "all are"):
        for month in (4, 5, 6):
            made = statement(tenant, 2026, month)
            assert uses_rollups()
            sums, last = from_events(tenant, 2026, month)
            assert {
                row["group"]: tuple(row[name] for name in Rollup.FIGURES) for row in made["models"]
            } == sums
            assert made["receipt"]["sequence"] == last
            with scope.tenant(tenant.id):
                event = UsageEvent.objects.get(sequence=last)
            assert made["receipt"]["hash"] == event.hash
        roll_up()


def test_days_of_another_time_zone_are_not_believed(
    tenant: Tenant, uses_rollups: Callable[[], bool]
) -> None:
    spend(tenant, "2026-04-30 23:00", "2026-05-01 12:00")
    roll_up()
    tenant.time_zone = "Europe/Berlin"
    tenant.save(update_fields=["time_zone"])
    made = statement(tenant, 2026, 5)
    assert not uses_rollups()
    assert made["totals"]["requests"] == 2


def test_a_last_place_that_nobody_noted_is_looked_up(
    tenant: Tenant, uses_rollups: Callable[[], bool]
) -> None:
    spend(tenant, "2026-05-01 12:00", "2026-05-01 13:00")
    roll_up()
    with scope.tenant(tenant.id):
        Rollup.objects.update(last_sequence=None)
    made = statement(tenant, 2026, 5)
    assert not uses_rollups()
    assert made["receipt"]["sequence"] == 2


def test_a_month_without_events_has_no_receipt(tenant: Tenant) -> None:
    made = statement(tenant, 2026, 5)
    assert (made["models"], made["receipt"]) == ([], None)
    assert made["totals"]["charge_nanos"] == 0


def test_whole_hours_and_days_are_the_sums_of_their_parts(tenant: Tenant) -> None:
    spend(tenant, "2026-05-01 12:00", "2026-05-01 12:30", "2026-05-02 00:00")
    spend(tenant, "2026-05-01 12:40", model="n", cost=100)
    assert roll_up() == 4
    assert roll_up() == 0
    since, until = datetime(2026, 5, 1, tzinfo=UTC), datetime(2026, 6, 1, tzinfo=UTC)
    with scope.tenant(tenant.id):
        by_model = report(by="model", since=since, until=until)
        by_day = report(by="day", since=since, until=until)
        by_hour = report(by="hour", since=since, until=until)
        whole = totals(since=since, until=until)
    assert [row["charge_nanos"] for row in by_day] == [114, 7]
    assert [row["charge_nanos"] for row in by_hour] == [114, 7]
    for name in Rollup.FIGURES:
        assert whole[name] == sum(row[name] for row in by_model)
