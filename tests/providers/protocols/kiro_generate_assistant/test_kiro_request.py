"""Canonical requests as Kiro conversation states."""

from __future__ import annotations

import base64
import uuid
from typing import Any

import pytest

from controlplane.kit.json import JSONDict, dumps, loads
from providers.protocols.canonical import (
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
from providers.protocols.codec import UpstreamCall
from providers.protocols.errors import UnsupportedContent, UnsupportedParameter
from providers.protocols.kiro_generate_assistant import CODEC
from providers.protocols.losses import LossCode

PICTURE = Image(source=Base64(media_type="image/png", data="iVBORw0KGgo="))


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


def encode(*messages: Message, model: Any = None, **fields: Any) -> UpstreamCall:
    request = Request(
        **{
            "model": "alias",
            "dialect": "openai-completions",
            "messages": messages or (user("hi"),),
            **fields,
        }
    )
    spec = ModelSpec(
        **{
            "id": "claude-sonnet-4.5",
            "protocol": "kiro-generate-assistant",
            "reasoning": True,
            **(model or {}),
        }
    )
    call = CODEC.encode_request(request, spec, request_id="req_1")
    assert loads(dumps(call.body)) == call.body
    check_state(call.body["conversationState"])
    return call


def check_state(state: JSONDict) -> None:
    """The rules of the wire, whatever the request was."""
    entries = [*state["history"], state["currentMessage"]]
    for position, entry in enumerate(entries):
        (kind,) = entry
        assert kind == ("userInputMessage", "assistantResponseMessage")[position % 2]
        assert entry[kind]["content"].strip()
        if kind == "userInputMessage":
            assert entry[kind]["origin"] == "AI_EDITOR"
            assert entry[kind]["modelId"]
            is_current = position == len(entries) - 1
            context = entry[kind].get("userInputMessageContext", {})
            assert "tools" not in context or is_current
            for answer in context.get("toolResults", ()):
                assert all(part["text"].strip() for part in answer["content"])
    assert len(entries) % 2 == 1


def current(call: UpstreamCall) -> JSONDict:
    message: JSONDict = call.body["conversationState"]["currentMessage"]["userInputMessage"]
    return message


def history(call: UpstreamCall) -> list[JSONDict]:
    entries: list[JSONDict] = call.body["conversationState"]["history"]
    return entries


def tools(call: UpstreamCall) -> list[JSONDict]:
    return [tool["toolSpecification"] for tool in current(call)["userInputMessageContext"]["tools"]]


def codes(call: UpstreamCall, path: str) -> list[LossCode]:
    return [loss.code for loss in call.losses if loss.path == path]


def test_the_simplest_request_loses_nothing() -> None:
    call = encode()
    assert call.path == "/generateAssistantResponse"
    assert call.losses == ()
    assert current(call) == {
        "content": "hi",
        "modelId": "claude-sonnet-4.5",
        "origin": "AI_EDITOR",
    }
    state = call.body["conversationState"]
    assert state["chatTriggerType"] == "MANUAL"
    assert "profileArn" not in call.body


def test_trap_141_the_wire_knows_only_streams() -> None:
    assert encode(stream=False).stream is True


def test_profile_and_target_come_from_the_endpoint() -> None:
    arn = "arn:aws:codewhisperer:us-east-1:1:profile/X"
    call = encode(model={"endpoint": {"profile_arn": arn, "amz_target": "Service.Operation"}})
    assert call.body["profileArn"] == arn
    assert call.headers["x-amz-target"] == "Service.Operation"


def test_conversation_ids_are_stable_uuids() -> None:
    def identity(call: UpstreamCall) -> str:
        value = call.body["conversationState"]["conversationId"]
        assert str(uuid.UUID(value)) == value
        return str(value)

    first = identity(encode(user("a")))
    assert first == identity(encode(user("a"), assistant("b"), user("c")))
    assert first != identity(encode(user("z")))
    keyed = identity(encode(user("a"), caching=Caching(key="k")))
    assert keyed == identity(encode(user("q"), caching=Caching(key="k")))


def test_system_text_stands_in_front_of_the_first_user_message() -> None:
    call = encode(
        user("a"), assistant("b"), user("c"), system=(SystemText(text="s1"), SystemText(text="s2"))
    )
    assert history(call)[0]["userInputMessage"]["content"] == "s1\n\ns2\n\na"
    assert current(call)["content"] == "c"
    assert codes(call, "system") == [LossCode.MOVED]


def test_trap_012_and_014_alternation_and_fillers() -> None:
    call = encode(assistant("x"), assistant("y"), user("a"), user("b"))
    assert history(call)[0]["userInputMessage"]["content"] == "Continue."
    assert history(call)[1]["assistantResponseMessage"]["content"] == "x\n\ny"
    assert current(call)["content"] == "a\n\nb"
    call = encode(user("a"), assistant("b"))
    assert current(call)["content"] == "Continue"
    assert codes(call, "messages") == [LossCode.EMULATED]


def test_images_stand_in_user_messages_only() -> None:
    call = encode(
        user(PICTURE),
        assistant(ToolCall(id="t", name="f")),
        results(ToolResult(call_id="t", content=(Text(text="r"), PICTURE))),
        tools=(Tool(name="f"),),
    )
    first = history(call)[0]["userInputMessage"]
    assert first["images"] == [{"format": "png", "source": {"bytes": "iVBORw0KGgo="}}]
    assert first["content"] == "Continue"
    assert current(call)["images"] == first["images"]
    assert current(call)["content"] == "Tool results provided."
    assert codes(call, "messages[2].parts[0]") == [LossCode.MOVED]


@pytest.mark.parametrize(
    "part",
    [
        Image(source=Url(url="https://x.test/a.png")),
        Image(source=Base64(media_type="image/bmp", data="Qk0=")),
        Document(source=Base64(media_type="application/pdf", data="JVBE")),
        Opaque(protocol="anthropic-messages", value={"type": "container_upload"}),
    ],
)
def test_trap_178_content_that_cannot_be_carried_is_refused(part: Any) -> None:
    with pytest.raises(UnsupportedContent) as raised:
        encode(user("x", part))
    assert raised.value.param == "messages[0].parts[1]"


def test_text_documents_join_the_message() -> None:
    text = base64.b64encode(b"content").decode()
    call = encode(
        user(Document(source=Base64(media_type="text/plain", data=text), title="T"), "why?")
    )
    assert current(call)["content"] == "T\n\ncontent\n\nwhy?"
    assert codes(call, "messages[0].parts[0]") == [LossCode.MOVED]


def test_trap_004_045_075_079_calls_and_results() -> None:
    call = encode(
        results(result("orphan", "x")),
        user("a"),
        assistant("b", ToolCall(id="t1", name="f", arguments=""), ToolCall(id="t2", name="f")),
        results(result("t1", " ")),
        tools=(Tool(name="f"),),
    )
    reply = history(call)[1]["assistantResponseMessage"]
    assert reply == {
        "content": "b",
        "toolUses": [
            {"toolUseId": "t1", "name": "f", "input": {}},
            {"toolUseId": "t2", "name": "f", "input": {}},
        ],
    }
    assert current(call)["userInputMessageContext"]["toolResults"] == [
        {"toolUseId": "t1", "status": "success", "content": [{"text": "(no tool output)"}]},
        {"toolUseId": "t2", "status": "error", "content": [{"text": "No result provided"}]},
    ]


def test_a_turn_with_calls_only_gets_a_filler() -> None:
    call = encode(
        user("a"),
        assistant(ToolCall(id="t", name="f")),
        results(result("t", "r")),
        user("go on"),
        tools=(Tool(name="f"),),
    )
    assert history(call)[1]["assistantResponseMessage"]["content"] == "."
    assert current(call)["content"] == "go on"


def test_trap_023_text_behind_a_call_is_reported() -> None:
    call = encode(
        user("a"),
        assistant(ToolCall(id="t", name="f"), "after"),
        results(result("t", "r")),
        tools=(Tool(name="f"),),
    )
    assert history(call)[1]["assistantResponseMessage"]["content"] == "after"
    assert codes(call, "messages[1].parts[1]") == [LossCode.MOVED]


def test_tools_are_declared_in_the_current_message() -> None:
    call = encode(
        tools=(
            Tool(name="f", schema={"type": "object", "properties": {"a": {}}}, strict=True),
            Tool(name="g", description="Gets."),
        )
    )
    assert tools(call) == [
        {
            "name": "f",
            "description": "The tool f.",
            "inputSchema": {"json": {"type": "object", "properties": {"a": {}}}},
        },
        {
            "name": "g",
            "description": "Gets.",
            "inputSchema": {"json": {"type": "object", "properties": {}}},
        },
    ]
    assert codes(call, "tools[0].strict") == [LossCode.DROPPED]


def test_tools_of_the_history_are_declared() -> None:
    call = encode(user("a"), assistant(ToolCall(id="t", name="f")), results(result("t", "r")))
    assert [tool["name"] for tool in tools(call)] == ["f"]
    assert codes(call, "tools") == [LossCode.SYNTHESISED]


def test_long_descriptions_move_to_the_prompt() -> None:
    description = "é" * 6000
    call = encode(tools=(Tool(name="f", description=description),))
    assert description in current(call)["content"]
    assert len(tools(call)[0]["description"].encode()) <= 10_240
    assert codes(call, "tools[0].description") == [LossCode.MOVED]


def test_trap_066_names_are_restored_and_web_search_is_renamed() -> None:
    call = encode(
        user("a"),
        assistant(ToolCall(id="t", name="web_search")),
        results(result("t", "r")),
        tools=(Tool(name="web_search"), Tool(name="n" * 80), Tool(name="p", kind="custom")),
    )
    names = [tool["name"] for tool in tools(call)]
    assert names[0] == "remote_web_search"
    assert len(names[1]) == 64
    assert history(call)[1]["assistantResponseMessage"]["toolUses"][0]["name"] == names[0]
    assert call.restore.names == {"remote_web_search": "web_search", names[1]: "n" * 80}
    assert call.restore.custom == {"p"}


def test_web_search_keeps_its_name_when_the_other_is_taken() -> None:
    call = encode(tools=(Tool(name="web_search"), Tool(name="remote_web_search")))
    assert [tool["name"] for tool in tools(call)] == ["web_search", "remote_web_search"]
    assert call.restore.names == {}


@pytest.mark.parametrize(
    ("choice", "words"),
    [
        (ToolChoice(mode="required"), "You must call at least one of the tools now."),
        (ToolChoice(mode="named", names=("f",)), "You must call the tool f now."),
    ],
)
def test_tool_choice_is_a_hint(choice: ToolChoice, words: str) -> None:
    call = encode(tools=(Tool(name="f"),), tool_choice=choice)
    assert words in current(call)["content"]
    assert codes(call, "tool_choice") == [LossCode.EMULATED]


def test_no_tools_when_none_may_be_called() -> None:
    call = encode(tools=(Tool(name="f"),), tool_choice=ToolChoice(mode="none"))
    assert "userInputMessageContext" not in current(call)
    assert encode(tools=(Tool(name="f"),), tool_choice=ToolChoice(mode="auto")).losses == ()


@pytest.mark.parametrize(
    ("reasoning", "length"),
    [
        (Reasoning(level="medium"), 8192),
        (Reasoning(budget_tokens=100), 1024),
        (Reasoning(budget_tokens=90_000), 32_000),
        (Reasoning(adaptive=True), 16384),
    ],
)
def test_thinking_is_asked_for_in_tags(reasoning: Reasoning, length: int) -> None:
    call = encode(reasoning=reasoning, system=(SystemText(text="s"),))
    assert current(call)["content"] == (
        "<thinking_mode>enabled</thinking_mode>"
        f"<max_thinking_length>{length}</max_thinking_length>\n\ns\n\nhi"
    )


def test_thinking_off_says_nothing() -> None:
    assert current(encode(reasoning=Reasoning(level="off")))["content"] == "hi"
    call = encode(reasoning=Reasoning(level="low"), model={"reasoning": False})
    assert codes(call, "reasoning") == [LossCode.DROPPED]


def test_trap_020_earlier_thinking_is_never_replayed_as_text() -> None:
    own = Signature(value="s", protocol="kiro-generate-assistant", model="claude-sonnet-4.5")
    call = encode(user("a"), assistant(Thinking(text="secret", signature=own), "b"), user("c"))
    assert "secret" not in str(call.body)
    assert codes(call, "messages[1].parts[0]") == [LossCode.SIGNATURE_DROPPED]


def test_inference_and_every_unknown_knob() -> None:
    call = encode(
        sampling=Sampling(
            max_output_tokens=64_000, temperature=1.5, top_p=0.5, top_k=3, seed=1, stop=("END",)
        ),
        response_format=ResponseFormat(kind="json_object"),
        tools=(Tool(name="f", cache=CacheMark()),),
        parallel_tool_calls=False,
        service_tier="flex",
        end_user_id="u",
        metadata={"a": "b"},
        caching=Caching(retention="short"),
        extra={"x": 1},
    )
    assert call.body["inferenceConfig"] == {"maxTokens": 32_000, "temperature": 1.0, "topP": 0.5}
    assert {loss.path for loss in call.losses if loss.is_lossy} == {
        "sampling.max_output_tokens",
        "sampling.temperature",
        "sampling.top_k",
        "sampling.seed",
        "sampling.stop",
        "response_format",
        "tools[0].cache",
        "parallel_tool_calls",
        "service_tier",
        "end_user_id",
        "metadata.a",
        "caching",
        "extra.x",
    }


def test_n_is_refused() -> None:
    with pytest.raises(UnsupportedParameter):
        encode(sampling=Sampling(n=2))
