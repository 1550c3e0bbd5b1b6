"""What our Responses clients receive, judged by the official SDK."""

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
    Reasoning,
    Refusal,
    Request,
    ResponseFormat,
    Sampling,
    Signature,
    SignatureDelta,
    Start,
    SystemText,
    Text,
    TextDelta,
    Thinking,
    ThinkingDelta,
    Tool,
    ToolCall,
    ToolChoice,
    Usage,
    UsageUpdate,
)
from providers.protocols.codec import Reply
from providers.protocols.openai_responses import CODEC
from tests.providers.protocols.openai_completions.builders import (
    CALL,
    THOUGHT_AND_CALL,
    check_response,
    datas,
    encode,
    paths,
    reply,
    sdk_events,
    sdk_response,
)

CLAUDE = Signature(value="c2ln", protocol="anthropic-messages", model="claude")
GEMINI = Signature(value="Z2Vt", protocol="google-generative-ai", model="gemini")
REQUEST = Request(
    model="asked",
    dialect="openai-responses",
    system=(SystemText(text="be", origin="instructions"),),
    tools=(
        Tool(name="weather", schema={"type": "object"}, strict=True),
        Tool(name="sql", kind="custom", grammar={"syntax": "lark", "definition": "x"}),
        Tool(name="run", namespace="db", extra={"namespace_description": "data"}),
        Tool(name="web_search", kind="builtin", builtin={"type": "web_search"}),
    ),
    tool_choice=ToolChoice(mode="named", names=("weather",)),
    sampling=Sampling(temperature=0.5, max_output_tokens=99),
    reasoning=Reasoning(level="off"),
    response_format=ResponseFormat(kind="json_schema", name="n", schema={"type": "object"}),
    metadata={"a": "b"},
)


def stream(*events: Event, request: Request = REQUEST) -> bytes:
    data = encode(CODEC.stream_encoder(reply(request)), events)
    numbers = [event["sequence_number"] for event in datas(data)]
    assert numbers == list(range(len(numbers))), "trap 145: numbers without a gap"
    return data


def whole(*events: Event, request: Request = REQUEST) -> JSONDict:
    body = CODEC.encode_answer(events, reply(request)).body
    check_response(body)
    return body


def test_trap_144_and_145_a_whole_stream_as_the_sdk_reads_it() -> None:
    data = stream(*THOUGHT_AND_CALL)
    types = [event.type for event in sdk_events(data)]
    assert types[:3] == ["response.created", "response.in_progress", "response.output_item.added"]
    assert types[-1] == "response.completed"
    response = sdk_response(data)
    assert response.output_text == "Calling Zürich 🚀."
    kinds = [item.type for item in response.output]
    assert kinds == ["reasoning", "message", "function_call", "function_call"]
    assert response.output[2].arguments == '{"city":"Bern"}'  # type: ignore[union-attr]
    assert response.output[3].arguments == "{}"  # type: ignore[union-attr]
    assert response.model == "asked", "trap 144: the model that the client asked for"
    assert response.usage is not None
    assert response.usage.input_tokens == 12


def test_trap_141_parity_of_stream_and_complete_answer() -> None:
    last = datas(stream(*THOUGHT_AND_CALL))[-1]["response"]
    assert last == whole(*THOUGHT_AND_CALL)


def test_events_of_one_message_in_their_order() -> None:
    events: tuple[Event, ...] = (
        Start(),
        BlockStart(0, Text(text="", phase="commentary")),
        TextDelta(0, "a"),
        CitationDelta(0, {"type": "url_citation", "url": "https://x", "title": "X"}),
        LogprobsDelta(({"token": "a", "logprob": -0.5, "bytes": [97], "top_logprobs": []},)),
        BlockEnd(0),
        BlockStart(1, Text(text="", phase="commentary")),
        TextDelta(1, "b"),
        BlockEnd(1),
        BlockStart(2, Refusal(text="")),
        TextDelta(2, "no"),
        BlockEnd(2),
        Finish("refusal"),
        End(),
    )
    types = [event["type"].removeprefix("response.") for event in datas(stream(*events))]
    assert types == [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.annotation.added",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "content_part.added",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "output_item.added",
        "content_part.added",
        "refusal.delta",
        "refusal.done",
        "content_part.done",
        "output_item.done",
        "completed",
    ]
    sdk_events(stream(*events))
    first, second = whole(*events)["output"]
    assert first["phase"] == "commentary"
    assert [part["text"] for part in first["content"]] == ["a", "b"]
    assert first["content"][0]["annotations"][0]["url"] == "https://x"
    assert second["content"] == [{"type": "refusal", "refusal": "no"}]


