"""Mistral's error answers: its own, its validator's and its gateway's (wire-protocols 11)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from controlplane.kit.errors import Fault, FaultKind
from controlplane.kit.json import InvalidJSON, depth_exceeds, loads
from providers.protocols import error_bodies
from providers.protocols.error_bodies import Said

_KINDS: Final[dict[str, FaultKind]] = {
    "invalid_request_error": FaultKind.BAD_REQUEST,
    "invalid_model": FaultKind.NOT_FOUND,
    "rate_limited": FaultKind.RATE_LIMIT,
    "service_tier_capacity_exceeded": FaultKind.OVERLOADED,
    "unreachable_backend": FaultKind.OVERLOADED,
    "internal_server_error": FaultKind.UPSTREAM,
}


def decode_error(status: int, headers: Mapping[str, str], body: bytes) -> Fault:
    said = _validation(body) or error_bodies.read(body)
    return error_bodies.fault_of_answer(status, headers, said, kinds=_KINDS)


def fault_of_error(error: Any) -> Fault:
    """An error object that arrived inside a 200."""
    said = error_bodies.of_value(error)
    code = error.get("code") if isinstance(error, dict) else None
    status = code if type(code) is int and 400 <= code < 600 else 500
    return error_bodies.fault_of_answer(status, {}, said, kinds=_KINDS)


def _validation(body: bytes) -> Said | None:
    """`{"detail": [{loc, msg, type}]}`: which field is wrong and why. None for other bodies."""
    if b'"detail"' not in body or len(body) > 256 * 1024 or depth_exceeds(body):
        return None
    try:
        value = loads(body)
    except InvalidJSON:
        return None
    # Newer answers put the list under `message`.
    for _ in range(2):
        if isinstance(value, dict) and isinstance(value.get("message"), dict):
            value = value["message"]
    details = value.get("detail") if isinstance(value, dict) else None
    if not isinstance(details, list):
        return None
    lines: list[str] = []
    kind = ""
    for detail in details[:5]:
        if isinstance(detail, dict):
            where = detail.get("loc")
            place = ".".join(str(step) for step in where) if isinstance(where, list) else ""
            reason = str(detail.get("msg", ""))
            lines.append(f"{place}: {reason}" if place else reason)
            kind = kind or str(detail.get("type", ""))
    if not lines:
        return None
    return Said(error_bodies.clean("; ".join(lines)), error_bodies.clean(kind)[:100])
