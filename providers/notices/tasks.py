"""The jobs behind alerts: deliveries, a look for lost ones, and forgetting."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from django.conf import settings

from controlplane.kit import clock
from controlplane.kit.jobs.registry import handler
from providers.credentials.alerts import find_expiring
from providers.notices.webhook import post
from tenants import scope
from tenants.alerts import delivering
from tenants.alerts.services import DELIVER_JOB
from tenants.audit.actor import acting_as

_LEASE: Final = timedelta(seconds=60)
_BATCH: Final = 1_000


@handler(DELIVER_JOB, lease=_LEASE)
def deliver(*, delivery_id: str, **_: object) -> datetime | None:
    with scope.platform("deliver an alert"), acting_as("system", None, "alerts"):
        return delivering.attempt(delivery_id, post=post)


@handler("alert.sweep", every=timedelta(minutes=1))
def sweep(**_: object) -> None:
    with scope.platform("alerts whose job was lost"):
        delivering.find_lost(now=clock.now())


@handler("alert.prune", every=timedelta(hours=6))
def prune(**_: object) -> datetime | None:
    now = clock.now()
    before = now - timedelta(days=settings.ALERT_KEEP_DAYS)
    with scope.platform("alerts that grew old"):
        # A full batch: there is more, and other jobs come in between.
        return now if delivering.prune(before=before, batch=_BATCH) >= _BATCH else None


@handler("alert.expiring", every=timedelta(hours=1))
def look_for_expiring(**_: object) -> None:
    with scope.platform("credentials that end"):
        find_expiring(now=clock.now())
