"""What leaves for a Responses vendor: valid for the SDK's types, nothing lost silently."""

from __future__ import annotations

from typing import Any

import pytest

from controlplane.kit.json import JSONDict
from providers.protocols.canonical import (
    Audio,
    Base64,
    CacheMark,
    Caching,
    Document,
    Image,
    Message,
    Opaque,
    Reasoning,
    Refusal,
    Request,
    ResponseFormat,
    Sampling,
    Signature,
    SystemText,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
    Url,
    Video,
)
from providers.protocols.codec import UpstreamCall
from providers.protocols.errors import UnsupportedContent, UnsupportedParameter
from providers.protocols.losses import LossCode
from providers.protocols.openai_responses import CODEC
from tests.providers.protocols.openai_completions.builders import (
    check_responses_params,
    paths,
    spec,
)

HI = Message(role="user", parts=(Text(text="hi"),))
PNG = Image(source=Base64(media_type="image/png", data="QUJD"))
OWN = Signature(value="enc", protocol="openai-responses", model="upstream-model")


def encode(
    *messages: Message, quirks: JSONDict | None = None, model: JSONDict | None = None, **fields: Any
) -> UpstreamCall:
    request = Request(
        model="asked",
        dialect=fields.pop("dialect", "anthropic-messages"),
        messages=messages or (HI,),
        **fields,
    )
    target = spec("openai-responses", quirks=quirks, **(model or {}))
    return CODEC.encode_request(request, target, request_id="r")


def turn(*parts: Any) -> Message:
    return Message(role="assistant", parts=parts)


def results(*parts: ToolResult) -> Message:
    return Message(role="tool", parts=parts)


CALLED = turn(ToolCall(id="a", name="f", arguments='{"x":1}'))


def test_trap_024_and_025_a_rich_request_keeps_its_order_and_satisfies_the_sdk() -> None:
    call = encode(
        Message(
            role="user",
            parts=(
                Text(text="look"),
                PNG,
                Document(source=Url(url="https://x/a.pdf")),
                Document(source=Base64(media_type="application/pdf", data="QUJD")),
            ),
        ),
        turn(
            Thinking(text="hm", signature=OWN, item_id="rs_1", summary=("hm",)),
            Text(text="calling", phase="commentary"),
            ToolCall(id="a", name="f"),
            ToolCall(id="b", name="sql", arguments="select", kind="custom"),
        ),
        results(
            ToolResult(call_id="a", content=(Text(text="1"), PNG)),
            ToolResult(call_id="b", content=(Text(text="2"),), kind="custom"),
        ),
        turn(Text(text="done")),
        HI,
        system=(SystemText(text="be", origin="instructions"), SystemText(text="kind")),
        tools=(
            Tool(name="f", description="d", schema={"type": "object"}, strict=True),
            Tool(name="sql", kind="custom", grammar={"syntax": "lark", "definition": "x"}),
        ),
        tool_choice=ToolChoice(mode="allowed", names=("f", "sql")),
        parallel_tool_calls=True,
        sampling=Sampling(max_output_tokens=100, temperature=0.5, top_logprobs=2, logprobs=True),
        reasoning=Reasoning(level="high", show=True),
        response_format=ResponseFormat(kind="json_schema", name="s", schema={"type": "object"}),
        verbosity="low",
        caching=Caching(key="k"),
        metadata={"a": "b"},
        end_user_id="u",
        service_tier="flex",
        stream=True,
        quirks={"supports_strict_tools": True},
        model={"reasoning": True},
    )
    check_responses_params(call.body)
    body = call.body
    assert call.path == "/responses"
    assert body["store"] is False
    assert body["instructions"] == "be"
    assert body["include"] == ["reasoning.encrypted_content", "message.output_text.logprobs"]
    assert body["reasoning"] == {"effort": "high", "summary": "auto"}
    assert body["prompt_cache_key"] == "k"
    kinds = [item.get("type") or item["role"] for item in body["input"]]
    assert kinds == [
        "system",
        "user",
        "reasoning",
        "message",
        "function_call",
        "custom_tool_call",
        "function_call_output",
        "custom_tool_call_output",
        "message",
        "user",
    ], "trap 24: the order of items is kept"
    assert body["input"][3]["phase"] == "commentary", "trap 25"
    assert body["input"][4] == {
        "type": "function_call",
        "call_id": "a",
        "name": "f",
        "arguments": "{}",
    }


