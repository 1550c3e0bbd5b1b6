"""Remembers whose the files and batches at the vendors are. Waits for the database."""

from __future__ import annotations

import re
import uuid
from datetime import datetime, timedelta
from typing import Final

import msgspec
from django.db import IntegrityError, transaction

from controlplane.kit import json
from controlplane.kit.json import JSONDict
from controlplane.kit.secret import Secret
from providers.files.batch_file import Work, read, written
from providers.files.errors import VendorObjectNotFound, VendorObjectTaken
from providers.files.models import VendorObject
from tenants import scope
from tenants.vault.services import seal_into, unseal_from

Kind = VendorObject.Kind
# They stand in addresses. What a vendor names otherwise is not kept.
_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,199}\Z")
_NOT_FOUND: Final = {
    Kind.FILE: "No such File object: {id}",
    Kind.BATCH: "No batch found with id '{id}'.",
}
# Files that a batch makes: their ids come with the batch.
_MADE: Final = ("output_file_id", "error_file_id")
FIRST_LOOK: Final = timedelta(minutes=1)


class Bound(msgspec.Struct, frozen=True):
    """A file or batch, and where it is. `credential_id` None = it was made without one, or the
    one that made it is gone."""

    row_id: uuid.UUID
    kind: str
    upstream_id: str
    provider_id: str | None
    provider_slug: str
    credential_id: str | None
    work: list[Work]


class Maker(msgspec.Struct, frozen=True):
    """Who makes a file or a batch, and by what."""

    tenant_id: uuid.UUID
    provider_id: str
    provider_slug: str
    credential_id: str | None
    key_id: uuid.UUID | None = None
    member_id: uuid.UUID | None = None


def is_id(text: object) -> bool:
    return isinstance(text, str) and _ID.match(text) is not None


def not_found(kind: Kind, upstream_id: str) -> VendorObjectNotFound:
    return VendorObjectNotFound(_NOT_FOUND[kind].format(id=upstream_id[:200]), param="id")


@transaction.atomic
def keep(
    *, kind: Kind, maker: Maker, shown: JSONDict, now: datetime, work: list[Work] | None = None
) -> None:
    """What a vendor has just made for this tenant. Raises VendorObjectTaken where the tenant has
    something else of this id: the first one keeps it."""
    upstream_id = shown.get("id")
    if not is_id(upstream_id):
        raise VendorObjectTaken("The provider answered without an id that could be kept.")
    with scope.tenant(maker.tenant_id):
        try:
            with transaction.atomic():
                _insert(kind, maker, shown, now, work or [])
        except IntegrityError:
            raise VendorObjectTaken(
                "The provider named it as something you have already."
            ) from None


def _insert(kind: Kind, maker: Maker, shown: JSONDict, now: datetime, work: list[Work]) -> None:
    row = VendorObject(
        tenant_id=maker.tenant_id,
        kind=kind,
        upstream_id=shown["id"],
        provider_id=maker.provider_id,
        credential_id=maker.credential_id,
        provider_slug=maker.provider_slug[:80],
        purpose=_purpose(shown),
        work=written(work) if work else "",
        key_id=maker.key_id,
        member_id=maker.member_id,
        look_at=now + FIRST_LOOK if kind == Kind.BATCH else None,
        created_at=now,
    )
    seal_into(row, "shown", Secret(json.dumps(shown).decode()))
    row.save(force_insert=True)


def _purpose(shown: JSONDict) -> str:
    purpose = shown.get("purpose")
    return purpose[:40].replace("\0", "") if isinstance(purpose, str) else ""


def find(*, tenant_id: uuid.UUID, kind: Kind, upstream_id: str) -> Bound:
    """Raises VendorObjectNotFound."""
    with scope.tenant(tenant_id):
        row = VendorObject.objects.filter(kind=kind, upstream_id=upstream_id[:201]).first()
    if row is None:
        raise not_found(kind, upstream_id)
    return bound(row)


def bound(row: VendorObject) -> Bound:
    return Bound(
        row_id=row.id,
        kind=row.kind,
        upstream_id=row.upstream_id,
        provider_id=str(row.provider_id) if row.provider_id else None,
        provider_slug=row.provider_slug,
        credential_id=str(row.credential_id) if row.credential_id else None,
        work=read(row.work),
    )


@transaction.atomic
def seen(*, tenant_id: uuid.UUID, row_id: uuid.UUID, shown: JSONDict, now: datetime) -> None:
    """The vendor described it again. The files that a batch made are the tenant's from now on."""
    with scope.tenant(tenant_id):
        row = VendorObject.objects.select_for_update().filter(pk=row_id).first()
        if row is None or shown.get("id") != row.upstream_id:
            return
        seal_into(row, "shown", Secret(json.dumps(shown).decode()))
        VendorObject.objects.filter(pk=row.pk).update(shown=row.shown)
        if row.kind != Kind.BATCH or row.provider_id is None:
            return
        maker = Maker(
            tenant_id=tenant_id,
            provider_id=str(row.provider_id),
            provider_slug=row.provider_slug,
            credential_id=str(row.credential_id) if row.credential_id else None,
        )
        for name in _MADE:
            file_id = shown.get(name)
            if is_id(file_id) and not _has_file(str(file_id)):
                made = {"id": file_id, "object": "file", "purpose": "batch_output"}
                _insert(Kind.FILE, maker, made, now, [])


def _has_file(upstream_id: str) -> bool:
    return VendorObject.objects.files().filter(upstream_id=upstream_id).exists()


def forget(*, tenant_id: uuid.UUID, row_id: uuid.UUID) -> None:
    """The vendor has it no more. A batch stays until it is paid."""
    with scope.tenant(tenant_id):
        VendorObject.objects.files().filter(pk=row_id).delete()


def page(
    *,
    tenant_id: uuid.UUID,
    kind: Kind,
    after: str = "",
    limit: int,
    is_ascending: bool = False,
    purpose: str = "",
) -> tuple[list[JSONDict], bool]:
    """As the vendors described them last, and whether there are more. Raises
    VendorObjectNotFound for an `after` that is not there."""
    with scope.tenant(tenant_id):
        rows = VendorObject.objects.filter(kind=kind).order_by("id" if is_ascending else "-id")
        if purpose:
            rows = rows.filter(purpose=purpose)
        if after:
            last = VendorObject.objects.filter(kind=kind, upstream_id=after[:201]).first()
            if last is None:
                raise not_found(kind, after)
            rows = rows.filter(id__gt=last.id) if is_ascending else rows.filter(id__lt=last.id)
        found = list(rows[: limit + 1])
        shown = [json.loads_dict(unseal_from(row, "shown").reveal()) for row in found[:limit]]
    return shown, len(found) > limit


def known(*, tenant_id: uuid.UUID, file_ids: set[str]) -> list[Bound]:
    """Those of these files that are the tenant's. What nobody has a row for may be at a vendor all
    the same, put there by other ways. Raises VendorObjectNotFound for one that is only another
    tenant's."""
    with scope.platform("whose are the files that a request names"):
        rows = list(VendorObject.objects.files().filter(upstream_id__in=file_ids))
        mine = [bound(row) for row in rows if row.tenant_id == tenant_id]
    own = {one.upstream_id for one in mine}
    for row in rows:
        if row.upstream_id not in own:
            raise not_found(Kind.FILE, row.upstream_id)
    return mine
