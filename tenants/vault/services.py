"""The one place that encrypts and decrypts stored secrets.

credential.sealed = seal(tenant_id=…, model="providers.credential", row_id=…, field="sealed",
                         secret=…)
seal_into(credential, "sealed", secret)      the same, from the row
unseal_from(credential, "sealed").reveal()
"""

from __future__ import annotations

import uuid

from asgiref.sync import sync_to_async
from django.db import models, transaction
from django.db.models.functions import Coalesce

from controlplane.kit import clock
from controlplane.kit.secret import Secret
from tenants import scope
from tenants.audit.services import record
from tenants.members.models import Tenant
from tenants.vault import data_keys, envelope
from tenants.vault.envelope import Place
from tenants.vault.errors import CannotUnseal
from tenants.vault.fields import SealedField
from tenants.vault.fingerprints import fingerprint
from tenants.vault.models import DataKey
from tenants.vault.ring import initialise, verify_key_ring

__all__ = [
    "aunseal",
    "fingerprint",
    "initialise",
    "seal",
    "seal_into",
    "shred",
    "unseal",
    "unseal_from",
    "verify_key_ring",
]


def seal(
    *, tenant_id: uuid.UUID | None, model: str, row_id: uuid.UUID, field: str, secret: Secret
) -> bytes:
    """Encrypts for exactly that tenant, row and field. One query, two for a tenant's first.

    Raises KeyRingProblem, KeyServiceUnavailable, TenantShredded.
    """
    key = data_keys.current(tenant_id)
    place = Place(tenant_id, model.lower(), row_id, field)
    sealed = envelope.seal(key.cipher, key.id, place, secret.reveal().encode())
    data_keys.count_seal(key.id, tenant_id)
    return sealed


def unseal(
    *, tenant_id: uuid.UUID | None, model: str, row_id: uuid.UUID, field: str, sealed: bytes
) -> Secret:
    """Decrypts. No query while the data key is remembered (see data_keys).

    Raises CannotUnseal (one text, whatever is wrong), KeyRingProblem, KeyServiceUnavailable.
    """
    key = data_keys.find(envelope.key_id_of(sealed), tenant_id)
    return _open(key, Place(tenant_id, model.lower(), row_id, field), sealed)


async def aunseal(
    *, tenant_id: uuid.UUID | None, model: str, row_id: uuid.UUID, field: str, sealed: bytes
) -> Secret:
    """As unseal, for async code: a thread hop only when the data key is not remembered."""
    key = data_keys.remembered(envelope.key_id_of(sealed))
    if key is None:
        key = await sync_to_async(data_keys.find)(envelope.key_id_of(sealed), tenant_id)
    if key.tenant_id != tenant_id:
        raise CannotUnseal
    return _open(key, Place(tenant_id, model.lower(), row_id, field), sealed)


def seal_into(row: models.Model, field: str, secret: Secret) -> None:
    """Seals into `row.<field>`, a SealedField. Does not save the row."""
    place = place_of(row, field)
    sealed = seal(
        tenant_id=place.tenant_id,
        model=place.model,
        row_id=place.row_id,
        field=place.field,
        secret=secret,
    )
    setattr(row, field, sealed)


def unseal_from(row: models.Model, field: str) -> Secret:
    """Opens `row.<field>`. Raises CannotUnseal also when it is empty."""
    place = place_of(row, field)
    return unseal(
        tenant_id=place.tenant_id,
        model=place.model,
        row_id=place.row_id,
        field=place.field,
        sealed=getattr(row, field) or b"",
    )


def place_of(row: models.Model, field: str) -> Place:
    if not isinstance(row._meta.get_field(field), SealedField):
        raise TypeError(f"{row._meta.label}.{field} is not a SealedField.")
    return Place(getattr(row, "tenant_id", None), row._meta.label_lower, row.pk, field)


def shred(*, tenant_id: uuid.UUID) -> int:
    """Destroys the tenant's data keys: everything sealed with them is gone for good.

    Returns how many keys there were. Other processes forget them within
    data_keys.CONFIRM_SECONDS. Backups of the database still hold the wrapped keys.
    """
    with transaction.atomic(), scope.tenant(tenant_id):
        tenant = Tenant.objects.get(pk=tenant_id)
        now = clock.now()
        alive = DataKey.objects.filter(shredded_at=None)
        key_ids = list(alive.values_list("pk", flat=True))
        count = alive.filter(pk__in=key_ids).update(
            wrapped=b"", shredded_at=now, retired_at=Coalesce("retired_at", models.Value(now))
        )
        record(
            tenant_id=tenant_id,
            action="vault.shredded",
            target=tenant,
            before={"data_keys": count},
            after={"data_keys": 0},
        )
        transaction.on_commit(lambda: data_keys.open_keys.drop(*key_ids))
    return count


def _open(key: data_keys.OpenKey, place: Place, sealed: bytes) -> Secret:
    plaintext = envelope.unseal(key.cipher, key.id, place, sealed)
    try:
        return Secret(plaintext.decode())
    except UnicodeDecodeError:
        # Authentic, so sealed by other code than ours: not text.
        raise CannotUnseal from None
