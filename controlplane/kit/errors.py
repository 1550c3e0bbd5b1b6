"""The base of every error we raise on purpose, and the one form in which clients see them."""

from __future__ import annotations

from enum import StrEnum

import msgspec


class FaultKind(StrEnum):
    """What went wrong, in words that every dialect can translate into its own."""

    BAD_REQUEST = "bad_request"
    CONTEXT_OVERFLOW = "context_overflow"
    AUTH = "auth"
    PAYMENT = "payment"
    FORBIDDEN = "forbidden"
    NOT_FOUND = "not_found"
    METHOD = "method"
    TIMEOUT_CLIENT = "timeout_client"
    CONFLICT = "conflict"
    TOO_LARGE = "too_large"
    UNSUPPORTED_MEDIA = "unsupported_media"
    UNPROCESSABLE = "unprocessable"
    HEADERS_TOO_LARGE = "headers_too_large"
    RATE_LIMIT = "rate_limit"
    INTERNAL = "internal"
    UPSTREAM = "upstream"
    OVERLOADED = "overloaded"
    TIMEOUT = "timeout"


STATUS_OF_KIND: dict[FaultKind, int] = {
    FaultKind.BAD_REQUEST: 400,
    FaultKind.CONTEXT_OVERFLOW: 400,
    FaultKind.AUTH: 401,
    FaultKind.PAYMENT: 402,
    FaultKind.FORBIDDEN: 403,
    FaultKind.NOT_FOUND: 404,
    FaultKind.METHOD: 405,
    FaultKind.TIMEOUT_CLIENT: 408,
    FaultKind.CONFLICT: 409,
    FaultKind.TOO_LARGE: 413,
    FaultKind.UNSUPPORTED_MEDIA: 415,
    FaultKind.UNPROCESSABLE: 422,
    FaultKind.HEADERS_TOO_LARGE: 431,
    FaultKind.RATE_LIMIT: 429,
    FaultKind.INTERNAL: 500,
    FaultKind.UPSTREAM: 502,
    FaultKind.OVERLOADED: 503,
    FaultKind.TIMEOUT: 504,
}


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """An error as a value: what a codec renders in its client's dialect.

    `code` is ours and stable; `message` says what to do and never holds a secret;
    `upstream_code` keeps the vendor's own word for logs and for same-dialect clients.
    """

    kind: FaultKind
    code: str
    message: str
    status: int = 0
    param: str | None = None
    retry_after_seconds: float | None = None
    upstream_code: str | None = None

    @property
    def http_status(self) -> int:
        return self.status or STATUS_OF_KIND[self.kind]


class GatewayError(Exception):
    """Base of all our own errors. `fault()` is what the outside sees of it."""

    kind: FaultKind = FaultKind.INTERNAL
    code: str = "internal_error"

    def __init__(
        self,
        message: str = "",
        *,
        param: str | None = None,
        retry_after_seconds: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.retry_after_seconds = retry_after_seconds

    def fault(self) -> Fault:
        return Fault(
            kind=self.kind,
            code=self.code,
            message=self.message or "Something went wrong on our side. Try again.",
            param=self.param,
            retry_after_seconds=self.retry_after_seconds,
        )