def test_trap_020_reasoning_of_another_model_does_not_travel() -> None:
    for signature in (
        Signature(value="s", protocol="anthropic-messages"),
        Signature(value="s", protocol="openai-responses", model="other"),
        Signature(value="s", protocol="azure-openai-responses"),
        None,
    ):
        call = encode(HI, turn(Thinking(text="secret", signature=signature), Text(text="a")))
        assert "secret" not in str(call.body)
        assert [loss.code for loss in call.losses] == [LossCode.SIGNATURE_DROPPED]


def test_reasoning_that_nothing_follows_is_dropped() -> None:
    call = encode(HI, turn(Text(text="a"), Thinking(text="t", signature=OWN)), HI)
    assert all(item.get("type") != "reasoning" for item in call.body["input"])


def test_a_late_proof_joins_the_reasoning_it_proves() -> None:
    late = Thinking(redacted=True, signature=OWN, item_id="rs_1")
    call = encode(HI, turn(Thinking(text="t"), Text(text="a"), late), HI)
    kinds = [item.get("type") or item["role"] for item in call.body["input"]]
    assert kinds == ["user", "reasoning", "message", "user"]
    assert call.losses == ()


def test_trap_027_long_call_ids_are_cut_by_hash_without_trailing_underscores() -> None:
    long = "call." + "x" * 80 + "_"
    call = encode(turn(ToolCall(id=long, name="f")), results(ToolResult(call_id=long)))
    ids = {item["call_id"] for item in call.body["input"]}
    assert len(ids) == 1
    (wire,) = ids
    assert len(wire) <= 64
    assert not wire.endswith("_")
    assert call.restore.call_ids == {wire: long}


def test_trap_028_shared_ids_become_unique() -> None:
    call = encode(
        turn(ToolCall(id="a", name="f"), ToolCall(id="a", name="g")),
        results(
            ToolResult(call_id="a", content=(Text(text="1"),)),
            ToolResult(call_id="a", content=(Text(text="2"),)),
        ),
    )
    ids = [item["call_id"] for item in call.body["input"]]
    assert ids[0] != ids[1]
    assert ids[2:] == ids[:2]


def test_namespaces_are_native_here() -> None:
    call = encode(
        turn(ToolCall(id="a", name="run", namespace="db")),
        results(ToolResult(call_id="a")),
        tools=(
            Tool(
                name="run",
                namespace="db",
                strict=False,
                extra={"namespace_description": "data"},
            ),
            Tool(name="list", namespace="db", strict=False),
            Tool(name="run", strict=False),
        ),
        dialect="openai-responses",
    )
    group, direct = call.body["tools"]
    assert (group["type"], group["name"], group["description"]) == ("namespace", "db", "data")
    assert [tool["name"] for tool in group["tools"]] == ["run", "list"]
    assert direct["name"] == "run"
    assert call.body["input"][0]["namespace"] == "db"
    check_responses_params(call.body)


def test_strict_is_said_outright_for_other_dialects() -> None:
    tool = Tool(name="f", schema={"type": "object", "properties": {}})
    assert encode(tools=(tool,)).body["tools"][0]["strict"] is False
    assert "strict" not in encode(tools=(tool,), dialect="openai-responses").body["tools"][0]
    strict = encode(tools=(Tool(name="f", strict=True),))
    assert strict.body["tools"][0]["strict"] is False
    assert paths(strict.losses) == {"tools[0].strict"}


def test_trap_065_object_schemas_have_properties() -> None:
    call = encode(tools=(Tool(name="f"),))
    assert call.body["tools"][0]["parameters"] == {"type": "object", "properties": {}}


def test_trap_066_names_are_mapped_everywhere() -> None:
    name = "a.b"
    call = encode(
        turn(ToolCall(id="a", name=name)),
        results(ToolResult(call_id="a")),
        tools=(Tool(name=name),),
        tool_choice=ToolChoice(mode="named", names=(name,)),
    )
    wire = call.body["tools"][0]["name"]
    assert wire == "a_b"
    assert call.body["input"][0]["name"] == wire
    assert call.body["tool_choice"] == {"type": "function", "name": wire}, "trap 56: flat here"
    assert call.restore.names == {wire: name}


