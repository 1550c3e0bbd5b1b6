"""Making, changing, replacing and ending keys. Each runs in the scope of the key's tenant, is
audited in the same transaction, and is seen by every process within a second."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any, Final

from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import F

from controlplane.kit import clock
from controlplane.kit.secret import Secret
from tenants.audit.services import record
from tenants.errors import StaleVersion, StateConflict
from tenants.keys import peppers
from tenants.keys.lookup import (
    ALPHABET,
    PUBLIC_ID_LENGTH,
    SECRET_BYTES,
    TokenKind,
    digest,
    render,
)
from tenants.keys.models import ApiKey, default_scopes
from tenants.members.models import Membership, Tenant
from tenants.revisions.services import bump

# What `update_key` may change.
EDITABLE: Final = ("label", "scopes", "allowed_models", "allowed_networks", "expires_at")
LONGEST_OVERLAP: Final = timedelta(days=90)


def new_token(kind: TokenKind) -> tuple[str, Secret, bytes, str]:
    """A fresh public id, the token, its digest and the name of the pepper that signed it."""
    public_id = "".join(secrets.choice(ALPHABET) for _ in range(PUBLIC_ID_LENGTH))
    token = render(kind, public_id, secrets.token_bytes(SECRET_BYTES))
    pepper = peppers.ring()[0]
    return public_id, Secret(token), digest(token, pepper), peppers.name(pepper)


@transaction.atomic
def create_key(
    *,
    tenant: Tenant,
    label: str,
    scopes: Iterable[str] | None = None,
    allowed_models: Iterable[str] = (),
    allowed_networks: Iterable[str] = (),
    expires_at: datetime | None = None,
    member: Membership | None = None,
    now: datetime | None = None,
) -> tuple[ApiKey, Secret]:
    """The only moment the token exists. Raises ValidationError, by field, for bad limits."""
    now = now or clock.now()
    if member is not None and member.tenant_id != tenant.id:
        raise ValidationError({"member": "This person is not a member of the tenant."})
    key, token = _make(
        tenant_id=tenant.id,
        label=label.strip(),
        scopes=sorted(set(scopes)) if scopes is not None else default_scopes(),
        allowed_models=list(allowed_models),
        allowed_networks=list(allowed_networks),
        expires_at=expires_at,
        member=member,
        now=now,
    )
    _audit(key, "key.created", after=_facts(key))
    bump("keys")
    return key, token


@transaction.atomic
def update_key(*, key: ApiKey, version: int, now: datetime | None = None, **changes: Any) -> ApiKey:
    """Changes any of EDITABLE. `version` is the one the caller saw: StaleVersion if it moved.

    A key that has been replaced keeps the end that its rotation gave it."""
    now = now or clock.now()
    unknown = set(changes) - set(EDITABLE)
    if unknown:
        raise TypeError(f"A key's {', '.join(sorted(unknown))} cannot be changed.")
    current = ApiKey.objects.get(pk=key.pk)
    before = _facts(current)
    if current.revoked_at is not None:
        raise StateConflict("This key is revoked: create a new one.")
    if current.rotated_at is not None and "expires_at" in changes:
        raise StateConflict("This key has been replaced: its end was set by the rotation.")
    for name, value in changes.items():
        setattr(current, name, value)
    _validate(current, now=now, is_end_new="expires_at" in changes)
    written = ApiKey.objects.filter(
        pk=key.pk, version=version, revoked_at=None, rotated_at=current.rotated_at
    ).update(
        **{name: getattr(current, name) for name in changes},
        version=F("version") + 1,
        updated_at=now,
    )
    if not written:
        raise StaleVersion("Somebody else changed this key meanwhile: read it again.")
    current.refresh_from_db()
    _audit(current, "key.changed", before=before, after=_facts(current))
    bump("keys")
    return current


@transaction.atomic
def rotate_key(
    *, key: ApiKey, overlap_until: datetime, now: datetime | None = None
) -> tuple[ApiKey, Secret]:
    """A new key with the same limits. Both work until `overlap_until`, or the old key's own end
    if that comes first; a time that has come already ends the old key now.

    Raises StateConflict if the key no longer works or was replaced before."""
    now = now or clock.now()
    if overlap_until > now + LONGEST_OVERLAP:
        raise ValidationError(
            {"overlap_until": f"Choose a time within {LONGEST_OVERLAP.days} days."}
        )
    old = ApiKey.objects.get(pk=key.pk)
    ends: dict[str, datetime] = {"expires_at": min(old.expires_at or overlap_until, overlap_until)}
    if overlap_until <= now:
        ends["revoked_at"] = now
    claimed = (
        ApiKey.objects.usable(now=now)
        .filter(pk=old.pk, rotated_at=None, version=old.version)
        .update(**ends, rotated_at=now, version=F("version") + 1, updated_at=now)
    )
    if not claimed:
        raise StateConflict("This key no longer works or was replaced already: use the new one.")
    # The new key lives as long as the old one was meant to: rotation extends nothing.
    new, token = _make(
        tenant_id=old.tenant_id,
        label=old.label,
        scopes=old.scopes,
        allowed_models=old.allowed_models,
        allowed_networks=old.allowed_networks,
        expires_at=old.expires_at,
        member=old.member,
        rotated_from=old,
        now=now,
    )
    before = _facts(old)
    old.refresh_from_db()
    _audit(old, "key.rotated", before=before, after={**_facts(old), "replaced_by": new.public_id})
    _audit(new, "key.created", after={**_facts(new), "replaces": old.public_id})
    bump("keys")
    return new, token


@transaction.atomic
def revoke_key(*, key: ApiKey, now: datetime | None = None) -> bool:
    """Ends the key for good. False if it was revoked before: nothing changes then."""
    now = now or clock.now()
    written = ApiKey.objects.filter(pk=key.pk, revoked_at=None).update(
        revoked_at=now, version=F("version") + 1, updated_at=now
    )
    if not written:
        return False
    key.refresh_from_db()
    _audit(key, "key.revoked", before={"revoked_at": None}, after=_facts(key))
    bump("keys")
    return True


def _make(*, now: datetime, **fields: Any) -> tuple[ApiKey, Secret]:
    public_id, token, key_digest, pepper_name = new_token(TokenKind.LIVE)
    key = ApiKey(
        public_id=public_id,
        digest=key_digest,
        pepper_name=pepper_name,
        created_at=now,
        updated_at=now,
        **fields,
    )
    _validate(key, now=now, is_end_new=True)
    key.save(force_insert=True)
    return key, token


def _validate(key: ApiKey, *, now: datetime, is_end_new: bool) -> None:
    # Relations were checked by who passed them; validating them would only query.
    key.clean_fields(exclude={"tenant", "member", "rotated_from"})
    if is_end_new and key.expires_at is not None and key.expires_at <= now:
        raise ValidationError({"expires_at": "Choose a time that is still to come."})


def _facts(key: ApiKey) -> dict[str, Any]:
    """What the audit keeps: never the token or its digest."""
    return {
        "label": key.label,
        "public_id": key.public_id,
        "scopes": key.scopes,
        "allowed_models": key.allowed_models,
        "allowed_networks": key.allowed_networks,
        "member": str(key.member_id) if key.member_id else None,
        "expires_at": _time(key.expires_at),
        "rotated_at": _time(key.rotated_at),
        "revoked_at": _time(key.revoked_at),
    }


def _time(moment: datetime | None) -> str | None:
    return moment.isoformat() if moment is not None else None


def _audit(
    key: ApiKey,
    action: str,
    *,
    before: dict[str, Any] | None = None,
    after: dict[str, Any] | None = None,
) -> None:
    record(tenant_id=key.tenant_id, action=action, target=key, before=before, after=after)
