"""Google's error answers (wire-protocols 7.5) as Faults. Also those inside a stream."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from controlplane.kit.errors import Fault, FaultKind
from controlplane.kit.json import InvalidJSON, JSONDict, depth_exceeds, loads
from providers.protocols import error_bodies, numbers

_KINDS: Final[dict[str, FaultKind]] = {
    "INVALID_ARGUMENT": FaultKind.BAD_REQUEST,
    "FAILED_PRECONDITION": FaultKind.BAD_REQUEST,
    "OUT_OF_RANGE": FaultKind.BAD_REQUEST,
    "UNIMPLEMENTED": FaultKind.BAD_REQUEST,
    "UNAUTHENTICATED": FaultKind.AUTH,
    "PERMISSION_DENIED": FaultKind.FORBIDDEN,
    "NOT_FOUND": FaultKind.NOT_FOUND,
    "ABORTED": FaultKind.CONFLICT,
    "ALREADY_EXISTS": FaultKind.CONFLICT,
    "RESOURCE_EXHAUSTED": FaultKind.RATE_LIMIT,
    "CANCELLED": FaultKind.UPSTREAM,
    "UNKNOWN": FaultKind.UPSTREAM,
    "INTERNAL": FaultKind.UPSTREAM,
    "DATA_LOSS": FaultKind.UPSTREAM,
    "UNAVAILABLE": FaultKind.OVERLOADED,
    "DEADLINE_EXCEEDED": FaultKind.TIMEOUT,
}
# An invalid key is a 400 here, not a 401.
_BAD_KEY: Final = re.compile(
    r"api[_ ]key[_ ](?:invalid|not[_ ](?:valid|found)|expired)", re.IGNORECASE
)
_LOCATION: Final = re.compile(r"location is not supported", re.IGNORECASE)
# Money, not pace: waiting does not help. A plain 429 mentions "billing" too, so the word alone
# proves nothing.
_NO_MONEY: Final = re.compile(
    r"credits? (?:are|is) depleted|prepay|billing (?:is )?(?:not|dis)", re.IGNORECASE
)
_TOO_LARGE: Final = re.compile(r"request payload size exceeds", re.IGNORECASE)
_DURATION: Final = re.compile(
    r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m(?!s))?(?:(\d+(?:\.\d+)?)s)?"
)


def decode_error(status: int, headers: Mapping[str, str], body: bytes) -> Fault:
    said = error_bodies.read(body)
    error: Any = None
    if body.lstrip()[:1] in (b"{", b"[") and len(body) <= 256 * 1024 and not depth_exceeds(body):
        try:
            error = _inner(loads(body))
        except InvalidJSON:
            error = None  # a cut body: `said` holds what its text says
    return _fault(status, headers, said, error if isinstance(error, dict) else {})


def fault_of_error(error: Any) -> Fault:
    """An `error` object that arrived inside a 200."""
    inner = _inner({"error": error})
    details = inner if isinstance(inner, dict) else {}
    code = details.get("code")
    status = code if type(code) is int and 400 <= code < 600 else 500
    return _fault(status, {}, error_bodies.of_value(error), details)


def _inner(value: Any) -> Any:
    """The object that holds `status` and `details`: arrays and text with JSON inside are opened."""
    for _ in range(6):
        if isinstance(value, list) and value:
            value = value[0]
        elif isinstance(value, dict) and isinstance(value.get("error"), dict | list | str):
            value = value["error"]
        elif isinstance(value, dict) and _is_json(value.get("message")):
            try:
                deeper = loads(value["message"])
            except InvalidJSON:
                return value
            if not isinstance(deeper, dict | list):
                return value
            value = deeper
        elif isinstance(value, str) and _is_json(value):
            try:
                value = loads(value)
            except InvalidJSON:
                return value
        else:
            return value
    return value


def _is_json(value: Any) -> bool:
    return (
        isinstance(value, str)
        and value.lstrip()[:1] in ("{", "[")
        and not depth_exceeds(value.encode("utf-8", "replace"))
    )


def _fault(
    status: int, headers: Mapping[str, str], said: error_bodies.Said, error: JSONDict
) -> Fault:
    word = error.get("status")
    word = word if isinstance(word, str) else ""
    reasons, delay = _details(error.get("details"))
    kind = _KINDS.get(word) or error_bodies.kind_of_status(status)
    if status == 413 or _TOO_LARGE.search(said.message):
        kind = FaultKind.TOO_LARGE
    if kind in (FaultKind.BAD_REQUEST, FaultKind.FORBIDDEN):
        if any(reason.startswith("API_KEY_") for reason in reasons) or _BAD_KEY.search(
            said.message
        ):
            kind = FaultKind.AUTH
        elif _LOCATION.search(said.message):
            kind = FaultKind.FORBIDDEN
        elif word == "FAILED_PRECONDITION" and "billing" in said.message.lower():
            kind = FaultKind.PAYMENT
    if kind is FaultKind.BAD_REQUEST and error_bodies.is_overflow(said):
        kind = FaultKind.CONTEXT_OVERFLOW
    if kind is FaultKind.RATE_LIMIT and delay is None and _NO_MONEY.search(said.message):
        kind = FaultKind.PAYMENT
    asked = error_bodies.delay(headers, error_bodies.Said()) if headers else None
    if asked is None:
        asked = delay if delay is not None else error_bodies.delay({}, said)
    fault = error_bodies.fault(
        kind,
        said,
        retry_after_seconds=asked,
        fallback=f"The upstream answered {status} without an explanation.",
    )
    return msgspec.structs.replace(fault, upstream_code=word or said.code or None)


def _details(details: Any) -> tuple[list[str], float | None]:
    """Reasons of ErrorInfo, and the delay of RetryInfo or of Code Assist's quota note."""
    reasons: list[str] = []
    delay: float | None = None
    for detail in details if isinstance(details, list) else ():
        if not isinstance(detail, dict):
            continue
        kind = detail.get("@type")
        kind = kind if isinstance(kind, str) else ""
        if kind.endswith("RetryInfo"):
            found = duration(detail.get("retryDelay"))
            delay = found if found is not None else delay
        elif kind.endswith("ErrorInfo"):
            if isinstance(detail.get("reason"), str):
                reasons.append(detail["reason"])
            metadata = detail.get("metadata")
            if delay is None and isinstance(metadata, dict):
                delay = duration(metadata.get("quotaResetDelay"))
    return reasons, delay


def duration(value: Any) -> float | None:
    """Seconds in `22s`, `1.5s`, `18h31m10s` or `{seconds, nanos}`; None for anything else."""
    if isinstance(value, dict):
        whole = numbers.seconds(value.get("seconds", 0))
        return None if whole is None else whole + numbers.count(value.get("nanos")) / 1e9
    if not isinstance(value, str) or not value or len(value) > 64:
        return None
    if value.endswith("ms"):
        milliseconds = numbers.seconds(value[:-2])
        return None if milliseconds is None else milliseconds / 1000
    match = _DURATION.fullmatch(value)
    if match is None or not any(match.groups()):
        return None
    hours, minutes, secs = (float(group) if group else 0.0 for group in match.groups())
    return numbers.seconds(hours * 3600 + minutes * 60 + secs)
