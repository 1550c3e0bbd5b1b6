"""Canonical requests as Messages API calls, judged by the SDK's own types."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import pytest

from controlplane.kit.json import JSONDict, loads
from providers.protocols.anthropic_messages import CODEC
from providers.protocols.canonical import (
    Audio,
    Base64,
    CacheMark,
    Caching,
    Document,
    Image,
    Message,
    ModelSpec,
    Opaque,
    Reasoning,
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
)
from providers.protocols.codec import ClientCall, UpstreamCall
from providers.protocols.errors import UnsupportedContent, UnsupportedParameter
from providers.protocols.losses import LossCode

Spec = Callable[..., ModelSpec]
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5E"
OWN = Signature(value="c2ln", protocol="anthropic-messages", model="claude-test")
FOREIGN = Signature(value="Zm9y", protocol="openai-responses", model="gpt")


def user(*parts: Any) -> Message:
    return Message(
        role="user", parts=tuple(Text(text=p) if isinstance(p, str) else p for p in parts)
    )


def assistant(*parts: Any) -> Message:
    return Message(
        role="assistant", parts=tuple(Text(text=p) if isinstance(p, str) else p for p in parts)
    )


def results(*parts: ToolResult) -> Message:
    return Message(role="tool", parts=parts)


def result(call_id: str, *texts: str, **fields: Any) -> ToolResult:
    return ToolResult(call_id=call_id, content=tuple(Text(text=t) for t in texts), **fields)


@pytest.fixture
def encode(spec: Spec, check_params: Callable[[JSONDict], Any]) -> Callable[..., UpstreamCall]:
    """Encodes for a Claude; every body must satisfy the SDK's types."""

    def run(
        *messages: Message, quirks: dict[str, Any] | None = None, model: Any = None, **fields: Any
    ) -> UpstreamCall:
        request = Request(
            **{
                "model": "alias",
                "dialect": "openai-completions",
                "messages": messages or (user("hi"),),
                **fields,
            }
        )
        call = CODEC.encode_request(
            request, spec(quirks=quirks, **(model or {})), request_id="req_1"
        )
        check_params(call.body)
        return call

    return run


def codes(call: UpstreamCall, path: str) -> list[LossCode]:
    return [loss.code for loss in call.losses if loss.path == path]


def test_the_simplest_request_loses_nothing(encode: Any) -> None:
    call = encode()
    assert call.path == "/v1/messages"
    assert call.headers == {"anthropic-version": "2023-06-01"}
    assert call.losses == ()
    assert call.body == {
        "model": "claude-test",
        "max_tokens": 32000,
        "messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}],
    }


def test_trap_004_missing_result_is_synthesised(encode: Any) -> None:
    call = encode(user("a"), assistant(ToolCall(id="t1", name="f")), user("b"))
    blocks = call.body["messages"][2]["content"]
    assert blocks[0]["type"] == "tool_result"
    assert blocks[0]["is_error"] is True
    assert blocks[1] == {"type": "text", "text": "b"}


def test_calls_that_end_the_conversation_get_results_too(encode: Any) -> None:
    call = encode(user("a"), assistant(ToolCall(id="t1", name="f"), ToolCall(id="t2", name="f")))
    last = call.body["messages"][-1]
    assert last["role"] == "user"
    assert [block["tool_use_id"] for block in last["content"]] == ["t1", "t2"]


def test_trap_005_user_text_between_call_and_result_moves_behind(encode: Any) -> None:
    call = encode(
        user("a"), assistant(ToolCall(id="t1", name="f")), user("wait"), results(result("t1", "r"))
    )
    kinds = [block["type"] for block in call.body["messages"][2]["content"]]
    assert kinds == ["tool_result", "text"]


def test_trap_006_system_text_between_call_and_result_is_held_back(encode: Any) -> None:
    call = encode(
        user("a"),
        assistant(ToolCall(id="t1", name="f")),
        Message(role="system", parts=(Text(text="rule"),)),
        results(result("t1", "r")),
    )
    blocks = call.body["messages"][2]["content"]
    assert blocks[0]["type"] == "tool_result"
    assert "rule" in blocks[1]["text"]


def test_trap_007_system_turn_only_before_a_speaking_assistant(encode: Any) -> None:
    system = Message(role="system", parts=(Text(text="rule"),))
    quirks = {"supports_mid_conversation_system": True}
    call = encode(user("a"), system, assistant("b"), user("c"), quirks=quirks)
    assert [m["role"] for m in call.body["messages"]] == ["user", "system", "assistant", "user"]
    silent = assistant(Thinking(text="x", signature=FOREIGN))
    call = encode(user("a"), system, silent, user("c"), quirks=quirks)
    assert [m["role"] for m in call.body["messages"]] == ["user"]
    assert codes(call, "messages") == [LossCode.MOVED]


