"""Data keys: made, found, unwrapped, remembered for a short while.

Unwrapped keys stay in this process, at most MAX_OPEN_KEYS of them. Every CONFIRM_SECONDS the
row is looked at again, so a shredded key is forgotten by every process within that time; every
UNWRAP_AGAIN_SECONDS the key ring is asked again, so that access withdrawn there takes effect.
While the database is away a key serves OUTAGE_SECONDS after it was last confirmed.
"""

from __future__ import annotations

import os
import threading
import time
import uuid
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from django.db import IntegrityError, InterfaceError, OperationalError, transaction
from django.db.models import F

from controlplane.kit import clock
from controlplane.kit.ids import uuid7
from tenants import scope
from tenants.members.models import Tenant
from tenants.vault.envelope import KEY_BYTES
from tenants.vault.errors import CannotUnseal, KeyRingProblem, TenantShredded
from tenants.vault.models import DataKey
from tenants.vault.wrapping.choose import provider_of, wrapping_provider
from tenants.vault.wrapping.contract import KeyContext, Wrapped

MAX_OPEN_KEYS: Final = 4096
CONFIRM_SECONDS: Final = 30.0
OUTAGE_SECONDS: Final = 60.0
UNWRAP_AGAIN_SECONDS: Final = 900.0

# NIST SP 800-38D, 8.3: with random 96-bit nonces at most 2**32 encryptions under one key.
# A key retires at half of that. Seals are counted by sampling: one in 2**16 adds 2**16, which
# is 0.6 % off at the limit and costs a write only then, after the caller's commit.
SEALS_PER_KEY: Final = 2**31
_SAMPLE: Final = 2**16


@dataclass(frozen=True, slots=True, repr=False)
class OpenKey:
    id: uuid.UUID
    tenant_id: uuid.UUID | None
    cipher: AESGCM
    wrapped: bytes
    unwrapped_at: float  # time.monotonic()
    confirmed_at: float

    def __repr__(self) -> str:
        return f"OpenKey({self.id})"


class OpenKeys:
    """The bounded, thread-safe memory of unwrapped keys: least recently confirmed goes first."""

    def __init__(self, limit: int = MAX_OPEN_KEYS) -> None:
        self._limit = limit
        self._keys: OrderedDict[uuid.UUID, OpenKey] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key_id: uuid.UUID) -> OpenKey | None:
        return self._keys.get(key_id)

    def put(self, key: OpenKey) -> OpenKey:
        with self._lock:
            self._keys[key.id] = key
            self._keys.move_to_end(key.id)
            while len(self._keys) > self._limit:
                self._keys.popitem(last=False)
        return key

    def drop(self, *key_ids: uuid.UUID) -> None:
        with self._lock:
            for key_id in key_ids:
                self._keys.pop(key_id, None)

    def clear(self) -> None:
        with self._lock:
            self._keys.clear()

    def __len__(self) -> int:
        return len(self._keys)


open_keys = OpenKeys()


def remembered(key_id: uuid.UUID) -> OpenKey | None:
    """The key if it can be used without any I/O."""
    key = open_keys.get(key_id)
    if key is not None and time.monotonic() < key.confirmed_at + CONFIRM_SECONDS:
        return key
    return None


def find(key_id: uuid.UUID, tenant_id: uuid.UUID | None) -> OpenKey:
    """The tenant's key of that id. Raises CannotUnseal when there is none or it is not theirs.

    At most one query, and one call to the key ring.
    """
    key = remembered(key_id)
    if key is None:
        key = _look_up(key_id, tenant_id)
    if key.tenant_id != tenant_id:
        raise CannotUnseal
    return key


def current(tenant_id: uuid.UUID | None) -> OpenKey:
    """The key that seals for this tenant now; made when there is none.

    Always asks the database: a process that remembered would go on sealing with a key that a
    rotation retired.
    """
    with _owner_scope(tenant_id):
        row = DataKey.objects.filter(tenant_id=tenant_id, retired_at=None).first()
        if row is None:
            row = _make(tenant_id)
        elif row.seals_estimate >= SEALS_PER_KEY:
            row = replace(row)
        return _open(row)


