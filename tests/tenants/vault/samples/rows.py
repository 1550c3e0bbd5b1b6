from __future__ import annotations

import base64
import os
import uuid

from controlplane.kit.secret import Secret
from tenants import scope
from tenants.members.models import Tenant
from tenants.vault.models import DataKey
from tenants.vault.services import seal_into, unseal_from
from tests.tenants.vault.samples.models import TenantSecret


def new_ring_key() -> str:
    """A line of a key file."""
    return base64.b64encode(os.urandom(32)).decode() + "\n"


def store(tenant: Tenant | None, text: str, number: int = 0) -> TenantSecret:
    row = TenantSecret(id=uuid.uuid4(), tenant_id=tenant.pk if tenant else None, number=number)
    seal_into(row, "sealed", Secret(text))
    with scope.platform("tests"):
        row.save()
    return row


def reread(row: TenantSecret) -> str:
    with scope.platform("tests"):
        return unseal_from(TenantSecret.objects.get(pk=row.pk), "sealed").reveal()


def data_keys_of(tenant: Tenant | None) -> list[DataKey]:
    with scope.platform("tests"):
        rows = DataKey.objects.filter(tenant_id=tenant.pk if tenant else None)
        return list(rows.order_by("created_at", "pk"))
