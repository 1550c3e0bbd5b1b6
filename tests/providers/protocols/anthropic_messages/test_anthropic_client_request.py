"""Requests as callers send them, to the canonical form."""

from __future__ import annotations

import base64
import contextlib
import copy
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from controlplane.kit.json import JSONDict, loads
from providers.protocols.anthropic_messages import CODEC
from providers.protocols.canonical import (
    Base64,
    CacheMark,
    Caching,
    Document,
    FileId,
    Image,
    Message,
    Opaque,
    Reasoning,
    Request,
    Signature,
    SystemText,
    Text,
    Thinking,
    ToolCall,
    ToolChoice,
    ToolResult,
    Url,
)
from providers.protocols.codec import ClientCall
from providers.protocols.errors import LocalProtocolError

PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5E"

EVERYTHING: JSONDict = {
    "model": "claude-alias",
    "max_tokens": 4096,
    "system": [
        {"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral", "ttl": "1h"}}
    ],
    "stop_sequences": ["END"],
    "temperature": 0.5,
    "top_p": 0.9,
    "top_k": 40,
    "stream": True,
    "service_tier": "auto",
    "metadata": {"user_id": "u-1"},
    "thinking": {"type": "enabled", "budget_tokens": 2048, "display": "omitted"},
    "output_config": {
        "effort": "high",
        "format": {"type": "json_schema", "schema": {"type": "object", "properties": {}}},
    },
    "tool_choice": {"type": "auto", "disable_parallel_tool_use": True},
    "tools": [
        {
            "name": "look",
            "description": "Looks.",
            "input_schema": {"type": "object", "properties": {"at": {"type": "string"}}},
            "strict": True,
            "defer_loading": True,
            "cache_control": {"type": "ephemeral"},
        },
        {"type": "web_search_20250305", "name": "web_search", "max_uses": 3},
    ],
    "container": "container_1",
    "messages": [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "See:"},
                {
                    "type": "image",
                    "source": {"type": "base64", "media_type": "image/png", "data": PNG},
                    "cache_control": {"type": "ephemeral", "ttl": "5m"},
                },
                {"type": "image", "source": {"type": "url", "url": "https://x.test/a.png"}},
                {
                    "type": "document",
                    "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBE"},
                    "title": "Report",
                    "context": "Old",
                    "citations": {"enabled": True},
                },
                {
                    "type": "document",
                    "source": {"type": "text", "media_type": "text/plain", "data": "plain é"},
                },
                {
                    "type": "search_result",
                    "source": "https://x.test",
                    "title": "Found",
                    "content": [{"type": "text", "text": "it"}],
                },
            ],
        },
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "Hm.", "signature": "c2ln"},
                {"type": "redacted_thinking", "data": "ZGF0YQ=="},
                {"type": "text", "text": "Looking."},
                {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {"at": "a"}},
                {
                    "type": "server_tool_use",
                    "id": "srvtoolu_1",
                    "name": "web_search",
                    "input": {"query": "q"},
                },
            ],
        },
        {
            "role": "user",
            "content": [
                {
                    "type": "tool_result",
                    "tool_use_id": "toolu_1",
                    "is_error": True,
                    "content": [
                        {"type": "text", "text": "no"},
                        {
                            "type": "image",
                            "source": {"type": "base64", "media_type": "image/png", "data": PNG},
                        },
                    ],
                },
                {"type": "text", "text": "And now?"},
            ],
        },
    ],
}


def decode(body: JSONDict, **call: Any) -> Request:
    return CODEC.decode_request(body, ClientCall(**call))


def minimal(**fields: Any) -> JSONDict:
    return {
        "model": "m",
        "max_tokens": 10,
        "messages": [{"role": "user", "content": "hi"}],
        **fields,
    }


def content(*blocks: JSONDict, role: str = "user") -> tuple[Message, ...]:
    body = minimal(messages=[{"role": role, "content": list(blocks)}])
    return decode(body).messages


