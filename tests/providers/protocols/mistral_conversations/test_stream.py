"""Mistral's answers as events, whole and streamed, in any cutting."""

from __future__ import annotations

import itertools
import json as stdlib
import random
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controlplane.kit.errors import FaultKind
from controlplane.kit.json import JSONDict
from providers.protocols.canonical import (
    ArgumentsDelta,
    BlockEnd,
    BlockStart,
    End,
    Event,
    Failed,
    Finish,
    LogprobsDelta,
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
from providers.protocols.mistral_conversations import CODEC
from providers.protocols.quirks import Quirks
from tests.conformance.examples import examples

SLUG = "mistral-conversations"
MODEL = ModelSpec(id="mistral-x", protocol=SLUG)


def chunk(
    content: Any = None, *calls: JSONDict, finish: str | None = None, index: int = 0, **more: Any
) -> JSONDict:
    delta: JSONDict = {}
    if content is not None:
        delta["content"] = content
    if calls:
        delta["tool_calls"] = list(calls)
    choice = {"index": index, "delta": delta, "finish_reason": finish}
    return {
        "id": "cmpl-1",
        "object": "chat.completion.chunk",
        "created": 7,
        "model": "mistral-x-01",
        "choices": [choice],
        **more,
    }


def call(
    name: str | None = None,
    arguments: Any = None,
    *,
    call_id: str | None = None,
    index: int | None = None,
) -> JSONDict:
    function = {}
    if name is not None:
        function["name"] = name
    if arguments is not None:
        function["arguments"] = arguments
    out: JSONDict = {"function": function}
    if call_id is not None:
        out["id"] = call_id
    if index is not None:
        out["index"] = index
    return out


def thinking(text: str, **more: Any) -> JSONDict:
    return {"type": "thinking", "thinking": [{"type": "text", "text": text}], **more}


def sse(*chunks: Any, done: bool = True) -> bytes:
    data = b"".join(b"data: " + stdlib.dumps(one).encode() + b"\n\n" for one in chunks)
    return data + b"data: [DONE]\n\n" if done else data


def read(
    pieces: bytes | list[bytes], restore: Restore | None = None, model: ModelSpec = MODEL
) -> list[Event]:
    decoder = CODEC.stream_decoder(restore or Restore(), model)
    events: list[Event] = []
    for piece in [pieces] if isinstance(pieces, bytes) else pieces:
        events += decoder.feed(piece)
    return events + decoder.close()


def calls_of(events: list[Event]) -> list[tuple[str, str, str]]:
    """(id, name, arguments) of every call, in order."""
    found: dict[int, list[str]] = {}
    for event in events:
        if isinstance(event, BlockStart) and isinstance(event.block, ToolCall):
            found[event.index] = [event.block.id, event.block.name, ""]
        elif isinstance(event, ArgumentsDelta):
            found[event.index][2] += event.fragment
    return [(a, b, c) for a, b, c in found.values()]


UNSIGNED = Signature(value="unsigned", protocol=SLUG, model="mistral-x")
RICH = [
    chunk(""),
    chunk([thinking("Let me ")]),
    chunk(""),
    chunk([thinking("think")]),
    chunk("Hé"),
    chunk([{"type": "text", "text": "llo \U0001f600"}]),
    chunk(None, call("f", '{"a":', call_id="AbCdEfGh1", index=0)),
    chunk(None, call(None, "1}", index=0)),
    chunk(None, call("g", {"b": [2]}, call_id="AbCdEfGh2", index=1)),
    chunk(
        "",
        finish="tool_calls",
        usage={"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13},
    ),
]
WHOLE = {
    "id": "cmpl-1",
    "object": "chat.completion",
    "created": 7,
    "model": "mistral-x-01",
    "choices": [
        {
            "index": 0,
            "message": {
                "role": "assistant",
                "content": [thinking("Let me think"), {"type": "text", "text": "Héllo \U0001f600"}],
                "tool_calls": [
                    call("f", '{"a":1}', call_id="AbCdEfGh1"),
                    call("g", {"b": [2]}, call_id="AbCdEfGh2"),
                ],
            },
            "finish_reason": "tool_calls",
        }
    ],
    "usage": {"prompt_tokens": 9, "completion_tokens": 4},
}


def test_trap_101_a_stream() -> None:
    assert read(sse(*RICH)) == [
        Start("cmpl-1", "mistral-x-01", 7),
        BlockStart(0, Thinking()),
        ThinkingDelta(0, "Let me "),
        ThinkingDelta(0, "think"),
        SignatureDelta(0, UNSIGNED),
        BlockEnd(0),
        BlockStart(1, Text(text="")),
        TextDelta(1, "Hé"),
        TextDelta(1, "llo \U0001f600"),
        BlockEnd(1),
        BlockStart(2, ToolCall(id="AbCdEfGh1", name="f", arguments="")),
        ArgumentsDelta(2, '{"a":'),
        ArgumentsDelta(2, "1}"),
        BlockStart(3, ToolCall(id="AbCdEfGh2", name="g", arguments="")),
        ArgumentsDelta(3, '{"b":[2]}'),
        BlockEnd(2),
        BlockEnd(3),
        Finish("tool_use", "tool_calls"),
        UsageUpdate(Usage(input=9, output=4)),
        End(),
    ]


def summary(events: list[Event]) -> Any:
    text = "".join(event.text for event in events if isinstance(event, TextDelta))
    thought = "".join(event.text for event in events if isinstance(event, ThinkingDelta))
    rest = [e for e in events if isinstance(e, Start | Finish | UsageUpdate | End | SignatureDelta)]
    return text, thought, calls_of(events), rest


def test_trap_141_a_whole_answer_is_a_stream_that_arrived_at_once() -> None:
    whole = CODEC.decode_answer(stdlib.dumps(WHOLE, indent=2).encode(), Restore(), MODEL)
    assert summary(whole) == summary(read(sse(*RICH)))


def test_any_cutting_gives_the_same_events() -> None:
    data = sse(*RICH)
    wanted = read(data)
    for at in range(len(data)):
        assert read([data[:at], data[at:]]) == wanted
    draw = random.Random(11)
    for _ in range(300):
        cuts = sorted(draw.randrange(len(data)) for _ in range(9))
        assert read([data[a:b] for a, b in itertools.pairwise([0, *cuts, len(data)])]) == wanted


# --- calls ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("deltas", "wanted"),
    [
        pytest.param(
            [call("f", '{"a"', call_id="A23456789", index=0), call(None, ":1}", index=0)],
            [("A23456789", "f", '{"a":1}')],
            id="trap_031_a_continuation_without_an_id",
        ),
        pytest.param(
            [
                call("f", '{"a"', call_id="A23456789", index=0),
                call(None, ":1}", call_id="null", index=0),
            ],
            [("A23456789", "f", '{"a":1}')],
            id="trap_030_a_continuation_with_the_id_null",
        ),
        pytest.param(
            [call("f", "{}", call_id="A23456789"), call("g", "{}", call_id="B23456789")],
            [("A23456789", "f", "{}"), ("B23456789", "g", "{}")],
            id="without_any_index",
        ),
        pytest.param(
            [call("f", "{", call_id="A23456789"), call(None, "}")],
            [("A23456789", "f", "{}")],
            id="without_index_and_id_the_last_open_one",
        ),
        pytest.param(
            [
                call("f", "{", call_id="A23456789"),
                call("g", "{", call_id="B23456789"),
                call(None, "}", call_id="A23456789"),
                call(None, "}", call_id="B23456789"),
            ],
            [("A23456789", "f", "{}"), ("B23456789", "g", "{}")],
            id="by_id_alone",
        ),
        pytest.param(
            [
                call("f", "{}", call_id="A23456789", index=0),
                call("g", "{}", call_id="B23456789", index=0),
            ],
            [("A23456789", "f", "{}"), ("B23456789", "g", "{}")],
            id="every_call_numbered_0",
        ),
        pytest.param(
            [
                call("f", "{", call_id="A23456789", index=0),
                call("g", "[", call_id="B23456789", index=1),
                call(None, "}", index=0),
                call(None, "]", index=1),
            ],
            [("A23456789", "f", "{}"), ("B23456789", "g", "[]")],
            id="trap_035_interleaved",
        ),
        pytest.param(
            [
                call("", "{", call_id="A23456789", index=0),
                call(None, '"a":', index=0),
                call("f", "1}", index=0),
            ],
            [("A23456789", "f", '{"a":1}')],
            id="trap_033_a_late_name",
        ),
        pytest.param(
            [
                call("f", "{", call_id="A23456789", index=0),
                call("f", "}", call_id="A23456789", index=0),
            ],
            [("A23456789", "f", "{}")],
            id="repeated_name_and_id",
        ),
        pytest.param(
            [call("f", {"x": [1.5, "é"]}, call_id="A23456789", index=0)],
            [("A23456789", "f", '{"x":[1.5,"é"]}')],
            id="arguments_as_an_object",
        ),
        pytest.param(
            [call("f", None, call_id="A23456789", index=0)],
            [("A23456789", "f", "")],
            id="no_arguments",
        ),
        pytest.param(
            [call("f", '{"cut', call_id="A23456789", index=0)],
            [("A23456789", "f", '{"cut')],
            id="trap_043_malformed_is_passed_on",
        ),
    ],
)
def test_calls_in_pieces(deltas: list[JSONDict], wanted: list[tuple[str, str, str]]) -> None:
    events = read(sse(*(chunk(None, delta) for delta in deltas), chunk(finish="tool_calls")))
    assert calls_of(events) == wanted
    starts = [e.index for e in events if isinstance(e, BlockStart)]
    ends = [e.index for e in events if isinstance(e, BlockEnd)]
    assert starts == ends == list(range(len(wanted)))


def test_trap_034_a_call_that_never_gets_a_name_is_nothing() -> None:
    events = read(
        sse(chunk("a"), chunk(None, call(None, "{}", index=0)), chunk(finish="tool_calls"))
    )
    assert calls_of(events) == []
    # Trap 36: and does not make the end a tool use.
    assert events[-2] == Finish("stop", "tool_calls")


def test_trap_032_missing_ids_are_made_and_always_the_same() -> None:
    data = sse(
        chunk(None, call("f", "{}", index=0), call("g", "{}", call_id="null", index=1)),
        chunk(finish="stop"),
    )
    first = calls_of(read(data))
    assert first == calls_of(read(data))
    ids = [one[0] for one in first]
    assert len(set(ids)) == 2
    assert all(len(one) == 9 and one.isalnum() for one in ids)


def test_trap_028_one_id_for_two_calls_becomes_two() -> None:
    data = sse(
        chunk(None, call("f", "{}", call_id="A23456789", index=0)),
        chunk(None, call("g", "{}", call_id="A23456789", index=1)),
        chunk(finish="stop"),
    )
    ids = [one[0] for one in calls_of(read(data))]
    assert ids[0] == "A23456789"
    assert ids[1] != ids[0]


def test_names_ids_and_free_text_are_restored() -> None:
    restore = Restore(
        names={"a_b": "a.b"},
        call_ids={"A23456789": "toolu_1"},
        custom=frozenset({"patch"}),
        namespaces={"sh__run": ("sh", "run")},
    )
    data = sse(
        chunk(None, call("a_b", "{}", call_id="A23456789", index=0)),
        chunk(None, call("patch", '{"inp', call_id="B23456789", index=1)),
        chunk(None, call(None, 'ut":"*** Begin"}', index=1)),
        chunk(None, call("sh__run", "{}", call_id="C23456789", index=2)),
        chunk(finish="tool_calls"),
    )
    events = read(data, restore)
    assert [e.block for e in events if isinstance(e, BlockStart)] == [
        ToolCall(id="toolu_1", name="a.b", arguments=""),
        ToolCall(id="B23456789", name="patch", arguments="", kind="custom"),
        ToolCall(id="C23456789", name="run", namespace="sh", arguments=""),
    ]
    assert calls_of(events)[1][2] == "*** Begin"


# --- content -------------------------------------------------------------------------------


def test_thoughts_have_three_shapes_and_perhaps_a_signature() -> None:
    pieces = [
        thinking("a"),
        {"type": "thinking", "thinking": "b", "signature": "sig"},
        {"type": "thinking", "thinking": [{"type": "reference", "reference_ids": [1]}, 7]},
        {"type": "thinking"},
    ]
    events = read(sse(chunk(pieces), chunk("so", finish="stop")))
    assert [e.text for e in events if isinstance(e, ThinkingDelta)] == ["a", "b"]
    assert [e.signature.value for e in events if isinstance(e, SignatureDelta)] == ["sig"]


def test_other_chunks_are_kept_for_mistral() -> None:
    reference = {"type": "reference", "reference_ids": [1, 2]}
    events = read(sse(chunk([{"type": "text", "text": "a"}, reference]), chunk("b", finish="stop")))
    assert [e.block for e in events if isinstance(e, BlockStart)] == [
        Text(text=""),
        Opaque(protocol=SLUG, value=reference),
        Text(text=""),
    ]


def test_trap_147_choices_keep_apart() -> None:
    events = read(
        sse(
            chunk("A", index=0),
            chunk("B", index=1),
            chunk("a", index=0, finish="stop"),
            chunk(None, call("f", "{}", index=0), index=1, finish="tool_calls"),
        )
    )
    assert [(e.index, e.text, e.choice) for e in events if isinstance(e, TextDelta)] == [
        (0, "A", 0),
        (1, "B", 1),
        (0, "a", 0),
    ]
    assert [(e.reason, e.choice) for e in events if isinstance(e, Finish)] == [
        ("stop", 0),
        ("tool_use", 1),
    ]


def test_logprobs_are_passed_on() -> None:
    one = chunk("a", finish="stop")
    one["choices"][0]["logprobs"] = {"content": [{"token": "a", "logprob": -1}]}
    events = read(sse(one))
    assert LogprobsDelta(({"token": "a", "logprob": -1},)) in events


# --- ends ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "has_call", "reason"),
    [
        ("stop", False, "stop"),
        pytest.param("stop", True, "tool_use", id="trap_037_stop_with_a_call"),
        ("tool_calls", True, "tool_use"),
        pytest.param("tool_calls", False, "stop", id="trap_036_no_call_no_tool_use"),
        ("length", False, "length"),
        ("length", True, "length"),
        pytest.param("model_length", False, "context_overflow", id="trap_136_model_length"),
        ("error", False, "error"),
        pytest.param("brand_new", False, "error", id="trap_137_unknown_is_an_error"),
    ],
)
def test_finish_reasons(raw: str, has_call: bool, reason: str) -> None:
    calls = [call("f", "{}", call_id="A23456789", index=0)] if has_call else []
    events = read(sse(chunk("a", *calls, finish=raw)))
    assert events[-2] == Finish(reason, raw)  # type: ignore[arg-type]


