"""Vendors' streams and answers as events: whatever they send, whatever the cutting."""

from __future__ import annotations

import random
import time
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
    Image,
    LogprobsDelta,
    Opaque,
    Refusal,
    SignatureDelta,
    Start,
    Text,
    Thinking,
    Url,
    Usage,
    UsageUpdate,
)
from providers.protocols.codec import Restore
from providers.protocols.errors import RemoteProtocolError
from providers.protocols.openai_completions import CODEC
from providers.protocols.openai_completions.details import entries_of
from tests.providers.protocols.openai_completions.builders import (
    calls,
    check_grammar,
    chunk,
    of,
    spec,
    sse,
    texts,
    thoughts,
)


def decode(
    stream: bytes, *, size: int = 0, restore: Restore | None = None, **quirks: Any
) -> list[Event]:
    decoder = CODEC.stream_decoder(restore or Restore(), spec(quirks=quirks))
    events: list[Event] = []
    for start in range(0, len(stream), size or len(stream) or 1):
        events += decoder.feed(stream[start : start + (size or len(stream))])
    events += decoder.close()
    check_grammar(events)
    return events


def call(index: int | None = 0, **fields: Any) -> JSONDict:
    entry: JSONDict = {} if index is None else {"index": index}
    for key in ("id", "type"):
        if key in fields:
            entry[key] = fields.pop(key)
    if fields:
        entry["function"] = fields
    return {"tool_calls": [entry]}


USAGE = {
    "prompt_tokens": 10,
    "completion_tokens": 5,
    "total_tokens": 15,
    "prompt_tokens_details": {"cached_tokens": 4},
    "completion_tokens_details": {"reasoning_tokens": 2},
}
WHOLE = sse(
    chunk({"role": "assistant", "content": ""}),
    chunk({"reasoning_content": "hm "}),
    chunk({"reasoning_content": "ok"}),
    chunk({"content": "Grüße "}),
    chunk({"content": "🚀"}),
    chunk(call(0, id="a", type="function", name="f", arguments="")),
    chunk(call(0, arguments='{"x"')),
    chunk(call(1, id="b", type="function", name="g", arguments="{}")),
    chunk(call(0, arguments=":1}")),
    chunk({}, "tool_calls"),
    {**chunk(), "choices": [], "usage": USAGE},
)


def test_trap_123_a_whole_stream_with_usage_after_the_finish() -> None:
    events = decode(WHOLE)
    assert events[0] == Start("chatcmpl-1", "vendor-model", 17)
    assert thoughts(events) == "hm ok"
    assert texts(events) == "Grüße 🚀"
    assert calls(events) == [("a", "f", '{"x":1}'), ("b", "g", "{}")]
    assert of(Finish, events) == [Finish("tool_use", "tool_calls")]
    assert events[-2:] == [
        UsageUpdate(Usage(input=6, cache_read=4, output=5, reasoning=2)),
        End(),
    ], "trap 123: usage after the finish chunk is counted"


@pytest.mark.parametrize("size", range(1, 40))
def test_any_cutting_yields_the_same_events(size: int) -> None:
    assert decode(WHOLE, size=size) == decode(WHOLE)


def test_random_cuttings_and_line_ends_yield_the_same_events() -> None:
    wanted, source = decode(WHOLE), random.Random(7)
    for _ in range(300):
        stream = WHOLE.replace(b"\n", source.choice([b"\n", b"\r\n", b"\r"]))
        decoder = CODEC.stream_decoder(Restore(), spec())
        events: list[Event] = []
        while stream:
            size = source.randint(1, 200)
            events += decoder.feed(stream[:size])
            stream = stream[size:]
        assert events + decoder.close() == wanted


# --- tool calls --------------------------------------------------------------------------------


def test_trap_031_continuations_without_id_or_index_do_not_split() -> None:
    events = decode(
        sse(
            chunk(call(None, id="a", name="f", arguments='{"x"')),
            chunk(call(None, arguments=":1}")),
            chunk({}, "tool_calls"),
        )
    )
    assert calls(events) == [("a", "f", '{"x":1}')]


def test_trap_030_and_032_and_050_a_missing_or_null_id_is_made_and_kept() -> None:
    stream = sse(
        chunk(call(0, id="null", name="f", arguments="{}")),
        chunk(call(1, name="g", arguments="{}")),
        chunk({}, "tool_calls"),
    )
    first, second = calls(decode(stream))
    assert first[0].startswith("call_")
    assert second[0].startswith("call_")
    assert first[0] != second[0]
    assert calls(decode(stream)) == [first, second], "the same every time"


