"""OpenAI's error object in both directions; shared by Chat Completions and Responses."""

from __future__ import annotations

from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any, Final

import msgspec

from controlplane.kit.errors import Fault, FaultKind
from controlplane.kit.json import InvalidJSON, JSONDict, loads
from providers.protocols import error_bodies, mending, numbers
from providers.protocols.error_bodies import Said

# What clients of OpenAI match on: (type, code). No code here = our own stable one is shown.
_TYPES: Final[dict[FaultKind, tuple[str, str | None]]] = {
    FaultKind.CONTEXT_OVERFLOW: ("invalid_request_error", "context_length_exceeded"),
    FaultKind.AUTH: ("invalid_request_error", "invalid_api_key"),
    FaultKind.PAYMENT: ("insufficient_quota", "insufficient_quota"),
    FaultKind.FORBIDDEN: ("permission_denied", None),
    FaultKind.RATE_LIMIT: ("rate_limit_exceeded", "rate_limit_exceeded"),
    FaultKind.INTERNAL: ("server_error", None),
    FaultKind.UPSTREAM: ("server_error", None),
    FaultKind.OVERLOADED: ("server_error", None),
    FaultKind.TIMEOUT: ("timeout", None),
}

# The vendors' words, wherever they stand (`type` or `code`).
_KINDS: Final[dict[str, FaultKind]] = {
    "context_length_exceeded": FaultKind.CONTEXT_OVERFLOW,
    "model_context_window_exceeded": FaultKind.CONTEXT_OVERFLOW,
    "1261": FaultKind.CONTEXT_OVERFLOW,  # ZAI
    "insufficient_quota": FaultKind.PAYMENT,
    "billing_hard_limit_reached": FaultKind.PAYMENT,
    "billing_not_active": FaultKind.PAYMENT,
    "usage_not_included": FaultKind.PAYMENT,  # Codex: the plan has no Codex
    "1308": FaultKind.PAYMENT,  # ZAI: the plan's limit
    "GoUsageLimitError": FaultKind.PAYMENT,
    "FreeUsageLimitError": FaultKind.PAYMENT,
    # Used up, but with a time of return: worth waiting for on this credential.
    "usage_limit_reached": FaultKind.RATE_LIMIT,
    "rate_limit_exceeded": FaultKind.RATE_LIMIT,
    "rate_limit_error": FaultKind.RATE_LIMIT,
    "too_many_requests": FaultKind.RATE_LIMIT,
    "server_is_overloaded": FaultKind.OVERLOADED,
    "overloaded": FaultKind.OVERLOADED,
    "overloaded_error": FaultKind.OVERLOADED,
    "engine_overloaded": FaultKind.OVERLOADED,
    "engine_overloaded_error": FaultKind.OVERLOADED,
    "server_busy": FaultKind.OVERLOADED,
    "slow_down": FaultKind.OVERLOADED,
    "previous_response_not_found": FaultKind.NOT_FOUND,
}
# Only inside a stream, where no status speaks.
_STREAM_KINDS: Final[dict[str, FaultKind]] = {
    "invalid_request_error": FaultKind.BAD_REQUEST,
    "invalid_prompt": FaultKind.BAD_REQUEST,
    "invalid_image": FaultKind.BAD_REQUEST,
    "bio_policy": FaultKind.BAD_REQUEST,
    "misalignment_policy_violation": FaultKind.BAD_REQUEST,
    "invalid_api_key": FaultKind.AUTH,
    "authentication_error": FaultKind.AUTH,
    "permission_denied": FaultKind.FORBIDDEN,
    "permission_error": FaultKind.FORBIDDEN,
    "model_not_found": FaultKind.NOT_FOUND,
    "not_found_error": FaultKind.NOT_FOUND,
    "timeout": FaultKind.TIMEOUT,
    "timeout_error": FaultKind.TIMEOUT,
}
# These pass with time, although their texts advertise the billing page (OpenAI, Groq, Codex).
_PASSING: Final = frozenset({"usage_limit_reached", "rate_limit_exceeded"})
# Responses: reasoning of another model, key or organisation came back.
_FOREIGN_REASONING: Final = "invalid_encrypted_content"
# Groq: flex capacity.
_CAPACITY_STATUS: Final = 498


def decode_error(status: int, headers: Mapping[str, str], body: bytes) -> Fault:
    """An error answer of any OpenAI-compatible vendor. Never raises."""
    value = _parsed(body)
    said = error_bodies.read(body)
    fault = error_bodies.fault_of_answer(status, headers, said, kinds=_KINDS)
    if status == _CAPACITY_STATUS and fault.kind is FaultKind.BAD_REQUEST:
        fault = _as(fault, FaultKind.OVERLOADED)
    if fault.kind is FaultKind.PAYMENT and _PASSING & {said.type, said.code}:
        fault = _as(fault, FaultKind.RATE_LIMIT)
    if said.code == _FOREIGN_REASONING:
        fault = msgspec.structs.replace(fault, code=mending.SIGNATURE)
    return _completed(fault, value, headers)


