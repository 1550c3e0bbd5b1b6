"""What our Chat Completions clients receive, judged by the official SDK."""

from __future__ import annotations

from typing import Any

import pytest

from controlplane.kit.errors import Fault, FaultKind
from controlplane.kit.json import JSONDict
from providers.protocols.canonical import (
    ArgumentsDelta,
    Base64,
    BlockEnd,
    BlockStart,
    CitationDelta,
    End,
    Event,
    Failed,
    Finish,
    Image,
    KeepAlive,
    LogprobsDelta,
    Opaque,
    Refusal,
    Request,
    Signature,
    SignatureDelta,
    Start,
    StopReason,
    Text,
    TextDelta,
    Thinking,
    ThinkingDelta,
    ToolCall,
    Usage,
    UsageUpdate,
)
from providers.protocols.errors import RemoteProtocolError
from providers.protocols.openai_completions import CODEC
from tests.providers.protocols.openai_completions.builders import (
    CALL,
    THOUGHT_AND_CALL,
    check_completion,
    datas,
    encode,
    paths,
    reply,
    sdk_chunks,
    sdk_completion,
)

CLAUDE = Signature(value="c2ln", protocol="anthropic-messages", model="claude")
GEMINI = Signature(value="Z2Vt", protocol="google-generative-ai", model="gemini")


def stream(*events: Event, **fields: Any) -> bytes:
    return encode(CODEC.stream_encoder(reply(**fields)), events)


def whole(*events: Event, **fields: Any) -> JSONDict:
    body = CODEC.encode_answer(events, reply(**fields)).body
    check_completion(body)
    return body


def said(text: str, *rest: Event, reason: StopReason = "stop") -> tuple[Event, ...]:
    return (
        Start("up", "vendor", 1),
        BlockStart(0, Text(text="")),
        TextDelta(0, text),
        *rest,
        BlockEnd(0),
        Finish(reason),
        UsageUpdate(Usage(input=3, output=1)),
        End(),
    )


def test_trap_126_a_whole_stream_as_the_sdk_reads_it() -> None:
    data = stream(*THOUGHT_AND_CALL, include_usage=True)
    chunks = sdk_chunks(data)
    assert {chunk.id for chunk in chunks} == {"chatcmpl-r1"}
    assert {chunk.model for chunk in chunks} == {"asked"}
    roles = [c.choices[0].delta.role for c in chunks if c.choices]
    assert roles[0] == "assistant"
    assert set(roles[1:]) == {None}, "trap 126: the role only once"
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.prompt_tokens == 12
    assert all(chunk.usage is None for chunk in chunks[:-1])
    assert data.endswith(b"data: [DONE]\n\n")
    completion = sdk_completion(data)
    message = completion.choices[0].message
    assert message.content == "Calling Zürich 🚀."
    assert [(c.id, c.function.name, c.function.arguments) for c in message.tool_calls or ()] == [
        ("call_a", "weather", '{"city":"Bern"}'),
        ("call_b", "clock", "{}"),
    ]
    assert completion.choices[0].finish_reason == "tool_calls"


def test_parity_of_stream_and_complete_answer() -> None:
    body = whole(*THOUGHT_AND_CALL)
    completion = sdk_completion(stream(*THOUGHT_AND_CALL, include_usage=True))
    message = body["choices"][0]["message"]
    assert message["content"] == completion.choices[0].message.content
    assert message["reasoning_content"] == "Let me see."
    assert [call["id"] for call in message["tool_calls"]] == ["call_a", "call_b"]
    assert body["choices"][0]["finish_reason"] == completion.choices[0].finish_reason
    assert completion.usage is not None
    assert body["usage"]["total_tokens"] == completion.usage.total_tokens == 21


def test_trap_145_tool_call_positions_are_contiguous_per_choice() -> None:
    positions = [
        call["index"]
        for chunk in datas(stream(*THOUGHT_AND_CALL))
        if chunk != "[DONE]" and chunk["choices"]
        for call in chunk["choices"][0]["delta"].get("tool_calls", ())
    ]
    assert sorted(set(positions)) == [0, 1]


