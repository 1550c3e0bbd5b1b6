"""What may be said of how a tenant's requests are routed. Each change is audited and seen by every
gateway within a second."""

from __future__ import annotations

import uuid
from typing import Any

from django.db import transaction
from django.db.models import F

from controlplane.kit import clock
from providers.routing.expectations import guard
from providers.routing.models import RoutingPolicy
from providers.routing.rules import EDITABLE
from tenants.audit.services import record
from tenants.errors import StaleVersion
from tenants.revisions.services import bump


def own_policy(tenant_id: uuid.UUID | None) -> RoutingPolicy:
    """The row of a tenant or of the platform; an unsaved one, which says nothing, where there is
    none."""
    found: RoutingPolicy | None = RoutingPolicy.objects.filter(tenant_id=tenant_id).first()
    return found or RoutingPolicy(tenant_id=tenant_id)


@transaction.atomic
def set_policy(
    policy: RoutingPolicy, *, expected_version: int | None = None, **values: Any
) -> RoutingPolicy:
    """Raises StaleVersion, ValidationError, ExpectationsBroken."""
    unknown = sorted(values.keys() - set(EDITABLE))
    if unknown:
        raise TypeError(f"A routing policy has no {', '.join(unknown)}.")
    before: dict[str, Any] = {name: getattr(policy, name) for name in values}
    version = policy.version if expected_version is None else expected_version
    for name, value in values.items():
        setattr(policy, name, value)
    policy.full_clean(exclude=["tenant"], validate_unique=False, validate_constraints=False)
    if policy._state.adding:
        RoutingPolicy.objects.bulk_create([policy], ignore_conflicts=True)
        policy._state.adding = False
    moved = RoutingPolicy.objects.filter(pk=policy.pk, version=version).update(
        **values, version=F("version") + 1, updated_at=clock.now()
    )
    if not moved:
        raise StaleVersion("Somebody else changed this meanwhile: load it again.")
    policy.version = version + 1
    record(
        tenant_id=policy.tenant_id,
        action="routing.policy_changed",
        target=policy,
        before=before,
        after=dict(values),
    )
    guard()
    bump("routes")
    return policy
