"""Vendors' Responses streams and answers as events."""

from __future__ import annotations

import random
from typing import Any

import pytest

from controlplane.kit.errors import FaultKind
from controlplane.kit.json import JSONDict, dumps
from providers.protocols.canonical import (
    BlockEnd,
    BlockStart,
    CitationDelta,
    End,
    Event,
    Failed,
    Finish,
    LogprobsDelta,
    Opaque,
    Signature,
    SignatureDelta,
    Start,
    Text,
    Thinking,
    ThinkingDelta,
    Usage,
    UsageUpdate,
)
from providers.protocols.codec import Restore
from providers.protocols.errors import ProtocolError, RemoteProtocolError
from providers.protocols.openai_responses import CODEC
from tests.providers.protocols.openai_completions.builders import (
    calls,
    check_grammar,
    named,
    of,
    spec,
    texts,
    thoughts,
)

MODEL = spec("openai-responses")


def decode(stream: bytes, *, size: int = 0, restore: Restore | None = None) -> list[Event]:
    decoder = CODEC.stream_decoder(restore or Restore(), MODEL)
    events: list[Event] = []
    step = size or len(stream) or 1
    for start in range(0, len(stream), step):
        events += decoder.feed(stream[start : start + step])
    events += decoder.close()
    check_grammar(events)
    return events


def response(status: str = "completed", output: Any = (), **fields: Any) -> JSONDict:
    return {
        "id": "resp_1",
        "object": "response",
        "created_at": 17,
        "model": "vendor-model",
        "status": status,
        "output": list(output),
        **fields,
    }


def event(type_: str, index: int | None = None, **fields: Any) -> JSONDict:
    numbered = {} if index is None else {"output_index": index}
    return {"type": f"response.{type_}", **numbered, **fields}


CREATED = event("created", response=response("in_progress"))
USAGE = {
    "input_tokens": 10,
    "input_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 1},
    "output_tokens": 6,
    "output_tokens_details": {"reasoning_tokens": 2},
    "total_tokens": 16,
}
REASONING = {
    "type": "reasoning",
    "id": "rs_1",
    "summary": [{"type": "summary_text", "text": "one"}, {"type": "summary_text", "text": "two"}],
    "encrypted_content": "final",
}
MESSAGE = {
    "type": "message",
    "id": "msg_1",
    "role": "assistant",
    "phase": "final_answer",
    "content": [{"type": "output_text", "text": "Grüße 🚀", "annotations": []}],
}
CALL_F = {
    "type": "function_call",
    "id": "fc_1",
    "call_id": "c1",
    "name": "f",
    "arguments": '{"x":1}',
}
CALL_G = {"type": "function_call", "id": "fc_2", "call_id": "c2", "name": "g", "arguments": "{}"}
OUTPUT = [REASONING, MESSAGE, CALL_F, CALL_G]


def completed(output: Any = OUTPUT, type_: str = "completed", **fields: Any) -> JSONDict:
    return event(type_, response=response(output=output, usage=USAGE, **fields))


WHOLE = named(
    CREATED,
    event("in_progress", response=response("in_progress")),
    event("output_item.added", 0, item={**REASONING, "summary": [], "encrypted_content": "early"}),
    event(
        "reasoning_summary_part.added",
        0,
        summary_index=0,
        part={"type": "summary_text", "text": ""},
    ),
    event("reasoning_summary_text.delta", 0, summary_index=0, delta="on"),
    event("reasoning_summary_text.delta", 0, summary_index=0, delta="e"),
    event("reasoning_summary_text.done", 0, summary_index=0, text="one"),
    event(
        "reasoning_summary_part.done",
        0,
        summary_index=0,
        part={"type": "summary_text", "text": "one"},
    ),
    event("reasoning_summary_text.delta", 0, summary_index=1, delta="two"),
    event("output_item.done", 0, item=REASONING),
    event("output_item.added", 1, item={**MESSAGE, "content": []}),
    event("content_part.added", 1, content_index=0, part={"type": "output_text", "text": ""}),
    event("output_text.delta", 1, content_index=0, delta="Grüße ", logprobs=[]),
    event("output_text.delta", 1, content_index=0, delta="🚀", logprobs=[]),
    event("output_text.done", 1, content_index=0, text="Grüße 🚀"),
    event("content_part.done", 1, content_index=0, part=MESSAGE["content"][0]),  # type: ignore[index]
    event("output_item.done", 1, item=MESSAGE),
    event("output_item.added", 2, item={**CALL_F, "arguments": ""}),
    event("output_item.added", 3, item={**CALL_G, "arguments": ""}),
    event("function_call_arguments.delta", 2, delta='{"x"'),
    event("function_call_arguments.delta", 3, delta="{}"),
    event("function_call_arguments.delta", 2, delta=":1}"),
    event("function_call_arguments.done", 2, arguments='{"x":1}'),
    event("output_item.done", 2, item=CALL_F),
    event("output_item.done", 3, item=CALL_G),
    completed(),
)


