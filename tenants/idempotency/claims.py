"""A request that outlasts a transaction is answered once all the same.

Its row is claimed for a while before anything happens, and holds the sealed outcome behind it.
Whoever is at it renews the claim; one that is not renewed belongs to a process that died, and the
next to ask takes it over. Each step is one conditional write.
"""

from __future__ import annotations

import hmac
import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from django.db import IntegrityError, transaction

from controlplane.kit.secret import Secret
from tenants import scope
from tenants.idempotency.digests import keyed
from tenants.idempotency.errors import IdempotencyKeyReused
from tenants.idempotency.models import RememberedAnswer, RememberedAnswerQuerySet
from tenants.vault.services import seal_into, unseal_from

LEASE: Final = timedelta(seconds=30)


@dataclass(frozen=True, slots=True)
class Asked:
    """Whose request under which key, and which request it is. Two digests and an owner."""

    tenant_id: uuid.UUID
    digest: bytes
    request_digest: bytes

    def check_same(self, request_digest: bytes) -> None:
        """Raises IdempotencyKeyReused."""
        if not hmac.compare_digest(self.request_digest, request_digest):
            raise IdempotencyKeyReused(
                "This Idempotency-Key was sent before with a different request: use a new key.",
                param="Idempotency-Key",
            )


@dataclass(frozen=True, slots=True)
class Claim:
    """Leave to act, until somebody else has it."""

    tenant_id: uuid.UUID
    row_id: uuid.UUID
    token: uuid.UUID


def asked(*, tenant_id: uuid.UUID, caller: str, route: str, key: str, request: bytes) -> Asked:
    """`caller` and `route` bound the key: nobody meets another's. `request` is all that makes the
    request what it is."""
    return Asked(
        tenant_id,
        keyed("claim", tenant_id.bytes, caller.encode(), route.encode(), key.encode()),
        keyed("claimed request", request),
    )


def claim(*, asked: Asked, now: datetime, kept_for: timedelta) -> Claim | Secret | None:
    """Leave to act, or what came of it before, or None while somebody else is at it.

    Raises IdempotencyKeyReused when the key came with another request before.
    """
    token = uuid.uuid4()
    with scope.tenant(asked.tenant_id):
        row = RememberedAnswer(
            tenant_id=asked.tenant_id,
            digest=asked.digest,
            request_digest=asked.request_digest,
            claim=token,
            claimed_until=now + LEASE,
            created_at=now,
            expires_at=now + kept_for,
        )
        try:
            with transaction.atomic():
                row.save(force_insert=True)
        except IntegrityError:
            return _of_another(asked, token, now, kept_for)
        return Claim(asked.tenant_id, row.id, token)


def renew(*, claim: Claim, now: datetime) -> bool:
    """Whether it is still ours."""
    with scope.tenant(claim.tenant_id):
        return bool(_ours(claim).update(claimed_until=now + LEASE))


def finish(*, claim: Claim, outcome: Secret, now: datetime, kept_for: timedelta) -> bool:
    """Keeps the outcome, sealed. False when somebody else took over meanwhile."""
    with scope.tenant(claim.tenant_id):
        row = RememberedAnswer(id=claim.row_id, tenant_id=claim.tenant_id)
        seal_into(row, "answer", outcome)
        return bool(
            _ours(claim).update(
                answer=row.answer, claim=None, claimed_until=None, expires_at=now + kept_for
            )
        )


def release(*, claim: Claim) -> None:
    """Nothing came of it that could be told again: the key is free."""
    with scope.tenant(claim.tenant_id):
        _ours(claim).delete()


def _ours(claim: Claim) -> RememberedAnswerQuerySet:
    return RememberedAnswer.objects.filter(pk=claim.row_id, claim=claim.token)


def _of_another(
    asked: Asked, token: uuid.UUID, now: datetime, kept_for: timedelta
) -> Claim | Secret | None:
    row = RememberedAnswer.objects.filter(digest=asked.digest).first()
    if row is None:
        # Released at this moment: whoever asks again finds out.
        return None
    if row.expires_at <= now:
        RememberedAnswer.objects.filter(pk=row.pk).expired(now=now).delete()
        return claim(asked=asked, now=now, kept_for=kept_for)
    asked.check_same(bytes(row.request_digest))
    if row.answer is not None:
        return unseal_from(row, "answer")
    abandoned = RememberedAnswer.objects.filter(
        pk=row.pk, claim=row.claim, claimed_until__lte=now, answer=None
    )
    if abandoned.update(claim=token, claimed_until=now + LEASE, expires_at=now + kept_for):
        return Claim(asked.tenant_id, row.pk, token)
    return None
