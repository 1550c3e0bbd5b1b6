"""A Gemini client in front of Gemini: bytes pass, usage is read."""

from __future__ import annotations

import itertools
import json as stdlib
import random
import time
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest

from controlplane.kit.errors import FaultKind
from controlplane.kit.json import JSONDict, loads_dict
from providers.protocols import signatures
from providers.protocols.canonical import ModelSpec, Signature, Usage
from providers.protocols.codec import Meter
from providers.protocols.errors import RemoteProtocolError
from providers.protocols.google_generative_ai import ARRAY_CODEC, CODEC
from providers.protocols.google_generative_ai.array_stream import ArrayParser
from tests.patience import allowed

Models = Callable[..., ModelSpec]
USAGE = {"promptTokenCount": 9, "candidatesTokenCount": 3, "totalTokenCount": 12}


def relayed(raw: bytes, model: ModelSpec, codec: Any = CODEC, stream: bool = True) -> Any:
    return codec.relay_request(raw, loads_dict(raw), model, stream=stream)


def test_bytes_pass_untouched(make_model: Models) -> None:
    raw = (
        b'{ "contents" : [ {"parts":[{"text":"\\u00e9 \xc3\xa9"}]} ],\n'
        b' "x_new": 1.50e2, "n":12345678901234567890 }'
    )
    call, sent = relayed(raw, make_model())
    assert sent is raw
    assert call.path == "/models/gemini-x:streamGenerateContent"
    assert (call.query, call.stream, call.body) == ({"alt": "sse"}, True, {})
    call, sent = relayed(raw, make_model(), stream=False)
    assert (call.path, call.query) == ("/models/gemini-x:generateContent", {})
    call, sent = relayed(raw, make_model(), codec=ARRAY_CODEC)
    assert (sent, call.query) == (raw, {})


def test_a_model_in_the_body_is_the_upstreams(make_model: Models) -> None:
    raw = b'{"model":"models/alias","contents":[1.0,{"a" : "\\u0041"}],"x":1e3}'
    _, sent = relayed(raw, make_model())
    assert sent == b'{"model":"models/gemini-x","contents":[1.0,{"a" : "\\u0041"}],"x":1e3}'


def test_counting_is_relayed_too(make_model: Models) -> None:
    raw = b'{"generateContentRequest":{"model":"models/alias","contents":[ 1.0 ]}}'
    call, sent = CODEC.relay_count_request(raw, loads_dict(raw), make_model())
    assert call.path == "/models/gemini-x:countTokens"
    assert sent == b'{"generateContentRequest":{"model":"models/gemini-x","contents":[ 1.0 ]}}'
    raw = b'{"contents":[]}'
    assert CODEC.relay_count_request(raw, loads_dict(raw), make_model())[1] is raw


def test_proofs_that_we_wrapped_are_opened_or_made_harmless(make_model: Models) -> None:
    """A conversation may go to Gemini directly after it went elsewhere."""
    own = Signature(value="QUJD", protocol="google-generative-ai", model="gemini-x")
    other = Signature(value="sig", protocol="anthropic-messages", model="claude-x")

    def body(signature: str) -> bytes:
        part = {"text": "a cGNwMQ in words", "thoughtSignature": signature}
        return stdlib.dumps({"contents": [{"parts": [part]}]}).encode()

    native = "google-generative-ai"
    wrapped = signatures.wrap(own, native=native)
    for spelling in (wrapped, wrapped.replace("+", "-").replace("/", "_").rstrip("=")):
        assert relayed(body(spelling), make_model())[1] == body("QUJD")
    assert relayed(body(signatures.wrap(other, native=native)), make_model())[1] == body(
        "skip_thought_signature_validator"
    )
    # What only looks like ours is not touched.
    assert relayed(body("cGNwMQabc"), make_model())[1] == body("cGNwMQabc")


# --- meters --------------------------------------------------------------------------------


def events(*chunks: JSONDict, end: bytes = b"\r\n\r\n") -> bytes:
    return b"".join(b"data: " + stdlib.dumps(one).encode() + end for one in chunks)


def array(*chunks: JSONDict) -> bytes:
    return b"[" + b",\r\n".join(stdlib.dumps(one, indent=1).encode() for one in chunks) + b"]"


def text(words: str, **more: Any) -> JSONDict:
    return {
        "candidates": [{"content": {"parts": [{"text": words}]}, **more.pop("candidate", {})}],
        **more,
    }


TRICKY = 'say "finishReason" and "error": {"usageMetadata": ]}[{ \\" \\\\'
STREAM = [
    text("a", usageMetadata={"promptTokenCount": 9, "candidatesTokenCount": 1}),
    text(TRICKY, usageMetadata={"promptTokenCount": 9, "candidatesTokenCount": 2}),
    text("é\U0001f600", candidate={"finishReason": "STOP"}, usageMetadata=USAGE),
]


def metered(codec: Any, pieces: list[bytes]) -> Meter:
    meter: Meter = codec.stream_meter(ModelSpec(id="g", protocol="google-generative-ai"))
    for piece in pieces:
        meter.feed(piece)
    meter.close()
    return meter


