"""The ledger proves itself, and notices whatever was done to it."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import DatabaseError, connection, transaction
from django.utils.module_loading import import_string

from tenants import scope
from tenants.alerts.models import Alert
from tenants.quotas.models import Counter
from tenants.usage.models import LedgerAppendOnly, Posting, Rollup, UsageEvent
from tenants.usage.outcome import Facts, Outcome, TargetFacts
from tenants.usage.rollups import roll_up
from tenants.usage.verify import Report, verify
from tests.tenants.usage.conftest import off_loop

pytestmark = [pytest.mark.storage, pytest.mark.django_db(transaction=True)]

_migration = "tenants.migrations.0005_ledger_append_only"


def execute(sql: str, *params: Any) -> None:
    """As somebody would who has the database's own password and drops its triggers."""
    from importlib import import_module
    from unittest import mock

    migration = import_module(_migration)
    editor = mock.Mock(connection=connection)
    migration.allow_changes(None, editor)
    try:
        with scope.platform("tests"), connection.cursor() as cursor:
            cursor.execute(sql, params)
    finally:
        migration.refuse_changes(None, editor)


def checked() -> Report:
    roll_up()
    return verify()


@pytest.fixture
async def ledger(
    limit: Callable[..., Any], facts: Callable[..., Facts], start: Any
) -> list[UsageEvent]:
    """Six requests of one tenant: settled, failed, with an attempt before."""
    await limit("tokens", 10**6, "day")
    await limit("money", 10**12, "month")
    metering = await start()
    for number in range(5):
        hold = await metering.begin(f"request-{number}", facts())
        await hold.attempt(TargetFacts(provider="acme", model="m"))
        await hold.settle(Outcome(input=10, output=number, cost_nanos=1_000 + number))
    hold = await metering.begin("request-5", facts())
    await hold.attempt(TargetFacts(provider="acme", model="m"))
    await hold.settle(Outcome(status=503, error_code="upstream_error"))

    def read() -> list[UsageEvent]:
        with scope.platform("tests"):
            return list(UsageEvent.objects.order_by("sequence"))

    return list(await off_loop(read))


async def test_what_was_written_adds_up(ledger: list[UsageEvent]) -> None:
    report = await off_loop(checked)
    assert report.findings == []
    assert (report.events, report.chains) == (6, 1)
    assert report.counters >= 2

    def command() -> str:
        out = io.StringIO()
        call_command("ledger", "verify", stdout=out, stderr=io.StringIO())
        return out.getvalue()

    assert "everything adds up" in await off_loop(command)


@pytest.mark.parametrize(
    ("sql", "what"),
    [
        ("UPDATE tenants_usageevent SET output = 999 WHERE sequence = 2", "match its hash"),
        ("UPDATE tenants_usageevent SET charge_nanos = 1 WHERE sequence = 2", "match its hash"),
        ("UPDATE tenants_usageevent SET created_at = settled_at WHERE sequence = 3", "its hash"),
        ("DELETE FROM tenants_usageevent WHERE sequence = 3", "1 events before it are missing"),
        ("DELETE FROM tenants_usageevent WHERE sequence = 6", "its head says 6"),
        ("UPDATE tenants_ledgerhead SET sequence = 5", "head"),
        ("UPDATE tenants_posting SET amount_nanos = amount_nanos + 1", "add up to"),
        ("UPDATE tenants_counter SET settled = settled + 1", "the ledger says"),
        ("UPDATE tenants_counter SET reserved = 7", "open holds say 0"),
        ("DELETE FROM tenants_ledgerhead", "no head"),
    ],
)
async def test_whatever_is_changed_is_found(ledger: list[UsageEvent], sql: str, what: str) -> None:
    await off_loop(execute, sql)
    report = await off_loop(checked)
    assert any(what in str(finding) for finding in report.findings), report.findings

    def command() -> None:
        call_command("ledger", "verify", stdout=io.StringIO(), stderr=io.StringIO())

    with pytest.raises(CommandError, match="does not add up"):
        await off_loop(command)


async def test_a_rollup_that_was_changed_is_found(ledger: list[UsageEvent]) -> None:
    assert (await off_loop(checked)).findings == []
    await off_loop(execute, "UPDATE tenants_rollup SET charge_nanos = 1")
    report = await off_loop(verify)
    said = " ".join(str(finding) for finding in report.findings)
    assert "Rollups by day say" in said
    assert "Rollups by day_sum say" in said


async def test_the_database_refuses_to_change_history(ledger: list[UsageEvent]) -> None:
    def tamper(table: str, column: str) -> None:
        with scope.platform("tests"), transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(f"UPDATE {table} SET {column} = {column}")

    for table, column in (("tenants_usageevent", "output"), ("tenants_posting", "account")):
        with pytest.raises(DatabaseError, match="never changed"):
            await off_loop(tamper, table, column)

    def by_model() -> None:
        with scope.platform("tests"):
            event = UsageEvent.objects.first()
            for change in (event.save, event.delete, UsageEvent.objects.all().delete):
                with pytest.raises(LedgerAppendOnly):
                    change()
            with pytest.raises(LedgerAppendOnly):
                UsageEvent.objects.update(output=1)

    await off_loop(by_model)


async def test_postings_balance_and_say_where_the_money_went(ledger: list[UsageEvent]) -> None:
    def read() -> dict[str, int]:
        sums: dict[str, int] = {}
        with scope.platform("tests"):
            for posting in Posting.objects.all():
                name = f"{posting.account}:{posting.party}"
                sums[name] = sums.get(name, 0) + posting.amount_nanos
        return sums

    assert await off_loop(read) == {"spend:": 5_010, "provider:acme": -5_010}


async def test_rolling_up_twice_adds_nothing(ledger: list[UsageEvent]) -> None:
    def read() -> list[Any]:
        with scope.platform("tests"):
            return list(Rollup.objects.order_by("id").values())

    assert await off_loop(roll_up) == 6
    first = await off_loop(read)
    assert await off_loop(roll_up) == 0
    assert await off_loop(read) == first
    day = [row for row in first if row["grain"] == "day"]
    assert sum(row["requests"] for row in day) == 6
    assert sum(row["errors"] for row in day) == 1
    assert sum(row["charge_nanos"] for row in day) == 5_010
    assert sum(row["output_tokens"] for row in day) == 10


async def test_the_nightly_job_says_what_it_found(ledger: list[UsageEvent]) -> None:
    job = import_string("tenants.usage.tasks.verify_ledger")

    def told() -> list[Alert]:
        with scope.platform("tests"):
            return list(Alert.objects.filter(kind="ledger"))

    await off_loop(job)
    assert await off_loop(told) == []
    await off_loop(execute, "UPDATE tenants_counter SET settled = settled + 1")
    await off_loop(job)
    (alert,) = await off_loop(told)
    assert alert.tenant_id is None
    assert "the ledger says" in alert.text
    assert await off_loop(Counter.objects.count) >= 2
