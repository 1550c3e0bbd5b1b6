"""Old events go behind a sealed checkpoint, and the ledger still proves the rest."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from controlplane.kit import clock
from tenants import scope
from tenants.audit.actor import acting_as
from tenants.audit.models import AuditEvent
from tenants.errors import NotFound
from tenants.members.models import Tenant
from tenants.usage import reports, retention, tasks
from tenants.usage.corrections import correct
from tenants.usage.models import LedgerCheckpoint, Posting, UsageEvent
from tenants.usage.rollups import roll_up
from tenants.usage.statements import statement
from tests.tenants.usage.conftest import off_loop
from tests.tenants.usage.test_verify import checked, execute, ledger

__all__ = ["ledger"]

pytestmark = [pytest.mark.storage, pytest.mark.django_db(transaction=True)]


def later() -> datetime:
    return clock.now() + timedelta(days=1)


def drop(before: datetime | None = None, step: int = retention.STEP) -> list[int]:
    """What goes at each step."""
    roll_up()
    dropped = []
    with scope.platform("tests"), acting_as("system", None, "tests"):
        for owner in retention.owners():
            while count := retention.drop_step(owner, before=before or later(), step=step):
                dropped.append(count)
    return dropped


def kept() -> tuple[list[int], int]:
    with scope.platform("tests"):
        left = UsageEvent.objects.order_by("sequence").values_list("sequence", flat=True)
        orphans = Posting.objects.exclude(event__in=UsageEvent.objects.all()).count()
        return list(left), orphans


def totals() -> dict[str, int]:
    with scope.platform("tests"):
        return reports.totals(since=clock.now() - timedelta(days=2), until=later())


async def test_what_is_left_is_proved_with_its_counters_and_sums(ledger: list[UsageEvent]) -> None:
    def act() -> None:
        roll_up()
        before = totals()
        assert drop(step=2) == [2, 2, 1]
        assert kept() == ([6], 0), "the last event of a chain stays"
        assert drop() == []
        report = checked()
        assert report.findings == []
        assert (report.events, report.chains) == (1, 1)
        assert report.counters >= 2
        assert totals() == before
        with scope.platform("tests"):
            trail = AuditEvent.objects.filter(action=retention.ACTION).order_by("sequence")
            assert [event.after["sequence"] for event in trail if event.after] == [2, 4, 5]

    await off_loop(act)


async def test_only_what_is_old_and_rolled_up_goes(ledger: list[UsageEvent]) -> None:
    def act() -> None:
        with scope.platform("tests"), acting_as("system", None, "tests"):
            owner = retention.owners()[0]
            assert retention.drop_step(owner, before=later()) == 0, "nothing is rolled up yet"
        assert drop(before=ledger[0].settled_at) == []
        assert drop(before=ledger[3].settled_at) == [3]
        assert kept() == ([4, 5, 6], 0)
        assert checked().findings == []

    await off_loop(act)


async def test_a_damaged_chain_stays_as_it_is(ledger: list[UsageEvent]) -> None:
    def act() -> None:
        execute("UPDATE tenants_usageevent SET output = 999 WHERE sequence = 3")
        assert drop() == [2]
        assert kept()[0] == [3, 4, 5, 6]
        (finding,) = checked().findings
        assert "#3: Its content does not match its hash." in str(finding)

    await off_loop(act)


@pytest.mark.parametrize(
    "change",
    [
        {"sequence": 4},
        {"hash": "0" * 64},
        {"charge_nanos": 0},
        {"events": 1},
        {"counted": "{}"},
        {"created_until": None},
    ],
)
async def test_a_checkpoint_that_somebody_else_made_is_found(
    ledger: list[UsageEvent], change: dict[str, Any]
) -> None:
    def act() -> None:
        assert drop() == [5]
        with scope.platform("tests"):
            LedgerCheckpoint.objects.update(**change)
        assert any("audit log" in str(finding) for finding in checked().findings)

    await off_loop(act)


async def test_events_that_were_deleted_by_hand_are_missed(ledger: list[UsageEvent]) -> None:
    def act() -> None:
        execute("DELETE FROM tenants_usageevent WHERE sequence <= 3")
        with scope.platform("tests"):
            LedgerCheckpoint.objects.create(
                tenant_id=ledger[0].tenant_id, sequence=3, hash=ledger[2].hash, events=3
            )
        assert any("audit log" in str(finding) for finding in checked().findings)

    await off_loop(act)


async def test_what_is_gone_is_not_made_up(ledger: list[UsageEvent], tenant: Tenant) -> None:
    def act() -> None:
        now = clock.now()
        assert statement(tenant, now.year, now.month)["receipt"]["sequence"] == 6
        drop()
        with pytest.raises(NotFound, match="no longer kept"):
            statement(tenant, now.year, now.month)
        with (
            scope.tenant(tenant.id),
            acting_as("command", None, "tests"),
            pytest.raises(NotFound),
        ):
            correct(tenant=tenant, request_id="request-1", charge_nanos=-1, reason="refund")

    await off_loop(act)


async def test_the_job_does_nothing_until_the_operator_says_so(
    ledger: list[UsageEvent], settings: Any
) -> None:
    def act() -> None:
        roll_up()
        assert tasks.drop_old_events() is None
        assert len(kept()[0]) == 6
        settings.USAGE_KEEP_DAYS = 62
        assert tasks.drop_old_events() is None
        assert len(kept()[0]) == 6
        settings.USAGE_KEEP_DAYS = -1
        assert tasks.drop_old_events() is None
        assert kept()[0] == [6]

    await off_loop(act)
