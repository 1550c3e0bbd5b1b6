"""Headers of answers: ours, and the few of the upstream's that may pass."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final

# By allow-list: everything else of the upstream stays behind (cookies, organisations …).
_PASSED: Final = (
    "retry-after",
    "retry-after-ms",
    "x-should-retry",
    "openai-processing-ms",
)
_PASSED_PREFIXES: Final = ("x-ratelimit-", "anthropic-ratelimit-")
RATE_LIMITS: Final = tuple(prefix.encode() for prefix in _PASSED_PREFIXES)


def json_headers(request_id: str) -> list[tuple[bytes, bytes]]:
    return [
        (b"content-type", b"application/json"),
        (b"x-request-id", request_id.encode("latin-1")),
        (b"cache-control", b"no-store"),
    ]


def sse_headers(request_id: str) -> list[tuple[bytes, bytes]]:
    return [
        (b"content-type", b"text/event-stream; charset=utf-8"),
        (b"x-request-id", request_id.encode("latin-1")),
        (b"cache-control", b"no-cache"),
        (b"x-accel-buffering", b"no"),
    ]


# What an endpoint beside conversations may answer with. Anything else, a page above all, is no
# answer of such an endpoint.
_MEDIA: Final = re.compile(
    r"(?:application/(?:json|octet-stream|x-subrip)|text/(?:plain|vtt|event-stream)"
    r"|(?:audio|image|video)/[a-z0-9.+-]{1,60})\Z"
)


def media_type(upstream: Mapping[str, str]) -> str:
    """The media type of an upstream's answer; empty when it is none that may pass."""
    for name, value in upstream.items():
        if name.lower() == "content-type":
            found = value.partition(";")[0].strip().lower()
            return found if _MEDIA.match(found) else ""
    return "application/json"


def media_headers(request_id: str, media_type: str) -> list[tuple[bytes, bytes]]:
    """Bytes of somebody else's making: browsers must take them for what they are called."""
    charset = "; charset=utf-8" if media_type.startswith("text/") else ""
    return [
        (b"content-type", (media_type + charset).encode("latin-1")),
        (b"x-request-id", request_id.encode("latin-1")),
        (b"cache-control", b"no-store"),
        (b"x-content-type-options", b"nosniff"),
        (b"x-accel-buffering", b"no"),
    ]


def passed_on(upstream: Mapping[str, str]) -> Iterable[tuple[bytes, bytes]]:
    """Rate-limit and retry headers of the upstream."""
    for name, value in upstream.items():
        lowered = name.lower()
        if lowered in _PASSED or lowered.startswith(_PASSED_PREFIXES):
            yield lowered.encode("latin-1"), value.encode("latin-1", "replace")


# Of the caller's own headers only these reach an upstream, and only one that speaks the
# caller's dialect: which version of it and which betas the body was written for.
_DIALECT_HEADER: Final = re.compile(rb"[A-Za-z0-9][A-Za-z0-9 ,._-]{0,999}\Z")
_DIALECT_NAMES: Final = {
    b"anthropic-version": "anthropic-version",
    b"anthropic-beta": "anthropic-beta",
    b"openai-beta": "OpenAI-Beta",
}


def dialect_headers(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    return {
        _DIALECT_NAMES[name]: value.decode("ascii")
        for name, value in headers
        if name in _DIALECT_NAMES and _DIALECT_HEADER.match(value)
    }


def merged(*layers: Mapping[str, str]) -> dict[str, str]:
    """Headers of one upstream request, names compared without case, later layers winning.
    Betas add up: the body, its caller and the provider may each need some."""
    found: dict[str, tuple[str, str]] = {}
    for layer in layers:
        for name, value in layer.items():
            lowered = name.lower()
            if lowered == "anthropic-beta" and lowered in found:
                betas = [*found[lowered][1].split(","), *value.split(",")]
                value = ",".join(dict.fromkeys(beta.strip() for beta in betas if beta.strip()))
            found[lowered] = (name, value)
    return dict(found.values())