def test_the_sample_is_what_the_sdk_sends(check_params: Callable[[JSONDict], Any]) -> None:
    check_params(EVERYTHING)


def test_knobs_and_tools() -> None:
    request = decode(EVERYTHING, betas=("files-api-2025-04-14",))
    assert request.model == "claude-alias"
    assert request.dialect == "anthropic-messages"
    assert request.stream
    assert request.system == (SystemText(text="Be brief.", cache=CacheMark(ttl="1h")),)
    sampling = request.sampling
    assert (sampling.max_output_tokens, sampling.temperature, sampling.top_p) == (4096, 0.5, 0.9)
    assert (sampling.top_k, sampling.stop) == (40, ("END",))
    assert request.reasoning == Reasoning(level="high", budget_tokens=2048, show=False)
    assert request.response_format is not None
    assert request.response_format.schema == {"type": "object", "properties": {}}
    assert request.end_user_id == "u-1"
    look, search = request.tools
    assert look.strict is True
    assert look.cache == CacheMark()
    assert look.extra == {"defer_loading": True}
    assert search.kind == "builtin"
    assert search.builtin_protocol == "anthropic-messages"
    assert search.builtin == {"type": "web_search_20250305", "name": "web_search", "max_uses": 3}
    assert request.extra == {"container": "container_1", "betas": ["files-api-2025-04-14"]}


def test_trap_058_parallel_switch_lives_in_tool_choice() -> None:
    request = decode(EVERYTHING)
    assert request.tool_choice == ToolChoice(mode="auto")
    assert request.parallel_tool_calls is False
    assert decode(minimal()).parallel_tool_calls is None


def test_user_content() -> None:
    parts = decode(EVERYTHING).messages[0].parts
    assert parts[0] == Text(text="See:")
    assert parts[1] == Image(
        source=Base64(media_type="image/png", data=PNG), cache=CacheMark(ttl="5m")
    )
    assert parts[2] == Image(source=Url(url="https://x.test/a.png"))
    assert parts[3] == Document(
        source=Base64(media_type="application/pdf", data="JVBE"),
        title="Report",
        context="Old",
        citations=True,
    )
    plain = parts[4]
    assert isinstance(plain, Document)
    assert isinstance(plain.source, Base64)
    assert base64.b64decode(plain.source.data).decode() == "plain é"
    found = parts[5]
    assert isinstance(found, Text)
    assert found.text == "Found\nhttps://x.test\nit"


def test_assistant_content_keeps_its_order() -> None:
    parts = decode(EVERYTHING).messages[1].parts
    assert parts[0] == Thinking(
        text="Hm.", signature=Signature(value="c2ln", protocol="anthropic-messages")
    )
    assert parts[1] == Thinking(
        redacted=True, signature=Signature(value="ZGF0YQ==", protocol="anthropic-messages")
    )
    assert parts[2] == Text(text="Looking.")
    assert parts[3] == ToolCall(id="toolu_1", name="look", arguments='{"at":"a"}')
    server_tool = parts[4]
    assert isinstance(server_tool, Opaque)
    assert server_tool.value["type"] == "server_tool_use"


def test_trap_015_results_come_before_the_text_that_shared_their_message() -> None:
    _, _, results, user = decode(EVERYTHING).messages
    assert results.role == "tool"
    assert user == Message(role="user", parts=(Text(text="And now?"),))
    result = results.parts[0]
    assert isinstance(result, ToolResult)
    assert result.is_error
    assert [type(part) for part in result.content] == [Text, Image]


@pytest.mark.parametrize(
    ("given", "texts"),
    [
        ("plain", ["plain"]),
        ({"answer": 1}, ['{"answer":1}']),
        ([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], ["a", "b"]),
        ([{"type": "image", "source": {"type": "file", "file_id": "f"}}], [FileId(id="f")]),
        (None, []),
        ("missing", []),
    ],
    ids=["string", "object", "texts", "image", "null", "missing"],
)
def test_trap_074_six_forms_of_tool_result_content(given: Any, texts: list[Any]) -> None:
    block: JSONDict = {"type": "tool_result", "tool_use_id": "t", "content": given}
    if given == "missing":
        del block["content"]
    (message,) = content(block)
    result = message.parts[0]
    assert isinstance(result, ToolResult)
    shown = [
        part.text if isinstance(part, Text) else part.source
        for part in result.content
        if isinstance(part, Text | Image)
    ]
    assert shown == texts


