"""Converse answers and streams to events, with botocore as the reader of the same bytes."""

from __future__ import annotations

import base64
import random
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from botocore.eventstream import EventStreamBuffer
from botocore.parsers import create_parser

from controlplane.kit.errors import FaultKind
from controlplane.kit.json import JSONDict, dumps
from providers.protocols.bedrock_converse_stream import CODEC
from providers.protocols.canonical import (
    ArgumentsDelta,
    BlockEnd,
    BlockStart,
    End,
    Event,
    Failed,
    Finish,
    Image,
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
from providers.protocols.eventstream import encode_event, encode_exception, encode_frame
from providers.protocols.quirks import Quirks

MODEL = ModelSpec(
    id="us.anthropic.claude-x",
    protocol="bedrock-converse-stream",
    reasoning=True,
    quirks=Quirks(is_claude=True),
)
PROOF = Signature(value="c2ln", protocol="bedrock-converse-stream", model="us.anthropic.claude-x")


def frames(*events: tuple[str, JSONDict]) -> bytes:
    return b"".join(encode_event(name, dumps(payload)) for name, payload in events)


def delta(index: int, **fields: Any) -> tuple[str, JSONDict]:
    return "contentBlockDelta", {"contentBlockIndex": index, "delta": fields}


def stop(index: int) -> tuple[str, JSONDict]:
    return "contentBlockStop", {"contentBlockIndex": index}


def call(index: int, call_id: str, name: str) -> tuple[str, JSONDict]:
    tool = {"toolUseId": call_id, "name": name}
    return "contentBlockStart", {"contentBlockIndex": index, "start": {"toolUse": tool}}


def end(reason: str, **usage: Any) -> list[tuple[str, JSONDict]]:
    counts = usage or {"inputTokens": 10, "outputTokens": 5, "totalTokens": 15}
    return [
        ("messageStop", {"stopReason": reason}),
        ("metadata", {"usage": counts, "metrics": {"latencyMs": 1}}),
    ]


BEGIN: tuple[str, JSONDict] = ("messageStart", {"role": "assistant"})
RICH = frames(
    BEGIN,
    delta(0, reasoningContent={"text": "Hm "}),
    delta(0, reasoningContent={"text": "🤔"}),
    delta(0, reasoningContent={"signature": "c2ln"}),
    stop(0),
    delta(1, reasoningContent={"redactedContent": "cmVk"}),
    stop(1),
    delta(2, text="Grüße "),
    delta(2, text="世界"),
    stop(2),
    call(3, "tooluse_1", "f"),
    delta(3, toolUse={"input": '{"a":'}),
    delta(3, toolUse={"input": "1}"}),
    stop(3),
    *end(
        "tool_use",
        inputTokens=10,
        outputTokens=5,
        totalTokens=22,
        cacheReadInputTokens=3,
        cacheWriteInputTokens=4,
        cacheDetails=[{"ttl": "1h", "inputTokens": 1}, {"ttl": "5m", "inputTokens": 3}],
    ),
)


def decode(data: bytes, restore: Restore | None = None, size: int = 0) -> list[Event]:
    decoder = CODEC.stream_decoder(restore or Restore(), MODEL)
    events: list[Event] = []
    for position in range(0, len(data), size or max(1, len(data))):
        events += decoder.feed(data[position : position + (size or len(data))])
    return events + decoder.close()


def of_type(events: Iterable[Event], kind: Any) -> list[Any]:
    return [event for event in events if isinstance(event, kind)]


def test_the_whole_grammar_and_traps_135_149_153() -> None:
    assert decode(RICH) == [
        Start(),
        BlockStart(0, Thinking()),
        ThinkingDelta(0, "Hm "),
        ThinkingDelta(0, "🤔"),
        SignatureDelta(0, PROOF),
        BlockEnd(0),
        BlockStart(
            1,
            Thinking(
                redacted=True,
                signature=Signature(value="cmVk", protocol=PROOF.protocol, model=PROOF.model),
            ),
        ),
        BlockEnd(1),
        BlockStart(2, Text(text="")),
        TextDelta(2, "Grüße "),
        TextDelta(2, "世界"),
        BlockEnd(2),
        BlockStart(3, ToolCall(id="tooluse_1", name="f", arguments="")),
        ArgumentsDelta(3, '{"a":'),
        ArgumentsDelta(3, "1}"),
        BlockEnd(3),
        Finish(reason="tool_use", raw="tool_use"),
        UsageUpdate(Usage(input=10, cache_read=3, cache_write=4, cache_write_1h=1, output=5)),
        End(),
    ]


def test_any_cutting_gives_the_same_events() -> None:
    whole = decode(RICH)
    for size in (1, 2, 7, 64, 4096):
        assert decode(RICH, size=size) == whole


def test_botocore_reads_the_same_stream(operation: Callable[[str], Any]) -> None:
    shape = operation("ConverseStream").output_shape.members["stream"]
    parser = create_parser("rest-json")._event_stream_parser
    buffer = EventStreamBuffer()
    buffer.add_data(RICH)
    parsed = [parser.parse(message.to_response_dict(), shape) for message in buffer]
    texts = [
        event["contentBlockDelta"]["delta"]["text"]
        for event in parsed
        if "text" in event.get("contentBlockDelta", {}).get("delta", {})
    ]
    assert texts == [event.text for event in of_type(decode(RICH), TextDelta)]
    assert parsed[-2]["messageStop"] == {"stopReason": "tool_use"}
    usage = of_type(decode(RICH), UsageUpdate)[0].usage
    assert parsed[-1]["metadata"]["usage"]["totalTokens"] == usage.total


def test_a_complete_answer_is_a_stream_that_arrived_at_once(
    operation: Callable[[str], Any],
) -> None:
    body: JSONDict = {
        "output": {
            "message": {
                "role": "assistant",
                "content": [
                    {"reasoningContent": {"reasoningText": {"text": "Hm 🤔", "signature": "c2ln"}}},
                    {"reasoningContent": {"redactedContent": "cmVk"}},
                    {"text": "Grüße 世界"},
                    {"toolUse": {"toolUseId": "tooluse_1", "name": "f", "input": {"a": 1}}},
                ],
            }
        },
        "stopReason": "tool_use",
        "usage": {
            "inputTokens": 10,
            "outputTokens": 5,
            "totalTokens": 22,
            "cacheReadInputTokens": 3,
            "cacheWriteInputTokens": 4,
            "cacheDetails": [{"ttl": "1h", "inputTokens": 1}],
        },
        "metrics": {"latencyMs": 1},
    }
    response = {"body": dumps(body), "headers": {}, "status_code": 200}
    read = create_parser("rest-json").parse(response, operation("Converse").output_shape)
    assert (
        base64.b64encode(
            read["output"]["message"]["content"][1]["reasoningContent"]["redactedContent"]
        )
        == b"cmVk"
    )
    whole = CODEC.decode_answer(dumps(body), Restore(), MODEL)
    streamed = decode(RICH)

    def joined(events: list[Event], kind: Any, field: str) -> str:
        return "".join(getattr(event, field) for event in of_type(events, kind))

    for kind, field in (
        (TextDelta, "text"),
        (ThinkingDelta, "text"),
        (ArgumentsDelta, "fragment"),
    ):
        assert joined(whole, kind, field) == joined(streamed, kind, field)
    for kind in (Start, BlockStart, BlockEnd, SignatureDelta, Finish, UsageUpdate, End):
        assert of_type(whole, kind) == of_type(streamed, kind)


def test_trap_035_interleaved_calls() -> None:
    events = decode(
        frames(
            BEGIN,
            call(0, "a", "f"),
            call(1, "b", "g"),
            delta(1, toolUse={"input": '{"b":2}'}),
            delta(0, toolUse={"input": '{"a":1}'}),
            stop(0),
            stop(1),
            *end("tool_use"),
        )
    )
    assert {event.index: event.fragment for event in of_type(events, ArgumentsDelta)} == {
        0: '{"a":1}',
        1: '{"b":2}',
    }


def test_trap_036_and_037_tool_use_and_calls_agree() -> None:
    assert of_type(decode(frames(BEGIN, *end("tool_use"))), Finish)[0].reason == "stop"
    with_call = frames(BEGIN, call(0, "a", "f"), stop(0), *end("end_turn"))
    assert of_type(decode(with_call), Finish)[0].reason == "tool_use"
    assert of_type(decode(with_call), ArgumentsDelta)[0].fragment == "{}"


def test_trap_067_and_070_names_and_custom_tools_are_restored() -> None:
    restore = Restore(names={"a_b": "a.b"}, custom=frozenset({"patch"}))
    events = decode(
        frames(
            BEGIN,
            call(0, "1", "a_b"),
            stop(0),
            call(1, "2", "patch"),
            delta(1, toolUse={"input": '{"input":"fr'}),
            delta(1, toolUse={"input": 'ee"}'}),
            stop(1),
            *end("tool_use"),
        ),
        restore,
    )
    assert [event.block.name for event in of_type(events, BlockStart)] == ["a.b", "patch"]
    assert of_type(events, ArgumentsDelta)[1].fragment == "free"


def test_blocks_of_another_kind_under_the_same_index() -> None:
    events = decode(
        frames(
            BEGIN,
            delta(0, reasoningContent={"text": "t"}),
            delta(0, text="x"),
            *end("end_turn"),
        )
    )
    assert [type(event.block) for event in of_type(events, BlockStart)] == [Thinking, Text]
    assert [event.index for event in of_type(events, BlockEnd)] == [0, 1]


def test_images_and_server_tools_arrive_whole() -> None:
    server = {"toolUseId": "s", "name": "nova_grounding", "type": "server_tool_use"}
    events = decode(
        frames(
            BEGIN,
            ("contentBlockStart", {"contentBlockIndex": 0, "start": {"image": {"format": "png"}}}),
            delta(0, image={"source": {"bytes": "iVBO"}}),
            stop(0),
            ("contentBlockStart", {"contentBlockIndex": 1, "start": {"toolUse": server}}),
            delta(1, toolUse={"input": '{"q":1}'}),
            stop(1),
            (
                "contentBlockStart",
                {"contentBlockIndex": 2, "start": {"toolResult": {"toolUseId": "s"}}},
            ),
            delta(2, toolResult=[{"text": "found"}]),
            stop(2),
            *end("end_turn"),
        )
    )
    image, tool, result = (event.block for event in of_type(events, BlockStart))
    assert isinstance(image, Image)
    assert isinstance(tool, Opaque)
    assert tool.value["toolUse"]["input"] == {"q": 1}
    assert result.value["toolResult"]["content"] == [{"text": "found"}]


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop_sequence"),
        ("max_tokens", "length"),
        ("content_filtered", "content_filter"),
        ("guardrail_intervened", "content_filter"),
        ("model_context_window_exceeded", "context_overflow"),
        ("malformed_tool_use", "error"),
        ("malformed_model_output", "error"),
        ("brand_new", "error"),
    ],
)
def test_trap_137_stop_reasons(raw: str, reason: str) -> None:
    (finish,) = of_type(decode(frames(BEGIN, *end(raw))), Finish)
    assert (finish.reason, finish.raw) == (reason, raw)


