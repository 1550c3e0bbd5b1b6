"""What a Responses client may send, and what it is told when it sends something else."""

from __future__ import annotations

from typing import Any

import pytest

from controlplane.kit.json import JSONDict
from providers.protocols.canonical import (
    Audio,
    Base64,
    CacheMark,
    Document,
    FileId,
    Image,
    Message,
    Opaque,
    Reasoning,
    Refusal,
    Request,
    ResponseFormat,
    Signature,
    SystemText,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
    Url,
)
from providers.protocols.errors import LocalProtocolError
from providers.protocols.openai_responses import CODEC, carriers
from tests.providers.protocols.openai_completions.builders import CALL


def decode(input_: Any = "hi", **fields: Any) -> Request:
    return CODEC.decode_request({"model": "m", "input": input_, **fields}, CALL)


def message(role: str, content: Any, **fields: Any) -> JSONDict:
    return {"type": "message", "role": role, "content": content, **fields}


def test_trap_182_a_plain_string_is_one_user_message() -> None:
    assert decode("hello").messages == (Message(role="user", parts=(Text(text="hello"),)),)


def test_every_knob_is_read() -> None:
    request = decode(
        instructions="be kind",
        max_output_tokens=50,
        temperature=0.5,
        top_p=0.9,
        top_logprobs=2,
        parallel_tool_calls=False,
        reasoning={"effort": "none", "summary": "auto", "context": "all_turns"},
        text={"format": {"type": "json_object"}, "verbosity": "low"},
        include=[
            "reasoning.encrypted_content",
            "message.output_text.logprobs",
            "file_search_call.results",
        ],
        store=True,
        stream=True,
        prompt_cache_key="k",
        prompt_cache_retention="24h",
        service_tier="priority",
        safety_identifier="s",
        user="u",
        metadata={"a": "b"},
        truncation="auto",
        max_tool_calls=3,
    )
    assert request.system == (SystemText(text="be kind", origin="instructions"),)
    assert request.sampling.max_output_tokens == 50
    assert request.sampling.logprobs is True
    assert request.sampling.top_logprobs == 2
    assert request.reasoning == Reasoning(level="off", summary="auto")
    assert request.response_format == ResponseFormat(kind="json_object")
    assert request.verbosity == "low"
    assert request.caching.retention == "long"
    assert request.end_user_id == "s"
    assert request.stream
    assert request.extra == {
        "truncation": "auto",
        "max_tool_calls": 3,
        "include": ["file_search_call.results"],
        "reasoning": {"context": "all_turns"},
        "user": "u",
    }


def test_trap_177_the_flat_json_schema() -> None:
    entry = {"type": "json_schema", "name": "n", "schema": {"type": "object"}, "strict": True}
    assert decode(text={"format": entry}).response_format == ResponseFormat(
        kind="json_schema", name="n", schema={"type": "object"}, strict=True
    )


def test_state_is_carried() -> None:
    request = decode([], previous_response_id="resp_1", background=True, prompt={"id": "p"})
    assert request.previous_response_id == "resp_1"
    assert request.extra == {"background": True, "prompt": {"id": "p"}}
    assert decode([], conversation={"id": "conv_1"}).conversation == "conv_1"
    assert decode([], conversation="conv_2").conversation == "conv_2"


def test_trap_024_and_025_items_of_one_answer_are_one_turn_in_their_order() -> None:
    request = decode(
        [
            message("system", "s"),
            message("developer", [{"type": "input_text", "text": "d"}]),
            {"role": "user", "content": "q"},
            {
                "type": "reasoning",
                "id": "rs_1",
                "summary": [
                    {"type": "summary_text", "text": "a"},
                    {"type": "summary_text", "text": "b"},
                ],
                "encrypted_content": "enc",
            },
            message(
                "assistant",
                [{"type": "output_text", "text": "t", "annotations": []}],
                phase="commentary",
            ),
            {
                "type": "function_call",
                "id": "fc_1",
                "call_id": "c1",
                "name": "f",
                "arguments": '{"x":1}',
            },
            {"type": "custom_tool_call", "call_id": "c2", "name": "sql", "input": "select"},
            {"type": "function_call_output", "call_id": "c1", "output": "1"},
            {
                "type": "custom_tool_call_output",
                "call_id": "c2",
                "output": [{"type": "input_text", "text": "2"}],
            },
            {
                "type": "function_call",
                "call_id": "c3",
                "name": "f",
                "arguments": "",
                "namespace": "db",
            },
            message("user", "next"),
        ]
    )
    assert request.system == (SystemText(text="s"), SystemText(text="d", origin="developer"))
    assert [turn.role for turn in request.messages] == [
        "user",
        "assistant",
        "tool",
        "assistant",
        "user",
    ]
    assert request.messages[1].parts == (
        Thinking(
            text="a\n\nb",
            summary=("a", "b"),
            item_id="rs_1",
            signature=Signature(value="enc", protocol="openai-responses"),
        ),
        Text(text="t", phase="commentary"),
        ToolCall(id="c1", name="f", arguments='{"x":1}', item_id="fc_1"),
        ToolCall(id="c2", name="sql", arguments="select", kind="custom"),
    ), "traps 24 and 25: order and phase"
    assert request.messages[2].parts == (
        ToolResult(call_id="c1", content=(Text(text="1"),)),
        ToolResult(call_id="c2", content=(Text(text="2"),), kind="custom"),
    )
    assert request.messages[3].parts == (ToolCall(id="c3", name="f", namespace="db"),)