def test_trap_122_a_finish_and_a_terminator_are_one_end() -> None:
    events = read(sse(chunk("a", finish="stop")) + sse(chunk("b", finish="stop")))
    assert [type(e) for e in events[-2:]] == [Finish, End]
    assert len([e for e in events if isinstance(e, End)]) == 1
    # Trap 120: what follows the terminator is ignored.
    assert "".join(e.text for e in events if isinstance(e, TextDelta)) == "a"


def test_trap_123_usage_after_the_finish_counts() -> None:
    usage = {"id": "cmpl-1", "choices": [], "usage": {"prompt_tokens": 3}}
    events = read(sse(chunk("a", finish="stop"), usage))
    assert events[-2:] == [UsageUpdate(Usage(input=3)), End()]


@pytest.mark.parametrize("done", [True, False])
def test_trap_117_trap_121_a_stream_without_a_finish_is_cut_off(done: bool) -> None:
    last = read(sse(chunk("a"), done=done))[-1]
    assert isinstance(last, Failed)
    assert (last.fault.kind, last.fault.code) == (FaultKind.UPSTREAM, "stream_truncated")
    assert isinstance(read(b"")[-1], Failed)
    assert isinstance(read(sse())[-1], Failed)


def test_trap_118_servers_that_never_say_why_they_end() -> None:
    model = ModelSpec(id="m", protocol=SLUG, quirks=Quirks(supports_finish_reason=False))
    events = read(sse(chunk("a"), chunk(None, call("f", "{}", index=0))), model=model)
    assert events[-2:] == [Finish("tool_use", "stop"), End()]


