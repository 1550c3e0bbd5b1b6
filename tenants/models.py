"""Index: Django finds the models of each concept here."""

from tenants.alerts.models import Alert, AlertDelivery, AlertReceiver
from tenants.audit.models import AuditEvent, AuditHead
from tenants.idempotency.models import RememberedAnswer
from tenants.keys.models import ApiKey
from tenants.members.models import Invitation, Membership, Tenant, User
from tenants.quotas.models import Counter, CounterState, Limit, UsagePolicy
from tenants.responses.models import StoredResponse
from tenants.revisions.models import Revision
from tenants.usage.models import (
    Hold,
    LedgerCheckpoint,
    LedgerHead,
    MeteringProcess,
    Posting,
    Rollup,
    RollupMark,
    UsageEvent,
)
from tenants.vault.models import DataKey, KeyRotation

__all__ = [
    "Alert",
    "AlertDelivery",
    "AlertReceiver",
    "ApiKey",
    "AuditEvent",
    "AuditHead",
    "Counter",
    "CounterState",
    "DataKey",
    "Hold",
    "Invitation",
    "KeyRotation",
    "LedgerCheckpoint",
    "LedgerHead",
    "Limit",
    "Membership",
    "MeteringProcess",
    "Posting",
    "RememberedAnswer",
    "Revision",
    "Rollup",
    "RollupMark",
    "StoredResponse",
    "Tenant",
    "UsageEvent",
    "UsagePolicy",
    "User",
]
