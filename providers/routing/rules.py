"""How a tenant's requests are routed: its own word, else the platform's, else the defaults."""

from __future__ import annotations

import uuid
from typing import Any, Final

from django.db.models import Q

from providers.routing.models import RoutingPolicy
from providers.routing.table import RoutingRules

EDITABLE: Final = ("strategy", "allowed_strategies", "is_sticky", "shows_route")


def rules_of(tenant_id: uuid.UUID) -> RoutingRules:
    """One query, in the tenant's scope or the platform's."""
    rows = {
        row.tenant_id: row
        for row in RoutingPolicy.objects.filter(Q(tenant_id=tenant_id) | Q(tenant=None))
    }
    said: dict[str, Any] = {}
    for owner in (None, tenant_id):
        for name in EDITABLE:
            value = getattr(rows.get(owner), name, None)
            if value not in (None, ""):
                said[name] = frozenset(value) if name == "allowed_strategies" else value
    return RoutingRules(**said)
