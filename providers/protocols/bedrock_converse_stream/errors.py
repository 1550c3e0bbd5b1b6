"""AWS errors: in a header, in the body, or inside the stream."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from controlplane.kit.errors import Fault, FaultKind
from controlplane.kit.json import JSONDict
from providers.protocols import error_bodies
from providers.protocols.anthropic_messages.errors import mendable
from providers.protocols.error_bodies import Said
from providers.protocols.numbers import count

_KINDS: Final[dict[str, FaultKind]] = {
    "validation": FaultKind.BAD_REQUEST,
    "accessdenied": FaultKind.FORBIDDEN,
    "unrecognizedclient": FaultKind.AUTH,
    "expiredtoken": FaultKind.AUTH,
    "invalidsignature": FaultKind.AUTH,
    "incompletesignature": FaultKind.AUTH,
    "missingauthenticationtoken": FaultKind.AUTH,
    "resourcenotfound": FaultKind.NOT_FOUND,
    "modeltimeout": FaultKind.TIMEOUT,
    "modelerror": FaultKind.UPSTREAM,
    "modelstreamerror": FaultKind.UPSTREAM,
    "throttling": FaultKind.RATE_LIMIT,
    "servicequotaexceeded": FaultKind.RATE_LIMIT,
    "modelnotready": FaultKind.OVERLOADED,
    "internalserver": FaultKind.UPSTREAM,
    "internalfailure": FaultKind.UPSTREAM,
    "serviceunavailable": FaultKind.OVERLOADED,
    "conflict": FaultKind.CONFLICT,
}


def exception_name(value: str) -> str:
    """`com.amazon#ThrottlingException:http://…` is ThrottlingException."""
    return value.partition(":")[0].rpartition("#")[2].strip()


def kind_of(name: str) -> FaultKind | None:
    return _KINDS.get(name.lower().removesuffix("exception"))


def decode_error(status: int, headers: Mapping[str, str], body: bytes) -> Fault:
    said = error_bodies.read(body)
    name = exception_name(headers.get("x-amzn-errortype", "") or said.type or said.code)
    said = Said(said.message, name, said.code if said.code != name else "")
    kind = kind_of(name)
    kinds = {name: kind} if kind is not None else {}
    fault = error_bodies.fault_of_answer(status, headers, said, kinds=kinds)
    # Claude's refusals are the same sentences here (trap 91).
    return mendable(msgspec.structs.replace(fault, upstream_code=name or fault.upstream_code))


def fault_of_exception(name: str, payload: JSONDict) -> Fault:
    """An exception event inside a 200 stream (trap 135)."""
    said = error_bodies.of_value(payload)
    name = exception_name(name)
    kind = kind_of(name) or FaultKind.UPSTREAM
    original = payload.get("originalStatusCode")
    if kind is FaultKind.UPSTREAM and original is not None and count(original) >= 400:
        kind = error_bodies.kind_of_status(count(original))
    message = said.message
    detail = payload.get("originalMessage")
    if isinstance(detail, str) and detail and detail not in message:
        message = error_bodies.clean(f"{message} {detail}")
    said = Said(message, name, "")
    if kind is FaultKind.BAD_REQUEST and error_bodies.is_overflow(said):
        kind = FaultKind.CONTEXT_OVERFLOW
    return error_bodies.fault(
        kind, said, fallback="The upstream broke off its answer and gave no reason."
    )
