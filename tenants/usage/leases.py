"""What a dead process held is settled by somebody else, within a minute.

A process says every RENEW_SECONDS that it lives. Its holds are those of the living; the others are
settled as presumed: nobody saw the end, so the usage stays unknown, with an estimate beside it.
"""

from __future__ import annotations

import logging
import time
import uuid
from typing import Final

from django.conf import settings

from tenants import scope
from tenants.direct_sql import DirectSQL
from tenants.usage import writing
from tenants.usage.group import Group, Operation, Settle
from tenants.usage.models import Hold, MeteringProcess, UsageEvent
from tenants.usage.outcome import Outcome
from tenants.usage.writing import Part

log = logging.getLogger(__name__)

RENEW_SECONDS: Final = 8.0
LEASE_SECONDS: Final = 30
_BATCH: Final = 128


def renew(process_id: uuid.UUID, name: str, *, lease_seconds: int) -> None:
    MeteringProcess.objects.bulk_create(
        [MeteringProcess(id=process_id, name=name, alive_until=int(time.time()) + lease_seconds)],
        update_conflicts=True,
        unique_fields=["id"],
        update_fields=["alive_until"],
    )


def farewell(process_id: uuid.UUID) -> None:
    """A process that ends by itself and holds nothing any more."""
    MeteringProcess.objects.filter(pk=process_id).delete()


def settle_abandoned(*, now: float) -> int:
    """Settles the holds of processes that are dead; how many. Run twice, it finds none."""
    group = Group(settings.REDIS_URL)
    total = 0
    try:
        with scope.platform("holds of dead processes"):
            # A process without a row never renewed: its first words come before its first hold.
            alive = MeteringProcess.objects.filter(alive_until__gt=int(now)).values("id")
            while True:
                rows = list(
                    Hold.objects.exclude(process_id__in=alive)
                    .order_by("id")
                    .values_list("id", "facts")[:_BATCH]
                )
                if not rows:
                    break
                operations = [_presumed(hold_id, facts) for hold_id, facts in rows]
                group.execute(list[Operation](operations))
                failed = [one for one in operations if one.error is not None]
                total += len(operations) - len(failed)
                if failed:
                    raise RuntimeError(f"{len(failed)} abandoned holds could not be settled.")
            if total:
                log.warning("Settled %d requests of processes that died.", total)
                if group.counting.look(DirectSQL()).is_cache:
                    # What Redis granted them without a committed hold is in no row: count anew.
                    group.counting.move_to_database()
            MeteringProcess.objects.filter(alive_until__lte=int(now) - 3600).delete()
    finally:
        group.counting.close()
    return total


def _presumed(hold_id: uuid.UUID, facts: str) -> Settle:
    held = writing.read_held(facts)
    outcome = Outcome(status=0, error_code="process_died", is_interrupted=True)
    part = Part(outcome, None, held.takes, entry=UsageEvent.Entry.PRESUMED.value)
    return Settle(hold_id, held, [part])
