"""The same dialect on both sides: bytes that need no change keep every bit."""

from __future__ import annotations

import re
import time
from typing import Any

import msgspec
import pytest

from controlplane.kit.errors import FaultKind
from controlplane.kit.json import JSONDict, dumps, loads_dict
from providers.protocols import signatures
from providers.protocols.canonical import Signature, Usage
from providers.protocols.codec import UpstreamCall
from providers.protocols.errors import LocalProtocolError, RemoteProtocolError
from providers.protocols.losses import LossCode
from providers.protocols.openai_completions import CODEC
from providers.protocols.openai_completions.details import signature_of, thinking_entry
from providers.protocols.openai_completions.meter import UsageChunkFilter, needs_usage_filter
from tests.patience import allowed
from tests.providers.protocols.openai_completions.builders import chunk, paths, spec, sse


def relay(
    raw: bytes,
    *,
    stream: bool = False,
    quirks: JSONDict | None = None,
    **model: Any,
) -> tuple[UpstreamCall, bytes]:
    return CODEC.relay_request(raw, loads_dict(raw), spec(quirks=quirks, **model), stream=stream)


def sent(body: JSONDict, **options: Any) -> JSONDict:
    return loads_dict(relay(dumps(body), **options)[1])


ODD = (
    b'{ "temperature": 1.00, "model" :\t"asked" ,"x": {"model":"inner", "y": [1e2, "\\u00e9"]},\n'
    b'"messages":[ {"role":"user","content":"hi","later": 1.50} ], "store" : false  }'
)


def test_only_the_model_changes_and_every_other_byte_stays() -> None:
    call, out = relay(ODD)
    assert out == ODD.replace(b'"asked"', b'"upstream-model"', 1)
    assert call.path == "/chat/completions"
    assert call.losses == ()


def test_a_body_that_needs_nothing_is_the_same_bytes() -> None:
    raw = ODD.replace(b"asked", b"upstream-model")
    assert relay(raw)[1] is raw


def test_streams_ask_for_usage_and_keep_their_other_options() -> None:
    body = {"model": "m", "messages": [], "stream": True}
    assert sent(body, stream=True)["stream_options"] == {"include_usage": True}
    own = {**body, "stream_options": {"include_obfuscation": False, "include_usage": False}}
    assert sent(own, stream=True)["stream_options"] == {
        "include_obfuscation": False,
        "include_usage": True,
    }
    quirks = {"supports_usage_in_streaming": False}
    assert "stream_options" not in sent(own, stream=True, quirks=quirks)
    assert "stream_options" not in sent(own, stream=False)
    assert sent(own, stream=False)["stream"] is False


@pytest.mark.parametrize(
    ("wish", "model", "quirks", "expected"),
    [
        (True, {}, {}, False),
        (None, {}, {}, False),
        (False, {}, {}, False),
        (True, {"store": True}, {}, True),
        (None, {"store": True}, {}, False),
        pytest.param(True, {}, {"supports_store": False}, None, id="trap_184-absent"),
    ],
)
def test_store(wish: bool | None, model: JSONDict, quirks: JSONDict, expected: bool | None) -> None:
    body = {"model": "m", "messages": []} | ({} if wish is None else {"store": wish})
    call, out = relay(dumps(body), quirks=quirks, **model)
    assert loads_dict(out).get("store") is expected
    assert paths(call.losses) == ({"store"} if wish and not model else set())


def test_trap_169_the_limit_is_renamed_in_place() -> None:
    body = {"model": "m", "messages": [], "max_tokens": 5}
    assert sent(body)["max_completion_tokens"] == 5
    both = {**body, "max_completion_tokens": 7}
    assert sent(both)["max_completion_tokens"] == 7
    old = sent(both, quirks={"max_tokens_field": "max_tokens"})
    assert old["max_tokens"] == 7
    assert "max_completion_tokens" not in old


def test_trap_183_developer_becomes_system_where_it_is_unknown() -> None:
    raw = (
        b'{"model":"upstream-model","store":false,"messages":[{"role" : "developer",'
        b'"content":"a  b", "z":1.0},{"role":"user","content":"x"}]}'
    )
    _, out = relay(raw, quirks={"supports_developer_role": False})
    assert out == raw.replace(b'"developer"', b'"system"')
    assert relay(raw)[1] == raw


