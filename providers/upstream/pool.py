"""The upstream clients of one process: one per trust setting (owner, CA, proxy)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import Final, Literal

from providers.upstream.client import UpstreamClient
from providers.upstream.guard import Guard

MAX_CLIENTS: Final = 512


class ClientPool:
    """`allowed` are the private networks the operator opened. They hold for what the platform
    registered; `allowed_for_tenants` for what tenants did."""

    def __init__(
        self, *, allowed: Iterable[str] = (), allowed_for_tenants: Iterable[str] = ()
    ) -> None:
        self._guards = {"platform": Guard(allowed), "tenant": Guard(allowed_for_tenants)}
        self._clients: OrderedDict[tuple[str, str, str], UpstreamClient] = OrderedDict()
        self._retired: list[UpstreamClient] = []

    def of(
        self, owner: Literal["platform", "tenant"], ca_certificate: str = "", proxy_url: str = ""
    ) -> UpstreamClient:
        key = (owner, ca_certificate, proxy_url)
        client = self._clients.get(key)
        if client is None:
            client = UpstreamClient(
                guard=self._guards[owner], ca_certificate=ca_certificate, proxy=proxy_url or None
            )
            self._clients[key] = client
            if len(self._clients) > MAX_CLIENTS:
                # Its requests may still run: closed when the process stops.
                self._retired.append(self._clients.popitem(last=False)[1])
        return client

    def allow_for_platform(self, endpoint: str) -> None:
        """Open one endpoint for what the platform registered: our own simulator lives there."""
        self._guards["platform"].allow(endpoint)

    async def close(self) -> None:
        clients = [*self._clients.values(), *self._retired]
        self._clients.clear()
        self._retired.clear()
        for client in clients:
            await client.close()