def test_trap_033_a_late_name_defers_the_start() -> None:
    events = decode(
        sse(
            chunk(call(0, id="a", name="", arguments='{"x":')),
            chunk(call(0, arguments="1")),
            chunk(call(0, name="f", arguments="}")),
            chunk({}, "tool_calls"),
        )
    )
    assert calls(events) == [("a", "f", '{"x":1}')]


def test_trap_034_a_call_without_name_is_no_call() -> None:
    events = decode(sse(chunk({"content": "x"}), chunk(call(0, id="a")), chunk({}, "tool_calls")))
    assert calls(events) == []
    assert of(Finish, events) == [Finish("stop", "tool_calls")]
    assert [event.index for event in of(BlockStart, events)] == [0]


def test_trap_035_interleaved_calls_keep_their_own_arguments() -> None:
    events = decode(
        sse(
            chunk(call(0, id="a", name="f", arguments="")),
            chunk(call(1, id="b", name="g", arguments="")),
            chunk(call(1, arguments='{"g":')),
            chunk(call(0, arguments='{"f":')),
            chunk(call(1, arguments="1}")),
            chunk(call(0, arguments="2}")),
            chunk({}, "tool_calls"),
        )
    )
    assert calls(events) == [("a", "f", '{"f":2}'), ("b", "g", '{"g":1}')]


def test_trap_036_and_037_the_finish_reason_follows_the_calls() -> None:
    upgraded = decode(sse(chunk(call(0, id="a", name="f", arguments="{}")), chunk({}, "stop")))
    assert of(Finish, upgraded)[0].reason == "tool_use"
    downgraded = decode(sse(chunk({"content": "x"}), chunk({}, "tool_calls")))
    assert of(Finish, downgraded)[0].reason == "stop"
    cut = decode(sse(chunk(call(0, id="a", name="f", arguments='{"x')), chunk({}, "length")))
    assert of(Finish, cut)[0].reason == "length"


def test_trap_028_two_calls_of_one_id_become_unique() -> None:
    events = decode(
        sse(
            chunk(call(0, id="a", name="f", arguments="{}")),
            chunk(call(1, id="a", name="g", arguments="{}")),
            chunk({}, "tool_calls"),
        )
    )
    ids = [id_ for id_, _, _ in calls(events)]
    assert len(set(ids)) == 2


def test_a_vendor_that_numbers_every_call_zero() -> None:
    events = decode(
        sse(
            chunk(call(0, id="a", name="f", arguments="{")),
            chunk(call(0, arguments="}")),
            chunk(call(0, id="b", name="g", arguments="[")),
            chunk(call(0, arguments="]")),
            chunk({}, "tool_calls"),
        )
    )
    assert calls(events) == [("a", "f", "{}"), ("b", "g", "[]")]


def test_repeated_ids_and_names_are_the_same_call() -> None:
    events = decode(
        sse(
            chunk(call(0, id="a", name="f", arguments="{")),
            chunk(call(0, id="a", name="f", arguments="}")),
            chunk({}, "tool_calls"),
        )
    )
    assert calls(events) == [("a", "f", "{}")]


def test_arguments_as_an_object_are_written_as_text() -> None:
    entry = {"index": 0, "id": "a", "function": {"name": "f", "arguments": {"x": 1}}}
    events = decode(sse(chunk({"tool_calls": [entry]}), chunk({}, "tool_calls")))
    assert calls(events) == [("a", "f", '{"x":1}')]


def test_trap_048_numbers_as_text_in_arguments_are_left_alone() -> None:
    events = decode(
        sse(chunk(call(0, id="a", name="f", arguments='{"n":"5"}')), chunk({}, "tool_calls"))
    )
    assert calls(events)[0][2] == '{"n":"5"}'


