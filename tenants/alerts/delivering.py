"""One attempt to deliver, and what follows from how it went.

A process that dies between the sending and the note sends again: at least once, and with the same
id, by which a receiver tells that it had it already.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from django.db import transaction
from django.db.models import F

from controlplane.kit import clock
from controlplane.kit.secret import Secret
from tenants.alerts import policy
from tenants.alerts.kinds import AlertKind
from tenants.alerts.letters import body_of, send_letter
from tenants.alerts.models import Alert, AlertDelivery, AlertReceiver, Channel
from tenants.alerts.services import alert, enqueue_delivery
from tenants.alerts.signing import headers
from tenants.audit.services import record
from tenants.vault import services as vault
from tenants.vault.errors import VaultError

State = AlertDelivery.State

# A delivery whose job was lost is found after this.
_LATE: Final = timedelta(minutes=2)
_BATCH: Final = 200


@dataclass(frozen=True, slots=True)
class Message:
    """A webhook, ready to be sent. `is_platform`: the operator named its address."""

    url: str
    headers: dict[str, str]
    body: bytes
    is_platform: bool


# Sends, and says what went wrong in a sentence; empty: it arrived.
Post = Callable[[Message], str]


def attempt(delivery_id: str | uuid.UUID, *, post: Post) -> datetime | None:
    """In the platform's scope; waits. When to try again; None = nothing is left to do."""
    rows = AlertDelivery.objects.select_related("alert__tenant", "alert__person", "receiver")
    delivery: AlertDelivery | None = rows.filter(pk=delivery_id, state=State.WAITING).first()
    if delivery is None:
        return None
    receiver = delivery.receiver
    is_test = delivery.alert.kind == AlertKind.TEST
    if receiver is not None and not receiver.is_on and not is_test:
        _end(delivery, "The receiver is switched off.")
        return None
    if delivery.channel == Channel.EMAIL or receiver is None:
        problem = send_letter(delivery)
    else:
        problem = _post(delivery, receiver, post)
    now = clock.now()
    if not problem:
        _note_sent(delivery, now)
        return None
    return _note_failed(delivery, problem[:300], now, is_last=is_test)


def _post(delivery: AlertDelivery, receiver: AlertReceiver, post: Post) -> str:
    now = clock.now()
    try:
        secrets = _secrets(receiver, now)
    except VaultError as error:
        return f"Its secret cannot be opened ({type(error).__name__})."
    body = body_of(delivery.alert)
    signed = headers(
        secrets, delivery_id=str(delivery.pk), at_seconds=int(now.timestamp()), body=body
    )
    return post(Message(receiver.address, signed, body, receiver.tenant_id is None))


def _secrets(receiver: AlertReceiver, now: datetime) -> Sequence[Secret]:
    secrets = [vault.unseal_from(receiver, "sealed_secret")]
    if receiver.previous_until is not None and receiver.previous_until > now:
        secrets.append(vault.unseal_from(receiver, "sealed_previous"))
    return secrets


@transaction.atomic
def _note_sent(delivery: AlertDelivery, now: datetime) -> None:
    AlertDelivery.objects.filter(pk=delivery.pk, state=State.WAITING).update(
        state=State.SENT, sent_at=now, attempts=F("attempts") + 1, last_error=""
    )
    if delivery.receiver is not None:
        AlertReceiver.objects.filter(pk=delivery.receiver.pk).update(
            failing_since=None, last_error="", last_sent_at=now
        )


@transaction.atomic
def _note_failed(
    delivery: AlertDelivery, problem: str, now: datetime, *, is_last: bool
) -> datetime | None:
    attempts = delivery.attempts + 1
    due_at = None
    if not is_last:
        due_at = policy.next_try(attempts=attempts, since=delivery.created_at, now=now)
    waiting = AlertDelivery.objects.filter(pk=delivery.pk, state=State.WAITING)
    if due_at is None:
        waiting.update(state=State.GIVEN_UP, attempts=attempts, last_error=problem)
    else:
        waiting.update(due_at=due_at, attempts=attempts, last_error=problem)
    receiver = delivery.receiver
    if receiver is not None:
        rows = AlertReceiver.objects.filter(pk=receiver.pk)
        rows.filter(failing_since=None).update(failing_since=now)
        rows.update(last_error=problem)
        since = receiver.failing_since
        if (
            receiver.channel == Channel.WEBHOOK
            and since is not None
            and now - since >= policy.SWITCHED_OFF_AFTER
        ):
            _switch_off(receiver, since, problem, now)
    return due_at


def _switch_off(receiver: AlertReceiver, since: datetime, problem: str, now: datetime) -> None:
    """A test may arrive meanwhile, and a person may have switched it: one UPDATE decides."""
    days = policy.SWITCHED_OFF_AFTER.days
    reason = f"Nothing arrived for {days} days: {problem}"[:300]
    moved = AlertReceiver.objects.filter(pk=receiver.pk, is_on=True, failing_since=since).update(
        is_on=False, off_reason=reason, version=F("version") + 1, updated_at=now
    )
    if not moved:
        return
    record(
        tenant_id=receiver.tenant_id,
        action="alert_receiver.switched_off",
        target=receiver,
        before={"is_on": True},
        after={"is_on": False, "reason": reason},
    )
    alert(
        AlertKind.RECEIVER_OFF,
        tenant_id=receiver.tenant_id,
        key=f"{receiver.pk}:{since.isoformat()}",
        title=f"The webhook “{receiver.label}” was switched off",
        text=f"{reason}\n\nMend its address or its server, send a test, then switch it on again.",
        facts={"receiver_id": str(receiver.pk), "label": receiver.label},
        now=now,
    )


def _end(delivery: AlertDelivery, reason: str) -> None:
    AlertDelivery.objects.filter(pk=delivery.pk, state=State.WAITING).update(
        state=State.GIVEN_UP, last_error=reason
    )


def find_lost(*, now: datetime) -> int:
    """The row is what is due; a job that was lost is written again. Returns how many rows."""
    late = AlertDelivery.objects.filter(state=State.WAITING, due_at__lte=now - _LATE)
    ids = list(late.order_by("due_at").values_list("pk", flat=True)[:_BATCH])
    with transaction.atomic():
        for delivery_id in ids:
            enqueue_delivery(delivery_id, now=now)
    return len(ids)


def prune(*, before: datetime, batch: int) -> int:
    """Forgets alerts that are older, with their deliveries. At most one batch; how many."""
    old = Alert.objects.filter(created_at__lt=before).values_list("pk", flat=True)
    ids = list(old[:batch])
    Alert.objects.filter(pk__in=ids).delete()
    return len(ids)
