"""Responses on both sides: bytes that need no change keep every bit."""

from __future__ import annotations

import time
from typing import Any

import pytest

from controlplane.kit.errors import FaultKind
from controlplane.kit.json import JSONDict, dumps, loads_dict
from providers.protocols.canonical import Signature, Usage
from providers.protocols.codec import UpstreamCall
from providers.protocols.errors import LocalProtocolError
from providers.protocols.losses import LossCode
from providers.protocols.openai_responses import CODEC, carriers
from tests.patience import allowed
from tests.providers.protocols.openai_completions.builders import named, paths, spec


def relay(
    raw: bytes, *, stream: bool = False, quirks: JSONDict | None = None, **model: Any
) -> tuple[UpstreamCall, bytes]:
    target = spec("openai-responses", quirks=quirks, **model)
    return CODEC.relay_request(raw, loads_dict(raw), target, stream=stream)


def sent(body: JSONDict, **options: Any) -> JSONDict:
    return loads_dict(relay(dumps({"model": "m", "input": "x", **body}), **options)[1])


ODD = (
    b'{ "temperature":1.00,"input":[ {"role":"user" , "content":"h\\u00ed"} ],\n'
    b'"model" : "asked","store" : false, "new_field":{"model":1e2} }'
)


def test_only_the_model_changes_and_every_other_byte_stays() -> None:
    call, out = relay(ODD)
    assert out == ODD.replace(b'"asked"', b'"upstream-model"')
    assert (call.path, call.losses) == ("/responses", ())
    assert relay(out)[1] is out


@pytest.mark.parametrize(
    ("wish", "allowed", "expected"),
    [
        (None, False, False),
        (True, False, False),
        (False, True, False),
        (True, True, True),
        (None, True, None),
    ],
)
def test_store_is_stripped_unless_allowed(
    wish: bool | None, allowed: bool, expected: bool | None
) -> None:
    body = {} if wish is None else {"store": wish}
    assert sent(body, store=allowed).get("store") is expected


def test_a_stripped_store_asks_for_the_reasoning_instead() -> None:
    out = sent({"include": ["file_search_call.results"]}, reasoning=True)
    assert out["include"] == ["file_search_call.results", "reasoning.encrypted_content"]
    assert "include" not in sent({"store": False}, reasoning=True)
    assert "include" not in sent({})


def test_effort_in_the_models_words() -> None:
    body = {"reasoning": {"effort": "max", "summary": "auto"}}
    assert sent(body, reasoning=True)["reasoning"] == {"effort": "high", "summary": "auto"}
    assert sent(body, reasoning=True, levels={"max": "max"})["reasoning"]["effort"] == "max"
    off = {"reasoning": {"effort": "none"}}
    assert sent(off, reasoning=True)["reasoning"]["effort"] == "none"
    assert sent(off, reasoning=True, levels={"off": "minimal"})["reasoning"]["effort"] == "minimal"


def test_what_the_vendor_refuses_goes() -> None:
    body = {"max_output_tokens": 5, "prompt_cache_retention": "24h", "stream_options": {"x": 1}}
    quirks = {"supports_max_output_tokens": False, "supports_long_cache_retention": False}
    call, out = relay(dumps({"model": "m", "input": "x", **body}), quirks=quirks)
    assert not body.keys() & loads_dict(out).keys()
    assert paths(call.losses) == {"sampling.max_output_tokens", "caching.retention"}
    assert sent(body, stream=True)["stream"] is True


