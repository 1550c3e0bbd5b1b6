"""What a vendor refused is left out, and nothing else."""

from __future__ import annotations

import json
from typing import Any

import pytest

from controlplane.kit.errors import Fault, FaultKind
from providers.protocols import registry
from providers.protocols.losses import LossCode
from providers.protocols.mending import (
    EFFORT,
    LEAST_ROOM,
    OVERFLOW,
    SIGNATURE,
    STRICT,
    mended,
    mended_before,
    room_beside_prompt,
)

THOUGHT = {"type": "thinking", "thinking": "Hm.", "signature": "x"}
HIDDEN = {"type": "redacted_thinking", "data": "x"}
CALL = {"type": "tool_use", "id": "c", "name": "f", "input": {}}
RESULT = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c"}]}
TEXT = {"type": "text", "text": "Yes."}


def fault(code: str, message: str = "", kind: FaultKind = FaultKind.BAD_REQUEST) -> Fault:
    return Fault(kind=kind, code=code, message=message)


def mend(code: str, body: Any, message: str = "") -> Any:
    kind = FaultKind.CONTEXT_OVERFLOW if code == OVERFLOW else FaultKind.BAD_REQUEST
    found = mended(fault(code, message, kind), json.dumps(body).encode())
    return None if found is None else json.loads(found.payload)