@pytest.mark.parametrize(
    ("codec", "data"),
    [
        (CODEC, events(*STREAM)),
        (CODEC, events(*STREAM, end=b"\n\n")),
        (CODEC, events(*STREAM)[:-4]),
        (ARRAY_CODEC, array(*STREAM)),
    ],
)
def test_the_last_usage_counts_in_any_cutting(codec: Any, data: bytes) -> None:
    draw = random.Random(3)
    cuttings = [[data], [data[i : i + 1] for i in range(len(data))]]
    cuttings += [[data[:at], data[at:]] for at in range(len(data))]
    for _ in range(500):
        cuts = sorted(draw.randrange(len(data)) for _ in range(draw.randint(1, 9)))
        cuttings.append([data[a:b] for a, b in itertools.pairwise([0, *cuts, len(data)])])
    for pieces in cuttings:
        meter = metered(codec, pieces)
        assert meter.usage == Usage(input=9, output=3)
        assert (meter.fault, meter.is_ended, meter.has_content) == (None, True, True)


@pytest.mark.parametrize("codec", [CODEC, ARRAY_CODEC])
def test_what_a_meter_sees_on_the_way(codec: Any) -> None:
    meter = codec.stream_meter(ModelSpec(id="g", protocol="google-generative-ai"))
    first, second, last = (
        [events(one) for one in STREAM]
        if codec is CODEC
        else [b"[" + stdlib.dumps(STREAM[0]).encode()]
        + [b"," + stdlib.dumps(one).encode() for one in STREAM[1:]]
    )
    assert not meter.has_content
    meter.feed(first)
    assert meter.has_content
    assert meter.usage == Usage(input=9, output=1)
    meter.feed(second)
    meter.feed(last)
    # More may follow a finish reason: only the end of the connection is the end.
    assert not meter.is_ended
    assert meter.usage == Usage(input=9, output=3)
    meter.close()
    assert meter.is_ended


@pytest.mark.parametrize("codec", [CODEC, ARRAY_CODEC])
def test_a_cut_stream_is_not_ended_and_an_error_is_a_fault(codec: Any) -> None:
    write = events if codec is CODEC else array
    cut = metered(codec, [write(text("a", usageMetadata=USAGE))])
    assert (cut.is_ended, cut.fault) == (False, None)
    error = {"error": {"code": 503, "message": "busy", "status": "UNAVAILABLE"}}
    failed = metered(codec, [write(text("a"), error)])
    assert failed.fault is not None
    assert (failed.fault.kind, failed.fault.message) == (FaultKind.OVERLOADED, "busy")
    assert not failed.is_ended
    blocked = metered(codec, [write({"promptFeedback": {"blockReason": "SAFETY"}})])
    assert blocked.is_ended
    assert not blocked.has_content


def test_tool_arguments_that_use_googles_words_change_nothing() -> None:
    args = {"finishReason": "STOP", "error": {"code": 1}, "blockReason": "x"}
    part = {"functionCall": {"name": "f", "args": args}}
    meter = metered(CODEC, [events({"candidates": [{"content": {"parts": [part]}}]})])
    assert (meter.is_ended, meter.fault) == (False, None)


@pytest.mark.parametrize("codec", [CODEC, ARRAY_CODEC])
def test_a_meter_is_bounded(codec: Any) -> None:
    meter = codec.stream_meter(ModelSpec(id="g", protocol="google-generative-ai"))
    meter.feed(b"data: " if codec is CODEC else b'[{"a":"')
    piece = b"x" * 65536

    def endless() -> None:
        for _ in range(3200):
            meter.feed(piece)

    tracemalloc.start()
    try:
        with pytest.raises(RemoteProtocolError, match="more than 4194304 bytes"):
            endless()
        assert tracemalloc.get_traced_memory()[1] < 16_000_000
    finally:
        tracemalloc.stop()


def test_usage_of_a_whole_answer() -> None:
    assert CODEC.answer_usage(stdlib.dumps(STREAM[-1]).encode()) == Usage(input=9, output=3)
    for body in (b"{}", b"", b"no json", b'{"usageMetadata": 7}', b'{"usageMetadata": null}'):
        assert CODEC.answer_usage(body) is None


@pytest.mark.timed
def test_a_relayed_chunk_costs_next_to_nothing() -> None:
    """The bar is 2 µs; a loaded machine gets five times that before this fails."""
    meter = CODEC.stream_meter(ModelSpec(id="g", protocol="google-generative-ai"))
    one = events(STREAM[0])
    costs = []
    for _ in range(9):
        begun = time.thread_time()
        for _ in range(2000):
            meter.feed(one)
        costs.append((time.thread_time() - begun) / 2000)
    assert min(costs) < allowed(10e-6)


# --- arrays --------------------------------------------------------------------------------


def test_elements_of_an_array() -> None:
    data = array(*STREAM, {"a": [1, {"b": "]"}]}, {})
    whole = ArrayParser().feed(data)
    assert [stdlib.loads(one) for one in whole] == [*STREAM, {"a": [1, {"b": "]"}]}, {}]
    for size in (1, 2, 3, 7):
        parser = ArrayParser()
        found = [
            one for at in range(0, len(data), size) for one in parser.feed(data[at : at + size])
        ]
        assert found == whole


@pytest.mark.parametrize("separator", [b",", b",\r\n", b" , "])
def test_elements_that_arrive_one_by_one(separator: bytes) -> None:
    """The short way, beside pieces that look like one element and are two, half or none."""
    elements = [stdlib.dumps(one).encode() for one in STREAM]
    pieces = [b"[" + elements[0], *(separator + one for one in elements[1:])]
    pieces += [separator + b'{"a":1},{"b":2}', separator + b'{"c":"}', b'"}', b"]"]
    parser = ArrayParser()
    found = [element for piece in pieces for element in parser.feed(piece)]
    assert found[: len(STREAM)] == elements
    assert found == ArrayParser().feed(b"".join(pieces))


def test_brackets_that_do_not_match_are_refused() -> None:
    with pytest.raises(RemoteProtocolError, match="do not match"):
        ArrayParser().feed(b"]")
