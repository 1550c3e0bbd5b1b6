"""What leaves for a Chat Completions vendor: valid for the SDK's types, nothing lost silently."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from controlplane.kit.json import JSONDict, dumps
from providers.protocols.canonical import (
    Audio,
    Base64,
    CacheMark,
    Caching,
    Document,
    FileId,
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
from providers.protocols.errors import (
    LocalProtocolError,
    UnsupportedContent,
    UnsupportedParameter,
)
from providers.protocols.losses import LossCode
from providers.protocols.openai_completions import CODEC
from tests.providers.protocols.openai_completions.builders import (
    check_chat_params,
    paths,
    spec,
)

HI = Message(role="user", parts=(Text(text="hi"),))
PNG = Image(source=Base64(media_type="image/png", data="QUJD"))


def encode(
    *messages: Message, quirks: JSONDict | None = None, model: JSONDict | None = None, **fields: Any
) -> UpstreamCall:
    request = Request(
        model="asked",
        dialect=fields.pop("dialect", "anthropic-messages"),
        messages=messages or (HI,),
        **fields,
    )
    return CODEC.encode_request(request, spec(quirks=quirks, **(model or {})), request_id="r")


def turn(*parts: Any) -> Message:
    return Message(role="assistant", parts=parts)


def results(*parts: ToolResult) -> Message:
    return Message(role="tool", parts=parts)


def result(call_id: str, *content: Any, **fields: Any) -> ToolResult:
    return ToolResult(call_id=call_id, content=content, **fields)


CALLED = turn(ToolCall(id="a", name="f", arguments='{"x":1}'))


def test_a_rich_request_satisfies_the_sdk() -> None:
    call = encode(
        Message(role="user", parts=(Text(text="look"), PNG), name="ann"),
        turn(Text(text="calling"), ToolCall(id="a", name="f"), ToolCall(id="b", name="g")),
        results(result("a", Text(text="1")), result("b", PNG)),
        Message(role="system", parts=(Text(text="be brief"),)),
        HI,
        system=(SystemText(text="you are"),),
        tools=(
            Tool(
                name="f", description="d", schema={"type": "object", "properties": {}}, strict=True
            ),
            Tool(name="g"),
        ),
        tool_choice=ToolChoice(mode="allowed", names=("f",)),
        parallel_tool_calls=False,
        sampling=Sampling(
            max_output_tokens=100,
            temperature=0.5,
            top_p=0.9,
            seed=1,
            stop=("a", "b"),
            presence_penalty=0.1,
            frequency_penalty=0.1,
            logit_bias={"1": 2.0},
            n=2,
            logprobs=True,
            top_logprobs=2,
        ),
        reasoning=Reasoning(level="high"),
        response_format=ResponseFormat(kind="json_schema", name="s", schema={"type": "object"}),
        verbosity="low",
        metadata={"a": "b"},
        end_user_id="u",
        service_tier="flex",
        stream=True,
        quirks={"supports_strict_tools": True},
        model={"reasoning": True},
    )
    check_chat_params(call.body)
    assert call.path == "/chat/completions"
    assert call.stream
    assert call.body["stream_options"] == {"include_usage": True}
    assert call.body["reasoning_effort"] == "high"
    assert call.body["store"] is False
    assert call.body["tools"][1]["function"] == {"name": "g"}, "trap 60: strict is never null"


def test_trap_077_images_of_results_follow_the_last_result() -> None:
    call = encode(
        turn(ToolCall(id="a", name="f"), ToolCall(id="b", name="f")),
        results(result("a", PNG), result("b", Text(text="2"), PNG)),
    )
    roles = [message["role"] for message in call.body["messages"]]
    assert roles == ["assistant", "tool", "tool", "user"]
    attached = call.body["messages"][3]["content"]
    assert attached[0]["text"] == "Attached image(s) from tool result:"
    assert [part["type"] for part in attached[1:]] == ["image_url", "image_url"]
    assert call.body["messages"][1]["content"] == "(see the attached content)"
    moved = [loss for loss in call.losses if loss.code is LossCode.MOVED]
    assert len(moved) == 2


def test_trap_075_an_empty_result_says_so_and_claims_no_image() -> None:
    call = encode(CALLED, results(result("a")))
    assert call.body["messages"][1]["content"] == "(no tool output)"


def test_trap_009_whitespace_alone_is_no_result() -> None:
    call = encode(CALLED, results(result("a", Text(text=" \n"))))
    assert call.body["messages"][1]["content"] == "(no tool output)"


def test_an_error_result_is_said_in_words() -> None:
    call = encode(CALLED, results(result("a", Text(text="boom"), is_error=True)))
    assert call.body["messages"][1]["content"] == "Error: boom"
    assert "messages[1].parts[0].is_error" in paths(call.losses)


def test_trap_004_a_call_without_result_gets_one() -> None:
    call = encode(CALLED, HI)
    assert [m["role"] for m in call.body["messages"]] == ["assistant", "tool", "user"]
    assert call.body["messages"][1]["content"] == "Error: No result provided"


def test_trap_005_and_006_nothing_stands_between_a_call_and_its_result() -> None:
    system = Message(role="system", parts=(Text(text="s"),))
    call = encode(CALLED, HI, system, results(result("a", Text(text="1"))))
    assert [m["role"] for m in call.body["messages"]] == ["assistant", "tool", "user", "system"]


def test_trap_008_a_turn_of_nothing_but_dropped_reasoning_disappears() -> None:
    proof = Signature(value="s", protocol="anthropic-messages")
    call = encode(HI, turn(Thinking(text="hm", signature=proof)), HI)
    assert [m["role"] for m in call.body["messages"]] == ["user", "user"]
    assert all(not loss.is_lossy for loss in call.losses)


def test_trap_010_an_image_alone_gets_no_text() -> None:
    call = encode(Message(role="user", parts=(PNG,)))
    assert call.body["messages"][0]["content"] == [
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,QUJD"}}
    ]


def test_trap_021_assistant_text_is_one_plain_string() -> None:
    call = encode(HI, turn(Text(text="a"), Text(text="b")))
    assert call.body["messages"][1]["content"] == "ab"
    parts = encode(
        HI,
        turn(Text(text="a"), Text(text="b")),
        quirks={"requires_string_assistant_content": False},
    )
    assert len(parts.body["messages"][1]["content"]) == 2


def test_trap_022_null_or_empty_content_beside_calls_is_a_quirk() -> None:
    assert encode(CALLED).body["messages"][0]["content"] is None
    call = encode(CALLED, quirks={"requires_non_null_assistant_content": True})
    assert call.body["messages"][0]["content"] == ""


def test_trap_023_text_after_calls_follows_their_results() -> None:
    call = encode(
        turn(Text(text="1"), ToolCall(id="a", name="f"), Text(text="2")),
        results(result("a", Text(text="r"))),
        HI,
    )
    kinds = [(m["role"], m.get("content")) for m in call.body["messages"]]
    assert kinds == [("assistant", "1"), ("tool", "r"), ("assistant", "2"), ("user", "hi")]


def test_trap_026_long_ids_are_cut_by_hash_and_match_their_results() -> None:
    first, second = "call_" + "x" * 445, "call_" + "x" * 445 + "y"
    call = encode(
        turn(ToolCall(id=first, name="f"), ToolCall(id=second, name="f")),
        results(result(first, Text(text="1")), result(second, Text(text="2"))),
    )
    ids = [entry["id"] for entry in call.body["messages"][0]["tool_calls"]]
    assert len(set(ids)) == 2
    assert all(len(id_) <= 40 for id_ in ids)
    assert [message["tool_call_id"] for message in call.body["messages"][1:]] == ids
    assert call.restore.call_ids == {ids[0]: first, ids[1]: second}
    assert encode(CALLED, quirks={"max_tool_call_id_length": 9}).restore.call_ids == {}


def test_trap_028_calls_that_share_an_id_get_their_own() -> None:
    call = encode(
        turn(ToolCall(id="a", name="f"), ToolCall(id="a", name="g")),
        results(result("a", Text(text="1")), result("a", Text(text="2"))),
    )
    ids = [entry["id"] for entry in call.body["messages"][0]["tool_calls"]]
    assert len(set(ids)) == 2
    assert [(m["tool_call_id"], m["content"]) for m in call.body["messages"][1:]] == [
        (ids[0], "1"),
        (ids[1], "2"),
    ]


def test_trap_045_missing_arguments_are_an_empty_object() -> None:
    call = encode(turn(ToolCall(id="a", name="f", arguments="")))
    assert call.body["messages"][0]["tool_calls"][0]["function"]["arguments"] == "{}"


def test_trap_043_malformed_arguments_travel_as_they_are() -> None:
    call = encode(turn(ToolCall(id="a", name="f", arguments='{"x":')))
    assert call.body["messages"][0]["tool_calls"][0]["function"]["arguments"] == '{"x":'


def test_trap_056_and_057_tool_choice_is_wrapped_and_kept_without_tools() -> None:
    call = encode(tool_choice=ToolChoice(mode="named", names=("f",)))
    assert call.body["tool_choice"] == {"type": "function", "function": {"name": "f"}}
    assert "tools" not in call.body


def test_trap_061_unknown_endpoints_get_no_strict_schema() -> None:
    call = encode(tools=(Tool(name="f", schema={}, strict=True),))
    assert "strict" not in call.body["tools"][0]["function"]
    assert paths(call.losses) == {"tools[0].strict"}


def test_trap_065_object_schemas_have_properties() -> None:
    call = encode(tools=(Tool(name="f", schema={"type": "object"}),))
    assert call.body["tools"][0]["function"]["parameters"] == {"type": "object", "properties": {}}


def test_trap_066_and_067_one_map_for_names_everywhere() -> None:
    long = "mcp.server/" + "n" * 80
    call = encode(
        turn(ToolCall(id="a", name=long)),
        results(result("a", Text(text="1"))),
        tools=(Tool(name=long), Tool(name="ok")),
        tool_choice=ToolChoice(mode="named", names=(long,)),
        quirks={"requires_tool_result_name": True},
    )
    wire = call.body["tools"][0]["function"]["name"]
    assert len(wire) <= 64
    assert call.body["messages"][0]["tool_calls"][0]["function"]["name"] == wire
    assert call.body["messages"][1]["name"] == wire
    assert call.body["tool_choice"]["function"]["name"] == wire
    assert call.restore.names == {wire: long}


def test_trap_068_a_tool_declared_twice_is_sent_once() -> None:
    call = encode(tools=(Tool(name="f", description="1"), Tool(name="f", description="2")))
    assert [tool["function"]["description"] for tool in call.body["tools"]] == ["1"]
    assert paths(call.losses) == {"tools[1]"}


def test_trap_069_namespaces_are_qualified_and_direct_names_win() -> None:
    call = encode(
        tools=(Tool(name="run", namespace="db"), Tool(name="run"), Tool(name="db__run")),
    )
    names = [tool["function"]["name"] for tool in call.body["tools"]]
    assert len(set(names)) == 3
    assert names[1:] == ["run", "db__run"]
    assert call.restore.namespaces == {names[0]: ("db", "run")}


def test_trap_070_custom_tools_are_emulated_or_native() -> None:
    tool = Tool(name="sql", kind="custom", grammar={"syntax": "lark", "definition": "start: WORD"})
    history = (
        turn(ToolCall(id="a", name="sql", arguments="select 1", kind="custom")),
        results(result("a", Text(text="1"), kind="custom")),
    )
    emulated = encode(*history, tools=(tool,))
    function = emulated.body["tools"][0]["function"]
    assert function["parameters"]["required"] == ["input"]
    assert "start: WORD" in function["description"]
    call = emulated.body["messages"][0]["tool_calls"][0]
    assert call["function"]["arguments"] == '{"input":"select 1"}'
    assert emulated.restore.custom == {"sql"}
    native = encode(*history, tools=(tool,), quirks={"supports_grammar_tools": True})
    assert native.body["tools"][0]["type"] == "custom"
    assert native.body["messages"][0]["tool_calls"][0]["custom"]["input"] == "select 1"
    assert native.restore.custom == frozenset()
    check_chat_params(native.body)
    check_chat_params(emulated.body)


def test_trap_071_declarations_lose_another_vendors_fields_by_name() -> None:
    tool = Tool(name="f", extra={"defer_loading": True, "eager_input_streaming": True})
    call = encode(tools=(tool,))
    assert call.body["tools"][0] == {"type": "function", "function": {"name": "f"}}
    assert paths(call.losses) == {
        "tools[0].extra.defer_loading",
        "tools[0].extra.eager_input_streaming",
    }


def test_trap_072_built_in_tools_of_another_vendor_are_reported() -> None:
    web = Tool(
        name="web_search",
        kind="builtin",
        builtin={"type": "web_search"},
        builtin_protocol="openai-responses",
    )
    call = encode(tools=(web,))
    assert "tools" not in call.body
    assert paths(call.losses) == {"tools[0]"}
    with pytest.raises(UnsupportedParameter):
        encode(tools=(web,), tool_choice=ToolChoice(mode="named", names=("web_search",)))


def test_trap_073_and_079_the_last_result_counts_and_orphans_go() -> None:
    call = encode(
        results(result("gone", Text(text="x"))),
        CALLED,
        results(result("a", Text(text="1")), result("a", Text(text="2"))),
    )
    assert [m.get("content") for m in call.body["messages"]] == [None, "2"]


def test_trap_080_tools_with_tool_history_for_litellm() -> None:
    call = encode(
        CALLED,
        results(result("a", Text(text="1"))),
        quirks={"requires_tools_with_tool_history": True},
    )
    assert call.body["tools"] == []


def test_trap_019_an_assistant_turn_between_results_and_user_only_where_wanted() -> None:
    quirks = {"requires_assistant_after_tool_result": True}
    call = encode(CALLED, results(result("a", Text(text="1"))), HI, quirks=quirks)
    assert [m["role"] for m in call.body["messages"]] == ["assistant", "tool", "assistant", "user"]
    plain = encode(CALLED, results(result("a", Text(text="1"))), HI)
    assert [m["role"] for m in plain.body["messages"]] == ["assistant", "tool", "user"]


# --- reasoning in history ---------------------------------------------------------------------


def test_trap_020_and_094_reasoning_of_another_model_never_becomes_text() -> None:
    other = Signature(value="s", protocol="anthropic-messages", model="claude")
    call = encode(HI, turn(Thinking(text="secret", signature=other), Text(text="a")))
    assert call.body["messages"][1] == {"role": "assistant", "content": "a"}
    assert [loss.code for loss in call.losses] == [LossCode.SIGNATURE_DROPPED]


def test_trap_099_a_vendors_reasoning_details_return_verbatim_and_in_order() -> None:
    value = (
        '[{"type":"reasoning.text","text":"x","signature":"s","index":0},'
        '{"type":"reasoning.encrypted","data":"d","index":1}]'
    )
    own = Signature(value=value, protocol="openai-completions", model="upstream-model")
    call = encode(HI, turn(Thinking(text="x", signature=own), Text(text="a")))
    assert call.body["messages"][1]["reasoning_details"] == [
        {"type": "reasoning.text", "text": "x", "signature": "s", "index": 0},
        {"type": "reasoning.encrypted", "data": "d", "index": 1},
    ]
    foreign = Signature(value=value, protocol="openai-completions", model="another-model")
    call = encode(HI, turn(Thinking(text="x", signature=foreign), Text(text="a")))
    assert "reasoning_details" not in call.body["messages"][1]


def test_trap_102_reasoning_content_on_every_assistant_message() -> None:
    quirks = {"requires_reasoning_content": True}
    call = encode(
        HI, turn(Text(text="a")), HI, turn(Thinking(text="t"), Text(text="b")), quirks=quirks
    )
    assert call.body["messages"][1]["reasoning_content"] == ""
    assert call.body["messages"][3]["reasoning_content"] == "t"


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning", "reasoning_text"])
def test_reasoning_is_replayed_in_the_vendors_field(field: str) -> None:
    call = encode(
        HI, turn(Thinking(text="t"), Text(text="b")), quirks={"reasoning_replay_field": field}
    )
    assert call.body["messages"][1][field] == "t"


def test_reasoning_as_text_where_the_vendor_wants_it() -> None:
    call = encode(
        HI, turn(Thinking(text="t"), Text(text="b")), quirks={"requires_thinking_as_text": True}
    )
    assert call.body["messages"][1]["content"] == "t\n\nb"


def test_trap_086_a_tool_calls_proof_of_another_vendor_is_dropped() -> None:
    proof = Signature(value="Z2Vt", protocol="google-generative-ai")
    call = encode(turn(ToolCall(id="a", name="f", signature=proof)))
    assert "signature" not in str(call.body)
    assert paths(call.losses) == {"messages[0].parts[0].signature"}


# --- what cannot be expressed --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "param"),
    [
        (Message(role="user", parts=(Image(source=FileId(id="f")),)), "messages[0].parts[0]"),
        (
            Message(role="user", parts=(Text(text="a"), Document(source=Url(url="https://x")))),
            "messages[0].parts[1]",
        ),
        (Message(role="user", parts=(Audio(source=Url(url="https://x")),)), "messages[0].parts[0]"),
        (Message(role="user", parts=(Video(source=FileId(id="f")),)), "messages[0].parts[0]"),
        (
            turn(Opaque(protocol="openai-responses", value={"type": "item_reference"})),
            "messages[0].parts[0]",
        ),
        (turn(PNG), "messages[0].parts[0]"),
    ],
)
def test_content_is_refused_by_path_never_dropped(message: Message, param: str) -> None:
    with pytest.raises(UnsupportedContent) as caught:
        encode(message)
    assert caught.value.param == param


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"extra": {"background": True}}, "background"),
        ({"extra": {"prompt": {"id": "p"}}}, "prompt"),
    ],
)
def test_state_at_another_vendor_is_refused(fields: JSONDict, param: str) -> None:
    with pytest.raises(UnsupportedParameter) as caught:
        encode(dialect="openai-responses", **fields)
    assert caught.value.param == param


@pytest.mark.parametrize(
    ("fields", "quirks", "lost"),
    [
        ({"sampling": Sampling(top_k=4, min_p=0.1)}, {}, {"sampling.top_k", "sampling.min_p"}),
        (
            {"sampling": Sampling(temperature=1.0)},
            {"supports_temperature": False},
            {"sampling.temperature"},
        ),
        (
            {"sampling": Sampling(temperature=1.0, top_p=0.5)},
            {"supports_top_p_with_temperature": False},
            {"sampling.top_p"},
        ),
        ({"store": True}, {}, {"store"}),
        ({"metadata": {"a": "b"}}, {"supports_store": False}, {"metadata"}),
        ({"service_tier": "batchy"}, {}, {"service_tier"}),
        ({"extra": {"container": 1}}, {}, {"extra.container"}),
        ({"parallel_tool_calls": False}, {}, {"parallel_tool_calls"}),
        ({"caching": Caching(key="k")}, {}, {"caching.key"}),
        (
            {"caching": Caching(retention="long")},
            {"supports_long_cache_retention": False},
            {"caching.retention"},
        ),
        ({"reasoning": Reasoning(level="high")}, {}, {"reasoning"}),
        ({"tools": (Tool(name="f", cache=CacheMark()),)}, {}, {"tools[0].cache"}),
        ({"system": (SystemText(text="s", cache=CacheMark()),)}, {}, {"system[0].cache"}),
    ],
)
def test_every_lost_knob_is_named(fields: JSONDict, quirks: JSONDict, lost: set[str]) -> None:
    assert paths(encode(quirks=quirks, **fields).losses) == lost


def test_a_plain_request_loses_nothing() -> None:
    assert (
        encode(system=(SystemText(text="s"),), sampling=Sampling(max_output_tokens=5)).losses == ()
    )


# --- vendors ------------------------------------------------------------------------------------


def test_trap_169_the_limit_has_the_vendors_name() -> None:
    sampling = Sampling(max_output_tokens=9)
    assert encode(sampling=sampling).body["max_completion_tokens"] == 9
    assert (
        encode(sampling=sampling, quirks={"max_tokens_field": "max_tokens"}).body["max_tokens"] == 9
    )


def test_trap_174_stop_is_always_an_array() -> None:
    assert encode(sampling=Sampling(stop=("a",))).body["stop"] == ["a"]


def test_trap_158_no_stream_options_where_they_are_refused() -> None:
    call = encode(stream=True, quirks={"supports_usage_in_streaming": False})
    assert "stream_options" not in call.body


def test_trap_183_the_system_role_follows_model_and_quirk() -> None:
    system = (SystemText(text="s", origin="developer"),)
    assert encode(system=system).body["messages"][0]["role"] == "system"
    reasoning = {"reasoning": True}
    assert encode(system=system, model=reasoning).body["messages"][0]["role"] == "developer"
    call = encode(system=system, model=reasoning, quirks={"supports_developer_role": False})
    assert call.body["messages"][0]["role"] == "system"


def test_trap_184_store_is_false_or_absent() -> None:
    assert encode().body["store"] is False
    assert "store" not in encode(quirks={"supports_store": False}).body
    assert encode(store=True, model={"store": True}).body["store"] is True


def test_several_system_blocks_are_one_message_for_foreign_dialects() -> None:
    system = (SystemText(text="a"), SystemText(text="b"))
    assert encode(system=system).body["messages"][0]["content"] == "a\n\nb"
    own = encode(system=system, dialect="openai-completions")
    assert [m["content"] for m in own.body["messages"][:2]] == ["a", "b"]


def test_routing_and_priority_of_the_operator() -> None:
    call = encode(
        dialect="openai-completions",
        extra={"provider": {"sort": "price", "data_collection": "allow"}},
        stream=True,
        tools=(Tool(name="f"),),
        quirks={
            "open_router_routing": {"data_collection": "deny"},
            "vercel_gateway_routing": {"only": ["a"]},
            "vllm_priority": 3,
            "zai_tool_stream": True,
        },
    )
    assert call.body["provider"] == {"sort": "price", "data_collection": "deny"}
    assert call.body["providerOptions"] == {"gateway": {"only": ["a"]}}
    assert call.body["priority"] == 3
    assert call.body["tool_stream"] is True


def test_trap_167_the_same_request_is_the_same_bytes_and_tools_keep_their_order() -> None:
    tools = tuple(Tool(name=name) for name in ("zeta", "alpha", "a.b", "mid"))
    first = encode(CALLED, results(result("a" * 60)), tools=tools, caching=Caching(key="k" * 70))
    second = encode(CALLED, results(result("a" * 60)), tools=tools, caching=Caching(key="k" * 70))
    assert dumps(first.body) == dumps(second.body)
    assert [tool["function"]["name"] for tool in first.body["tools"]] == [
        "zeta",
        "alpha",
        "a_b",
        "mid",
    ]


def test_trap_177_the_schema_is_nested_here() -> None:
    wish = ResponseFormat(
        kind="json_schema", name="n", schema={"type": "object"}, strict=True, description="d"
    )
    assert encode(response_format=wish).body["response_format"] == {
        "type": "json_schema",
        "json_schema": {
            "name": "n",
            "schema": {"type": "object"},
            "strict": True,
            "description": "d",
        },
    }
    plain = encode(response_format=ResponseFormat(kind="json_object"))
    assert plain.body["response_format"] == {"type": "json_object"}


def test_trap_198_thoughts_of_another_dialects_client_are_dropped() -> None:
    call = encode(HI, turn(Thinking(text="hidden"), Text(text="a")), dialect="google-generative-ai")
    assert "hidden" not in str(call.body)


def test_sampling_extensions_go_to_their_own_dialect_and_to_vendors_that_know_them() -> None:
    sampling = Sampling(top_k=4)
    assert encode(sampling=sampling, dialect="openai-completions").body["top_k"] == 4
    assert (
        encode(sampling=sampling, quirks={"supports_sampling_extensions": True}).body["top_k"] == 4
    )


# --- caching --------------------------------------------------------------------------------------


def test_trap_161_and_168_keys_and_affinity_headers() -> None:
    caching = Caching(key="conversation-" + "x" * 80)
    quirks = {"send_session_affinity": True, "supports_prompt_cache_key": "enabled"}
    call = encode(caching=caching, quirks=quirks)
    key = call.body["prompt_cache_key"]
    assert len(key) <= 64
    assert call.headers == {
        "session_id": key,
        "x-client-request-id": key,
        "x-session-affinity": key,
    }
    bare = encode(caching=caching, quirks={**quirks, "session_affinity_format": "openai-nosession"})
    assert set(bare.headers) == {"x-client-request-id", "x-session-affinity"}
    router = encode(caching=caching, quirks={**quirks, "session_affinity_format": "openrouter"})
    assert set(router.headers) == {"x-session-id"}
    assert encode(caching=Caching(key="k")).headers == {}
    none = encode(caching=Caching(key="k", retention="none"), quirks=quirks)
    assert none.headers == {}
    unsafe = encode(caching=Caching(key="a\r\nb"), quirks=quirks)
    assert unsafe.headers["session_id"].isalnum()


def test_trap_162_long_retention_only_where_supported() -> None:
    call = encode(caching=Caching(key="k", retention="long"))
    assert call.body["prompt_cache_retention"] == "24h"
    assert call.body["prompt_cache_key"] == "k"
    call = encode(
        caching=Caching(retention="long"), quirks={"supports_long_cache_retention": False}
    )
    assert "prompt_cache_retention" not in call.body


def test_trap_164_a_cache_mark_turns_a_string_into_parts() -> None:
    mark = CacheMark(ttl="1h")
    call = encode(
        Message(role="user", parts=(Text(text="q", cache=mark),)),
        CALLED,
        results(result("a", Text(text="r", cache=mark))),
        system=(SystemText(text="s", cache=mark),),
        tools=(Tool(name="f", cache=mark),),
        quirks={"cache_control_format": "anthropic"},
    )
    control = {"type": "ephemeral", "ttl": "1h"}
    assert call.body["tools"][0]["cache_control"] == control
    for index in (0, 1, 3):
        assert call.body["messages"][index]["content"][0]["cache_control"] == control
    assert call.losses == ()


def test_trap_165_at_most_four_marks_and_none_on_tools_where_refused() -> None:
    users = [Message(role="user", parts=(Text(text=str(n), cache=CacheMark()),)) for n in range(6)]
    call = encode(*users, quirks={"cache_control_format": "anthropic"})
    assert str(call.body).count("cache_control") == 4
    assert len(call.losses) == 2
    call = encode(
        tools=(Tool(name="f", cache=CacheMark()),),
        quirks={"cache_control_format": "anthropic", "supports_cache_control_on_tools": False},
    )
    assert "cache_control" not in str(call.body)
    assert paths(call.losses) == {"tools[0].cache"}


def test_a_wish_to_cache_without_marks_is_carried_out() -> None:
    call = encode(
        HI,
        CALLED,
        results(result("a", Text(text="r"))),
        HI,
        system=(SystemText(text="s"),),
        caching=Caching(retention="short"),
        quirks={"cache_control_format": "anthropic"},
    )
    marked = [m["role"] for m in call.body["messages"] if type(m["content"]) is list]
    assert marked == ["system", "tool", "user"]
    quiet = encode(system=(SystemText(text="s"),), quirks={"cache_control_format": "anthropic"})
    assert "cache_control" not in str(quiet.body)


def test_explicit_breakpoints_of_new_openai_models() -> None:
    part = Text(text="q", cache=CacheMark())
    call = encode(
        Message(role="user", parts=(part,)), quirks={"supports_explicit_prompt_cache": True}
    )
    assert call.body["messages"][0]["content"][0]["prompt_cache_breakpoint"] == {"mode": "explicit"}
    check_chat_params(call.body)


def test_documents_by_kind() -> None:
    text = Document(
        source=Base64(media_type="text/plain", data=base64.b64encode("grüß".encode()).decode()),
        title="Note",
        context="read this",
    )
    pdf = Document(source=Base64(media_type="application/pdf", data="QUJD"), filename="a.pdf")
    call = encode(Message(role="user", parts=(text, pdf, Document(source=FileId(id="file-1")))))
    assert call.body["messages"][0]["content"] == [
        {"type": "text", "text": "read this"},
        {"type": "text", "text": "Note:\ngrüß"},
        {
            "type": "file",
            "file": {"file_data": "data:application/pdf;base64,QUJD", "filename": "a.pdf"},
        },
        {"type": "file", "file": {"file_id": "file-1"}},
    ]
    check_chat_params(call.body)
    broken = Document(source=Base64(media_type="text/plain", data="%%%"))
    with pytest.raises(LocalProtocolError):
        encode(Message(role="user", parts=(broken,)))


def test_refusals_and_names_in_history() -> None:
    call = encode(Message(role="assistant", parts=(Refusal(text="no"),), name="bot"))
    assert call.body["messages"][0] == {
        "role": "assistant",
        "content": None,
        "refusal": "no",
        "name": "bot",
    }
