"""Bar R12 whole: four times what there is capacity for. What is served stays at its peak, the
excess is told no at once, and another tenant notices next to nothing. In virtual time: the figures
are those of the policy, whatever the machine does meanwhile."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest

from controlplane.proxy import trying
from controlplane.proxy.errors import Overloaded
from controlplane.proxy.exchange import Answer
from controlplane.proxy.shedding import FairGate
from controlplane.proxy.state import GatewayState
from providers.routing.table import Target
from tests import virtual_time
from tests.controlplane.proxy.test_shedding import asking
from tests.providers.routing.made import planned, standing, table, target

AT_ONCE = 20
SERVICE_SECONDS = 0.05
CAPACITY = AT_ONCE / SERVICE_SECONDS
SECONDS = 4


@dataclass
class Seen:
    """By tenant: how long the answers and the refusals took."""

    served: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    refused: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    # What Retry-After said.
    said: set[float | None] = field(default_factory=set)

    def goodput(self) -> float:
        return sum(map(len, self.served.values())) / SECONDS


def p99(values: list[float]) -> float:
    return sorted(values)[int(len(values) * 0.99)]


async def offered(per_second: dict[str, float], bound: str) -> Seen:
    """Requests at a steady pace, each of a tenant of its own pace, against one provider."""
    state, seen = GatewayState(), Seen()
    one = target("p")
    if bound == "process":
        state.gate = FairGate(most=AT_ONCE)
    elif bound == "registration":
        endpoint = msgspec.structs.replace(one.endpoint, most_parallel=AT_ONCE)
        one = msgspec.structs.replace(one, endpoint=endpoint)
    loop = asyncio.get_running_loop()

    async def ask(*_: Any) -> Answer:
        await asyncio.sleep(SERVICE_SECONDS)
        return Answer(200)

    async def request(tenant: str, at: Target) -> None:
        exchange = asking(tenant)
        exchange.decision.plan = planned(table(at), standing())
        began = loop.time()
        try:
            await trying.first_answer(exchange, (at,), state, ask)
        except Overloaded as error:
            seen.refused[tenant].append(loop.time() - began)
            seen.said.add(error.fault().retry_after_seconds)
        else:
            seen.served[tenant].append(loop.time() - began)
        finally:
            state.providers.leave(exchange)

    async def pace(tenant: str, rate: float) -> list[asyncio.Task[None]]:
        tasks = []
        for _ in range(int(rate * SECONDS)):
            tasks.append(asyncio.create_task(request(tenant, one)))
            await asyncio.sleep(1 / rate)
        return tasks

    paces = [pace(tenant, rate) for tenant, rate in per_second.items()]
    for tasks in await asyncio.gather(*paces):
        await asyncio.gather(*tasks)
    return seen


@pytest.mark.parametrize("bound", ["process", "registration"])
def test_four_times_the_capacity(bound: str) -> None:
    calm = 0.1 * CAPACITY
    alone = virtual_time.run(offered({"calm": calm}, bound))
    peak = virtual_time.run(offered({"flood": 0.9 * CAPACITY, "calm": calm}, bound))
    over = virtual_time.run(offered({"flood": 4 * CAPACITY, "calm": calm}, bound))
    print(f"R12 ({bound}): goodput {over.goodput():.0f}/s of {peak.goodput():.0f}/s")
    assert over.goodput() >= 0.9 * peak.goodput()
    assert p99(over.refused["flood"]) <= 0.05
    assert over.said == {1.0}
    assert not over.refused["calm"]
    assert p99(over.served["calm"]) <= 1.5 * p99(alone.served["calm"])
    assert len(alone.served["calm"]) == len(over.served["calm"]) == calm * SECONDS