def replace(row: DataKey) -> DataKey:
    """Retires this current key and makes the next one; if somebody was faster, theirs."""
    with _owner_scope(row.tenant_id), transaction.atomic():
        now = clock.now()
        if DataKey.objects.filter(pk=row.pk, retired_at=None).update(retired_at=now):
            return _insert(row.tenant_id)
        return _current_row(row.tenant_id)


def count_seal(key_id: uuid.UUID, tenant_id: uuid.UUID | None) -> None:
    if int.from_bytes(os.urandom(2), "big") != 0:
        return

    def add() -> None:
        with _owner_scope(tenant_id):
            DataKey.objects.filter(pk=key_id).update(seals_estimate=F("seals_estimate") + _SAMPLE)

    # After the commit: a lock on this row inside somebody's transaction would make all of the
    # tenant's writers wait for it.
    transaction.on_commit(add)


def unwrap(row: DataKey) -> bytes:
    """Asks the key ring. Raises KeyRingProblem, KeyServiceUnavailable."""
    key = provider_of(row.wrapped_by).unwrap(
        Wrapped(row.wrapped_by, bytes(row.wrapped)), KeyContext(row.pk, row.tenant_id)
    )
    if len(key) != KEY_BYTES:
        raise KeyRingProblem(f"Data key {row.pk} unwraps to {len(key)} bytes, not {KEY_BYTES}.")
    return key


def _look_up(key_id: uuid.UUID, tenant_id: uuid.UUID | None) -> OpenKey:
    try:
        with _owner_scope(tenant_id):
            row = DataKey.objects.filter(pk=key_id, tenant_id=tenant_id).first()
    except (OperationalError, InterfaceError):
        key = open_keys.get(key_id)
        if key is not None and time.monotonic() < key.confirmed_at + OUTAGE_SECONDS:
            return key
        raise
    if row is None or row.shredded_at is not None:
        open_keys.drop(key_id)
        raise CannotUnseal
    return _open(row)


def _open(row: DataKey) -> OpenKey:
    """Unwraps, unless this very wrapping was opened a short while ago."""
    now = time.monotonic()
    wrapped = bytes(row.wrapped)
    known = open_keys.get(row.pk)
    if (
        known is not None
        and known.wrapped == wrapped
        and now < known.unwrapped_at + UNWRAP_AGAIN_SECONDS
    ):
        cipher, unwrapped_at = known.cipher, known.unwrapped_at
    else:
        cipher, unwrapped_at = AESGCM(unwrap(row)), now
    return open_keys.put(OpenKey(row.pk, row.tenant_id, cipher, wrapped, unwrapped_at, now))


def _make(tenant_id: uuid.UUID | None) -> DataKey:
    if tenant_id is not None:
        is_closing = Tenant.objects.filter(pk=tenant_id, status=Tenant.Status.CLOSING).exists()
        if is_closing and DataKey.objects.filter(shredded_at__isnull=False).exists():
            raise TenantShredded(
                "This tenant is closing and its data key was shredded: nothing is sealed for it "
                "any more. Set the tenant to active to begin anew."
            )
    try:
        with transaction.atomic():
            return _insert(tenant_id)
    except IntegrityError:
        # Another process made it at this moment.
        return _current_row(tenant_id)


def _insert(tenant_id: uuid.UUID | None) -> DataKey:
    with scope.platform("is this the ring of the other data keys?"):
        newest = DataKey.objects.filter(shredded_at=None).order_by("-created_at", "-pk").first()
        if newest is not None:
            # A wrong ring could wrap one more key without complaint, and split the database.
            unwrap(newest)
    key_id = uuid7()
    wrapped = wrapping_provider().wrap(os.urandom(KEY_BYTES), KeyContext(key_id, tenant_id))
    row = DataKey(
        pk=key_id, tenant_id=tenant_id, wrapped=wrapped.blob, wrapped_by=wrapped.wrapped_by
    )
    row.save(force_insert=True)
    return row


def _current_row(tenant_id: uuid.UUID | None) -> DataKey:
    row: DataKey = DataKey.objects.get(tenant_id=tenant_id, retired_at=None)
    return row


@contextmanager
def _owner_scope(tenant_id: uuid.UUID | None) -> Iterator[None]:
    """Data keys are found for whom the secret is, not for whom the code acts: a tenant's
    request may use a credential that the platform owns."""
    if tenant_id is None:
        with scope.platform("the platform's own data key"):
            yield
    else:
        with scope.tenant(tenant_id):
            yield
