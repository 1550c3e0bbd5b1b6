"""A request sent twice takes effect once.

One transaction holds the claim on the key, the effect and the sealed answer. So nobody ever sees
a claim without its answer, a process that dies leaves nothing behind, and requests that come
together wait for the first one: the unique digest decides.
"""

from __future__ import annotations

import hmac
import uuid
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

from django.db import IntegrityError, transaction

from controlplane.kit.secret import Secret
from tenants import scope
from tenants.idempotency.digests import keyed
from tenants.idempotency.errors import IdempotencyKeyReused
from tenants.idempotency.models import RememberedAnswer
from tenants.vault.services import seal_into, unseal_from

KEPT_FOR: Final = timedelta(hours=24)
_SWEEP_BATCH: Final = 1_000


@transaction.atomic
def once(
    *,
    tenant_id: uuid.UUID | None,
    caller: str,
    key: str,
    request: bytes,
    now: datetime,
    act: Callable[[], Secret],
) -> tuple[Secret, bool]:
    """What `act` answered, and whether that was in an earlier call with the same `key`.

    `caller` names who asks: nobody meets another's keys. `request` is everything that makes the
    request what it is. When `act` raises, nothing is kept, and the key may be used again. Call
    it in the scope of the tenant (None = the platform's).

    Raises IdempotencyKeyReused when the key came with another request before.
    """
    digest = keyed("key", str(tenant_id or "platform").encode(), caller.encode(), key.encode())
    request_digest = keyed("request", request)
    row = _claim(tenant_id, digest, request_digest, now)
    if row is None:
        return _recall(digest, request_digest), True
    answer = act()
    seal_into(row, "answer", answer)
    RememberedAnswer.objects.filter(pk=row.pk).update(answer=row.answer)
    return answer, False


def sweep(*, now: datetime) -> int:
    """Deletes what nobody may ask for any more; how many rows. A batch: call it until 0."""
    with scope.platform("sweep of remembered answers"):
        expired = RememberedAnswer.objects.expired(now=now)
        ids = list(expired.values_list("pk", flat=True)[:_SWEEP_BATCH])
        return RememberedAnswer.objects.filter(pk__in=ids).delete()[0]


def _claim(
    tenant_id: uuid.UUID | None, digest: bytes, request_digest: bytes, now: datetime
) -> RememberedAnswer | None:
    """The new row, or None if there is one. Waits for a transaction that is making it."""
    RememberedAnswer.objects.filter(digest=digest).expired(now=now).delete()
    row = RememberedAnswer(
        tenant_id=tenant_id,
        digest=digest,
        request_digest=request_digest,
        created_at=now,
        expires_at=now + KEPT_FOR,
    )
    try:
        with transaction.atomic():
            row.save(force_insert=True)
    except IntegrityError:
        return None
    return row


def _recall(digest: bytes, request_digest: bytes) -> Secret:
    row: RememberedAnswer = RememberedAnswer.objects.get(digest=digest)
    if not hmac.compare_digest(bytes(row.request_digest), request_digest):
        raise IdempotencyKeyReused(
            "This Idempotency-Key was sent before with a different request: use a new key.",
            param="Idempotency-Key",
        )
    return unseal_from(row, "answer")
