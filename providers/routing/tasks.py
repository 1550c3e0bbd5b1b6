"""The jobs that forget what routing needs no more."""

from __future__ import annotations

from datetime import datetime, timedelta

from controlplane.kit import clock
from controlplane.kit.jobs.registry import handler
from providers.routing.sharing import forget_old
from providers.routing.traces import PRUNE_BATCH, prune_traces


@handler("routing.traces.prune", every=timedelta(hours=1))
def prune(**_: object) -> datetime | None:
    now = clock.now()
    # A full batch: there is more, and other jobs come in between.
    return now if prune_traces(now=now) >= PRUNE_BATCH else None


@handler("routing.rests.prune", every=timedelta(hours=1))
def prune_rests(**_: object) -> None:
    forget_old(now=clock.now() - timedelta(hours=1))