def test_which_stop_sequence_it_was() -> None:
    data = frames(
        BEGIN,
        (
            "messageStop",
            {
                "stopReason": "stop_sequence",
                "additionalModelResponseFields": {"stop_sequence": "END"},
            },
        ),
    )
    (finish,) = of_type(decode(data), Finish)
    assert finish.stop_sequence == "END"


def test_trap_117_a_stream_that_ends_before_its_stop() -> None:
    for data in (b"", frames(BEGIN, delta(0, text="x")), RICH[:100]):
        events = decode(data)
        assert isinstance(events[-1], Failed)
        assert events[-1].fault.code == "stream_truncated"
    # Only the token counts are missing.
    assert isinstance(decode(frames(BEGIN, ("messageStop", {"stopReason": "end_turn"})))[-1], End)


@pytest.mark.parametrize(
    ("name", "payload", "kind"),
    [
        ("throttlingException", {"message": "Too many tokens"}, FaultKind.RATE_LIMIT),
        ("internalServerException", {"message": "x"}, FaultKind.UPSTREAM),
        ("serviceUnavailableException", {"message": "x"}, FaultKind.OVERLOADED),
        ("validationException", {"message": "bad"}, FaultKind.BAD_REQUEST),
        (
            "validationException",
            {"message": "Input is too long for requested model."},
            FaultKind.CONTEXT_OVERFLOW,
        ),
        (
            "modelStreamErrorException",
            {"message": "x", "originalStatusCode": 429, "originalMessage": "slow down"},
            FaultKind.RATE_LIMIT,
        ),
        ("somethingNewException", {}, FaultKind.UPSTREAM),
    ],
)
def test_trap_135_exceptions_are_events(name: str, payload: JSONDict, kind: FaultKind) -> None:
    data = frames(BEGIN, delta(0, text="x")) + encode_exception(name, dumps(payload))
    events = decode(data + RICH)
    failed = events[-1]
    assert isinstance(failed, Failed)
    assert failed.fault.kind is kind
    assert failed.fault.upstream_code == name
    if "originalMessage" in payload:
        assert "slow down" in failed.fault.message


