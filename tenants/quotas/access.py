"""A view's only way to limits. See tenants/access.py for who may what.

viewer   sees the tenant's limits, also those that the platform set
admin    makes and changes the tenant's own
staff    everything, and the platform's own limits
"""

from __future__ import annotations

import uuid
from typing import Any

from django.db.models import Q

from tenants import scope
from tenants.access import Caller, access_tenant, is_staff
from tenants.errors import NotFound, RoleForbidden
from tenants.members.models import Membership
from tenants.quotas.models import Limit

_NOT_FOUND = "There is nothing here under this id."


def access_limit(user: Caller, tenant_id: Any, limit_id: Any, *, write: bool) -> Limit:
    """A limit of that tenant. Raises NotFound, RoleForbidden, TenantSuspended."""
    tenant = access_tenant(user, tenant_id)
    limit = _find(limit_id, tenant.id)
    if write:
        access_tenant(user, tenant_id, at_least=Membership.Role.ADMIN)
        if limit.is_platform_set and not is_staff(user):
            raise RoleForbidden("The platform set this limit: only its staff may change it.")
    return limit


def access_platform_limit(user: Caller, limit_id: Any) -> Limit:
    """One of the platform's own limits, for its staff."""
    if not is_staff(user):
        raise NotFound(_NOT_FOUND)
    return _find(limit_id, None)


def _find(limit_id: Any, tenant_id: uuid.UUID | None) -> Limit:
    try:
        wanted = uuid.UUID(str(limit_id))
    except ValueError:
        raise NotFound(_NOT_FOUND) from None
    with scope.platform("access"):
        of_tenant = Q(tenant=None) if tenant_id is None else Q(tenant_id=tenant_id)
        found: Limit | None = Limit.objects.filter(of_tenant, pk=wanted).first()
    if found is None:
        raise NotFound(_NOT_FOUND)
    return found
