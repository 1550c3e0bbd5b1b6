"""What differs at Codex: much is always so, and more is forbidden."""

from __future__ import annotations

from typing import Any

import pytest

from controlplane.kit.errors import FaultKind
from controlplane.kit.json import JSONDict, dumps
from providers.protocols.canonical import (
    CacheMark,
    Caching,
    Failed,
    Finish,
    Message,
    Reasoning,
    Request,
    Sampling,
    SystemText,
    Text,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
)
from providers.protocols.codec import Restore, UpstreamCall
from providers.protocols.errors import RemoteProtocolError, UnsupportedParameter
from providers.protocols.openai_codex_responses import CODEC
from tests.providers.protocols.openai_completions.builders import (
    calls,
    check_responses_params,
    named,
    of,
    paths,
    spec,
    texts,
)

HI = Message(role="user", parts=(Text(text="hi"),))
MODEL = spec("openai-codex-responses", reasoning=True, levels={"off": "none", "minimal": "low"})


def encode(*messages: Message, quirks: JSONDict | None = None, **fields: Any) -> UpstreamCall:
    request = Request(
        model="asked",
        dialect=fields.pop("dialect", "openai-completions"),
        messages=messages or (HI,),
        **fields,
    )
    model = spec("openai-codex-responses", reasoning=True, levels=MODEL.levels, quirks=quirks)
    return CODEC.encode_request(request, model, request_id="r")


def test_what_is_always_so() -> None:
    call = encode()
    assert call.path == "/codex/responses"
    assert call.stream, "also for callers who do not stream"
    assert call.body == {
        "model": "upstream-model",
        "instructions": "You are a helpful assistant.",
        "input": [{"role": "user", "content": "hi"}],
        "tool_choice": "auto",
        "parallel_tool_calls": True,
        "text": {"verbosity": "medium"},
        "include": ["reasoning.encrypted_content"],
        "reasoning": {"effort": "medium", "summary": "auto"},
        "store": False,
        "stream": True,
    }
    assert call.headers == {
        "openai-beta": "responses=experimental",
        "accept": "text/event-stream",
    }
    assert paths(call.losses) == {"system"}
    check_responses_params(call.body)


def test_trap_180_and_181_forbidden_fields_never_leave() -> None:
    call = encode(
        sampling=Sampling(max_output_tokens=9, temperature=0.5, top_p=0.5, stop=("x",), seed=1),
        end_user_id="u",
        service_tier="flex",
        metadata={"a": "b"},
        store=True,
        parallel_tool_calls=False,
        caching=Caching(key="k" * 90, retention="long"),
        extra={
            "truncation": "auto",
            "prompt_cache_options": {"mode": "explicit"},
            "context_management": [],
            "max_completion_tokens": 3,
        },
        system=(SystemText(text="s"),),
    )
    forbidden = {
        "max_output_tokens",
        "max_completion_tokens",
        "temperature",
        "top_p",
        "truncation",
        "user",
        "prompt_cache_retention",
        "prompt_cache_options",
        "context_management",
        "service_tier",
        "metadata",
        "previous_response_id",
    }
    assert not forbidden & call.body.keys()
    assert len(call.body["prompt_cache_key"]) == 64, "trap 161"
    assert paths(call.losses) == {
        "sampling.max_output_tokens",
        "sampling.temperature",
        "sampling.top_p",
        "sampling.stop",
        "sampling.seed",
        "end_user_id",
        "service_tier",
        "metadata",
        "store",
        "parallel_tool_calls",
        "caching.retention",
        "extra.truncation",
        "extra.prompt_cache_options",
        "extra.context_management",
        "extra.max_completion_tokens",
    }
    assert encode(service_tier="priority").body["service_tier"] == "priority"


def test_trap_163_no_breakpoints_inside_content() -> None:
    marked = Message(role="user", parts=(Text(text="q", cache=CacheMark()),))
    call = encode(marked, quirks={"supports_explicit_prompt_cache": True})
    assert "prompt_cache_breakpoint" not in str(call.body)
    assert "messages[0].parts[0].cache" in paths(call.losses)


def test_system_texts_are_instructions_and_later_ones_developer() -> None:
    late = Message(role="system", parts=(Text(text="late"),))
    call = encode(HI, late, system=(SystemText(text="a"), SystemText(text="b", origin="developer")))
    assert call.body["instructions"] == "a\n\nb"
    assert call.body["input"][1] == {"role": "developer", "content": "late"}


