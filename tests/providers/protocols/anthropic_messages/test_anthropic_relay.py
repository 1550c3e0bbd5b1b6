"""Anthropic on both sides: bytes are patched and watched, never rebuilt."""

from __future__ import annotations

from typing import Any

import pytest

from controlplane.kit.errors import FaultKind
from controlplane.kit.json import JSONDict, dumps, loads
from providers.protocols import signatures
from providers.protocols.anthropic_messages import CODEC
from providers.protocols.anthropic_messages.relay import splice
from providers.protocols.canonical import ModelSpec, Signature, Usage
from providers.protocols.errors import LocalProtocolError, RemoteProtocolError
from providers.protocols.losses import LossCode
from providers.protocols.quirks import Quirks
from providers.protocols.sse import named_event

MODEL = ModelSpec(id="claude-target", protocol="anthropic-messages", reasoning=True)


def relay(raw: bytes, model: ModelSpec = MODEL, *, stream: bool = False) -> bytes:
    return CODEC.relay_request(raw, loads(raw), model, stream=stream)[1]


@pytest.mark.parametrize(
    "raw",
    [
        b'{"model":"alias","max_tokens":5,"messages":[]}',
        b'{ "max_tokens" : 5.0 ,\n "new_field": [1.10, 1e3], "model"\t:\r\n "alias" , "x": {} }',
        b'{"metadata":{"model":"inner"},"messages":[{"model":"deep"}],"model":"alias"}',
        b'{"a":"\\u006dodel","model":"al\\u0069as","b":"\\"model\\":\\"x\\""}',
        b'{"mod\\u0065l":"alias","x":{"model":"alias"}}',
        '{"model":"älias","text":"世界 🎉 \\ud83c\\udf89"}'.encode(),
    ],
)
def test_only_the_model_changes(raw: bytes) -> None:
    sent = relay(raw)
    before, after = loads(raw), loads(sent)
    assert after == {**before, "model": "claude-target"}
    # Everything but the value itself is the same bytes.
    key = raw.index(b'"mod\\u0065l"') if b'"mod\\u0065l"' in raw else None
    if key is None:
        head, _, tail = sent.partition(b'"claude-target"')
        assert raw.startswith(head)
        assert raw.endswith(tail)


def test_unchanged_requests_are_the_same_object() -> None:
    raw = b'{"model":"claude-target","messages":[]}'
    assert relay(raw) is raw


def test_stream_is_set_as_the_proxy_wants_it() -> None:
    assert relay(b'{"model":"claude-target"}', stream=True) == (
        b'{"model":"claude-target","stream":true}'
    )
    assert relay(b'{"stream": true, "model":"claude-target"}', stream=False) == (
        b'{"stream": false, "model":"claude-target"}'
    )
    assert splice(b"{ }", {"a": b"1"}) == b'{ "a":1}'


@pytest.mark.parametrize("raw", [b'{"model":"a","model":"b"}', b'{"x":1,"model":"a","x":2,"y":[]}'])
def test_fields_named_twice_are_refused(raw: bytes) -> None:
    with pytest.raises(LocalProtocolError):
        splice(raw, {"model": b'"c"'})


def test_the_call() -> None:
    raw = b'{"model":"alias"}'
    call, _ = CODEC.relay_request(raw, loads(raw), MODEL, stream=True)
    assert call.path == "/v1/messages"
    assert call.headers == {"anthropic-version": "2023-06-01"}
    assert call.stream


def test_counting_is_relayed_too() -> None:
    raw = b'{"model":"alias", "messages":[],"new":1.0}'
    call, sent = CODEC.relay_count_request(raw, loads(raw), MODEL)
    assert call.path == "/v1/messages/count_tokens"
    assert not call.stream
    assert sent == b'{"model":"claude-target", "messages":[],"new":1.0}'


def _with_thinking(*signature: Signature) -> bytes:
    blocks: list[JSONDict] = [
        {
            "type": "thinking",
            "thinking": "t",
            "signature": signatures.wrap(one, native="anthropic-messages"),
        }
        for one in signature
    ]
    body: JSONDict = {
        "model": "claude-target",
        "messages": [
            {"role": "user", "content": "x"},
            {"role": "assistant", "content": [*blocks, {"type": "text", "text": "y"}]},
            {"role": "user", "content": "z"},
        ],
        "unknown": 1.50,
    }
    return dumps(body).replace(b"1.5}", b"1.50}")


