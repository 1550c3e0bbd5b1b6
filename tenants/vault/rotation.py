"""New data keys for everybody and every secret sealed again, while the gateway runs.

Three steps, each of which may be repeated and none of which can lose anything:

1. each owner gets a new current key; the old one is retired and goes on opening;
2. each row that a retired key sealed is opened and sealed anew, by compare-and-set: a row
   that somebody writes at this moment keeps what they wrote, and is met in the next pass;
3. keys that no row uses any more are removed by `prune`, a while after they were retired.
"""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final, cast

from django.db import connection, models, transaction
from django.db.models import Q

from controlplane.kit import clock
from tenants import scope
from tenants.audit.services import record
from tenants.vault import data_keys, envelope
from tenants.vault.envelope import Place
from tenants.vault.errors import CannotUnseal, KeyRingProblem, TenantShredded
from tenants.vault.fields import SealedColumn, sealed_columns
from tenants.vault.models import DataKey, KeyRotation
from tenants.vault.ring import SETTLED_AFTER

_BATCH: Final = 200
_PASSES: Final = 5

SHREDDED: Final = "its data key was shredded"

Progress = Callable[[int], None]


def _silent(_rows: int) -> None:
    """Shows nothing."""


@dataclass(frozen=True, slots=True)
class SealedRow:
    column: SealedColumn
    row_id: uuid.UUID
    tenant_id: uuid.UUID | None
    sealed: bytes

    @property
    def place(self) -> Place:
        return Place(self.tenant_id, self.column.model_name, self.row_id, self.column.field)


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A secret that nobody can open, and where it is."""

    row: SealedRow
    why: str

    def __str__(self) -> str:
        owner = f"tenant {self.row.tenant_id}" if self.row.tenant_id else "the platform"
        return f"{self.row.column}, row {self.row.row_id} of {owner}: {self.why}"


@dataclass(slots=True)
class Outcome:
    resealed: int = 0
    # Met more than _PASSES times while others kept writing: run again.
    left: int = 0
    unreadable: list[Unreadable] = field(default_factory=list)


@dataclass(slots=True)
class Inspection:
    readable: Counter[str] = field(default_factory=Counter)  # by column
    by_key: Counter[uuid.UUID] = field(default_factory=Counter)
    unreadable: list[Unreadable] = field(default_factory=list)


def begin(only_tenant_id: uuid.UUID | None = None) -> tuple[KeyRotation, bool]:
    """The rotation to work on, and whether it is one that was left unfinished."""
    open_one = (
        KeyRotation.objects.filter(finished_at=None, only_tenant_id=only_tenant_id)
        .order_by("created_at")
        .first()
    )
    if open_one is not None:
        return open_one, True
    with transaction.atomic():
        rotation = KeyRotation.objects.create(only_tenant_id=only_tenant_id)
        record(
            tenant_id=only_tenant_id,
            action="vault.rotation_begun",
            target=rotation,
            after={"rotation": rotation.pk},
        )
    return rotation, False


def run(rotation: KeyRotation, on_progress: Progress = _silent) -> Outcome:
    """Works until nothing is left, from wherever an earlier run stopped.

    Raises KeyRingProblem or KeyServiceUnavailable when the ring fails; run it again later.
    """
    with scope.platform("vault rotation"):
        _replace_keys(rotation)
        outcome = Outcome()
        for _ in range(_PASSES):
            unreadable: list[Unreadable] = []
            found, done = _reseal_all(rotation, unreadable, on_progress)
            outcome.resealed += done
            outcome.unreadable = unreadable
            outcome.left = found - done
            if found == 0:
                break
        if outcome.left == 0:
            _finish(rotation, outcome)
    return outcome


def inspect(on_progress: Progress = _silent) -> Inspection:
    """Opens every secret and forgets it. Counts, and lists what cannot be opened."""
    inspection = Inspection()
    with scope.platform("vault status"):
        shredded = _shredded_key_ids()
        for row in _rows(None):
            on_progress(1)
            try:
                key_id = envelope.key_id_of(row.sealed)
                inspection.by_key[key_id] += 1
                _open(row)
            except CannotUnseal:
                inspection.unreadable.append(_unreadable(row, shredded))
            except KeyRingProblem as problem:
                inspection.unreadable.append(Unreadable(row, str(problem)))
            else:
                inspection.readable[str(row.column)] += 1
    return inspection


def count_rows(only_tenant_id: uuid.UUID | None = None) -> int:
    with scope.platform("vault progress"):
        return sum(_sealed(column, only_tenant_id).count() for column in sealed_columns())


def prune(on_progress: Progress = _silent) -> int:
    """Removes retired data keys that no row uses and that were retired long enough ago.
    Returns how many. Rows that name a key count as use even when they cannot be opened."""
    with scope.platform("remove old data keys"):
        settled = clock.now() - SETTLED_AFTER
        candidates = set(
            DataKey.objects.filter(retired_at__lt=settled, shredded_at=None).values_list(
                "pk", flat=True
            )
        )
        if not candidates:
            return 0
        for row in _rows(None):
            on_progress(1)
            try:
                candidates.discard(envelope.key_id_of(row.sealed))
            except CannotUnseal:
                continue
        with transaction.atomic():
            removed, _ = DataKey.objects.filter(
                pk__in=candidates, retired_at__lt=settled, shredded_at=None
            ).delete()
            if removed:
                record(
                    tenant_id=None,
                    action="vault.data_keys_removed",
                    target=None,
                    before={"data_keys": sorted(str(key_id) for key_id in candidates)},
                )
        return removed


def _replace_keys(rotation: KeyRotation) -> None:
    keys = DataKey.objects.filter(retired_at=None, created_at__lt=rotation.created_at)
    if rotation.only_tenant_id is not None:
        keys = keys.filter(tenant_id=rotation.only_tenant_id)
    for row in keys.order_by("pk"):
        data_keys.replace(row)


def _reseal_all(
    rotation: KeyRotation, unreadable: list[Unreadable], on_progress: Progress
) -> tuple[int, int]:
    """One pass. How many rows a retired key had sealed, and how many of them are done."""
    current: dict[uuid.UUID | None, data_keys.OpenKey] = {}
    current_ids = dict(DataKey.objects.filter(retired_at=None).values_list("tenant_id", "pk"))
    shredded = _shredded_key_ids()
    found = done = 0
    batch: list[tuple[SealedRow, bytes]] = []
    for row in _rows(rotation.only_tenant_id):
        try:
            key_id = envelope.key_id_of(row.sealed)
            if key_id == current_ids.get(row.tenant_id):
                on_progress(1)
                continue
            # Opened first: a shredded tenant gets no new key for what cannot be opened.
            plaintext = _open(row)
            if row.tenant_id not in current:
                current[row.tenant_id] = data_keys.current(row.tenant_id)
            key = current[row.tenant_id]
        except (CannotUnseal, TenantShredded):
            unreadable.append(_unreadable(row, shredded))
            on_progress(1)
            continue
        found += 1
        if batch and (len(batch) >= _BATCH or batch[0][0].column != row.column):
            done += _write(batch)
            on_progress(len(batch))
            batch.clear()
        batch.append((row, envelope.seal(key.cipher, key.id, row.place, plaintext)))
        data_keys.count_seal(key.id, key.tenant_id)
    done += _write(batch)
    on_progress(len(batch))
    return found, done


def _write(batch: list[tuple[SealedRow, bytes]]) -> int:
    """Small transactions: nobody waits long for a row, and a kill costs one batch.

    SQL by hand, because building each UPDATE anew through the ORM took five times as long as
    everything else together.
    """
    if not batch:
        return 0
    column = batch[0][0].column
    field = cast("models.Field[Any, Any]", column.model._meta.get_field(column.field))
    pk = column.model._meta.pk
    table, sealed_column, pk_column = (
        connection.ops.quote_name(name)
        for name in (column.model._meta.db_table, str(field.column), str(pk.column))
    )
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.executemany(
            f"UPDATE {table} SET {sealed_column} = %s "  # noqa: S608  (names of our own)
            f"WHERE {pk_column} = %s AND {sealed_column} = %s",
            [
                (
                    field.get_db_prep_save(sealed, connection),
                    pk.get_db_prep_value(row.row_id, connection),
                    field.get_db_prep_save(row.sealed, connection),
                )
                for row, sealed in batch
            ],
        )
        return int(cursor.rowcount)


def _finish(rotation: KeyRotation, outcome: Outcome) -> None:
    with transaction.atomic():
        if KeyRotation.objects.filter(pk=rotation.pk, finished_at=None).update(
            finished_at=clock.now()
        ):
            record(
                tenant_id=rotation.only_tenant_id,
                action="vault.rotation_finished",
                target=rotation,
                after={"resealed": outcome.resealed, "unreadable": len(outcome.unreadable)},
            )


def _open(row: SealedRow) -> bytes:
    key = data_keys.find(envelope.key_id_of(row.sealed), row.tenant_id)
    return envelope.unseal(key.cipher, key.id, row.place, row.sealed)


def _unreadable(row: SealedRow, shredded: dict[uuid.UUID, uuid.UUID | None]) -> Unreadable:
    try:
        key_id = envelope.key_id_of(row.sealed)
    except CannotUnseal:
        return Unreadable(row, "this is no sealed value")
    if key_id in shredded and shredded[key_id] == row.tenant_id:
        return Unreadable(row, SHREDDED)
    return Unreadable(row, "altered, moved here from elsewhere, or its data key is gone")


def _shredded_key_ids() -> dict[uuid.UUID, uuid.UUID | None]:
    marks = DataKey.objects.filter(shredded_at__isnull=False)
    return dict(marks.values_list("pk", "tenant_id"))


def _sealed(
    column: SealedColumn, only_tenant_id: uuid.UUID | None
) -> models.QuerySet[models.Model]:
    rows = column.model._base_manager.exclude(
        Q(**{f"{column.field}__isnull": True}) | Q(**{column.field: b""})
    )
    if only_tenant_id is not None:
        rows = rows.filter(tenant_id=only_tenant_id) if column.has_tenant else rows.none()
    return rows


def _rows(only_tenant_id: uuid.UUID | None) -> Iterator[SealedRow]:
    """Every sealed value, by primary key in steps: no cursor stays open between two of them.
    The caller has set the scope."""
    for column in sealed_columns():
        names = ["pk", column.field, *(["tenant_id"] if column.has_tenant else [])]
        rows = _sealed(column, only_tenant_id).order_by("pk")
        last = None
        while True:
            step = rows if last is None else rows.filter(pk__gt=last)
            values = list(step.values_list(*names)[:_BATCH])
            for row_id, sealed, *tenant in values:
                yield SealedRow(column, row_id, tenant[0] if tenant else None, bytes(sealed))
            if len(values) < _BATCH:
                break
            last = values[-1][0]