def test_trap_066_and_069_and_070_names_namespaces_and_custom_tools_come_back() -> None:
    restore = Restore(
        names={"long_1": "very.long"},
        custom=frozenset({"sql"}),
        namespaces={"db__run": ("db", "run")},
    )
    events = decode(
        sse(
            chunk(call(0, id="a", name="long_1", arguments="{}")),
            chunk(call(1, id="b", name="sql", arguments='{"inp')),
            chunk(call(1, arguments='ut":"select 1"}')),
            chunk(call(2, id="c", name="db__run", arguments="{}")),
            chunk({}, "tool_calls"),
        ),
        restore=restore,
    )
    blocks = [event.block for event in of(BlockStart, events)]
    assert [block.name for block in blocks] == ["very.long", "sql", "run"]
    assert blocks[1].kind == "custom"
    assert blocks[2].namespace == "db"
    assert calls(events)[1][2] == "select 1"


def test_native_custom_calls_and_legacy_function_calls() -> None:
    custom = {"index": 0, "id": "a", "type": "custom", "custom": {"name": "sql", "input": "sel"}}
    more = {"index": 0, "custom": {"input": "ect"}}
    events = decode(
        sse(chunk({"tool_calls": [custom]}), chunk({"tool_calls": [more]}), chunk({}, "tool_calls"))
    )
    block = of(BlockStart, events)[0].block
    assert block.kind == "custom"
    assert calls(events)[0][1:] == ("sql", "select")
    legacy = decode(
        sse(
            chunk({"function_call": {"name": "f", "arguments": ""}}),
            chunk({"function_call": {"arguments": "{}"}}),
            chunk({}, "function_call"),
        )
    )
    assert calls(legacy)[0][1:] == ("f", "{}")
    assert of(Finish, legacy)[0].reason == "tool_use"


# --- reasoning -----------------------------------------------------------------------------------


def test_trap_098_the_same_reasoning_in_two_fields_counts_once() -> None:
    events = decode(
        sse(chunk({"reasoning_content": "a", "reasoning": "a"}), chunk({"content": "b"}, "stop"))
    )
    assert thoughts(events) == "a"


def test_trap_097_and_100_reasoning_stands_and_ends_before_text() -> None:
    events = decode(sse(chunk({"content": "b", "reasoning": "a"}), chunk({}, "stop")))
    kinds = [type(event.block) for event in of(BlockStart, events)]
    assert kinds == [Thinking, Text]
    assert events.index(BlockEnd(0)) < events.index(of(BlockStart, events)[1])


def test_trap_092_and_099_reasoning_details_are_merged_by_index() -> None:
    events = decode(
        sse(
            chunk(
                {
                    "reasoning": "a",
                    "reasoning_details": [{"type": "reasoning.text", "text": "a", "index": 0}],
                }
            ),
            chunk(
                {
                    "reasoning": "b",
                    "reasoning_details": [{"type": "reasoning.text", "text": "b", "index": 0}],
                }
            ),
            chunk(
                {
                    "reasoning_details": [
                        {"type": "reasoning.text", "signature": "sig", "index": 0},
                        {"type": "reasoning.encrypted", "data": "x", "id": "1", "index": 1},
                    ]
                }
            ),
            chunk({"content": "done"}, "stop"),
        )
    )
    assert thoughts(events) == "ab"
    (proof,) = of(SignatureDelta, events)
    assert proof.signature.protocol == "openai-completions"
    assert proof.signature.model == "upstream-model", "trap 92: by the model that was asked"
    assert entries_of(proof.signature) == [
        {"type": "reasoning.text", "text": "ab", "index": 0, "signature": "sig"},
        {"type": "reasoning.encrypted", "data": "x", "id": "1", "index": 1},
    ]


def test_trap_082_details_without_words_are_a_block_of_their_own() -> None:
    details = [{"type": "reasoning.encrypted", "data": "x", "id": "a", "index": 0}]
    delta = {**call(0, id="a", name="f", arguments="{}"), "reasoning_details": details}
    events = decode(sse(chunk(delta), chunk({}, "tool_calls")))
    assert of(BlockStart, events)[0].block == Thinking(redacted=True)
    assert entries_of(of(SignatureDelta, events)[0].signature) == details


# --- the end, and what goes wrong -------------------------------------------------------------


def test_trap_116_chunks_without_choices_do_no_harm() -> None:
    prelude = {"id": "", "choices": [], "prompt_filter_results": [{}]}
    keep_alive: JSONDict = {"object": "ping"}
    events = decode(
        sse(prelude, keep_alive, b"null", b"[]", b"1", chunk({"content": "x"}), chunk({}, "stop"))
    )
    assert texts(events) == "x"
    assert events[0] == Start("chatcmpl-1", "vendor-model", 17)