def test_trap_095_a_whole_stream_and_its_final_proof() -> None:
    events = decode(WHOLE)
    assert events[0] == Start("resp_1", "vendor-model", 17)
    assert of(ThinkingDelta, events) == [
        ThinkingDelta(0, "on"),
        ThinkingDelta(0, "e"),
        ThinkingDelta(0, "two", 1),
    ]
    (proof,) = of(SignatureDelta, events)
    assert proof.signature == Signature(
        value="final", protocol="openai-responses", model="upstream-model"
    ), "trap 95: the one of output_item.added is not final"
    assert texts(events) == "Grüße 🚀"
    assert calls(events) == [("c1", "f", '{"x":1}'), ("c2", "g", "{}")], "parallel calls stay apart"
    blocks = [start.block for start in of(BlockStart, events)]
    assert blocks[0] == Thinking(item_id="rs_1")
    assert blocks[1] == Text(text="", phase="final_answer"), "trap 25"
    assert events[-3:] == [
        Finish("tool_use", "completed"),
        UsageUpdate(Usage(input=5, cache_read=4, cache_write=1, output=6, reasoning=2)),
        End(),
    ]


@pytest.mark.parametrize("size", [1, 2, 3, 5, 11, 100, 1000])
def test_any_cutting_yields_the_same_events(size: int) -> None:
    assert decode(WHOLE, size=size) == decode(WHOLE)


def test_trap_141_a_complete_answer_is_a_stream_that_arrived_at_once() -> None:
    body = dumps(response(output=OUTPUT, usage=USAGE))
    events = CODEC.decode_answer(body, Restore(), MODEL)
    check_grammar(events)
    streamed = decode(WHOLE)
    assert texts(events) == texts(streamed)
    assert thoughts(events) == thoughts(streamed)
    assert calls(events) == calls(streamed)
    for kind in (Start, BlockStart, BlockEnd, SignatureDelta, Finish, UsageUpdate, End):
        key = repr
        assert sorted(of(kind, events), key=key) == sorted(of(kind, streamed), key=key)


# --- servers that leave things out ------------------------------------------------------------


def test_trap_040_only_arguments_done() -> None:
    events = decode(
        named(
            CREATED,
            event("output_item.added", 0, item={**CALL_F, "arguments": ""}),
            event("function_call_arguments.done", 0, arguments='{"x":1}'),
            event("output_item.done", 0, item=CALL_F),
            completed([CALL_F]),
        )
    )
    assert calls(events) == [("c1", "f", '{"x":1}')]


def test_trap_041_only_the_final_item_or_only_the_final_response() -> None:
    item = decode(named(CREATED, event("output_item.done", 0, item=CALL_F), completed([CALL_F])))
    assert calls(item) == [("c1", "f", '{"x":1}')]
    only = decode(named(completed()))
    assert texts(only) == "Grüße 🚀"
    assert thoughts(only) == "onetwo"
    assert len(calls(only)) == 2
    part = decode(
        named(
            CREATED,
            event("output_item.added", 0, item={**CALL_F, "arguments": ""}),
            event("function_call_arguments.delta", 0, delta='{"x'),
            completed([CALL_F]),
        )
    )
    assert calls(part) == [("c1", "f", '{"x":1}')]


