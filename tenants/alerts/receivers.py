"""Who receives alerts: made, changed, tried, removed. Each is audited in the same transaction."""

from __future__ import annotations

import os
import uuid
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final
from urllib.parse import urlsplit

from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.db import IntegrityError, transaction
from django.db.models import F

from controlplane.kit import clock
from controlplane.kit.secret import Secret
from tenants.alerts.kinds import CHOSEN, AlertKind
from tenants.alerts.models import Alert, AlertDelivery, AlertReceiver, Channel
from tenants.alerts.services import deliver
from tenants.alerts.signing import SECRET_BYTES, secret_of
from tenants.audit.services import record
from tenants.errors import StaleVersion, StateConflict
from tenants.members.models import Tenant
from tenants.vault import services as vault

EDITABLE: Final = ("label", "address", "kinds", "is_on")
LONGEST_OVERLAP: Final = timedelta(days=7)
# Each alert is sent to each of them.
MOST_RECEIVERS: Final = 20
_TEST_PAUSE: Final = timedelta(seconds=10)


@transaction.atomic
def create_receiver(
    *,
    tenant: Tenant | None,
    label: str,
    channel: str,
    address: str = "",
    kinds: Sequence[str] = (),
    is_on: bool = True,
) -> tuple[AlertReceiver, Secret | None]:
    """The row and, of a webhook, the secret it signs with, which is shown once. In the scope of
    the tenant (None = the platform's). Raises ValidationError, by field, and StateConflict."""
    row = AlertReceiver(
        tenant=tenant,
        label=label.strip(),
        channel=channel,
        address=address.strip(),
        kinds=list(kinds),
        is_on=is_on,
    )
    _validate(row)
    # Two at the same moment may end up one above: it bounds work, it guards nothing.
    if AlertReceiver.objects.filter(tenant=tenant).count() >= MOST_RECEIVERS:
        raise StateConflict(f"There are {MOST_RECEIVERS} receivers already: remove one first.")
    secret = None
    if row.channel == Channel.WEBHOOK:
        secret = _seal_new(row)
    _save_new(row)
    _audit(row, "alert_receiver.created", after=_facts(row))
    return row, secret


@transaction.atomic
def update_receiver(
    *, receiver: AlertReceiver, version: int, now: datetime | None = None, **changes: Any
) -> AlertReceiver:
    """Changes any of EDITABLE. To switch it on again forgets its failures."""
    unknown = set(changes) - set(EDITABLE)
    if unknown:
        raise TypeError(f"A receiver's {', '.join(sorted(unknown))} cannot be changed.")
    current = AlertReceiver.objects.get(pk=receiver.pk)
    before = _facts(current)
    for name, value in changes.items():
        setattr(current, name, value.strip() if isinstance(value, str) else value)
    _validate(current)
    written = {name: getattr(current, name) for name in changes}
    if changes.get("is_on") and not before["is_on"]:
        written |= {"failing_since": None, "off_reason": ""}
    try:
        with transaction.atomic():
            moved = AlertReceiver.objects.filter(pk=receiver.pk, version=version).update(
                **written, version=F("version") + 1, updated_at=now or clock.now()
            )
    except IntegrityError:
        raise _taken(current) from None
    if not moved:
        raise _stale()
    current.refresh_from_db()
    _audit(current, "alert_receiver.changed", before=before, after=_facts(current))
    return current


@transaction.atomic
def rotate_secret(
    *, receiver: AlertReceiver, version: int, overlap: timedelta, now: datetime | None = None
) -> tuple[AlertReceiver, Secret]:
    """A new secret. Until the overlap is over the old one signs as well, so that the receiver can
    take its time."""
    now = now or clock.now()
    if not timedelta(0) <= overlap <= LONGEST_OVERLAP:
        raise ValidationError({"overlap_seconds": f"At most {LONGEST_OVERLAP.days} days."})
    current = AlertReceiver.objects.get(pk=receiver.pk)
    if current.channel != Channel.WEBHOOK:
        raise StateConflict("Only webhooks are signed.")
    before = current.fingerprint
    if overlap and current.sealed_secret:
        vault.seal_into(current, "sealed_previous", vault.unseal_from(current, "sealed_secret"))
        current.previous_until = now + overlap
    else:
        current.sealed_previous, current.previous_until = None, None
    secret = _seal_new(current)
    moved = AlertReceiver.objects.filter(pk=receiver.pk, version=version).update(
        sealed_secret=current.sealed_secret,
        sealed_previous=current.sealed_previous,
        previous_until=current.previous_until,
        fingerprint=current.fingerprint,
        version=F("version") + 1,
        updated_at=now,
    )
    if not moved:
        raise _stale()
    current.refresh_from_db()
    _audit(
        current,
        "alert_receiver.secret_replaced",
        before={"fingerprint": before},
        after={"fingerprint": current.fingerprint, "previous_until": current.previous_until},
    )
    return current, secret