def test_usage_only_when_asked_and_null_before() -> None:
    quiet = datas(stream(*said("x")))
    assert all("usage" not in chunk for chunk in quiet[:-1])
    asked = datas(stream(*said("x"), include_usage=True))
    assert [chunk["usage"] is None for chunk in asked[:-1]] == [True] * (len(asked) - 2) + [False]


def test_trap_159_and_160_zeros_are_written() -> None:
    usage = whole(*said("x"))["usage"]
    assert usage["prompt_tokens_details"]["cached_tokens"] == 0
    zero = whole(Start(), Finish("length"), UsageUpdate(Usage(input=1)), End())
    assert zero["usage"]["completion_tokens"] == 0


@pytest.mark.parametrize(
    ("reason", "word"),
    [
        ("stop", "stop"),
        ("stop_sequence", "stop"),
        ("pause", "stop"),
        ("length", "length"),
        ("context_overflow", "length"),
        ("content_filter", "content_filter"),
        ("refusal", "content_filter"),
    ],
)
def test_finish_reasons(reason: StopReason, word: str) -> None:
    assert whole(*said("x", reason=reason))["choices"][0]["finish_reason"] == word
    assert sdk_completion(stream(*said("x", reason="stop"))).choices[0].finish_reason == "stop"


def test_trap_137_an_unknown_end_is_an_error_not_a_success() -> None:
    events = (*said("x")[:-3], Finish("error", "solar_flare"), End())
    last = datas(stream(*events))
    assert last[-1] == "[DONE]"
    assert "solar_flare" in last[-2]["error"]["message"]
    with pytest.raises(RemoteProtocolError, match="solar_flare"):
        CODEC.encode_answer(events, reply())


def test_an_error_in_the_stream_ends_it() -> None:
    fault = Fault(kind=FaultKind.OVERLOADED, code="upstream_overloaded", message="Busy.")
    data = stream(*said("x")[:3], Failed(fault), End())
    events = datas(data)
    assert events[-2]["error"] == {
        "message": "Busy.",
        "type": "server_error",
        "param": None,
        "code": "upstream_overloaded",
    }
    assert data.count(b"[DONE]") == 1
    assert CODEC.encode_error_event(fault).endswith(b"data: [DONE]\n\n")


def test_refusals_leave_in_their_field() -> None:
    events = (
        Start(),
        BlockStart(0, Refusal(text="")),
        TextDelta(0, "I won't"),
        BlockEnd(0),
        Finish("refusal"),
        End(),
    )
    message = whole(*events)["choices"][0]["message"]
    assert message["refusal"] == "I won't"
    assert message["content"] is None
    deltas = [chunk.choices[0].delta.refusal for chunk in sdk_chunks(stream(*events))]
    assert "".join(delta or "" for delta in deltas) == "I won't"


def test_legacy_clients_get_function_call() -> None:
    body = whole(*THOUGHT_AND_CALL, uses_legacy_functions=True)
    choice = body["choices"][0]
    assert choice["finish_reason"] == "function_call"
    assert choice["message"]["function_call"] == {
        "name": "weather",
        "arguments": '{"city":"Bern"}',
    }
    assert "tool_calls" not in choice["message"]
    encoder = CODEC.stream_encoder(reply(uses_legacy_functions=True))
    chunks = sdk_chunks(encode(encoder, THOUGHT_AND_CALL))
    calls = [c.choices[0].delta.function_call for c in chunks if c.choices]
    assert "".join(call.arguments or "" for call in calls if call) == '{"city":"Bern"}'
    assert paths(encoder.losses) == {"choices"}, "a second call cannot be said"