def test_reasoning_events_with_summary_parts() -> None:
    events = (
        Start(),
        BlockStart(0, Thinking(item_id="rs_up")),
        ThinkingDelta(0, "one", 0),
        ThinkingDelta(0, "two", 3),
        SignatureDelta(0, CLAUDE),
        BlockEnd(0),
        Finish("stop"),
        End(),
    )
    types = [event["type"].removeprefix("response.") for event in datas(stream(*events))][3:-1]
    part = [
        "reasoning_summary_part.added",
        "reasoning_summary_text.delta",
        "reasoning_summary_text.done",
        "reasoning_summary_part.done",
    ]
    assert types == [*part, *part, "output_item.done"]
    indexes = [e["summary_index"] for e in datas(stream(*events)) if "summary_index" in e]
    assert indexes == [0] * 4 + [1] * 4
    (item,) = whole(*events)["output"]
    assert item["id"] == "rs_up"
    assert [entry["text"] for entry in item["summary"]] == ["one", "two"]
    sdk_events(stream(*events))


SIGNED: tuple[Event, ...] = (
    Start(),
    BlockStart(0, Thinking()),
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
    BlockStart(4, ToolCall(id="call_2", name="g", arguments="")),
    ArgumentsDelta(4, "{}"),
    BlockEnd(4),
    Finish("tool_use"),
    End(),
)


def test_trap_087_and_088_and_051_proofs_of_every_vendor_survive_a_client() -> None:
    """Out to a client that sends back what it got, and in again: nothing is missing."""
    output = datas(stream(*SIGNED))[-1]["response"]["output"]
    assert output == whole(*SIGNED)["output"]
    request = CODEC.decode_request({"model": "m", "input": output}, CALL)
    thought, redacted, text, first, second = request.messages[0].parts
    assert isinstance(thought, Thinking)
    assert isinstance(redacted, Thinking)
    assert (thought.text, thought.signature) == ("thought", CLAUDE)
    assert (redacted.redacted, redacted.signature) == (True, CLAUDE)
    assert text == Text(text="hello", signature=GEMINI)
    assert isinstance(first, ToolCall)
    assert isinstance(second, ToolCall)
    assert (first.id, first.signature) == ("call_1", GEMINI)
    assert (second.id, second.signature) == ("call_2", None)
    sdk_events(stream(*SIGNED))


def test_a_client_that_drops_reasoning_still_works() -> None:
    output = [item for item in whole(*SIGNED)["output"] if item["type"] != "reasoning"]
    request = CODEC.decode_request({"model": "m", "input": output}, CALL)
    assert [type(part) for part in request.messages[0].parts] == [Text, ToolCall, ToolCall]


def test_custom_calls_namespaces_and_items_of_the_family() -> None:
    item = {
        "type": "web_search_call",
        "id": "ws_1",
        "status": "completed",
        "action": {"type": "search", "query": "q"},
    }
    events = (
        Start(),
        BlockStart(0, ToolCall(id="a", name="sql", arguments="", kind="custom")),
        ArgumentsDelta(0, "select"),
        BlockEnd(0),
        BlockStart(1, ToolCall(id="b", name="run", arguments="", namespace="db")),
        BlockEnd(1),
        BlockStart(2, Opaque(protocol="openai-codex-responses", value=item)),
        BlockEnd(2),
        BlockStart(3, Image(source=Base64(media_type="image/png", data="QUJD"))),
        BlockEnd(3),
        Finish("tool_use"),
        End(),
    )
    custom, spaced, search, image = whole(*events)["output"]
    assert (custom["type"], custom["input"]) == ("custom_tool_call", "select")
    assert (spaced["namespace"], spaced["arguments"]) == ("db", "{}")
    assert search == item
    assert image["result"] == "QUJD"
    sdk_events(stream(*events))
    answer = CODEC.encode_answer(
        (
            Start(),
            BlockStart(0, Opaque(protocol="anthropic-messages", value={})),
            BlockEnd(0),
            Finish("stop"),
            End(),
        ),
        reply(REQUEST),
    )
    assert paths(answer.losses) == {"output[0]"}


def said(reason: Any, *before: Event) -> tuple[Event, ...]:
    return (
        Start(),
        BlockStart(0, Text(text="")),
        TextDelta(0, "x"),
        BlockEnd(0),
        *before,
        Finish(reason, "raw"),
        UsageUpdate(Usage(input=1, output=1, service_tier="flex")),
        End(),
    )


