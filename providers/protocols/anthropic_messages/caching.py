"""Cache marks: at most four, longer ones first, none where they are refused."""

from __future__ import annotations

from typing import Final

from controlplane.kit.json import JSONDict
from providers.protocols.canonical import CacheMark, ModelSpec, Request
from providers.protocols.losses import Loss, LossCode

MAX_MARKS: Final = 4

Marked = list[tuple[JSONDict, CacheMark]]


def place(
    request: Request,
    model: ModelSpec,
    *,
    system: Marked,
    tools: Marked,
    messages: Marked,
    body: JSONDict,
    losses: list[Loss],
) -> None:
    """Writes `cache_control` into the blocks of `body`, in the API's order: tools, system,
    messages."""
    retention = request.caching.retention
    # Clients can name thousands of marks; only their order matters here.
    marks = tools + system + messages
    if retention == "none":
        return
    if not model.quirks.supports_cache_control:
        if marks or retention is not None:
            losses.append(Loss("caching", LossCode.DROPPED, "no cache marks at this endpoint"))
        return
    if not marks and retention is not None:
        marks = _automatic(body, model, CacheMark(ttl="1h" if retention == "long" else None))
    if len(marks) > MAX_MARKS:
        # The last ones cover the longest prefixes; the first one is shared by most requests.
        losses.append(
            Loss("caching", LossCode.CLAMPED, f"{len(marks)} cache marks, {MAX_MARKS} are allowed")
        )
        marks = [marks[0], *marks[-(MAX_MARKS - 1) :]]
    seen_short = False
    for block, mark in marks:
        ttl = mark.ttl
        if ttl == "1h" and not model.quirks.supports_long_cache_retention:
            losses.append(Loss("caching", LossCode.CLAMPED, "one hour is not offered here"))
            ttl = None
        if ttl == "1h" and seen_short:
            losses.append(
                Loss("caching", LossCode.CLAMPED, "a longer cache mark must stand before shorter")
            )
            ttl = None
        seen_short = seen_short or ttl != "1h"
        block["cache_control"] = (
            {"type": "ephemeral"}
            if ttl is None
            else {
                "type": "ephemeral",
                "ttl": ttl,
            }
        )


def _automatic(body: JSONDict, model: ModelSpec, mark: CacheMark) -> Marked:
    """Last tool, last system block, last block of the last user turn (14.9)."""
    marks: Marked = []
    tools = body.get("tools")
    if tools and model.quirks.supports_cache_control_on_tools:
        marks.append((tools[-1], mark))
    system = body.get("system")
    if system:
        marks.append((system[-1], mark))
    for message in reversed(body["messages"]):
        if message["role"] == "user":
            marks.append((message["content"][-1], mark))
            break
    return marks