@pytest.mark.parametrize(
    "kind",
    ["item_reference", "web_search_call", "compaction", "mcp_approval_response", "thing_of_2030"],
)
def test_every_other_item_is_kept_whole(kind: str) -> None:
    item = {"type": kind, "id": "x_1", "data": [1]}
    request = decode([message("user", "q"), item, message("user", "r")])
    assert request.messages[1].parts == (Opaque(protocol="openai-responses", value=item),)


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        (
            {"type": "input_image", "image_url": "data:image/png;base64,QUJD", "detail": "auto"},
            Image(source=Base64(media_type="image/png", data="QUJD")),
        ),
        (
            {"type": "input_image", "file_id": "file-1", "detail": "high"},
            Image(source=FileId(id="file-1"), detail="high"),
        ),
        pytest.param(
            {"type": "input_image", "image_url": {"url": "https://x/y"}},
            Image(source=Url(url="https://x/y")),
            id="trap_179-object",
        ),
        (
            {
                "type": "input_file",
                "file_data": "data:application/pdf;base64,QUJD",
                "filename": "a.pdf",
            },
            Document(source=Base64(media_type="application/pdf", data="QUJD"), filename="a.pdf"),
        ),
        ({"type": "input_file", "file_url": "https://x"}, Document(source=Url(url="https://x"))),
        ({"type": "input_file", "file_id": "f"}, Document(source=FileId(id="f"))),
        (
            {"type": "input_audio", "input_audio": {"data": "QUJD", "format": "wav"}},
            Audio(source=Base64(media_type="audio/wav", data="QUJD")),
        ),
        (
            {
                "type": "input_text",
                "text": "t",
                "prompt_cache_breakpoint": {"mode": "explicit", "ttl": "12h"},
            },
            Text(text="t", cache=CacheMark(ttl="1h")),
        ),
    ],
)
def test_parts(part: JSONDict, expected: Any) -> None:
    assert decode([message("user", [part])]).messages[0].parts == (expected,)


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ("text", (Text(text="text"),)),
        ("", ()),
        (None, ()),
        ({"a": 1}, (Text(text='{"a":1}'),)),
        ([1], (Text(text="[1]"),)),
        (
            [{"type": "input_image", "image_url": "https://x"}],
            (Image(source=Url(url="https://x")),),
        ),
    ],
)
def test_trap_074_every_shape_of_an_output(output: Any, expected: tuple[Any, ...]) -> None:
    request = decode([{"type": "function_call_output", "call_id": "c", "output": output}])
    part = request.messages[0].parts[0]
    assert isinstance(part, ToolResult)
    assert part.content == expected


def test_tools_of_every_kind() -> None:
    request = decode(
        tools=[
            {
                "type": "function",
                "name": "f",
                "parameters": {"type": "object"},
                "strict": True,
                "defer_loading": True,
            },
            {
                "type": "custom",
                "name": "c",
                "format": {"type": "grammar", "syntax": "lark", "definition": "x"},
            },
            {"type": "custom", "name": "d", "format": {"type": "text"}},
            {
                "type": "namespace",
                "name": "db",
                "description": "data",
                "tools": [{"type": "function", "name": "run"}],
            },
            {"type": "web_search", "search_context_size": "low"},
        ],
    )
    assert request.tools == (
        Tool(name="f", schema={"type": "object"}, strict=True, extra={"defer_loading": True}),
        Tool(name="c", kind="custom", grammar={"syntax": "lark", "definition": "x"}),
        Tool(name="d", kind="custom"),
        Tool(name="run", namespace="db", extra={"namespace_description": "data"}),
        Tool(
            name="web_search",
            kind="builtin",
            builtin={"type": "web_search", "search_context_size": "low"},
            builtin_protocol="openai-responses",
        ),
    )


