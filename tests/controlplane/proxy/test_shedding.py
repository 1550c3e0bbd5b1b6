"""Bar R12: bounded, fair between tenants, and refused at once beyond a short queue."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec
import pytest

from controlplane.proxy import trying
from controlplane.proxy.errors import Overloaded
from controlplane.proxy.exchange import Answer, Exchange
from controlplane.proxy.routes import ROUTES
from controlplane.proxy.shedding import FairGate, ProviderBusy, ProviderGates, TenantBusy
from controlplane.proxy.state import GatewayState
from providers.errors import UpstreamBroken
from providers.routing.table import Target
from tests.providers.routing.made import planned, standing, table, target


def run(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(work(), 10))


async def waiting(gate: FairGate, tenant: str, order: list[str]) -> None:
    await gate.enter(tenant)
    order.append(tenant)


async def turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def test_never_more_than_the_bound() -> None:
    async def work() -> None:
        gate = FairGate(most=3, most_waiting_per_tenant=100)
        most = 0

        async def request(tenant: str) -> None:
            nonlocal most
            await gate.enter(tenant)
            most = max(most, gate.running)
            await asyncio.sleep(0)
            gate.leave(tenant)

        await asyncio.gather(*(request(f"t{number % 5}") for number in range(200)))
        assert most == 3
        assert gate.running == 0
        # Nothing is left behind.
        assert not gate._of_tenant
        assert not gate._waiting

    run(work)


def test_tenants_take_turns() -> None:
    async def work() -> None:
        gate = FairGate(most=1)
        await gate.enter("flood")
        order: list[str] = []
        tasks = [asyncio.create_task(waiting(gate, "flood", order)) for _ in range(10)]
        await turns()
        tasks.append(asyncio.create_task(waiting(gate, "calm", order)))
        await turns()
        leaving = "flood"
        while len(order) < 11:
            gate.leave(leaving)
            await turns()
            leaving = order[-1]
        # One of the flood's at most comes before the calm tenant's.
        assert order.index("calm") <= 1
        await asyncio.gather(*tasks)

    run(work)


@pytest.mark.timed
def test_a_full_queue_refuses_at_once_with_a_time() -> None:
    async def work() -> None:
        gate = FairGate(most=2, most_waiting_per_tenant=3)
        for _ in range(2):
            await gate.enter("t")
        tasks = [asyncio.create_task(waiting(gate, "t", [])) for _ in range(3)]
        await turns()
        for _ in range(200):
            # Without a single turn of the event loop.
            with pytest.raises(Overloaded) as refused:
                gate.enter("t").send(None)
            assert refused.value.fault().retry_after_seconds
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert not gate._waiting

    run(work)


def test_a_wait_that_grows_too_long_is_refused() -> None:
    async def work() -> None:
        gate = FairGate(most=1, longest_wait_seconds=0.02)
        await gate.enter("t")
        with pytest.raises(Overloaded):
            await gate.enter("t")
        gate.leave("t")
        await gate.enter("t")
        assert gate.running == 1

    run(work)


def test_a_tenants_own_bound_stops_it_alone() -> None:
    async def work() -> None:
        gate = FairGate(most=10, most_per_tenant=2, most_waiting_per_tenant=0)
        await gate.enter("a")
        await gate.enter("a")
        with pytest.raises(TenantBusy):
            await gate.enter("a")
        for _ in range(2):
            await gate.enter("b")
        assert gate.running == 4

    run(work)


def test_a_cancelled_wait_gives_its_place_back() -> None:
    async def work() -> None:
        gate = FairGate(most=1)
        await gate.enter("t")
        order: list[str] = []
        first = asyncio.create_task(waiting(gate, "t", order))
        second = asyncio.create_task(waiting(gate, "t", order))
        await turns()
        # Cancelled at the very moment at which it is let in.
        gate.leave("t")
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        await second
        assert gate.running == len(order) if not first.cancelled() else gate.running == 1

    run(work)


def test_no_bound_is_none() -> None:
    async def work() -> None:
        gate = FairGate(most=0)
        for _ in range(1_000):
            await gate.enter("t")
        assert gate.running == 1_000

    run(work)


def asking(tenant: str) -> Exchange:
    return Exchange(
        route=ROUTES[0],
        request_id="r",
        method="POST",
        path="/",
        query=b"",
        headers=(),
        address="",
        tenant=tenant,
    )


def test_a_registrations_own_bound_stops_it_alone() -> None:
    async def work() -> None:
        gates = ProviderGates()
        small = msgspec.structs.replace(target("small").endpoint, most_parallel=1)
        large = msgspec.structs.replace(target("large").endpoint, most_parallel=9)
        one, two = asking("a"), asking("b")
        await gates.enter(one, small)
        assert not gates.has_room(small, "b")
        assert gates.has_room(large, "b")
        waits = asyncio.create_task(gates.enter(two, small))
        await turns()
        assert not waits.done()
        gates.leave(one)
        await waits
        # Leaving twice takes nobody's place.
        gates.leave(one)
        assert not gates.has_room(small, "a")
        gates.leave(two)
        assert not gates._gates

    run(work)


def test_a_raised_bound_holds_for_the_next_one() -> None:
    async def work() -> None:
        gates = ProviderGates()
        endpoint = msgspec.structs.replace(target("p").endpoint, most_parallel=1)
        await gates.enter(asking("a"), endpoint)
        assert not gates.has_room(endpoint, "a")
        assert gates.has_room(msgspec.structs.replace(endpoint, most_parallel=2), "a")

    run(work)


def served(exchange: Exchange) -> str:
    return exchange.decision.tries[-1].target.endpoint.slug


def planned_for(*targets: Target) -> Exchange:
    exchange = asking("t")
    exchange.decision.plan = planned(table(*targets), standing())
    return exchange


def bounded(slug: str, **more: Any) -> Target:
    found = target(slug, **more)
    endpoint = msgspec.structs.replace(found.endpoint, most_parallel=1)
    return msgspec.structs.replace(found, endpoint=endpoint)


def test_whoever_has_room_comes_before_waiting() -> None:
    async def fine(*_: Any) -> Answer:
        return Answer(200)

    async def work() -> None:
        state = GatewayState()
        full, free = bounded("full", priority=9), bounded("free")
        holder = asking("other")
        await state.providers.enter(holder, full.endpoint)
        exchange = planned_for(full, free)
        await trying.first_answer(exchange, (full, free), state, fine)
        assert served(exchange) == "free"
        state.providers.leave(exchange)
        # Where nobody else can, its turn is waited for.
        exchange = planned_for(full)
        waits = asyncio.create_task(trying.first_answer(exchange, (full,), state, fine))
        await turns()
        assert not waits.done()
        state.providers.leave(holder)
        await waits
        assert served(exchange) == "full"

    run(work)


def test_a_full_one_is_waited_for_when_the_others_fail() -> None:
    async def work() -> None:
        state = GatewayState()
        full, bad = bounded("full", priority=9), target("bad")
        holder = asking("other")
        await state.providers.enter(holder, full.endpoint)

        async def ask(exchange: Exchange, at: Target, *_: Any) -> Answer:
            exchange.attempts += 1
            if at.endpoint.slug == "bad":
                state.providers.leave(holder)
                raise UpstreamBroken("gone")
            return Answer(200)

        exchange = planned_for(full, bad)
        await trying.first_answer(exchange, (full, bad), state, ask)
        assert [made.target.endpoint.slug for made in exchange.decision.tries] == ["bad", "full"]

    run(work)


def test_the_excess_of_a_registration_is_refused_with_a_time() -> None:
    async def work() -> None:
        state = GatewayState()
        full = bounded("full")
        await state.providers.enter(asking("other"), full.endpoint)
        gate = state.providers._gates["full"]
        gate._most_waiting = 0
        with pytest.raises(ProviderBusy) as refused:
            await trying.first_answer(planned_for(full), (full,), state, pytest.fail)
        fault = refused.value.fault()
        assert (fault.code, fault.retry_after_seconds) == ("provider_overloaded", 1.0)
        # It says nothing of the provider.
        assert not state.routing.cooldowns.rests
        assert gate.running == 1

    run(work)
