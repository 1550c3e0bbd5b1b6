"""Slug to codec: an explicit table, loaded one protocol at a time.

A deployment adds a protocol, or replaces one, from an installed package: an entry point in the
group `provider_control_plane.protocols`, named for the slug, that leads to an object with the
same methods. The last registration of a slug wins, and an installed one wins over ours.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Final, Protocol, cast

from controlplane.kit.errors import FaultKind
from controlplane.kit.json import JSONDict
from providers.protocols.canonical import ModelSpec, Request
from providers.protocols.codec import (
    ClientCall,
    ClientCodec,
    RelayCodec,
    UpstreamCall,
    UpstreamCodec,
)
from providers.protocols.errors import ProtocolError

GROUP: Final = "provider_control_plane.protocols"

# Every module exports CODEC.
BUILT_IN: Final[dict[str, str]] = {
    "anthropic-messages": "providers.protocols.anthropic_messages",
    "azure-openai-responses": "providers.protocols.azure_openai_responses",
    "bedrock-converse-stream": "providers.protocols.bedrock_converse_stream",
    "google-gemini-cli": "providers.protocols.google_gemini_cli",
    "google-generative-ai": "providers.protocols.google_generative_ai",
    "google-vertex": "providers.protocols.google_vertex",
    "kiro-generate-assistant": "providers.protocols.kiro_generate_assistant",
    "mistral-conversations": "providers.protocols.mistral_conversations",
    "openai-codex-responses": "providers.protocols.openai_codex_responses",
    "openai-completions": "providers.protocols.openai_completions",
    "openai-responses": "providers.protocols.openai_responses",
}

_UPSTREAM: Final = ("encode_request", "decode_answer", "stream_decoder", "decode_error")
_CLIENT: Final = ("decode_request", "encode_answer", "stream_encoder", "encode_error")
_RELAY: Final = ("relay_request", "stream_meter", "answer_usage")
_COUNTER: Final = ("relay_count_request", "decode_count_request", "encode_count")


class UnknownProtocol(ProtocolError):
    """No codec of that slug, or not the half that was asked for: a mistake in the catalog."""

    kind = FaultKind.INTERNAL
    code = "unknown_protocol"


class TokenCounter(Protocol):
    """A dialect that can ask how many tokens a request has."""

    def decode_count_request(self, body: JSONDict, call: ClientCall) -> Request: ...
    def encode_count(self, tokens: int) -> JSONDict: ...
    def relay_count_request(
        self, raw: bytes, body: JSONDict, model: ModelSpec
    ) -> tuple[UpstreamCall, bytes]: ...


@cache
def installed() -> dict[str, EntryPoint]:
    """Protocols of installed packages by slug."""
    return {entry.name: entry for entry in entry_points(group=GROUP)}


def slugs() -> tuple[str, ...]:
    """Every protocol there is, sorted. Loads none."""
    return tuple(sorted({*BUILT_IN, *installed()}))


@cache
def codec(slug: str) -> Any:
    """The codec object of a protocol, imported on first use. Raises UnknownProtocol."""
    entry = installed().get(slug)
    if entry is not None:
        return entry.load()
    module = BUILT_IN.get(slug)
    if module is None:
        raise UnknownProtocol(
            f"There is no protocol {slug[:100]!r}. Known: {', '.join(slugs())}. "
            f"An installed package can add one through the entry point group {GROUP}."
        )
    return import_module(module).CODEC


def upstream(slug: str) -> UpstreamCodec:
    """The protocol as spoken to a vendor."""
    return cast(UpstreamCodec, _half(slug, _UPSTREAM, "cannot be spoken to a provider"))


def client(slug: str) -> ClientCodec:
    """The protocol as spoken by our callers."""
    return cast(ClientCodec, _half(slug, _CLIENT, "is not a dialect that clients can speak"))


def relay(slug: str) -> RelayCodec:
    """The protocol with the same dialect on both sides."""
    return cast(RelayCodec, _half(slug, _RELAY, "cannot be relayed"))


def counter(slug: str) -> TokenCounter:
    """The dialect's way to count tokens."""
    return cast(TokenCounter, _half(slug, _COUNTER, "has no way to count tokens"))


@cache
def relay_for(dialect: str, slug: str) -> RelayCodec | None:
    """What passes a client's bytes on unread; None where they must be translated.

    A protocol relays its own dialect; variants name others in `relays` (Vertex takes Gemini
    bodies, Azure takes Responses bodies).
    """
    found = codec(slug)
    if not _has(found, _RELAY):
        return None
    dialects: frozenset[str] = getattr(found, "relays", frozenset({slug}))
    return cast(RelayCodec, found) if dialect in dialects else None


def forget() -> None:
    """Look for installed packages again."""
    installed.cache_clear()
    codec.cache_clear()
    relay_for.cache_clear()


def _half(slug: str, methods: tuple[str, ...], complaint: str) -> Any:
    found = codec(slug)
    if not _has(found, methods):
        raise UnknownProtocol(f"The protocol {slug!r} {complaint}.")
    return found


def _has(found: Any, methods: tuple[str, ...]) -> bool:
    return all(hasattr(found, method) for method in methods)
