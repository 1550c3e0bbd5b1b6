"""Hostile inputs for every door that bytes come in by, and what must hold of each.

`Attack.run` takes one input; an exception that is not a ProtocolError escapes, with the seed and
number that make it again.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import msgspec

from controlplane.kit import json
from controlplane.kit.errors import Fault
from providers.protocols import registry
from providers.protocols.canonical import End, Event, Failed
from providers.protocols.codec import ClientCall, Reply, Restore
from providers.protocols.errors import LocalProtocolError, RemoteProtocolError
from tests.conformance import cuttings, mutations, reply_cells, request_cells, upstreams
from tests.conformance.grammar import check_grammar
from tests.conformance.reply_cells import Transcript
from tests.conformance.reply_scenarios import REPLIES
from tests.conformance.request_scenarios import REQUESTS
from tests.conformance.written import DIALECTS
from tests.conformance.written.wording import Written

MAX_ANSWER: Final = 64 * 1024
RESTORE: Final = Restore(names={"wire": "own"}, custom=frozenset({"get_time"}))
_ERRORS: Final = (
    b"", b"<html><body>502 Bad Gateway</body></html>", b"[]", b'{"error":"no"}',
    b'{"error":{"message":"bad","type":"x","code":"context_length_exceeded","param":null}}',
    b'[{"error":{"code":429,"message":"slow","status":"RESOURCE_EXHAUSTED","details":'
    b'[{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"3.5s"}]}}]',
    b'{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}',
    b'{"message":"Too many","__type":"ThrottlingException"}',
    b'{"detail":[{"loc":["body","messages"],"msg":"field required","type":"missing"}]}',
    b'{"reason":"CONTENT_LENGTH_EXCEEDS_THRESHOLD","message":"Input is too long."}',
)  # fmt: skip


@cache
def transcripts(upstream: str) -> tuple[Transcript, ...]:
    found = (reply_cells.transcript(upstream, name) for name in REPLIES if name != "long")
    return tuple(one for one in found if isinstance(one, Transcript))


def _stream(upstream: str, source: random.Random) -> None:
    """Any bytes are events of a sound grammar, or a typed error; every client can be told."""
    chosen = source.choice(transcripts(upstream))
    data = mutations.stream(chosen.pieces, source)
    decoder = registry.upstream(upstream).stream_decoder(RESTORE, upstreams.MODELS[upstream])
    events: list[Event] = []
    try:
        for piece in cuttings.pieces(data, source):
            events += decoder.feed(piece)
        events += decoder.close()
    except RemoteProtocolError as error:
        _tell(source, [*events, Failed(error.fault())])
        return
    check_grammar(events)
    assert isinstance(events[-1], End | Failed)
    assert decoder.feed(data) == [], "events after the end"
    assert decoder.close() == [], "events after the end"
    _tell(source, events)


def _answer(upstream: str, source: random.Random) -> None:
    answers = [one.answer for one in transcripts(upstream) if one.answer is not None]
    chosen = source.choice(answers)
    if chosen[:1] == b"{" and source.random() < 0.7:
        data = mutations.dumped(mutations.swapped(json.loads(chosen), source), source)
    else:
        data = mutations.bent(chosen, source)
    codec = registry.upstream(upstream)
    try:
        events = codec.decode_answer(data, RESTORE, upstreams.MODELS[upstream])
    except RemoteProtocolError:
        return
    check_grammar(events)
    _tell(source, events)


def _tell(source: random.Random, events: list[Event]) -> None:
    """One dialect's encoder takes whatever was decoded."""
    dialect = source.choice(DIALECTS)
    request = reply_cells.client_request(dialect, "tools", stream=True)
    reply = Reply(request=request, id="hostile", created=1)
    codec = registry.client(dialect)
    encoder = codec.stream_encoder(reply)
    written = b"".join(encoder.feed(event) for event in events)
    assert len(written) < MAX_ANSWER * 40
    if not isinstance(events[-1], Failed):
        try:
            json.dumps(codec.encode_answer(events, reply).body)
        except RemoteProtocolError:
            return  # the model itself ended in an error


