"""A view's only way to receivers of alerts. See tenants/access.py for who may what.

viewer   sees the tenant's alerts
admin    sees, makes and changes its receivers: an address may hold a secret
staff    everything, and the platform's own
"""

from __future__ import annotations

import uuid
from typing import Any

from django.db.models import Q

from tenants import scope
from tenants.access import Caller, access_tenant, is_staff, role_in
from tenants.alerts.models import AlertReceiver
from tenants.errors import NotFound, RoleForbidden
from tenants.members.models import Membership, Tenant

Role = Membership.Role
_NOT_FOUND = "There is nothing here under this id."


def access_receivers(user: Caller, tenant_id: Any, *, write: bool) -> Tenant:
    """The tenant, for a user who may see its receivers. Raises NotFound, RoleForbidden,
    TenantSuspended."""
    if write:
        return access_tenant(user, tenant_id, at_least=Role.ADMIN)
    tenant = access_tenant(user, tenant_id)
    if role_in(user, tenant.id) not in {Role.ADMIN, Role.OWNER}:
        raise RoleForbidden("Receivers of alerts take the role admin or above.")
    return tenant


def access_receiver(
    user: Caller, tenant_id: Any, receiver_id: Any, *, write: bool
) -> AlertReceiver:
    """A receiver of that tenant."""
    tenant = access_tenant(user, tenant_id)
    receiver = _find(receiver_id, tenant.id)
    access_receivers(user, tenant_id, write=write)
    return receiver


def access_platform_receiver(user: Caller, receiver_id: Any) -> AlertReceiver:
    """One of the platform's own, for its staff."""
    if not is_staff(user):
        raise NotFound(_NOT_FOUND)
    return _find(receiver_id, None)


def _find(receiver_id: Any, tenant_id: uuid.UUID | None) -> AlertReceiver:
    try:
        wanted = uuid.UUID(str(receiver_id))
    except ValueError:
        raise NotFound(_NOT_FOUND) from None
    with scope.platform("access"):
        of_tenant = Q(tenant=None) if tenant_id is None else Q(tenant_id=tenant_id)
        rows = AlertReceiver.objects.filter(of_tenant, pk=wanted).select_related("tenant")
        found: AlertReceiver | None = rows.first()
    if found is None:
        raise NotFound(_NOT_FOUND)
    return found
