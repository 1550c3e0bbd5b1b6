"""Cloud Code Assist: the Gemini body inside an envelope."""

from __future__ import annotations

import json as stdlib
from typing import Any

import pytest

from controlplane.kit.errors import FaultKind
from controlplane.kit.json import JSONDict
from providers.protocols.canonical import (
    Caching,
    End,
    Failed,
    Finish,
    Message,
    ModelSpec,
    Reasoning,
    Request,
    Sampling,
    Signature,
    SystemText,
    Text,
    TextDelta,
    Thinking,
    Tool,
    ToolCall,
    ToolResult,
)
from providers.protocols.codec import Restore, UpstreamCall
from providers.protocols.errors import LocalProtocolError
from providers.protocols.google_gemini_cli import CODEC
from providers.protocols.quirks import Quirks

SLUG = "google-gemini-cli"


def user(text: str) -> Message:
    return Message(role="user", parts=(Text(text=text),))


def encode(
    *messages: Message,
    endpoint: dict[str, str] | None = None,
    name: str = "gemini-x",
    quirks: Quirks | None = None,
    **fields: Any,
) -> UpstreamCall:
    model = ModelSpec(
        id=name,
        protocol=SLUG,
        reasoning=True,
        endpoint={"project": "p-1", **(endpoint or {})},
        quirks=quirks or Quirks(),
    )
    request = Request(model="a", dialect="x", messages=messages or (user("hi"),), **fields)
    return CODEC.encode_request(request, model, request_id="r1")


def test_the_envelope() -> None:
    call = encode(name="models/gemini-x", stream=True)
    assert call.path == "/v1internal:streamGenerateContent"
    assert call.query == {"alt": "sse"}
    session = call.body["request"].pop("sessionId")
    assert call.body == {
        "project": "p-1",
        "model": "gemini-x",
        "request": {"contents": [{"role": "user", "parts": [{"text": "hi"}]}]},
        "userAgent": "provider-control-plane",
        "requestId": "r1",
    }
    assert session
    assert encode().path == "/v1internal:generateContent"


def test_antigravity_is_the_same_with_other_words() -> None:
    call = encode(
        endpoint={
            "user_agent": "antigravity",
            "request_type": "agent",
            "request_id_prefix": "agent-",
            "system_text": "You work here.",
            "system_role": "user",
        },
        system=(SystemText(text="be kind"),),
    )
    assert (call.body["userAgent"], call.body["requestType"]) == ("antigravity", "agent")
    assert call.body["requestId"] == "agent-r1"
    assert call.body["request"]["systemInstruction"] == {
        "role": "user",
        "parts": [{"text": "You work here."}, {"text": "be kind"}],
    }


def test_no_project_is_said_clearly() -> None:
    with pytest.raises(LocalProtocolError, match="needs a project") as caught:
        encode(endpoint={"project": ""})
    assert caught.value.param == "endpoint.project"


def test_a_session_is_stable_over_the_turns_and_differs_between_conversations() -> None:
    def session(*messages: Message, **fields: Any) -> str:
        found: str = encode(*messages, **fields).body["request"]["sessionId"]
        return found

    first = session(user("one"))
    reply = Message(role="assistant", parts=(Text(text="r"),))
    assert session(user("one"), reply, user("more")) == first
    assert session(user("two")) != first
    key = Caching(key="c1")
    assert session(user("two"), caching=key) == session(user("one"), caching=key) != first


def test_trap_052_trap_111_claude_behind_code_assist() -> None:
    call = encode(
        user("go"),
        Message(role="assistant", parts=(ToolCall(id="a.1", name="f"),)),
        Message(role="tool", parts=(ToolResult(call_id="a.1", content=(Text(text="1"),)),)),
        quirks=Quirks(is_claude=True),
        tools=(
            Tool(
                name="f",
                schema={
                    "type": "object",
                    "properties": {"x": {"type": "string", "minLength": 1}},
                },
            ),
        ),
        reasoning=Reasoning(budget_tokens=4096, show=True),
        sampling=Sampling(max_output_tokens=1000),
    )
    request = call.body["request"]
    assert call.headers == {"anthropic-beta": "interleaved-thinking-2025-05-14"}
    sent = request["contents"][1]["parts"][0]["functionCall"]["id"]
    assert sent == request["contents"][2]["parts"][0]["functionResponse"]["id"]
    assert request["tools"][0]["functionDeclarations"][0]["parameters"]["properties"] == {
        "x": {"type": "string", "description": "minLength: 1"}
    }
    assert request["generationConfig"] == {
        "maxOutputTokens": 5096,
        "thinkingConfig": {"thinkingBudget": 4096, "includeThoughts": True},
    }
    assert ("sampling.max_output_tokens", "clamped") in [
        (loss.path, loss.code.value) for loss in call.losses
    ]
    assert encode().headers == {}


def test_trap_093_proofs_of_claude_here_are_not_claudes_own() -> None:
    signature = Signature(value="QUJD", protocol="anthropic-messages", model="claude-x")
    call = encode(
        user("go"),
        Message(role="assistant", parts=(Thinking(text="t", signature=signature), Text(text="a"))),
        user("b"),
        name="claude-x",
        quirks=Quirks(is_claude=True),
    )
    assert call.body["request"]["contents"][1]["parts"] == [{"text": "a"}]


# --- answers -------------------------------------------------------------------------------

INNER: JSONDict = {
    "candidates": [{"content": {"parts": [{"text": "hello"}]}, "finishReason": "STOP"}],
    "responseId": "x",
}
MODEL = ModelSpec(id="gemini-x", protocol=SLUG)


@pytest.mark.parametrize(
    "chunk", [{"response": INNER, "traceId": "t"}, INNER], ids=["wrapped", "bare"]
)
def test_answers_are_unwrapped(chunk: JSONDict) -> None:
    whole = CODEC.decode_answer(stdlib.dumps(chunk).encode(), Restore(), MODEL)
    decoder = CODEC.stream_decoder(Restore(), MODEL)
    streamed = decoder.feed(b"data: " + stdlib.dumps(chunk).encode() + b"\n\n") + decoder.close()
    assert whole == streamed
    assert [event.text for event in whole if isinstance(event, TextDelta)] == ["hello"]
    assert whole[-2:] == [Finish("stop", "STOP"), End()]


def test_trap_134_an_empty_stream_may_be_tried_again() -> None:
    decoder = CODEC.stream_decoder(Restore(), MODEL)
    last = (decoder.feed(b'data: {"response": {"candidates": []}}\n\n') + decoder.close())[-1]
    assert isinstance(last, Failed)
    assert last.fault.code == "stream_empty"


def test_an_error_inside_or_instead() -> None:
    error = {
        "error": {"code": 429, "message": "reset after 18h31m10s", "status": "RESOURCE_EXHAUSTED"}
    }
    for body in (error, [error], {"response": error}):
        last = CODEC.decode_answer(stdlib.dumps(body).encode(), Restore(), MODEL)[-1]
        assert isinstance(last, Failed)
        assert last.fault.kind is FaultKind.RATE_LIMIT
        assert last.fault.retry_after_seconds == 66670
    fault = CODEC.decode_error(429, {}, stdlib.dumps(error).encode())
    assert fault.retry_after_seconds == 66670


def test_counting() -> None:
    request = Request(model="a", dialect="x", messages=(user("hi"),))
    call = CODEC.encode_count_request(request, MODEL, request_id="r")
    assert call.path == "/v1internal:countTokens"
    assert call.body == {
        "request": {
            "model": "models/gemini-x",
            "contents": [{"role": "user", "parts": [{"text": "hi"}]}],
        }
    }