def test_built_in_tools_and_items_stay_in_the_family() -> None:
    web = Tool(
        name="web_search",
        kind="builtin",
        builtin={"type": "web_search"},
        builtin_protocol="openai-responses",
    )
    item = {"type": "web_search_call", "id": "ws_1", "status": "completed"}
    call = encode(
        HI,
        turn(Opaque(protocol="azure-openai-responses", value=item), Text(text="a")),
        tools=(web,),
        dialect="openai-responses",
        extra={"tool_choice": {"type": "web_search"}, "include": ["web_search_call.results"]},
    )
    assert call.body["tools"] == [{"type": "web_search"}]
    assert call.body["input"][1] == item
    assert call.body["tool_choice"] == {"type": "web_search"}
    assert call.body["include"] == ["web_search_call.results"]
    foreign = encode(tools=(Tool(name="x", kind="builtin", builtin_protocol="anthropic-messages"),))
    assert paths(foreign.losses) == {"tools[0]"}


def test_state_and_extras_of_the_own_dialect_pass() -> None:
    call = encode(
        dialect="openai-responses",
        previous_response_id="resp_1",
        store=True,
        extra={"background": True, "truncation": "auto", "reasoning": {"context": "all_turns"}},
        reasoning=Reasoning(level="low"),
        model={"reasoning": True, "store": True},
    )
    assert call.body["previous_response_id"] == "resp_1"
    assert call.body["background"] is True
    assert call.body["store"] is True
    assert call.body["reasoning"] == {"context": "all_turns", "effort": "low"}
    assert call.losses == ()


@pytest.mark.parametrize(
    ("wish", "dialect", "allowed", "expected"),
    [
        (None, "openai-responses", True, True),
        (None, "anthropic-messages", True, False),
        (True, "openai-responses", False, False),
        (False, "openai-responses", True, False),
    ],
)
def test_store(wish: bool | None, dialect: str, allowed: bool, expected: bool) -> None:
    call = encode(dialect=dialect, store=wish, model={"store": allowed})
    assert call.body["store"] is expected


@pytest.mark.parametrize(
    ("fields", "lost"),
    [
        pytest.param(
            {"sampling": Sampling(max_output_tokens=5)},
            {"sampling.max_output_tokens"},
            id="trap_170",
        ),
        (
            {
                "sampling": Sampling(
                    top_k=1, seed=2, stop=("x",), presence_penalty=0.1, logit_bias={"1": 1.0}
                )
            },
            {
                "sampling.top_k",
                "sampling.seed",
                "sampling.stop",
                "sampling.presence_penalty",
                "sampling.logit_bias",
            },
        ),
        ({"reasoning": Reasoning(level="high")}, {"reasoning"}),
        ({"store": True}, {"store"}),
        ({"extra": {"thinking": 1}}, {"extra.thinking"}),
        (
            {"tools": (Tool(name="f", extra={"defer": 1}, cache=CacheMark()),)},
            {"tools[0].extra.defer", "tools[0].cache"},
        ),
        (
            {"messages": (Message(role="user", parts=(Text(text="x"),), name="ann"),)},
            {"messages[0].name"},
        ),
    ],
)
def test_every_lost_knob_is_named(fields: JSONDict, lost: set[str]) -> None:
    messages = fields.pop("messages", ()) if "messages" in fields else ()
    assert paths(encode(*messages, **fields).losses) == lost


def test_trap_170_sixteen_is_the_least() -> None:
    assert encode(sampling=Sampling(max_output_tokens=5)).body["max_output_tokens"] == 16


def test_a_limit_where_the_vendor_sets_its_own() -> None:
    call = encode(
        sampling=Sampling(max_output_tokens=99), quirks={"supports_max_output_tokens": False}
    )
    assert "max_output_tokens" not in call.body
    assert paths(call.losses) == {"sampling.max_output_tokens"}


def test_several_answers_are_refused() -> None:
    with pytest.raises(UnsupportedParameter) as caught:
        encode(sampling=Sampling(n=2))
    assert caught.value.param == "n"