def test_trap_094_proofs_we_marked_go_home_or_nowhere() -> None:
    own = Signature(value="enc", protocol="openai-responses", model="upstream-model")
    claude = Signature(value="s", protocol="anthropic-messages", model="c")

    def reasoning(encrypted: str) -> JSONDict:
        return {"type": "reasoning", "summary": [], "encrypted_content": encrypted}

    items = [
        reasoning(carriers.for_thinking(own)),
        {"role": "assistant", "content": "a"},
        reasoning(carriers.for_thinking(claude)),
        reasoning(carriers.for_call(claude, "c1")),
        reasoning("native"),
        {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"},
    ]
    call, out = relay(dumps({"model": "m", "input": items, "store": False}))
    kept = loads_dict(out)["input"]
    assert [item.get("encrypted_content") for item in kept] == ["enc", None, "native", None]
    assert [loss.code for loss in call.losses] == [LossCode.SIGNATURE_DROPPED] * 2
    only = sent({"input": items[:2], "store": False})["input"]
    assert only[0]["encrypted_content"] == "enc"


def test_a_field_that_occurs_twice_is_refused() -> None:
    with pytest.raises(LocalProtocolError, match="twice"):
        relay(b'{"model":"a","input":"x","model":"b"}')


def test_affinity() -> None:
    raw = dumps({"model": "m", "input": "x", "prompt_cache_key": "k"})
    call, _ = relay(raw, quirks={"send_session_affinity": True})
    assert call.headers == {"session-id": "k", "x-client-request-id": "k"}


USAGE = {
    "input_tokens": 9,
    "output_tokens": 2,
    "input_tokens_details": {"cached_tokens": 4},
    "output_tokens_details": {"reasoning_tokens": 1},
}
DELTA = {
    "type": "response.output_text.delta",
    "output_index": 0,
    "delta": 'he said "type":"response.completed"',
}
STREAM = named(
    {"type": "response.created", "response": {"usage": None}},
    DELTA,
    {
        "type": "response.completed",
        "response": {"output": [], "usage": USAGE, "service_tier": "flex"},
    },
)
EXPECTED = Usage(input=5, cache_read=4, output=2, reasoning=1, service_tier="flex")


@pytest.mark.parametrize("size", [1, 2, 7, 64, 10_000])
def test_the_meter_reads_usage_and_end_from_any_cutting(size: int) -> None:
    meter = CODEC.stream_meter(spec("openai-responses"))
    for start in range(0, len(STREAM), size):
        meter.feed(STREAM[start : start + size])
    meter.close()
    assert meter.usage == EXPECTED
    assert meter.is_ended
    assert meter.has_content
    assert meter.fault is None


def test_the_meter_tells_handshakes_errors_and_cut_off_streams() -> None:
    meter = CODEC.stream_meter(spec("openai-responses"))
    meter.feed(named({"type": "response.created", "response": {}}))
    assert not meter.has_content
    error = {"code": "server_is_overloaded", "message": "busy"}
    meter.feed(named({"type": "response.failed", "response": {"error": error, "usage": USAGE}}))
    assert meter.fault is not None
    assert meter.fault.kind is FaultKind.OVERLOADED
    assert meter.usage is not None
    cut = CODEC.stream_meter(spec("openai-responses"))
    cut.feed(named(DELTA))
    cut.close()
    assert cut.has_content
    assert not cut.is_ended
    flat = CODEC.stream_meter(spec("openai-responses"))
    flat.feed(named({"type": "error", "code": "rate_limit_exceeded", "message": "x"}))
    assert flat.fault is not None
    assert flat.fault.kind is FaultKind.RATE_LIMIT


def test_usage_of_a_complete_answer() -> None:
    body = dumps({"usage": USAGE, "service_tier": "flex", "output": []})
    assert CODEC.answer_usage(body) == EXPECTED
    assert CODEC.answer_usage(b"{}") is None
    assert CODEC.answer_usage(b"<html>") is None


@pytest.mark.timed
def test_the_meter_costs_little_per_chunk() -> None:
    """At most 2 µs over reading; the bound is generous because the machine is shared."""
    piece = named({**DELTA, "delta": " hello world", "item_id": "msg_1", "content_index": 0})
    meter = CODEC.stream_meter(spec("openai-responses"))
    meter.feed(piece)

    def cost() -> float:
        begin = time.thread_time()
        for _ in range(5000):
            meter.feed(piece)
        return (time.thread_time() - begin) / 5000

    assert min(cost() for _ in range(5)) < allowed(8e-6)
