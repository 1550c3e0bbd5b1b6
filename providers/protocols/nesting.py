"""JSON of strangers nests only so deep: what we read must be writable again (bar I6).

The reader goes deeper than the writer can, and how deep depends on who calls: without a bound,
hostile nesting would be an error of ours.
"""

from __future__ import annotations

from typing import Any

from controlplane.kit.json import MAX_DEPTH, InvalidJSON, depth_exceeds, loads
from providers.protocols.errors import RemoteProtocolError


def check(data: bytes) -> None:
    """Raises RemoteProtocolError for an upstream's JSON that nests deeper than MAX_DEPTH."""
    # Two counts clear almost every chunk.
    if data.count(b"{") + data.count(b"[") > MAX_DEPTH and depth_exceeds(data):
        raise RemoteProtocolError("The upstream sent JSON that nests too deep.")


def loads_shallow(text: str) -> Any:
    """JSON inside a string, such as a call's arguments. Raises InvalidJSON when it is too deep."""
    if text.count("{") + text.count("[") > MAX_DEPTH and depth_exceeds(
        text.encode("utf-8", "replace")
    ):
        raise InvalidJSON(f"nests deeper than {MAX_DEPTH}")
    return loads(text)