def test_deltas_before_their_item_wait_for_it() -> None:
    events = decode(
        named(
            CREATED,
            event("function_call_arguments.delta", 0, delta='{"x":'),
            event("function_call_arguments.delta", 0, delta="1}"),
            event("output_item.added", 0, item={**CALL_F, "arguments": ""}),
            event("output_item.done", 0, item=CALL_F),
            completed([]),
        )
    )
    assert calls(events) == [("c1", "f", '{"x":1}')]


def test_trap_042_without_output_index_and_id_nothing_is_guessed() -> None:
    with pytest.raises(RemoteProtocolError, match="output_index"):
        decode(named(CREATED, event("function_call_arguments.delta", delta="{}")))
    by_id = decode(
        named(
            CREATED,
            event("output_item.added", item={**CALL_F, "arguments": ""}),
            event("output_item.added", item={**CALL_G, "arguments": ""}),
            event("function_call_arguments.delta", item_id="fc_2", delta="{}"),
            event("function_call_arguments.delta", item_id="fc_1", delta='{"x":1}'),
            completed([CALL_F, CALL_G]),
        )
    )
    assert calls(by_id) == [("c1", "f", '{"x":1}'), ("c2", "g", "{}")]


def test_trap_142_an_empty_final_output_loses_nothing() -> None:
    stream = WHOLE.replace(dumps(completed())[1:-1], dumps(completed([]))[1:-1])
    assert stream != WHOLE
    assert decode(stream) == decode(WHOLE)


def test_text_before_its_part_and_done_without_deltas() -> None:
    events = decode(
        named(
            CREATED,
            event("output_text.delta", 0, content_index=0, delta="a"),
            event("output_text.done", 0, content_index=0, text="ab"),
            event("output_text.done", 1, content_index=0, text="c"),
            completed([]),
        )
    )
    assert texts(events) == "abc"


def test_what_comes_for_an_item_after_its_end_or_of_another_kind_is_ignored() -> None:
    events = decode(
        named(
            CREATED,
            event("output_item.done", 0, item=MESSAGE),
            event("output_text.delta", 0, content_index=5, delta="late"),
            event("reasoning_summary_text.delta", 0, summary_index=0, delta="late"),
            event("output_item.added", 1, item={**CALL_F, "arguments": ""}),
            event("output_text.delta", 1, content_index=0, delta="odd"),
            event("output_text.annotation.added", 0, content_index=9, annotation={"a": 1}),
            event("output_item.done", 2, item={"typ": "broken"}),
            event("output_item.added", 2, item={**CALL_G, "arguments": ""}),
            event("output_item.done", 1, item=CALL_F),
            completed([]),
        )
    )
    assert texts(events) == "Grüße 🚀"
    assert calls(events) == [("c1", "f", '{"x":1}')]


def test_a_late_proof_comes_as_a_block_of_its_own() -> None:
    bare = {key: value for key, value in REASONING.items() if key != "encrypted_content"}
    events = decode(
        named(
            CREATED,
            event("output_item.done", 0, item=bare),
            event("output_item.done", 1, item=MESSAGE),
            completed([REASONING, MESSAGE]),
        )
    )
    blocks = [start.block for start in of(BlockStart, events)]
    assert blocks[-1] == Thinking(redacted=True, item_id="rs_1")
    assert of(SignatureDelta, events)[0].index == 2


# --- kinds of items ------------------------------------------------------------------------------


def test_trap_096_many_summary_parts_are_one_block_with_one_proof() -> None:
    events = decode(named(completed([REASONING])))
    assert len(of(BlockStart, events)) == 1
    assert [delta.summary_index for delta in of(ThinkingDelta, events)] == [0, 1]
    assert len(of(SignatureDelta, events)) == 1