def _error(upstream: str, source: random.Random) -> None:
    body = source.choice(_ERRORS)
    if source.random() < 0.9:
        body = mutations.bent(body, source) if body else bytes(source.randbytes(40))
    headers = {
        "content-type": source.choice(("application/json", "text/html", "")),
        "retry-after": source.choice(("", "3", "-1", "nan", "1e400", "Wed, 21 Oct 2026")),
        "x-amzn-errortype": source.choice(("", "ThrottlingException:http://x", ":")),
    }
    status = source.choice((200, 301, 400, 401, 402, 403, 404, 413, 418, 429, 500, 503, 529, 599))
    fault = registry.upstream(upstream).decode_error(status, headers, body)
    assert isinstance(fault, Fault)
    assert fault.message
    for dialect in DIALECTS:
        json.dumps(registry.client(dialect).encode_error(fault, "req"))
        assert registry.client(dialect).encode_error_event(fault, "req")


@cache
def _bodies(dialect: str) -> tuple[Written, ...]:
    found = (request_cells.written(dialect, name) for name in REQUESTS if name != "long")
    return tuple(one for one in found if isinstance(one, Written))


def _request(dialect: str, source: random.Random) -> None:
    """Any JSON is read or refused with a field; what was read can be sent or is refused."""
    chosen = source.choice(_bodies(dialect))
    body = mutations.body(chosen.body, source)
    if not isinstance(body, dict):
        return
    try:
        request = registry.client(dialect).decode_request(body, chosen.call or ClientCall())
    except LocalProtocolError as error:
        _check_refusal(error)
        return
    upstream = source.choice(upstreams.UPSTREAMS)
    try:
        call = registry.upstream(upstream).encode_request(
            request, upstreams.MODELS[upstream], request_id="req"
        )
    except LocalProtocolError as error:
        _check_refusal(error)
        return
    json.dumps(call.body)


def _check_refusal(error: LocalProtocolError) -> None:
    """A sentence, and in every dialect's form."""
    fault = error.fault()
    assert fault.message
    for dialect in DIALECTS:
        json.dumps(registry.client(dialect).encode_error(fault, "req"))


def _meter(dialect: str, source: random.Random) -> None:
    """What is only watched never stops the relay."""
    chosen = source.choice(transcripts(dialect))
    data = mutations.stream(chosen.pieces, source)
    meter = registry.relay(dialect).stream_meter(upstreams.MODELS[dialect])
    for piece in cuttings.pieces(data, source):
        meter.feed(piece)
    meter.close()
    if meter.usage is not None:
        usage = msgspec.structs.asdict(meter.usage)
        assert all(count >= 0 for count in usage.values() if isinstance(count, int))
    registry.relay(dialect).answer_usage(mutations.bent(chosen.answer or b"{}", source))


@dataclass(frozen=True, slots=True)
class Attack:
    door: str
    slug: str
    take: Callable[[str, random.Random], None]

    def run(self, seed: int, count: int) -> int:
        for number in range(count):
            source = random.Random(f"{self.door}/{self.slug}/{seed}/{number}")
            try:
                self.take(self.slug, source)
            except Exception as error:
                error.add_note(f"made again by {self.door}/{self.slug}/{seed}/{number}")
                raise
        return count


ATTACKS: Final[tuple[Attack, ...]] = (
    *(Attack("stream", slug, _stream) for slug in upstreams.UPSTREAMS),
    *(Attack("answer", slug, _answer) for slug in upstreams.UPSTREAMS),
    *(Attack("error", slug, _error) for slug in upstreams.UPSTREAMS),
    *(Attack("request", slug, _request) for slug in DIALECTS),
    *(Attack("meter", slug, _meter) for slug in DIALECTS),
)


def again(made_by: str) -> None:
    """One input once more, from the note of its failure."""
    door, slug, seed, number = made_by.split("/")
    [attack] = [one for one in ATTACKS if (one.door, one.slug) == (door, slug)]
    source = random.Random(f"{door}/{slug}/{int(seed)}/{int(number)}")
    _run: Any = attack.take
    _run(slug, source)
