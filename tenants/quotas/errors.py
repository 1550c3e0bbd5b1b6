"""How a request without room is refused: whose limit, which kind, how much, until when."""

from __future__ import annotations

from dataclasses import dataclass

from controlplane.kit.errors import FaultKind
from tenants.errors import TenantError


@dataclass(frozen=True, slots=True)
class Exceeded:
    """The facts of a refusal, for whoever words it."""

    limit_id: str
    scope: str
    subject: str
    kind: str
    period: str
    used: int
    wanted: int
    limit: int
    # Epoch seconds; None = no time frees it.
    resets_at: int | None


class QuotaError(TenantError):
    """Base. Raise a leaf."""

    def __init__(
        self, message: str, exceeded: Exceeded | None = None, retry_after: float | None = None
    ) -> None:
        super().__init__(message, retry_after_seconds=retry_after)
        self.exceeded = exceeded


class RateLimited(QuotaError):
    """Requests or tokens in a window, or too many at once: waiting helps."""

    kind = FaultKind.RATE_LIMIT
    code = "rate_limited"


class BudgetExhausted(QuotaError):
    """Money: spent for this period."""

    kind = FaultKind.PAYMENT
    code = "budget_exhausted"


class RequestTooCostly(QuotaError):
    """One request asks for more than one request may."""

    kind = FaultKind.BAD_REQUEST
    code = "request_over_limit"


class UnpricedModel(QuotaError):
    """The tenant's policy refuses models whose price nobody knows."""

    kind = FaultKind.PAYMENT
    code = "model_without_price"


class LedgerUnavailable(QuotaError):
    """What a request may spend cannot be decided now: refuse, do not guess."""

    kind = FaultKind.OVERLOADED
    code = "ledger_unavailable"
