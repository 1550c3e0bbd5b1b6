"""Forgets figures that no page shows any more."""

from __future__ import annotations

from datetime import datetime, timedelta

from controlplane.kit import clock
from controlplane.kit.jobs.registry import handler
from providers.metrics.traffic import PRUNE_BATCH, prune_traffic


@handler("metrics.traffic.prune", every=timedelta(minutes=30))
def prune(**_: object) -> datetime | None:
    now = clock.now()
    # A full batch: there is more, and other jobs come in between.
    return now if prune_traffic(now=now) >= PRUNE_BATCH else None
