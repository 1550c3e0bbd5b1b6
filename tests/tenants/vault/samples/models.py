"""Rows with secrets, so that the vault's tests need nobody else's models."""

from __future__ import annotations

from django.db import models

from controlplane.kit.models import Row
from tenants.scope import TenantOwned
from tenants.vault.fields import SealedField


class TenantSecret(TenantOwned):
    # No constraint: the table is made beside the installed apps, which empty theirs alone.
    tenant = models.ForeignKey(
        "tenants.Tenant",
        on_delete=models.CASCADE,
        null=True,
        db_constraint=False,
        related_name="+",
    )
    number = models.IntegerField(default=0)
    sealed = SealedField(null=True)
    other = SealedField(null=True)

    class Meta(TenantOwned.Meta):
        app_label = "vault_samples"


class PlatformSecret(Row):
    sealed = SealedField(null=True)

    class Meta:
        app_label = "vault_samples"