def test_a_finish_without_the_terminator_is_whole() -> None:
    assert read(sse(chunk("a", finish="stop"), done=False))[-1] == End()


@pytest.mark.parametrize(
    "error",
    [
        {"error": {"message": "busy", "type": "service_tier_capacity_exceeded", "code": 503}},
        {
            "object": "error",
            "message": "busy",
            "type": "service_tier_capacity_exceeded",
            "code": "3505",
        },
    ],
)
def test_trap_130_an_error_inside_a_200(error: JSONDict) -> None:
    events = read(sse(chunk("a"), error, chunk("b", finish="stop")))
    last = events[-1]
    assert isinstance(last, Failed)
    assert (last.fault.kind, last.fault.message) == (FaultKind.OVERLOADED, "busy")
    whole = CODEC.decode_answer(stdlib.dumps(error).encode(), Restore(), MODEL)
    assert isinstance(whole[-1], Failed)


def test_nothing_follows_the_last_event() -> None:
    decoder = CODEC.stream_decoder(Restore(), MODEL)
    decoder.feed(sse(*RICH))
    assert decoder.feed(sse(*RICH)) == []
    assert decoder.close() == []


def test_trap_116_chunks_without_choices_do_no_harm() -> None:
    data = b": hi\n\ndata: \n\ndata: null\n\n" + sse(
        {"id": "x"}, {"choices": None}, chunk("a", finish="stop")
    )
    assert [e.text for e in read(data) if isinstance(e, TextDelta)] == ["a"]


