"""Dropping old events, so that what stays can still be proved.

Off unless the operator says for how many days events are kept. Only the oldest end of a chain goes:
what is counted in the rollups, follows hash by hash from what went before, and is no tenant's last
event. What went is summed up in the tenant's checkpoint: where the chain goes on, and what the
dropped events had charged and counted. The digest of each checkpoint is in the audit log, which
nobody can change unseen, in the same transaction.
"""

from __future__ import annotations

import hashlib
import logging
import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final

from django.db import connection, transaction
from django.db.models import F

from controlplane.kit import json
from tenants import scope
from tenants.audit.models import AuditEvent
from tenants.audit.services import record
from tenants.quotas.models import Counter
from tenants.usage.chain import genesis
from tenants.usage.models import LedgerCheckpoint, LedgerHead, RollupMark, UsageEvent

log = logging.getLogger(__name__)

ACTION: Final = "ledger.pruned"
# A step holds a lock that requests wait for where the database is SQLite.
STEP: Final = 1_000


def owners() -> list[uuid.UUID]:
    """Whoever has a chain. In the platform's scope."""
    return list(LedgerHead.objects.order_by("tenant_id").values_list("tenant_id", flat=True))


@transaction.atomic
def drop_step(tenant_id: uuid.UUID, *, before: datetime, step: int = STEP) -> int:
    """Drops the oldest events of one tenant that were settled before; how many. 0 = nothing is
    left to drop, or the chain is damaged there: that stays as it is. In the platform's scope."""
    LedgerCheckpoint.objects.bulk_create(
        [LedgerCheckpoint(tenant_id=tenant_id, sequence=0, hash=genesis(tenant_id))],
        ignore_conflicts=True,
    )
    point = LedgerCheckpoint.objects.select_for_update().get(tenant_id=tenant_id)
    rows = _droppable(point, before, step)
    if not rows:
        return 0
    last = rows[-1]
    counted = _counted(point.counted, rows)
    moved = LedgerCheckpoint.objects.filter(pk=point.pk, sequence=point.sequence).update(
        sequence=last.sequence,
        hash=last.hash,
        events=F("events") + len(rows),
        charge_nanos=F("charge_nanos") + sum(row.charge_nanos or 0 for row in rows),
        counted=json.dumps_str(counted),
        created_until=max(
            [row.created_at for row in rows]
            + ([point.created_until] if point.created_until is not None else [])
        ),
    )
    if not moved:
        return 0
    point.refresh_from_db()
    delete_up_to(tenant_id, last.sequence)
    record(
        tenant_id=tenant_id,
        action=ACTION,
        target=point,
        after={
            "sequence": point.sequence,
            "hash": point.hash,
            "events": point.events,
            "digest": digest_of(point),
        },
    )
    return len(rows)


def digest_of(point: LedgerCheckpoint) -> str:
    """Over all that the checkpoint says."""
    until = point.created_until.isoformat() if point.created_until is not None else ""
    content = [
        *("pcp.usage.checkpoint", str(point.tenant_id), point.sequence, point.hash),
        *(point.events, point.charge_nanos, point.counted, until),
    ]
    return hashlib.sha256(json.dumps(content)).hexdigest()


def sealed_digest(tenant_id: uuid.UUID) -> str:
    """What the audit log says of the latest checkpoint; empty: nothing."""
    events = AuditEvent.objects.filter(tenant_id=tenant_id, action=ACTION)
    event = events.order_by("-sequence").first()
    if event is None:
        return ""
    return str((event.after or {}).get("digest", ""))


def covers(tenant_id: uuid.UUID, since: datetime) -> bool:
    """Whether events that were created since then may have been dropped."""
    return LedgerCheckpoint.objects.filter(tenant_id=tenant_id, created_until__gte=since).exists()


def _droppable(point: LedgerCheckpoint, before: datetime, step: int) -> list[UsageEvent]:
    tenant_id = point.tenant_id
    marks = RollupMark.objects.filter(tenant_id=tenant_id).values_list("sequence", flat=True)
    heads = LedgerHead.objects.filter(tenant_id=tenant_id).values_list("sequence", flat=True)
    end = min(marks.first() or 0, (heads.first() or 0) - 1)
    events = UsageEvent.objects.filter(
        tenant_id=tenant_id, sequence__gt=point.sequence, sequence__lte=end
    )
    found: list[UsageEvent] = []
    sequence, previous = point.sequence, point.hash
    for event in events.order_by("sequence")[:step]:
        if event.settled_at >= before:
            break
        follows = event.sequence == sequence + 1 and event.previous_hash == previous
        if not follows or event.hash != event.expected_hash():
            log.error("ledger of %s: #%d does not fit, nothing is dropped", tenant_id, sequence + 1)
            break
        found.append(event)
        sequence, previous = event.sequence, event.hash
    return found


def _counted(known: str, rows: Sequence[UsageEvent]) -> Mapping[str, int]:
    """What the dropped events had counted into counters that are still there."""
    sums: dict[str, int] = dict(json.loads_dict(known)) if known else {}
    for row in rows:
        for key, amount in json.loads(row.counted) if row.counted else ():
            sums[key] = sums.get(key, 0) + amount
    there = set(Counter.objects.filter(key__in=list(sums)).values_list("key", flat=True))
    return {key: sums[key] for key in sorted(sums) if key in there}


def delete_up_to(tenant_id: uuid.UUID, last: int) -> None:
    """Deletes; for `drop_step`, which seals first. The models refuse to: SQL, in one place."""
    owner = UsageEvent._meta.get_field("tenant").get_db_prep_value(tenant_id, connection)
    with connection.cursor() as cursor:
        cursor.execute(
            "DELETE FROM tenants_posting WHERE event_id IN (SELECT id FROM tenants_usageevent"
            " WHERE tenant_id = %s AND sequence <= %s)",
            [owner, last],
        )
        cursor.execute(
            "DELETE FROM tenants_usageevent WHERE tenant_id = %s AND sequence <= %s",
            [owner, last],
        )


def drop_old(*, before: datetime, most: int) -> int:
    """Steps over all tenants, at most so many events; how many. Less than `most` = all is done."""
    dropped = 0
    with scope.platform("events that grew old"):
        for tenant_id in owners():
            while dropped < most and (step := drop_step(tenant_id, before=before)):
                dropped += step
    return dropped