def test_custom_calls_and_empty_arguments() -> None:
    events = (
        Start(),
        BlockStart(0, ToolCall(id="a", name="sql", arguments="", kind="custom")),
        ArgumentsDelta(0, "select 1"),
        BlockEnd(0),
        BlockStart(1, ToolCall(id="b", name="f")),
        BlockEnd(1),
        Finish("tool_use"),
        End(),
    )
    calls = whole(*events)["choices"][0]["message"]["tool_calls"]
    assert calls == [
        {"id": "a", "type": "custom", "custom": {"name": "sql", "input": "select 1"}},
        {"id": "b", "type": "function", "function": {"name": "f", "arguments": "{}"}},
    ]
    deltas = [
        call
        for chunk in datas(stream(*events))[:-1]
        for call in chunk["choices"][0]["delta"].get("tool_calls", ())
    ]
    assert deltas[0]["custom"] == {"name": "sql", "input": ""}
    assert deltas[1] == {"index": 0, "custom": {"input": "select 1"}}
    assert deltas[-1] == {"index": 1, "function": {"arguments": "{}"}}


def test_summary_parts_and_blocks_are_kept_apart_by_blank_lines() -> None:
    events = (
        Start(),
        BlockStart(0, Thinking()),
        ThinkingDelta(0, "one", 0),
        ThinkingDelta(0, "two", 1),
        BlockEnd(0),
        BlockStart(1, Thinking()),
        ThinkingDelta(1, "three"),
        BlockEnd(1),
        Finish("stop"),
        End(),
    )
    message = whole(*events)["choices"][0]["message"]
    assert message["reasoning_content"] == "one\n\ntwo\n\nthree"
    assert "reasoning_details" not in message, "nothing to prove"


SIGNED: tuple[Event, ...] = (
    Start(),
    BlockStart(0, Thinking()),
    ThinkingDelta(0, "first "),
    ThinkingDelta(0, "thought"),
    SignatureDelta(0, CLAUDE),
    BlockEnd(0),
    BlockStart(1, Thinking(redacted=True, signature=CLAUDE)),
    BlockEnd(1),
    BlockStart(2, Text(text="")),
    TextDelta(2, "hello"),
    SignatureDelta(2, GEMINI),
    BlockEnd(2),
    BlockStart(3, ToolCall(id="call_1", name="f", arguments="", signature=GEMINI)),
    ArgumentsDelta(3, "{}"),
    BlockEnd(3),
    BlockStart(4, Text(text="", signature=GEMINI)),
    BlockEnd(4),
    Finish("tool_use"),
    End(),
)


@pytest.mark.parametrize("is_streamed", [True, False])
def test_trap_087_and_088_and_051_proofs_of_every_vendor_survive_a_client(
    is_streamed: bool,
) -> None:
    """Out to a client that sends back what it got, and in again: nothing is missing."""
    if is_streamed:
        message: JSONDict = {"role": "assistant", "content": "", "reasoning_details": []}
        calls: list[JSONDict] = []
        for chunk in datas(stream(*SIGNED))[:-1]:
            delta = chunk["choices"][0]["delta"]
            message["content"] += delta.get("content", "")
            message["reasoning_details"] += delta.get("reasoning_details", [])
            for call in delta.get("tool_calls", ()):
                if "id" in call:
                    calls.append(
                        {"id": call["id"], "type": "function", "function": call["function"]}
                    )
                else:
                    calls[-1]["function"]["arguments"] += call["function"]["arguments"]
        message["tool_calls"] = calls
    else:
        message = whole(*SIGNED)["choices"][0]["message"]
    request = CODEC.decode_request({"model": "m", "messages": [message]}, CALL)
    assert request.messages[0].parts == (
        Thinking(text="first thought", signature=CLAUDE),
        Thinking(redacted=True, signature=CLAUDE),
        Text(text="hello", signature=GEMINI),
        ToolCall(id="call_1", name="f", signature=GEMINI),
        Text(text="", signature=GEMINI),
    )


def test_a_client_that_drops_the_details_still_works() -> None:
    message = whole(*SIGNED)["choices"][0]["message"]
    del message["reasoning_details"]
    request = CODEC.decode_request({"model": "m", "messages": [message]}, CALL)
    assert request.messages[0].parts == (
        Thinking(text="first thought"),
        Text(text="hello"),
        ToolCall(id="call_1", name="f"),
    )