def test_raw_reasoning_refusals_annotations_and_logprobs() -> None:
    note = {
        "type": "url_citation",
        "url": "https://x",
        "title": "X",
        "start_index": 0,
        "end_index": 1,
    }
    events = decode(
        named(
            CREATED,
            event("output_item.added", 0, item={"type": "reasoning", "id": "rs_1", "summary": []}),
            event("reasoning_text.delta", 0, content_index=0, delta="raw"),
            event("reasoning_text.done", 0, content_index=0, text="raw"),
            event("output_item.added", 1, item={**MESSAGE, "content": []}),
            event(
                "output_text.delta",
                1,
                content_index=0,
                delta="x",
                logprobs=[{"token": "x", "logprob": -1}],
            ),
            event("output_text.annotation.added", 1, content_index=0, annotation=note),
            event("refusal.delta", 1, content_index=1, delta="no"),
            event("refusal.done", 1, content_index=1, refusal="no"),
            completed([]),
        )
    )
    assert thoughts(events) == "raw"
    assert of(CitationDelta, events)[0].citation == note
    assert of(LogprobsDelta, events)[0].content == ({"token": "x", "logprob": -1},)
    assert texts(events) == "xno"
    assert of(Finish, events)[0].reason == "refusal"


def test_custom_calls_and_namespaces() -> None:
    custom = {
        "type": "custom_tool_call",
        "id": "ctc_1",
        "call_id": "c",
        "name": "sql",
        "input": "select",
    }
    spaced = {**CALL_F, "namespace": "db"}
    events = decode(
        named(
            CREATED,
            event("output_item.added", 0, item={**custom, "input": ""}),
            event("custom_tool_call_input.delta", 0, delta="sel"),
            event("custom_tool_call_input.done", 0, input="select"),
            event("output_item.done", 0, item=custom),
            event("output_item.done", 1, item=spaced),
            completed([custom, spaced]),
        ),
        restore=Restore(names={"f": "real.name"}),
    )
    first, second = (start.block for start in of(BlockStart, events))
    assert (first.kind, calls(events)[0][2]) == ("custom", "select")
    assert (second.namespace, second.name) == ("db", "real.name")


def test_trap_072_built_in_items_are_kept_whole() -> None:
    item = {"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {"q": 1}}
    events = decode(
        named(
            CREATED,
            event("output_item.added", 0, item={**item, "status": "in_progress"}),
            event("web_search_call.searching", 0, item_id="ws_1"),
            event("output_item.done", 0, item=item),
            completed([item], tool_usage={"web_search": {"num_requests": 2}}),
        )
    )
    assert of(BlockStart, events)[0].block == Opaque(protocol="openai-responses", value=item)
    assert of(UsageUpdate, events)[0].usage.web_searches == 2


# --- ends ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        ("max_output_tokens", "length"),
        ("content_filter", "content_filter"),
        ("max_messages", "pause"),
        ("steered", "pause"),
        pytest.param("solar_flare", "error", id="trap_137-unknown"),
    ],
)
def test_trap_143_incomplete_closes_what_is_open(reason: str, expected: str) -> None:
    events = decode(
        named(
            CREATED,
            event("output_item.added", 0, item={**CALL_F, "arguments": ""}),
            event("function_call_arguments.delta", 0, delta='{"x'),
            event(
                "incomplete",
                response=response("incomplete", incomplete_details={"reason": reason}, usage=USAGE),
            ),
        )
    )
    assert of(Finish, events) == [Finish(expected, reason)]
    assert of(BlockEnd, events)


