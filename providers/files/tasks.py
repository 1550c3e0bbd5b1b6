"""Batches are charged when they are done."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from controlplane.kit import clock
from controlplane.kit.jobs.registry import handler
from providers.files.settling import BATCH_OF_BATCHES, settle_due


@handler("files.batches", every=timedelta(minutes=1), lease=timedelta(minutes=30))
def settle_batches(**_: Any) -> datetime | None:
    now = clock.now()
    # A full round: there may be more, and other jobs come in between.
    return now if settle_due(now=now) >= BATCH_OF_BATCHES else None
