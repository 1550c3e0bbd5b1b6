"""A request that ended after its hold was settled by somebody else: the difference is new."""

from __future__ import annotations

from datetime import datetime

from controlplane.kit import json
from tenants.quotas.policy import Amounts
from tenants.quotas.store import Change
from tenants.usage import writing
from tenants.usage.models import UsageEvent
from tenants.usage.outcome import COUNTS, Held, Settled, settled
from tenants.usage.writing import Entry, Part

_LATE = "The request ended after its process was taken for dead."


def replacing(event: UsageEvent, held: Held, part: Part, *, now: datetime) -> Entry:
    """The difference between what was presumed of a request and what became of it."""
    real = settled(part.outcome, held)
    counted = dict(json.loads(event.counted or "[]"))
    changes = [
        Change(
            take.key,
            0,
            real.amounts.of(take.kind, take.scope) - counted.get(take.key, 0),
            take.ends_at,
        )
        for take in part.takes
    ]
    difference = Settled(
        counts=tuple(
            None if new is None else new - (getattr(event, name) or 0)
            for name, new in zip(COUNTS, real.counts, strict=True)
        ),
        is_reported=real.is_reported,
        estimated_input=real.estimated_input - event.estimated_input,
        estimated_output=real.estimated_output - event.estimated_output,
        cost_nanos=None if real.cost_nanos is None else real.cost_nanos - (event.cost_nanos or 0),
        charge_nanos=None
        if real.charge_nanos is None
        else real.charge_nanos - (event.charge_nanos or 0),
        estimated_nanos=real.estimated_nanos - event.estimated_nanos,
        amounts=Amounts(),
    )
    correction = Part(
        part.outcome,
        part.target,
        part.takes,
        part=event.part + 1,
        entry=UsageEvent.Entry.CORRECTION.value,
        reason=_LATE,
        author="metering",
    )
    return writing.make_entry(held, correction, difference, changes=changes, now=now)
