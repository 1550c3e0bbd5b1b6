"""Endpoints beside conversations: read for routing, passed on to who has them."""

from __future__ import annotations

from typing import Final

from controlplane.proxy.errors import EndpointNotOffered
from controlplane.proxy.exchange import Exchange
from providers.catalog.pricing import Units
from providers.protocols import passthrough
from providers.protocols.openai_completions.passthrough import Measured, is_multipart
from providers.routing.table import Target

# OpenAI's clients may leave the model to the vendor. There are many vendors here, so that only
# a default which OpenAI itself documents can stand in (seen 2026-11).
_DEFAULT_MODELS: Final = {"moderations": "omni-moderation-latest"}


def read(exchange: Exchange) -> None:
    """Sets model and stream before routing, and puts a form where no one takes it for JSON."""
    kind = exchange.header(b"content-type")
    if is_multipart(kind):
        exchange.form, exchange.body = exchange.body, b"{}"
    if exchange.model is not None:
        return
    endpoint = exchange.route.endpoint
    view = passthrough.view(endpoint, kind, exchange.form or exchange.body)
    model = view.model or _DEFAULT_MODELS.get(endpoint)
    if model is None:
        raise EndpointNotOffered(
            "Name a model: there are several providers here and no common default.", param="model"
        )
    exchange.model = model
    exchange.stream = view.stream
    exchange.asked = Units(
        images=view.inputs if endpoint.startswith("images/") else 0,
        searches=1 if endpoint == "rerank" else 0,
        characters=view.characters,
    )


def used(exchange: Exchange) -> Units:
    """What the answer was billed by, beside tokens: as its vendor counted, else as asked for where
    that cannot differ."""
    measured = exchange.seen.measured
    return Units(
        images=measured.images if measured is not None else 0,
        audio_seconds=measured.audio_seconds if measured is not None else 0.0,
        searches=(measured.search_units if measured is not None else 0) or exchange.asked.searches,
        characters=exchange.asked.characters,
    )


def able(exchange: Exchange, targets: tuple[Target, ...]) -> tuple[Target, ...]:
    """Those of the targets that can have the endpoint."""
    endpoint = exchange.route.endpoint
    found = tuple(t for t in targets if passthrough.is_served(endpoint, t.spec.protocol))
    if not found:
        raise EndpointNotOffered(
            f"The model {(exchange.model or '')[:200]!r} is not served by a provider that has "
            f"the endpoint {endpoint!r}. Use a model made for it.",
            param="model",
        )
    return found


def call(exchange: Exchange, target: Target) -> passthrough.Call:
    """The request for one target, in the caller's own bytes."""
    kind = exchange.header(b"content-type") if exchange.form else "application/json"
    return passthrough.call(
        exchange.route.endpoint,
        exchange.form or exchange.body,
        kind,
        target.spec,
        stream=bool(exchange.stream),
    )


def measure(exchange: Exchange, answer: bytes) -> Measured:
    """What a whole JSON answer says it used."""
    return passthrough.measure(exchange.route.endpoint, "application/json", answer)


def may_answer_with(endpoint: str, media_type: str) -> bool:
    """Whether this is an answer of the endpoint at all: half of the mistakes in a base URL show
    as a page with status 200."""
    if media_type in ("application/json", "text/event-stream"):
        return endpoint != "audio/speech" or media_type == "text/event-stream"
    if endpoint == "audio/speech":
        return media_type.startswith("audio/") or media_type == "application/octet-stream"
    if endpoint in ("audio/transcriptions", "audio/translations"):
        return media_type in ("text/plain", "text/vtt", "application/x-subrip")
    return False