def fault_in_stream(value: Any) -> Fault:
    """The value of `error` in a chunk, or the whole event where the vendor put it flat."""
    said = error_bodies.of_value(value)
    status = _status_of(value, said)
    known = _KINDS.get(said.code) or _KINDS.get(said.type)
    kind = known or (error_bodies.kind_of_status(status) if status else None)
    kind = kind or _STREAM_KINDS.get(said.code) or _STREAM_KINDS.get(said.type)
    if kind is None:
        kind = FaultKind.UPSTREAM
        lowered = said.message.lower()
        if "overloaded" in lowered or "at capacity" in lowered:
            kind = FaultKind.OVERLOADED
        elif "rate limit" in lowered:
            kind = FaultKind.RATE_LIMIT
    if error_bodies.is_overflow(said):
        kind = FaultKind.CONTEXT_OVERFLOW
    elif known is None and error_bodies.is_quota(said):
        kind = FaultKind.PAYMENT
    fault = error_bodies.fault(
        kind,
        said,
        retry_after_seconds=error_bodies.delay({}, said),
        fallback="The upstream broke off its answer with an error and gave no reason.",
    )
    return _completed(fault, value, {})


def truncated(what: str = "its end") -> Fault:
    return Fault(
        kind=FaultKind.UPSTREAM,
        code="stream_truncated",
        message=f"The upstream's stream stopped before {what}. Try again.",
    )


def _status_of(value: Any, said: Said) -> int:
    candidates: list[Any] = [said.code]
    if type(value) is dict:
        candidates += [value.get("status"), value.get("status_code"), value.get("code")]
    for candidate in candidates:
        if type(candidate) is str and len(candidate) == 3 and candidate.isascii():
            candidate = int(candidate) if candidate.isdigit() else 0
        if type(candidate) is int and 400 <= candidate <= 599:
            return candidate
    return 0


def _completed(fault: Fault, value: Any, headers: Mapping[str, str]) -> Fault:
    """`param`, and the delay that only the body knows (Codex, Google behind a gateway)."""
    inner = _inner(value)
    param = inner.get("param")
    delay = fault.retry_after_seconds
    if delay is None:
        delay = numbers.seconds(inner.get("resets_in_seconds"))
    if delay is None:
        delay = _until(inner.get("resets_at"), headers.get("date", ""))
    if delay is None:
        delay = _retry_info(inner.get("details"))
    if delay is None and fault.kind is FaultKind.RATE_LIMIT:
        delay = _window(headers)
    return msgspec.structs.replace(
        fault,
        param=error_bodies.clean(param)[:200] if type(param) is str and param else None,
        retry_after_seconds=delay,
    )


def _until(epoch: Any, date: str) -> float | None:
    """Seconds from the answer's own date to an epoch time: this code has no clock."""
    if type(epoch) not in (int, float) or not date:
        return None
    try:
        return numbers.seconds(epoch - parsedate_to_datetime(date).timestamp())
    except (TypeError, ValueError, OverflowError):
        return None


def _retry_info(details: Any) -> float | None:
    for detail in details if type(details) is list else ():
        if type(detail) is dict and type(detail.get("retryDelay")) is str:
            return numbers.seconds(detail["retryDelay"].rstrip("s"))
    return None


def _window(headers: Mapping[str, str]) -> float | None:
    """When the exhausted window opens again: `6m0s`, `12ms`, or plain seconds."""
    waits = []
    for name in ("requests", "tokens"):
        if headers.get(f"x-ratelimit-remaining-{name}", "").strip() == "0":
            wait = duration(headers.get(f"x-ratelimit-reset-{name}", ""))
            if wait is not None:
                waits.append(wait)
    return max(waits, default=None)


def duration(text: str) -> float | None:
    """Go's way to write a duration."""
    total, digits = 0.0, ""
    position = 0
    text = text.strip()[:40]
    units = {"h": 3600.0, "m": 60.0, "s": 1.0}
    while position < len(text):
        character = text[position]
        position += 1
        if character in "0123456789.":
            digits += character
            continue
        unit = units.get(character)
        if character == "m" and text[position : position + 1] == "s":
            unit, position = 0.001, position + 1
        amount = numbers.seconds(digits)
        if unit is None or amount is None:
            return None
        total += amount * unit
        digits = ""
    if digits:
        amount = numbers.seconds(digits)
        return None if amount is None else numbers.seconds(total + amount)
    return numbers.seconds(total) if text else None


def _inner(value: Any) -> JSONDict:
    if type(value) is list and value:
        value = value[0]
    if type(value) is not dict:
        return {}
    inner = value.get("error")
    return inner if type(inner) is dict else value


def _parsed(body: bytes) -> Any:
    if len(body) > 256 * 1024:
        return None
    try:
        return loads(body)
    except InvalidJSON:
        return None


def _as(fault: Fault, kind: FaultKind) -> Fault:
    return msgspec.structs.replace(fault, kind=kind, code=error_bodies.CODES[kind])


def error_object(fault: Fault) -> JSONDict:
    type_, code = _TYPES.get(fault.kind, ("invalid_request_error", None))
    return {
        "message": fault.message,
        "type": type_,
        "param": fault.param,
        "code": code or fault.code,
    }


def encode_error(fault: Fault) -> JSONDict:
    return {"error": error_object(fault)}