def test_trap_008_and_009_empty_turns_and_blank_text_are_not_sent(encode: Any) -> None:
    call = encode(user("a"), assistant("  \n"), user("b", " "))
    assert call.body["messages"] == [
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}
    ]


def test_trap_010_image_only_message_gets_no_text(encode: Any) -> None:
    call = encode(user(Image(source=Base64(media_type="image/png", data=PNG))))
    assert [b["type"] for b in call.body["messages"][0]["content"]] == ["image"]


def test_trap_011_half_a_surrogate_pair_does_not_break_the_body(spec: Spec) -> None:
    body = loads(
        b'{"model":"m","max_tokens":5,"messages":[{"role":"user","content":"cut \\ud83d end"}]}'
    )
    request = CODEC.decode_request(body, ClientCall())
    call = CODEC.encode_request(request, spec(), request_id="r")
    assert call.body["messages"][0]["content"][0]["text"] == "cut � end"


def test_trap_012_system_only_request_gets_a_user_turn(encode: Any) -> None:
    request_system = (SystemText(text="s"),)
    call = encode(assistant("hello"), user("x"), system=request_system)
    assert call.body["messages"][0]["role"] == "user"
    assert codes(call, "messages") == [LossCode.SYNTHESISED]


def test_trap_012_no_messages_at_all(spec: Spec) -> None:
    request = Request(model="a", dialect="openai-completions", system=(SystemText(text="s"),))
    call = CODEC.encode_request(request, spec(), request_id="r")
    assert call.body["messages"] == [
        {"role": "user", "content": [{"type": "text", "text": "Continue."}]}
    ]


def test_trap_014_consecutive_turns_of_one_role_are_merged(encode: Any) -> None:
    call = encode(user("a"), user("b"), assistant("c"), assistant("d"), user("e"))
    assert [len(m["content"]) for m in call.body["messages"]] == [2, 2, 1]


def test_trap_017_system_text_in_the_middle_is_wrapped(encode: Any) -> None:
    call = encode(
        user("a"), assistant("b"), Message(role="system", parts=(Text(text="rule"),)), user("c")
    )
    text = call.body["messages"][2]["content"][0]["text"]
    assert text == "<system-reminder>\nrule\n</system-reminder>"


def test_trap_020_reasoning_of_another_model_is_dropped_not_shown(encode: Any) -> None:
    call = encode(user("a"), assistant(Thinking(text="secret", signature=FOREIGN), "b"), user("c"))
    assert call.body["messages"][1]["content"] == [{"type": "text", "text": "b"}]
    assert codes(call, "messages[1].parts[0]") == [LossCode.SIGNATURE_DROPPED]


def test_trap_023_order_of_text_and_calls_survives(encode: Any) -> None:
    call = encode(
        user("a"), assistant("x", ToolCall(id="t", name="f"), "y"), results(result("t", "r"))
    )
    kinds = [block["type"] for block in call.body["messages"][1]["content"]]
    assert kinds == ["text", "tool_use", "text"]


def test_trap_028_repeated_call_ids_become_unique(encode: Any) -> None:
    call = encode(
        user("a"),
        assistant(ToolCall(id="same", name="f"), ToolCall(id="same", name="g")),
        results(result("same", "r")),
        assistant(ToolCall(id="same", name="f")),
        results(result("same", "r2")),
    )
    calls = [
        block["id"]
        for message in call.body["messages"]
        for block in message["content"]
        if block["type"] == "tool_use"
    ]
    answers = [
        block["tool_use_id"]
        for message in call.body["messages"]
        for block in message["content"]
        if block["type"] == "tool_result"
    ]
    assert len(set(calls)) == 3
    assert calls == answers


@pytest.mark.parametrize("call_id", ["a" * 41, "a" * 65, "call|item/" + "x" * 450, "ends_", "é"])
def test_trap_029_ids_fit_and_match_their_results(encode: Any, call_id: str) -> None:
    call = encode(
        user("a"), assistant(ToolCall(id=call_id, name="f")), results(result(call_id, "r"))
    )
    wire = call.body["messages"][1]["content"][0]["id"]
    assert wire == call.body["messages"][2]["content"][0]["tool_use_id"]
    assert 0 < len(wire) <= 64
    assert wire.replace("_", "").replace("-", "").isascii()
    assert wire.replace("_", "").replace("-", "").isalnum()


