"""What a Chat Completions client may send, and what it is told when it sends something else."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from controlplane.kit.json import JSONDict
from providers.protocols import signatures
from providers.protocols.canonical import (
    Audio,
    Base64,
    CacheMark,
    Document,
    FileId,
    Image,
    Reasoning,
    Refusal,
    Request,
    Signature,
    SystemText,
    Text,
    Thinking,
    ToolCall,
    ToolChoice,
    ToolResult,
    Url,
    Video,
)
from providers.protocols.errors import LocalProtocolError
from providers.protocols.openai_completions import CODEC
from tests.providers.protocols.openai_completions.builders import CALL

PNG = "iVBORw0KGgoAAAANSUhEUg=="


def decode(*messages: JSONDict, **fields: Any) -> Request:
    body = {"model": "m", "messages": list(messages) or [{"role": "user", "content": "hi"}]}
    return CODEC.decode_request({**body, **fields}, CALL)


def user(content: Any) -> JSONDict:
    return {"role": "user", "content": content}


def test_every_knob_is_read() -> None:
    request = decode(
        max_tokens=5,
        max_completion_tokens=6,
        temperature=1,
        top_p=0.5,
        top_k=4,
        min_p=0.1,
        repetition_penalty=1.1,
        seed=3,
        stop="END",
        presence_penalty=0.1,
        frequency_penalty=0.2,
        logit_bias={"50": -100},
        n=2,
        logprobs=True,
        top_logprobs=3,
        parallel_tool_calls=False,
        verbosity="low",
        stream=True,
        stream_options={"include_usage": True},
        store=True,
        metadata={"a": "b"},
        service_tier="flex",
        prompt_cache_key="k",
        prompt_cache_retention="24h",
        user="u1",
        reasoning_effort="none",
        web_search_options={"x": 1},
    )
    sampling = request.sampling
    assert sampling.max_output_tokens == 6, "trap 172: the newer name counts"
    assert sampling.stop == ("END",)
    assert sampling.logit_bias == {"50": -100.0}
    assert (sampling.n, sampling.seed, sampling.top_k, sampling.min_p) == (2, 3, 4, 0.1)
    assert (sampling.logprobs, sampling.top_logprobs) == (True, 3)
    assert request.reasoning == Reasoning(level="off")
    assert request.caching.key == "k"
    assert request.caching.retention == "long"
    assert request.end_user_id == "u1"
    assert request.stream
    assert request.include_usage
    assert request.store is True
    assert request.metadata == {"a": "b"}
    assert request.extra == {"web_search_options": {"x": 1}}


def test_trap_172_both_names_of_the_limit_are_understood() -> None:
    assert decode(max_tokens=9).sampling.max_output_tokens == 9
    assert decode(max_completion_tokens=8).sampling.max_output_tokens == 8


def test_trap_016_developer_and_system_lead_in_order_and_may_stand_later() -> None:
    request = decode(
        {"role": "system", "content": "one"},
        {"role": "developer", "content": [{"type": "text", "text": "two"}]},
        user("hi"),
        {"role": "system", "content": "later"},
    )
    assert request.system == (
        SystemText(text="one"),
        SystemText(text="two", origin="developer"),
    )
    assert [message.role for message in request.messages] == ["user", "system"]


def test_results_of_one_turn_are_one_message() -> None:
    request = decode(
        user("go"),
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}},
                {"id": "b", "type": "custom", "custom": {"name": "g", "input": "free"}},
            ],
        },
        {"role": "tool", "tool_call_id": "a", "content": "1"},
        {"role": "tool", "tool_call_id": "b", "content": "2"},
        user("and?"),
    )
    assert [message.role for message in request.messages] == ["user", "assistant", "tool", "user"]
    assert request.messages[1].parts == (
        ToolCall(id="a", name="f"),
        ToolCall(id="b", name="g", arguments="free", kind="custom"),
    )
    assert len(request.messages[2].parts) == 2


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        pytest.param("text", (Text(text="text"),), id="trap_074-string"),
        pytest.param({"a": 1}, (Text(text='{"a":1}'),), id="trap_074-object"),
        pytest.param([{"type": "text", "text": "t"}], (Text(text="t"),), id="trap_074-texts"),
        pytest.param(
            [{"type": "image_url", "image_url": {"url": "https://x/y.png"}}],
            (Image(source=Url(url="https://x/y.png")),),
            id="trap_074-image",
        ),
        pytest.param(None, (), id="trap_074-null"),
        pytest.param(..., (), id="trap_074-missing"),
        pytest.param([1, 2], (Text(text="[1,2]"),), id="trap_074-data"),
    ],
)
def test_trap_074_every_shape_of_a_result(content: Any, expected: tuple[Any, ...]) -> None:
    result = {"role": "tool", "tool_call_id": "a"}
    if content is not ...:
        result["content"] = content
    request = decode(result)
    part = request.messages[0].parts[0]
    assert isinstance(part, ToolResult)
    assert part.content == expected


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        (
            {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}},
            Image(source=Base64(media_type="image/png", data=PNG)),
        ),
        pytest.param(
            {"type": "image_url", "image_url": f"data:;base64,{PNG}"},
            Image(source=Base64(media_type="image/png", data=PNG)),
            id="trap_179-string-and-no-mime-type",
        ),
        (
            {"type": "image_url", "image_url": {"url": "https://x/y", "detail": "high"}},
            Image(source=Url(url="https://x/y"), detail="high"),
        ),
        (
            {"type": "image_url", "image_url": {"url": "data:text/plain,a%20b"}},
            Image(source=Base64(media_type="text/plain", data=base64.b64encode(b"a b").decode())),
        ),
        (
            {"type": "input_audio", "input_audio": {"data": "QUJD", "format": "mp3"}},
            Audio(source=Base64(media_type="audio/mpeg", data="QUJD")),
        ),
        pytest.param(
            {
                "type": "file",
                "file": {"file_data": "data:application/pdf;base64,QUJD", "filename": "a.pdf"},
            },
            Document(source=Base64(media_type="application/pdf", data="QUJD"), filename="a.pdf"),
            id="trap_178-pdf",
        ),
        pytest.param(
            {"type": "file", "file": {"file_data": "data:image/png;base64,QUJD"}},
            Image(source=Base64(media_type="image/png", data="QUJD")),
            id="trap_178-image-sent-as-file",
        ),
        pytest.param(
            {"type": "file", "file": {"file_data": "data:audio/wav;base64,QUJD"}},
            Audio(source=Base64(media_type="audio/wav", data="QUJD")),
            id="trap_178-audio-sent-as-file",
        ),
        ({"type": "file", "file": {"file_id": "file-1"}}, Document(source=FileId(id="file-1"))),
        (
            {"type": "video_url", "video_url": {"url": "https://x/v.mp4"}},
            Video(source=Url(url="https://x/v.mp4")),
        ),
        (
            {"type": "text", "text": "t", "cache_control": {"type": "ephemeral", "ttl": "1h"}},
            Text(text="t", cache=CacheMark(ttl="1h")),
        ),
        (
            {"type": "text", "text": "t", "prompt_cache_breakpoint": {"mode": "explicit"}},
            Text(text="t", cache=CacheMark()),
        ),
    ],
)
def test_parts(part: JSONDict, expected: Any) -> None:
    assert decode(user([part])).messages[0].parts == (expected,)


def test_trap_050_legacy_functions_become_tools_and_ids_are_deterministic() -> None:
    body = {
        "model": "m",
        "functions": [{"name": "f", "parameters": {"type": "object", "properties": {}}}],
        "function_call": {"name": "f"},
        "messages": [
            user("go"),
            {
                "role": "assistant",
                "content": None,
                "function_call": {"name": "f", "arguments": "{}"},
            },
            {"role": "function", "name": "f", "content": "42"},
        ],
    }
    request = CODEC.decode_request(body, CALL)
    assert request.uses_legacy_functions
    assert request.parallel_tool_calls is False
    assert request.tools[0].name == "f"
    assert request.tool_choice == ToolChoice(mode="named", names=("f",))
    call, result = request.messages[1].parts[0], request.messages[2].parts[0]
    assert isinstance(call, ToolCall)
    assert isinstance(result, ToolResult)
    assert call.id == result.call_id
    assert CODEC.decode_request(body, CALL) == request, "trap 50: the same ids every time"


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ("auto", ToolChoice(mode="auto")),
        ("none", ToolChoice(mode="none")),
        ("required", ToolChoice(mode="required")),
        ({"type": "function", "function": {"name": "f"}}, ToolChoice(mode="named", names=("f",))),
        ({"type": "custom", "custom": {"name": "g"}}, ToolChoice(mode="named", names=("g",))),
        (
            {
                "type": "allowed_tools",
                "allowed_tools": {
                    "mode": "required",
                    "tools": [{"type": "function", "function": {"name": "f"}}],
                },
            },
            ToolChoice(mode="allowed", names=("f",), allowed_mode="required"),
        ),
    ],
)
def test_tool_choice(choice: Any, expected: ToolChoice) -> None:
    assert decode(tool_choice=choice).tool_choice == expected


def test_assistant_parts_and_the_first_filled_reasoning_field() -> None:
    request = decode(
        user("q"),
        {
            "role": "assistant",
            "content": [{"type": "text", "text": "a"}, {"type": "refusal", "refusal": "no"}],
            "reasoning_content": "",
            "reasoning": "because",
            "refusal": None,
        },
    )
    assert request.messages[1].parts == (
        Thinking(text="because"),
        Text(text="a"),
        Refusal(text="no"),
    ), "trap 98: the first that is not empty"


def test_openrouter_reasoning_object() -> None:
    assert decode(reasoning={"effort": "high", "exclude": True}).reasoning == Reasoning(
        level="high", show=False
    )
    assert decode(reasoning={"max_tokens": 2000}).reasoning == Reasoning(budget_tokens=2000)
    assert decode(reasoning={"enabled": False}).reasoning == Reasoning(level="off")


def test_trap_046_arguments_that_are_an_object_are_kept_as_text() -> None:
    request = decode(
        {
            "role": "assistant",
            "tool_calls": [{"id": "a", "function": {"name": "f", "arguments": {"x": [1]}}}],
        }
    )
    call = request.messages[0].parts[0]
    assert isinstance(call, ToolCall)
    assert call.arguments == '{"x":[1]}'


def test_proofs_come_back_from_reasoning_details_to_their_parts() -> None:
    claude = Signature(value="sig", protocol="anthropic-messages", model="claude")
    gemini = Signature(value="Z2Vt", protocol="google-generative-ai", model="gemini")
    details = [
        {
            "type": "reasoning.text",
            "text": "hm",
            "signature": signatures.wrap(claude, native="openai-completions"),
        },
        {
            "type": "reasoning.encrypted",
            "data": signatures.wrap(claude, native="openai-completions"),
        },
        {
            "type": "reasoning.encrypted",
            "id": "call_1",
            "data": signatures.wrap(gemini, native="openai-completions"),
        },
        {
            "type": "reasoning.encrypted",
            "id": "pcp:text",
            "data": signatures.wrap(gemini, native="openai-completions"),
        },
    ]
    request = decode(
        {
            "role": "assistant",
            "content": "hello",
            "reasoning_content": "hm",
            "reasoning_details": details,
            "tool_calls": [{"id": "call_1", "function": {"name": "f", "arguments": "{}"}}],
        }
    )
    assert request.messages[0].parts == (
        Thinking(text="hm", signature=claude),
        Thinking(redacted=True, signature=claude),
        Text(text="hello", signature=gemini),
        ToolCall(id="call_1", name="f", signature=gemini),
    )


def test_a_vendors_own_reasoning_details_stay_one_native_proof() -> None:
    details = [{"type": "reasoning.text", "text": "x", "signature": "abc", "index": 0}]
    request = decode({"role": "assistant", "content": "y", "reasoning_details": details})
    thinking = request.messages[0].parts[0]
    assert isinstance(thinking, Thinking)
    assert thinking.text == "x"
    assert thinking.signature is not None
    assert thinking.signature.protocol == "openai-completions"
    assert thinking.signature.model is None


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"messages": "no"}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": [1]}, "messages[0]"),
        ({"messages": [{"role": "robot"}]}, "messages[0].role"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [user([{"type": "smell"}])]}, "messages[0].content[0].type"),
        (
            {"messages": [user("a"), user([{"type": "image_url", "image_url": {"url": 1}}])]},
            "messages[1].content[0].image_url.url",
        ),
        (
            {"messages": [user([{"type": "image_url", "image_url": "data:image/png"}])]},
            "messages[0].content[0].image_url",
        ),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].tool_call_id"),
        (
            {"messages": [{"role": "assistant", "tool_calls": [{"id": "a"}]}]},
            "messages[0].tool_calls[0].function",
        ),
        (
            {"messages": [{"role": "assistant", "reasoning_details": [1]}]},
            "messages[0].reasoning_details[0]",
        ),
        (
            {
                "messages": [
                    {"role": "system", "content": [{"type": "image_url", "image_url": "https://x"}]}
                ]
            },
            "messages[0].content[0]",
        ),
        ({"model": 3}, "model"),
        ({"model": ""}, "model"),
        ({"temperature": "hot"}, "temperature"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": 1.5}, "max_tokens"),
        ({"n": True}, "n"),
        ({"stop": [1]}, "stop"),
        ({"logit_bias": {"1": "x"}}, "logit_bias.1"),
        ({"tools": {}}, "tools"),
        ({"tools": [{"type": "function"}]}, "tools[0].function"),
        ({"tools": [{"type": "function", "function": {"name": 1}}]}, "tools[0].function.name"),
        ({"tools": [{"type": "function", "function": {"name": "f"}}] * 1001}, "tools"),
        ({"tool_choice": "maybe"}, "tool_choice"),
        ({"response_format": {"type": "yaml"}}, "response_format.type"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        ({"reasoning_effort": "huge"}, "reasoning_effort"),
        ({"verbosity": "loud"}, "verbosity"),
        ({"metadata": {"a": 1}}, "metadata.a"),
        ({"stream_options": {"include_usage": "yes"}}, "stream_options.include_usage"),
        ({"prompt_cache_retention": "forever"}, "prompt_cache_retention"),
        ({"messages": [user("x")] * 10_001}, "messages"),
    ],
)
def test_a_wrong_field_is_named(fields: JSONDict, param: str) -> None:
    body = {"model": "m", "messages": [user("hi")], **fields}
    with pytest.raises(LocalProtocolError) as caught:
        CODEC.decode_request(body, CALL)
    assert caught.value.param == param
    assert param in caught.value.message
