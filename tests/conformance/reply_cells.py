"""One cell of the reply table: a scenario, played by a vendor, given to a client."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from functools import cache
from typing import Final

import msgspec

from controlplane.kit import json
from controlplane.kit.json import JSONDict
from providers.protocols import registry
from providers.protocols.canonical import Event, Request
from providers.protocols.codec import Reply, Restore, UpstreamCall
from providers.protocols.errors import LocalProtocolError
from providers.protocols.losses import Loss
from providers.simulator import scenarios
from providers.simulator.wire import Refused
from providers.simulator.world import World
from tests.conformance import upstreams
from tests.conformance.reply_scenarios import REPLIES
from tests.conformance.sdks import READERS
from tests.conformance.seen import Choice, Seen, of_events

NOW: Final = datetime(2026, 11, 21, 12, tzinfo=UTC)
CREATED: Final = int(NOW.timestamp())
PROMPT_BYTES: Final = 400
ANSWER_ID: Final = "conformance"


@dataclass(frozen=True, slots=True)
class Transcript:
    """What a vendor sends, in the pieces of its wire, and what the scenario meant by it."""

    call: UpstreamCall
    pieces: tuple[bytes, ...]
    answer: bytes | None
    said: tuple[Event, ...]

    @property
    def stream(self) -> bytes:
        return b"".join(self.pieces)


@cache
def transcript(upstream: str, name: str) -> Transcript | LocalProtocolError:
    """An error: this upstream is never asked for that."""
    row = REPLIES[name]
    codec, model = registry.upstream(upstream), upstreams.MODELS[upstream]
    calls: list[UpstreamCall] = []
    for stream in (True, False):
        request = msgspec.structs.replace(
            row.request, stream=stream, dialect="openai-completions"
        )  # fmt: skip
        try:
            calls.append(codec.encode_request(request, model, request_id="req"))
        except LocalProtocolError as error:
            return error
    pieces, said = _played(upstream, name, calls[0], stream=True)
    answer: tuple[bytes, ...] | None = None
    if not row.breaks:
        # A vendor that only streams (Codex, Kiro) is read whole all the same.
        answer, _ = _played(upstream, name, calls[1], stream=calls[1].stream)
    return Transcript(calls[0], pieces, b"".join(answer) if answer else None, said)


def _played(
    upstream: str, name: str, call: UpstreamCall, *, stream: bool
) -> tuple[tuple[bytes, ...], tuple[Event, ...]]:
    row = REPLIES[name]
    wire, request, body = upstreams.received(call, upstream)
    # The same figures, streamed or not.
    changes = {"prompt_bytes": PROMPT_BYTES, **row.changes}
    ask = replace(wire.read(request, body, World(frozen_at=NOW)), **changes)
    said = scenarios.events(ask, row.options)
    # Kiro's only route streams, whatever was asked; the wire says so.
    if not stream and upstreams.known_as(upstream) != "kiro-generate-assistant":
        return (wire.answer(ask, body, said),), tuple(said)
    pieces = list(wire.stream(ask, body, said))
    half = max(1, len(pieces) * 2 // 3)
    if row.breaks == "error":
        refused = Refused(529, "Overloaded in the middle.", code="overloaded")
        pieces = [*pieces[:half], wire.error_piece(refused)]
    elif row.breaks == "cut":
        pieces = pieces[:half]
    elif row.breaks == "torn":
        pieces = [*pieces[:half], pieces[half][: len(pieces[half]) // 2]]
    return tuple(pieces), tuple(said)


def decoded(upstream: str, data: bytes, restore: Restore, size: int = 0) -> list[Event]:
    """The events of a stream that arrives in pieces of `size` bytes (0 = at once)."""
    decoder = registry.upstream(upstream).stream_decoder(restore, upstreams.MODELS[upstream])
    events: list[Event] = []
    for start in range(0, len(data), size or len(data) or 1):
        events += decoder.feed(data[start : start + (size or len(data))])
    return events + decoder.close()


def decoded_whole(upstream: str, data: bytes, restore: Restore) -> list[Event]:
    return registry.upstream(upstream).decode_answer(data, restore, upstreams.MODELS[upstream])


@dataclass(frozen=True, slots=True)
class Given:
    """What the client of a dialect got, as its SDK saw it."""

    stream: bytes
    seen_stream: Seen
    body: bytes
    seen_whole: Seen
    losses: tuple[Loss, ...]


def client_request(dialect: str, name: str, *, stream: bool) -> Request:
    """What the client had asked."""
    return msgspec.structs.replace(
        REPLIES[name].request, dialect=dialect, model="asked-model", stream=stream
    )


def streamed(dialect: str, name: str, events: list[Event]) -> tuple[bytes, list[Loss]]:
    reply = Reply(
        request=client_request(dialect, name, stream=True), id=ANSWER_ID, created=CREATED
    )  # fmt: skip
    encoder = registry.client(dialect).stream_encoder(reply)
    return b"".join(encoder.feed(event) for event in events), encoder.losses


def given(dialect: str, name: str, events: list[Event], whole: list[Event]) -> Given:
    codec = registry.client(dialect)
    data, losses = streamed(dialect, name, events)
    reply = Reply(
        request=client_request(dialect, name, stream=False), id=ANSWER_ID, created=CREATED
    )  # fmt: skip
    answer = codec.encode_answer(whole, reply)
    body = json.dumps(answer.body)
    return Given(
        data, _streamed(dialect, data), body, _whole(dialect, body), (*losses, *answer.losses)
    )  # fmt: skip


# Vendors that say the same give the same bytes, and the SDKs are most of the time. Nobody changes
# what was seen.
@cache
def _streamed(dialect: str, data: bytes) -> Seen:
    return READERS[dialect].stream(data)


@cache
def _whole(dialect: str, body: bytes) -> Seen:
    return READERS[dialect].whole(body)


def dialects_of(name: str) -> tuple[str, ...]:
    """Who can ask for this at all."""
    if REPLIES[name].request.sampling.n is not None:
        return ("openai-completions", "google-generative-ai")
    return tuple(READERS)


_FIELDS: Final = tuple(field.name for field in fields(Choice))


def differences(said: Seen, heard: Seen, *, with_ids: bool = True) -> dict[str, JSONDict]:
    """Field → what it was and what it became. Vendors give calls ids of their own."""
    out: dict[str, JSONDict] = {}
    if not with_ids:
        said, heard = without_ids(said), without_ids(heard)
    if len(said.choices) != len(heard.choices):
        out["choices"] = {"was": len(said.choices), "is": len(heard.choices)}
    for was, now in zip(said.choices, heard.choices, strict=False):
        for name in _FIELDS:
            value, found = getattr(was, name), getattr(now, name)
            if value != found:
                out.setdefault(name, {"was": value, "is": found})
    for name, count in said.usage.items():
        if heard.usage.get(name) != count:
            out[f"usage.{name}"] = {"was": count, "is": heard.usage.get(name)}
    return out


def without_ids(seen: Seen) -> Seen:
    choices = [
        replace(choice, calls=[("", name, arguments) for _, name, arguments in choice.calls])
        for choice in seen.choices
    ]
    return replace(seen, choices=choices)


def said_by(upstream: str, name: str) -> Seen:
    found = transcript(upstream, name)
    assert isinstance(found, Transcript)
    return of_events(found.said)