def test_trap_117_a_stream_that_stops_is_an_error() -> None:
    events = decode(sse(chunk({"content": "x"}), done=False))
    assert isinstance(events[-1], Failed)
    assert events[-1].fault.code == "stream_truncated"
    assert events[-1].fault.kind is FaultKind.UPSTREAM
    empty = decode(b"")
    assert [type(event) for event in empty] == [Failed]
    assert [type(event) for event in decode(sse())] == [Failed]


def test_trap_118_unless_the_vendor_is_known_to_send_no_finish_reason() -> None:
    stream = sse(chunk(call(0, id="a", name="f", arguments="{}")), done=False)
    events = decode(stream, supports_finish_reason=False)
    assert of(Finish, events) == [Finish("tool_use")]
    assert events[-1] == End()


def test_a_finish_reason_then_the_end_of_the_connection_is_whole() -> None:
    assert decode(sse(chunk({"content": "x"}, "stop"), done=False))[-1] == End()


def test_trap_120_nothing_counts_after_done() -> None:
    stream = sse(chunk({"content": "x"}, "stop")) + sse(chunk({"content": "y"}, "stop"))
    assert texts(decode(stream)) == "x"


def test_trap_121_and_122_done_finishes_what_is_open_exactly_once() -> None:
    events = decode(sse(chunk(call(0, id="a", name="f", arguments="{}"))))
    assert of(Finish, events) == [Finish("tool_use")]
    twice = decode(sse(chunk({"content": "x"}), chunk({}, "stop"), chunk({}, "stop")))
    assert len(of(Finish, twice)) == 1
    assert len(of(End, twice)) == 1


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        ("stop", "stop"),
        ("end", "stop"),
        ("eos", "stop"),
        ("STOP", "stop"),
        ("length", "length"),
        ("content_filter", "content_filter"),
        ("sensitive", "content_filter"),
        ("model_length", "context_overflow"),
        ("model_context_window_exceeded", "context_overflow"),
        ("network_error", "error"),
        ("error", "error"),
        ("insufficient_system_resource", "error"),
        pytest.param("solar_flare", "error", id="trap_137-unknown"),
    ],
)
def test_trap_136_finish_reasons(raw: str, reason: str) -> None:
    events = decode(sse(chunk({"content": "x"}), chunk({}, raw)))
    assert of(Finish, events) == [Finish(reason, raw)]


@pytest.mark.parametrize(
    ("error", "kind", "code"),
    [
        (
            {"message": "Rate limited", "type": "rate_limit_error", "code": 429},
            FaultKind.RATE_LIMIT,
            "429",
        ),
        (
            {"message": "x", "code": "server_is_overloaded"},
            FaultKind.OVERLOADED,
            "server_is_overloaded",
        ),
        ({"message": "maximum context length is 8 tokens"}, FaultKind.CONTEXT_OVERFLOW, None),
        (
            {"message": "x", "type": "invalid_request_error"},
            FaultKind.BAD_REQUEST,
            "invalid_request_error",
        ),
        ("plain words", FaultKind.UPSTREAM, None),
        ({"code": 502, "message": "down"}, FaultKind.UPSTREAM, "502"),
    ],
)
def test_trap_130_and_132_errors_inside_the_stream(
    error: Any, kind: FaultKind, code: str | None
) -> None:
    events = decode(sse(chunk({"content": "x"}), {**chunk({}, "error"), "error": error}))
    failed = events[-1]
    assert isinstance(failed, Failed)
    assert failed.fault.kind is kind
    assert failed.fault.upstream_code == code
    assert not of(Finish, events)


def test_an_error_event_by_name_and_comments_between() -> None:
    stream = b": OPENROUTER PROCESSING\n\n" + sse(chunk({"content": "x"}), done=False)
    events = decode(stream + b'event: error\ndata: {"message":"overloaded"}\n\n')
    assert isinstance(events[-1], Failed)
    assert events[-1].fault.kind is FaultKind.OVERLOADED


def test_trap_147_choices_interleave() -> None:
    events = decode(
        sse(
            chunk({"content": "a"}, index=0),
            chunk({"content": "b"}, index=1),
            chunk({"content": "A"}, index=0),
            chunk({}, "stop", index=1),
            chunk({}, "length", index=0),
        )
    )
    assert (texts(events, 0), texts(events, 1)) == ("aA", "b")
    assert {(f.choice, f.reason) for f in of(Finish, events)} == {(0, "length"), (1, "stop")}