def test_trap_094_wrapped_proofs_are_unwrapped_or_taken_out() -> None:
    own = Signature(value="b3du", protocol="anthropic-messages", model="claude-target")
    foreign = Signature(value="Zm9y", protocol="openai-responses", model="gpt")
    raw = _with_thinking(own, foreign)
    call, sent = CODEC.relay_request(raw, loads(raw), MODEL, stream=False)
    content = loads(sent)["messages"][1]["content"]
    assert content == [
        {"type": "thinking", "thinking": "t", "signature": "b3du"},
        {"type": "text", "text": "y"},
    ]
    assert sent.endswith(b'"unknown":1.50}')
    assert [loss.code for loss in call.losses] == [LossCode.SIGNATURE_DROPPED]
    native = Signature(value="b3du", protocol="anthropic-messages")
    raw = _with_thinking(native)
    assert relay(raw) is raw


def test_trap_165_marks_on_tools_are_taken_out_where_refused() -> None:
    model = ModelSpec(
        id="claude-target",
        protocol="anthropic-messages",
        quirks=Quirks(supports_cache_control_on_tools=False),
    )
    raw = dumps({"model": "m", "tools": [{"name": "f", "cache_control": {"type": "ephemeral"}}]})
    assert loads(relay(raw, model))["tools"] == [{"name": "f"}]


STREAM = (
    named_event(
        b"message_start",
        b'{"type":"message_start","message":{"usage":{"input_tokens":9,"output_tokens":1}}}',
    )
    + named_event(
        b"content_block_start",
        b'{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}',
    )
    + named_event(
        b"content_block_delta",
        b'{"type":"content_block_delta","index":0,"delta":{"type":"text_delta",'
        b'"text":"\\"message_stop\\" and \\"error\\""}}',
    )
    + named_event(
        b"message_delta",
        b'{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":5}}',
    )
    + named_event(b"message_stop", b'{"type":"message_stop"}')
)


def watch(data: bytes, size: int) -> Any:
    meter = CODEC.stream_meter(MODEL)
    for position in range(0, len(data), size):
        meter.feed(data[position : position + size])
    meter.close()
    return meter


@pytest.mark.parametrize("newline", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize("size", [1, 2, 7, 100, 100_000])
def test_the_meter_reads_any_cutting(size: int, newline: bytes) -> None:
    meter = watch(STREAM.replace(b"\n", newline), size)
    assert meter.usage == Usage(input=9, output=5)
    assert meter.is_ended
    assert meter.has_content
    assert meter.fault is None


def test_the_handshake_is_no_content() -> None:
    meter = watch(STREAM[: STREAM.index(b"event: content_block_start")], 10)
    assert not meter.has_content
    assert not meter.is_ended


def test_names_inside_texts_mean_nothing() -> None:
    cut = STREAM.index(b"event: message_delta")
    meter = watch(STREAM[:cut], 100_000)
    assert not meter.is_ended
    assert meter.fault is None


def test_trap_131_errors_behind_the_handshake_are_seen_before_content() -> None:
    data = STREAM[: STREAM.index(b"event: content_block_start")] + named_event(
        b"error",
        b'{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}',
    )
    meter = watch(data, 13)
    assert not meter.has_content
    assert meter.fault is not None
    assert meter.fault.kind is FaultKind.OVERLOADED


def test_an_endless_event_is_bounded() -> None:
    meter = CODEC.stream_meter(MODEL)
    for _ in range(40):
        meter.feed(b"x" * 100_000)
    with pytest.raises(RemoteProtocolError):
        meter.feed(b"x" * 1_000_000)


def test_usage_of_a_whole_answer() -> None:
    body = b'{"type":"message","content":[],"usage":{"input_tokens":3,"output_tokens":4}}'
    assert CODEC.answer_usage(body) == Usage(input=3, output=4)
    assert CODEC.answer_usage(b'{"content":[]}') is None
    assert CODEC.answer_usage(b"<html>") is None
