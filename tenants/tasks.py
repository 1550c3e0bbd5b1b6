"""Index: the jobs of each concept are found here."""

from tenants.audit.tasks import verify_all_chains
from tenants.idempotency.tasks import sweep_remembered_answers
from tenants.responses.tasks import sweep_stored_responses
from tenants.usage.tasks import (
    add_up,
    drop_old_events,
    settle_the_dead,
    sweep_counters,
    tell_of_limits,
    verify_ledger,
)

__all__ = [
    "add_up",
    "drop_old_events",
    "settle_the_dead",
    "sweep_counters",
    "sweep_remembered_answers",
    "sweep_stored_responses",
    "tell_of_limits",
    "verify_all_chains",
    "verify_ledger",
]
