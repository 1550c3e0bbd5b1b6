"""What a repeated request can fail with."""

from __future__ import annotations

from controlplane.kit.errors import FaultKind
from tenants.errors import TenantError


class IdempotencyKeyReused(TenantError):
    """The key was used before, for a different request."""

    kind = FaultKind.UNPROCESSABLE
    code = "idempotency_key_reused"


class RequestUnderWay(TenantError):
    """The same request is being answered elsewhere, and took longer than one may wait."""

    kind = FaultKind.CONFLICT
    code = "idempotency_in_progress"


class OutcomeTooLarge(TenantError):
    """The request was answered and charged, and its answer was too large to be kept."""

    kind = FaultKind.UNPROCESSABLE
    code = "idempotency_outcome_too_large"


class InvalidIdempotencyKey(TenantError):
    """No text that may name a request."""

    kind = FaultKind.BAD_REQUEST
    code = "invalid_idempotency_key"


class IdempotencyUnavailable(TenantError):
    """Nobody can say whether the request was answered before."""

    kind = FaultKind.OVERLOADED
    code = "idempotency_unavailable"