def test_a_vendor_may_take_shorter_ids(encode: Any) -> None:
    call = encode(
        user("a"),
        assistant(ToolCall(id="x" * 50, name="f")),
        results(result("x" * 50, "r")),
        quirks={"max_tool_call_id_length": 40},
    )
    wire = call.body["messages"][1]["content"][0]["id"]
    assert len(wire) <= 40
    assert wire == call.body["messages"][2]["content"][0]["tool_use_id"]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("", {}),
        ("null", {}),
        ('{"a": 1}', {"a": 1}),
        ("[1]", {"INVALID_JSON": "[1]"}),
        ('{"a": ', {"INVALID_JSON": '{"a": '}),
    ],
)
def test_trap_045_and_046_arguments_are_always_an_object(
    encode: Any, arguments: str, expected: JSONDict
) -> None:
    call = encode(
        user("a"),
        assistant(ToolCall(id="t", name="f", arguments=arguments)),
        results(result("t", "r")),
    )
    assert call.body["messages"][1]["content"][0]["input"] == expected


def test_trap_059_forced_tool_wins_over_thinking(encode: Any) -> None:
    call = encode(
        tools=(Tool(name="f"),),
        tool_choice=ToolChoice(mode="named", names=("f",)),
        reasoning=Reasoning(level="high"),
    )
    assert call.body["tool_choice"] == {"type": "tool", "name": "f"}
    assert call.body["thinking"] == {"type": "disabled"}
    assert codes(call, "reasoning") == [LossCode.DROPPED]


def test_trap_059_a_model_that_always_thinks_cannot_be_forced(encode: Any) -> None:
    call = encode(
        tools=(Tool(name="f"),),
        tool_choice=ToolChoice(mode="required"),
        reasoning=Reasoning(level="high"),
        model={"levels": {"off": None}},
        quirks={"force_adaptive_thinking": True},
    )
    assert call.body["tool_choice"] == {"type": "auto"}
    assert call.body["thinking"] == {"type": "adaptive"}
    assert codes(call, "tool_choice") == [LossCode.DROPPED]


def test_trap_058_parallel_switch_needs_a_tool_choice(encode: Any) -> None:
    call = encode(tools=(Tool(name="f"),), parallel_tool_calls=False)
    assert call.body["tool_choice"] == {"type": "auto", "disable_parallel_tool_use": True}


def test_trap_057_forced_choice_without_tools_is_kept(encode: Any) -> None:
    assert encode(tool_choice=ToolChoice(mode="required")).body["tool_choice"] == {"type": "any"}
    assert "tool_choice" not in encode(tool_choice=ToolChoice(mode="auto")).body


def test_allowed_subset_is_what_is_declared(encode: Any) -> None:
    call = encode(
        tools=(Tool(name="f"), Tool(name="g")),
        tool_choice=ToolChoice(mode="allowed", names=("g",), allowed_mode="required"),
    )
    assert [tool["name"] for tool in call.body["tools"]] == ["g"]
    assert call.body["tool_choice"] == {"type": "any"}


STRICT = {"type": "object", "properties": {"n": {"type": "integer", "minimum": 1}}}


def test_trap_061_and_062_strict_only_where_it_can_be_kept(encode: Any) -> None:
    plain = {"type": "object", "properties": {"minimum": {"type": "string"}}}
    tools = (Tool(name="f", schema=plain, strict=True), Tool(name="g", schema=STRICT, strict=True))
    call = encode(tools=tools)
    assert not any("strict" in tool for tool in call.body["tools"])
    call = encode(tools=tools, quirks={"supports_strict_tools": True})
    # A property that is called like a keyword is no keyword.
    assert [tool.get("strict") for tool in call.body["tools"]] == [True, None]
    assert codes(call, "tools[1].strict") == [LossCode.DROPPED]


def test_trap_063_definitions_stay(encode: Any) -> None:
    schema = {
        "type": "object",
        "properties": {"a": {"$ref": "#/$defs/A"}},
        "$defs": {"A": {"type": "string"}},
    }
    call = encode(tools=(Tool(name="f", schema=schema),))
    assert call.body["tools"][0]["input_schema"] == schema


def test_trap_064_root_combinations_become_one_object(encode: Any) -> None:
    schema = {
        "anyOf": [
            {"type": "object", "properties": {"a": {}, "k": {}}, "required": ["a", "k"]},
            {"$ref": "#/$defs/B"},
        ],
        "$defs": {"B": {"type": "object", "properties": {"b": {}, "k": {}}, "required": ["k"]}},
    }
    call = encode(tools=(Tool(name="f", schema=schema),))
    assert call.body["tools"][0]["input_schema"] == {
        "type": "object",
        "properties": {"a": {}, "k": {}, "b": {}},
        "required": ["k"],
        "$defs": schema["$defs"],
    }
    assert codes(call, "tools[0].schema") == [LossCode.EMULATED]


