"""What a dead process held is settled by somebody else, once (bars R3, R4)."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from tenants import scope
from tenants.usage.leases import LEASE_SECONDS, settle_abandoned
from tenants.usage.models import MeteringProcess
from tenants.usage.outcome import Facts, Outcome, TargetFacts
from tests.tenants.usage.conftest import events, holds, off_loop, used

pytestmark = [pytest.mark.storage, pytest.mark.django_db(transaction=True)]

MakeFacts = Callable[..., Facts]


def reap(later: float = 0.0) -> int:
    with scope.platform("tests"):
        return settle_abandoned(now=time.time() + later)


async def test_the_living_are_left_alone(
    limit: Callable[..., Any], facts: MakeFacts, start: Any
) -> None:
    parallel = await limit("parallel", 5)
    metering = await start()
    hold = await metering.begin("request-1", facts())
    assert await off_loop(reap) == 0
    assert await off_loop(used, parallel) == 1
    await hold.settle(Outcome(input=1, output=1))


async def test_a_dead_processs_holds_are_settled_as_unknown_with_an_estimate(
    limit: Callable[..., Any], facts: MakeFacts, start: Any
) -> None:
    parallel, tokens = await limit("parallel", 5), await limit("tokens", 10_000, "day")
    metering = await start()
    for number in range(3):
        await metering.begin(f"request-{number}", facts())
    assert await off_loop(reap, LEASE_SECONDS + 1) == 3
    assert await off_loop(reap, LEASE_SECONDS + 1) == 0
    assert await off_loop(holds) == 0
    found = await off_loop(events)
    assert [event.entry for event in found] == ["presumed"] * 3
    for event in found:
        assert (event.input, event.output, event.cost_nanos) == (None, None, None)
        assert (event.estimated_input, event.estimated_output) == (100, 50)
        assert event.estimated_nanos > 0
    assert await off_loop(used, parallel) == 0
    assert await off_loop(used, tokens) == 450


async def test_a_request_that_ended_after_all_is_corrected_once(
    limit: Callable[..., Any], facts: MakeFacts, start: Any
) -> None:
    """A process that was stopped for longer than its lease, and went on."""
    tokens = await limit("tokens", 10_000, "day")
    metering = await start()
    hold = await metering.begin("request-1", facts())
    other = await metering.begin("request-2", facts())
    await hold.attempt(TargetFacts(provider="acme", model="m"))
    assert await off_loop(reap, LEASE_SECONDS + 1) == 2
    await hold.settle(Outcome(input=7, output=3, cost_nanos=500))
    other.end()
    presumed, _, correction = await off_loop(events)
    assert correction.entry == "correction"
    assert correction.request_id == presumed.request_id
    assert (correction.input, correction.output, correction.cost_nanos) == (7, 3, 500)
    assert correction.estimated_nanos == -presumed.estimated_nanos
    assert correction.reason
    assert await off_loop(used, tokens) == 10 + 150


async def test_a_process_that_ends_well_leaves_no_row(facts: MakeFacts, start: Any) -> None:
    metering = await start()
    hold = await metering.begin("request-1", facts())
    await hold.settle(Outcome(input=1, output=1))
    assert await off_loop(MeteringProcess.objects.count) == 1
    await off_loop(metering.stop)
    assert await off_loop(MeteringProcess.objects.count) == 0
