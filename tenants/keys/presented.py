"""The one place that reads a caller's credential from a request. Pure.

Every dialect's way of sending a key is accepted on every path, so that a client library works
unchanged; whatever is doubtful is refused. There is no anonymous caller.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final
from urllib.parse import parse_qsl

from tenants.errors import InvalidKey

# Names as they travel. A spelling with underscores is another header here: servers that treat
# the two alike let a caller write what a proxy in front meant to remove.
_PLAIN: Final = frozenset({b"x-api-key", b"api-key", b"x-goog-api-key"})
_AUTHORIZATION: Final = b"authorization"
_LONGEST: Final = 512

_NONE: Final = "Send an API key: Authorization: Bearer pcp_live_…"
_UNREADABLE: Final = "This is no API key: send Authorization: Bearer pcp_live_…"
_SEVERAL: Final = "The request carries different API keys: send one."


def presented_key(
    headers: Iterable[tuple[bytes, bytes]], query: bytes, *, allow_query: bool
) -> str:
    """The one key this request carries. Raises InvalidKey when there is none, when it cannot be
    a key, or when two places disagree.

    `allow_query`: this path's clients send `?key=` (Google's do); elsewhere it is not read."""
    found: bytes | None = None
    for name, value in headers:
        lowered = name.lower()
        if lowered == _AUTHORIZATION:
            key = _bearer(value)
        elif lowered in _PLAIN:
            key = value.strip(b" \t")
        else:
            continue
        found = _same(found, key)
    if allow_query and query:
        # Latin-1 gives every byte back as it came; parse_qsl on bytes raises for some.
        pairs = parse_qsl(query.decode("latin-1"), keep_blank_values=True, encoding="latin-1")
        for query_name, query_value in pairs:
            if query_name == "key":
                found = _same(found, query_value.encode("latin-1"))
    if found is None:
        raise InvalidKey(_NONE)
    return found.decode("ascii")


def carries_key(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Whether the request tries to send a key, good or not. Where people may also come with a
    session, this decides which of the two is asked: a bad key never falls back to the session."""
    names = {name.lower() for name, _ in headers}
    return _AUTHORIZATION in names or not names.isdisjoint(_PLAIN)


def _same(found: bytes | None, key: bytes) -> bytes:
    if not 0 < len(key) <= _LONGEST or not key.isascii() or not key.decode("ascii").isprintable():
        raise InvalidKey(_UNREADABLE if key else _NONE)
    if found is not None and found != key:
        raise InvalidKey(_SEVERAL)
    return key


def _bearer(value: bytes) -> bytes:
    scheme, _, key = value.strip(b" \t").partition(b" ")
    if scheme.lower() != b"bearer":
        raise InvalidKey(_UNREADABLE if scheme else _NONE)
    return key.strip(b" \t")
