"""The id of a conversation, for vendors who insist on one (quirk `session_header`)."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from typing import Any, Final

from controlplane.kit import json
from controlplane.proxy.exchange import Exchange

_HARMLESS: Final = re.compile(r"[A-Za-z0-9._:-]{1,128}\Z")
# Where a dialect has the items of a conversation, oldest first.
_ITEMS: Final = ("messages", "input", "contents", "prompt")


def session_headers(exchange: Exchange, name: str) -> dict[str, str]:
    """The caller's own id where it sends one in this header; else one that stays the same while a
    conversation grows: it is made of who asks and of how the conversation began."""
    if not name:
        return {}
    offered = exchange.header(name.lower().encode("latin-1"))
    if _HARMLESS.match(offered):
        return {name: offered}
    digest = hashlib.sha256(exchange.tenant.encode())
    for part in _beginning(exchange.body):
        digest.update(b"\0" + part)
    return {name: digest.hexdigest()[:32]}


def _beginning(body: bytes) -> Iterable[bytes]:
    try:
        asked = json.loads_dict(body)
    except json.InvalidJSON:
        return
    key = asked.get("prompt_cache_key")
    if isinstance(key, str) and key:
        yield key.encode()
        return
    for name in _ITEMS:
        found: Any = asked.get(name)
        if isinstance(found, list):
            # The first thing that a person said: system texts may hold the time of day.
            said = (one for one in found if isinstance(one, dict) and one.get("role") == "user")
            found = next(said, found[:1])
        if found:
            yield json.dumps(found)
            return
