"""Google's answers as events, whole and streamed, in any cutting."""

from __future__ import annotations

import itertools
import json as stdlib
import random
import time
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controlplane.kit.errors import FaultKind
from controlplane.kit.json import JSONDict
from providers.protocols.canonical import (
    ArgumentsDelta,
    Audio,
    Base64,
    BlockEnd,
    BlockStart,
    CitationDelta,
    End,
    Event,
    Failed,
    Finish,
    Image,
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
from providers.protocols.google_generative_ai import CODEC
from tests.conformance.examples import examples

Models = Callable[..., ModelSpec]
MODEL = ModelSpec(id="gemini-x", protocol="google-generative-ai")
SIGNED = Signature(value="QUJD", protocol="google-generative-ai", model="gemini-x")


def chunk(
    *parts: JSONDict, finish: str | None = None, index: int | None = None, **more: Any
) -> JSONDict:
    candidate: JSONDict = {}
    if parts:
        candidate["content"] = {"parts": list(parts), "role": "model"}
    if finish:
        candidate["finishReason"] = finish
    if index is not None:
        candidate["index"] = index
    candidate.update(more.pop("candidate", {}))
    return {"candidates": [candidate], "modelVersion": "gemini-x-01", "responseId": "resp", **more}


def sse(*chunks: Any, end: bytes = b"\r\n\r\n") -> bytes:
    return b"".join(b"data: " + stdlib.dumps(one).encode() + end for one in chunks)


def read(
    pieces: bytes | Iterable[bytes], restore: Restore | None = None, model: ModelSpec = MODEL
) -> list[Event]:
    decoder = CODEC.stream_decoder(restore or Restore(), model)
    events: list[Event] = []
    for piece in [pieces] if isinstance(pieces, bytes) else pieces:
        events += decoder.feed(piece)
    return events + decoder.close()


def call(name: str, args: Any = None, **more: Any) -> JSONDict:
    wire: JSONDict = {"name": name, **{k: v for k, v in more.items() if k == "id"}}
    if args is not None:
        wire["args"] = args
    part: JSONDict = {"functionCall": wire}
    if "signature" in more:
        part["thoughtSignature"] = more["signature"]
    return part


RICH = [
    chunk({"text": "Let me ", "thought": True}, usageMetadata={"promptTokenCount": 12}),
    chunk({"text": "think…", "thought": True}),
    chunk({"text": "Hé", "thoughtSignature": "QUJD"}),
    chunk({"text": "llo \U0001f600"}),
    chunk(call("f", {"a": [1, 2.50], "b": "x y"}, id="c1", signature="QUJD")),
    chunk(call("g")),
    chunk(
        {"text": ""},
        finish="STOP",
        usageMetadata={
            "promptTokenCount": 12,
            "cachedContentTokenCount": 4,
            "candidatesTokenCount": 7,
            "thoughtsTokenCount": 5,
            "totalTokenCount": 24,
        },
    ),
]
WHOLE = {
    **chunk(
        {"text": "Let me think…", "thought": True},
        {"text": "Héllo \U0001f600", "thoughtSignature": "QUJD"},
        call("f", {"a": [1, 2.50], "b": "x y"}, id="c1", signature="QUJD"),
        call("g"),
        finish="STOP",
    ),
    "usageMetadata": RICH[-1]["usageMetadata"],
}


def made_id(events: list[Event], name: str) -> str:
    found = [
        e.block.id
        for e in events
        if isinstance(e, BlockStart) and isinstance(e.block, ToolCall) and e.block.name == name
    ]
    return found[0]


def test_a_stream() -> None:
    events = read(sse(*RICH))
    assert events == [
        Start("resp", "gemini-x-01"),
        BlockStart(0, Thinking()),
        ThinkingDelta(0, "Let me "),
        UsageUpdate(Usage(input=12)),
        ThinkingDelta(0, "think…"),
        BlockEnd(0),
        BlockStart(1, Text(text="")),
        TextDelta(1, "Hé"),
        SignatureDelta(1, SIGNED),
        TextDelta(1, "llo \U0001f600"),
        BlockEnd(1),
        BlockStart(2, ToolCall(id="c1", name="f", arguments="")),
        SignatureDelta(2, SIGNED),
        ArgumentsDelta(2, '{"a":[1,2.5],"b":"x y"}'),
        BlockEnd(2),
        BlockStart(3, ToolCall(id=made_id(events, "g"), name="g", arguments="")),
        ArgumentsDelta(3, "{}"),
        BlockEnd(3),
        UsageUpdate(Usage(input=8, cache_read=4, output=12, reasoning=5)),
        Finish("tool_use", "STOP"),
        End(),
    ]


def joined(events: list[Event]) -> Any:
    """Deltas of one block together; only what a reader of the whole can tell."""
    blocks: dict[int, list[Any]] = {}
    others: list[Event] = []
    usage = None
    for event in events:
        match event:
            case BlockStart():
                blocks[event.index] = [event.block, "", None]
            case TextDelta() | ThinkingDelta():
                blocks[event.index][1] += event.text
            case ArgumentsDelta():
                blocks[event.index][1] += event.fragment
            case SignatureDelta():
                blocks[event.index][2] = event.signature
            case UsageUpdate():
                usage = event.usage
            case BlockEnd():
                pass
            case _:
                others.append(event)
    return list(blocks.values()), others, usage


def test_trap_141_a_whole_answer_is_a_stream_that_arrived_at_once() -> None:
    pretty = stdlib.dumps(WHOLE, indent=2).encode()
    whole = CODEC.decode_answer(pretty, Restore(), MODEL)
    assert joined(whole) == joined(read(sse(*RICH)))
    # Also where a relay forgot to unwrap the array form.
    assert joined(CODEC.decode_answer(b"[" + pretty + b"]", Restore(), MODEL)) == joined(whole)


@pytest.mark.parametrize("end", [b"\r\n\r\n", b"\n\n", b"\r\r"])
def test_any_cutting_gives_the_same_events(end: bytes) -> None:
    data = sse(*RICH, end=end)
    wanted = read(data)
    for at in range(len(data)):
        assert read([data[:at], data[at:]]) == wanted
    draw = random.Random(7)
    for _ in range(300):
        cuts = sorted(draw.randrange(len(data)) for _ in range(9))
        edges = itertools.pairwise([0, *cuts, len(data)])
        assert read([data[a:b] for a, b in edges]) == wanted


def test_ids_are_the_same_each_time_and_differ_between_answers() -> None:
    """Traps 32, 49, 50."""
    one = made_id(read(sse(*RICH)), "g")
    assert one == made_id(read(sse(*RICH)), "g")
    other = [{**c, "responseId": "resp2"} for c in RICH]
    assert one != made_id(read(sse(*other)), "g")
    assert len(one) <= 40


def test_trap_028_one_id_for_two_calls_becomes_two() -> None:
    events = read(sse(chunk(call("f", id="x"), call("f", id="x"), finish="STOP")))
    ids = [
        e.block.id for e in events if isinstance(e, BlockStart) and isinstance(e.block, ToolCall)
    ]
    assert ids == ["x", "x_2"]


def test_names_and_custom_tools_are_restored() -> None:
    restore = Restore(
        names={"t_9": "9"},
        call_ids={"w1": "client|1"},
        custom=frozenset({"patch"}),
        namespaces={"shell__run": ("shell", "run")},
    )
    events = read(
        sse(
            chunk(
                call("t_9", {}, id="w1"),
                call("patch", {"input": "*** Begin"}, id="w2"),
                call("shell__run", {"x": 1}, id="w3"),
                finish="STOP",
            )
        ),
        restore,
    )
    blocks = [e.block for e in events if isinstance(e, BlockStart)]
    assert blocks == [
        ToolCall(id="client|1", name="9", arguments=""),
        ToolCall(id="w2", name="patch", arguments="", kind="custom"),
        ToolCall(id="w3", name="run", namespace="shell", arguments=""),
    ]
    assert [e.fragment for e in events if isinstance(e, ArgumentsDelta)] == [
        "{}",
        "*** Begin",
        '{"x":1}',
    ]


# --- signatures ----------------------------------------------------------------------------


def test_trap_083_later_deltas_without_a_signature_do_not_erase_it() -> None:
    events = read(
        sse(chunk({"text": "a", "thoughtSignature": "QUJD"}), chunk({"text": "b"}, finish="STOP"))
    )
    assert [e for e in events if isinstance(e, SignatureDelta)] == [SignatureDelta(0, SIGNED)]
    assert [e.index for e in events if isinstance(e, TextDelta)] == [0, 0]


def test_trap_082_a_signature_alone_belongs_to_the_open_part_or_is_one_of_its_own() -> None:
    alone = {"text": "", "thoughtSignature": "QUJD"}
    events = read(sse(chunk({"text": "a"}), chunk(alone, finish="STOP")))
    assert events[1:5] == [
        BlockStart(0, Text(text="")),
        TextDelta(0, "a"),
        SignatureDelta(0, SIGNED),
        BlockEnd(0),
    ]
    for part in (alone, {"thoughtSignature": "QUJD"}):
        events = read(sse(chunk(call("f", {}), part, finish="STOP")))
        assert events[-5:] == [
            BlockStart(1, Text(text="")),
            SignatureDelta(1, SIGNED),
            BlockEnd(1),
            Finish("tool_use", "STOP"),
            End(),
        ]


def test_trap_086_two_signatures_are_two_blocks() -> None:
    events = read(
        sse(
            chunk({"text": "a", "thoughtSignature": "QUJD"}),
            chunk({"text": "b", "thoughtSignature": "REVG"}, finish="STOP"),
        )
    )
    assert [e.index for e in events if isinstance(e, TextDelta)] == [0, 1]


def test_trap_081_only_thought_says_that_it_is_thought() -> None:
    events = read(sse(chunk({"text": "a", "thoughtSignature": "QUJD"}, finish="STOP")))
    assert isinstance(events[1], BlockStart)
    assert isinstance(events[1].block, Text)


# --- other parts ---------------------------------------------------------------------------


def test_images_sound_and_googles_own_parts() -> None:
    code = {"executableCode": {"language": "PYTHON", "code": "1"}}
    draft = {"inlineData": {"mimeType": "image/png", "data": "BB=="}, "thought": True}
    film = {"inlineData": {"mimeType": "video/mp4", "data": "AA=="}}
    linked = {
        "fileData": {"fileUri": "gs://x", "mimeType": "image/png"},
        "thoughtSignature": "QUJD",
    }
    events = read(
        sse(
            chunk({"text": "see"}),
            chunk(
                {
                    "inlineData": {"mimeType": "IMAGE/png", "data": "AA=="},
                    "thoughtSignature": "QUJD",
                }
            ),
            chunk({"inlineData": {"mimeType": "audio/L16", "data": "AA=="}}),
            chunk(draft, film, code, linked, finish="STOP"),
        )
    )
    own = "google-generative-ai"
    assert [e.block for e in events if isinstance(e, BlockStart)] == [
        Text(text=""),
        Image(source=Base64(media_type="image/png", data="AA=="), signature=SIGNED),
        Audio(source=Base64(media_type="audio/l16", data="AA==")),
        Opaque(protocol=own, value=draft),
        Opaque(protocol=own, value=film),
        Opaque(protocol=own, value=code),
        Opaque(protocol=own, value=linked),
    ]
    assert [e.index for e in events if isinstance(e, BlockEnd)] == list(range(7))


def test_empty_parts_and_empty_deltas_open_nothing() -> None:
    events = read(
        sse(chunk({"text": ""}), chunk({}), chunk({"text": "", "thought": True}, finish="STOP"))
    )
    assert events == [Start("resp", "gemini-x-01"), Finish("stop", "STOP"), End()]


def test_citations_are_links_once_each() -> None:
    grounding = {
        "groundingMetadata": {
            "groundingChunks": [
                {"web": {"uri": "https://a", "title": "A"}},
                {"web": {"uri": "https://b"}},
                {"other": {}},
            ],
            "groundingSupports": [
                {
                    "segment": {"startIndex": 1, "endIndex": 3},
                    "groundingChunkIndices": [0, 1, 2, 9, "x"],
                }
            ],
        },
        "citationMetadata": {"citationSources": [{"uri": "https://c", "endIndex": 2}, {}]},
    }
    events = read(
        sse(
            chunk({"text": "abc"}, candidate=grounding),
            chunk({"text": "d"}, finish="STOP", candidate=grounding),
        )
    )
    assert [e for e in events if isinstance(e, CitationDelta)] == [
        CitationDelta(0, {"type": "url_citation", "url": "https://c", "end_index": 2}),
        CitationDelta(
            0,
            {
                "type": "url_citation",
                "url": "https://a",
                "title": "A",
                "start_index": 1,
                "end_index": 3,
            },
        ),
        CitationDelta(
            0, {"type": "url_citation", "url": "https://b", "start_index": 1, "end_index": 3}
        ),
    ]


def test_logprobs_as_openai_lists_them() -> None:
    scores = {
        "logprobsResult": {
            "chosenCandidates": [{"token": "é", "logProbability": -0.5}],
            "topCandidates": [{"candidates": [{"token": "a", "logProbability": -1}]}],
        }
    }
    events = read(sse(chunk({"text": "é"}, finish="STOP", candidate=scores)))
    assert [e for e in events if isinstance(e, LogprobsDelta)] == [
        LogprobsDelta(
            (
                {
                    "token": "é",
                    "logprob": -0.5,
                    "bytes": [195, 169],
                    "top_logprobs": [{"token": "a", "logprob": -1, "bytes": [97]}],
                },
            )
        )
    ]


def test_trap_147_candidates_keep_apart() -> None:
    events = read(
        sse(
            chunk({"text": "A"}, index=0),
            chunk({"text": "B"}, index=1),
            chunk(call("f", {}), index=1, finish="STOP"),
            chunk({"text": "a"}, index=0, finish="MAX_TOKENS"),
        )
    )
    assert [(e.index, e.text, e.choice) for e in events if isinstance(e, TextDelta)] == [
        (0, "A", 0),
        (1, "B", 1),
        (0, "a", 0),
    ]
    assert events[-3:] == [
        Finish("length", "MAX_TOKENS"),
        Finish("tool_use", "STOP", None, 1),
        End(),
    ]


# --- ends ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        ("STOP", "stop"),
        ("MAX_TOKENS", "length"),
        ("SAFETY", "content_filter"),
        ("RECITATION", "content_filter"),
        ("IMAGE_RECITATION", "content_filter"),
        ("ESCALATION", "content_filter"),
        ("MALFORMED_FUNCTION_CALL", "error"),
        ("OTHER", "error"),
        ("FINISH_REASON_UNSPECIFIED", "error"),
        pytest.param("SOMETHING_NEW", "error", id="trap_137_unknown_is_an_error"),
    ],
)
def test_finish_reasons(raw: str, reason: str) -> None:
    events = read(sse(chunk({"text": "a"}, finish=raw)))
    assert events[-2] == Finish(reason, raw)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        pytest.param("STOP", "tool_use", id="trap_037_stop_with_a_call_is_tool_use"),
        pytest.param("MAX_TOKENS", "length", id="trap_039_cut_off_stays_so"),
        pytest.param("SAFETY", "content_filter", id="trap_039_filtered_stays_so"),
        pytest.param("OTHER", "error", id="trap_039_broken_stays_so"),
    ],
)
def test_trap_038_calls_are_remembered_until_the_last_chunk(raw: str, reason: str) -> None:
    events = read(sse(chunk(call("f", {})), chunk({"text": "x"}), chunk(finish=raw)))
    assert events[-2] == Finish(reason, raw)  # type: ignore[arg-type]


