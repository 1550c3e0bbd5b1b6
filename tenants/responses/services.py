"""Keeps answers for a while, sealed with the tenant's own key. Only where the caller says so."""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta
from typing import Final

import msgspec
from django.db import transaction

from controlplane.kit.json import JSONDict
from controlplane.kit.secret import Secret
from tenants import scope
from tenants.responses.errors import ResponseNotFound
from tenants.responses.models import StoredResponse
from tenants.vault.services import seal_into, unseal_from

_SWEEP_BATCH: Final = 1_000


class Kept(msgspec.Struct, frozen=True):
    """`input` holds every item up to the answer, those of earlier turns too. `holder` = whose
    answer it is, in words of whoever keeps it: a registration and a credential."""

    input: list[JSONDict]
    response: JSONDict
    holder: tuple[str, str] = ("", "")

    def conversation(self) -> list[JSONDict]:
        """What a next question continues."""
        output = self.response.get("output")
        return [*self.input, *(output if isinstance(output, list) else ())]


_decode: Final = msgspec.json.Decoder(Kept).decode


@transaction.atomic
def keep(*, tenant_id: uuid.UUID, kept: Kept, now: datetime, kept_for: timedelta) -> None:
    """One of the same id is replaced: a vendor repeats itself only when it means the same."""
    response_id = str(kept.response["id"])[:200]
    with scope.tenant(tenant_id):
        StoredResponse.objects.filter(response_id=response_id).delete()
        row = StoredResponse(
            tenant_id=tenant_id,
            response_id=response_id,
            created_at=now,
            expires_at=now + kept_for,
        )
        seal_into(row, "content", Secret(msgspec.json.encode(kept).decode()))
        row.save(force_insert=True)


def find(*, tenant_id: uuid.UUID, response_id: str, now: datetime) -> Kept:
    """Raises ResponseNotFound."""
    with scope.tenant(tenant_id):
        row = StoredResponse.objects.current(now=now).filter(response_id=response_id).first()
        if row is None:
            raise ResponseNotFound(f"Response with id {response_id[:200]!r} not found.")
        return _decode(unseal_from(row, "content").reveal())


def forget(*, tenant_id: uuid.UUID, response_id: str, now: datetime) -> None:
    """Raises ResponseNotFound."""
    with scope.tenant(tenant_id):
        found = StoredResponse.objects.current(now=now).filter(response_id=response_id)
        if not found.delete()[0]:
            raise ResponseNotFound(f"Response with id {response_id[:200]!r} not found.")


def sweep(*, now: datetime) -> int:
    """Deletes what has expired; how many rows. A batch: call it until 0."""
    with scope.platform("sweep of stored responses"):
        expired = StoredResponse.objects.expired(now=now)
        ids = list(expired.values_list("pk", flat=True)[:_SWEEP_BATCH])
        return StoredResponse.objects.filter(pk__in=ids).delete()[0]
