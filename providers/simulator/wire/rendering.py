"""Renders events with our own client-facing codecs, for the wires whose clients we also serve.

Only the encoding is shared with the gateway; what a vendor accepts is checked independently.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from controlplane.kit import json
from providers.protocols.canonical import Event, Request
from providers.protocols.codec import ClientCodec, Reply
from providers.simulator.asked import Ask


def reply(
    ask: Ask,
    dialect: str,
    *,
    include_usage: bool = True,
    stream: bool = False,
    uses_legacy_functions: bool = False,
) -> Reply:
    asked = Request(
        model=ask.model,
        dialect=dialect,
        stream=stream,
        include_usage=include_usage,
        uses_legacy_functions=uses_legacy_functions,
    )
    return Reply(request=asked, id=ask.id, created=ask.created)


def whole(
    codec: ClientCodec, ask: Ask, events: Iterable[Event], *, uses_legacy_functions: bool = False
) -> bytes:
    asked = reply(ask, codec.slug, uses_legacy_functions=uses_legacy_functions)
    return json.dumps(codec.encode_answer(events, asked).body)


def pieces(
    codec: ClientCodec,
    ask: Ask,
    events: Iterable[Event],
    *,
    include_usage: bool = True,
    uses_legacy_functions: bool = False,
) -> Iterator[bytes]:
    """One piece per event that says something."""
    asked = reply(
        ask,
        codec.slug,
        include_usage=include_usage,
        stream=True,
        uses_legacy_functions=uses_legacy_functions,
    )
    encoder = codec.stream_encoder(asked)
    for event in events:
        if piece := encoder.feed(event):
            yield piece