def test_what_the_vendor_says_about_the_end_is_kept() -> None:
    events = read(sse(chunk(finish="OTHER", candidate={"finishMessage": "why"})))
    assert events[-2] == Finish("error", "OTHER", details={"message": "why"})


def test_a_blocked_prompt_is_a_content_filter() -> None:
    blocked = {"promptFeedback": {"blockReason": "SAFETY", "blockReasonMessage": "m"}}
    assert read(sse(blocked))[1:] == [
        Finish("content_filter", "SAFETY", details={"message": "m"}),
        End(),
    ]
    assert CODEC.decode_answer(stdlib.dumps(blocked).encode(), Restore(), MODEL)[-1] == End()


def test_parts_after_the_finish_reason_still_count() -> None:
    events = read(sse(chunk({"text": "a"}, finish="STOP"), chunk({"text": "b"}, finish="STOP")))
    assert [e.text for e in events if isinstance(e, TextDelta)] == ["a", "b"]
    assert len([e for e in events if isinstance(e, Finish)]) == 1


@pytest.mark.parametrize(
    ("data", "code"),
    [
        pytest.param(sse(chunk({"text": "a"})), "stream_truncated", id="trap_117_cut_off"),
        pytest.param(
            sse(chunk({"text": "a"}, finish="STOP"), chunk({"text": "b"}, index=1)),
            "stream_truncated",
            id="trap_117_one_of_two",
        ),
        pytest.param(b"", "stream_empty", id="trap_134_nothing"),
        pytest.param(sse({"candidates": []}), "stream_empty", id="trap_134_no_candidates"),
        pytest.param(
            sse({"usageMetadata": {"promptTokenCount": 1}}),
            "stream_empty",
            id="trap_134_only_usage",
        ),
    ],
)
def test_streams_that_end_too_early(data: bytes, code: str) -> None:
    last = read(data)[-1]
    assert isinstance(last, Failed)
    assert (last.fault.kind, last.fault.code) == (FaultKind.UPSTREAM, code)


