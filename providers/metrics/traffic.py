"""What this process saw in the minutes that are not written yet, and its way into rows."""

from __future__ import annotations

import os
import socket
import uuid
from datetime import UTC, datetime, timedelta
from typing import Final

from providers.metrics.figures import BUCKETS, Figures
from providers.metrics.models import TrafficMinute
from tenants import scope

KEEP: Final = timedelta(hours=2)
PRUNE_BATCH: Final = 2_000
# Names per minute; what comes beyond is one row (bar T5: nobody's random names fill our tables).
MOST_PLACES: Final = 2_000
OTHER: Final = "other"

Place = tuple[datetime, uuid.UUID, str, str]


class Traffic:
    """`place` in the event loop, `flush` in a database thread: a row holds the whole minute so
    far, so that writing it twice changes nothing."""

    def __init__(self) -> None:
        self._minutes: dict[Place, Figures] = {}
        self._changed: set[Place] = set()
        self.process = f"{socket.gethostname()[:40]}:{os.getpid()}:{uuid.uuid4().hex[:8]}"

    def place(self, tenant_id: uuid.UUID, provider: str, model: str, now: datetime) -> Figures:
        at = (now.replace(second=0, microsecond=0), tenant_id, provider[:63], model[:255])
        found = self._minutes.get(at)
        if found is None:
            if len(self._minutes) >= MOST_PLACES:
                at = (at[0], tenant_id, at[2], OTHER)
            found = self._minutes.setdefault(at, Figures())
        self._changed.add(at)
        return found

    def has_changed(self) -> bool:
        return bool(self._changed)

    def flush(self, now: datetime) -> int:
        """Returns how many rows were written."""
        changed, self._changed = self._changed, set()
        try:
            rows = [self._row(at) for at in changed]
            with scope.platform("figures of traffic"):
                TrafficMinute.objects.bulk_create(
                    rows,
                    update_conflicts=True,
                    unique_fields=["process", "minute", "tenant", "provider", "model"],
                    update_fields=_WRITTEN,
                )
        except BaseException:
            self._changed |= changed
            raise
        # A request of a past minute may still end: one minute longer than it seems.
        over = now - timedelta(minutes=2)
        for at in [at for at in self._minutes if at[0] < over and at not in self._changed]:
            del self._minutes[at]
        return len(rows)

    def _row(self, at: Place) -> TrafficMinute:
        minute, tenant_id, provider, model = at
        figures = self._minutes[at]
        return TrafficMinute(
            process=self.process,
            minute=minute,
            tenant_id=tenant_id,
            provider=provider,
            model=model,
            **{name: getattr(figures, name) for name in _WRITTEN},
        )


_WRITTEN: Final = [
    "requests",
    "succeeded",
    "failures",
    "latencies",
    "first_tokens",
    "input_tokens",
    "output_tokens",
    "cost_nanos",
]


def figures_of(row: TrafficMinute) -> Figures:
    return Figures(
        requests=row.requests,
        succeeded=row.succeeded,
        failures=dict(row.failures),
        latencies=_whole(row.latencies),
        first_tokens=_whole(row.first_tokens),
        input_tokens=row.input_tokens,
        output_tokens=row.output_tokens,
        cost_nanos=row.cost_nanos,
    )


def _whole(counts: list[int]) -> list[int]:
    """A row of a version with other bounds counts in none of ours."""
    return list(counts) if len(counts) == BUCKETS else [0] * BUCKETS


def by_model(
    *, now: datetime, minutes: int, tenant_id: uuid.UUID | None = None
) -> dict[tuple[str, str], Figures]:
    """(provider, model) -> what all processes saw in the last so many minutes. In the tenant's
    scope or the platform's; there `tenant_id` None = of all tenants."""
    rows = TrafficMinute.objects.since(
        now.astimezone(UTC).replace(second=0, microsecond=0) - timedelta(minutes=minutes - 1)
    )
    if tenant_id is not None:
        rows = rows.filter(tenant_id=tenant_id)
    found: dict[tuple[str, str], Figures] = {}
    for row in rows.iterator(chunk_size=2_000):
        found.setdefault((row.provider, row.model), Figures()).add(figures_of(row))
    return found


def prune_traffic(*, now: datetime) -> int:
    """Forgets what no page shows any more, at most one batch. Returns how many."""
    with scope.platform("figures that grew old"):
        old = TrafficMinute.objects.filter(minute__lt=now - KEEP)
        ids = list(old.values_list("pk", flat=True)[:PRUNE_BATCH])
        return TrafficMinute.objects.filter(pk__in=ids).delete()[0]
