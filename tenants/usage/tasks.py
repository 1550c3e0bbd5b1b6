"""What keeps the ledger in order while nobody looks."""

from __future__ import annotations

import logging
import time
from datetime import datetime, timedelta
from typing import Any, Final

from django.conf import settings
from django.db import transaction

from controlplane.kit import clock
from controlplane.kit.jobs.registry import handler
from tenants.alerts.kinds import AlertKind
from tenants.alerts.services import alert
from tenants.audit.actor import Kind, acting_as
from tenants.audit.services import record
from tenants.quotas.models import Counter
from tenants.usage import alerts
from tenants.usage.leases import settle_abandoned
from tenants.usage.retention import drop_old
from tenants.usage.rollups import prune_hours, roll_up
from tenants.usage.verify import verify

log = logging.getLogger(__name__)

# Long after the last request of a period may have settled.
_KEEP_COUNTERS_SECONDS: Final = 35 * 86_400
_MOST_DROPPED: Final = 50_000


@handler("usage.leases", every=timedelta(seconds=10))
def settle_the_dead(**_: Any) -> None:
    settle_abandoned(now=time.time())


@handler("usage.rollups", every=timedelta(seconds=30), lease=timedelta(minutes=10))
def add_up(**_: Any) -> None:
    roll_up()


@handler("usage.alerts", every=timedelta(seconds=60))
def tell_of_limits(**_: Any) -> None:
    alerts.find_crossed()


@handler("usage.sweep", every=timedelta(hours=6))
def sweep_counters(**_: Any) -> None:
    Counter.objects.filter(
        ends_at__lt=int(time.time()) - _KEEP_COUNTERS_SECONDS, reserved=0
    ).delete()
    prune_hours(now=clock.now())


@handler("usage.retention", every=timedelta(hours=1), lease=timedelta(minutes=10))
def drop_old_events(**_: Any) -> datetime | None:
    """A bounded share of what is too old, where the operator said for how long events are kept."""
    days = settings.USAGE_KEEP_DAYS
    if not days:
        return None
    now = clock.now()
    with acting_as(Kind.SYSTEM, None, "usage.retention"):
        dropped = drop_old(before=now - timedelta(days=days), most=_MOST_DROPPED)
    # There is more: other jobs come in between.
    return now if dropped >= _MOST_DROPPED else None


@handler("usage.verify", every=timedelta(hours=24), lease=timedelta(hours=2))
def verify_ledger(**_: Any) -> None:
    """Nightly. A difference is an alert and a line in the platform's audit log."""
    report = verify()
    if not report.findings:
        log.info("The usage ledger holds: %d events in %d chains.", report.events, report.chains)
        return
    found = [str(finding) for finding in report.findings]
    log.error("The usage ledger does not add up: %s", "; ".join(found[:10]))
    with acting_as(Kind.SYSTEM, None, "usage.verify"), transaction.atomic():
        record(
            tenant_id=None,
            action="ledger.damaged",
            target=None,
            after={"findings": found[:20], "has_more": report.has_more or len(found) > 20},
        )
        alert(
            AlertKind.LEDGER,
            tenant_id=None,
            key=f"{clock.now():%Y-%m-%d}",
            title="The usage ledger does not add up",
            text="\n".join(
                [*found[:20], "", "Keep the database as it is, and run: manage.py ledger verify"]
            ),
            facts={"findings": found[:20]},
        )
