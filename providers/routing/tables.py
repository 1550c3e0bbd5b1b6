"""The route tables of this process: loaded per tenant on first use, dropped on change."""

from __future__ import annotations

import asyncio
import uuid
from collections import OrderedDict
from typing import Final

from controlplane.kit.database_threads import database_threads
from providers.routing.loader import load_table
from providers.routing.table import RouteTable

MAX_TENANTS: Final = 2_000


class RouteTables:
    def __init__(self) -> None:
        self._tables: OrderedDict[uuid.UUID, RouteTable] = OrderedDict()
        self._loading: dict[uuid.UUID, asyncio.Task[RouteTable]] = {}
        self._generation = 0

    async def of(self, tenant_id: uuid.UUID) -> RouteTable:
        table = self._tables.get(tenant_id)
        if table is not None:
            return table
        # One load for all requests that wait for it.
        task = self._loading.get(tenant_id)
        if task is None:
            task = asyncio.get_running_loop().create_task(self._load(tenant_id))
            self._loading[tenant_id] = task
        return await asyncio.shield(task)

    async def _load(self, tenant_id: uuid.UUID) -> RouteTable:
        generation = self._generation
        try:
            table = await database_threads.run(load_table, tenant_id)
        finally:
            self._loading.pop(tenant_id, None)
        # A change that came while loading makes this table old: serve it once, keep it not.
        if generation == self._generation:
            self._tables[tenant_id] = table
            while len(self._tables) > MAX_TENANTS:
                self._tables.popitem(last=False)
        return table

    def forget(self) -> None:
        self._generation += 1
        self._tables.clear()
        self._loading.clear()