def test_trap_065_object_schemas_get_properties(encode: Any) -> None:
    call = encode(tools=(Tool(name="f"), Tool(name="g", schema={"type": "object"})))
    assert all(
        t["input_schema"] == {"type": "object", "properties": {}} for t in call.body["tools"]
    )


def test_a_schema_that_is_no_object_is_refused(encode: Any) -> None:
    with pytest.raises(UnsupportedContent) as raised:
        encode(tools=(Tool(name="f", schema={"type": "string"}),))
    assert raised.value.param == "tools[0].schema"


@pytest.mark.parametrize("name", ["a.b", "n" * 65, "ünïcode", "ns/tool"])
def test_trap_066_and_067_names_are_changed_everywhere_and_restored(encode: Any, name: str) -> None:
    call = encode(
        user("a"),
        assistant(ToolCall(id="t", name=name)),
        results(result("t", "r")),
        tools=(Tool(name=name),),
        tool_choice=ToolChoice(mode="named", names=(name,)),
    )
    wire = call.body["tools"][0]["name"]
    assert wire != name
    assert len(wire) <= 64
    assert call.body["tool_choice"]["name"] == wire
    assert call.body["messages"][1]["content"][0]["name"] == wire
    assert call.restore.names == {wire: name}


def test_trap_068_repeated_declarations_are_sent_once(encode: Any) -> None:
    call = encode(tools=(Tool(name="f", description="first"), Tool(name="f")))
    assert [tool["description"] for tool in call.body["tools"]] == ["first"]
    assert codes(call, "tools[1]") == [LossCode.DROPPED]


def test_trap_069_namespaces_are_qualified_and_direct_names_win(encode: Any) -> None:
    call = encode(tools=(Tool(name="f", namespace="ns"), Tool(name="ns__f")))
    qualified, direct = (tool["name"] for tool in call.body["tools"])
    assert direct == "ns__f"
    assert qualified != direct
    assert call.restore.namespaces == {qualified: ("ns", "f")}


def test_trap_070_custom_tools_travel_as_functions(encode: Any) -> None:
    call = encode(
        user("a"),
        assistant(ToolCall(id="t", name="patch", arguments="*** free", kind="custom")),
        results(result("t", "ok")),
        tools=(Tool(name="patch", kind="custom", grammar={"syntax": "lark"}),),
    )
    assert call.body["messages"][1]["content"][0]["input"] == {"input": "*** free"}
    assert call.restore.custom == {"patch"}
    assert "lark" in call.body["tools"][0]["description"]


def test_trap_072_builtin_tools_of_others_are_refused(encode: Any) -> None:
    with pytest.raises(UnsupportedContent) as raised:
        encode(
            tools=(
                Tool(
                    name="web_search",
                    kind="builtin",
                    builtin={"type": "web_search"},
                    builtin_protocol="openai-responses",
                ),
            )
        )
    assert raised.value.param == "tools[0]"


def test_trap_073_and_079_last_result_counts_and_orphans_go(encode: Any) -> None:
    call = encode(
        results(result("orphan", "x")),
        user("a"),
        assistant(ToolCall(id="t", name="f")),
        results(result("t", "first"), result("t", "last")),
    )
    assert call.body["messages"][2]["content"] == [
        {"type": "tool_result", "tool_use_id": "t", "content": "last"}
    ]


def test_trap_075_empty_result_gets_a_placeholder(encode: Any) -> None:
    call = encode(user("a"), assistant(ToolCall(id="t", name="f")), results(result("t", " ")))
    assert call.body["messages"][2]["content"][0]["content"] == "(no tool output)"


def test_trap_076_pictures_of_failed_tools_stand_behind_the_results(encode: Any) -> None:
    picture = Image(source=Base64(media_type="image/png", data=PNG))
    failed = ToolResult(call_id="t1", content=(Text(text="no"), picture), is_error=True)
    fine = ToolResult(call_id="t2", content=(picture,))
    call = encode(
        user("a"),
        assistant(ToolCall(id="t1", name="f"), ToolCall(id="t2", name="f")),
        results(failed, fine),
    )
    blocks = call.body["messages"][2]["content"]
    assert [b["type"] for b in blocks] == ["tool_result", "tool_result", "text", "image"]
    assert blocks[0]["content"] == "no"
    assert blocks[1]["content"][0]["type"] == "image"


