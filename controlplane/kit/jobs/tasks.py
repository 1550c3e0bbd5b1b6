"""The jobs that look after jobs."""

from __future__ import annotations

from datetime import datetime, timedelta

from controlplane.kit import clock
from controlplane.kit.jobs import services
from controlplane.kit.jobs.registry import handler


@handler("jobs.prune", every=timedelta(hours=1))
def prune(**_: object) -> datetime | None:
    now = clock.now()
    # A full batch: there is more, and other jobs come in between.
    return now if services.prune(now=now) >= services.PRUNE_BATCH else None
