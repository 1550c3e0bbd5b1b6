"""Rows of the usage ledger, for tests that need some and do not care how they came."""

from __future__ import annotations

import time
import uuid

from django.db import transaction

from controlplane.kit import clock
from tenants import scope
from tenants.direct_sql import DirectSQL
from tenants.members.models import Tenant
from tenants.usage import writing
from tenants.usage.outcome import Held, Outcome, TargetFacts
from tenants.usage.rollups import roll_up


def spend(tenant: Tenant, *costs: int | None, model: str = "gpt-test") -> None:
    """Requests that were settled just now."""
    entries = []
    for cost in costs:
        held = Held(
            request_id=uuid.uuid4().hex, tenant_id=tenant.id, taken_at=time.time(), model=model
        )
        outcome = Outcome(input=10, output=2, cost_nanos=cost, price_basis="price")
        part = writing.Part(outcome, TargetFacts(provider="acme", model=model), ())
        entries += writing.entries_of(held, [part], "", clock.now())
    with scope.platform("tests"), transaction.atomic():
        writing.append(DirectSQL(), entries)
    roll_up()