@pytest.mark.parametrize(
    ("frame", "kind", "code"),
    [
        (
            event(
                "failed",
                response=response(
                    "failed", error={"code": "server_is_overloaded", "message": "busy"}
                ),
            ),
            FaultKind.OVERLOADED,
            "server_is_overloaded",
        ),
        (
            event(
                "failed",
                response=response("failed", error={"code": "rate_limit_exceeded", "message": "x"}),
            ),
            FaultKind.RATE_LIMIT,
            "rate_limit_exceeded",
        ),
        (event("failed", response=response("failed")), FaultKind.UPSTREAM, None),
        (event("cancelled", response=response("cancelled")), FaultKind.UPSTREAM, None),
        (
            {"type": "error", "code": "context_length_exceeded", "message": "x"},
            FaultKind.CONTEXT_OVERFLOW,
            "context_length_exceeded",
        ),
        (
            {
                "type": "error",
                "status": 429,
                "error": {"type": "usage_limit_reached", "resets_in_seconds": 60},
            },
            FaultKind.RATE_LIMIT,
            "usage_limit_reached",
        ),
    ],
)
def test_trap_130_and_131_failures_after_the_handshake(
    frame: JSONDict, kind: FaultKind, code: str | None
) -> None:
    events = decode(named(CREATED, frame))
    failed = events[-1]
    assert isinstance(failed, Failed)
    assert failed.fault.kind is kind
    assert failed.fault.upstream_code == code
    assert [type(event_) for event_ in events] == [Start, Failed]


def test_trap_117_a_stream_that_stops_is_an_error() -> None:
    events = decode(named(CREATED, event("output_text.delta", 0, content_index=0, delta="x")))
    assert isinstance(events[-1], Failed)
    assert events[-1].fault.code == "stream_truncated"
    assert [type(event_) for event_ in decode(b"")] == [Failed]


def test_trap_119_the_last_event_may_lack_its_blank_line() -> None:
    assert decode(WHOLE.removesuffix(b"\n\n")) == decode(WHOLE)


def test_response_done_and_a_stray_done_marker() -> None:
    stream = named(CREATED, completed([MESSAGE], "done")) + b"data: [DONE]\n\n"
    assert of(Finish, decode(stream))[0].reason == "stop"
    failed = event("done", response=response("failed", error={"message": "x"}))
    assert isinstance(decode(named(CREATED, failed))[-1], Failed)


def test_unknown_events_are_ignored_and_nothing_counts_after_the_end() -> None:
    stream = named(
        CREATED, event("shiny.new", 0), {"type": "codex.rate_limits"}, completed([MESSAGE])
    )
    assert decode(
        stream + named(event("output_text.delta", 0, content_index=0, delta="late"))
    ) == decode(stream)


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"{}", b'{"output":1}', b"null"])
def test_what_is_no_answer_is_refused(body: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        CODEC.decode_answer(body, Restore(), MODEL)


def test_an_error_under_http_200() -> None:
    (failed,) = CODEC.decode_answer(
        b'{"error":{"code":"server_error","message":"x"}}', Restore(), MODEL
    )
    assert isinstance(failed, Failed)


def test_a_background_answer_is_not_there_yet() -> None:
    events = CODEC.decode_answer(dumps(response("queued")), Restore(), MODEL)
    assert of(Finish, events) == [Finish("pause", "queued")]


_SPICES = (
    b"null",
    b"{}",
    b"[]",
    b"-1",
    b"1e999",
    b'"',
    b"\\ud800",
    b"\xff",
    b"true",
    b":",
    b"\n\n",
)


def test_mutated_streams_give_typed_errors_and_sound_events() -> None:
    source = random.Random(20261121)
    for _ in range(3000):
        data = bytearray(WHOLE)
        for _ in range(source.randint(1, 6)):
            position = source.randrange(len(data))
            how = source.random()
            if how < 0.4:
                data[position] = source.randrange(256)
            elif how < 0.7:
                del data[position : position + source.randint(1, 20)]
            else:
                data[position : position + source.randint(0, 9)] = source.choice(_SPICES)
        decoder = CODEC.stream_decoder(Restore(), MODEL)
        events: list[Event] = []
        try:
            size = source.randint(1, 600)
            for start in range(0, len(data), size):
                events += decoder.feed(bytes(data[start : start + size]))
            events += decoder.close()
        except ProtocolError:
            continue
        check_grammar(events)
        meter = CODEC.stream_meter(MODEL)
        meter.feed(bytes(data))
        meter.close()
