"""What Gemini clients read: whole answers, SSE streams and arrays in pieces, judged by the SDK."""

from __future__ import annotations

import base64
import json as stdlib
import time
from collections.abc import Callable, Iterable
from typing import Any

import httpx
import pytest
from google import genai
from google.genai import errors as genai_errors
from google.genai import types

from controlplane.kit.errors import Fault, FaultKind
from controlplane.kit.json import JSONDict, dumps
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
    KeepAlive,
    LogprobsDelta,
    Opaque,
    Refusal,
    Signature,
    SignatureDelta,
    Start,
    StopReason,
    Text,
    TextDelta,
    Thinking,
    ThinkingDelta,
    ToolCall,
    Url,
    Usage,
    UsageUpdate,
)
from providers.protocols.codec import ClientCall, Reply
from providers.protocols.google_generative_ai import ARRAY_CODEC, CODEC
from providers.protocols.losses import LossCode

SDK = Callable[[Callable[[httpx.Request], httpx.Response]], genai.Client]
CLAUDE = Signature(value="sig+/=", protocol="anthropic-messages", model="claude-x")
USAGE = Usage(input=10, cache_read=5, output=20, reasoning=8)


def block(index: int, skeleton: Any, *deltas: Event, choice: int = 0) -> list[Event]:
    return [BlockStart(index, skeleton, choice), *deltas, BlockEnd(index, choice)]


RICH: list[Event] = [
    Start("up-1", "vendor-model", 5),
    *block(
        0,
        Thinking(),
        ThinkingDelta(0, "first"),
        ThinkingDelta(0, "second", 1),
        SignatureDelta(0, CLAUDE),
    ),
    *block(1, Text(text=""), TextDelta(1, "héllo "), TextDelta(1, '\U0001f600 "q"')),
    *block(
        2,
        ToolCall(id="c1", name="f", arguments=""),
        ArgumentsDelta(2, '{"a"'),
        ArgumentsDelta(2, ":1}"),
        SignatureDelta(2, Signature(value="QUJD", protocol="google-generative-ai")),
    ),
    *block(3, ToolCall(id="c2", name="g", arguments="")),
    UsageUpdate(Usage(input=10)),
    Finish("tool_use", "tool_use"),
    UsageUpdate(USAGE),
    End(),
]


def stream(events: Iterable[Event], reply: Reply, codec: Any = CODEC) -> bytes:
    encoder = codec.stream_encoder(reply)
    return b"".join(encoder.feed(event) for event in events)


def chunks(data: bytes) -> list[JSONDict]:
    return [
        stdlib.loads(event.removeprefix(b"data: "))
        for event in data.split(b"\r\n\r\n")
        if event.strip()
    ]


def gathered(found: Iterable[JSONDict]) -> JSONDict:
    """A stream put together the way a client would: neighbouring text of one kind is one part."""
    candidates: dict[int, JSONDict] = {}
    usage = None
    for chunk in found:
        usage = chunk.get("usageMetadata", usage)
        for candidate in chunk["candidates"]:
            whole = candidates.setdefault(candidate["index"], {"parts": [], "end": {}})
            for part in candidate["content"]["parts"]:
                if part == {"text": ""}:
                    continue
                last = whole["parts"][-1] if whole["parts"] else {}
                if (
                    "text" in part
                    and "text" in last
                    and part.get("thought") == last.get("thought")
                    and "thoughtSignature" not in last
                ):
                    last["text"] += part["text"]
                    last.update({k: v for k, v in part.items() if k == "thoughtSignature"})
                else:
                    whole["parts"].append(dict(part))
            whole["end"].update(
                {k: v for k, v in candidate.items() if k not in ("content", "index")}
            )
    return {"candidates": candidates, "usage": usage}


def gathered_answer(body: JSONDict) -> JSONDict:
    return {
        "candidates": {
            candidate["index"]: {
                "parts": candidate["content"]["parts"],
                "end": {k: v for k, v in candidate.items() if k not in ("content", "index")},
            }
            for candidate in body["candidates"]
        },
        "usage": body.get("usageMetadata"),
    }


# --- whole answers -------------------------------------------------------------------------


