"""Held before it is sent, settled once, refused without taking anything."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from tenants.quotas.errors import BudgetExhausted, RateLimited, RequestTooCostly
from tenants.usage.outcome import Facts, Outcome, TargetFacts
from tests.tenants.usage.conftest import events, holds, off_loop, until, used

pytestmark = [pytest.mark.storage, pytest.mark.django_db(transaction=True)]

Make = Callable[..., Any]
MakeFacts = Callable[..., Facts]


async def test_a_request_is_held_and_settled_to_what_it_used(
    limit: Make, facts: MakeFacts, start: Any
) -> None:
    requests = await limit("requests", 10, "minute")
    tokens = await limit("tokens", 10_000, "day")
    money = await limit("money", 10**9, "month")
    parallel = await limit("parallel", 3)
    metering = await start()

    hold = await metering.begin("request-1", facts())
    assert await off_loop(holds) == 1
    assert [await off_loop(used, one) for one in (requests, tokens, money, parallel)] == [
        1,
        150,
        100 * 10 + 50 * 30,
        1,
    ]
    await hold.attempt(TargetFacts(provider="acme", model="acme-1"))
    await hold.settle(
        Outcome(input=80, cache_read=20, output=7, cost_nanos=1_234, price_basis="price")
    )
    assert await off_loop(holds) == 0
    assert [await off_loop(used, one) for one in (requests, tokens, money, parallel)] == [
        1,
        107,
        1_234,
        0,
    ]
    (event,) = await off_loop(events)
    assert (event.input, event.cache_read, event.output, event.reasoning) == (80, 20, 7, None)
    assert (event.provider, event.model_served, event.cost_nanos) == ("acme", "acme-1", 1_234)
    assert event.hash == event.expected_hash()


async def test_settling_twice_counts_once(limit: Make, facts: MakeFacts, start: Any) -> None:
    tokens = await limit("tokens", 10_000, "day")
    metering = await start()
    hold = await metering.begin("request-1", facts())
    await hold.settle(Outcome(input=5, output=5))
    await hold.settle(Outcome(input=500, output=500))
    hold.end()
    assert len(await off_loop(events)) == 1
    assert await off_loop(used, tokens) == 10


async def test_a_refusal_takes_nothing_and_says_why(
    limit: Make, facts: MakeFacts, start: Any
) -> None:
    requests = await limit("requests", 5, "minute")
    tokens = await limit("tokens", 200, "day")
    metering = await start()
    await metering.begin("request-1", facts())
    with pytest.raises(RateLimited) as refusal:
        await metering.begin("request-2", facts())
    facts_of = refusal.value.exceeded
    assert facts_of is not None
    assert (facts_of.limit_id, facts_of.scope, facts_of.kind) == (tokens.id.hex, "tenant", "tokens")
    assert (facts_of.used, facts_of.wanted, facts_of.limit) == (150, 150, 200)
    assert facts_of.resets_at is not None
    assert refusal.value.fault().http_status == 429
    assert refusal.value.retry_after_seconds
    assert "150 used" in refusal.value.message
    assert await off_loop(used, requests) == 1
    assert await off_loop(holds) == 1


async def test_money_that_is_spent_is_a_402(limit: Make, facts: MakeFacts, start: Any) -> None:
    await limit("money", 1_000, "month")
    metering = await start()
    with pytest.raises(BudgetExhausted) as refusal:
        await metering.begin("request-1", facts())
    assert refusal.value.fault().http_status == 402


async def test_nothing_sent_gives_everything_back(
    limit: Make, facts: MakeFacts, start: Any
) -> None:
    limits = [
        await limit("requests", 5, "minute"),
        await limit("tokens", 200, "day"),
        await limit("parallel", 1),
    ]
    metering = await start()
    hold = await metering.begin("request-1", facts())
    hold.end()
    hold = await metering.begin("request-2", facts())
    hold.end()
    await until(lambda: not metering.writer.waiting and not holds())
    assert [await off_loop(used, one) for one in limits] == [0, 0, 0]
    assert await off_loop(events) == []


async def test_a_limit_of_none_lets_nothing_through_and_a_missing_one_everything(
    limit: Make, facts: MakeFacts, start: Any
) -> None:
    await limit("requests", 0, "minute", scope_kind="model", scope_value="forbidden")
    metering = await start()
    with pytest.raises(RateLimited):
        await metering.begin("request-1", facts(model="forbidden"))
    await metering.begin("request-2", facts(model="free", output_tokens=10**9))


async def test_one_request_may_be_too_large(limit: Make, facts: MakeFacts, start: Any) -> None:
    await limit("request_tokens", 120)
    metering = await start()
    with pytest.raises(RequestTooCostly):
        await metering.begin("request-1", facts())
    await metering.begin("request-2", facts(output_tokens=20))


async def test_shadow_mode_counts_and_tells_and_refuses_nothing(
    limit: Make, facts: MakeFacts, start: Any
) -> None:
    shadow = await limit("requests", 1, "minute", mode="shadow")
    metering = await start()
    for number in range(3):
        hold = await metering.begin(f"request-{number}", facts())
        await hold.settle(Outcome(input=1, output=1))
    assert await off_loop(used, shadow) == 3
    assert [event.would_refuse for event in await off_loop(events)] == [
        "",
        shadow.id.hex,
        shadow.id.hex,
    ]


async def test_a_targets_own_limits_send_the_request_to_the_next(
    limit: Make, facts: MakeFacts, start: Any
) -> None:
    first = await limit("requests", 1, "minute", scope_kind="provider", scope_value="first")
    second = await limit("requests", 9, "minute", scope_kind="provider", scope_value="second")
    metering = await start()
    hold = await metering.begin("request-1", facts())
    await hold.attempt(TargetFacts(provider="first", model="m"))
    await hold.settle(Outcome(input=1, output=1))
    hold = await metering.begin("request-2", facts())
    with pytest.raises(RateLimited):
        await hold.attempt(TargetFacts(provider="first", model="m"))
    await hold.attempt(TargetFacts(provider="second", model="m"))
    await hold.settle(Outcome(input=1, output=1))
    assert [await off_loop(used, one) for one in (first, second)] == [1, 1]
    assert [event.provider for event in await off_loop(events)] == ["first", "second"]


async def test_an_attempt_that_cost_money_has_an_event_of_its_own(
    limit: Make, facts: MakeFacts, start: Any
) -> None:
    money = await limit("money", 10**9, "month")
    metering = await start()
    hold = await metering.begin("request-1", facts())
    await hold.attempt(TargetFacts(provider="first", model="m"))
    hold.attempt_failed(Outcome(status=502, is_interrupted=True, input=10, cost_nanos=100))
    await hold.attempt(TargetFacts(provider="second", model="m"))
    await hold.settle(Outcome(input=10, output=2, cost_nanos=160))
    found = await off_loop(events)
    assert [(event.part, event.provider, event.cost_nanos) for event in found] == [
        (1, "first", 100),
        (0, "second", 160),
    ]
    assert await off_loop(used, money) == 260


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "7", None, True, [1]], ids=repr)
async def test_what_is_no_count_is_unknown_with_an_estimate_beside_it(
    value: Any, limit: Make, facts: MakeFacts, start: Any
) -> None:
    tokens = await limit("tokens", 10_000, "day")
    metering = await start()
    hold = await metering.begin("request-1", facts())
    await hold.settle(Outcome(input=value, output=value, cost_nanos=value))
    (event,) = await off_loop(events)
    assert (event.input, event.output, event.cost_nanos) == (None, None, None)
    assert (event.estimated_input, event.estimated_output) == (100, 50)
    assert event.usage_source == "estimated"
    assert event.estimated_nanos == 100 * 10 + 50 * 30
    assert await off_loop(used, tokens) == 150


async def test_absurd_figures_are_cut_off(limit: Make, facts: MakeFacts, start: Any) -> None:
    tokens = await limit("tokens", 10_000, "day")
    metering = await start()
    hold = await metering.begin("request-1", facts())
    await hold.settle(Outcome(input=-5, output=10**30, cost_nanos=-1))
    (event,) = await off_loop(events)
    assert (event.input, event.output, event.cost_nanos) == (0, 10**12, 0)
    assert await off_loop(used, tokens) == 10**12


async def test_a_caller_who_leaves_while_waiting_leaves_nothing_behind(
    limit: Make, facts: MakeFacts, start: Any
) -> None:
    parallel = await limit("parallel", 5)
    metering = await start()
    tasks = [asyncio.ensure_future(metering.begin(f"r-{n}", facts())) for n in range(5)]
    await asyncio.sleep(0)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await until(lambda: not metering.writer.waiting and not holds())
    assert await off_loop(used, parallel) == 0


async def test_headers_tell_the_tightest_limits(limit: Make, facts: MakeFacts, start: Any) -> None:
    await limit("requests", 10, "minute")
    await limit("requests", 4, "day")
    await limit("tokens", 1_000, "minute")
    metering = await start()
    hold = await metering.begin("request-1", facts())
    headers = dict(hold.headers)
    assert headers[b"x-ratelimit-limit-requests"] == b"4"
    assert headers[b"x-ratelimit-remaining-requests"] == b"3"
    assert headers[b"x-ratelimit-remaining-tokens"] == b"850"
    assert headers[b"anthropic-ratelimit-tokens-remaining"] == b"850"
    assert headers[b"anthropic-ratelimit-requests-reset"].endswith(b"Z")
