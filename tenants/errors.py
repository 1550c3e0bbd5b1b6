"""What can be wrong with a caller: who they are, what they may, how much is left."""

from __future__ import annotations

from controlplane.kit.errors import FaultKind, GatewayError


class TenantError(GatewayError):
    """Base. Raise a leaf."""


class NoScope(TenantError):
    """Code touched tenant-owned rows without saying for whom: our bug, never the caller's."""

    code = "no_tenant_scope"


class InvalidKey(TenantError):
    """Unknown, malformed, revoked or expired: one answer, so that nothing can be probed."""

    kind = FaultKind.AUTH
    code = "invalid_key"


class KeyForbidden(TenantError):
    """A good key that may not do this: scope, model, address."""

    kind = FaultKind.FORBIDDEN
    code = "key_forbidden"


class TenantSuspended(TenantError):
    kind = FaultKind.FORBIDDEN
    code = "tenant_suspended"


class NotFound(TenantError):
    """Not there, or not yours: the same answer."""

    kind = FaultKind.NOT_FOUND
    code = "not_found"


class RoleForbidden(TenantError):
    """The row is the user's to see, but the role does not reach this far."""

    kind = FaultKind.FORBIDDEN
    code = "role_forbidden"


class StaleVersion(TenantError):
    """Somebody else changed the row since the caller read it."""

    kind = FaultKind.CONFLICT
    code = "stale_version"


class StateConflict(TenantError):
    """The row is not, or no longer, in the state this change starts from."""

    kind = FaultKind.CONFLICT
    code = "state_conflict"


class KeysUnavailable(TenantError):
    """Nobody could confirm for too long that no key was revoked: refuse, do not guess."""

    kind = FaultKind.OVERLOADED
    code = "keys_unavailable"