def test_trap_011_broken_surrogates_are_mended() -> None:
    data = dumps(chunk({"content": "@"}, "stop")).replace(b"@", b"a\\ud83d!")
    assert texts(decode(sse(data))) == "a\ufffd!"


def test_refusals_logprobs_citations_images_and_audio() -> None:
    first = chunk({"content": "x"})
    first["choices"][0]["logprobs"] = {"content": [{"token": "x", "logprob": -0.1}]}
    note = {"type": "url_citation", "url_citation": {"url": "https://x", "title": "X"}}
    events = decode(
        sse(
            first,
            chunk({"annotations": [note]}),
            chunk({"images": [{"type": "image_url", "image_url": {"url": "https://x/y.png"}}]}),
            chunk({"refusal": "no"}),
            chunk({"audio": {"id": "au", "data": "QU", "transcript": "h"}}),
            chunk({"audio": {"data": "JD", "transcript": "i", "expires_at": 5}}),
            chunk({}, "stop"),
        )
    )
    assert of(LogprobsDelta, events)[0].content == ({"token": "x", "logprob": -0.1},)
    assert of(CitationDelta, events)[0].citation == {
        "type": "url_citation",
        "url": "https://x",
        "title": "X",
    }
    blocks = [event.block for event in of(BlockStart, events)]
    assert blocks[1] == Image(source=Url(url="https://x/y.png"))
    assert isinstance(blocks[2], Refusal)
    assert blocks[3] == Opaque(
        protocol="openai-completions",
        value={"audio": {"id": "au", "data": "QUJD", "transcript": "hi", "expires_at": 5}},
    )


@pytest.mark.parametrize(
    "stream",
    [b"data: {\n\n", b"data: {]}\n\n", b'data: {"id":"\xff"}\n\n', b"data: nonsense\n\n"],
)
def test_bytes_that_are_no_json_are_refused(stream: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        decode(stream)


def test_too_many_choices_and_lines_are_refused() -> None:
    with pytest.raises(RemoteProtocolError, match="choices"):
        decode(sse(*(chunk({"content": "x"}, index=n) for n in range(200))))
    decoder = CODEC.stream_decoder(Restore(), spec())
    line = b"data: " + b"x" * 65536
    with pytest.raises(RemoteProtocolError):
        all(decoder.feed(line) == [] for _ in range(64))


# --- usage ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        pytest.param(
            {"prompt_tokens": 10, "completion_tokens": 2, "prompt_cache_hit_tokens": 6},
            Usage(input=4, cache_read=6, output=2),
            id="trap_151-deepseek",
        ),
        pytest.param(
            {"prompt_tokens": 10, "completion_tokens": 2, "cached_tokens": 6},
            Usage(input=4, cache_read=6, output=2),
            id="trap_151-kimi",
        ),
        pytest.param(
            {
                "prompt_tokens": 10,
                "completion_tokens": 2,
                "prompt_tokens_details": {"cached_tokens": 3, "cache_write_tokens": 4},
            },
            Usage(input=3, cache_read=3, cache_write=4, output=2),
            id="trap_149_and_152-subtracted-once",
        ),
        pytest.param(
            {
                "prompt_tokens": 10,
                "completion_tokens": 9,
                "completion_tokens_details": {"reasoning_tokens": 7},
            },
            Usage(input=10, output=9, reasoning=7),
            id="trap_150-reasoning-is-inside",
        ),
        (
            {
                "prompt_tokens": 10,
                "completion_tokens": 2,
                "total_tokens": 19,
                "completion_tokens_details": {"reasoning_tokens": 7},
            },
            Usage(input=10, output=9, reasoning=7),
        ),
        pytest.param(
            {
                "prompt_tokens": 1,
                "completion_tokens": 1,
                "cost": 0.25,
                "is_byok": True,
                "cost_details": {"upstream_inference_cost": 0.5},
            },
            Usage(input=1, output=1, cost_usd="0.75"),
            id="trap_156-reported-cost",
        ),
        ({"prompt_tokens": -5, "completion_tokens": 1e99, "cost": -1}, Usage(output=1_000_000_000)),
        (
            {"prompt_tokens": "many", "completion_tokens": True, "cost": "1e-99999999"},
            Usage(cost_usd="0"),
        ),
        (
            {"prompt_tokens": 4, "prompt_tokens_details": {"cached_tokens": 100}},
            Usage(cache_read=4),
        ),
    ],
)
def test_every_vendors_usage(usage: JSONDict, expected: Usage) -> None:
    events = decode(
        sse(chunk({"content": "x"}, "stop"), {**chunk(), "choices": [], "usage": usage})
    )
    assert of(UsageUpdate, events)[-1].usage == expected


