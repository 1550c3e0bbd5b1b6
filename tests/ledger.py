"""Rows of the usage ledger, for tests that need some and do not care how they came."""

from __future__ import annotations

import uuid
from datetime import datetime

from django.db import transaction

from controlplane.kit import clock
from tenants import scope
from tenants.direct_sql import DirectSQL
from tenants.members.models import Tenant
from tenants.usage import writing
from tenants.usage.outcome import Held, Outcome, TargetFacts
from tenants.usage.rollups import roll_up


def spend(
    tenant: Tenant,
    *costs: int | None,
    model: str = "gpt-test",
    at: datetime | None = None,
    error: str = "",
    **held_by: uuid.UUID,
) -> None:
    """Requests that were settled at a time, by default just now. `held_by`: key_id, member_id."""
    settled = at or clock.now()
    entries = []
    for cost in costs:
        held = Held(
            request_id=uuid.uuid4().hex,
            tenant_id=tenant.id,
            taken_at=settled.timestamp(),
            model=model,
            **held_by,
        )
        outcome = Outcome(
            input=10,
            output=2,
            cost_nanos=cost,
            price_basis="price",
            status=503 if error else 200,
            error_code=error,
        )
        part = writing.Part(outcome, TargetFacts(provider="acme", model=model), ())
        entries += writing.entries_of(held, [part], "", settled)
    with scope.platform("tests"), transaction.atomic():
        writing.append(DirectSQL(), entries)
    roll_up()
