"""The upstream side of the table: one model for each protocol, and the vendor that is played.

The models are what a catalog would say of a current flagship of that vendor; names are such as
the simulated vendors know.
"""

from __future__ import annotations

import importlib
import re
from functools import cache
from typing import Final, cast

from controlplane.kit import json
from controlplane.kit.json import JSONDict
from providers.protocols import registry
from providers.protocols.canonical import Event, ModelSpec
from providers.protocols.codec import UpstreamCall
from providers.protocols.quirks import Quirks
from providers.simulator import app
from providers.simulator.asked import Ask
from providers.simulator.conformance.played import Played
from providers.simulator.http import Request as HttpRequest
from providers.simulator.wire import Wire, WireRoute
from providers.simulator.world import World

_LEVELS: Final[dict[str, str | None]] = {"off": "none", "xhigh": "xhigh", "minimal": None}
_GOOGLE: Final = Quirks(
    supports_function_call_ids=True,
    supports_images_in_tool_results=True,
    requires_thought_signature=True,
    thinking_control="level",
)
_OPENAI: Final = Quirks(
    supports_strict_tools=True, supports_grammar_tools=True, supports_prompt_cache_key="enabled"
)

MODELS: Final[dict[str, ModelSpec]] = {
    model.protocol: model
    for model in (
        ModelSpec(
            id="sim-gpt",
            protocol="openai-completions",
            reasoning=True,
            levels=_LEVELS,
            max_output_tokens=64_000,
            quirks=_OPENAI,
        ),
        ModelSpec(
            id="sim-gpt",
            protocol="openai-responses",
            reasoning=True,
            levels=_LEVELS,
            max_output_tokens=64_000,
            quirks=_OPENAI,
        ),
        ModelSpec(
            id="sim-gpt",
            protocol="azure-openai-responses",
            reasoning=True,
            levels=_LEVELS,
            max_output_tokens=64_000,
            endpoint={"api_version": "v1"},
            quirks=_OPENAI,
        ),
        ModelSpec(
            id="sim-codex",
            protocol="openai-codex-responses",
            reasoning=True,
            levels=_LEVELS,
            max_output_tokens=64_000,
            quirks=_OPENAI,
        ),
        ModelSpec(
            id="sim-claude",
            protocol="anthropic-messages",
            reasoning=True,
            levels={"minimal": None},
            max_output_tokens=64_000,
            quirks=Quirks(
                supports_strict_tools=True,
                supports_output_format=True,
                supports_top_p_with_temperature=False,
            ),
        ),
        ModelSpec(
            id="sim-gemini-3",
            protocol="google-generative-ai",
            reasoning=True,
            levels={"off": None},
            max_output_tokens=65_536,
            quirks=_GOOGLE,
        ),
        ModelSpec(
            id="sim-gemini-3",
            protocol="google-vertex",
            reasoning=True,
            levels={"off": None},
            max_output_tokens=65_536,
            endpoint={"project": "sim-project", "location": "us-central1"},
            quirks=_GOOGLE,
        ),
        # One of the family before: budgets, no ids, no pictures in results.
        ModelSpec(
            id="sim-gemini-2.5",
            protocol="google-gemini-cli",
            reasoning=True,
            max_output_tokens=65_536,
            endpoint={"project": "sim-project"},
            quirks=Quirks(schema_dialect="openapi"),
        ),
        ModelSpec(
            id="sim-claude",
            protocol="bedrock-converse-stream",
            reasoning=True,
            levels={"minimal": None},
            max_output_tokens=64_000,
            quirks=Quirks(is_claude=True, supports_cache_points=True, supports_strict_tools=True),
        ),
        ModelSpec(
            id="sim-mistral",
            protocol="mistral-conversations",
            reasoning=True,
            levels={"off": "none", "minimal": None, "low": None, "medium": None, "high": "high"},
            max_output_tokens=32_000,
        ),
        ModelSpec(
            id="sim-kiro",
            protocol="kiro-generate-assistant",
            reasoning=True,
            max_output_tokens=32_000,
            endpoint={"profile_arn": "arn:aws:codewhisperer:us-east-1:123456789012:profile/SIM"},
        ),
    )
}
# Protocols of installed packages, as they are played.
ADDED: Final[dict[str, Played]] = {}


def look_for_added() -> None:
    """The same suite runs on protocols of installed packages that say how they are played."""
    for slug in registry.slugs():
        played = getattr(registry.codec(slug), "played", None) if slug not in MODELS else None
        if played is not None:
            ADDED[slug] = played
            MODELS[slug] = played.model


look_for_added()
UPSTREAMS: Final = tuple(MODELS)


def known_as(slug: str) -> str:
    """Under which name the tables of reasons know it."""
    return ADDED[slug].like if slug in ADDED else slug


# What stands before a call's path in the catalog's base URL, where that has a path.
_BASES: Final = {
    "openai-completions": "/v1",
    "openai-responses": "/v1",
    "azure-openai-responses": "/openai/v1",
    "google-generative-ai": "/v1beta",
}


class NotPlayed(LookupError):
    """The simulation has no vendor of this protocol."""


def _wires(slug: str) -> tuple[Wire, ...]:
    return ADDED[slug].wires if slug in ADDED else _built_in(slug)


@cache
def _built_in(slug: str) -> tuple[Wire, ...]:
    return tuple(
        cast(Wire, wire)
        for modules in app.WIRES.values()
        for name in modules
        for wire in importlib.import_module(f"providers.simulator.wire.{name}").WIRES
        if wire.slug == slug
    )


def _base(slug: str) -> str:
    return ADDED[slug].base_path if slug in ADDED else _BASES.get(slug, "")


def _pattern(route: WireRoute) -> re.Pattern[str]:
    text = re.escape(route.pattern)
    text = re.sub(r"\\\{(\w+)(?:\\\.){3}\\\}", r"(?P<\1>.+)", text)
    return re.compile(re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>[^/]+)", text) + r"\Z")


def vendor(slug: str, path: str, *, stream: bool, query: str = "") -> tuple[Wire, dict[str, str]]:
    """The played vendor that answers this call, and what its path says."""
    full = _base(slug) + path
    for wire in _wires(slug):
        for route in wire.routes:
            if route.operation != "chat" or route.stream not in (None, stream):
                continue
            found = _pattern(route).match(full)
            if found and (not route.query or route.query in query):
                return wire, found.groupdict()
    raise NotPlayed(f"No simulated vendor answers {slug} at {full} (stream: {stream}).")


def received(call: UpstreamCall, slug: str) -> tuple[Wire, HttpRequest, JSONDict]:
    """The call as the vendor gets it."""
    query = "&".join(f"{name}={value}" for name, value in call.query.items())
    wire, params = vendor(slug, call.path, stream=call.stream, query=query)
    raw = json.dumps(call.body)
    request = HttpRequest(
        method="POST",
        path=_base(slug) + call.path,
        headers={"content-type": "application/json", **call.headers},
        body=raw,
        query_string=query,
        params=params,
    )
    return wire, request, json.loads_dict(raw)


def checked(call: UpstreamCall, slug: str, world: World | None = None) -> Ask:
    """What the vendor understands. Raises Refused where it would answer 400."""
    wire, request, body = received(call, slug)
    return wire.read(request, body, world or World())


def played(call: UpstreamCall, slug: str, ask: Ask, events: list[Event], *, stream: bool) -> bytes:
    """The vendor's bytes for these events."""
    wire, _, body = received(call, slug)
    if stream:
        return b"".join(wire.stream(ask, body, events))
    return wire.answer(ask, body, events)
