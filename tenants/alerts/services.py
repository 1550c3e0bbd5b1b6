"""Raising an alert: a row, a row for each delivery, and a job for each of those, together with
whatever change the alert is about."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from django.db import transaction
from django.db.models import Q

from controlplane.kit import clock
from controlplane.kit.jobs.services import enqueue
from tenants import scope
from tenants.alerts.kinds import AlertKind
from tenants.alerts.models import Alert, AlertDelivery, AlertReceiver, Channel

# Its handler is above this layer, where requests to others are made.
DELIVER_JOB: Final = "alert.deliver"


@transaction.atomic
def alert(
    kind: AlertKind,
    *,
    tenant_id: uuid.UUID | None,
    key: str,
    title: str,
    text: str,
    facts: Mapping[str, Any] | None = None,
    person_id: uuid.UUID | None = None,
    now: datetime | None = None,
) -> bool:
    """Tells whoever receives this kind. `key` names the subject and the period: False = there was
    an alert about that. No secret may be in any of it."""
    now = now or clock.now()
    made = Alert(
        tenant_id=tenant_id,
        kind=kind,
        key=key_of(tenant_id, key),
        title=title[:200],
        text=text,
        facts=dict(facts or {}),
        person_id=person_id,
        created_at=now,
    )
    with scope.platform("an alert"):
        Alert.objects.bulk_create([made], ignore_conflicts=True)
        if not Alert.objects.filter(pk=made.pk).exists():
            return False
        deliver(made, _receivers(tenant_id, kind), now=now)
    return True


def key_of(tenant_id: uuid.UUID | None, key: str) -> str:
    """As the row has it: one subject's alerts of two tenants are two."""
    return f"{tenant_id or 'platform'}:{key}"[:400]


def deliver(
    made: Alert, receivers: list[tuple[Channel, AlertReceiver | None]], *, now: datetime
) -> None:
    """One delivery to each, due at once."""
    rows = [
        AlertDelivery(
            tenant_id=made.tenant_id, alert=made, receiver=receiver, channel=channel, due_at=now
        )
        for channel, receiver in receivers
    ]
    AlertDelivery.objects.bulk_create(rows)
    for row in rows:
        enqueue_delivery(row.pk, now=now)


def enqueue_delivery(delivery_id: uuid.UUID, *, now: datetime) -> None:
    enqueue(
        kind=DELIVER_JOB,
        key=str(delivery_id),
        args={"delivery_id": delivery_id},
        due_at=now,
    )


def _receivers(
    tenant_id: uuid.UUID | None, kind: AlertKind
) -> list[tuple[Channel, AlertReceiver | None]]:
    """Who made no e-mail receiver gets every kind as a letter; who made one has chosen."""
    of_owner = Q(tenant=None) if tenant_id is None else Q(tenant_id=tenant_id)
    known = list(AlertReceiver.objects.filter(of_owner).order_by("created_at"))
    found: list[tuple[Channel, AlertReceiver | None]] = [
        (Channel(row.channel), row)
        for row in known
        if row.is_on and (not row.kinds or kind in row.kinds)
    ]
    if not any(row.channel == Channel.EMAIL for row in known):
        found.append((Channel.EMAIL, None))
    return found