# --- usage ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("usage", "wanted"),
    [
        (
            {
                "prompt_tokens": 10,
                "completion_tokens": 4,
                "prompt_tokens_details": {"cached_tokens": 6},
            },
            Usage(input=4, cache_read=6, output=4),
        ),
        (
            {"prompt_tokens": 10, "prompt_token_details": {"cached_tokens": 6}},
            Usage(input=4, cache_read=6),
        ),
        ({"prompt_tokens": 10, "num_cached_tokens": 6}, Usage(input=4, cache_read=6)),
        (
            {"prompt_tokens": 10, "prompt_tokens_details": None, "num_cached_tokens": 6},
            Usage(input=4, cache_read=6),
        ),
        ({"prompt_tokens": 10, "num_cached_tokens": 60}, Usage(cache_read=10)),
        (
            {"completion_tokens": 9, "completion_tokens_details": {"reasoning_tokens": 5}},
            Usage(output=9, reasoning=5),
        ),
        (
            {
                "prompt_tokens": -1,
                "completion_tokens": 1e300,
                "prompt_audio_seconds": {},
                "service_tier": "priority",
            },
            Usage(output=10**9, service_tier="priority"),
        ),
        ({}, Usage()),
    ],
)
def test_trap_149_usage(usage: JSONDict, wanted: Usage) -> None:
    events = read(sse(chunk("a", finish="stop", usage=usage)))
    assert [e.usage for e in events if isinstance(e, UsageUpdate)] == [wanted]


