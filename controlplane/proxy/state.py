"""What one gateway process holds in memory: snapshots of keys and routes, open clients,
unsealed credentials. A watcher thread renews what moved; the hot path only reads."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from django.conf import settings
from django.db import DatabaseError

from controlplane.kit.database_threads import database_threads
from controlplane.logs import get_logger
from controlplane.proxy.admission import Admission
from controlplane.proxy.exchange import Exchange
from controlplane.proxy.recording import Recorder, SharedRests
from controlplane.proxy.request_log import RequestLog
from controlplane.proxy.routes import Route
from controlplane.proxy.shedding import FairGate, ProviderGates
from controlplane.proxy.under_way import UnderWay
from providers.credentials.cache import CredentialCache
from providers.oauth.keeper import LoginKeeper
from providers.routing.state import Routing
from providers.routing.tables import RouteTables
from providers.upstream.pool import ClientPool
from tenants.keys.address import trusted_proxies
from tenants.keys.snapshot import KeySnapshot
from tenants.revisions.watcher import Watcher
from tenants.usage.metering import Metering

log = get_logger(__name__)


class StateNotLoaded(Exception):
    """The gateway must not answer before it knows who may call: the server stops."""


class GatewayState:
    """Made once per process; `start` binds it to the running event loop."""

    def __init__(self) -> None:
        self.keys = KeySnapshot()
        self.tables = RouteTables()
        self.routing = Routing()
        self.recorder = Recorder(self.routing)
        self.gate = FairGate(
            most=settings.PROXY_MOST_UNDER_WAY,
            most_per_tenant=settings.PROXY_MOST_UNDER_WAY_PER_TENANT,
        )
        self.credentials = CredentialCache(LoginKeeper())
        self.metering = Metering()
        self.clients = ClientPool(
            allowed=settings.UPSTREAM_ALLOWED_NETWORKS,
            allowed_for_tenants=settings.UPSTREAM_ALLOWED_NETWORKS_FOR_TENANTS,
        )
        self.providers = ProviderGates()
        self.total_seconds: float = settings.PROXY_TOTAL_TIMEOUT_SECONDS
        self.body_limit: int = settings.PROXY_BODY_LIMIT_BYTES
        self._upload_limit = max(self.body_limit, settings.PROXY_UPLOAD_LIMIT_BYTES)
        self.request_log = RequestLog()
        self.under_way = UnderWay()
        self.admission = Admission(settings.PROXY_MAX_CONCURRENT_REQUESTS)
        self.keep_alive_seconds: float = settings.PROXY_KEEP_ALIVE_SECONDS
        self.trusted_proxies = trusted_proxies(settings.TRUSTED_PROXIES)
        self._watcher = Watcher()

    def limit_of(self, route: Route) -> int:
        """How many bytes a body of this route may have."""
        return self._upload_limit if route.is_upload else self.body_limit

    async def start(self) -> None:
        """Loads what must be there before the first request; raises when it cannot."""
        loop = asyncio.get_running_loop()
        self._watcher.add({"keys", "tenants"}, self.keys)
        self._watcher.add({"registrations", "routes", "tenants"}, _InLoop(loop, self.tables.forget))
        self._watcher.add({"credentials", "registrations"}, _InLoop(loop, self.credentials.forget))
        self._watcher.add({"rests"}, SharedRests(loop, self.routing.cooldowns.adopt))
        self._watcher.add({"limits", "tenants"}, self.metering.limits)
        if not await database_threads.run(self._watcher.poll):
            raise StateNotLoaded("Keys and routes could not be read from the database.")
        self._watcher.start()
        self.recorder.start()
        self.metering.start()

    def routing_of(self, exchange: Exchange) -> Routing:
        """What is known of targets, as far as it concerns this request."""
        return exchange.apart or self.routing

    def finished(self, exchange: Exchange) -> None:
        """The request is over, however it ended. Called in the event loop: quick, no waiting."""
        self.recorder.note(exchange)

    async def stop(self) -> None:
        await self.under_way.stop()
        self.request_log.close()
        await database_threads.run(self._watcher.stop)
        await self.recorder.stop()
        await database_threads.run(self.metering.stop)
        try:
            await database_threads.run(self.keys.last_used.flush)
        except DatabaseError as error:
            # Away: when keys were last used is not worth more than the rest of a tidy end.
            log.warning("last use of keys is not written", error=type(error).__name__)
        await self.clients.close()
        self.credentials.close()
        database_threads.close()


class _InLoop:
    """Carries a change from the watcher's thread into the event loop that owns the object."""

    def __init__(self, loop: asyncio.AbstractEventLoop, act: Callable[[], None]) -> None:
        self._loop = loop
        self._act = act

    def reload(self) -> None:
        self._loop.call_soon_threadsafe(self._act)

    def confirm(self, as_of: float) -> None:
        """Tables and credentials carry their own lifetimes: nothing to note."""
