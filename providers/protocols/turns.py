"""What some vendors want told in headers: who wrote last, and whether an image is shown (quirks
`initiator_header` and `vision_header`). Read from the request as it is sent, and never forced: who
says `agent` for a person's question uses what was not paid for."""

from __future__ import annotations

from typing import Any, Final

from controlplane.kit import json
from providers.protocols.quirks import Quirks

_IMAGES: Final = frozenset({"image", "image_url", "input_image"})
_RESULTS: Final = frozenset({"tool_result"})


def turn_headers(payload: object, quirks: Quirks) -> dict[str, str]:
    """Empty where the provider wants none, or the payload is no conversation in memory."""
    if not (quirks.initiator_header or quirks.vision_header) or not isinstance(payload, bytes):
        return {}
    try:
        body = json.loads_dict(payload)
    except json.InvalidJSON:
        return {}
    turns = body.get("messages", body.get("input"))
    if not turns:
        return {}
    found = {}
    if quirks.initiator_header:
        found[quirks.initiator_header] = "user" if _is_a_persons(turns) else "agent"
    if quirks.vision_header and _shows_image(turns):
        found[quirks.vision_header] = "true"
    return found


def _is_a_persons(turns: Any) -> bool:
    last = turns[-1] if isinstance(turns, list) else turns
    if not isinstance(last, dict):
        return True
    if last.get("role") != "user":
        return False
    parts = last.get("content")
    if not isinstance(parts, list):
        return True
    kinds = {part.get("type") if isinstance(part, dict) else "" for part in parts}
    return not kinds or not kinds <= _RESULTS


def _shows_image(value: Any) -> bool:
    """Also inside the result of a tool."""
    if isinstance(value, list):
        return any(map(_shows_image, value))
    if not isinstance(value, dict):
        return False
    return value.get("type") in _IMAGES or _shows_image(
        value.get("content", value.get("output", ()))
    )