def test_trap_080_tools_beside_a_history_with_calls(encode: Any) -> None:
    history = (user("a"), assistant(ToolCall(id="t", name="f")), results(result("t", "r")))
    assert "tools" not in encode(*history).body
    call = encode(*history, quirks={"requires_tools_with_tool_history": True})
    assert call.body["tools"] == []


def test_trap_087_signed_thinking_without_text_is_kept(encode: Any) -> None:
    call = encode(user("a"), assistant(Thinking(signature=OWN), "b"), user("c"))
    assert call.body["messages"][1]["content"][0] == {
        "type": "thinking",
        "thinking": "",
        "signature": "c2ln",
    }


def test_trap_088_redacted_thinking_returns_verbatim(encode: Any) -> None:
    call = encode(user("a"), assistant(Thinking(redacted=True, signature=OWN), "b"), user("c"))
    assert call.body["messages"][1]["content"][0] == {"type": "redacted_thinking", "data": "c2ln"}


def test_trap_089_unsigned_thinking_only_where_allowed(encode: Any) -> None:
    history = (user("a"), assistant(Thinking(text="hm"), "b"), user("c"))
    assert encode(*history).body["messages"][1]["content"] == [{"type": "text", "text": "b"}]
    call = encode(*history, quirks={"allow_empty_signature": True})
    assert call.body["messages"][1]["content"][0]["signature"] == ""


def test_trap_092_signature_of_another_model_of_the_same_vendor(encode: Any) -> None:
    other = Signature(value="x", protocol="anthropic-messages", model="claude-other")
    call = encode(user("a"), assistant(Thinking(text="t", signature=other), "b"), user("c"))
    assert [b["type"] for b in call.body["messages"][1]["content"]] == ["text"]


def test_trap_106_off_is_said_aloud(encode: Any) -> None:
    assert encode(reasoning=Reasoning(level="off")).body["thinking"] == {"type": "disabled"}
    call = encode(reasoning=Reasoning(level="off"), model={"levels": {"off": None}})
    assert "thinking" not in call.body
    assert codes(call, "reasoning.level") == [LossCode.CLAMPED]


@pytest.mark.parametrize(
    ("reasoning", "thinking", "effort"),
    [
        (Reasoning(level="minimal"), {"type": "adaptive"}, "low"),
        (Reasoning(level="high"), {"type": "adaptive"}, "high"),
        (Reasoning(level="max"), {"type": "adaptive"}, "high"),
        (Reasoning(adaptive=True), {"type": "adaptive"}, None),
        (Reasoning(budget_tokens=9000), {"type": "adaptive"}, "high"),
        (
            Reasoning(level="low", summary="auto"),
            {"type": "adaptive", "display": "summarized"},
            "low",
        ),
    ],
)
def test_trap_109_adaptive_models_get_an_effort(
    encode: Any, reasoning: Reasoning, thinking: JSONDict, effort: str | None
) -> None:
    call = encode(reasoning=reasoning, quirks={"force_adaptive_thinking": True})
    assert call.body["thinking"] == thinking
    assert call.body.get("output_config", {}).get("effort") == effort


@pytest.mark.parametrize(
    ("reasoning", "max_tokens", "thinking"),
    [
        (Reasoning(level="medium"), None, {"type": "enabled", "budget_tokens": 8192}),
        (Reasoning(adaptive=True), None, {"type": "enabled", "budget_tokens": 16384}),
        (Reasoning(budget_tokens=3000), 3001, {"type": "enabled", "budget_tokens": 3000}),
        (Reasoning(budget_tokens=5000), 4000, {"type": "enabled", "budget_tokens": 2976}),
        (Reasoning(level="high"), 1500, {"type": "enabled", "budget_tokens": 1024}),
        (Reasoning(budget_tokens=100), 5000, {"type": "enabled", "budget_tokens": 1024}),
        (Reasoning(level="high"), 1024, {"type": "disabled"}),
    ],
)
def test_trap_111_the_answer_limit_exceeds_the_budget(
    encode: Any, reasoning: Reasoning, max_tokens: int | None, thinking: JSONDict
) -> None:
    call = encode(reasoning=reasoning, sampling=Sampling(max_output_tokens=max_tokens))
    assert call.body["thinking"] == thinking
    if max_tokens is not None:
        assert call.body["max_tokens"] == max_tokens