def test_trap_130_an_error_inside_a_200() -> None:
    error = {"error": {"code": 503, "message": "The model is overloaded.", "status": "UNAVAILABLE"}}
    for data in (
        sse(chunk({"text": "a"}), error, chunk({"text": "b"}, finish="STOP")),
        sse([error]),
    ):
        last = read(data)[-1]
        assert isinstance(last, Failed)
        assert last.fault.kind is FaultKind.OVERLOADED
        assert last.fault.upstream_code == "UNAVAILABLE"
        assert last.fault.message == "The model is overloaded."
    whole = CODEC.decode_answer(stdlib.dumps(error).encode(), Restore(), MODEL)
    assert isinstance(whole[-1], Failed)
    assert len(whole) == 1


def test_nothing_follows_the_last_event() -> None:
    decoder = CODEC.stream_decoder(Restore(), MODEL)
    decoder.feed(sse({"error": {"code": 500, "message": "x", "status": "INTERNAL"}}))
    assert decoder.feed(sse(*RICH)) == []
    assert decoder.close() == []
    decoder = CODEC.stream_decoder(Restore(), MODEL)
    decoder.feed(sse(*RICH))
    assert isinstance(decoder.close()[-1], End)
    assert decoder.close() == []
    assert decoder.feed(sse(*RICH)) == []


