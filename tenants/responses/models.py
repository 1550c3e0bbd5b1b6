"""Answers that a tenant asked to be kept, so that the next question can refer to them."""

from __future__ import annotations

from datetime import datetime

from django.db import models

from tenants.scope import TenantOwned, TenantOwnedManager, TenantOwnedQuerySet
from tenants.vault.fields import SealedField


class StoredResponseQuerySet(TenantOwnedQuerySet["StoredResponse"]):
    def expired(self, *, now: datetime) -> StoredResponseQuerySet:
        return self.filter(expires_at__lte=now)

    def current(self, *, now: datetime) -> StoredResponseQuerySet:
        return self.filter(expires_at__gt=now)


class StoredResponse(TenantOwned):
    """One question with all that went before it, and its answer. Nothing but sealed."""

    # As the caller knows it. Vendors choose it, so that only the tenant makes it unique.
    response_id = models.CharField(max_length=200, editable=False)
    # None only inside the transaction that makes the row.
    content = SealedField(null=True, editable=False)
    expires_at = models.DateTimeField(editable=False, db_index=True)

    objects = TenantOwnedManager.from_queryset(StoredResponseQuerySet)()

    class Meta(TenantOwned.Meta):
        base_manager_name = "objects"
        constraints = [
            models.UniqueConstraint(
                fields=["tenant", "response_id"], name="stored_response_once_per_tenant"
            )
        ]

    def __str__(self) -> str:
        return self.response_id