def test_logprobs_citations_images_and_what_has_no_place() -> None:
    citation = {"type": "web_search_result_location", "url": "https://x", "title": "X"}
    events = (
        Start(),
        BlockStart(0, Text(text="")),
        TextDelta(0, "x"),
        LogprobsDelta(({"token": "x", "logprob": -0.5, "bytes": None, "top_logprobs": []},)),
        CitationDelta(0, citation),
        CitationDelta(0, {"type": "char_location", "document_index": 0}),
        BlockEnd(0),
        BlockStart(1, Image(source=Base64(media_type="image/png", data="QUJD"))),
        BlockEnd(1),
        BlockStart(2, Opaque(protocol="anthropic-messages", value={"type": "server_tool_use"})),
        BlockEnd(2),
        Finish("stop"),
        End(),
    )
    answer = CODEC.encode_answer(events, reply())
    completion = check_completion(answer.body)
    assert completion.choices[0].logprobs is not None
    annotations = completion.choices[0].message.annotations or []
    assert annotations[0].url_citation.url == "https://x"
    assert answer.body["choices"][0]["message"]["images"][0]["image_url"]["url"].startswith("data:")
    assert paths(answer.losses) == {"output[0].citations", "output[2]"}
    chunks = sdk_chunks(stream(*events))
    assert any(c.choices[0].logprobs is not None for c in chunks if c.choices)


def test_several_choices() -> None:
    events: tuple[Event, ...] = (Start(),)
    for choice in (1, 0):
        events += (
            BlockStart(choice, Text(text=""), choice),
            TextDelta(choice, f"answer {choice}", choice),
            BlockEnd(choice, choice),
            Finish("stop", choice=choice),
        )
    events += (End(),)
    body = whole(*events)
    assert [c["message"]["content"] for c in body["choices"]] == ["answer 0", "answer 1"]
    completion = sdk_completion(stream(*events))
    assert {c.index: c.message.content for c in completion.choices} == {
        0: "answer 0",
        1: "answer 1",
    }


def test_keep_alives_are_comments_and_nothing_follows_the_end() -> None:
    encoder = CODEC.stream_encoder(reply())
    assert encoder.feed(KeepAlive()) == b": keep-alive\n\n"
    encode(encoder, said("x"))
    assert encoder.feed(End()) == b""


def test_trap_125_the_role_comes_first_even_without_a_start() -> None:
    first = datas(stream(*said("x")[1:]))[0]
    assert first["choices"][0]["delta"]["role"] == "assistant"


@pytest.mark.parametrize(
    ("kind", "type_", "code"),
    [
        (FaultKind.BAD_REQUEST, "invalid_request_error", "ours"),
        (FaultKind.CONTEXT_OVERFLOW, "invalid_request_error", "context_length_exceeded"),
        (FaultKind.AUTH, "invalid_request_error", "invalid_api_key"),
        (FaultKind.PAYMENT, "insufficient_quota", "insufficient_quota"),
        (FaultKind.FORBIDDEN, "permission_denied", "ours"),
        (FaultKind.NOT_FOUND, "invalid_request_error", "ours"),
        (FaultKind.RATE_LIMIT, "rate_limit_exceeded", "rate_limit_exceeded"),
        (FaultKind.UPSTREAM, "server_error", "ours"),
        (FaultKind.TIMEOUT, "timeout", "ours"),
    ],
)
def test_errors_in_the_dialects_words(kind: FaultKind, type_: str, code: str) -> None:
    body = CODEC.encode_error(Fault(kind=kind, code="ours", message="m", param="p"))
    assert body == {"error": {"message": "m", "type": type_, "param": "p", "code": code}}


def test_trap_144_the_request_model_is_echoed() -> None:
    request = Request(model="alias/of-mine", dialect="openai-completions")
    body = CODEC.encode_answer(said("x"), reply(request)).body
    assert body["model"] == "alias/of-mine"
