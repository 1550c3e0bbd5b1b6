"""What recording can fail with."""

from __future__ import annotations

from controlplane.kit.errors import FaultKind
from tenants.errors import TenantError


class NoTransaction(TenantError):
    """record() was called where the change is already committed: our bug."""

    code = "audit_no_transaction"


class ChainBusy(TenantError):
    """The chain's head kept moving. Nothing was written; trying again may help."""

    kind = FaultKind.OVERLOADED
    code = "audit_busy"
