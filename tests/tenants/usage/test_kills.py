"""Killed under load: nothing answered is missing, nothing stays open, nothing counts twice (R4)."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import Counter as Tally
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.db import connection

from tenants import scope
from tenants.members.models import Tenant
from tenants.quotas.models import Counter, Limit
from tenants.usage.leases import LEASE_SECONDS, settle_abandoned
from tenants.usage.models import Hold, UsageEvent
from tenants.usage.verify import verify
from tests.conftest import ROOT

pytestmark = [pytest.mark.storage, pytest.mark.django_db(transaction=True)]

SCRIPT = Path(__file__).with_name("killed_gateway.py")


def run_and_kill(tenant: Tenant, answers: int) -> list[str]:
    """Lets it answer so many requests, kills it, and gives the ids it said it had answered."""
    command = [
        *(sys.executable, str(SCRIPT), str(connection.settings_dict["NAME"])),
        *(str(tenant.id), settings.REDIS_URL),
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    said: list[str] = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                said.append(line.decode().strip())
                if len(said) >= answers:
                    break
        finally:
            process.kill()
        # What it managed to say before the kill reached it counts as well.
        said += [line.decode().strip() for line in process.stdout]
    return [name for name in said if len(name) == 32]


def kill_again_and_again(tenant: Tenant, kills: int) -> None:
    with scope.platform("tests"):
        for kind, period in (("requests", "day"), ("money", "month"), ("parallel", "none")):
            Limit.objects.create(
                tenant=tenant, scope_kind="tenant", kind=kind, period=period, amount=10**9
            )
    answered: list[str] = []
    for number in range(kills):
        answered += run_and_kill(tenant, 20 + 17 * number % 60)
    with scope.platform("tests"):
        settle_abandoned(now=time.time() + LEASE_SECONDS + 1)
        assert not Hold.objects.exists(), "unsettled"
        events: list[Any] = list(UsageEvent.objects.values_list("request_id", "entry"))
    tally = Tally(request_id for request_id, _ in events)
    assert max(tally.values()) == 1, "counted twice"
    settled = {request_id for request_id, entry in events if entry == "usage"}
    missing = set(answered) - settled
    assert not missing, f"answered without a row: {len(missing)}"
    assert len(answered) >= 20 * kills
    report = verify()
    assert report.findings == []
    parallel = Counter.objects.filter(key__endswith=":now")
    assert [one.used for one in parallel] in ([], [0])


def test_killed_under_load(tenant: Tenant) -> None:
    kill_again_and_again(tenant, 2)


@pytest.mark.soak
def test_killed_twenty_times_under_load(tenant: Tenant) -> None:
    kill_again_and_again(tenant, 20)