def test_a_whole_answer(reply: Reply) -> None:
    encoded = CODEC.encode_answer(RICH, reply)
    body = encoded.body
    assert encoded.losses == ()
    assert [list(part) for part in body["candidates"][0]["content"]["parts"]] == [
        ["text", "thought", "thoughtSignature"],
        ["text"],
        ["functionCall", "thoughtSignature"],
        ["functionCall"],
    ]
    parts = body["candidates"][0]["content"]["parts"]
    assert parts[0]["text"] == "first\n\nsecond"
    assert parts[2] == {
        "functionCall": {"name": "f", "args": {"a": 1}, "id": "c1"},
        "thoughtSignature": "QUJD",
    }
    assert parts[3] == {"functionCall": {"name": "g", "args": {}, "id": "c2"}}
    assert body["candidates"][0]["finishReason"] == "STOP"
    assert body["usageMetadata"] == {
        "promptTokenCount": 15,
        "cachedContentTokenCount": 5,
        "candidatesTokenCount": 12,
        "thoughtsTokenCount": 8,
        "totalTokenCount": 35,
    }
    # The client hears the name it asked for.
    assert (body["modelVersion"], body["responseId"]) == ("alias", "r1")


def test_foreign_proofs_are_wrapped_in_valid_base64(reply: Reply) -> None:
    body = CODEC.encode_answer(RICH, reply).body
    carried = body["candidates"][0]["content"]["parts"][0]["thoughtSignature"]
    assert carried != CLAUDE.value
    base64.b64decode(carried, validate=True)


@pytest.mark.parametrize("is_sdk", [False, True])
def test_an_answer_comes_back_as_the_history_it_was(reply: Reply, is_sdk: bool) -> None:
    """Client and gateway: what left as an answer is understood when it returns."""
    body = CODEC.encode_answer(RICH, reply).body
    content = body["candidates"][0]["content"]
    if is_sdk:
        parsed = types.GenerateContentResponse.model_validate(body)
        assert parsed.candidates is not None
        assert parsed.candidates[0].content is not None
        content = stdlib.loads(
            parsed.candidates[0].content.model_dump_json(by_alias=True, exclude_none=True)
        )
    request = CODEC.decode_request({"contents": [content]}, ClientCall(model="alias"))
    assert request.messages[0].parts == (
        Thinking(text="first\n\nsecond", signature=CLAUDE),
        Text(text='héllo \U0001f600 "q"'),
        ToolCall(
            id="c1",
            name="f",
            arguments='{"a":1}',
            signature=Signature(value="QUJD", protocol="google-generative-ai"),
        ),
        ToolCall(id="c2", name="g"),
    )


def test_the_sdk_reads_a_whole_answer(sdk: SDK, reply: Reply) -> None:
    body = dumps(CODEC.encode_answer(RICH, reply).body)
    client = sdk(lambda request: httpx.Response(200, content=body))
    answer = client.models.generate_content(model="m", contents="hi")
    assert answer.text == 'héllo \U0001f600 "q"'
    assert answer.function_calls is not None
    assert [(c.name, c.args, c.id) for c in answer.function_calls] == [
        ("f", {"a": 1}, "c1"),
        ("g", {}, "c2"),
    ]
    assert answer.usage_metadata is not None
    assert answer.usage_metadata.total_token_count == 35
    assert answer.usage_metadata.thoughts_token_count == 8
    assert answer.candidates is not None
    assert answer.candidates[0].finish_reason is types.FinishReason.STOP


# --- streams -------------------------------------------------------------------------------


def test_stream_and_answer_say_the_same(reply: Reply) -> None:
    assert gathered(chunks(stream(RICH, reply))) == gathered_answer(
        CODEC.encode_answer(RICH, reply).body
    )


def test_the_array_is_one_array_of_the_same_chunks(reply: Reply) -> None:
    assert stdlib.loads(stream(RICH, reply, ARRAY_CODEC)) == chunks(stream(RICH, reply))


def test_the_sdk_reads_a_stream(sdk: SDK, reply: Reply) -> None:
    body = stream([RICH[0], KeepAlive(), *RICH[1:5], KeepAlive(), *RICH[5:]], reply)
    seen: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(str(request.url))
        return httpx.Response(200, content=body, headers={"content-type": "text/event-stream"})

    found = list(sdk(answer).models.generate_content_stream(model="m", contents="hi"))
    assert seen[0].endswith(":streamGenerateContent?alt=sse")
    assert "".join(chunk.text or "" for chunk in found) == 'héllo \U0001f600 "q"'
    calls = [call for chunk in found for call in chunk.function_calls or ()]
    assert [(call.name, call.args, call.id) for call in calls] == [
        ("f", {"a": 1}, "c1"),
        ("g", {}, "c2"),
    ]
    last = found[-1]
    assert last.candidates is not None
    assert last.candidates[0].finish_reason is types.FinishReason.STOP
    assert last.usage_metadata is not None
    assert last.usage_metadata.total_token_count == 35
    assert all(chunk.response_id == "r1" for chunk in found)


