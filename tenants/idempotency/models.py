"""Answers of requests that must not take effect twice, kept for a repetition of the same."""

from __future__ import annotations

from datetime import datetime

from django.db import models

from tenants.scope import TenantOwned, TenantOwnedManager, TenantOwnedQuerySet
from tenants.vault.fields import SealedField


class RememberedAnswerQuerySet(TenantOwnedQuerySet["RememberedAnswer"]):
    def expired(self, *, now: datetime) -> RememberedAnswerQuerySet:
        return self.filter(expires_at__lte=now)


class RememberedAnswer(TenantOwned):
    """tenant None = a request to the platform itself."""

    tenant = models.ForeignKey(  # type: ignore[assignment]  # wider than the base: may be None
        "tenants.Tenant", on_delete=models.CASCADE, null=True, related_name="+"
    )
    # Keyed digests. The first covers owner, caller and idempotency key, the second the request:
    # a request may hold a secret, and neither gives it away.
    digest = models.BinaryField(max_length=32, unique=True, editable=False)
    request_digest = models.BinaryField(max_length=32, editable=False)
    # The answer may hold a secret that is shown once. None only inside the transaction that
    # makes the row, and while the row is claimed.
    answer = SealedField(null=True, editable=False)
    # A request that outlasts a transaction is claimed while it is answered: by whom, and until
    # when nobody may begin it anew (claims.py). None for all others.
    claim = models.UUIDField(null=True, editable=False)
    claimed_until = models.DateTimeField(null=True, editable=False)
    expires_at = models.DateTimeField(editable=False, db_index=True)

    objects = TenantOwnedManager.from_queryset(RememberedAnswerQuerySet)()

    class Meta:
        base_manager_name = "objects"

    def __str__(self) -> str:
        return f"remembered answer {self.id}"
