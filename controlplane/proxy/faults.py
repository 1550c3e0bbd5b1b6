"""From an exception to what the client sees: the only such table."""

from __future__ import annotations

from typing import Final

from django.db import InterfaceError, OperationalError

from controlplane.kit.errors import Fault, FaultKind, GatewayError
from providers.protocols.mending import Mended

# A vendor that refuses OUR credential must not read like "your key is wrong".
_OUR_CREDENTIAL = frozenset({FaultKind.AUTH, FaultKind.FORBIDDEN, FaultKind.PAYMENT})

INTERNAL = Fault(
    kind=FaultKind.INTERNAL,
    code="internal_error",
    message="Something went wrong on our side. Try again; if it stays, tell us the request id.",
)

# The database does not answer, for what no snapshot holds.
AWAY: Final = (OperationalError, InterfaceError)
DATABASE_AWAY = Fault(
    kind=FaultKind.OVERLOADED,
    code="database_unavailable",
    message="The database does not answer at the moment. Try again soon.",
    retry_after_seconds=5.0,
)


class UpstreamFault(GatewayError):
    """An upstream's own error answer, already a Fault. `upstream_status` 0 = it came inside an
    answer. `mended` = what may be sent instead."""

    kind = FaultKind.UPSTREAM
    code = "upstream_error"

    def __init__(
        self, fault: Fault, upstream_status: int = 0, mended: Mended | None = None
    ) -> None:
        super().__init__(fault.message)
        self.original = fault
        self.mended = mended
        self.upstream_status = upstream_status

    def fault(self) -> Fault:
        return shown_to_client(self.original)


def fault_of(error: Exception) -> Fault:
    """Anything that is not one of ours is a bug and looks like one."""
    if isinstance(error, GatewayError):
        return error.fault()
    return DATABASE_AWAY if isinstance(error, AWAY) else INTERNAL


def shown_to_client(fault: Fault) -> Fault:
    """An upstream's own refusal of our credential, made neutral."""
    if fault.kind in _OUR_CREDENTIAL:
        return Fault(
            kind=FaultKind.UPSTREAM,
            code="upstream_credential",
            message="The provider refused the credential this service uses for it. "
            "An administrator has to renew it.",
            upstream_code=fault.upstream_code,
        )
    return fault


def fault_headers(fault: Fault) -> list[tuple[bytes, bytes]]:
    if fault.retry_after_seconds is None:
        return []
    return [(b"retry-after", str(max(1, round(fault.retry_after_seconds))).encode())]