def said(*parts: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": list(parts)}


@pytest.mark.parametrize(
    ("thinking", "messages", "left", "still_thinks"),
    [
        ("enabled", [said(THOUGHT, TEXT)], [said(TEXT)], True),
        ("enabled", [said(THOUGHT, CALL), RESULT], [said(CALL), RESULT], False),
        ("adaptive", [said(HIDDEN, CALL), RESULT], [said(CALL), RESULT], True),
        ("adaptive", [said(THOUGHT), said(TEXT)], [said(TEXT)], True),
        ("adaptive", [said(TEXT)], None, True),
        ("adaptive", [{"role": "user", "content": "Hi"}], None, True),
    ],
)
def test_refused_thinking_is_left_out(
    thinking: str, messages: Any, left: Any, still_thinks: bool
) -> None:
    found = mend(SIGNATURE, {"thinking": {"type": thinking}, "messages": messages})
    if left is None:
        assert found is None
        return
    assert found["messages"] == left
    assert ("thinking" in found) is still_thinks


def test_bedrocks_blocks_and_items_of_responses() -> None:
    reasoning = {"reasoningContent": {"reasoningText": {"text": "Hm."}}}
    call = {"toolUse": {"toolUseId": "c"}}
    body = {
        "messages": [said(reasoning, call), {"role": "user", "content": [{"toolResult": {}}]}],
        "additionalModelRequestFields": {"thinking": {"type": "enabled"}, "top_k": 3},
    }
    found = mend(SIGNATURE, body)
    assert found["messages"][0] == said(call)
    assert found["additionalModelRequestFields"] == {"top_k": 3}
    items = [
        {"type": "reasoning", "id": "rs_1", "encrypted_content": "x"},
        {"type": "function_call", "id": "fc_1", "call_id": "c"},
        {"type": "item_reference", "id": "msg_1"},
    ]
    assert mend(SIGNATURE, {"input": items})["input"] == [
        {"type": "function_call", "call_id": "c"},
        {"type": "item_reference", "id": "msg_1"},
    ]
    assert mend(SIGNATURE, {"input": "Hello"}) is None


def test_strictness_of_tools_alone_goes() -> None:
    tools = [{"name": "f", "strict": True}, {"name": "g", "strict": False}, {"name": "h"}]
    found = mended(fault(STRICT), json.dumps({"tools": tools}).encode())
    assert found is not None
    assert "strict" not in json.loads(found.payload)["tools"][0]
    assert [(loss.path, loss.code) for loss in found.losses] == [
        ("tools[0].strict", LossCode.DROPPED)
    ]
    bedrock = {"toolConfig": {"tools": [{"toolSpec": {"name": "f", "strict": True}}]}}
    assert mend(STRICT, bedrock) == {"toolConfig": {"tools": [{"toolSpec": {"name": "f"}}]}}
    assert mend(STRICT, {"tools": [{"name": "f"}]}) is None


@pytest.mark.parametrize(
    ("effort", "lower"), [("max", "xhigh"), ("xhigh", "high"), ("medium", "low"), ("low", None)]
)
def test_effort_goes_down_one_level(effort: str, lower: str | None) -> None:
    found = mend(EFFORT, {"output_config": {"effort": effort, "format": {}}})
    assert found == (lower and {"output_config": {"effort": lower, "format": {}}})
    extra = {"additionalModelRequestFields": {"output_config": {"effort": effort}}}
    assert (mend(EFFORT, extra) is None) is (lower is None)


ANTHROPIC = "input length and `max_tokens` exceed context limit: 188240 + 21333 > 200000, decrease"
VLLM = (
    "'max_tokens' is too large: 16384. This model's maximum context length is 32768 tokens and "
    "your request has 20000 input tokens (16384 > 32768 - 20000)."
)
OPENAI = (
    "This model's maximum context length is 4097 tokens. However, you requested 4927 tokens "
    "(3927 in the messages, 1000 in the completion). Please reduce the length of the messages."
)


@pytest.mark.parametrize(
    ("message", "room"),
    [
        (ANTHROPIC, 11760),
        (VLLM, 12768),
        (OPENAI, 170),
        ("prompt is too long: 250000 tokens > 200000 maximum", 0),
        ("context limit: 300000 + 5 > 200000", 0),
    ],
)
def test_the_answer_gets_what_the_prompt_leaves(message: str, room: int) -> None:
    """Trap 171, by the vendor's own count."""
    assert room_beside_prompt(message) == room
    for name in ("max_tokens", "max_completion_tokens"):
        body = {"messages": [], name: 21333}
        is_worth_it = room >= LEAST_ROOM
        assert mend(OVERFLOW, body, message) == (body | {name: room} if is_worth_it else None)
    # There was room: something else was too long.
    assert mend(OVERFLOW, {"max_tokens": 1}, message) is None
    # Nothing would be left to answer with.
    thinks = {"max_tokens": 21333, "thinking": {"type": "enabled", "budget_tokens": 20000}}
    assert mend(OVERFLOW, thinks, message) is None


def test_what_no_cure_is_known_for_stays_refused() -> None:
    assert mended(fault("upstream_bad_request"), b'{"max_tokens": 5}') is None
    assert mended(fault(SIGNATURE), b"--form\r\n") is None
    assert mended_before(EFFORT, b'{"output_config": {"effort": "high"}}') is not None


@pytest.mark.parametrize(
    ("protocol", "body", "code"),
    [
        (
            "anthropic-messages",
            {"error": {"message": "messages.1.content.0: Invalid `data` in `thinking` block"}},
            SIGNATURE,
        ),
        ("anthropic-messages", {"error": {"message": "Invalid effort level"}}, EFFORT),
        ("anthropic-messages", {"error": {"message": "The compiled grammar is big"}}, STRICT),
        ("bedrock-converse-stream", {"message": "Invalid `signature` in `thinking`"}, SIGNATURE),
        (
            "openai-responses",
            {"error": {"message": "Not verified", "code": "invalid_encrypted_content"}},
            SIGNATURE,
        ),
        ("anthropic-messages", {"error": {"message": ANTHROPIC}}, OVERFLOW),
        ("openai-completions", {"error": {"message": VLLM}}, OVERFLOW),
    ],
)
def test_vendors_words_lead_to_the_cure(protocol: str, body: Any, code: str) -> None:
    found = registry.upstream(protocol).decode_error(400, {}, json.dumps(body).encode())
    assert found.code == code