@pytest.mark.parametrize(
    ("reason", "status", "details"),
    [
        ("stop", "completed", None),
        ("stop_sequence", "completed", None),
        ("refusal", "completed", None),
        ("length", "incomplete", {"reason": "max_output_tokens"}),
        ("context_overflow", "incomplete", {"reason": "max_output_tokens"}),
        ("content_filter", "incomplete", {"reason": "content_filter"}),
        ("pause", "incomplete", {"reason": None}),
    ],
)
def test_ends(reason: str, status: str, details: JSONDict | None) -> None:
    body = whole(*said(reason))
    assert (body["status"], body["incomplete_details"]) == (status, details)
    assert body["output"][0]["status"] == status
    assert body["service_tier"] == "flex"
    assert sdk_events(stream(*said(reason)))[-1].type == f"response.{status}"


def test_trap_143_a_call_that_was_cut_off_is_not_presented_as_whole() -> None:
    call = (
        BlockStart(1, ToolCall(id="a", name="f", arguments="")),
        ArgumentsDelta(1, '{"x'),
        BlockEnd(1),
    )
    cut = whole(*said("length", *call))["output"][1]
    assert (cut["status"], cut["arguments"]) == ("incomplete", '{"x')
    assert whole(*said("tool_use", *call))["output"][1]["status"] == "completed"


def test_trap_137_an_unknown_end_is_a_failure() -> None:
    body = whole(*said("error"))
    assert body["status"] == "failed"
    assert body["error"]["code"] == "server_error"
    assert sdk_events(stream(*said("error")))[-1].type == "response.failed"


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (FaultKind.RATE_LIMIT, "rate_limit_exceeded"),
        (FaultKind.CONTEXT_OVERFLOW, "invalid_prompt"),
        (FaultKind.OVERLOADED, "server_error"),
    ],
)
def test_failures_before_and_after_the_start(kind: FaultKind, code: str) -> None:
    fault = Fault(kind=kind, code="ours", message="Busy.", upstream_code="theirs", param="p")
    data = stream(*said("stop")[:3], Failed(fault), End())
    last = sdk_events(data)[-1]
    assert last.type == "response.failed"
    assert (last.response.error.code, last.response.error.message) == (code, "Busy.")
    assert last.response.output[0].content[0].text == "x"
    (early,) = datas(stream(Failed(fault)))
    assert early == {
        "type": "error",
        "sequence_number": 0,
        "code": "theirs",
        "message": "Busy.",
        "param": "p",
    }
    assert CODEC.encode_error_event(fault).startswith(b"event: error\n")
    assert CODEC.encode_error(fault)["error"]["message"] == "Busy."


def test_trap_159_details_are_always_there() -> None:
    usage = whole(*said("stop"))["usage"]
    assert usage["input_tokens_details"] == {"cached_tokens": 0, "cache_write_tokens": 0}
    assert usage["output_tokens_details"] == {"reasoning_tokens": 0}


def test_text_that_goes_on_after_another_item_began() -> None:
    events = (
        Start(),
        BlockStart(0, Text(text="")),
        TextDelta(0, "a"),
        BlockStart(1, ToolCall(id="c", name="f", arguments="")),
        TextDelta(0, "b"),
        ArgumentsDelta(1, "{}"),
        BlockEnd(1),
        BlockEnd(0),
        Finish("tool_use"),
        End(),
    )
    kinds = [item["type"] for item in whole(*events)["output"]]
    assert kinds == ["message", "function_call", "message"]
    sdk_events(stream(*events))


def test_the_request_is_echoed() -> None:
    body = whole(*said("stop"))
    assert body["instructions"] == "be"
    assert body["temperature"] == 0.5
    assert body["tool_choice"] == {"type": "function", "name": "weather"}
    assert [tool["type"] for tool in body["tools"]] == [
        "function",
        "custom",
        "namespace",
        "web_search",
    ]
    assert body["text"]["format"]["name"] == "n"
    assert body["reasoning"]["effort"] == "none"
    assert body["metadata"] == {"a": "b"}


def test_keep_alives_empty_answers_and_long_ids() -> None:
    encoder = CODEC.stream_encoder(reply(REQUEST))
    assert encoder.feed(KeepAlive()) == b": keep-alive\n\n"
    body = whole(Start(), Finish("stop"), End())
    assert (body["output"], body["usage"]) == ([], None)
    long = CODEC.encode_answer(said("stop"), Reply(request=REQUEST, id="x" * 200, created=1)).body
    assert len(long["output"][0]["id"]) <= 64