@pytest.mark.parametrize(
    "message",
    [
        Message(role="user", parts=(Video(source=Url(url="https://x")),)),
        Message(role="user", parts=(Audio(source=Url(url="https://x")),)),
        turn(PNG),
        turn(Opaque(protocol="anthropic-messages", value={})),
    ],
)
def test_content_is_refused_by_path(message: Message) -> None:
    with pytest.raises(UnsupportedContent) as caught:
        encode(message)
    assert caught.value.param == "messages[0].parts[0]"


@pytest.mark.parametrize(
    ("reasoning", "levels", "expected"),
    [
        (Reasoning(level="off"), {"off": "none"}, {"effort": "none"}),
        (Reasoning(level="off"), {}, None),
        (Reasoning(level="max"), {}, {"effort": "high", "summary": "auto"}),
        (Reasoning(level="max"), {"max": "max"}, {"effort": "max", "summary": "auto"}),
        (Reasoning(budget_tokens=2000), {}, {"effort": "low", "summary": "auto"}),
        (Reasoning(level="low", summary="detailed"), {}, {"effort": "low", "summary": "detailed"}),
        (Reasoning(level="low", show=False), {}, {"effort": "low"}),
        (Reasoning(adaptive=True), {}, {"effort": "high", "summary": "auto"}),
    ],
)
def test_reasoning(reasoning: Reasoning, levels: JSONDict, expected: JSONDict | None) -> None:
    call = encode(reasoning=reasoning, model={"reasoning": True, "levels": levels})
    assert call.body.get("reasoning") == expected


def test_trap_009_and_075_results_errors_and_placeholders() -> None:
    call = encode(
        CALLED,
        results(ToolResult(call_id="a", content=(Text(text="boom"), PNG), is_error=True)),
        turn(ToolCall(id="b", name="f")),
        results(ToolResult(call_id="b", content=(Text(text=" "),))),
    )
    assert call.body["input"][1]["output"][0] == {"type": "input_text", "text": "Error:"}
    assert call.body["input"][1]["output"][2]["type"] == "input_image"
    assert call.body["input"][3]["output"] == "(no tool output)", "traps 9 and 75"


def test_cache_marks_where_they_exist() -> None:
    part = Text(text="q", cache=CacheMark(ttl="1h"))
    call = encode(
        Message(role="user", parts=(part,)), quirks={"supports_explicit_prompt_cache": True}
    )
    assert call.body["input"][0]["content"][0]["prompt_cache_breakpoint"] == {
        "mode": "explicit",
        "ttl": "12h",
    }
    check_responses_params(call.body)
    assert paths(encode(Message(role="user", parts=(part,))).losses) == {
        "messages[0].parts[0].cache"
    }


def test_trap_161_and_168_keys_and_affinity_headers() -> None:
    caching = Caching(key="k" * 100, retention="long")
    call = encode(caching=caching, quirks={"send_session_affinity": True})
    key = call.body["prompt_cache_key"]
    assert len(key) == 64
    assert call.body["prompt_cache_retention"] == "24h"
    assert call.headers == {"session-id": key, "x-client-request-id": key}
    bare = encode(
        caching=caching,
        quirks={"send_session_affinity": True, "session_affinity_format": "openai-nosession"},
    )
    assert set(bare.headers) == {"x-client-request-id"}


def test_neighbouring_texts_and_refusals_share_a_message_of_one_phase() -> None:
    call = encode(
        HI,
        turn(
            Text(text="a", phase="commentary"),
            Text(text="b", phase="commentary"),
            Text(text="c", phase="final_answer"),
            Refusal(text="no"),
        ),
    )
    first, second, third = call.body["input"][1:]
    assert [part["text"] for part in first["content"]] == ["a", "b"]
    assert (second["content"], second["phase"]) == ("c", "final_answer")
    assert third["content"] == [{"type": "refusal", "refusal": "no"}]


def test_sound_is_inline() -> None:
    sound = Audio(source=Base64(media_type="audio/mpeg", data="QUJD"))
    call = encode(Message(role="user", parts=(sound,)))
    assert call.body["input"][0]["content"] == [
        {"type": "input_audio", "input_audio": {"data": "QUJD", "format": "mp3"}}
    ]


def test_a_late_system_message_keeps_its_place() -> None:
    late = Message(role="system", parts=(Text(text="s"),))
    call = encode(HI, late, HI)
    assert [item["role"] for item in call.body["input"]] == ["user", "system", "user"]
