"""What planning costs: a tenant with 50 providers of 200 models each, every name at every one.

    make bench-plan

CPU time of this process, the best of several rounds, so that a shared machine disturbs it least.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import redis.asyncio

from providers.protocols.canonical import ModelSpec
from providers.protocols.members import Members
from providers.routing.cooldown import Cooldowns
from providers.routing.loads import Loads
from providers.routing.needs import needs_of
from providers.routing.outcomes import Outcome
from providers.routing.plan import Plan, Standing, plan
from providers.routing.strategies import STRATEGIES, Turns
from providers.routing.table import CredentialRef, Endpoint, RouteTable, Target

PROVIDERS, MODELS = 50, 200
LIMIT_MICROSECONDS = 60.0
BODY = json.dumps(
    {
        "model": "model-7",
        "stream": True,
        "max_tokens": 500,
        "messages": [
            {"role": "system", "content": "You are terse."},
            {"role": "user", "content": "What is the capital of France?"},
        ],
        "tools": [{"type": "function", "function": {"name": "look", "parameters": {}}}],
    }
).encode()


def table() -> RouteTable:
    targets: dict[str, tuple[Target, ...]] = {}
    endpoints = [
        Endpoint(
            provider_id=f"p{number}",
            slug=f"provider-{number}",
            base_url="https://example.test",
            priority=number % 3,
            credentials=tuple(CredentialRef(id=f"c{number}-{each}") for each in range(2)),
        )
        for number in range(PROVIDERS)
    ]
    endpoints.sort(key=lambda endpoint: -endpoint.priority)
    for number in range(MODELS):
        name = f"model-{number}"
        spec = ModelSpec(id=name, protocol="openai-completions", context_window=128_000)
        targets[name] = tuple(
            Target(name=name, endpoint=each, spec=spec, input_nanos=10.0, output_nanos=30.0)
            for each in endpoints
        )
    return RouteTable(tenant_id="t", targets=targets)


def standing(*, resting: int = 0) -> Standing:
    cooldowns = Cooldowns()
    for number in range(resting):
        for each in range(2):
            cooldowns.failed(
                f"p{number}", f"c{number}-{each}", "model-7",
                outcome=Outcome.RATE, now=1_000.0, cooldown_seconds=30, retry_after_seconds=60,
            )  # fmt: skip
    return Standing(
        cooldowns=cooldowns,
        turns=Turns(),
        loads=Loads(lambda: 1_000.0),
        draw=random.randrange,
        now=1_000.0,
    )


def microseconds(work: Callable[[], object], *, times: int = 500, rounds: int = 15) -> float:
    best = float("inf")
    for _ in range(rounds):
        began = time.process_time()
        for _ in range(times):
            work()
        best = min(best, time.process_time() - began)
    return best / times * 1e6


def shared_turns(address: str) -> None:
    """What a turn would cost that all processes count together (decision 25)."""

    async def run(at_once: int, times: int = 2_000) -> tuple[float, float]:
        store = redis.asyncio.from_url(address)
        waits: list[float] = []

        async def picks() -> None:
            for _ in range(times // at_once):
                began = time.perf_counter()
                await store.incr("bench-plan-turn")
                waits.append(time.perf_counter() - began)

        try:
            await store.ping()
            began = time.process_time()
            await asyncio.gather(*(picks() for _ in range(at_once)))
            spent = time.process_time() - began
        finally:
            await store.delete("bench-plan-turn")
            await store.aclose()
        return spent / len(waits) * 1e6, sorted(waits)[len(waits) // 2] * 1e6

    print("A turn counted in Redis, CPU and wait for each:")
    for at_once in (1, 16):
        cost, wait = min(asyncio.run(run(at_once)) for _ in range(5))
        print(f"  {at_once:>2} at once {cost:28.1f} µs {wait:8.1f} µs")
    draw = random.Random(1)
    counts = [0, 0, 0]
    for process in [Turns(draw.randrange(1 << 30)) for _ in range(8)]:
        for _ in range(1_000 + draw.randrange(9)):
            counts[process.next("model-7", is_real=True) % 3] += 1
    fair = sum(counts) / 3
    worst = max(abs(count - fair) for count in counts) / fair
    print(f"8 processes by themselves, 8,000 requests: within {worst:.2%} of equal shares.")


def main() -> int:
    routes = table()

    def whole(now: Standing, strategy: str) -> Plan:
        needs = needs_of(Members(BODY), is_streaming=True)
        return plan("model-7", routes, lambda _: True, now, needs=needs, asked_strategy=strategy)

    print(f"Planning with {PROVIDERS} providers x {MODELS} models, {len(BODY)} bytes of body:")
    reading = microseconds(lambda: needs_of(Members(BODY), is_streaming=True))
    print(f"  reading the needs                {reading:6.1f} µs")
    slowest = 0.0
    for strategy in STRATEGIES:
        calm = standing()
        cost = microseconds(lambda: whole(calm, strategy))  # noqa: B023  (called at once)
        slowest = max(slowest, cost) if strategy == "priority" else slowest
        print(f"  {strategy:<32} {cost:6.1f} µs")
    uneasy = standing(resting=10)
    print(f"  priority, 10 providers resting   {microseconds(lambda: whole(uneasy, '')):6.1f} µs")
    print(f"The bar for the default: {LIMIT_MICROSECONDS:.0f} µs.")
    address = os.environ.get("REDIS_URL")
    if address:
        shared_turns(address)
    return 0 if slowest <= LIMIT_MICROSECONDS else 1


if __name__ == "__main__":
    sys.exit(main())