def test_a_chat_of_the_sdk_keeps_the_turn_and_sends_it_back_whole(sdk: SDK, reply: Reply) -> None:
    """The SDK throws a turn away whose chunks it finds invalid, an empty last one above all."""
    bodies: list[JSONDict] = []
    text_only: list[Event] = [*RICH[:9], Finish("stop", "end_turn"), UsageUpdate(USAGE), End()]

    def answer(request: httpx.Request) -> httpx.Response:
        bodies.append(stdlib.loads(request.content))
        return httpx.Response(200, content=stream(text_only, reply))

    chat = sdk(answer).chats.create(model="m")
    list(chat.send_message_stream("one"))
    list(chat.send_message_stream("two"))
    again = CODEC.decode_request(bodies[1], ClientCall(model="alias"))
    assert [message.role for message in again.messages] == ["user", "assistant", "user"]
    assert again.messages[1].parts == (
        Thinking(text="first\n\nsecond", signature=CLAUDE),
        Text(text='héllo \U0001f600 "q"'),
    )


def test_trap_123_usage_after_the_finish_is_in_the_last_chunk(reply: Reply) -> None:
    found = chunks(stream(RICH, reply))
    assert [("finishReason" in c["candidates"][0]) for c in found].count(True) == 1
    assert "finishReason" in found[-1]["candidates"][0]
    assert found[-1]["usageMetadata"]["totalTokenCount"] == 35
    assert all("usageMetadata" not in chunk for chunk in found[:-1])


def test_trap_035_interleaved_calls_leave_one_by_one_and_whole(reply: Reply) -> None:
    events: list[Event] = [
        BlockStart(0, ToolCall(id="a", name="f", arguments="")),
        BlockStart(1, ToolCall(id="b", name="g", arguments="")),
        ArgumentsDelta(1, '{"y":'),
        ArgumentsDelta(0, '{"x":'),
        ArgumentsDelta(1, "2}"),
        ArgumentsDelta(0, "1}"),
        BlockEnd(0),
        BlockEnd(1),
        Finish("tool_use", "tool_calls"),
        End(),
    ]
    found = gathered(chunks(stream(events, reply)))
    assert found == gathered_answer(CODEC.encode_answer(events, reply).body)
    assert [part["functionCall"] for part in found["candidates"][0]["parts"]] == [
        {"name": "f", "args": {"x": 1}, "id": "a"},
        {"name": "g", "args": {"y": 2}, "id": "b"},
    ]


def test_trap_147_several_candidates(reply: Reply) -> None:
    events: list[Event] = [
        Start(),
        BlockStart(0, Text(text=""), 0),
        BlockStart(1, Text(text=""), 1),
        TextDelta(1, "B", 1),
        TextDelta(0, "A", 0),
        BlockEnd(0, 0),
        Finish("stop", "stop", None, 0),
        TextDelta(1, "B", 1),
        BlockEnd(1, 1),
        Finish("length", "length", None, 1),
        End(),
    ]
    found = gathered(chunks(stream(events, reply)))
    assert found == gathered_answer(CODEC.encode_answer(events, reply).body)
    assert found["candidates"] == {
        0: {"parts": [{"text": "A"}], "end": {"finishReason": "STOP"}},
        1: {"parts": [{"text": "BB"}], "end": {"finishReason": "MAX_TOKENS"}},
    }


