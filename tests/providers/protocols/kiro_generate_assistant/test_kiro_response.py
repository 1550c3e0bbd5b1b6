"""Kiro's event stream to events."""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Any

import pytest

from controlplane.kit.errors import FaultKind
from controlplane.kit.json import JSONDict, dumps
from providers.protocols.canonical import (
    ArgumentsDelta,
    BlockEnd,
    BlockStart,
    End,
    Event,
    Failed,
    Finish,
    ModelSpec,
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
from providers.protocols.eventstream import encode_event, encode_exception, encode_frame
from providers.protocols.kiro_generate_assistant import CODEC
from providers.protocols.kiro_generate_assistant.response import MAX_HELD

MODEL = ModelSpec(id="claude-sonnet-4.5", protocol="kiro-generate-assistant", reasoning=True)


def frames(*events: tuple[str, JSONDict]) -> bytes:
    return b"".join(encode_event(name, dumps(payload)) for name, payload in events)


def text(content: str) -> tuple[str, JSONDict]:
    return "assistantResponseEvent", {"content": content}


def tool(call_id: str, name: str, fragment: Any = None, *, stop: bool = False) -> Any:
    payload: JSONDict = {"toolUseId": call_id, "name": name}
    if fragment is not None:
        payload["input"] = fragment
    if stop:
        payload["stop"] = True
    return "toolUseEvent", payload


def decode(data: bytes, restore: Restore | None = None, size: int = 0) -> list[Event]:
    decoder = CODEC.stream_decoder(restore or Restore(), MODEL)
    events: list[Event] = []
    for position in range(0, len(data), size or max(1, len(data))):
        events += decoder.feed(data[position : position + (size or len(data))])
    return events + decoder.close()


def of_type(events: Iterable[Event], kind: Any) -> list[Any]:
    return [event for event in events if isinstance(event, kind)]


def calls(events: list[Event]) -> list[tuple[str, str, str]]:
    arguments = {event.index: event.fragment for event in of_type(events, ArgumentsDelta)}
    return [
        (event.block.id, event.block.name, arguments[event.index])
        for event in of_type(events, BlockStart)
        if isinstance(event.block, ToolCall)
    ]


RICH = frames(
    text("<think"),
    text("ing>Hm "),
    text("🤔</thinking>\n\nGrüße "),
    text("世界"),
    tool("tooluse_1", "look", '{"a":'),
    tool("tooluse_1", "look", "1}"),
    tool("tooluse_1", "look", stop=True),
    ("contextUsageEvent", {"contextUsagePercentage": 2.5}),
    ("meteringEvent", {"unit": "credit", "unitPlural": "credits", "usage": 0.04}),
    (
        "metadataEvent",
        {
            "tokenUsage": {
                "uncachedInputTokens": 10,
                "cacheReadInputTokens": 3,
                "cacheWriteInputTokens": 2,
                "outputTokens": 7,
                "totalTokens": 22,
                "contextUsagePercentage": 2.6,
            }
        },
    ),
)


def test_the_whole_answer() -> None:
    assert decode(RICH) == [
        Start(),
        BlockStart(0, Thinking()),
        ThinkingDelta(0, "Hm "),
        ThinkingDelta(0, "🤔"),
        BlockEnd(0),
        BlockStart(1, Text(text="")),
        TextDelta(1, "Grüße "),
        TextDelta(1, "世界"),
        BlockEnd(1),
        BlockStart(2, ToolCall(id="tooluse_1", name="look", arguments="")),
        ArgumentsDelta(2, '{"a":1}'),
        BlockEnd(2),
        Finish(
            reason="tool_use",
            details={
                "context_usage_percentage": 2.6,
                "metered": {"unit": "credit", "usage": 0.04},
            },
        ),
        UsageUpdate(Usage(input=10, cache_read=3, cache_write=2, output=7)),
        End(),
    ]


def test_any_cutting_gives_the_same_events() -> None:
    whole = decode(RICH)
    for size in (1, 2, 7, 64, 4096):
        assert decode(RICH, size=size) == whole


def test_trap_141_a_whole_answer_is_a_stream_that_arrived_at_once() -> None:
    assert CODEC.decode_answer(RICH, Restore(), MODEL) == decode(RICH)


def test_nested_payloads_read_as_flat_ones() -> None:
    nested = b"".join(
        encode_event(name, dumps({name: payload}))
        for name, payload in (text("Hello"), tool("t", "f", "{}", stop=True))
    )
    assert decode(nested) == decode(frames(text("Hello"), tool("t", "f", "{}", stop=True)))


def test_frames_without_event_type_are_known_by_their_payload() -> None:
    payload = dumps({"assistantResponseEvent": {"content": "x"}})
    data = encode_frame({":message-type": "event"}, payload)
    assert of_type(decode(data), TextDelta)[0].text == "x"


def test_only_a_percentage_is_no_usage() -> None:
    events = decode(frames(text("x"), ("contextUsageEvent", {"contextUsagePercentage": 12.5})))
    assert not of_type(events, UsageUpdate)
    assert of_type(events, Finish)[0].details == {"context_usage_percentage": 12.5}


def test_trap_035_interleaved_calls_keep_their_own_state() -> None:
    events = decode(
        frames(
            tool("a", "f", '{"x"'),
            tool("b", "g", '{"y"'),
            tool("a", "f", ":1}"),
            tool("b", "g", ":2}", stop=True),
            tool("a", "f", stop=True),
        )
    )
    assert calls(events) == [("b", "g", '{"y":2}'), ("a", "f", '{"x":1}')]


def test_input_may_be_an_object_or_nothing() -> None:
    events = decode(frames(tool("a", "f", {"x": 1}, stop=True), tool("b", "g", stop=True)))
    assert calls(events) == [("a", "f", '{"x":1}'), ("b", "g", "{}")]


def test_repeated_calls_are_shown_once() -> None:
    twice = [tool("a", "f", "{}", stop=True), tool("a", "f", "{}", stop=True)]
    assert len(calls(decode(frames(*twice)))) == 1
    prose = text('[Called f with args: {"x": 1}]')
    structured = tool("a", "f", '{"x":1}', stop=True)
    assert len(calls(decode(frames(prose, structured)))) == 1
    assert calls(decode(frames(structured, prose))) == [("a", "f", '{"x":1}')]
    # Two calls that happen to be equal are two calls.
    both = frames(tool("a", "f", "{}", stop=True), tool("b", "f", "{}", stop=True))
    assert len(calls(decode(both))) == 2


def test_trap_032_and_050_prose_calls_get_deterministic_ids() -> None:
    data = frames(text('Now [Called look with args: {"a": 1}]'))
    ((call_id, name, arguments),) = calls(decode(data))
    assert (name, arguments) == ("look", '{"a": 1}')
    assert calls(decode(data))[0][0] == call_id
    assert call_id.startswith("tooluse_")
    assert of_type(decode(data), Finish)[0].reason == "tool_use"


def test_trap_067_names_are_restored() -> None:
    restore = Restore(names={"remote_web_search": "web_search"}, custom=frozenset({"patch"}))
    events = decode(
        frames(
            tool("a", "remote_web_search", "{}", stop=True),
            tool("b", "patch", '{"input":"free"}', stop=True),
        ),
        restore,
    )
    assert calls(events) == [("a", "web_search", "{}"), ("b", "patch", "free")]


@pytest.mark.parametrize(
    "data",
    [
        frames(text("x"), tool("a", "f", '{"file": "half a')),
        frames(text("x"), tool("a", "f", '{"file": "half a', stop=True)),
        frames(text("x"), text('[Called f with args: {"file": "half')),
    ],
)
def test_trap_043_a_cut_call_is_a_length_stop_not_a_call(data: bytes) -> None:
    events = decode(data)
    assert calls(events) == []
    assert of_type(events, Finish)[0].reason == "length"


@pytest.mark.parametrize("key", ["stopReason", "stop_reason"])
@pytest.mark.parametrize(
    ("raw", "reason"),
    [("END_TURN", "stop"), ("max_tokens", "length"), ("brand_new", "error")],
)
def test_trap_137_stop_reasons_wherever_they_stand(key: str, raw: str, reason: str) -> None:
    for payload in ({key: raw}, {"messageStopEvent": {key: raw}}):
        events = decode(frames(text("x"), ("messageStopEvent", payload)))
        (finish,) = of_type(events, Finish)
        assert (finish.reason, finish.raw) == (reason, raw)


def test_trap_036_and_037_tool_use_and_calls_agree() -> None:
    stop = ("messageStopEvent", {"stopReason": "tool_use"})
    assert of_type(decode(frames(text("x"), stop)), Finish)[0].reason == "stop"
    ended = ("messageStopEvent", {"stopReason": "end_turn"})
    events = decode(frames(tool("a", "f", "{}", stop=True), ended))
    assert of_type(events, Finish)[0].reason == "tool_use"
    assert of_type(decode(frames(text("x"))), Finish)[0].reason == "stop"


def test_reasoning_events_of_newer_backends() -> None:
    events = decode(
        frames(
            ("reasoningContentEvent", {"text": "Hm "}),
            ("reasoningContentEvent", {"text": "yes", "signature": "c2ln"}),
            ("reasoningContentEvent", {"redactedContent": "cmVk"}),
            text("x"),
        )
    )
    assert "".join(event.text for event in of_type(events, ThinkingDelta)) == "Hm yes"
    expected = Signature(value="c2ln", protocol=MODEL.protocol, model=MODEL.id)
    assert of_type(events, SignatureDelta)[0].signature == expected
    assert [type(event.block) for event in of_type(events, BlockStart)] == [
        Thinking,
        Thinking,
        Text,
    ]


def test_ignored_events() -> None:
    noise = [
        ("followupPromptEvent", {"content": "no"}),
        ("supplementaryWebLinksEvent", {"links": []}),
        ("codeReferenceEvent", {"references": []}),
        ("messageMetadataEvent", {"conversationId": "c", "utteranceId": "u"}),
        ("brandNewEvent", {"x": 1}),
    ]
    assert decode(frames(text("x"), *noise)) == decode(frames(text("x")))


@pytest.mark.parametrize(
    ("data", "kind", "word"),
    [
        (
            encode_exception("throttlingException", b'{"message":"slow"}'),
            FaultKind.RATE_LIMIT,
            "throttlingException",
        ),
        (
            encode_event("internalServerException", b'{"message":"x"}'),
            FaultKind.UPSTREAM,
            "internalServerException",
        ),
        (
            encode_event("invalidStateEvent", b'{"reason":"INVALID_TASK","message":"x"}'),
            FaultKind.UPSTREAM,
            "INVALID_TASK",
        ),
        (
            encode_event(
                "error",
                b'{"__type":"ValidationException","reason":"CONTENT_LENGTH_EXCEEDS_THRESHOLD"}',
            ),
            FaultKind.CONTEXT_OVERFLOW,
            "CONTENT_LENGTH_EXCEEDS_THRESHOLD",
        ),
        (
            encode_frame({":message-type": "error", ":error-code": "InternalFailure"}, b""),
            FaultKind.UPSTREAM,
            "InternalFailure",
        ),
    ],
)
def test_trap_130_failures_under_status_200(data: bytes, kind: FaultKind, word: str) -> None:
    events = decode(frames(text("x")) + data + frames(text("more")))
    failed = events[-1]
    assert isinstance(failed, Failed)
    assert failed.fault.kind is kind
    assert failed.fault.upstream_code == word


def test_trap_117_nothing_or_half_a_frame_is_a_cut_stream() -> None:
    for data in (b"", RICH[:-3], frames(("meteringEvent", {"usage": 1}))):
        events = decode(data)
        assert isinstance(events[-1], Failed)
        assert events[-1].fault.code == "stream_truncated"


def test_unreadable_payloads() -> None:
    for payload in (b"{", b"[]", b"\xff"):
        with pytest.raises(RemoteProtocolError):
            decode(encode_event("assistantResponseEvent", payload))


def test_held_calls_are_bounded() -> None:
    decoder = CODEC.stream_decoder(Restore(), MODEL)
    chunk = frames(tool("a", "f", "x" * 1_000_000))
    for _ in range(MAX_HELD // 1_000_000):
        decoder.feed(chunk)
    with pytest.raises(RemoteProtocolError):
        decoder.feed(chunk)


def test_mutated_payloads_give_typed_errors_only() -> None:
    dice = random.Random(7)
    sample = [
        text("<thinking>a</thinking>b [Called f with args: {}] c"),
        ("reasoningContentEvent", {"text": "t", "signature": "s"}),
        tool("a", "f", '{"x":1}'),
        tool("a", "f", stop=True),
        ("metadataEvent", {"tokenUsage": {"outputTokens": 3, "uncachedInputTokens": 4}}),
        ("messageStopEvent", {"stopReason": "end_turn"}),
    ]
    for _ in range(4000):
        data = b""
        for name, payload in sample:
            raw = bytearray(dumps(payload))
            if dice.random() < 0.4:
                raw[dice.randrange(len(raw))] = dice.randrange(256)
            data += encode_event(name, bytes(raw))
        try:
            events = decode(data)
        except RemoteProtocolError:
            continue
        assert isinstance(events[-1], End | Failed)
        started = [event.index for event in of_type(events, BlockStart)]
        assert started == list(range(len(started)))
        if isinstance(events[-1], End):
            assert sorted(event.index for event in of_type(events, BlockEnd)) == started


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (
            403,
            {"message": "The bearer token included in the request is invalid.", "reason": None},
            FaultKind.AUTH,
        ),
        (401, {"message": "x"}, FaultKind.AUTH),
        (403, {"reason": "TEMPORARILY_SUSPENDED", "message": "x"}, FaultKind.FORBIDDEN),
        (403, {"__type": "AccessDeniedException", "message": "x"}, FaultKind.FORBIDDEN),
        (402, {"reason": "MONTHLY_REQUEST_COUNT", "message": "x"}, FaultKind.PAYMENT),
        (429, {"reason": "INSUFFICIENT_MODEL_CAPACITY", "message": "x"}, FaultKind.OVERLOADED),
        (429, {"reason": "DAILY_REQUEST_COUNT", "message": "x"}, FaultKind.PAYMENT),
        (
            429,
            {"__type": "com.amazon#ThrottlingException", "message": "x"},
            FaultKind.RATE_LIMIT,
        ),
        (
            400,
            {"reason": "CONTENT_LENGTH_EXCEEDS_THRESHOLD", "message": "Input is too long."},
            FaultKind.CONTEXT_OVERFLOW,
        ),
        (400, {"reason": "INVALID_MODEL_ID", "message": "x"}, FaultKind.BAD_REQUEST),
        (400, {"message": "Improperly formed request."}, FaultKind.BAD_REQUEST),
        (500, {"__type": "InternalServerException", "message": "x"}, FaultKind.UPSTREAM),
    ],
)
def test_errors_by_reason_and_status(status: int, body: JSONDict, kind: FaultKind) -> None:
    fault = CODEC.decode_error(status, {}, dumps(body))
    assert fault.kind is kind
    assert fault.message
    if body.get("reason"):
        assert fault.upstream_code == body["reason"]


@pytest.mark.parametrize("body", [b"", b"<html>no</html>", b"[]", b"null", b'{"message":null}'])
def test_trap_196_error_bodies_of_any_shape(body: bytes) -> None:
    fault = CODEC.decode_error(500, {}, body)
    assert fault.kind is FaultKind.UPSTREAM
    assert fault.message