# --- hostile bytes -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        b"data: {\n\n",
        b"data: 7\n\n",
        b'data: {"choices": 7}\n\n',
        b'data: {"choices": [{"delta": {"content": 7}}]}\n\n',
        b'data: {"choices": [{"delta": {"content": [7]}}]}\n\n',
        b'data: {"choices": [{"index": -1}]}\n\n',
        b'data: {"choices": [{"index": 4096}]}\n\n',
        b"data: " + b'{"a":' * 100 + b"1" + b"}" * 100 + b"\n\n",
        b"data: \xff\n\n",
        b'data: {"error": {"message": "\xff"}}\n\n',
        sse(chunk(None, *(call("f", "", index=i) for i in range(5000)))),
    ],
)
def test_unreadable_bytes_are_one_error(data: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        read(data)


SOURCE = sse(*RICH)


@settings(max_examples=examples(133), deadline=None)
@given(st.data())
def test_mutated_streams_give_events_or_a_typed_error(data: st.DataObject) -> None:
    raw = bytearray(SOURCE)
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, max(len(raw) - 1, 0)))
        match data.draw(st.sampled_from(["flip", "cut", "double", "swap"])):
            case "flip":
                raw[at : at + 1] = bytes([data.draw(st.integers(0, 255))])
            case "cut":
                del raw[at : at + data.draw(st.integers(1, 40))]
            case "double":
                raw[at:at] = raw[at : at + 30]
            case _:
                raw[at : at + 1] = data.draw(
                    st.sampled_from([b"null", b"[]", b"{}", b"-1", b"1e999", b'"'])
                )
    try:
        events = read(bytes(raw))
    except RemoteProtocolError:
        return
    assert isinstance(events[-1], End | Failed)


def test_10_000_chunks_cost_the_same_each() -> None:
    decoder = CODEC.stream_decoder(Restore(), MODEL)
    one = sse(chunk(None, call("f", "some words ", index=0)), done=False)
    costs = []
    for _ in range(10):
        begun = time.thread_time()
        for _ in range(1000):
            decoder.feed(one)
        costs.append(time.thread_time() - begun)
    assert min(costs[-3:]) < 3 * min(costs[:3]) + 0.005
