"""Files and batches that live at a vendor: whose they are, and by which credential."""

from __future__ import annotations

from datetime import datetime

from django.db import models
from django.db.models import Q

from providers.catalog.models import Provider
from providers.credentials.models import Credential
from tenants.scope import TenantOwned, TenantOwnedManager, TenantOwnedQuerySet
from tenants.vault.fields import SealedField


class VendorObjectQuerySet(TenantOwnedQuerySet["VendorObject"]):
    def files(self) -> VendorObjectQuerySet:
        return self.filter(kind=VendorObject.Kind.FILE)

    def batches(self) -> VendorObjectQuerySet:
        return self.filter(kind=VendorObject.Kind.BATCH)

    def unsettled(self, *, now: datetime) -> VendorObjectQuerySet:
        """Batches to look at: nobody knows yet what they cost."""
        return self.filter(kind=VendorObject.Kind.BATCH, look_at__lte=now)


class VendorObject(TenantOwned):
    """One file or batch under the vendor's own id. Many tenants may share a vendor's account: this
    row is what says that it is this tenant's, and nobody else's."""

    class Kind(models.TextChoices):
        FILE = "file", "File"
        BATCH = "batch", "Batch"

    kind = models.CharField(max_length=5, choices=Kind, editable=False)
    # The vendor chooses it, so that only the tenant makes it unique.
    upstream_id = models.CharField(max_length=200, editable=False)
    # Gone with its registration or credential, and the row stays: a batch may have to be paid.
    provider = models.ForeignKey(
        Provider, null=True, editable=False, on_delete=models.SET_NULL, related_name="+"
    )
    credential = models.ForeignKey(
        Credential, null=True, editable=False, on_delete=models.SET_NULL, related_name="+"
    )
    provider_slug = models.CharField(max_length=80, editable=False)
    purpose = models.CharField(max_length=40, blank=True, editable=False)
    # As the vendor described it last. None only inside the transaction that makes the row.
    shown = SealedField(null=True, editable=False)
    # Of a batch and of its file, as JSON: which models are asked how much, see batch_file.py.
    work = models.TextField(blank=True, editable=False)
    # Whose key made the batch.
    key_id = models.UUIDField(null=True, editable=False)
    member_id = models.UUIDField(null=True, editable=False)
    # Of a batch that is not in the ledger yet: when to look again, and how often nobody answered.
    look_at = models.DateTimeField(null=True, editable=False)
    looks = models.PositiveIntegerField(default=0, editable=False)

    objects = TenantOwnedManager.from_queryset(VendorObjectQuerySet)()

    class Meta(TenantOwned.Meta):
        base_manager_name = "objects"
        constraints = [
            models.UniqueConstraint(
                fields=["tenant", "kind", "upstream_id"], name="vendor_object_once_per_tenant"
            )
        ]
        indexes = [
            models.Index(
                fields=["look_at"], condition=Q(look_at__isnull=False), name="vendor_object_due"
            ),
            # Another tenant's id must not be used either: asked by id alone.
            models.Index(fields=["upstream_id"], name="vendor_object_id"),
        ]

    def __str__(self) -> str:
        return self.upstream_id
