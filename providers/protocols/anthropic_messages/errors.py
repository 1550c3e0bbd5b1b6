"""Errors of the Messages API: read from a vendor, and shown to our callers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from controlplane.kit.errors import Fault, FaultKind
from controlplane.kit.json import JSONDict, dumps
from providers.protocols import error_bodies, mending, numbers
from providers.protocols.sse import named_event

_KINDS: Final[dict[str, FaultKind]] = {
    "authentication_error": FaultKind.AUTH,
    "billing_error": FaultKind.PAYMENT,
    "permission_error": FaultKind.FORBIDDEN,
    "not_found_error": FaultKind.NOT_FOUND,
    "request_too_large": FaultKind.TOO_LARGE,
    "rate_limit_error": FaultKind.RATE_LIMIT,
    "overloaded_error": FaultKind.OVERLOADED,
    "timeout_error": FaultKind.TIMEOUT,
    "api_error": FaultKind.UPSTREAM,
}

# Refusals that a second attempt can mend, without what was refused (mending.py).
_MENDABLE: Final[tuple[tuple[re.Pattern[str], str], ...]] = (
    (
        # Thinking is bound to prompt, tools and history: drop it, retry once (traps 90, 91).
        re.compile(
            r"invalid.{0,40}signature|signature.{0,60}(?:invalid|bound)"
            r"|invalid.{0,3}data.{0,30}thinking",
            re.IGNORECASE | re.DOTALL,
        ),
        mending.SIGNATURE,
    ),
    (
        # Too many strict tools, or a keyword strict mode lacks: resend non-strict (trap 62).
        re.compile(
            r"strict.{0,80}(?:tool|schema|grammar|compil)|compiled grammar",
            re.IGNORECASE | re.DOTALL,
        ),
        mending.STRICT,
    ),
    (
        # An organisation's policy caps effort: one level lower (trap 110).
        re.compile(r"invalid effort|effort level", re.IGNORECASE),
        mending.EFFORT,
    ),
)

_TYPES: Final[dict[FaultKind, str]] = {
    FaultKind.AUTH: "authentication_error",
    FaultKind.PAYMENT: "billing_error",
    FaultKind.FORBIDDEN: "permission_error",
    FaultKind.NOT_FOUND: "not_found_error",
    FaultKind.TOO_LARGE: "request_too_large",
    FaultKind.RATE_LIMIT: "rate_limit_error",
    FaultKind.INTERNAL: "api_error",
    FaultKind.UPSTREAM: "api_error",
    FaultKind.OVERLOADED: "overloaded_error",
    FaultKind.TIMEOUT: "timeout_error",
}


def decode_error(status: int, headers: Mapping[str, str], body: bytes) -> Fault:
    said = error_bodies.read(body)
    fault = error_bodies.fault_of_answer(status, headers, said, kinds=_KINDS)
    if fault.kind is FaultKind.RATE_LIMIT and fault.retry_after_seconds is None:
        fault = msgspec.structs.replace(fault, retry_after_seconds=_unified_reset(headers))
    return mendable(fault)


def fault_of_stream(error: Any) -> Fault:
    """An error inside a 200 stream: type, code and message survive (trap 130)."""
    said = error_bodies.of_value({"error": error})
    kind = _KINDS.get(said.type)
    if kind is None:
        is_ours = said.type == "invalid_request_error"
        kind = FaultKind.BAD_REQUEST if is_ours else FaultKind.UPSTREAM
    if error_bodies.is_overflow(said):
        kind = FaultKind.CONTEXT_OVERFLOW
    return mendable(
        error_bodies.fault(
            kind,
            said,
            retry_after_seconds=error_bodies.delay({}, said),
            fallback="The upstream broke off its answer and gave no reason.",
        )
    )


def truncated() -> Fault:
    return Fault(
        kind=FaultKind.UPSTREAM,
        code="stream_truncated",
        message="The upstream's answer ended before it was complete. Try again.",
    )


def mendable(fault: Fault) -> Fault:
    """With a code of its own where a mended request may be asked again."""
    if fault.kind is FaultKind.BAD_REQUEST:
        for pattern, code in _MENDABLE:
            if pattern.search(fault.message):
                return msgspec.structs.replace(fault, code=code)
    return fault


def _unified_reset(headers: Mapping[str, str]) -> float | None:
    """Subscriptions say when they reset, in epoch seconds; `date` is the answer's own clock."""
    reset = headers.get("anthropic-ratelimit-unified-reset", "")
    if not reset.isdigit():
        return None
    now = error_bodies.epoch_seconds(headers.get("date", ""))
    return None if now is None else numbers.seconds(int(reset) - now)


def error_type(fault: Fault) -> str:
    return _TYPES.get(fault.kind, "invalid_request_error")


def encode_error(fault: Fault, request_id: str = "") -> JSONDict:
    message = fault.message
    if fault.kind is FaultKind.CONTEXT_OVERFLOW and "prompt is too long" not in message.lower():
        # What Anthropic clients look for to compact their history.
        message = f"prompt is too long: {message}"
    body: JSONDict = {
        "type": "error",
        "error": {"type": error_type(fault), "message": message},
    }
    if request_id:
        body["request_id"] = request_id
    return body


def encode_error_event(fault: Fault, request_id: str = "") -> bytes:
    return named_event(b"error", dumps(encode_error(fault, request_id)))