def test_trap_151_moonshot_puts_usage_inside_the_choice() -> None:
    last = chunk({}, "stop")
    last["choices"][0]["usage"] = {"prompt_tokens": 3, "completion_tokens": 1, "cached_tokens": 2}
    events = decode(sse(chunk({"content": "x"}), last))
    assert of(UsageUpdate, events)[0].usage == Usage(input=1, cache_read=2, output=1)


def test_cumulative_usage_on_every_chunk_the_last_counts() -> None:
    events = decode(
        sse(
            chunk({"content": "x"}, usage={"prompt_tokens": 3, "completion_tokens": 1}),
            chunk({"content": "y"}, usage={"prompt_tokens": 3, "completion_tokens": 2}),
            chunk({}, "stop", usage={"prompt_tokens": 3, "completion_tokens": 2}),
        )
    )
    assert [update.usage.output for update in of(UsageUpdate, events)] == [1, 2]


# --- complete answers -----------------------------------------------------------------------------


def answer(message: JSONDict, finish: str | None = "stop", **fields: Any) -> bytes:
    choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": finish}
    return dumps(
        {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 17,
            "model": "vendor-model",
            "choices": [choice],
            **fields,
        }
    )


def whole(body: bytes, **quirks: Any) -> list[Event]:
    events = CODEC.decode_answer(body, Restore(), spec(quirks=quirks))
    check_grammar(events)
    return events


def test_a_complete_answer_is_a_stream_that_arrived_at_once() -> None:
    body = answer(
        {
            "content": "Grüße 🚀",
            "reasoning_content": "hm ok",
            "tool_calls": [
                {"id": "a", "type": "function", "function": {"name": "f", "arguments": '{"x":1}'}},
                {"id": "b", "type": "function", "function": {"name": "g", "arguments": "{}"}},
            ],
        },
        "tool_calls",
        usage=USAGE,
    )
    events, streamed = whole(body), decode(WHOLE)
    assert thoughts(events) == thoughts(streamed)
    assert texts(events) == texts(streamed)
    assert calls(events) == calls(streamed)
    assert of(Finish, events) == of(Finish, streamed)
    assert of(UsageUpdate, events) == of(UsageUpdate, streamed)


def test_calls_without_ids_in_a_complete_answer_stay_apart() -> None:
    calls_ = [{"function": {"name": "f", "arguments": "{}"}}] * 2
    assert len(calls(whole(answer({"content": None, "tool_calls": calls_}, "stop")))) == 2


def test_an_error_under_http_200_and_a_stream_for_a_whole_answer() -> None:
    failed = whole(b'{"error":{"message":"no credits","code":402}}')[-1]
    assert isinstance(failed, Failed)
    assert failed.fault.kind is FaultKind.PAYMENT
    assert texts(whole(WHOLE)) == "Grüße 🚀"


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"{}", b'{"choices":[]}', b"null"])
def test_what_is_no_answer_is_refused(body: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        CODEC.decode_answer(body, Restore(), spec())


def test_content_as_parts_is_read() -> None:
    body = answer({"content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]})
    assert texts(whole(body)) == "ab"


def test_trap_044_ten_thousand_chunks_cost_the_same_each() -> None:
    """Nothing is joined or parsed again per chunk."""
    piece = sse(chunk(call(0, arguments="x" * 20)), done=False)

    def cost(number: int) -> float:
        decoder = CODEC.stream_decoder(Restore(), spec())
        decoder.feed(sse(chunk(call(0, id="a", name="f", arguments="")), done=False))
        begin = time.thread_time()
        for _ in range(number):
            decoder.feed(piece)
        return (time.thread_time() - begin) / number

    small = min(cost(1000) for _ in range(3))
    large = min(cost(10_000) for _ in range(2))
    assert large < small * 3
