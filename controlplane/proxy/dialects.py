"""The codec that speaks with this caller: its dialect, and the form of it that was asked for."""

from __future__ import annotations

from urllib.parse import parse_qs

from controlplane.proxy.exchange import Exchange
from controlplane.proxy.routes import GEMINI
from providers.protocols import registry
from providers.protocols.codec import ClientCodec, RelayCodec
from providers.protocols.google_generative_ai import ARRAY_CODEC


def wants_array(exchange: Exchange) -> bool:
    """A Gemini stream without `alt=sse` is one JSON array, delivered in pieces."""
    if exchange.route.dialect != GEMINI or not exchange.stream:
        return False
    return parse_qs(exchange.query.decode("latin-1")).get("alt", [""])[-1] != "sse"


def client_of(exchange: Exchange) -> ClientCodec:
    if wants_array(exchange):
        return ARRAY_CODEC
    return registry.client(exchange.route.dialect)


def relay_of(exchange: Exchange, protocol: str) -> RelayCodec | None:
    """What passes the bytes on unread; None where they must be translated."""
    if wants_array(exchange):
        return ARRAY_CODEC if protocol == GEMINI else None
    return registry.relay_for(exchange.route.dialect, protocol)