@pytest.mark.parametrize(
    ("reason", "raw", "word"),
    [
        ("stop", "end_turn", "STOP"),
        ("stop_sequence", "stop_sequence", "STOP"),
        ("tool_use", "tool_calls", "STOP"),
        ("tool_use", "STOP", "STOP"),
        ("length", "max_tokens", "MAX_TOKENS"),
        ("context_overflow", "model_length", "MAX_TOKENS"),
        ("content_filter", "content_filter", "SAFETY"),
        ("content_filter", "RECITATION", "RECITATION"),
        ("refusal", "refusal", "SAFETY"),
        ("pause", "pause_turn", "OTHER"),
        ("error", "MALFORMED_FUNCTION_CALL", "MALFORMED_FUNCTION_CALL"),
        ("error", "strange", "OTHER"),
        ("aborted", "", "OTHER"),
        # A word of Google's with another meaning than the reason is not repeated.
        ("length", "STOP", "MAX_TOKENS"),
    ],
)
def test_finish_reasons(reply: Reply, reason: StopReason, raw: str, word: str) -> None:
    events: list[Event] = [*block(0, Text(text="a")), Finish(reason, raw), End()]
    last = chunks(stream(events, reply))[-1]["candidates"][0]
    assert last["finishReason"] == word
    assert types.FinishReason(word).value == word
    if word == "OTHER" and raw:
        assert last["finishMessage"] == raw


def test_trap_043_a_malformed_call_is_not_offered_to_run(reply: Reply) -> None:
    call = block(0, ToolCall(id="a", name="f", arguments=""), ArgumentsDelta(0, '{"rm": "-r'))
    for reason, word in (("length", "MAX_TOKENS"), ("tool_use", "MALFORMED_FUNCTION_CALL")):
        events: list[Event] = [*call, Finish(reason, "x"), End()]  # type: ignore[arg-type]
        found = gathered(chunks(stream(events, reply)))
        assert found == gathered_answer(CODEC.encode_answer(events, reply).body)
        assert found["candidates"][0]["parts"] == []
        end = found["candidates"][0]["end"]
        assert end["finishReason"] == word
        if word == "MALFORMED_FUNCTION_CALL":
            assert 'f: {"rm": "-r' in end["finishMessage"]


@pytest.mark.parametrize(
    ("call", "args"),
    [
        (ToolCall(id="a", name="f", arguments="[1]"), {"value": [1]}),
        (ToolCall(id="a", name="f", arguments="null"), {}),
        (ToolCall(id="a", name="f", arguments=" "), {}),
        (ToolCall(id="a", name="f", arguments="free", kind="custom"), {"input": "free"}),
        (ToolCall(id="a", name="f"), {}),
    ],
)
def test_trap_046_arguments_that_are_no_object(
    reply: Reply, call: ToolCall, args: JSONDict
) -> None:
    events: list[Event] = [*block(0, call), Finish("tool_use", "x"), End()]
    encoded = CODEC.encode_answer(events, reply)
    part = encoded.body["candidates"][0]["content"]["parts"][0]
    assert part["functionCall"]["args"] == args
    codes = [loss.code for loss in encoded.losses]
    assert codes == ([LossCode.EMULATED] if args == {"value": [1]} else [])


def test_other_blocks(reply: Reply) -> None:
    own = {"executableCode": {"language": "PYTHON", "code": "1"}}
    events: list[Event] = [
        *block(0, Refusal(text=""), TextDelta(0, "I will not")),
        *block(1, Image(source=Base64(media_type="image/png", data="AA=="))),
        *block(2, Image(source=Url(url="https://x/a.png", media_type="image/png"))),
        *block(3, Audio(source=Base64(media_type="audio/wav", data="AA=="))),
        *block(4, Opaque(protocol="google-vertex", value=own)),
        *block(5, Opaque(protocol="anthropic-messages", value={"type": "x"})),
        *block(6, Text(text=""), TextDelta(6, "t"), SignatureDelta(6, CLAUDE)),
        Finish("stop", "stop"),
        End(),
    ]
    encoded = CODEC.encode_answer(events, reply)
    parts = encoded.body["candidates"][0]["content"]["parts"]
    assert parts[:5] == [
        {"text": "I will not"},
        {"inlineData": {"mimeType": "image/png", "data": "AA=="}},
        {"fileData": {"mimeType": "image/png", "fileUri": "https://x/a.png"}},
        {"inlineData": {"mimeType": "audio/wav", "data": "AA=="}},
        own,
    ]
    assert parts[5]["text"] == "t"
    assert [loss.code for loss in encoded.losses] == [LossCode.DROPPED]
    encoder = CODEC.stream_encoder(reply)
    found = gathered(chunks(b"".join(encoder.feed(event) for event in events)))
    assert found == gathered_answer(encoded.body)
    assert [loss.code for loss in encoder.losses] == [LossCode.DROPPED]
    types.GenerateContentResponse.model_validate(encoded.body)