def test_trap_116_empty_objects_and_foreign_terminators_are_nothing() -> None:
    data = b"data: \n\ndata: null\n\n: hi\n\n" + sse(*RICH) + b"data: [DONE]\n\n"
    assert read(data) == read(sse(*RICH))


# --- usage ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("meta", "usage"),
    [
        pytest.param(
            {"promptTokenCount": 10, "cachedContentTokenCount": 4},
            Usage(input=6, cache_read=4),
            id="trap_149_prompt_includes_cached",
        ),
        pytest.param(
            {"candidatesTokenCount": 10, "thoughtsTokenCount": 4},
            Usage(output=14, reasoning=4),
            id="trap_150_candidates_exclude_thoughts",
        ),
        ({"promptTokenCount": 10, "toolUsePromptTokenCount": 5}, Usage(input=15)),
        ({"promptTokenCount": 10, "cachedContentTokenCount": 40}, Usage(cache_read=10)),
        (
            {"promptTokenCount": -5, "candidatesTokenCount": "7", "thoughtsTokenCount": None},
            Usage(),
        ),
        ({"promptTokenCount": 10**12}, Usage(input=10**9)),
        ({"promptTokenCount": True, "candidatesTokenCount": {}}, Usage()),
        (
            {
                "promptTokensDetails": [
                    {"modality": "AUDIO", "tokenCount": 3},
                    {"modality": "IMAGE", "tokenCount": 2},
                    7,
                ],
                "candidatesTokensDetails": [{"modality": "IMAGE", "tokenCount": 9}],
            },
            Usage(audio_input=3, image_input=2, image_output=9),
        ),
        ({"serviceTier": "PRIORITY", "promptTokensDetails": "x"}, Usage(service_tier="priority")),
    ],
)
def test_usage(meta: JSONDict, usage: Usage) -> None:
    events = read(sse(chunk({"text": "a"}, finish="STOP", usageMetadata=meta)))
    assert [e.usage for e in events if isinstance(e, UsageUpdate)] == [usage]
    assert CODEC.answer_usage(stdlib.dumps({"usageMetadata": meta}).encode()) == usage


