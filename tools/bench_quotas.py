"""What limits, hold and ledger cost a request: CPU of this process, user and system time.

    make bench-quotas

Keeps CALLERS requests on their way at once through tenants.usage.metering, with five limits at
three scopes, strict durability, and everything that the ledger writes. Embedded: SQLite in a file
as `make run` uses it. With REDIS_URL (and DATABASE_URL) set, it measures those instead.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import resource
import shutil
import sys
import tempfile
import time
import uuid
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))


def cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


async def drive(metering: Any, facts: Any, callers: int, requests: int) -> list[float]:
    """Runs the requests; the seconds that each waited in begin and settle."""
    from tenants.usage.outcome import Outcome, TargetFacts

    waited: list[float] = []
    target = TargetFacts(provider="acme", model="acme-1", upstream_protocol="openai-completions")
    numbers = iter(range(requests))

    async def caller() -> None:
        for number in numbers:
            began = time.perf_counter()
            hold = await metering.begin(f"{uuid.uuid4().hex}", facts)
            await hold.attempt(target)
            _ = hold.headers
            await hold.settle(
                Outcome(
                    input=300 + number % 7,
                    output=80,
                    cache_read=0,
                    cache_write=0,
                    cost_nanos=1_234_567,
                    price_basis="price",
                    finish_reason="stop",
                    latency_ms=12.0,
                )
            )
            waited.append(time.perf_counter() - began)

    await asyncio.gather(*(caller() for _ in range(callers)))
    return waited


def furnish() -> Any:
    """A tenant with limits at its own scope, its key's and its model's."""
    from django.core.management import call_command

    from controlplane.kit.ids import uuid7
    from tenants import scope
    from tenants.members.models import Tenant
    from tenants.quotas.models import Limit
    from tenants.usage.outcome import Facts

    call_command("migrate", verbosity=0)
    tenant = Tenant.objects.create(slug=f"bench-{uuid.uuid4().hex[:8]}", name="Bench")
    key_id = uuid7()
    most = 10**15
    with scope.platform("benchmark"):
        for scope_kind, value, kind, period in (
            ("tenant", "", "requests", "minute"),
            ("tenant", "", "money", "month"),
            ("key", str(key_id), "tokens", "minute"),
            ("key", str(key_id), "parallel", "none"),
            ("model", "gpt-bench", "tokens", "day"),
        ):
            Limit.objects.create(
                tenant=tenant,
                scope_kind=scope_kind,
                scope_value=value,
                kind=kind,
                period=period,
                amount=most,
            )
    return Facts(
        tenant_id=tenant.id,
        key_id=key_id,
        model="gpt-bench",
        operation="chat",
        client_protocol="openai-completions",
        input_tokens=300,
        output_tokens=200,
        nanos=lambda given, made: 2_000 * given + 8_000 * made,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--callers", type=int, nargs="*", default=[1, 16, 64])
    parser.add_argument("--requests", type=int, default=4_000)
    options = parser.parse_args()
    state = tempfile.mkdtemp(prefix="pcp-bench-")
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "controlplane.settings.test")
    try:
        import django

        django.setup()
        from django.db import connection, connections

        from controlplane.supervisor.gateway import collect_seldom
        from tenants.usage.metering import Metering

        if connection.vendor == "sqlite":
            connection.settings_dict["NAME"] = str(Path(state) / "bench.sqlite3")
            connections["default"].settings_dict["NAME"] = str(Path(state) / "bench.sqlite3")
        facts = furnish()
        collect_seldom()

        async def run(callers: int) -> tuple[float, float, list[float]]:
            metering = Metering()
            await asyncio.to_thread(metering.limits.reload)
            metering.start()
            await drive(metering, facts, callers, 200)
            began, cpu = time.perf_counter(), cpu_seconds()
            waited = await drive(metering, facts, callers, options.requests)
            spent, took = cpu_seconds() - cpu, time.perf_counter() - began
            await asyncio.to_thread(metering.stop)
            return spent / options.requests * 1e6, options.requests / took, sorted(waited)

        where = connection.vendor + (" with Redis" if os.environ.get("REDIS_URL") else "")
        print(f"{where}, {options.requests} requests, 5 limits, strict")
        for callers in options.callers:
            micros, rate, waited = asyncio.run(run(callers))
            print(
                f"  c={callers:<3} {micros:6.0f} µs CPU a request, {rate:6.0f}/s, "
                f"added p50 {waited[len(waited) // 2] * 1000:.2f} ms, "
                f"p99 {waited[len(waited) * 99 // 100] * 1000:.2f} ms"
            )
    finally:
        shutil.rmtree(state, ignore_errors=True)


if __name__ == "__main__":
    main()
