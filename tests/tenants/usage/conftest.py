"""A running meter, and what its tests ask of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.db import connection

from tenants import scope as scopes
from tenants.members.models import Tenant
from tenants.quotas.models import Counter, Limit
from tenants.usage.metering import Metering
from tenants.usage.models import Hold, UsageEvent
from tenants.usage.outcome import Facts

Kind, Period, ScopeKind = Limit.Kind, Limit.Period, Limit.ScopeKind


@pytest.fixture
def limit(transactional_db: None, tenant: Tenant) -> Callable[..., Any]:
    """Makes a limit of the tenant, unless another scope is named."""

    async def make(kind: str, amount: int, period: str = "none", **fields: Any) -> Limit:
        fields.setdefault("scope_kind", "tenant")
        fields.setdefault("tenant", tenant)
        made: Limit = await off_loop(make_limit, kind, amount, period, fields)
        return made

    return make


@pytest.fixture
def facts(tenant: Tenant) -> Callable[..., Facts]:
    def make(**fields: Any) -> Facts:
        fields.setdefault("tenant_id", tenant.id)
        fields.setdefault("model", "gpt-test")
        fields.setdefault("input_tokens", 100)
        fields.setdefault("output_tokens", 50)
        fields.setdefault("nanos", lambda given, made: 10 * given + 30 * made)
        return Facts(**fields)

    return make


@pytest.fixture
async def start(transactional_db: None) -> AsyncIterator[Callable[..., Any]]:
    """Starts a meter on the limits there are now; stopped and idle at the end."""
    running: list[Metering] = []

    async def begin(redis_url: str = "") -> Metering:
        metering = Metering(redis_url)
        await off_loop(metering.limits.reload)
        metering.start()
        running.append(metering)
        return metering

    yield begin
    for metering in running:
        await off_loop(metering.stop)


def make_limit(kind: str, amount: int, period: str, fields: dict[str, Any]) -> Limit:
    with scopes.platform("tests"):
        made: Limit = Limit.objects.create(kind=kind, amount=amount, period=period, **fields)
    return made


def events() -> list[UsageEvent]:
    with scopes.platform("tests"):
        return list(UsageEvent.objects.order_by("sequence"))


def holds() -> int:
    with scopes.platform("tests"):
        return Hold.objects.count()


def used(limit: Limit) -> int:
    """What the limit's counters hold."""
    return sum(one.used for one in Counter.objects.filter(key__startswith=limit.id.hex))


async def until(condition: Callable[[], Any], *, seconds: float = 10.0) -> None:
    """Waits for `condition`, asked off the loop."""
    deadline = time.monotonic() + seconds
    while not await off_loop(condition):
        assert time.monotonic() < deadline, "it did not happen"
        await asyncio.sleep(0.01)


async def off_loop(function: Callable[..., Any], *args: Any) -> Any:
    """In a thread of its own, with a connection of its own that is closed again."""

    def call() -> Any:
        try:
            return function(*args)
        finally:
            connection.close()

    return await sync_to_async(call, thread_sensitive=False)()
