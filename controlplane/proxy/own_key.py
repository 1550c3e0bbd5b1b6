"""A provider's key that the caller brings with a request, where the tenant allows that.

It goes to one provider, serves this request and is kept nowhere: not in the cache, the ledger, the
decisions or the log. What happens to it tells nothing about our own credentials, so nothing of it
is remembered either. The vendor bills its owner: the ledger counts tokens, and a cost of 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from controlplane.kit.errors import FaultKind, GatewayError
from controlplane.kit.secret import Secret
from controlplane.proxy.errors import DoorError
from controlplane.proxy.exchange import Exchange
from controlplane.proxy.faults import UpstreamFault
from providers.credentials.resolution import source_of
from providers.routing.state import Routing
from providers.routing.table import CredentialRef, RoutingRules, Target

HEADER: Final = b"x-provider-key"
SOURCE_HEADER: Final = b"x-route-key-source"
CREDENTIAL_HEADER: Final = b"x-route-credential"
# What the ledger calls it.
PRICE_BASIS: Final = "own_key"
_LONGEST: Final = 4_096
_NAME: Final = "x-provider-key"


class BadOwnKey(DoorError):
    kind = FaultKind.BAD_REQUEST
    code = "bad_provider_key"


class OwnKeyForbidden(DoorError):
    kind = FaultKind.FORBIDDEN
    code = "provider_key_not_allowed"


class OwnKeyRefused(DoorError):
    """By the provider, and not for want of trying: the caller's key is the caller's to mend."""

    kind = FaultKind.AUTH
    code = "provider_key_refused"


def read(exchange: Exchange, rules: RoutingRules) -> None:
    """Sets exchange.own_key and .apart where the request brings a key. Raises BadOwnKey,
    OwnKeyForbidden."""
    sent = {value for name, value in exchange.headers if name == HEADER}
    if not sent:
        return
    if not rules.allows_own_keys:
        raise OwnKeyForbidden(
            "Your tenant does not allow keys of your own: leave out x-provider-key, or ask an "
            "admin to allow them.",
            param=_NAME,
        )
    value = sent.pop()
    if sent:
        raise BadOwnKey("Send x-provider-key once.", param=_NAME)
    text = value.decode("latin-1")
    if not 0 < len(text) <= _LONGEST or not (text.isascii() and text.isprintable()) or " " in text:
        raise BadOwnKey(
            f"x-provider-key holds the provider's key and nothing else: up to {_LONGEST:,} "
            "characters, without blanks or a word such as Bearer.",
            param=_NAME,
        )
    exchange.own_key, exchange.apart = Secret(text), Routing()


def told(exchange: Exchange, failure: GatewayError) -> GatewayError:
    """The failure as it concerns this caller: that the provider refused their own key is not for an
    administrator to mend."""
    if exchange.own_key is None or not isinstance(failure, UpstreamFault):
        return failure
    match failure.original.kind:
        case FaultKind.AUTH:
            sentence = "The provider refused the key in x-provider-key: check it."
        case FaultKind.FORBIDDEN:
            sentence = "The provider does not let the key in x-provider-key do this."
        case FaultKind.PAYMENT:
            sentence = "The account of the key in x-provider-key has nothing left to pay with."
        case _:
            return failure
    refused = OwnKeyRefused(sentence, param=_NAME)
    refused.kind = failure.original.kind
    return refused


def source_headers(exchange: Exchange) -> list[tuple[bytes, bytes]]:
    made = exchange.decision.tries[-1]
    if not _may_know(exchange, made.target):
        return []
    shown = [(SOURCE_HEADER, source_of(made.credential).encode())]
    if exchange.is_staff and made.credential is not None and made.credential.label:
        label = made.credential.label.encode("ascii", "backslashreplace")
        shown.append((CREDENTIAL_HEADER, label))
    return shown


def shown_source(
    exchange: Exchange, target: Target, credentials: Sequence[CredentialRef]
) -> str | None:
    """None = the platform's own matter."""
    if not _may_know(exchange, target):
        return None
    return source_of(credentials[0] if credentials else None)


def _may_know(exchange: Exchange, target: Target) -> bool:
    """Where a key is kept is known to those whose it is, and to staff."""
    if exchange.own_key is not None or exchange.is_staff:
        return True
    return target.endpoint.owner == "tenant"
