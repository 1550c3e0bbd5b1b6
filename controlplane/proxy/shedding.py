"""How many requests one process has under way, in all and with a registration that sets a bound,
shared fairly between tenants.

Within the bound a request goes through at once. Beyond it waits in a short queue, in which tenants
take turns, so that one tenant's flood makes the others wait for one of its requests, not for all.
A full queue, or a wait that grew too long, is refused with Retry-After: a caller who is told no
within milliseconds can do something sensible; one who waits for minutes cannot (bar R12).
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from typing import Final

from controlplane.proxy.errors import Overloaded
from controlplane.proxy.exchange import Exchange
from providers.routing.table import Endpoint

RETRY_AFTER_SECONDS: Final = 1.0


class TenantBusy(Overloaded):
    """This tenant alone has as many requests under way as it may."""

    code = "tenant_overloaded"


class ProviderBusy(Overloaded):
    """Everybody who could answer has as many requests as its registration allows."""

    code = "provider_overloaded"


class FairGate:
    """Used in one event loop only. A bound of 0 = none. Whoever entered leaves, once."""

    def __init__(
        self,
        *,
        most: int,
        most_per_tenant: int = 0,
        refusal: type[Overloaded] = Overloaded,
        most_waiting_per_tenant: int = 32,
        longest_wait_seconds: float = 2.0,
    ) -> None:
        self.most = most
        self.most_per_tenant = most_per_tenant
        self._most_waiting = most_waiting_per_tenant
        self._longest_wait_seconds = longest_wait_seconds
        self._refusal_kind = refusal
        self.running = 0
        self._of_tenant: dict[str, int] = {}
        # Tenants that wait, whose turn it is first.
        self._waiting: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()

    def has_room(self, tenant: str) -> bool:
        # Where others wait although there is room, they wait for a bound of their own.
        return tenant not in self._waiting and self._has_room(tenant)

    async def enter(self, tenant: str) -> None:
        """Raises Overloaded."""
        if self.has_room(tenant):
            self._begin(tenant)
            return
        if len(self._waiting.get(tenant, ())) >= self._most_waiting:
            raise self._refusal(tenant)
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(tenant, deque()).append(turn)
        try:
            async with asyncio.timeout(self._longest_wait_seconds):
                await turn
        except BaseException as error:
            if turn.done() and not turn.cancelled():
                # Let in at the very moment at which the wait ended.
                self.leave(tenant)
            else:
                self._forget(tenant, turn)
            if isinstance(error, TimeoutError):
                raise self._refusal(tenant) from None
            raise

    @property
    def is_idle(self) -> bool:
        return not self.running and not self._waiting

    def leave(self, tenant: str) -> None:
        self.running -= 1
        left = self._of_tenant[tenant] - 1
        if left:
            self._of_tenant[tenant] = left
        else:
            del self._of_tenant[tenant]
        self._let_in()

    def _let_in(self) -> None:
        for tenant in list(self._waiting):
            if 0 < self.most <= self.running:
                return
            if not self._has_room(tenant):
                continue
            queue = self._waiting[tenant]
            turn = queue.popleft()
            # The others come before this tenant's next.
            self._waiting.move_to_end(tenant)
            if not queue:
                del self._waiting[tenant]
            self._begin(tenant)
            turn.set_result(None)

    def _has_room(self, tenant: str) -> bool:
        if 0 < self.most <= self.running:
            return False
        return not 0 < self.most_per_tenant <= self._of_tenant.get(tenant, 0)

    def _begin(self, tenant: str) -> None:
        self.running += 1
        self._of_tenant[tenant] = self._of_tenant.get(tenant, 0) + 1

    def _forget(self, tenant: str, turn: asyncio.Future[None]) -> None:
        queue = self._waiting.get(tenant)
        if queue is not None:
            queue.remove(turn)
            if not queue:
                del self._waiting[tenant]

    def _refusal(self, tenant: str) -> Overloaded:
        is_own = 0 < self.most_per_tenant <= self._of_tenant.get(tenant, 0)
        error = TenantBusy if is_own else self._refusal_kind
        return error(
            "Too many requests are under way. Try again in a moment.",
            retry_after_seconds=RETRY_AFTER_SECONDS,
        )


class ProviderGates:
    """A gate for each registration that bounds its requests at the same time (`parallel`). It lets
    them wait for a moment; what all processes together may have is counted with the limits."""

    def __init__(self, longest_wait_seconds: float = 2.0) -> None:
        self.longest_wait_seconds = longest_wait_seconds
        self._gates: dict[str, FairGate] = {}

    def has_room(self, endpoint: Endpoint, tenant: str) -> bool:
        gate = self._gates.get(endpoint.provider_id)
        if gate is None:
            return True
        gate.most = endpoint.most_parallel
        return gate.has_room(tenant)

    async def enter(self, exchange: Exchange, endpoint: Endpoint) -> None:
        """Raises ProviderBusy."""
        name = endpoint.provider_id
        gate = self._gates.get(name)
        if gate is None:
            gate = self._gates[name] = FairGate(
                most=endpoint.most_parallel,
                longest_wait_seconds=self.longest_wait_seconds,
                refusal=ProviderBusy,
            )
        gate.most = endpoint.most_parallel
        await gate.enter(exchange.tenant)
        exchange.held = name

    def leave(self, exchange: Exchange) -> None:
        """What this request holds, if it holds something."""
        name, exchange.held = exchange.held, ""
        gate = self._gates.get(name)
        if gate is None:
            return
        gate.leave(exchange.tenant)
        if gate.is_idle:
            del self._gates[name]
