"""What a failure means. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Final

from controlplane.kit.errors import Fault, FaultKind
from providers.protocols import mending
from providers.routing.table import ErrorRule


class Outcome(StrEnum):
    OK = "ok"
    # Our own copy of the credential cannot be read; the vendor refuses it.
    UNAVAILABLE = "unavailable"
    AUTH = "auth"
    FORBIDDEN = "forbidden"
    QUOTA = "quota"
    RATE = "rate"
    OVERLOAD = "overload"
    # Nothing was sent; or it was, and the connection broke.
    NETWORK = "network"
    BROKEN = "broken"
    TIMEOUT = "timeout"
    PROTOCOL = "protocol"
    MISSING = "missing"
    OVERFLOW = "overflow"
    REFUSED = "refused"
    # Of this request a part that another target may take, or that can be left out.
    UNSUITED = "unsuited"
    FILTERED = "filtered"
    INEXPRESSIBLE = "inexpressible"
    # A limit of ours for this target; the caller left.
    LIMITED = "limited"
    CANCELLED = "cancelled"
    # The time for the whole request is over: whose turn it was is not to blame.
    EXPIRED = "expired"


_OF_KIND: Final[dict[FaultKind, Outcome]] = {
    FaultKind.AUTH: Outcome.AUTH,
    FaultKind.FORBIDDEN: Outcome.FORBIDDEN,
    FaultKind.PAYMENT: Outcome.QUOTA,
    FaultKind.RATE_LIMIT: Outcome.RATE,
    FaultKind.OVERLOADED: Outcome.OVERLOAD,
    FaultKind.UPSTREAM: Outcome.OVERLOAD,
    FaultKind.INTERNAL: Outcome.OVERLOAD,
    FaultKind.TIMEOUT: Outcome.TIMEOUT,
    FaultKind.CONTEXT_OVERFLOW: Outcome.OVERFLOW,
    FaultKind.NOT_FOUND: Outcome.MISSING,
    FaultKind.METHOD: Outcome.MISSING,
}
_OF_CODE: Final[dict[str, Outcome]] = {
    "upstream_unreachable": Outcome.NETWORK,
    "upstream_address_refused": Outcome.NETWORK,
    "upstream_broken": Outcome.BROKEN,
    "upstream_redirected": Outcome.PROTOCOL,
    "upstream_too_large": Outcome.PROTOCOL,
    "upstream_unreadable": Outcome.PROTOCOL,
    "stream_truncated": Outcome.BROKEN,
    "credential_unavailable": Outcome.UNAVAILABLE,
    mending.SIGNATURE: Outcome.UNSUITED,
    mending.STRICT: Outcome.UNSUITED,
    mending.EFFORT: Outcome.UNSUITED,
}
# The vendors' words for "our safety system did not like this": no cure elsewhere is looked for.
_FILTER_WORDS: Final = ("content_filter", "content_policy", "safety", "moderation")


def classify(fault: Fault) -> Outcome:
    """`fault` as the vendor's codec judged it, before it is made neutral for the client."""
    known = _OF_CODE.get(fault.code)
    if known is not None:
        return known
    found = _OF_KIND.get(fault.kind)
    if found is not None:
        return found
    word = (fault.upstream_code or "").lower()
    return Outcome.FILTERED if any(part in word for part in _FILTER_WORDS) else Outcome.REFUSED


def matching_rule(
    rules: Iterable[ErrorRule], fault: Fault, upstream_status: int
) -> ErrorRule | None:
    """The first rule that fits the answer."""
    text = ""
    for rule in rules:
        if rule.status and rule.status != upstream_status:
            continue
        if rule.contains:
            text = text or f"{fault.upstream_code or ''} {fault.message}".lower()
            if rule.contains not in text:
                continue
        return rule
    return None