def test_trap_112_sampling_while_thinking(encode: Any) -> None:
    sampling = Sampling(temperature=0.3, top_p=0.5, top_k=5)
    call = encode(reasoning=Reasoning(level="low"), sampling=sampling)
    assert not {"temperature", "top_p", "top_k"} & call.body.keys()
    assert {loss.path for loss in call.losses} == {
        "sampling.temperature",
        "sampling.top_p",
        "sampling.top_k",
    }
    call = encode(sampling=sampling, quirks={"supports_temperature": False})
    assert not {"temperature", "top_p", "top_k"} & call.body.keys()


def test_trap_173_temperature_and_top_p_together(encode: Any) -> None:
    sampling = Sampling(temperature=1.7, top_p=0.5)
    call = encode(sampling=sampling, quirks={"supports_top_p_with_temperature": False})
    assert call.body["temperature"] == 1.0
    assert "top_p" not in call.body
    assert codes(call, "sampling.temperature") == [LossCode.CLAMPED]
    assert codes(call, "sampling.top_p") == [LossCode.DROPPED]


def test_a_client_that_dropped_thinking_in_a_tool_loop(encode: Any) -> None:
    loop = (user("a"), assistant(ToolCall(id="t", name="f")), results(result("t", "r")))
    call = encode(*loop, reasoning=Reasoning(level="low"))
    assert call.body["thinking"] == {"type": "disabled"}
    assert codes(call, "reasoning") == [LossCode.DROPPED]
    kept = (
        user("a"),
        assistant(Thinking(text="t", signature=OWN), ToolCall(id="t", name="f")),
        results(result("t", "r")),
    )
    assert encode(*kept, reasoning=Reasoning(level="low")).body["thinking"]["type"] == "enabled"
    adaptive = encode(
        *loop, reasoning=Reasoning(level="low"), quirks={"force_adaptive_thinking": True}
    )
    assert adaptive.body["thinking"]["type"] == "adaptive"


def test_prefill_is_kept_trimmed_or_answered(encode: Any) -> None:
    history = (user("a"), assistant("start "))
    call = encode(*history)
    assert call.body["messages"][-1]["content"][0]["text"] == "start"
    for refused in ({"quirks": {"supports_prefill": False}}, {"reasoning": Reasoning(level="low")}):
        call = encode(*history, **refused)
        assert call.body["messages"][-1]["role"] == "user"
        assert call.body["messages"][-2]["content"][0]["text"] == "start "


def test_trap_153_and_165_cache_marks(encode: Any) -> None:
    mark, long = CacheMark(), CacheMark(ttl="1h")
    call = encode(
        user(*(Text(text=f"m{i}", cache=mark) for i in range(5))),
        system=(SystemText(text="s", cache=long),),
        tools=(Tool(name="f", cache=mark),),
    )
    marked = [block.get("cache_control") for block in call.body["messages"][0]["content"]]
    assert marked == [
        None,
        None,
        {"type": "ephemeral"},
        {"type": "ephemeral"},
        {"type": "ephemeral"},
    ]
    assert call.body["tools"][0]["cache_control"] == {"type": "ephemeral"}
    assert "cache_control" not in call.body["system"][0]
    assert codes(call, "caching") == [LossCode.CLAMPED]


def test_trap_165_endpoints_without_marks_on_tools_or_long_marks(encode: Any) -> None:
    call = encode(
        tools=(Tool(name="f", cache=CacheMark()),),
        system=(SystemText(text="s", cache=CacheMark(ttl="1h")),),
        quirks={"supports_cache_control_on_tools": False, "supports_long_cache_retention": False},
    )
    assert "cache_control" not in call.body["tools"][0]
    assert call.body["system"][0]["cache_control"] == {"type": "ephemeral"}


def test_longer_marks_stand_before_shorter_ones(encode: Any) -> None:
    call = encode(
        user(Text(text="m", cache=CacheMark(ttl="1h"))),
        system=(SystemText(text="s", cache=CacheMark(ttl="5m")),),
    )
    assert call.body["system"][0]["cache_control"] == {"type": "ephemeral", "ttl": "5m"}
    assert call.body["messages"][0]["content"][0]["cache_control"] == {"type": "ephemeral"}


def test_a_wish_for_caching_is_placed_automatically(encode: Any) -> None:
    call = encode(
        system=(SystemText(text="s"),),
        tools=(Tool(name="f"),),
        caching=Caching(retention="long"),
    )
    expected = {"type": "ephemeral", "ttl": "1h"}
    assert call.body["tools"][-1]["cache_control"] == expected
    assert call.body["system"][-1]["cache_control"] == expected
    assert call.body["messages"][-1]["content"][-1]["cache_control"] == expected
    marked = user(Text(text="m", cache=CacheMark()))
    call = encode(marked, caching=Caching(retention="none"))
    assert "cache_control" not in call.body["messages"][0]["content"][0]