def test_effort_in_the_vendors_words() -> None:
    body = {"model": "m", "messages": [], "reasoning_effort": "high"}
    zai = sent(
        body, reasoning=True, quirks={"thinking_format": "zai", "supports_reasoning_effort": False}
    )
    assert zai["thinking"] == {"type": "enabled", "clear_thinking": False}
    assert "reasoning_effort" not in zai
    assert sent(body, reasoning=True, levels={"high": "default"})["reasoning_effort"] == "default"
    assert sent(body)["reasoning_effort"] == "high"
    off = {**body, "reasoning_effort": "none"}
    assert sent(off, reasoning=True)["reasoning_effort"] == "none"
    clamped = relay(dumps({**body, "reasoning_effort": "max"}), reasoning=True)
    assert loads_dict(clamped[1])["reasoning_effort"] == "high"
    assert paths(clamped[0].losses) == {"reasoning.level"}


def test_quirks_of_single_messages() -> None:
    messages = [
        {
            "role": "assistant",
            "content": None,
            "reasoning": "because",
            "tool_calls": [{"id": "a", "function": {"name": "f", "arguments": "{}"}}],
        },
        {"role": "tool", "tool_call_id": "a", "content": "1"},
        {"role": "assistant", "content": "x"},
    ]
    body = {"model": "m", "messages": messages}
    out = sent(
        body,
        quirks={
            "requires_reasoning_content": True,
            "requires_non_null_assistant_content": True,
            "requires_tool_result_name": True,
            "reasoning_replay_field": "reasoning_content",
        },
    )["messages"]
    assert out[0]["content"] == ""
    assert out[0]["reasoning_content"] == "because"
    assert "reasoning" not in out[0]
    assert out[1]["name"] == "f"
    assert out[2]["reasoning_content"] == "", "trap 102"


def test_trap_061_strict_goes_where_it_is_unknown() -> None:
    tool = {"type": "function", "function": {"name": "f", "strict": True, "parameters": {}}}
    call, out = relay(dumps({"model": "m", "messages": [], "tools": [tool]}))
    assert loads_dict(out)["tools"][0]["function"] == {"name": "f", "parameters": {}}
    assert paths(call.losses) == {"tools[0].strict"}
    kept = sent(
        {"model": "m", "messages": [], "tools": [tool]}, quirks={"supports_strict_tools": True}
    )
    assert kept["tools"] == [tool]


def test_trap_094_proofs_we_marked_go_home_or_nowhere() -> None:
    own = signature_of(
        [{"type": "reasoning.text", "text": "x", "signature": "s"}],
        "openai-completions",
        "upstream-model",
    )
    claude = Signature(value="s", protocol="anthropic-messages", model="c")
    native = {"type": "reasoning.encrypted", "data": "zzz"}
    details = [thinking_entry("x", own, 0), thinking_entry("y", claude, 1), native]
    message = {"role": "assistant", "content": "a", "reasoning_details": details}
    call, out = relay(dumps({"model": "m", "messages": [message]}))
    assert loads_dict(out)["messages"][0]["reasoning_details"] == [
        {"type": "reasoning.text", "text": "x", "signature": "s"},
        native,
    ]
    assert [loss.code for loss in call.losses] == [LossCode.SIGNATURE_DROPPED]
    only = {**message, "reasoning_details": [thinking_entry("y", claude, 0)]}
    assert "reasoning_details" not in sent({"model": "m", "messages": [only]})["messages"][0]
    assert signatures.belongs_to(own, spec())


@pytest.mark.parametrize(
    "raw",
    [
        b'{"model":"a","model":"b","messages":[]}',
        b'{"model":"a","messages":[],"\\u006dodel":"b"}',
        b'{"messages":[],"stream":true,"x":1,"stream":false}',
    ],
)
def test_a_field_that_occurs_twice_is_refused(raw: bytes) -> None:
    with pytest.raises(LocalProtocolError, match="twice"):
        relay(raw)


def test_affinity_and_routing_in_a_relay() -> None:
    body = {"model": "m", "messages": [], "prompt_cache_key": "k", "provider": {"sort": "price"}}
    quirks = {
        "send_session_affinity": True,
        "session_affinity_format": "openrouter",
        "open_router_routing": {"zdr": True},
    }
    call, out = relay(dumps(body), quirks=quirks)
    assert call.headers == {"x-session-id": "k"}
    assert loads_dict(out)["provider"] == {"sort": "price", "zdr": True}


# --- meter --------------------------------------------------------------------------------------


USAGE = {"prompt_tokens": 9, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 4}}
TEXT = 'he said "usage":{ and "error":{ and data: [DONE]'
STREAM = sse(
    chunk({"role": "assistant", "content": ""}, usage=None),
    chunk({"content": TEXT}, usage=None),
    chunk({}, "stop", usage=None),
    {**chunk(), "choices": [], "usage": USAGE, "service_tier": "flex"},
)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 10_000])
def test_the_meter_reads_usage_and_end_from_any_cutting(size: int) -> None:
    meter = CODEC.stream_meter(spec())
    for start in range(0, len(STREAM), size):
        meter.feed(STREAM[start : start + size])
    meter.close()
    assert meter.usage == Usage(input=5, cache_read=4, output=2, service_tier="flex")
    assert meter.is_ended
    assert meter.has_content
    assert meter.fault is None


