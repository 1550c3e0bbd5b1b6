"""What can go wrong with stored secrets. Outsiders see one sentence, the operator the reason."""

from __future__ import annotations

from controlplane.kit.errors import Fault, FaultKind
from tenants.errors import TenantError


class VaultError(TenantError):
    """Base. `str(error)` tells the operator what to do; `fault()` keeps it from the caller."""

    code = "vault_error"

    def fault(self) -> Fault:
        return Fault(
            kind=self.kind,
            code=self.code,
            message="The stored credentials cannot be used now. Ask the operator to look at it.",
            retry_after_seconds=self.retry_after_seconds,
        )


class CannotUnseal(VaultError):
    """Moved, altered, cut, shredded or sealed for somebody else: one text for all of them."""

    code = "secret_unreadable"

    def __init__(self) -> None:
        super().__init__("This secret cannot be opened.")


class KeyRingProblem(VaultError):
    """The key that wraps the data keys is missing, wrong or not configured."""

    code = "vault_keys"


class KeyServiceUnavailable(VaultError):
    """The external key service did not answer; trying again may help."""

    kind = FaultKind.OVERLOADED
    code = "vault_unavailable"


class TenantShredded(VaultError):
    """A closing tenant whose data key is gone: it gets no new one."""

    kind = FaultKind.CONFLICT
    code = "tenant_shredded"