@transaction.atomic
def remove_receiver(*, receiver: AlertReceiver, version: int) -> None:
    before = _facts(receiver)
    deleted, _ = AlertReceiver.objects.filter(pk=receiver.pk, version=version).delete()
    if not deleted:
        raise _stale()
    _audit(receiver, "alert_receiver.removed", before=before)


@transaction.atomic
def send_test(*, receiver: AlertReceiver, now: datetime | None = None) -> AlertDelivery:
    """One alert for this receiver alone, also when it is switched off. It is tried once."""
    now = now or clock.now()
    latest = receiver.deliveries.filter(alert__kind=AlertKind.TEST).order_by("-created_at").first()
    if latest is not None and latest.created_at > now - _TEST_PAUSE:
        raise StateConflict("A test was sent just now: wait some seconds.", retry_after_seconds=10)
    test = Alert.objects.create(
        tenant_id=receiver.tenant_id,
        kind=AlertKind.TEST,
        key=f"{receiver.pk}:{uuid.uuid4()}",
        title=f"A test for “{receiver.label}”"[:200],
        text="This is a test. Whoever reads it receives alerts of the control plane.",
        facts={"receiver_id": str(receiver.pk)},
        created_at=now,
    )
    deliver(test, [(Channel(receiver.channel), receiver)], now=now)
    _audit(receiver, "alert_receiver.tested")
    made: AlertDelivery = test.deliveries.get()
    return made


def _validate(row: AlertReceiver) -> None:
    row.clean_fields(exclude={"tenant", "sealed_secret", "sealed_previous"})
    if not row.label:
        raise ValidationError({"label": "Give it a name."})
    if row.channel == Channel.WEBHOOK:
        _check_url(row.address)
    elif row.address:
        try:
            validate_email(row.address)
        except ValidationError as error:
            raise ValidationError({"address": error.messages}) from None
    known = {str(kind.value) for kind in CHOSEN}
    if not isinstance(row.kinds, list) or not all(kind in known for kind in row.kinds):
        raise ValidationError({"kinds": f"Choose among {', '.join(sorted(known))}."})
    row.kinds = sorted(set(row.kinds))


def _check_url(address: str) -> None:
    """What it leads to is checked where it is dialled, each time."""
    try:
        parts = urlsplit(address)
        is_good = (
            parts.scheme in ("http", "https")
            and bool(parts.hostname)
            and (parts.port is None or parts.port > 0)
            and not parts.username
            and not parts.password
            and not parts.fragment
            and address.isascii()
            and address.isprintable()
            and " " not in address
        )
    except ValueError:
        is_good = False
    if not is_good:
        raise ValidationError(
            {
                "address": "Give the whole address, such as https://alerts.example.com/hook, "
                "without a name and password in it."
            }
        )


def _seal_new(row: AlertReceiver) -> Secret:
    secret = secret_of(os.urandom(SECRET_BYTES))
    vault.seal_into(row, "sealed_secret", secret)
    row.fingerprint = vault.fingerprint(secret)
    return secret


def _save_new(row: AlertReceiver) -> None:
    try:
        with transaction.atomic():
            row.save(force_insert=True)
    except IntegrityError:
        raise _taken(row) from None


def _taken(row: AlertReceiver) -> StateConflict:
    return StateConflict(f"There is a receiver {row.label!r} already.", param="label")


def _stale() -> StaleVersion:
    return StaleVersion("Somebody else changed this receiver meanwhile: read it again.")


def _facts(row: AlertReceiver) -> dict[str, Any]:
    # A path may be a secret of its own: of a webhook the trail keeps the host.
    is_url = row.channel == Channel.WEBHOOK
    return {
        "label": row.label,
        "channel": row.channel,
        "address": urlsplit(row.address).hostname if is_url else row.address,
        "kinds": row.kinds,
        "is_on": row.is_on,
        "fingerprint": row.fingerprint,
    }


def _audit(
    row: AlertReceiver,
    action: str,
    *,
    before: dict[str, Any] | None = None,
    after: dict[str, Any] | None = None,
) -> None:
    record(tenant_id=row.tenant_id, action=action, target=row, before=before, after=after)