def test_trap_087_trap_088_thoughts_without_words(reply: Reply) -> None:
    events: list[Event] = [
        *block(0, Thinking(redacted=True, signature=CLAUDE)),
        *block(1, Thinking(signature=CLAUDE)),
        *block(2, Thinking()),
        Finish("stop", "stop"),
        End(),
    ]
    body = CODEC.encode_answer(events, reply).body
    assert [list(part) for part in body["candidates"][0]["content"]["parts"]] == [
        ["thought", "thoughtSignature"],
        ["text", "thought", "thoughtSignature"],
    ]
    assert gathered(chunks(stream(events, reply))) == gathered_answer(body)
    request = CODEC.decode_request(
        {"contents": [body["candidates"][0]["content"]]}, ClientCall(model="m")
    )
    assert request.messages[0].parts == (
        Thinking(redacted=True, signature=CLAUDE),
        Thinking(signature=CLAUDE),
    )


def test_citations_and_logprobs_stand_at_the_end(reply: Reply) -> None:
    entry = {"token": "a", "logprob": -0.5, "top_logprobs": [{"token": "b", "logprob": -1.0}]}
    flat = {
        "type": "url_citation",
        "url": "https://x",
        "title": "X",
        "start_index": 1,
        "end_index": 2,
    }
    nested = {"type": "url_citation", "url_citation": {"url": "https://y"}}
    events: list[Event] = [
        *block(
            0,
            Text(text=""),
            TextDelta(0, "a"),
            CitationDelta(0, flat),
            CitationDelta(0, nested),
        ),
        LogprobsDelta((entry,)),
        Finish("stop", "stop"),
        End(),
    ]
    body = CODEC.encode_answer(events, reply).body
    assert body["candidates"][0]["citationMetadata"] == {
        "citationSources": [
            {"uri": "https://x", "title": "X", "startIndex": 1, "endIndex": 2},
            {"uri": "https://y"},
        ]
    }
    assert body["candidates"][0]["logprobsResult"] == {
        "chosenCandidates": [{"token": "a", "logProbability": -0.5}],
        "topCandidates": [{"candidates": [{"token": "b", "logProbability": -1.0}]}],
    }
    assert gathered(chunks(stream(events, reply))) == gathered_answer(body)
    types.GenerateContentResponse.model_validate(body)


def test_audio_and_image_tokens(reply: Reply) -> None:
    usage = Usage(input=100, audio_input=30, image_input=20, output=50, audio_output=40)
    events: list[Event] = [*block(0, Text(text="a")), Finish("stop", ""), UsageUpdate(usage), End()]
    meta = CODEC.encode_answer(events, reply).body["usageMetadata"]
    assert meta["promptTokensDetails"] == [
        {"modality": "TEXT", "tokenCount": 50},
        {"modality": "AUDIO", "tokenCount": 30},
        {"modality": "IMAGE", "tokenCount": 20},
    ]
    assert meta["candidatesTokensDetails"] == [
        {"modality": "TEXT", "tokenCount": 10},
        {"modality": "AUDIO", "tokenCount": 40},
    ]


def test_trap_160_zero_tokens_are_said(reply: Reply) -> None:
    events: list[Event] = [UsageUpdate(Usage()), Finish("stop", ""), End()]
    assert CODEC.encode_answer(events, reply).body["usageMetadata"] == {
        "promptTokenCount": 0,
        "candidatesTokenCount": 0,
        "totalTokenCount": 0,
    }


# --- keep-alive and errors -----------------------------------------------------------------

FAULT = Fault(
    kind=FaultKind.RATE_LIMIT,
    code="quota_exceeded",
    message="Wait.",
    param="model",
    retry_after_seconds=22.5,
)


def test_keep_alive_is_nothing_to_the_sdk_and_valid_in_an_array(sdk: SDK, reply: Reply) -> None:
    events: list[Event] = [KeepAlive(), *RICH[:5], KeepAlive(), *RICH[5:], KeepAlive()]
    with_pauses = stream(events, reply)
    assert with_pauses.count(b"\n") > stream(RICH, reply).count(b"\n")
    assert stdlib.loads(stream(events, reply, ARRAY_CODEC)) == chunks(stream(RICH, reply))
    client = sdk(lambda request: httpx.Response(200, content=with_pauses))
    quiet = sdk(lambda request: httpx.Response(200, content=stream(RICH, reply)))
    assert len(list(client.models.generate_content_stream(model="m", contents="hi"))) == len(
        list(quiet.models.generate_content_stream(model="m", contents="hi"))
    )


