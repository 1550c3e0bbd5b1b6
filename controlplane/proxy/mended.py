"""Asking a target once more without what it refused (see providers/protocols/mending.py)."""

from __future__ import annotations

from controlplane.kit.errors import GatewayError
from controlplane.proxy.choosing import forbidden
from controlplane.proxy.exchange import Exchange, Mending
from controlplane.proxy.faults import UpstreamFault
from providers.protocols import mending
from providers.routing.state import Routing
from providers.routing.table import Target


def mends(exchange: Exchange, error: GatewayError, target: Target) -> bool:
    """Whether this target is to be asked again, mended: once in a request, and only if the caller
    allows what is lost by it."""
    made = error.mended if isinstance(error, UpstreamFault) else None
    if made is None or (exchange.mending is not None and exchange.mending.made is not None):
        return False
    if forbidden(exchange, made.losses):
        return False
    exchange.mending = Mending(target.place, made.code, made)
    return True


def recall(exchange: Exchange, target: Target, routing: Routing) -> None:
    """What this target refused earlier in the conversation is left out from the start."""
    plan = exchange.decision.plan
    if plan is None or not plan.needs.session or exchange.mending is not None:
        return
    code = routing.cures.get((exchange.tenant, plan.needs.session, target.place))
    if code is not None:
        exchange.mending = Mending(target.place, code)


def note(exchange: Exchange, target: Target, routing: Routing) -> str:
    """After a success: the refusal that was avoided, kept for the conversation. Empty = none."""
    found, plan = exchange.mending, exchange.decision.plan
    if found is None or plan is None or found.place != target.place:
        return ""
    if plan.needs.session and mending.is_lasting(found.code):
        routing.cured(exchange.tenant, plan.needs.session, found.place, found.code)
    return found.code


def mended_payload(exchange: Exchange, target: Target, payload: bytes) -> bytes:
    found = exchange.mending
    if found is None or found.place != target.place:
        return payload
    made = found.made or mending.mended_before(found.code, payload)
    if made is None or forbidden(exchange, made.losses):
        return payload
    exchange.decision.losses += len(made.losses)
    return made.payload