def test_a_document_of_blocks_with_pictures_becomes_its_parts() -> None:
    (message,) = content(
        {
            "type": "document",
            "title": "Mixed",
            "source": {
                "type": "content",
                "content": [
                    {"type": "text", "text": "before"},
                    {"type": "image", "source": {"type": "file", "file_id": "f"}},
                ],
            },
        }
    )
    assert message.parts == (
        Text(text="Mixed"),
        Text(text="before"),
        Image(source=FileId(id="f")),
    )


def test_a_document_of_text_blocks_stays_a_document() -> None:
    (message,) = content(
        {
            "type": "document",
            "source": {
                "type": "content",
                "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}],
            },
        }
    )
    document = message.parts[0]
    assert isinstance(document, Document)
    assert isinstance(document.source, Base64)
    assert base64.b64decode(document.source.data) == b"a\nb"


def test_trap_197_attribution_line_is_stripped() -> None:
    request = decode(
        minimal(
            system=[
                {"type": "text", "text": "x-anthropic-billing-header: cc_version=1; cch=2;"},
                {"type": "text", "text": "Real prompt."},
            ]
        )
    )
    assert request.system == (SystemText(text="Real prompt."),)


@pytest.mark.parametrize(
    ("thinking", "config", "expected"),
    [
        ({"type": "disabled"}, None, Reasoning(level="off")),
        ({"type": "adaptive"}, None, Reasoning(adaptive=True)),
        ({"type": "adaptive"}, {"effort": "max"}, Reasoning(level="max", adaptive=True)),
        (
            {"type": "adaptive", "display": "summarized"},
            None,
            Reasoning(adaptive=True, show=True),
        ),
        (None, {"effort": "low"}, Reasoning(level="low")),
        (None, None, None),
    ],
)
def test_reasoning(thinking: Any, config: Any, expected: Reasoning | None) -> None:
    assert decode(minimal(thinking=thinking, output_config=config)).reasoning == expected


def test_unknown_thinking_types_are_kept_for_anthropic() -> None:
    request = decode(minimal(thinking={"type": "between_tools"}))
    assert request.reasoning == Reasoning(adaptive=True)
    assert request.extra["thinking"] == {"type": "between_tools"}


def test_old_name_of_the_output_format() -> None:
    request = decode(minimal(output_format={"type": "json_schema", "schema": {"type": "object"}}))
    assert request.response_format is not None
    assert request.response_format.schema == {"type": "object"}


def test_top_level_cache_control() -> None:
    body = minimal(cache_control={"type": "ephemeral", "ttl": "1h"})
    assert decode(body).caching == Caching(retention="long")


def test_fields_without_meaning_are_remembered_not_swallowed() -> None:
    body = minimal(
        messages=[{"role": "user", "content": [{"type": "text", "text": "x", "novel": 1}]}]
    )
    assert decode(body).extra["unread_fields"] == ["messages[0].content[0].novel"]


def test_proofs_return_to_their_owners_and_survive_clients_that_drop_them() -> None:
    from providers.protocols.anthropic_messages import carried

    proof = Signature(value="cHJvb2Y=", protocol="google-generative-ai", model="gemini-x")
    call = {"type": "tool_use", "id": "call_1", "name": "f", "input": {}}
    carrier = {
        "type": "thinking",
        "thinking": "",
        "signature": carried.proof_of_call("call_1", proof),
    }
    (message,) = content(carrier, call, role="assistant")
    assert message.parts == (ToolCall(id="call_1", name="f", signature=proof),)
    (message,) = content(call, carrier, role="assistant")
    assert message.parts == (ToolCall(id="call_1", name="f", signature=proof),)
    (message,) = content(call, role="assistant")
    assert message.parts == (ToolCall(id="call_1", name="f"),)
    text_carrier = {**carrier, "signature": carried.proof_of_text(proof)}
    (message,) = content({"type": "text", "text": "x"}, text_carrier, role="assistant")
    assert message.parts == (Text(text="x", signature=proof),)


