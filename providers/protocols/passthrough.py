"""Endpoints beside conversations: who has them, the call that reaches them, what they used.

Nothing is translated. A vendor has an endpoint when its protocol is of the same family as the
caller's dialect; everyone else is left out before the first attempt.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

import msgspec

from controlplane.kit.json import dumps, loads_dict
from providers.protocols import registry
from providers.protocols.canonical import ModelSpec
from providers.protocols.codec import Meter, StreamFilter, UpstreamCall
from providers.protocols.google_generative_ai import embedding
from providers.protocols.openai_completions import passthrough as openai
from providers.protocols.openai_completions.meter import UsageChunkFilter, needs_usage_filter
from providers.protocols.openai_completions.passthrough import Endpoint, Measured, View
from providers.protocols.openai_completions.splice import Object

__all__ = [
    "Call",
    "Measured",
    "View",
    "beside",
    "call",
    "is_served",
    "measure",
    "vendor_name",
    "view",
]

# Protocol -> what stands between the base URL and the endpoint's own path.
_OPENAI_FAMILY: Final[Mapping[str, str]] = MappingProxyType(
    {
        "openai-completions": "",
        "openai-responses": "",
        "azure-openai-responses": "",
        "mistral-conversations": "/v1",
    }
)
_GOOGLE_FAMILY: Final = frozenset({"google-generative-ai", "google-vertex"})
_JSON: Final = "application/json"


class Call:
    """One request to one vendor, and how to read what comes back."""

    __slots__ = ("call", "content", "content_type", "endpoint", "meter", "sieve")

    def __init__(
        self,
        *,
        endpoint: str,
        call: UpstreamCall,
        content: bytes,
        content_type: str,
        sieve: StreamFilter | None = None,
    ) -> None:
        self.endpoint = endpoint
        self.call = call
        self.content = content
        self.content_type = content_type
        self.meter: Meter = openai.PassthroughMeter(
            Endpoint(endpoint) if endpoint not in embedding.ACTIONS else Endpoint.EMBEDDINGS
        )
        self.sieve = sieve


def is_served(endpoint: str, protocol: str) -> bool:
    """Whether a vendor that speaks `protocol` can have this endpoint at all."""
    if endpoint in embedding.ACTIONS:
        return protocol in _GOOGLE_FAMILY
    return protocol in _OPENAI_FAMILY


def view(endpoint: str, content_type: str, raw: bytes) -> View:
    """What routing must know. Raises LocalProtocolError naming the field."""
    return openai.view(Endpoint(endpoint), content_type, raw)


def call(endpoint: str, raw: bytes, content_type: str, model: ModelSpec, *, stream: bool) -> Call:
    """The caller's own bytes with the vendor's name of the model."""
    if endpoint in embedding.ACTIONS:
        path = registry.codec(model.protocol).path(model, endpoint)
        made = UpstreamCall(path=path, body={})
        content = embedding.patched(loads_dict(raw), model)
        return Call(endpoint=endpoint, call=made, content=content, content_type=_JSON)
    made = msgspec.structs.replace(beside(model, Endpoint(endpoint).path), stream=stream)
    content = openai.with_model(raw, content_type, vendor_name(model))
    sieve: StreamFilter | None = None
    if endpoint == Endpoint.COMPLETIONS and stream:
        body = loads_dict(raw)
        if needs_usage_filter(body, model):
            content = _with_usage(content, body.get("stream_options"))
            sieve = UsageChunkFilter()
    return Call(
        endpoint=endpoint, call=made, content=content, content_type=content_type, sieve=sieve
    )


def beside(model: ModelSpec, path: str) -> UpstreamCall:
    """Where a vendor of the OpenAI family has `path` beside this model's conversations."""
    query: dict[str, str] = {}
    if model.protocol == "azure-openai-responses":
        query = {"api-version": model.endpoint.get("api_version") or "v1"}
    return UpstreamCall(path=_OPENAI_FAMILY[model.protocol] + path, body={}, query=query)


def vendor_name(model: ModelSpec) -> str:
    """What the vendor calls the model in a body."""
    if model.protocol == "azure-openai-responses":
        return model.endpoint.get("deployment") or model.id
    return model.id


def _with_usage(content: bytes, options: Any) -> bytes:
    """Legacy completions count only when asked to; the extra chunk is taken out again."""
    patch = Object(content)
    kept = options if type(options) is dict else {}
    patch.set("stream_options", dumps({**kept, "include_usage": True}))
    return patch.render()


def measure(endpoint: str, content_type: str, body: bytes) -> Measured:
    """What a whole answer says it used."""
    if endpoint in embedding.ACTIONS:
        return Measured(usage=embedding.usage(body))
    return openai.measure(Endpoint(endpoint), content_type, body)
