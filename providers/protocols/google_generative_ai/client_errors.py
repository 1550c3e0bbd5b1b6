"""A Fault in Google's error body (wire-protocols 7.5, 14.10)."""

from __future__ import annotations

from typing import Final

from controlplane.kit.errors import Fault, FaultKind
from controlplane.kit.json import JSONDict

_STATUS: Final[dict[FaultKind, str]] = {
    FaultKind.BAD_REQUEST: "INVALID_ARGUMENT",
    FaultKind.CONTEXT_OVERFLOW: "INVALID_ARGUMENT",
    FaultKind.AUTH: "UNAUTHENTICATED",
    FaultKind.PAYMENT: "RESOURCE_EXHAUSTED",
    FaultKind.FORBIDDEN: "PERMISSION_DENIED",
    FaultKind.NOT_FOUND: "NOT_FOUND",
    FaultKind.METHOD: "UNIMPLEMENTED",
    FaultKind.TIMEOUT_CLIENT: "DEADLINE_EXCEEDED",
    FaultKind.CONFLICT: "ABORTED",
    FaultKind.TOO_LARGE: "INVALID_ARGUMENT",
    FaultKind.UNSUPPORTED_MEDIA: "INVALID_ARGUMENT",
    FaultKind.UNPROCESSABLE: "INVALID_ARGUMENT",
    FaultKind.HEADERS_TOO_LARGE: "INVALID_ARGUMENT",
    FaultKind.RATE_LIMIT: "RESOURCE_EXHAUSTED",
    FaultKind.INTERNAL: "INTERNAL",
    FaultKind.UPSTREAM: "INTERNAL",
    FaultKind.OVERLOADED: "UNAVAILABLE",
    FaultKind.TIMEOUT: "DEADLINE_EXCEEDED",
}
_TYPE: Final = "type.googleapis.com/google.rpc."


def encode_error(fault: Fault, request_id: str = "") -> JSONDict:
    """`details` says what Google's clients look for: our stable code as the reason, the field,
    the delay, the request."""
    details: list[JSONDict] = [
        {"@type": _TYPE + "ErrorInfo", "reason": fault.code.upper(), "domain": "gateway"}
    ]
    if fault.param:
        details.append(
            {
                "@type": _TYPE + "BadRequest",
                "fieldViolations": [{"field": fault.param, "description": fault.message}],
            }
        )
    if fault.retry_after_seconds is not None:
        delay = f"{fault.retry_after_seconds:.3f}".rstrip("0").rstrip(".")
        details.append({"@type": _TYPE + "RetryInfo", "retryDelay": f"{delay}s"})
    if request_id:
        details.append({"@type": _TYPE + "RequestInfo", "requestId": request_id})
    return {
        "error": {
            "code": fault.http_status,
            "message": fault.message,
            "status": _STATUS[fault.kind],
            "details": details,
        }
    }