def test_count_tokens_takes_the_same_body_without_max_tokens() -> None:
    body = {key: value for key, value in EVERYTHING.items() if key != "max_tokens"}
    request = CODEC.decode_count_request(body, ClientCall())
    assert request.sampling.max_output_tokens is None
    assert request.messages == decode(EVERYTHING).messages
    with pytest.raises(LocalProtocolError) as raised:
        decode(body)
    assert raised.value.param == "max_tokens"
    assert CODEC.encode_count(42) == {"input_tokens": 42}


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"model": 3}, "model"),
        ({"max_tokens": "many"}, "max_tokens"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"max_tokens": True}, "max_tokens"),
        ({"messages": {}}, "messages"),
        ({"messages": ["x"]}, "messages[0]"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": 1}]}, "messages[0].content"),
        (
            {"messages": [{"role": "user", "content": [{"type": "text", "text": None}]}]},
            "messages[0].content[0].text",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "image", "source": {}}]}]},
            "messages[0].content[0].source.type",
        ),
        (
            {"messages": [{"role": "assistant", "content": [{"type": "tool_use", "id": ""}]}]},
            "messages[0].content[0].id",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "tool_use", "id": "x"}]}]},
            "messages[0].content[0].type",
        ),
        ({"system": 1}, "system"),
        ({"temperature": "hot"}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"stop_sequences": [1]}, "stop_sequences[0]"),
        ({"tools": [{"name": ""}]}, "tools[0].name"),
        ({"tools": [{"name": "x", "input_schema": []}]}, "tools[0].input_schema"),
        ({"tool_choice": {"type": "some"}}, "tool_choice.type"),
        ({"tool_choice": {"type": "tool"}}, "tool_choice.name"),
        ({"thinking": {"type": "enabled"}}, "thinking.budget_tokens"),
        ({"output_config": {"effort": "off"}}, "output_config.effort"),
        ({"metadata": {"user_id": 5}}, "metadata.user_id"),
        ({"cache_control": {"type": "ephemeral", "ttl": "1d"}}, "request.cache_control.ttl"),
        ({"stream": "yes"}, "stream"),
        ({"messages": [{"role": "user", "content": "x"}] * 10_001}, "messages"),
        ({"tools": [{"name": "x"}] * 1_001}, "tools"),
    ],
)
def test_wrong_types_name_their_field(change: JSONDict, param: str) -> None:
    with pytest.raises(LocalProtocolError) as raised:
        decode(minimal(**change))
    assert raised.value.param == param


def _paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if path:
        yield path
    if isinstance(value, dict | list):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _paths(item, (*path, key))


@pytest.mark.parametrize("hostile", [None, True, -1, 1.5, "", "x", [], {}, [None], {"type": "x"}])
def test_any_value_anywhere_is_read_or_refused(hostile: Any) -> None:
    from providers.protocols.canonical import ModelSpec

    model = ModelSpec(id="m", protocol="anthropic-messages", reasoning=True)
    for path in _paths(EVERYTHING):
        body = copy.deepcopy(EVERYTHING)
        target: Any = body
        for key in path[:-1]:
            target = target[key]
        target[path[-1]] = hostile
        # Anything but a refusal fails the test.
        with contextlib.suppress(LocalProtocolError):
            CODEC.encode_request(decode(body), model, request_id="r")


def test_gigantic_numbers_are_refused() -> None:
    with pytest.raises(LocalProtocolError):
        decode(loads('{"model":"m","max_tokens":1e300,"messages":[]}'))