def test_an_error_in_mid_stream_reaches_the_sdk(sdk: SDK, reply: Reply) -> None:
    body = stream([*RICH[:7], Failed(FAULT), End(), *RICH[7:]], reply)
    client = sdk(lambda request: httpx.Response(200, content=body))
    found = client.models.generate_content_stream(model="m", contents="hi")
    with pytest.raises(genai_errors.ClientError) as caught:
        list(found)
    assert (caught.value.code, caught.value.status) == (429, "RESOURCE_EXHAUSTED")
    assert stdlib.loads(body.split(b"data: ")[-1])["error"]["message"] == "Wait."


@pytest.mark.parametrize("before", [0, 7])
def test_an_error_in_an_array_closes_it(reply: Reply, before: int) -> None:
    found = stdlib.loads(stream([*RICH[:before], Failed(FAULT)], reply, ARRAY_CODEC))
    assert found[-1]["error"]["status"] == "RESOURCE_EXHAUSTED"


def test_an_error_event_after_the_first_byte(reply: Reply) -> None:
    sent = stream(RICH[:7], reply)
    assert "error" in chunks(sent + CODEC.encode_error_event(FAULT, "r1"))[-1]
    sent = stream(RICH[:7], reply, ARRAY_CODEC)
    assert "error" in stdlib.loads(sent + ARRAY_CODEC.encode_error_event(FAULT, "r1"))[-1]


def test_nothing_follows_the_end(reply: Reply) -> None:
    for codec in (CODEC, ARRAY_CODEC):
        for last in (End(), Failed(FAULT)):
            encoder = codec.stream_encoder(reply)
            assert encoder.feed(last)
            assert encoder.feed(TextDelta(0, "late")) == b""
            assert encoder.feed(End()) == b""


@pytest.mark.parametrize("kind", FaultKind)
def test_every_fault_is_an_error_the_sdk_understands(sdk: SDK, kind: FaultKind) -> None:
    fault = Fault(kind=kind, code="some_code", message="Do this.")
    body = CODEC.encode_error(fault, "r1")
    assert body["error"]["code"] == fault.http_status
    client = sdk(lambda request: httpx.Response(fault.http_status, content=dumps(body)))
    with pytest.raises(genai_errors.APIError) as caught:
        client.models.generate_content(model="m", contents="hi")
    assert caught.value.code == fault.http_status
    assert caught.value.message == "Do this."
    assert caught.value.status == body["error"]["status"]


def test_the_details_of_an_error() -> None:
    details = CODEC.encode_error(FAULT, "r1")["error"]["details"]
    assert [detail["@type"].rsplit(".", 1)[-1] for detail in details] == [
        "ErrorInfo",
        "BadRequest",
        "RetryInfo",
        "RequestInfo",
    ]
    assert details[0]["reason"] == "QUOTA_EXCEEDED"
    assert details[2]["retryDelay"] == "22.5s"
    whole = Fault(kind=FaultKind.OVERLOADED, code="c", message="m", retry_after_seconds=30.0)
    assert CODEC.encode_error(whole)["error"]["details"][-1]["retryDelay"] == "30s"


def test_counted_tokens_are_read_by_the_sdk(sdk: SDK) -> None:
    body = dumps(CODEC.encode_count(42, 7))
    client = sdk(lambda request: httpx.Response(200, content=body))
    counted = client.models.count_tokens(model="m", contents="hi")
    assert (counted.total_tokens, counted.cached_content_token_count) == (42, 7)


def test_10_000_chunks_cost_the_same_each(reply: Reply) -> None:
    """The last thousand are not dearer than the first: nothing grows with what was sent."""
    encoder = CODEC.stream_encoder(reply)
    encoder.feed(BlockStart(0, Text(text="")))
    costs = []
    for _ in range(10):
        begun = time.thread_time()
        for _ in range(1000):
            encoder.feed(TextDelta(0, "some words "))
        costs.append(time.thread_time() - begun)
    assert min(costs[-3:]) < 3 * min(costs[:3]) + 0.005