def test_the_meter_reads_json_however_it_is_spaced() -> None:
    for colon in (b":", b": ", b" : "):
        stream = (
            b'data: {"choices"@[{"index"@0,"finish_reason"@"stop"}],"usage"@{"prompt_tokens"@4}}'
        )
        meter = CODEC.stream_meter(spec())
        meter.feed(stream.replace(b"@", colon) + b"\n\n")
        meter.close()
        assert meter.usage == Usage(input=4)
        assert meter.is_ended


def test_the_meter_sees_the_first_content_and_nothing_before() -> None:
    meter = CODEC.stream_meter(spec())
    meter.feed(sse(chunk({"role": "assistant", "content": ""}), done=False))
    assert not meter.has_content
    meter.feed(sse(chunk({"tool_calls": [{"index": 0}]}), done=False))
    assert meter.has_content


def test_the_meter_tells_errors_and_cut_off_streams() -> None:
    meter = CODEC.stream_meter(spec())
    meter.feed(sse({"error": {"message": "busy", "code": 503}}, done=False))
    meter.close()
    assert meter.fault is not None
    assert meter.fault.kind is FaultKind.OVERLOADED
    assert not meter.is_ended
    cut = CODEC.stream_meter(spec())
    cut.feed(sse(chunk({"content": "x"}), done=False))
    cut.close()
    assert not cut.is_ended
    finished = CODEC.stream_meter(spec())
    finished.feed(sse(chunk({"content": "x"}, "stop"), done=False))
    finished.close()
    assert finished.is_ended
    silent = CODEC.stream_meter(spec(quirks={"supports_finish_reason": False}))
    silent.feed(sse(chunk({"content": "x"}), done=False))
    silent.close()
    assert silent.is_ended


def test_usage_of_a_complete_answer() -> None:
    assert CODEC.answer_usage(dumps({"usage": USAGE})) == Usage(input=5, cache_read=4, output=2)
    assert CODEC.answer_usage(b'{"choices":[]}') is None
    assert CODEC.answer_usage(b"<html>") is None


@pytest.mark.timed
def test_the_meter_costs_little_per_chunk() -> None:
    """At most 2 µs over reading; the bound is generous because the machine is shared."""
    piece = sse(chunk({"content": " hello world"}, usage=None), done=False)
    meter = CODEC.stream_meter(spec())
    meter.feed(piece)

    def cost() -> float:
        begin = time.thread_time()
        for _ in range(5000):
            meter.feed(piece)
        return (time.thread_time() - begin) / 5000

    assert min(cost() for _ in range(5)) < allowed(8e-6)


@pytest.mark.parametrize("size", [1, 5, 33, 10_000])
@pytest.mark.parametrize("ending", [b"\n", b"\r\n"])
def test_the_usage_chunk_that_the_client_did_not_ask_for_is_taken_out(
    size: int, ending: bytes
) -> None:
    stream = STREAM.replace(b"\n", ending)
    sieve = UsageChunkFilter()
    out = b"".join(
        sieve.feed(stream[start : start + size]) for start in range(0, len(stream), size)
    )
    out += sieve.close()
    events = re.split(rb"(?<=\n\n)|(?<=\r\n\r\n)", stream)
    kept = [event for event in events if b'"choices":[]' not in event]
    assert len(kept) == len(events) - 1
    assert out == b"".join(kept)
    prelude = b'data: {"choices":[],"prompt_filter_results":[{}]}\n\n'
    assert UsageChunkFilter().feed(prelude) == prelude


def test_the_filter_bounds_what_it_holds() -> None:
    sieve = UsageChunkFilter()
    piece = b"x" * 65536 + b"\n"
    with pytest.raises(RemoteProtocolError, match="too long"):
        all(sieve.feed(piece) == b"" for _ in range(80))


def test_the_filter_is_needed_only_when_the_relay_asked_on_its_own() -> None:
    assert needs_usage_filter({"stream": True}, spec())
    assert needs_usage_filter({"stream_options": {"include_obfuscation": False}}, spec())
    assert not needs_usage_filter({"stream_options": {"include_usage": True}}, spec())
    silent = spec(quirks={"supports_usage_in_streaming": False})
    assert not needs_usage_filter({"stream": True}, silent)


def test_numbers_of_any_size_survive() -> None:
    raw = (
        b'{"model":"m","messages":[],"store":false,"seed":123456789012345678901234567890,"t":0.10}'
    )
    out = relay(raw)[1]
    assert b"123456789012345678901234567890" in out
    assert b"0.10" in out
    assert msgspec.json.decode(out)["model"] == "upstream-model"
