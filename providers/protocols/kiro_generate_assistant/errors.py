"""Kiro's errors: AWS exceptions with a `reason`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from controlplane.kit.errors import Fault, FaultKind
from controlplane.kit.json import JSONDict
from providers.protocols import error_bodies
from providers.protocols.bedrock_converse_stream.errors import exception_name, kind_of
from providers.protocols.error_bodies import Said

_REASONS: Final[dict[str, FaultKind]] = {
    "CONTENT_LENGTH_EXCEEDS_THRESHOLD": FaultKind.CONTEXT_OVERFLOW,
    "INPUT_TOO_LONG": FaultKind.CONTEXT_OVERFLOW,
    "MONTHLY_REQUEST_COUNT": FaultKind.PAYMENT,
    "DAILY_REQUEST_COUNT": FaultKind.PAYMENT,
    "OVERAGE_REQUEST_LIMIT_EXCEEDED": FaultKind.PAYMENT,
    "CONVERSATION_LIMIT_EXCEEDED": FaultKind.RATE_LIMIT,
    "INSUFFICIENT_MODEL_CAPACITY": FaultKind.OVERLOADED,
    "TEMPORARILY_SUSPENDED": FaultKind.FORBIDDEN,
    "FEATURE_NOT_SUPPORTED": FaultKind.FORBIDDEN,
}


def decode_error(status: int, headers: Mapping[str, str], body: bytes) -> Fault:
    said = error_bodies.read(body)
    name = exception_name(headers.get("x-amzn-errortype", "") or said.type)
    return _judged(status, headers, Said(said.message, name, said.code))


def fault_of_event(name: str, payload: JSONDict) -> Fault:
    """A failure inside the stream, possibly under HTTP 200."""
    said = error_bodies.of_value(payload)
    name = exception_name(name if name not in ("", "error", "exception") else said.type) or name
    return _judged(502, {}, Said(said.message, name, said.code))


def _judged(status: int, headers: Mapping[str, str], said: Said) -> Fault:
    kind = _REASONS.get(said.code)
    if kind is None and status == 403 and "bearer token" in said.message.lower():
        # An expired login is a 403 here, not a 401.
        kind = FaultKind.AUTH
    if kind is None:
        kind = kind_of(said.type)
    kinds = {} if kind is None else {said.type: kind}
    fault = error_bodies.fault_of_answer(status, headers, said, kinds=kinds)
    return msgspec.structs.replace(fault, upstream_code=said.code or said.type or None)
