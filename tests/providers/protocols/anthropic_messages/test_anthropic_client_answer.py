"""Answers to callers: the official SDK reads every one of them."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from anthropic import APIStatusError
from anthropic.types import Message as SdkMessage
from pydantic import TypeAdapter

from controlplane.kit.errors import Fault, FaultKind
from controlplane.kit.json import JSONDict, loads
from providers.protocols.anthropic_messages import CODEC
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
    Message,
    ModelSpec,
    Opaque,
    Refusal,
    Request,
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
from providers.protocols.codec import ClientCall, Reply
from providers.protocols.errors import RemoteProtocolError
from providers.protocols.losses import LossCode
from providers.protocols.sse import SSEParser

Sdk = Callable[[bytes], SdkMessage]
REPLY = Reply(
    request=Request(model="alias", dialect="anthropic-messages"), id="req1", created=1_700_000_000
)
USAGE = Usage(input=10, cache_read=4, cache_write=6, cache_write_1h=2, output=9, reasoning=3)
PROOF = Signature(value="cHJvb2Y=", protocol="google-generative-ai", model="gemini-x")


def stream(events: list[Event]) -> bytes:
    encoder = CODEC.stream_encoder(REPLY)
    return b"".join(encoder.feed(event) for event in events)


def wire(events: list[Event]) -> list[JSONDict]:
    parser = SSEParser()
    parsed = parser.feed(stream(events)) + parser.close()
    out: list[JSONDict] = []
    for event in parsed:
        value: JSONDict = loads(event.data)
        assert value["type"].encode() == event.event
        out.append(value)
    return out


def answer(*content: Event, reason: Any = "stop", usage: Usage = USAGE) -> list[Event]:
    return [
        Start(id="up", model="vendor-model"),
        *content,
        Finish(reason=reason),
        UsageUpdate(usage),
        End(),
    ]


def check_grammar(events: list[JSONDict]) -> None:
    """message_start, closed sequential blocks, one message_delta, message_stop."""
    assert events[0]["type"] == "message_start"
    assert [e["type"] for e in events[-2:]] == ["message_delta", "message_stop"]
    is_open, next_index = False, 0
    for event in events[1:-2]:
        match event["type"]:
            case "content_block_start":
                assert not is_open
                assert event["index"] == next_index
                is_open = True
            case "content_block_delta":
                assert is_open
                assert event["index"] == next_index
            case "content_block_stop":
                assert is_open
                assert event["index"] == next_index
                is_open, next_index = False, next_index + 1
            case other:
                assert other == "ping"
    assert not is_open


TEXT: list[Event] = [
    BlockStart(0, Text(text="")),
    TextDelta(0, "Grüße "),
    TextDelta(0, "世界🎉"),
    BlockEnd(0),
]
CALLS: list[Event] = [
    BlockStart(1, ToolCall(id="call_a", name="f", arguments="")),
    ArgumentsDelta(1, '{"a":'),
    BlockStart(2, ToolCall(id="call_b", name="g", arguments="")),
    ArgumentsDelta(2, '{"b":2'),
    ArgumentsDelta(1, "1}"),
    ArgumentsDelta(2, "}"),
    BlockEnd(2),
    BlockEnd(1),
]
THINKING: list[Event] = [
    BlockStart(0, Thinking()),
    ThinkingDelta(0, "one"),
    ThinkingDelta(0, "two", summary_index=1),
    SignatureDelta(0, PROOF),
    BlockEnd(0),
]
MIXED: list[Event] = [
    BlockStart(0, Text(text="")),
    TextDelta(0, "a"),
    BlockStart(1, Thinking()),
    ThinkingDelta(1, "t"),
    TextDelta(0, "b"),
    BlockStart(2, ToolCall(id="c", name="f", arguments="", signature=PROOF)),
    TextDelta(0, "late"),
    ArgumentsDelta(2, "{}"),
    SignatureDelta(1, PROOF),
    BlockEnd(2),
    BlockEnd(0),
    BlockEnd(1),
]
REST: list[Event] = [
    BlockStart(0, Thinking(redacted=True, signature=PROOF)),
    BlockEnd(0),
    BlockStart(1, Refusal(text="")),
    TextDelta(1, "No."),
    BlockEnd(1),
    BlockStart(2, Image(source=Base64(media_type="image/png", data="iVBO"))),
    BlockEnd(2),
    BlockStart(
        3,
        Opaque(
            protocol="anthropic-messages",
            value={
                "type": "server_tool_use",
                "id": "srvtoolu_1",
                "name": "web_search",
                "input": {"query": "q"},
                "caller": {"type": "direct"},
            },
        ),
    ),
    BlockEnd(3),
    BlockStart(4, Text(text="")),
    TextDelta(4, "cited"),
    CitationDelta(
        4,
        {
            "type": "char_location",
            "cited_text": "x",
            "document_index": 0,
            "document_title": None,
            "start_char_index": 0,
            "end_char_index": 1,
        },
    ),
    CitationDelta(4, {"type": "url_citation", "url": "https://x.test", "title": "X"}),
    BlockEnd(4),
]
SCENARIOS: dict[str, list[Event]] = {
    "empty": answer(),
    "text": answer(*TEXT),
    "calls": answer(*TEXT, *CALLS, reason="tool_use"),
    "thinking": answer(*THINKING),
    "mixed": answer(*MIXED, reason="tool_use"),
    "rest": answer(*REST, reason="refusal"),
    "length": answer(*TEXT, reason="length"),
    "unended": answer(*TEXT[:-1], reason="stop"),
}


@pytest.mark.parametrize("name", SCENARIOS)
def test_grammar_and_parity_of_stream_and_whole_answer(name: str, sdk_stream: Sdk) -> None:
    events = SCENARIOS[name]
    check_grammar(wire(events))
    streamed = sdk_stream(stream(events))
    whole = CODEC.encode_answer(events, REPLY).body
    parsed = TypeAdapter(SdkMessage).validate_python(whole)
    left, right = streamed.to_dict(), parsed.to_dict()
    for message in (left, right):
        usage: Any = message["usage"]
        # Told in whole messages only.
        usage.pop("cache_creation", None)
        # The SDK writes null where a stream had none.
        if message.get("stop_details") is None:
            message.pop("stop_details", None)
    assert left == right


def test_the_whole_message() -> None:
    encoded = CODEC.encode_answer(SCENARIOS["calls"], REPLY)
    assert encoded.losses == ()
    assert encoded.body == {
        "id": "msg_req1",
        "type": "message",
        "role": "assistant",
        "model": "alias",
        "content": [
            {"type": "text", "text": "Grüße 世界🎉"},
            {"type": "tool_use", "id": "call_a", "name": "f", "input": {"a": 1}},
            {"type": "tool_use", "id": "call_b", "name": "g", "input": {"b": 2}},
        ],
        "stop_reason": "tool_use",
        "stop_sequence": None,
        "usage": {
            "input_tokens": 10,
            "cache_creation_input_tokens": 6,
            "cache_read_input_tokens": 4,
            "output_tokens": 9,
            "output_tokens_details": {"thinking_tokens": 3},
            "cache_creation": {"ephemeral_5m_input_tokens": 4, "ephemeral_1h_input_tokens": 2},
        },
    }


def test_trap_035_interleaved_calls_are_serialised() -> None:
    events = wire(SCENARIOS["calls"])
    check_grammar(events)
    collected: dict[int, str] = {}
    for event in events:
        if event["type"] == "content_block_delta" and "partial_json" in event["delta"]:
            index = event["index"]
            collected[index] = collected.get(index, "") + event["delta"]["partial_json"]
    assert collected == {1: '{"a":1}', 2: '{"b":2}'}


def test_arguments_of_the_open_call_leave_at_once() -> None:
    encoder = CODEC.stream_encoder(REPLY)
    for event in [Start(), *CALLS[:1]]:
        encoder.feed(event)
    assert b'"partial_json":"{\\"a\\":"' in encoder.feed(CALLS[1])
    assert encoder.feed(CALLS[2]) == b""


def test_thousands_of_waiting_calls_do_not_recurse() -> None:
    events: list[Event] = [BlockStart(0, ToolCall(id="c0", name="f", arguments=""))]
    for index in range(1, 3000):
        events.append(BlockStart(index, ToolCall(id=f"c{index}", name="f", arguments="")))
        events.append(BlockEnd(index))
    events.append(BlockEnd(0))
    check_grammar(wire(answer(*events, reason="tool_use")))


def test_trap_034_and_036_tool_use_without_calls_is_end_turn() -> None:
    assert wire(answer(*TEXT, reason="tool_use"))[-2]["delta"]["stop_reason"] == "end_turn"


def test_trap_037_calls_make_a_stop_tool_use() -> None:
    assert wire(answer(*CALLS))[-2]["delta"]["stop_reason"] == "tool_use"


@pytest.mark.parametrize(
    ("reason", "word"),
    [
        ("stop", "end_turn"),
        ("stop_sequence", "stop_sequence"),
        ("length", "max_tokens"),
        ("content_filter", "refusal"),
        ("refusal", "refusal"),
        ("pause", "pause_turn"),
        ("context_overflow", "model_context_window_exceeded"),
    ],
)
def test_stop_reasons(reason: Any, word: str) -> None:
    delta = wire(answer(*TEXT, reason=reason))[-2]["delta"]
    assert delta["stop_reason"] == word
    assert ("stop_details" in delta) == (word == "refusal")


def test_stop_sequence_is_named() -> None:
    events = [Start(), *TEXT, Finish(reason="stop_sequence", stop_sequence="END"), End()]
    assert wire(events)[-2]["delta"] == {"stop_reason": "stop_sequence", "stop_sequence": "END"}


def test_trap_043_malformed_arguments_are_shown_not_repaired() -> None:
    call: list[Event] = [
        BlockStart(0, ToolCall(id="c", name="f", arguments="")),
        ArgumentsDelta(0, '{"a": [1, '),
        BlockEnd(0),
    ]
    encoded = CODEC.encode_answer(answer(*call, reason="length"), REPLY)
    assert encoded.body["content"][0]["input"] == {"INVALID_JSON": '{"a": [1, '}
    assert encoded.body["stop_reason"] == "max_tokens"
    assert [loss.code for loss in encoded.losses] == [LossCode.EMULATED]


def test_trap_096_summary_parts_are_one_block() -> None:
    (block,) = CODEC.encode_answer(SCENARIOS["thinking"], REPLY).body["content"]
    assert block["thinking"] == "one\n\ntwo"


def test_trap_097_thinking_closes_before_text() -> None:
    shifted: list[Event] = [
        BlockStart(0, Thinking()),
        ThinkingDelta(0, "t"),
        BlockStart(1, Text(text="")),
        TextDelta(1, "x"),
        BlockEnd(1),
        BlockEnd(0),
    ]
    events = wire(answer(*shifted))
    check_grammar(events)
    kinds = [e["content_block"]["type"] for e in events if e["type"] == "content_block_start"]
    assert kinds == ["thinking", "text"]


def test_trap_123_usage_after_the_finish_is_delivered() -> None:
    events = wire([Start(), *TEXT, Finish(reason="stop"), UsageUpdate(USAGE), End()])
    assert events[-2]["usage"]["input_tokens"] == 10
    assert events[-2]["usage"]["output_tokens"] == 9


def test_trap_124_one_message_delta() -> None:
    events = wire([Start(), UsageUpdate(Usage(input=1)), *TEXT, UsageUpdate(USAGE), *answer()[-3:]])
    assert [event["type"] for event in events].count("message_delta") == 1


def test_trap_125_message_start_is_first_whatever_comes_first() -> None:
    for first in (KeepAlive(), TEXT[0], Start()):
        assert wire([first, *answer()[1:]])[0]["type"] == "message_start"


def test_trap_127_no_ghost_stops() -> None:
    check_grammar(wire(answer(BlockEnd(7), BlockStart(0, Text(text="")), BlockEnd(0))))


def test_trap_149_the_prompt_is_counted_once() -> None:
    usage = wire(SCENARIOS["text"])[-2]["usage"]
    total = (
        usage["input_tokens"]
        + usage["cache_read_input_tokens"]
        + usage["cache_creation_input_tokens"]
    )
    assert total == USAGE.prompt


def test_trap_160_zero_tokens_are_said() -> None:
    assert wire(answer(usage=Usage()))[-2]["usage"]["output_tokens"] == 0


def test_failures_end_in_an_error_event_and_no_message_stop(sdk_stream: Sdk) -> None:
    fault = Fault(kind=FaultKind.OVERLOADED, code="upstream_overloaded", message="Busy.")
    events = [Start(), *TEXT, Failed(fault)]
    parsed = wire(events)
    assert parsed[-1] == {
        "type": "error",
        "error": {"type": "overloaded_error", "message": "Busy."},
        "request_id": "req1",
    }
    assert "message_stop" not in [event["type"] for event in parsed]
    with pytest.raises(APIStatusError):
        sdk_stream(stream(events))


def test_a_finish_that_is_an_error_is_one() -> None:
    events = [Start(), *TEXT, Finish(reason="error", raw="malformed"), End()]
    assert wire(events)[-1]["type"] == "error"
    with pytest.raises(RemoteProtocolError):
        CODEC.encode_answer(events, REPLY)


def test_nothing_follows_the_end() -> None:
    encoder = CODEC.stream_encoder(REPLY)
    for event in SCENARIOS["text"]:
        encoder.feed(event)
    assert encoder.feed(TextDelta(0, "more")) == b""
    assert encoder.feed(End()) == b""


def test_media_and_foreign_items_are_reported() -> None:
    foreign = Opaque(protocol="openai-responses", value={"type": "web_search_call"})
    encoder = CODEC.stream_encoder(REPLY)
    for event in answer(*REST, BlockStart(9, foreign), BlockEnd(9)):
        encoder.feed(event)
    assert [loss.code for loss in encoder.losses] == [LossCode.EMULATED, LossCode.DROPPED]


def test_keep_alive_is_a_ping() -> None:
    assert {"type": "ping"} in wire([Start(), KeepAlive(), *answer()[1:]])


CLAUDE = ModelSpec(id="claude-x", protocol="anthropic-messages", reasoning=True)


def returned(events: list[Event]) -> tuple[Message, ...]:
    """A client that returns the blocks of the answer unmodified."""
    content = CODEC.encode_answer(events, REPLY).body["content"]
    body = {
        "model": "m",
        "max_tokens": 5,
        "messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": content}],
    }
    return CODEC.decode_request(body, ClientCall()).messages


def test_trap_051_and_094_foreign_proofs_come_back_with_their_origin() -> None:
    thinking = returned(SCENARIOS["thinking"])[1].parts[0]
    assert thinking == Thinking(text="one\n\ntwo", signature=PROOF)
    redacted = returned(SCENARIOS["rest"])[1].parts[0]
    assert redacted == Thinking(redacted=True, signature=PROOF)


@pytest.mark.parametrize("is_early", [True, False])
def test_trap_086_proofs_of_calls_come_back_on_the_call(is_early: bool) -> None:
    events: list[Event] = [
        BlockStart(
            0, ToolCall(id="c", name="f", arguments="", signature=PROOF if is_early else None)
        ),
        ArgumentsDelta(0, "{}"),
        *([] if is_early else [SignatureDelta(0, PROOF)]),
        BlockEnd(0),
    ]
    assert returned(answer(*events))[1].parts == (ToolCall(id="c", name="f", signature=PROOF),)


def test_proofs_of_text_come_back_on_the_text() -> None:
    events: list[Event] = [*TEXT[:-1], SignatureDelta(0, PROOF), BlockEnd(0)]
    assert returned(answer(*events))[1].parts == (Text(text="Grüße 世界🎉", signature=PROOF),)


def test_a_claude_signature_of_another_target_remembers_its_model() -> None:
    own = Signature(value="c2ln", protocol="anthropic-messages", model="claude-x")
    events: list[Event] = [
        BlockStart(0, Thinking()),
        ThinkingDelta(0, "t"),
        SignatureDelta(0, own),
        BlockEnd(0),
    ]
    assert returned(answer(*events))[1].parts == (Thinking(text="t", signature=own),)


def _accumulated(events: list[JSONDict]) -> list[JSONDict]:
    """The content that a client puts together from the stream."""
    content: list[JSONDict] = []
    fragments = ""
    for event in events:
        match event["type"]:
            case "content_block_start":
                content.append(dict(event["content_block"]))
                fragments = ""
            case "content_block_delta":
                block, delta = content[-1], event["delta"]
                match delta["type"]:
                    case "text_delta":
                        block["text"] += delta["text"]
                    case "thinking_delta":
                        block["thinking"] += delta["thinking"]
                    case "signature_delta":
                        block["signature"] = delta["signature"]
                    case "input_json_delta":
                        fragments += delta["partial_json"]
                    case "citations_delta":
                        block.setdefault("citations", []).append(delta["citation"])
            case "content_block_stop":
                if fragments:
                    content[-1]["input"] = loads(fragments)
            case _:
                pass
    return content


def test_any_interleaving_keeps_the_grammar_and_loses_no_text() -> None:
    dice = random.Random(17)
    for _ in range(1500):
        pending: list[list[Event]] = []
        texts: list[str] = []
        for index in range(dice.randint(1, 6)):
            words = [f"{index}.{n} " for n in range(dice.randint(0, 3))]
            signed = [SignatureDelta(index, PROOF)] if dice.random() < 0.5 else []
            match dice.randrange(3):
                case 0:
                    texts += words
                    pending.append(
                        [
                            BlockStart(index, Text(text="")),
                            *(TextDelta(index, word) for word in words),
                            *signed,
                            BlockEnd(index),
                        ]
                    )
                case 1:
                    pending.append(
                        [
                            BlockStart(index, Thinking()),
                            *(ThinkingDelta(index, word) for word in words),
                            *signed,
                            BlockEnd(index),
                        ]
                    )
                case _:
                    pending.append(
                        [
                            BlockStart(index, ToolCall(id=f"c{index}", name="f", arguments="")),
                            ArgumentsDelta(index, '{"n":'),
                            ArgumentsDelta(index, f"{index}}}"),
                            *signed,
                            BlockEnd(index),
                        ]
                    )
        mixed: list[Event] = []
        while pending:
            queue = dice.choice(pending)
            mixed.append(queue.pop(0))
            if not queue:
                pending.remove(queue)
        events = answer(*mixed)
        parsed = wire(events)
        check_grammar(parsed)
        content = _accumulated(parsed)
        assert content == CODEC.encode_answer(events, REPLY).body["content"]
        shown = "".join(block.get("text", "") for block in content)
        assert sorted(shown.split()) == sorted("".join(texts).split())
        for block in content:
            if block["type"] == "tool_use":
                assert block["id"] == f"c{block['input']['n']}"
