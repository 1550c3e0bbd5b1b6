"""What holds for a whole tenant, or for all of them: forced prefixes, whether prices show, and
whether callers may bring keys of their own."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Any, Final

from django.db import transaction
from django.db.models import F, Q

from controlplane.kit import clock
from providers.catalog.models import RegistryPolicy
from tenants.audit.services import record
from tenants.errors import StaleVersion
from tenants.revisions.services import bump

EDITABLE: Final = ("force_model_prefix", "shows_prices", "allows_own_keys")


@dataclass(frozen=True, slots=True)
class Policy:
    """The tenant's word, else the platform's, else these."""

    force_model_prefix: bool = False
    shows_prices: bool = True
    allows_own_keys: bool = False


def policy_of(tenant_id: uuid.UUID) -> Policy:
    """One query, in the tenant's scope or the platform's."""
    rows = {
        row.tenant_id: row
        for row in RegistryPolicy.objects.filter(Q(tenant_id=tenant_id) | Q(tenant=None))
    }
    found: dict[str, bool] = {}
    for owner in (None, tenant_id):
        for name in EDITABLE:
            value = getattr(rows.get(owner), name, None)
            if value is not None:
                found[name] = value
    return Policy(**found)


def own_policy(tenant_id: uuid.UUID | None) -> RegistryPolicy:
    """The row of a tenant or of the platform; an unsaved one, which says nothing, where there is
    none."""
    found: RegistryPolicy | None = RegistryPolicy.objects.filter(tenant_id=tenant_id).first()
    return found or RegistryPolicy(tenant_id=tenant_id)


@transaction.atomic
def set_policy(
    policy: RegistryPolicy, *, expected_version: int | None = None, **values: bool | None
) -> RegistryPolicy:
    """Raises StaleVersion."""
    unknown = sorted(values.keys() - set(EDITABLE))
    if unknown:
        raise TypeError(f"A registry policy has no {', '.join(unknown)}.")
    before: dict[str, Any] = {name: getattr(policy, name) for name in values}
    version = policy.version if expected_version is None else expected_version
    for name, value in values.items():
        setattr(policy, name, value)
    if policy._state.adding:
        RegistryPolicy.objects.bulk_create([policy], ignore_conflicts=True)
        policy._state.adding = False
    moved = RegistryPolicy.objects.filter(pk=policy.pk, version=version).update(
        **values, version=F("version") + 1, updated_at=clock.now()
    )
    if not moved:
        raise StaleVersion("Somebody else changed this meanwhile: load it again.")
    policy.version = version + 1
    record(
        tenant_id=policy.tenant_id,
        action="registry.policy_changed",
        target=policy,
        before=before,
        after=dict(values),
    )
    bump("registrations")
    return policy