@pytest.mark.parametrize(
    ("choice", "expected", "extra"),
    [
        ("required", ToolChoice(mode="required"), {}),
        ({"type": "function", "name": "f"}, ToolChoice(mode="named", names=("f",)), {}),
        (
            {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "f"}]},
            ToolChoice(mode="allowed", names=("f",)),
            {},
        ),
        ({"type": "web_search"}, None, {"tool_choice": {"type": "web_search"}}),
        (
            {"type": "mcp", "server_label": "x"},
            None,
            {"tool_choice": {"type": "mcp", "server_label": "x"}},
        ),
    ],
)
def test_tool_choice(choice: Any, expected: ToolChoice | None, extra: JSONDict) -> None:
    request = decode(tool_choice=choice)
    assert request.tool_choice == expected
    assert request.extra == extra


def test_proofs_of_other_vendors_come_back_to_their_parts() -> None:
    claude = Signature(value="sig", protocol="anthropic-messages", model="claude")
    gemini = Signature(value="Z2Vt", protocol="google-generative-ai", model="gemini")

    def reasoning(encrypted: str, *summary: str) -> JSONDict:
        parts = [{"type": "summary_text", "text": text} for text in summary]
        return {"type": "reasoning", "id": "rs_x", "summary": parts, "encrypted_content": encrypted}

    request = decode(
        [
            reasoning(carriers.for_thinking(claude), "hm"),
            message("assistant", "hello"),
            reasoning(carriers.for_text(gemini, is_empty=False)),
            {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"},
            reasoning(carriers.for_call(gemini, "c1")),
            reasoning(carriers.for_text(gemini, is_empty=True)),
            {"type": "function_call_output", "call_id": "c1", "output": "1"},
        ]
    )
    assert request.messages[0].parts == (
        Thinking(text="hm", signature=claude, summary=("hm",), item_id="rs_x"),
        Text(text="hello", signature=gemini),
        ToolCall(id="c1", name="f", signature=gemini),
        Text(text="", signature=gemini),
    )


def test_refusals_and_raw_reasoning_in_history() -> None:
    request = decode(
        [
            {
                "type": "reasoning",
                "summary": [],
                "content": [{"type": "reasoning_text", "text": "raw"}],
            },
            message("assistant", [{"type": "refusal", "refusal": "no"}]),
        ]
    )
    assert request.messages[0].parts == (Thinking(text="raw"), Refusal(text="no"))


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input": 5}, "input"),
        ({"input": []}, "input"),
        ({"input": [1]}, "input[0]"),
        ({"input": [{"type": 5}]}, "input[0].type"),
        ({"input": [message("robot", "x")]}, "input[0].role"),
        ({"input": [message("user", [{"type": "smell"}])]}, "input[0].content[0].type"),
        ({"input": [message("user", [{"type": "input_image"}])]}, "input[0].content[0].image_url"),
        ({"input": [message("assistant", [{"type": "input_image"}])]}, "input[0].content[0].type"),
        ({"input": [message("assistant", "x", phase="odd")]}, "input[0].phase"),
        ({"input": [{"type": "function_call", "call_id": "c"}]}, "input[0].name"),
        ({"input": [{"type": "function_call_output", "output": "x"}]}, "input[0].call_id"),
        ({"input": [{"type": "reasoning", "summary": "x"}]}, "input[0].summary"),
        ({"input": [message("user", "x")] * 10_001}, "input"),
        ({"model": None}, "model"),
        ({"instructions": 1}, "instructions"),
        ({"tools": [{"name": "f"}]}, "tools[0].type"),
        ({"tools": [{"type": "function", "name": ""}]}, "tools[0].name"),
        (
            {"tools": [{"type": "namespace", "name": "n", "tools": [{"type": "mcp"}]}]},
            "tools[0].tools[0].type",
        ),
        ({"tools": [{"type": "function", "name": "f"}] * 1001}, "tools"),
        ({"tool_choice": "maybe"}, "tool_choice"),
        ({"reasoning": {"effort": "huge"}}, "reasoning.effort"),
        ({"reasoning": {"summary": "long"}}, "reasoning.summary"),
        ({"text": {"format": {"type": "yaml"}}}, "text.format.type"),
        ({"text": {"verbosity": "loud"}}, "text.verbosity"),
        ({"include": [1]}, "include"),
        ({"conversation": {"x": 1}}, "conversation.id"),
        ({"conversation": "c", "previous_response_id": "r"}, "conversation"),
        ({"max_output_tokens": "9"}, "max_output_tokens"),
    ],
)
def test_a_wrong_field_is_named(fields: JSONDict, param: str) -> None:
    with pytest.raises(LocalProtocolError) as caught:
        CODEC.decode_request({"model": "m", "input": "hi", **fields}, CALL)
    assert caught.value.param == param
    assert param in caught.value.message