def test_usage_is_cumulative_and_said_when_it_changes() -> None:
    meta = [{"promptTokenCount": 5, "candidatesTokenCount": n} for n in (1, 1, 2)]
    events = read(
        sse(
            chunk({"text": "a"}, usageMetadata=meta[0]),
            chunk({"text": "b"}, usageMetadata=meta[1]),
            chunk({"text": "c"}, finish="STOP"),
            {"usageMetadata": meta[2]},
        )
    )
    assert [e.usage.output for e in events if isinstance(e, UsageUpdate)] == [1, 2]


# --- hostile bytes -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        b"data: {\n\n",
        b"data: 7\n\n",
        b'data: "text"\n\n',
        b'data: {"candidates": 7}\n\n',
        b'data: {"candidates": [{"content": {"parts": [{"text": 7}]}}]}\n\n',
        b'data: {"candidates": [{"index": -1}]}\n\n',
        b'data: {"candidates": [{"index": 999999}]}\n\n',
        sse(chunk({"functionCall": {"args": {}}})),
        sse(chunk({"functionCall": {"name": "f", "partialArgs": [{"jsonPath": "$.a"}]}})),
        b"data: " + b'{"a":' * 100 + b"1" + b"}" * 100 + b"\n\n",
        b"data: " + b"[" * 100_000 + b"\n\n",
        b"data: \xff\xfe\n\n",
        b'data: {"error": {"message": "\xff"}}\n\n',
        b'data: {"candidates":[{"content":{"parts":[{"functionCall":'
        b'{"name":"f","args":{"a":"\xab"}}}]}}]}\n\n',
        b"data: [1, 2]\n\n",
    ],
)
def test_unreadable_bytes_are_one_error(data: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        read(data)


def test_trap_011_half_a_surrogate_pair_is_mended() -> None:
    parts = b'{"parts":[{"text":"a\\ud83d"}]}'
    data = b'data: {"candidates":[{"content":' + parts + b',"finishReason":"STOP"}]}\n\n'
    assert [e.text for e in read(data) if isinstance(e, TextDelta)] == ["a\ufffd"]


@pytest.mark.parametrize(
    ("args", "text"),
    [
        (b'{"a":"x\\ud83d"}', '{"a":"x\ufffd"}'),
        (b'{"a":"\\ud83d\\ude00"}', '{"a":"\U0001f600"}'),
        (b'{ "n" : 1.50e2, "m": 12345678901234567890 }', '{"n":1.50e2,"m":12345678901234567890}'),
    ],
)
def test_trap_048_trap_011_arguments_are_passed_on_as_written(args: bytes, text: str) -> None:
    part = b'{"functionCall":{"name":"f","args":' + args + b"}}"
    data = b'data: {"candidates":[{"content":{"parts":[' + part + b']},"finishReason":"STOP"}]}\n\n'
    assert [e.fragment for e in read(data) if isinstance(e, ArgumentsDelta)] == [text]


SOURCE = sse(*RICH)


@settings(max_examples=examples(133), deadline=None)
@given(st.data())
def test_mutated_streams_give_events_or_a_typed_error(data: st.DataObject) -> None:
    raw = bytearray(SOURCE)
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(raw) - 1))
        match data.draw(st.sampled_from(["flip", "cut", "double", "swap"])):
            case "flip":
                raw[at] = data.draw(st.integers(0, 255))
            case "cut":
                del raw[at : at + data.draw(st.integers(1, 40))]
            case "double":
                raw[at:at] = raw[at : at + 30]
            case _:
                raw[at : at + 1] = data.draw(
                    st.sampled_from([b"null", b"[]", b"{}", b"-1", b"1e999", b'"'])
                )
        if not raw:
            break
    try:
        events = read(bytes(raw))
    except RemoteProtocolError:
        return
    assert isinstance(events[-1], End | Failed)
    open_blocks: set[int] = set()
    for event in events:
        if isinstance(event, BlockStart):
            assert event.index not in open_blocks
            open_blocks.add(event.index)


def test_10_000_chunks_cost_the_same_each() -> None:
    decoder = CODEC.stream_decoder(Restore(), MODEL)
    one = sse(chunk({"text": "some words "}, usageMetadata={"promptTokenCount": 1}))
    costs = []
    for _ in range(10):
        begun = time.thread_time()
        for _ in range(1000):
            decoder.feed(one)
        costs.append(time.thread_time() - begun)
    assert min(costs[-3:]) < 3 * min(costs[:3]) + 0.005