def test_errors_without_a_model() -> None:
    data = encode_frame(
        {":message-type": "error", ":error-code": "InternalFailure", ":error-message": "Broken."},
        b"",
    )
    (failed,) = decode(data)
    assert isinstance(failed, Failed)
    assert failed.fault.kind is FaultKind.UPSTREAM
    assert failed.fault.message == "Broken."


def test_unknown_events_are_ignored() -> None:
    data = frames(BEGIN, ("brandNew", {"x": 1}), *end("end_turn"))
    assert isinstance(decode(data)[-1], End)


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"[]", b'{"output":{}}', b'{"output":{"message":{"content":[1]}}}']
)
def test_bytes_that_are_no_answer(body: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        CODEC.decode_answer(body, Restore(), MODEL)


def test_mutated_payloads_give_typed_errors_only() -> None:
    """Mutated before framing, for a checksum would stop everything else."""
    dice = random.Random(11)
    events = [
        BEGIN,
        delta(0, reasoningContent={"text": "t"}),
        delta(1, text="x"),
        call(2, "a", "f"),
        delta(2, toolUse={"input": "{}"}),
        stop(2),
        *end("tool_use"),
    ]
    for _ in range(4000):
        data = b""
        for name, payload in events:
            raw = bytearray(dumps(payload))
            if dice.random() < 0.4:
                raw[dice.randrange(len(raw))] = dice.randrange(256)
            data += encode_event(name, bytes(raw))
        try:
            decoded = decode(data)
        except RemoteProtocolError:
            continue
        assert isinstance(decoded[-1], End | Failed)
        started = [event.index for event in of_type(decoded, BlockStart)]
        assert len(started) == len(set(started))
        if isinstance(decoded[-1], End):
            assert sorted(event.index for event in of_type(decoded, BlockEnd)) == sorted(started)


@pytest.mark.parametrize(
    ("status", "header", "body", "kind"),
    [
        (429, "ThrottlingException:http://internal/x", {"message": "slow"}, FaultKind.RATE_LIMIT),
        (400, "ValidationException", {"message": "bad"}, FaultKind.BAD_REQUEST),
        (
            400,
            "ValidationException",
            {"message": "Input is too long for requested model"},
            FaultKind.CONTEXT_OVERFLOW,
        ),
        (400, "ServiceQuotaExceededException", {"message": "x"}, FaultKind.RATE_LIMIT),
        (403, "AccessDeniedException", {"message": "x"}, FaultKind.FORBIDDEN),
        (403, "UnrecognizedClientException", {"message": "x"}, FaultKind.AUTH),
        (403, "ExpiredTokenException", {"Message": "x"}, FaultKind.AUTH),
        (404, "ResourceNotFoundException", {"message": "x"}, FaultKind.NOT_FOUND),
        (408, "ModelTimeoutException", {"message": "x"}, FaultKind.TIMEOUT),
        (424, "ModelErrorException", {"message": "x"}, FaultKind.UPSTREAM),
        (429, "ModelNotReadyException", {"message": "x"}, FaultKind.OVERLOADED),
        (500, "InternalServerException", {"message": "x"}, FaultKind.UPSTREAM),
        (503, "ServiceUnavailableException", {"message": "x"}, FaultKind.OVERLOADED),
        (403, "", {"message": "x"}, FaultKind.FORBIDDEN),
        (
            400,
            "",
            {"__type": "com.amazon.coral#ThrottlingException", "message": "x"},
            FaultKind.RATE_LIMIT,
        ),
    ],
)
def test_errors_by_name_and_status(
    status: int, header: str, body: JSONDict, kind: FaultKind
) -> None:
    headers = {"x-amzn-errortype": header} if header else {}
    fault = CODEC.decode_error(status, headers, dumps(body))
    assert fault.kind is kind
    name = header.split(":")[0]
    assert not name or fault.upstream_code == name


def test_trap_193_too_many_tokens_is_throttling() -> None:
    fault = CODEC.decode_error(
        429,
        {"x-amzn-errortype": "ThrottlingException"},
        b'{"message":"Too many tokens, please wait before trying again."}',
    )
    assert fault.kind is FaultKind.RATE_LIMIT


def test_trap_091_thinking_that_is_bound_to_another_prompt() -> None:
    fault = CODEC.decode_error(
        400,
        {"x-amzn-errortype": "ValidationException"},
        b'{"message":"messages.1.content.0: Invalid `signature` in `thinking` block"}',
    )
    assert (fault.kind, fault.code) == (FaultKind.BAD_REQUEST, "upstream_invalid_signature")
    assert fault.upstream_code == "ValidationException"


@pytest.mark.parametrize("body", [b"", b"<html>Forbidden</html>", b"[]", b'"x"'])
def test_trap_196_error_bodies_of_any_shape(body: bytes) -> None:
    fault = CODEC.decode_error(503, {}, body)
    assert fault.kind is FaultKind.OVERLOADED
    assert fault.message
