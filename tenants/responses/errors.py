"""What asking for a kept answer can fail with."""

from __future__ import annotations

from controlplane.kit.errors import FaultKind
from tenants.errors import TenantError


class ResponseNotFound(TenantError):
    """Never kept, forgotten, expired or another tenant's: one answer for all of them."""

    kind = FaultKind.NOT_FOUND
    code = "response_not_found"


class PreviousResponseNotFound(ResponseNotFound):
    """The same, where a question refers to it."""

    kind = FaultKind.BAD_REQUEST
    code = "previous_response_not_found"
