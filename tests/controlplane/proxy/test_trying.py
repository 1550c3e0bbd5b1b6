"""Who is asked while somebody probes; and what was counted up is counted down, however an answer
ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from controlplane.proxy import trying
from controlplane.proxy.exchange import Answer, Exchange
from controlplane.proxy.routes import ROUTES
from controlplane.proxy.state import GatewayState
from providers.routing.outcomes import Outcome
from providers.routing.plan import Standing
from providers.routing.table import Target
from tests.providers.routing.made import planned, standing, table, target


def exchange_for(*targets: Target, known: Standing | None = None) -> Exchange:
    exchange = Exchange(
        route=ROUTES[0],
        request_id="r",
        method="POST",
        path="/",
        query=b"",
        headers=(),
        address="",
        tenant="t",
    )
    exchange.decision.plan = planned(table(*targets), known or standing())
    return exchange


async def fine(*_: Any) -> Answer:
    return Answer(200)


def asked(exchange: Exchange, state: GatewayState) -> str:
    """Who answered."""
    plan = exchange.decision.plan
    assert plan is not None
    asyncio.run(trying.first_answer(exchange, plan.targets, state, fine))
    return exchange.decision.tries[-1].target.endpoint.slug


def probed(state: GatewayState, slug: str) -> None:
    """It rested, its time is over, and somebody else is trying it at this moment."""
    place = (slug, f"{slug}-0", "m")
    now = state.routing.now()
    state.routing.cooldowns.failed(
        *place, outcome=Outcome.RATE, now=now - 60, cooldown_seconds=30, retry_after_seconds=30
    )
    assert state.routing.cooldowns.admit(*place, now)
    assert not state.routing.cooldowns.admit(*place, now)


def test_while_one_probes_the_others_go_elsewhere() -> None:
    state = GatewayState()
    probed(state, "a")
    assert asked(exchange_for(target("a", priority=9), target("b")), state) == "b"


def test_the_last_one_is_asked_even_while_another_request_probes_it() -> None:
    state = GatewayState()
    probed(state, "a")
    assert asked(exchange_for(target("a")), state) == "a"


@pytest.mark.parametrize("way", ["read", "left early", "never begun"])
def test_what_runs_is_counted_down_however_a_stream_ends(way: str) -> None:
    state = GatewayState()
    one = target("p", credentials=2)
    exchange = exchange_for(one)

    async def pieces() -> AsyncIterator[bytes]:
        yield b"a"
        yield b"b"
        exchange.seen.is_whole = True

    async def ask_one(*_: Any) -> Answer:
        return Answer(200, stream=pieces())

    async def run() -> None:
        answer = await trying.first_answer(exchange, (one,), state, ask_one)
        loads = state.routing.loads
        assert (state.gate.running, loads.running(one), loads.running_in_all()) == (1, 1, 2)
        assert answer.stream is not None
        if way == "read":
            assert [piece async for piece in answer.stream] == [b"a", b"b"]
        elif way == "left early":
            assert await anext(answer.stream) == b"a"
        if way != "never begun":
            await answer.stream.aclose()  # type: ignore[attr-defined]  # generators have it
        del answer

    asyncio.run(run())
    assert (state.gate.running, state.routing.loads.running_in_all()) == (0, 0)
    outcome = exchange.decision.tries[-1].outcome
    assert outcome is (Outcome.OK if way == "read" else Outcome.CANCELLED)
