"""Messages API answers to events."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from typing import Any

import msgspec
import pytest

from controlplane.kit.errors import FaultKind
from controlplane.kit.json import JSONDict, dumps
from providers.protocols.anthropic_messages import CODEC
from providers.protocols.anthropic_messages.response import MAX_HELD
from providers.protocols.canonical import (
    ArgumentsDelta,
    BlockEnd,
    BlockStart,
    CitationDelta,
    End,
    Event,
    Failed,
    Finish,
    KeepAlive,
    ModelSpec,
    Opaque,
    Signature,
    SignatureDelta,
    Start,
    Text,
    TextDelta,
    Thinking,
    ThinkingDelta,
    ToolCall,
    Usage,
    UsageUpdate,
)
from providers.protocols.codec import Restore
from providers.protocols.errors import RemoteProtocolError
from providers.protocols.sse import named_event

MODEL = ModelSpec(id="claude-x", protocol="anthropic-messages", reasoning=True)


def sse(*events: JSONDict) -> bytes:
    return b"".join(named_event(event["type"].encode(), dumps(event)) for event in events)


def start(**usage: Any) -> JSONDict:
    return {
        "type": "message_start",
        "message": {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": "claude-x-2026",
            "content": [],
            "stop_reason": None,
            "usage": usage or {"input_tokens": 10, "output_tokens": 1},
        },
    }


def block(index: int, value: JSONDict) -> JSONDict:
    return {"type": "content_block_start", "index": index, "content_block": value}


def delta(index: int, kind: str, **fields: Any) -> JSONDict:
    return {"type": "content_block_delta", "index": index, "delta": {"type": kind, **fields}}


def stop(index: int) -> JSONDict:
    return {"type": "content_block_stop", "index": index}


def finish(reason: str | None, **fields: Any) -> list[JSONDict]:
    usage = fields.pop("usage", {"output_tokens": 7})
    return [
        {
            "type": "message_delta",
            "delta": {"stop_reason": reason, "stop_sequence": None, **fields},
            "usage": usage,
        },
        {"type": "message_stop"},
    ]


def decode(data: bytes, restore: Restore | None = None, size: int = 0) -> list[Event]:
    decoder = CODEC.stream_decoder(restore or Restore(), MODEL)
    events: list[Event] = []
    for position in range(0, len(data), size or max(1, len(data))):
        events += decoder.feed(data[position : position + (size or len(data))])
    return events + decoder.close()


def of_type(events: Iterable[Event], kind: Any) -> list[Any]:
    return [event for event in events if isinstance(event, kind)]


RICH = sse(
    start(input_tokens=10, cache_read_input_tokens=5, output_tokens=1),
    {"type": "ping"},
    block(0, {"type": "thinking", "thinking": "", "signature": ""}),
    delta(0, "thinking_delta", thinking="Let me 🤔"),
    delta(0, "signature_delta", signature="c2ln"),
    stop(0),
    block(1, {"type": "redacted_thinking", "data": "cmVk"}),
    stop(1),
    block(2, {"type": "text", "text": ""}),
    delta(2, "text_delta", text="Grüße "),
    delta(2, "text_delta", text="世界"),
    delta(
        2,
        "citations_delta",
        citation={"type": "char_location", "cited_text": "x", "document_index": 0},
    ),
    stop(2),
    block(3, {"type": "server_tool_use", "id": "srv_1", "name": "web_search", "input": {}}),
    delta(3, "input_json_delta", partial_json='{"query":'),
    delta(3, "input_json_delta", partial_json='"q"}'),
    stop(3),
    block(4, {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {}}),
    delta(4, "input_json_delta", partial_json=""),
    delta(4, "input_json_delta", partial_json='{"a":'),
    delta(4, "input_json_delta", partial_json="1}"),
    stop(4),
    *finish(
        "tool_use", usage={"output_tokens": 20, "output_tokens_details": {"thinking_tokens": 8}}
    ),
)
PROOF = Signature(value="c2ln", protocol="anthropic-messages", model="claude-x")


def test_the_whole_grammar() -> None:
    final = Usage(input=10, cache_read=5, output=20, reasoning=8)
    assert decode(RICH) == [
        Start(id="msg_1", model="claude-x-2026"),
        UsageUpdate(Usage(input=10, cache_read=5, output=1)),
        KeepAlive(),
        BlockStart(0, Thinking()),
        ThinkingDelta(0, "Let me 🤔"),
        SignatureDelta(0, PROOF),
        BlockEnd(0),
        BlockStart(
            1, Thinking(redacted=True, signature=msgspec.structs.replace(PROOF, value="cmVk"))
        ),
        BlockEnd(1),
        BlockStart(2, Text(text="")),
        TextDelta(2, "Grüße "),
        TextDelta(2, "世界"),
        CitationDelta(2, {"type": "char_location", "cited_text": "x", "document_index": 0}),
        BlockEnd(2),
        BlockStart(
            3,
            Opaque(
                protocol="anthropic-messages",
                value={
                    "type": "server_tool_use",
                    "id": "srv_1",
                    "name": "web_search",
                    "input": {"query": "q"},
                },
            ),
        ),
        BlockEnd(3),
        BlockStart(4, ToolCall(id="toolu_1", name="f", arguments="")),
        ArgumentsDelta(4, '{"a":'),
        ArgumentsDelta(4, "1}"),
        BlockEnd(4),
        UsageUpdate(final),
        Finish(reason="tool_use", raw="tool_use"),
        End(),
    ]


def test_any_cutting_gives_the_same_events() -> None:
    whole = decode(RICH)
    for size in (1, 2, 3, 7, 64, 4096):
        assert decode(RICH, size=size) == whole
    for cut in range(1, len(RICH), 5):
        decoder = CODEC.stream_decoder(Restore(), MODEL)
        assert decoder.feed(RICH[:cut]) + decoder.feed(RICH[cut:]) + decoder.close() == whole


@pytest.mark.parametrize("newline", [b"\r\n", b"\r"])
def test_other_line_ends(newline: bytes) -> None:
    assert decode(RICH.replace(b"\n", newline)) == decode(RICH)


def test_a_complete_answer_is_a_stream_that_arrived_at_once() -> None:
    body: JSONDict = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-x-2026",
        "content": [
            {"type": "thinking", "thinking": "Let me 🤔", "signature": "c2ln"},
            {"type": "redacted_thinking", "data": "cmVk"},
            {
                "type": "text",
                "text": "Grüße 世界",
                "citations": [{"type": "char_location", "cited_text": "x", "document_index": 0}],
            },
            {
                "type": "server_tool_use",
                "id": "srv_1",
                "name": "web_search",
                "input": {"query": "q"},
            },
            {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"a": 1}},
        ],
        "stop_reason": "tool_use",
        "stop_sequence": None,
        "usage": {
            "input_tokens": 10,
            "cache_read_input_tokens": 5,
            "output_tokens": 20,
            "output_tokens_details": {"thinking_tokens": 8},
        },
    }
    whole = CODEC.decode_answer(dumps(body), Restore(), MODEL)
    assert _joined(whole) == _joined(decode(RICH))


def _joined(events: list[Event]) -> list[Any]:
    """Deltas of one block together, only the last usage, no pings."""
    out: list[Any] = []
    usage: Usage | None = None
    for event in events:
        if isinstance(event, UsageUpdate):
            usage = event.usage
        elif isinstance(event, TextDelta | ThinkingDelta) and out and type(out[-1]) is type(event):
            out[-1] = type(event)(event.index, out[-1].text + event.text)
        elif isinstance(event, ArgumentsDelta) and isinstance(out[-1], ArgumentsDelta):
            out[-1] = ArgumentsDelta(event.index, out[-1].fragment + event.fragment)
        elif not isinstance(event, KeepAlive):
            out.append(event)
    return [*out, usage]


def test_trap_035_interleaved_blocks_keep_their_own_state() -> None:
    events = decode(
        sse(
            start(),
            block(0, {"type": "tool_use", "id": "a", "name": "f", "input": {}}),
            block(1, {"type": "tool_use", "id": "b", "name": "g", "input": {}}),
            delta(0, "input_json_delta", partial_json='{"a"'),
            delta(1, "input_json_delta", partial_json='{"b"'),
            delta(0, "input_json_delta", partial_json=":1}"),
            delta(1, "input_json_delta", partial_json=":2}"),
            stop(1),
            stop(0),
            *finish("tool_use"),
        )
    )
    collected: dict[int, str] = {}
    for event in of_type(events, ArgumentsDelta):
        collected[event.index] = collected.get(event.index, "") + event.fragment
    assert collected == {0: '{"a":1}', 1: '{"b":2}'}


def test_trap_036_tool_use_without_a_call_is_a_stop() -> None:
    events = decode(sse(start(), *finish("tool_use")))
    assert of_type(events, Finish)[0].reason == "stop"


def test_trap_037_stop_with_a_call_is_tool_use() -> None:
    call = block(0, {"type": "tool_use", "id": "a", "name": "f", "input": {}})
    events = decode(sse(start(), call, stop(0), *finish("end_turn")))
    assert of_type(events, Finish)[0].reason == "tool_use"
    events = decode(sse(start(), call, stop(0), *finish("max_tokens")))
    assert of_type(events, Finish)[0].reason == "length"


@pytest.mark.parametrize(
    ("initial", "fragments", "arguments"),
    [
        ({}, [], "{}"),
        ({}, [""], "{}"),
        ({"a": 1}, [], '{"a":1}'),
        ({"a": 1}, ['{"b":', "2}"], '{"b":2}'),
    ],
)
def test_trap_045_arguments_of_a_start_are_a_placeholder(
    initial: JSONDict, fragments: list[str], arguments: str
) -> None:
    events = decode(
        sse(
            start(),
            block(0, {"type": "tool_use", "id": "a", "name": "f", "input": initial}),
            *(delta(0, "input_json_delta", partial_json=fragment) for fragment in fragments),
            stop(0),
            *finish("tool_use"),
        )
    )
    assert "".join(event.fragment for event in of_type(events, ArgumentsDelta)) == arguments


def test_trap_067_and_070_names_and_custom_tools_are_restored() -> None:
    restore = Restore(
        names={"a_b": "a.b"}, custom=frozenset({"patch"}), namespaces={"ns__f": ("ns", "f")}
    )
    events = decode(
        sse(
            start(),
            block(0, {"type": "tool_use", "id": "1", "name": "a_b", "input": {}}),
            stop(0),
            block(1, {"type": "tool_use", "id": "2", "name": "ns__f", "input": {}}),
            stop(1),
            block(2, {"type": "tool_use", "id": "3", "name": "patch", "input": {}}),
            delta(2, "input_json_delta", partial_json='{"input":"*** '),
            delta(2, "input_json_delta", partial_json='free"}'),
            stop(2),
            *finish("tool_use"),
        ),
        restore,
    )
    calls = [event.block for event in of_type(events, BlockStart)]
    assert [(call.name, call.namespace, call.kind) for call in calls] == [
        ("a.b", None, "function"),
        ("f", "ns", "function"),
        ("patch", None, "custom"),
    ]
    assert of_type(events, ArgumentsDelta)[-1].fragment == "*** free"


def test_trap_092_signatures_remember_the_model_we_asked_for() -> None:
    (signature,) = of_type(decode(RICH), SignatureDelta)
    assert signature.signature.model == "claude-x"


def test_trap_117_a_cut_stream_is_an_error() -> None:
    for cut in (0, 30, len(RICH) // 2, RICH.rindex(b"event: message_stop")):
        events = decode(RICH[:cut])
        assert isinstance(events[-1], Failed)
        assert events[-1].fault.code == "stream_truncated"
        assert not of_type(events, End)


def test_trap_119_the_last_event_may_lack_its_blank_line() -> None:
    assert decode(RICH.rstrip(b"\n")) == decode(RICH)


def test_trap_120_and_122_everything_after_the_end_is_ignored() -> None:
    events = decode(RICH + b"data: [DONE]\n\n" + RICH)
    assert events == decode(RICH)


def test_trap_127_stops_of_blocks_that_never_began() -> None:
    events = decode(sse(start(), stop(3), *finish("end_turn")))
    assert not of_type(events, BlockEnd)


def test_trap_128_blocks_may_begin_with_content() -> None:
    events = decode(
        sse(
            start(),
            block(0, {"type": "thinking", "thinking": "hm", "signature": "c2ln"}),
            stop(0),
            block(1, {"type": "text", "text": "He"}),
            delta(1, "text_delta", text="llo"),
            stop(1),
            *finish("end_turn"),
        )
    )
    assert "".join(event.text for event in of_type(events, TextDelta)) == "Hello"
    assert of_type(events, ThinkingDelta)[0].text == "hm"
    assert of_type(events, SignatureDelta)[0].signature == PROOF


@pytest.mark.parametrize(
    ("first", "last", "expected"),
    [
        (
            {"input_tokens": 9, "cache_read_input_tokens": 4, "output_tokens": 1},
            {"output_tokens": 5},
            Usage(input=9, cache_read=4, output=5),
        ),
        (
            {"input_tokens": 9, "output_tokens": 1},
            {"input_tokens": 0, "cache_read_input_tokens": None, "output_tokens": 5},
            Usage(input=9, output=5),
        ),
        (
            {"input_tokens": 9, "output_tokens": 1},
            {
                "input_tokens": 0,
                "cache_read_input_tokens": 9,
                "cache_creation_input_tokens": 0,
                "output_tokens": 5,
            },
            Usage(cache_read=9, output=5),
        ),
        ({"input_tokens": 0}, {"input_tokens": 30, "output_tokens": 5}, Usage(input=30, output=5)),
        ({"input_tokens": 9, "output_tokens": 1}, None, Usage(input=9, output=1)),
        (
            {"input_tokens": -4, "output_tokens": True},
            {"input_tokens": "7", "output_tokens": 1e300},
            Usage(output=1_000_000_000),
        ),
    ],
    ids=["absent", "null-and-zero", "new-breakdown", "late", "no-usage", "lies"],
)
def test_trap_129_usage_of_start_and_delta(
    first: JSONDict, last: JSONDict | None, expected: Usage
) -> None:
    events = decode(sse(start(**first), *finish("end_turn", usage=last)))
    assert of_type(events, UsageUpdate)[-1].usage == expected


def test_trap_153_cache_writes_by_lifetime() -> None:
    usage = {
        "input_tokens": 1,
        "cache_creation_input_tokens": 30,
        "cache_creation": {"ephemeral_5m_input_tokens": 10, "ephemeral_1h_input_tokens": 20},
        "server_tool_use": {"web_search_requests": 2},
        "service_tier": "priority",
        "output_tokens": 3,
    }
    (update,) = of_type(decode(sse(start(**usage), *finish("end_turn", usage=None))), UsageUpdate)
    assert update.usage == Usage(
        input=1,
        cache_write=30,
        cache_write_1h=20,
        output=3,
        web_searches=2,
        service_tier="priority",
    )


def test_trap_130_errors_inside_the_stream_surface() -> None:
    data = sse(start()) + named_event(
        b"error",
        b'{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}',
    )
    events = decode(data)
    failed = events[-1]
    assert isinstance(failed, Failed)
    assert failed.fault.kind is FaultKind.OVERLOADED
    assert failed.fault.upstream_code == "overloaded_error"
    assert failed.fault.message == "Overloaded"


def test_trap_133_pings_and_unknown_events() -> None:
    data = sse(start(), {"type": "ping"}, {"type": "brand_new", "x": [1]}, *finish("end_turn"))
    kinds = [type(event) for event in decode(data)]
    assert kinds == [Start, UsageUpdate, KeepAlive, UsageUpdate, Finish, End]


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop_sequence"),
        ("max_tokens", "length"),
        ("pause_turn", "pause"),
        ("refusal", "refusal"),
        ("sensitive", "content_filter"),
        ("model_context_window_exceeded", "context_overflow"),
        ("somewhere_new", "error"),
        (None, "error"),
    ],
)
def test_trap_137_stop_reasons(raw: str | None, reason: str) -> None:
    (end,) = of_type(decode(sse(start(), *finish(raw))), Finish)
    assert (end.reason, end.raw) == (reason, raw or "")


def test_refusals_keep_their_details() -> None:
    details = {"type": "refusal", "category": "bio", "explanation": "No."}
    (end,) = of_type(decode(sse(start(), *finish("refusal", stop_details=details))), Finish)
    assert end.details == details


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"[]", b'{"content": 3}', b'{"content": [1]}', b'{"content":' * 90]
)
def test_bytes_that_are_no_answer(body: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        CODEC.decode_answer(body, Restore(), MODEL)


def test_an_error_body_under_status_200() -> None:
    body = b'{"type":"error","error":{"type":"api_error","message":"broken"}}'
    (failed,) = CODEC.decode_answer(body, Restore(), MODEL)
    assert isinstance(failed, Failed)
    assert failed.fault.upstream_code == "api_error"


def test_mutated_streams_give_typed_errors_only() -> None:
    """Every started block ends, there is one end, or a RemoteProtocolError."""
    dice = random.Random(5)
    for _ in range(3000):
        data = bytearray(RICH)
        for _ in range(dice.randint(1, 6)):
            position = dice.randrange(len(data))
            match dice.randrange(3):
                case 0:
                    data[position] = dice.randrange(256)
                case 1:
                    del data[position : position + dice.randint(1, 40)]
                case _:
                    data[position:position] = data[: dice.randint(1, 60)]
        try:
            events = decode(bytes(data))
        except RemoteProtocolError:
            continue
        _check_grammar(events)


def _check_grammar(events: list[Event]) -> None:
    assert isinstance(events[-1], End | Failed)
    assert len(of_type(events, (End, Failed))) == 1
    started = [event.index for event in of_type(events, BlockStart)]
    assert len(started) == len(set(started))
    if isinstance(events[-1], End):
        assert sorted(event.index for event in of_type(events, BlockEnd)) == sorted(started)
        assert len(of_type(events, Finish)) == 1


def test_a_stream_without_end_of_line_is_bounded() -> None:
    decoder = CODEC.stream_decoder(Restore(), MODEL)
    for _ in range(10):
        decoder.feed(b"x" * 100_000)
    with pytest.raises(RemoteProtocolError):
        decoder.feed(b"x" * 100_000)


def test_held_blocks_are_bounded() -> None:
    decoder = CODEC.stream_decoder(Restore(), MODEL)
    decoder.feed(sse(start(), block(0, {"type": "server_tool_use", "id": "s", "input": {}})))
    chunk = sse(delta(0, "input_json_delta", partial_json="x" * 900_000))
    for _ in range(MAX_HELD // 900_000):
        decoder.feed(chunk)
    with pytest.raises(RemoteProtocolError):
        decoder.feed(chunk)


Sdk = Callable[[bytes], Any]


def test_the_sample_stream_is_one_that_the_sdk_reads(sdk_stream: Sdk) -> None:
    message = sdk_stream(RICH)
    assert [part.type for part in message.content] == [
        "thinking",
        "redacted_thinking",
        "text",
        "server_tool_use",
        "tool_use",
    ]
