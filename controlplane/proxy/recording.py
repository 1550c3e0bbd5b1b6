"""What requests showed of providers, noted at their end and written once a second: traces, figures,
and what the gateways tell each other of targets that rest."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

from controlplane.kit import clock
from controlplane.kit.database_threads import database_threads
from controlplane.logs import get_logger
from controlplane.proxy import passing
from controlplane.proxy.exchange import Exchange
from providers.catalog.pricing import cost_of
from providers.metrics.traffic import Traffic
from providers.routing import sharing
from providers.routing.cooldown import Place, Rest
from providers.routing.decision import Try
from providers.routing.outcomes import Outcome
from providers.routing.state import Routing
from providers.routing.traces import Traces

log = get_logger(__name__)

PACE_SECONDS: Final = 1.0
# Figures are read by the minute: no need to write them as often.
FIGURES_EVERY: Final = 5


class Recorder:
    """One per gateway process. `note` in the event loop; the rest beside it."""

    def __init__(self, routing: Routing) -> None:
        self._routing = routing
        self.traces = Traces()
        self.traffic = Traffic()
        self._task: asyncio.Task[None] | None = None
        self._is_failing = False

    def note(self, exchange: Exchange) -> None:
        decision = exchange.decision
        if decision.plan is None or decision.tenant_id is None:
            return
        self.traces.note(exchange.request_id, decision)
        if not decision.tries:
            return
        now = clock.now()
        for made in decision.tries:
            target = made.target
            separator = target.endpoint.model_suffix_separator
            # What a caller may append to a name is no model of its own.
            model = target.spec.id.partition(separator)[0] if separator else target.spec.id
            figures = self.traffic.place(decision.tenant_id, target.endpoint.slug, model, now)
            if made.outcome is Outcome.OK:
                seconds, first = _durations(exchange, made)
                figures.answered(seconds, first)
                usage = exchange.seen.usage
                cost = (
                    cost_of(usage, target.price, passing.used(exchange))
                    if exchange.own_key is None
                    else None
                )
                if usage is not None or cost is not None:
                    figures.used(
                        usage.prompt if usage is not None else 0,
                        usage.output if usage is not None else 0,
                        0 if cost is None else cost.nanos,
                    )
            else:
                figures.failed(made.outcome.value)

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        await self.flush(with_figures=True)

    async def flush(self, *, with_figures: bool) -> None:
        """Writes what waits. What cannot be written now waits on; the log says so once."""
        try:
            await self._flush(with_figures)
        except Exception as error:  # noqa: BLE001  (whatever the database says: it is tried again)
            if not self._is_failing:
                log.warning("decisions cannot be written now", error=type(error).__name__)
            self._is_failing = True
        else:
            self._is_failing = False

    async def _run(self) -> None:
        turn = 0
        while True:
            await asyncio.sleep(PACE_SECONDS)
            turn += 1
            await self.flush(with_figures=turn % FIGURES_EVERY == 0)

    async def _flush(self, with_figures: bool) -> None:
        cooldowns = self._routing.cooldowns
        untold = cooldowns.untold()
        if untold:
            await database_threads.run(sharing.tell, untold)
            cooldowns.told(untold)
        refused = dict(self._routing.refused)
        if refused:
            await database_threads.run(sharing.refuse, refused)
            for credential_id, entry in refused.items():
                if self._routing.refused.get(credential_id) is entry:
                    del self._routing.refused[credential_id]
        if with_figures and self.traffic.has_changed():
            await database_threads.run(self.traffic.flush, clock.now())
        while self.traces.has_waiting():
            await database_threads.run(self.traces.flush)


def _durations(exchange: Exchange, made: Try) -> tuple[float, float]:
    """Of the answer: until its end, and until its first content."""
    seen = exchange.seen
    whole = time.monotonic() - seen.asked_at if seen.asked_at else made.seconds
    first = seen.first_content_at - seen.asked_at if seen.first_content_at else whole
    return whole, first


class SharedRests:
    """For the watcher: reads what all gateways know, and hands it to the event loop."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, adopt: Callable[[dict[Place, Rest]], None]
    ) -> None:
        self._loop = loop
        self._adopt = adopt

    def reload(self) -> None:
        self._loop.call_soon_threadsafe(self._adopt, sharing.hear())

    def confirm(self, as_of: float) -> None:
        """Rests carry their own ends: nothing to note."""