def test_trap_060_and_065_and_066_tools() -> None:
    long = "tool." + "x" * 80
    call = encode(
        tools=(
            Tool(name=long, schema={"type": "object"}),
            Tool(name="strict", schema={"type": "object"}, strict=True),
            Tool(
                name="web_search_preview",
                kind="builtin",
                builtin={"type": "web_search_preview"},
                builtin_protocol="openai-responses",
            ),
        ),
        tool_choice=ToolChoice(mode="named", names=(long,)),
        dialect="openai-responses",
    )
    first, second, search = call.body["tools"]
    assert len(first["name"]) <= 64
    assert call.body["tool_choice"]["name"] == first["name"]
    assert call.restore.names == {first["name"]: long}
    assert first["strict"] is None
    assert second["strict"] is None
    assert "tools[1].strict" in paths(call.losses)
    assert first["parameters"] == {"type": "object", "properties": {}}
    assert search == {"type": "web_search"}
    chosen = encode(
        dialect="openai-responses", extra={"tool_choice": {"type": "web_search_preview"}}
    )
    assert chosen.body["tool_choice"] == {"type": "web_search"}


def test_trap_027_call_ids_are_short() -> None:
    long = "c" * 70 + "_"
    call = encode(
        Message(role="assistant", parts=(ToolCall(id=long, name="f"),)),
        Message(role="tool", parts=(ToolResult(call_id=long),)),
    )
    ids = {item["call_id"] for item in call.body["input"]}
    assert len(ids) == 1
    assert len(ids.pop()) <= 64


@pytest.mark.parametrize(
    ("reasoning", "expected"),
    [
        (Reasoning(level="off"), {"effort": "none"}),
        (Reasoning(level="minimal"), {"effort": "low", "summary": "auto"}),
        (Reasoning(level="high", summary="detailed"), {"effort": "high", "summary": "detailed"}),
        (None, {"effort": "medium", "summary": "auto"}),
    ],
)
def test_reasoning(reasoning: Reasoning | None, expected: JSONDict) -> None:
    assert encode(reasoning=reasoning).body["reasoning"] == expected


def test_one_conversation_goes_to_one_machine() -> None:
    call = encode(caching=Caching(key="conv"))
    assert call.body["prompt_cache_key"] == "conv"
    assert call.headers["session-id"] == "conv"
    assert call.headers["x-client-request-id"] == "conv"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"extra": {"background": True}}, "background"),
        ({"sampling": Sampling(n=2)}, "n"),
    ],
)
def test_what_would_change_the_answer_is_refused(fields: JSONDict, param: str) -> None:
    with pytest.raises(UnsupportedParameter) as caught:
        encode(dialect="openai-responses", **fields)
    assert caught.value.param == param


CALL = {"type": "function_call", "id": "fc", "call_id": "c", "name": "f", "arguments": "{}"}
MESSAGE = {"type": "message", "content": [{"type": "output_text", "text": "hello"}]}


def test_trap_119_and_141_and_142_the_stream_is_aggregated() -> None:
    stream = named(
        {"type": "response.created", "response": {"id": "resp_1", "model": "gpt"}},
        {"type": "codex.rate_limits", "x": 1},
        {"type": "response.output_item.done", "output_index": 0, "item": MESSAGE},
        {"type": "response.output_item.done", "output_index": 1, "item": CALL},
        {"type": "response.done", "response": {"status": "completed", "output": []}},
    ).removesuffix(b"\n\n")
    events = CODEC.decode_answer(stream, Restore(), MODEL)
    assert texts(events) == "hello"
    assert calls(events) == [("c", "f", "{}")]
    assert of(Finish, events)[0].reason == "tool_use"
    with pytest.raises(RemoteProtocolError):
        CODEC.decode_answer(b"event: nothing\n\n", Restore(), MODEL)


def test_trap_131_an_overload_after_the_handshake() -> None:
    error = {"code": "server_is_overloaded", "message": "busy"}
    stream = named(
        {"type": "response.created", "response": {"id": "resp_1"}},
        {"type": "response.failed", "response": {"status": "failed", "error": error}},
    )
    failed = CODEC.decode_answer(stream, Restore(), MODEL)[-1]
    assert isinstance(failed, Failed)
    assert failed.fault.kind is FaultKind.OVERLOADED


@pytest.mark.parametrize(
    ("status", "body", "kind", "delay"),
    [
        (
            429,
            {
                "error": {
                    "type": "usage_limit_reached",
                    "plan_type": "plus",
                    "resets_in_seconds": 90,
                }
            },
            FaultKind.RATE_LIMIT,
            90.0,
        ),
        (429, {"error": {"type": "usage_not_included"}}, FaultKind.PAYMENT, None),
        (401, {"detail": "Unauthorized"}, FaultKind.AUTH, None),
        (404, {"error": {"code": "previous_response_not_found"}}, FaultKind.NOT_FOUND, None),
    ],
)
def test_errors(status: int, body: JSONDict, kind: FaultKind, delay: float | None) -> None:
    fault = CODEC.decode_error(status, {}, dumps(body))
    assert (fault.kind, fault.retry_after_seconds) == (kind, delay)
