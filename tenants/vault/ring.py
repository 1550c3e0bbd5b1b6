"""The key ring beside this database: does it fit, and may it be made anew?"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from django.conf import settings
from django.db import transaction
from django.db.models import Count

from controlplane.kit import clock
from tenants import scope
from tenants.audit.actor import current_actor
from tenants.audit.services import record
from tenants.vault import data_keys
from tenants.vault.errors import KeyRingProblem
from tenants.vault.fields import sealed_columns
from tenants.vault.models import DataKey
from tenants.vault.wrapping.choose import local_key_file, provider_of, wrapping_provider
from tenants.vault.wrapping.contract import KeyContext, Wrapped
from tenants.vault.wrapping.key_file import SCHEME as FILE_SCHEME

# Longer than any transaction, and than a process remembers a key: what was retired this long
# ago and is not in use will not come into use again.
SETTLED_AFTER: Final = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class RingUse:
    """How many data keys one wrapping key holds; `problem` says why it cannot be used."""

    wrapped_by: str
    data_keys: int
    problem: str = ""


def verify_key_ring() -> None:
    """Raises KeyRingProblem or KeyServiceUnavailable unless the ring can seal and opens the
    data keys there are. One query and, per wrapping key in use, one unwrapping."""
    with scope.platform("start and readiness check"):
        _verify_opening()
    provider = wrapping_provider()
    provider.current()


def verify_before_start() -> None:
    """As verify_key_ring, but a new installation without a key passes: `init` makes one."""
    with scope.platform("start check"):
        if DataKey.objects.exists():
            _verify_opening()
        elif _has_ciphertext():
            raise KeyRingProblem(
                "There are sealed secrets but no data keys: the table of data keys was emptied. "
                "Restore it from a backup."
            )


def _verify_opening() -> None:
    for use in ring_uses():
        if use.problem:
            raise KeyRingProblem(use.problem)


def ring_uses() -> list[RingUse]:
    """Every wrapping key that some data key needs, tried on one of them. KeyServiceUnavailable
    passes through: an outage says nothing about the keys."""
    uses = []
    groups = (
        DataKey.objects.filter(shredded_at=None)
        .values("wrapped_by")
        .annotate(count=Count("pk"))
        .order_by("wrapped_by")
    )
    for group in groups:
        wrapped_by, problem = group["wrapped_by"], ""
        row = DataKey.objects.filter(wrapped_by=wrapped_by, shredded_at=None).first()
        if row is not None:
            try:
                data_keys.unwrap(row)
            except KeyRingProblem as error:
                problem = str(error)
        uses.append(RingUse(wrapped_by, group["count"], problem))
    return uses


def initialise() -> str | None:
    """Makes the key file of a new installation. Returns the new key's id, None if there is a
    ring already. Raises KeyRingProblem, and makes nothing, beside existing secrets."""
    with scope.platform("first start"):
        verify_before_start()
        if wrapping_scheme() != FILE_SCHEME:
            wrapping_provider().current()
            return None
        key_file = local_key_file()
        if key_file.exists():
            key_file.keys()
            return None
        if DataKey.objects.exists() or _has_ciphertext():
            # Only shredded keys are left: whoever asks for a new ring must say so by hand.
            raise KeyRingProblem(
                f"The vault key file {key_file.path} is missing and this database was used with "
                "one. Put it back from its backup, or set VAULT_KEYS_FILE to where it is."
            )
        current_actor()  # a file cannot be rolled back: fail before it is made
        with transaction.atomic():
            key_id = key_file.create(clock.now())
            record(tenant_id=None, action="vault.initialised", target=None, after={"key": key_id})
        return key_id


def wrapping_scheme() -> str:
    return str(settings.VAULT_PROVIDER)


def rewrap_all(progress: Callable[[int], AbstractContextManager[Callable[[int], None]]]) -> int:
    """Wraps every data key with the ring's current key; how many there were to do.

    No secret is touched, no process has to know: an old wrapping holds the same data key.
    Whatever a killed run left is found again.
    """
    with scope.platform("vault rewrap"):
        current = wrapping_provider().current()
        pending = DataKey.objects.filter(shredded_at=None).exclude(wrapped_by=current)
        row_ids = list(pending.order_by("pk").values_list("pk", flat=True))
        done = 0
        with progress(len(row_ids)) as step:
            for row_id in row_ids:
                row = pending.filter(pk=row_id).first()
                done += 0 if row is None else _rewrap(row)
                step(1)
        with transaction.atomic():
            record(
                tenant_id=None,
                action="vault.rewrapped",
                target=None,
                after={"data_keys": done, "wrapped_by": current},
            )
    return done


def _rewrap(row: DataKey) -> int:
    old = bytes(row.wrapped)
    context = KeyContext(row.pk, row.tenant_id)
    key = provider_of(row.wrapped_by).unwrap(Wrapped(row.wrapped_by, old), context)
    wrapped = wrapping_provider().wrap(key, context)
    # Unless somebody rewrapped or shredded it meanwhile.
    return DataKey.objects.filter(pk=row.pk, wrapped=old, shredded_at=None).update(
        wrapped=wrapped.blob, wrapped_by=wrapped.wrapped_by
    )


def add_key() -> str:
    """Adds a key to the local key file; it wraps from now on. Returns its id."""
    if wrapping_scheme() != FILE_SCHEME:
        raise KeyRingProblem(
            f"VAULT_PROVIDER is {wrapping_scheme()}: make the new key version there, "
            "then run `manage.py vault rewrap`."
        )
    verify_key_ring()
    current_actor()  # a file cannot be rolled back: fail before it is changed
    with transaction.atomic():
        key_id = local_key_file().add(clock.now())
        record(tenant_id=None, action="vault.key_added", target=None, after={"key": key_id})
    return key_id


def drop_unused_keys() -> list[str]:
    """Removes keys from the local key file that wrap no data key. Never the current one, and
    none while the file is so young that a transaction begun before it may still be open."""
    key_file = local_key_file()
    if wrapping_scheme() != FILE_SCHEME or not key_file.is_editable or not key_file.exists():
        return []
    if key_file.changed_at() > clock.now() - SETTLED_AFTER:
        return []
    with scope.platform("remove old vault keys"), transaction.atomic():
        needed = {
            wrapped_by.removeprefix(f"{FILE_SCHEME}:")
            for wrapped_by in DataKey.objects.filter(shredded_at=None).values_list(
                "wrapped_by", flat=True
            )
        }
        unused = [key.id for key in key_file.keys()[:-1] if key.id not in needed]
        if unused:
            record(
                tenant_id=None,
                action="vault.keys_dropped",
                target=None,
                before={"keys": unused},
            )
            key_file.drop(unused)
    return unused


def _has_ciphertext() -> bool:
    return any(
        column.model._base_manager.exclude(**{f"{column.field}__isnull": True}).exists()
        for column in sealed_columns()
    )