def test_session_affinity_carries_the_cache_key(encode: Any) -> None:
    caching = Caching(key="conversation-1")
    assert codes(encode(caching=caching), "caching.key") == [LossCode.DROPPED]
    call = encode(caching=caching, quirks={"send_session_affinity": True})
    assert call.headers["x-session-affinity"] == "conversation-1"
    call = encode(
        caching=Caching(key="k\r\nx: y"),
        quirks={"send_session_affinity": True, "session_affinity_format": "openrouter"},
    )
    assert call.headers["x-session-id"].isalnum()


def test_trap_177_structured_output(encode: Any) -> None:
    wanted = ResponseFormat(kind="json_schema", name="n", schema={"type": "object"})
    call = encode(response_format=wanted, quirks={"supports_output_format": True})
    assert call.body["output_config"] == {
        "format": {"type": "json_schema", "schema": {"type": "object"}}
    }
    assert call.losses == ()
    call = encode(response_format=wanted)
    assert '{"type":"object"}' in call.body["system"][-1]["text"]
    assert codes(call, "response_format") == [LossCode.EMULATED]
    call = encode(response_format=ResponseFormat(kind="json_object"))
    assert "JSON object" in call.body["system"][-1]["text"]


def test_trap_178_documents_by_their_type(encode: Any) -> None:
    text = base64.b64encode(b"# Title").decode()
    call = encode(
        user(
            Document(source=Base64(media_type="application/pdf", data="JVBE"), filename="a.pdf"),
            Document(source=Base64(media_type="text/markdown", data=text), citations=True),
            Document(source=Url(url="https://x.test/a.pdf")),
        )
    )
    pdf, markdown, link = call.body["messages"][0]["content"]
    assert pdf["source"]["type"] == "base64"
    assert pdf["title"] == "a.pdf"
    assert markdown["source"] == {"type": "text", "media_type": "text/plain", "data": "# Title"}
    assert markdown["citations"] == {"enabled": True}
    assert link["source"] == {"type": "url", "url": "https://x.test/a.pdf"}


@pytest.mark.parametrize(
    "part",
    [
        Audio(source=Base64(media_type="audio/wav", data="UklGRg==")),
        Image(source=Base64(media_type="image/tiff", data="SUkq")),
        Document(source=Base64(media_type="application/msword", data="0M8R")),
        Opaque(protocol="openai-responses", value={"type": "compaction"}),
    ],
)
def test_trap_178_content_that_cannot_be_carried_is_refused(encode: Any, part: Any) -> None:
    with pytest.raises(UnsupportedContent) as raised:
        encode(user("x", part))
    assert raised.value.param == "messages[0].parts[1]"


def test_image_labels_are_corrected(encode: Any) -> None:
    call = encode(user(Image(source=Base64(media_type="image/jpeg", data=PNG))))
    assert call.body["messages"][0]["content"][0]["source"]["media_type"] == "image/png"


def test_trap_174_blank_stop_sequences(encode: Any) -> None:
    call = encode(sampling=Sampling(stop=("END", "\n")))
    assert call.body["stop_sequences"] == ["END"]
    assert codes(call, "sampling.stop") == [LossCode.DROPPED]


def test_trap_180_service_tiers(encode: Any) -> None:
    assert encode(service_tier="default").body["service_tier"] == "standard_only"
    assert codes(encode(service_tier="flex"), "service_tier") == [LossCode.DROPPED]


def test_trap_181_user_ids_are_hashed(encode: Any) -> None:
    first = encode(end_user_id="jo@example.test").body["metadata"]["user_id"]
    assert first == encode(end_user_id="jo@example.test").body["metadata"]["user_id"]
    assert "jo" not in first
    kept = encode(end_user_id="u-1", dialect="anthropic-messages")
    assert kept.body["metadata"] == {"user_id": "u-1"}


