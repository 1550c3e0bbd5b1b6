"""Data keys, wrapped, and rotations in progress."""

from __future__ import annotations

from django.db import models
from django.db.models.functions import Cast, Coalesce

from controlplane.kit.models import Row
from tenants.scope import TenantOwned

# One current key per owner. NULLs count as different in a unique index, so the platform,
# which has no tenant, is spelled out.
_OWNER = Coalesce(
    Cast("tenant", models.CharField(max_length=36)),
    models.Value("platform"),
    output_field=models.CharField(max_length=36),
)


class DataKey(TenantOwned):
    """The key that seals one tenant's secrets, wrapped by the key ring. tenant None = the
    platform's own. Deleting the tenant deletes its keys, and with them every secret."""

    tenant = models.ForeignKey(  # type: ignore[assignment]  # wider than the base: may be None
        "tenants.Tenant", on_delete=models.CASCADE, null=True, related_name="+"
    )
    wrapped = models.BinaryField()
    # Which wrapping key: `file:<id>`, `hashicorp-transit:<mount>/<key>:v<n>`, `aws-kms:<arn>`.
    wrapped_by = models.CharField(max_length=300)
    # Counted by sampling, see data_keys.count_seal.
    seals_estimate = models.BigIntegerField(default=0)
    # A retired key still opens what it sealed; only the current one seals.
    retired_at = models.DateTimeField(null=True)
    # The row stays as a mark, so that what it sealed shows as shredded and not as damaged.
    shredded_at = models.DateTimeField(null=True)

    class Meta(TenantOwned.Meta):
        constraints = [
            models.UniqueConstraint(
                _OWNER,
                condition=models.Q(retired_at=None),
                name="data_key_one_current",
            ),
            models.CheckConstraint(
                condition=models.Q(shredded_at=None)
                | models.Q(wrapped=b"", retired_at__isnull=False),
                name="data_key_shredded_is_empty",
            ),
        ]

    def __str__(self) -> str:
        return f"data key {self.pk}"


class KeyRotation(Row):
    """One run of `vault rotate`: a killed run is taken up again instead of begun anew."""

    # None = everybody's keys. No foreign key: the history of rotations outlives a tenant.
    only_tenant_id = models.UUIDField(null=True)
    finished_at = models.DateTimeField(null=True)

    def __str__(self) -> str:
        return f"rotation {self.pk}"
