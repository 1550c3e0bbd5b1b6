"""How a tenant's requests reserve, are charged, and are written; and what an outage changes."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from django.db import OperationalError

from tenants import scope
from tenants.members.models import Tenant
from tenants.quotas.errors import RateLimited, UnpricedModel
from tenants.quotas.models import UsagePolicy
from tenants.usage.at_once import AtOnce
from tenants.usage.models import Posting
from tenants.usage.outcome import Facts, Outcome, TargetFacts, marked_up
from tests.tenants.usage.conftest import events, holds, off_loop, until, used

pytestmark = [pytest.mark.storage, pytest.mark.django_db(transaction=True)]

MakeFacts = Callable[..., Facts]


@pytest.fixture
def policy(tenant: Tenant) -> Callable[..., Any]:
    async def make(**fields: Any) -> None:
        def create() -> None:
            with scope.tenant(tenant.id):
                UsagePolicy.objects.create(tenant=tenant, **fields)

        await off_loop(create)

    return make


async def test_strict_holds_the_worst_case_and_none_holds_nothing(
    limit: Callable[..., Any], facts: MakeFacts, start: Any, policy: Any
) -> None:
    tokens = await limit("tokens", 1_000, "day")
    metering = await start()
    await metering.begin("r-1", facts(output_tokens=800))
    assert await off_loop(used, tokens) == 900
    await policy(reservation="none")
    await off_loop(metering.limits.reload)
    hold = await metering.begin("r-2", facts(output_tokens=800))
    assert await off_loop(used, tokens) == 900
    await hold.settle(Outcome(input=100, output=0))
    with pytest.raises(RateLimited):
        await metering.begin("r-3", facts())


async def test_learned_holds_what_such_requests_took_lately(
    limit: Callable[..., Any], facts: MakeFacts, start: Any, policy: Any
) -> None:
    tokens = await limit("tokens", 10**6, "day")
    await policy(reservation="learned")
    metering = await start()
    hold = await metering.begin("r-0", facts(output_tokens=8_000))
    assert await off_loop(used, tokens) == 8_100, "nothing is learned yet: the worst case"
    await hold.settle(Outcome(input=0, output=0))
    for output in range(1, 41):
        metering.learned.note(facts().tenant_id, "gpt-test", output)
    await metering.begin("r-1", facts(output_tokens=8_000))
    assert 100 + 35 <= await off_loop(used, tokens) <= 100 + 40


async def test_relaxed_does_not_wait_and_is_written_all_the_same(
    facts: MakeFacts, start: Any, policy: Any
) -> None:
    await policy(durability="relaxed")
    metering = await start()
    hold = await metering.begin("r-1", facts())
    assert await off_loop(holds) == 0
    await hold.settle(Outcome(input=1, output=1))
    await until(lambda: len(events()) == 1)


async def test_a_model_without_a_price_follows_the_policy(
    facts: MakeFacts, start: Any, policy: Any
) -> None:
    metering = await start()
    hold = await metering.begin("r-1", facts(nanos=lambda *_: None))
    await hold.settle(Outcome(input=1, output=1, price_basis="unpriced"))
    (event,) = await off_loop(events)
    assert (event.price_basis, event.cost_nanos, event.estimated_nanos) == ("unpriced", None, 0)
    await policy(unpriced="refuse")
    await off_loop(metering.limits.reload)
    with pytest.raises(UnpricedModel):
        await metering.begin("r-2", facts(nanos=lambda *_: None))


async def test_a_mark_up_is_the_platforms_margin(
    limit: Callable[..., Any], facts: MakeFacts, start: Any, policy: Any
) -> None:
    spend = await limit("money", 10**9, "month")
    cost = await limit("money", 10**9, "month", scope_kind="provider", scope_value="acme")
    await policy(mark_up=1_500)
    metering = await start()
    hold = await metering.begin("r-1", facts())
    await hold.attempt(TargetFacts(provider="acme", model="m"))
    await hold.settle(Outcome(input=1, output=1, cost_nanos=1_000))
    assert [await off_loop(used, one) for one in (spend, cost)] == [1_150, 1_000]

    def postings() -> dict[str, int]:
        with scope.platform("tests"):
            return dict(Posting.objects.values_list("account", "amount_nanos"))

    assert await off_loop(postings) == {"spend": 1_150, "provider": -1_000, "margin": -150}


@pytest.mark.parametrize(
    ("cost", "mark_up", "charge"),
    [(5, 1_000, 6), (15, 1_000, 16), (25, 1_000, 28), (100, -10_000, 0), (7, 0, 7)],
)
def test_half_a_nano_dollar_goes_to_the_even_neighbour(
    cost: int, mark_up: int, charge: int
) -> None:
    assert marked_up(cost, mark_up) == charge


async def test_each_key_has_its_own_part(
    limit: Callable[..., Any], facts: MakeFacts, start: Any, tenant: Tenant
) -> None:
    await limit("requests", 2, "minute", scope_kind="key", scope_value="*")
    metering = await start()
    for key_id in (uuid.uuid4(), uuid.uuid4()):
        for number in range(2):
            await metering.begin(f"{key_id}-{number}", facts(key_id=key_id))
        with pytest.raises(RateLimited):
            await metering.begin(f"{key_id}-2", facts(key_id=key_id))


async def test_the_platform_gives_each_tenant_as_much(
    limit: Callable[..., Any], facts: MakeFacts, start: Any, other_tenant: Tenant
) -> None:
    await limit("requests", 1, "minute", tenant=None, scope_kind="tenant", scope_value="*")
    total = await limit("requests", 9, "minute", tenant=None, scope_kind="platform")
    metering = await start()
    await metering.begin("r-1", facts())
    await metering.begin("r-2", facts(tenant_id=other_tenant.id))
    with pytest.raises(RateLimited):
        await metering.begin("r-3", facts())
    assert await off_loop(used, total) == 2


async def test_one_request_that_cannot_be_written_does_not_take_others_with_it(
    facts: MakeFacts, start: Any
) -> None:
    metering = await start()
    good, bad = [await metering.begin(f"r-{number}", facts()) for number in range(2)]
    await asyncio.gather(
        bad.settle(Outcome(status="nonsense")),  # type: ignore[arg-type]  # that is the point
        good.settle(Outcome(input=1, output=1)),
    )
    assert [event.request_id for event in await off_loop(events)] == ["r-0"]


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_connection_that_breaks_around_the_commit_counts_nothing_twice(
    when: str,
    limit: Callable[..., Any],
    facts: MakeFacts,
    start: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`after`: it was committed, and nobody heard of it."""
    requests = await limit("requests", 100, "day")
    metering = await start()
    running = await metering.begin("r-0", facts())
    group = metering.writer.group
    really = group._execute
    calls: list[int] = []

    def breaks(operations: Any) -> None:
        calls.append(len(operations))
        if len(calls) > 1:
            really(operations)
            return
        if when == "after":
            really(operations)
        raise OperationalError("server closed the connection unexpectedly")

    monkeypatch.setattr(AtOnce, "takes", lambda _: False)
    monkeypatch.setattr("tenants.usage.group._is_alive", lambda: False)
    monkeypatch.setattr(group, "_execute", breaks)
    hold = await metering.begin("r-1", facts())
    assert await off_loop(used, requests) == 2
    calls.clear()
    await running.settle(Outcome(input=1, output=1))
    calls.append(1)
    await hold.settle(Outcome(input=1, output=1))
    assert await off_loop(used, requests) == 2
    assert len(await off_loop(events)) == 2
    assert await off_loop(holds) == 0