def test_every_unknown_knob_is_listed(encode: Any) -> None:
    call = encode(
        sampling=Sampling(
            seed=1,
            min_p=0.1,
            presence_penalty=1.0,
            frequency_penalty=1.0,
            repetition_penalty=1.0,
            logit_bias={"1": 1.0},
            logprobs=True,
            top_logprobs=3,
            max_output_tokens=99_999,
        ),
        verbosity="low",
        store=True,
        metadata={"team": "a"},
        extra={"web_search_options": {}},
    )
    assert {loss.path for loss in call.losses if loss.is_lossy} == {
        "sampling.seed",
        "sampling.min_p",
        "sampling.presence_penalty",
        "sampling.frequency_penalty",
        "sampling.repetition_penalty",
        "sampling.logit_bias",
        "sampling.logprobs",
        "sampling.top_logprobs",
        "sampling.max_output_tokens",
        "verbosity",
        "store",
        "metadata.team",
        "extra.web_search_options",
    }
    assert "web_search_options" not in call.body


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"sampling": Sampling(n=2)}, "sampling.n"),
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"conversation": "conv_1"}, "conversation"),
    ],
)
def test_what_would_change_the_answer_is_refused(encode: Any, fields: Any, param: str) -> None:
    with pytest.raises(UnsupportedParameter) as raised:
        encode(**fields)
    assert raised.value.param == param


def test_eager_streaming_is_a_field_or_a_beta(encode: Any) -> None:
    tools = (Tool(name="f", extra={"eager_input_streaming": True, "defer_loading": True}),)
    call = encode(tools=tools, dialect="anthropic-messages")
    assert call.body["tools"][0]["eager_input_streaming"] is True
    call = encode(
        tools=tools,
        dialect="anthropic-messages",
        quirks={"supports_eager_tool_input_streaming": False},
    )
    assert "eager_input_streaming" not in call.body["tools"][0]
    assert call.headers["anthropic-beta"] == "fine-grained-tool-streaming-2025-05-14"


def test_trap_071_foreign_tool_fields_are_listed(encode: Any) -> None:
    call = encode(tools=(Tool(name="f", extra={"defer_loading": True}),))
    assert codes(call, "tools[0].defer_loading") == [LossCode.DROPPED]


def test_own_extras_pass_and_fallbacks_need_permission(encode: Any) -> None:
    extra = {
        "container": "c",
        "betas": ["b-1", "b-1"],
        "fallbacks": [{"model": "allowed"}, {"model": "other"}],
        "thread": {"id": "t"},
    }
    call = encode(
        dialect="anthropic-messages",
        extra=extra,
        quirks={"allowed_fallback_models": ("allowed",)},
    )
    assert call.body["container"] == "c"
    assert call.body["fallbacks"] == [{"model": "allowed"}]
    assert "thread" not in call.body
    assert call.headers["anthropic-beta"] == "b-1,server-side-fallback-2026-07-01"


def test_own_dialect_round_trip(spec: Spec, check_params: Any) -> None:
    body: JSONDict = {
        "model": "claude-test",
        "max_tokens": 5000,
        "system": [{"type": "text", "text": "s", "cache_control": {"type": "ephemeral"}}],
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "u"}]},
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": "t", "signature": "c2ln"},
                    {"type": "text", "text": "x"},
                    {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}},
                    {
                        "type": "tool_use",
                        "id": "toolu_1",
                        "name": "f",
                        "input": {"a": [1]},
                        "caller": {"type": "code_execution_20250825", "tool_id": "s"},
                    },
                ],
            },
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "tool_use_id": "toolu_1", "content": "r"},
                    {
                        "type": "search_result",
                        "source": "https://x.test",
                        "title": "T",
                        "content": [{"type": "text", "text": "c"}],
                        "citations": {"enabled": True},
                    },
                ],
            },
        ],
        "tools": [
            {"name": "f", "input_schema": {"type": "object", "properties": {}}},
            {"type": "web_search_20250305", "name": "web_search"},
        ],
        "thinking": {"type": "enabled", "budget_tokens": 2000},
        "metadata": {"user_id": "u"},
        "stream": True,
    }
    check_params(body)
    request = CODEC.decode_request(body, ClientCall())
    call = CODEC.encode_request(request, spec(), request_id="r")
    assert call.body == body
    assert call.losses == ()


def test_count_request_holds_the_prompt_only(spec: Spec) -> None:
    body = {
        "model": "m",
        "messages": [{"role": "user", "content": "x"}],
        "thinking": {"type": "enabled", "budget_tokens": 2000},
    }
    request = CODEC.decode_count_request(body, ClientCall())
    call = CODEC.encode_count_request(request, spec(), request_id="r")
    assert call.path == "/v1/messages/count_tokens"
    assert call.body.keys() == {"model", "messages", "thinking"}
    assert CODEC.decode_count(b'{"input_tokens": 12}') == 12


def test_trap_050_and_167_the_same_request_gives_the_same_bytes(encode: Any) -> None:
    arguments: dict[str, Any] = {
        "tools": (Tool(name="a.b"), Tool(name="z")),
        "caching": Caching(retention="short"),
    }
    assert encode(**arguments).body == encode(**arguments).body
