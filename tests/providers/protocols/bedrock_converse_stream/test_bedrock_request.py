"""Canonical requests as Converse calls, judged by botocore's shapes and serializer."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import pytest

from controlplane.kit.json import JSONDict, dumps, loads
from providers.protocols.bedrock_converse_stream import CODEC
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

PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAA"
OWN = Signature(
    value="c2ln", protocol="bedrock-converse-stream", model="us.anthropic.claude-x-v1:0"
)
OTHER_MODEL = {"quirks": {"is_claude": False}, "model": {"id": "openai.gpt-oss-120b-1:0"}}


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
def encode(spec: Any, check_call: Callable[[UpstreamCall], None]) -> Callable[..., UpstreamCall]:
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
        call = CODEC.encode_request(request, spec(quirks=quirks, **(model or {})), request_id="r")
        check_call(call)
        # What goes over the wire is JSON.
        assert loads(dumps(call.body)) == call.body
        return call

    return run


def codes(call: UpstreamCall, path: str) -> list[LossCode]:
    return [loss.code for loss in call.losses if loss.path == path]


def blocks(call: UpstreamCall, index: int) -> list[JSONDict]:
    content: list[JSONDict] = call.body["messages"][index]["content"]
    return content


def kinds(call: UpstreamCall, index: int) -> list[str]:
    return [next(iter(block)) for block in blocks(call, index)]


def test_the_simplest_request_loses_nothing(encode: Any) -> None:
    call = encode()
    assert call.path == "/model/us.anthropic.claude-x-v1%3A0/converse"
    assert call.losses == ()
    assert call.body == {
        "messages": [{"role": "user", "content": [{"text": "hi"}]}],
        "inferenceConfig": {"maxTokens": 32000},
    }


def test_trap_190_model_ids_are_percent_encoded(encode: Any) -> None:
    arn = "arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.meta.llama4"
    call = encode(model={"id": arn}, stream=True)
    assert call.path == (
        "/model/arn%3Aaws%3Abedrock%3Aus-east-1%3A123456789012%3Ainference-profile%2Fus.meta.llama4"
        "/converse-stream"
    )


def test_content(encode: Any) -> None:
    call = encode(
        user(
            "see",
            Image(source=Base64(media_type="image/png", data=PNG)),
            Document(
                source=Base64(media_type="application/pdf", data="JVBE"),
                filename="Q3: report_(final).pdf",
                citations=True,
                context="old",
            ),
            Video(source=Url(url="s3://bucket/clip.mp4")),
            Audio(source=Base64(media_type="audio/wav", data="UklGRg==")),
        )
    )
    assert kinds(call, 0) == ["text", "image", "document", "video", "audio"]
    document = blocks(call, 0)[2]["document"]
    assert document["name"] == "Q3 report (final) 1"
    assert document["format"] == "pdf"
    assert blocks(call, 0)[3]["video"]["source"] == {"s3Location": {"uri": "s3://bucket/clip.mp4"}}


def test_a_document_alone_gets_a_text(encode: Any) -> None:
    text = base64.b64encode(b"x").decode()
    call = encode(user(Document(source=Base64(media_type="text/plain", data=text))))
    assert kinds(call, 0) == ["document", "text"]
    assert codes(call, "messages") == [LossCode.SYNTHESISED]


def test_trap_010_image_only_message_gets_no_text(encode: Any) -> None:
    assert kinds(encode(user(Image(source=Base64(media_type="image/png", data=PNG)))), 0) == [
        "image"
    ]


@pytest.mark.parametrize(
    "part",
    [
        Image(source=Url(url="https://x.test/a.png", media_type="image/png")),
        Image(source=FileId(id="f", media_type="image/png")),
        Image(source=Base64(media_type="image/tiff", data="SUkq")),
        Document(source=Base64(media_type="application/zip", data="UEsD")),
        Opaque(protocol="anthropic-messages", value={"type": "container_upload"}),
    ],
)
def test_trap_178_content_that_cannot_be_carried_is_refused(encode: Any, part: Any) -> None:
    with pytest.raises(UnsupportedContent) as raised:
        encode(user("x", part))
    assert raised.value.param == "messages[0].parts[1]"


def test_trap_004_005_014_results_are_one_user_turn_results_first(encode: Any) -> None:
    call = encode(
        user("a"),
        assistant("b", ToolCall(id="t1", name="f"), ToolCall(id="t2", name="g")),
        user("wait"),
        results(result("t2", "two", is_error=True)),
        user("c"),
        tools=(Tool(name="f"), Tool(name="g")),
    )
    assert [m["role"] for m in call.body["messages"]] == ["user", "assistant", "user"]
    assert kinds(call, 2) == ["toolResult", "toolResult", "text", "text"]
    first, second = (block["toolResult"] for block in blocks(call, 2)[:2])
    assert (first["toolUseId"], first["status"]) == ("t1", "error")
    assert second == {"toolUseId": "t2", "content": [{"text": "two"}], "status": "error"}


def test_trap_008_and_009_empty_content_is_not_sent(encode: Any) -> None:
    call = encode(user("a"), assistant(" "), user("b", "\n"))
    assert call.body["messages"] == [{"role": "user", "content": [{"text": "a"}, {"text": "b"}]}]


@pytest.mark.parametrize("call_id", ["a" * 65, "call|item/" + "x" * 450, "a.b:c"])
@pytest.mark.parametrize("is_claude", [True, False])
def test_trap_029_ids(encode: Any, call_id: str, is_claude: bool) -> None:
    call = encode(
        user("a"),
        assistant(ToolCall(id=call_id, name="f")),
        results(result(call_id, "r")),
        tools=(Tool(name="f"),),
        quirks={"is_claude": is_claude},
    )
    wire = blocks(call, 1)[0]["toolUse"]["toolUseId"]
    assert wire == blocks(call, 2)[0]["toolResult"]["toolUseId"]
    assert len(wire) <= 64
    assert (wire == call_id) == (call_id == "a.b:c" and not is_claude)


def test_trap_046_and_047_arguments(encode: Any) -> None:
    call = encode(
        user("a"),
        assistant(
            ToolCall(id="t1", name="f", arguments='{"": 1, "in": [{"": {"": 2}}]}'),
            ToolCall(id="t2", name="f", arguments="oops"),
        ),
        results(result("t1", "r"), result("t2", "r")),
        tools=(Tool(name="f"),),
    )
    first, second = (block["toolUse"]["input"] for block in blocks(call, 1))
    assert first == {"_": 1, "in": [{"_": {"_": 2}}]}
    assert second == {"INVALID_JSON": "oops"}


def test_trap_066_and_067_names(encode: Any) -> None:
    call = encode(
        user("a"),
        assistant(ToolCall(id="t", name="a.b")),
        results(result("t", "r")),
        tools=(Tool(name="a.b", description=""),),
        tool_choice=ToolChoice(mode="named", names=("a.b",)),
    )
    config = call.body["toolConfig"]
    assert config["tools"][0]["toolSpec"]["name"] == "a_b"
    assert "description" not in config["tools"][0]["toolSpec"]
    assert config["toolChoice"] == {"tool": {"name": "a_b"}}
    assert blocks(call, 1)[0]["toolUse"]["name"] == "a_b"
    assert call.restore.names == {"a_b": "a.b"}


def test_tools_are_declared_whenever_the_history_has_calls(encode: Any) -> None:
    history = (user("a"), assistant(ToolCall(id="t", name="f")), results(result("t", "r")))
    call = encode(*history)
    assert call.body["toolConfig"]["tools"][0]["toolSpec"]["name"] == "f"
    assert codes(call, "tools") == [LossCode.SYNTHESISED]
    call = encode(*history, tools=(Tool(name="f"),), tool_choice=ToolChoice(mode="none"))
    assert "toolChoice" not in call.body["toolConfig"]
    assert codes(call, "tool_choice") == [LossCode.DROPPED]
    call = encode(tools=(Tool(name="f"),), tool_choice=ToolChoice(mode="none"))
    assert "toolConfig" not in call.body
    assert call.losses == ()


@pytest.mark.parametrize(
    ("choice", "wire"),
    [
        (ToolChoice(mode="auto"), {"auto": {}}),
        (ToolChoice(mode="required"), {"any": {}}),
        (ToolChoice(mode="allowed", names=("g",)), {"auto": {}}),
    ],
)
def test_tool_choice(encode: Any, choice: ToolChoice, wire: JSONDict) -> None:
    tools = (Tool(name="f"), Tool(name="g"))
    assert encode(tools=tools, tool_choice=choice).body["toolConfig"]["toolChoice"] == wire
    call = encode(tools=tools, tool_choice=choice, quirks={"supports_tool_choice": False})
    assert "toolChoice" not in call.body["toolConfig"]


def test_strict_tools(encode: Any) -> None:
    tools = (Tool(name="f", strict=True, schema={"type": "object", "properties": {}}),)
    assert codes(encode(tools=tools), "tools[0].strict") == [LossCode.DROPPED]
    call = encode(tools=tools, quirks={"supports_strict_tools": True})
    assert call.body["toolConfig"]["tools"][0]["toolSpec"]["strict"] is True


def test_trap_076_pictures_of_failed_tools(encode: Any) -> None:
    picture = Image(source=Base64(media_type="image/png", data=PNG))
    history = (
        user("a"),
        assistant(ToolCall(id="t", name="f")),
        results(ToolResult(call_id="t", content=(picture,), is_error=True)),
    )
    call = encode(*history, tools=(Tool(name="f"),))
    assert kinds(call, 2) == ["toolResult", "text", "image"]
    assert blocks(call, 2)[0]["toolResult"]["content"] == [{"text": "(no tool output)"}]
    call = encode(*history, tools=(Tool(name="f"),), quirks={"is_claude": False})
    assert kinds(call, 2) == ["toolResult"]


def test_trap_113_signatures_are_for_claude(encode: Any) -> None:
    thinking = (
        Thinking(text="hm", signature=OWN),
        Thinking(redacted=True, signature=OWN),
    )
    call = encode(user("a"), assistant(*thinking, "b"), user("c"))
    assert blocks(call, 1)[0] == {
        "reasoningContent": {"reasoningText": {"text": "hm", "signature": "c2ln"}}
    }
    assert blocks(call, 1)[1] == {"reasoningContent": {"redactedContent": "c2ln"}}
    call = encode(user("a"), assistant(*thinking, "b"), user("c"), quirks={"is_claude": False})
    assert blocks(call, 1)[0] == {"reasoningContent": {"reasoningText": {"text": "hm"}}}


def test_trap_020_and_094_foreign_reasoning_is_dropped(encode: Any) -> None:
    foreign = Signature(value="x", protocol="anthropic-messages", model="claude-x")
    call = encode(user("a"), assistant(Thinking(text="t", signature=foreign), "b"), user("c"))
    assert kinds(call, 1) == ["text"]
    assert codes(call, "messages[1].parts[0]") == [LossCode.SIGNATURE_DROPPED]


@pytest.mark.parametrize(
    ("reasoning", "quirks", "thinking", "effort"),
    [
        (Reasoning(level="low"), {}, {"type": "enabled", "budget_tokens": 2048}, None),
        (Reasoning(level="off"), {}, {"type": "disabled"}, None),
        (
            Reasoning(level="high"),
            {"force_adaptive_thinking": True},
            {"type": "adaptive"},
            "high",
        ),
    ],
)
def test_claude_thinks_through_additional_fields(
    encode: Any,
    reasoning: Reasoning,
    quirks: dict[str, Any],
    thinking: JSONDict,
    effort: str | None,
) -> None:
    call = encode(reasoning=reasoning, quirks=quirks)
    assert call.body["additionalModelRequestFields"]["thinking"] == thinking
    assert call.body.get("outputConfig", {}).get("effort") == effort


def test_trap_111_the_answer_limit_exceeds_the_budget(encode: Any) -> None:
    call = encode(reasoning=Reasoning(level="high"), sampling=Sampling(max_output_tokens=3000))
    assert call.body["additionalModelRequestFields"]["thinking"]["budget_tokens"] == 1976
    assert call.body["inferenceConfig"]["maxTokens"] == 3000


def test_trap_112_sampling_while_claude_thinks(encode: Any) -> None:
    sampling = Sampling(temperature=0.2, top_p=0.5, top_k=5)
    call = encode(sampling=sampling)
    assert call.body["inferenceConfig"]["temperature"] == 0.2
    assert call.body["additionalModelRequestFields"] == {"top_k": 5}
    call = encode(sampling=sampling, reasoning=Reasoning(level="low"))
    assert call.body["inferenceConfig"] == {"maxTokens": 32000}
    assert "top_k" not in call.body["additionalModelRequestFields"]


def test_trap_059_forced_tool_and_thinking(encode: Any) -> None:
    call = encode(
        tools=(Tool(name="f"),),
        tool_choice=ToolChoice(mode="required"),
        reasoning=Reasoning(level="low"),
    )
    assert call.body["additionalModelRequestFields"]["thinking"] == {"type": "disabled"}
    assert call.body["toolConfig"]["toolChoice"] == {"any": {}}
    call = encode(
        tools=(Tool(name="f"),),
        tool_choice=ToolChoice(mode="required"),
        reasoning=Reasoning(level="low"),
        model={"levels": {"off": None}},
    )
    assert "toolChoice" not in call.body["toolConfig"]


def test_thinking_that_the_client_dropped_in_a_tool_loop(encode: Any) -> None:
    call = encode(
        user("a"),
        assistant(ToolCall(id="t", name="f")),
        results(result("t", "r")),
        tools=(Tool(name="f"),),
        reasoning=Reasoning(level="low"),
    )
    assert call.body["additionalModelRequestFields"]["thinking"] == {"type": "disabled"}
    assert codes(call, "reasoning") == [LossCode.DROPPED]


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        ("reasoning", {"reasoning": {"effort": "high"}}),
        ("reasoning_effort", {"reasoning_effort": "high"}),
        ("thinking", {"thinking": {"type": "enabled", "budget_tokens": 16384}}),
        (None, None),
    ],
)
def test_trap_114_other_models_take_an_effort(
    encode: Any, field: Any, expected: JSONDict | None
) -> None:
    call = encode(
        reasoning=Reasoning(level="high"), quirks={"is_claude": False, "reasoning_field": field}
    )
    assert call.body.get("additionalModelRequestFields") == expected
    assert codes(call, "reasoning") == ([] if expected else [LossCode.DROPPED])


def test_off_needs_a_word(encode: Any) -> None:
    quirks = {"is_claude": False, "reasoning_field": "reasoning"}
    call = encode(reasoning=Reasoning(level="off"), quirks=quirks)
    assert "additionalModelRequestFields" not in call.body
    assert codes(call, "reasoning.level") == [LossCode.CLAMPED]
    call = encode(
        reasoning=Reasoning(level="off"), quirks=quirks, model={"levels": {"off": "none"}}
    )
    assert call.body["additionalModelRequestFields"] == {"reasoning": {"effort": "none"}}


def test_trap_166_cache_points_only_where_they_exist(encode: Any) -> None:
    mark = CacheMark(ttl="1h")
    marked: dict[str, Any] = {
        "system": (SystemText(text="s", cache=mark),),
        "tools": (Tool(name="f", cache=mark), Tool(name="g")),
    }
    call = encode(user(Text(text="u", cache=CacheMark()), "v"), **marked)
    assert codes(call, "caching") == [LossCode.DROPPED]
    assert "cachePoint" not in str(call.body)
    call = encode(
        user(Text(text="u", cache=CacheMark()), "v"),
        quirks={"supports_cache_points": True},
        **marked,
    )
    point = {"cachePoint": {"type": "default", "ttl": "1h"}}
    assert call.body["system"] == [{"text": "s"}, point]
    assert call.body["toolConfig"]["tools"][1] == point
    assert blocks(call, 0) == [{"text": "u"}, {"cachePoint": {"type": "default"}}, {"text": "v"}]


def test_a_wish_for_caching_is_placed_automatically(encode: Any) -> None:
    call = encode(
        system=(SystemText(text="s"),),
        tools=(Tool(name="f"),),
        caching=Caching(retention="short"),
        quirks={"supports_cache_points": True},
    )
    point = {"cachePoint": {"type": "default"}}
    assert call.body["system"][-1] == point
    assert call.body["toolConfig"]["tools"][-1] == point
    assert blocks(call, 0)[-1] == point


def test_at_most_four_cache_points(encode: Any) -> None:
    call = encode(
        user(*(Text(text=f"t{i}", cache=CacheMark()) for i in range(9))),
        quirks={"supports_cache_points": True},
    )
    assert kinds(call, 0).count("cachePoint") == 4


def test_trap_177_structured_output(encode: Any) -> None:
    wanted = ResponseFormat(kind="json_schema", name="n", schema={"type": "object"})
    call = encode(response_format=wanted, quirks={"supports_output_format": True})
    assert call.body["outputConfig"]["textFormat"]["structure"] == {
        "jsonSchema": {"schema": '{"type":"object"}', "name": "n"}
    }
    call = encode(response_format=wanted)
    assert codes(call, "response_format") == [LossCode.EMULATED]


def test_prefill(encode: Any) -> None:
    call = encode(user("a"), assistant("b "))
    assert blocks(call, 1) == [{"text": "b"}]
    call = encode(user("a"), assistant("b "), quirks={"supports_prefill": False})
    assert call.body["messages"][-1]["role"] == "user"


def test_trap_012_system_only(encode: Any) -> None:
    call = encode(assistant("x"), user("y"), system=(SystemText(text="s"), SystemText(text=" ")))
    assert call.body["system"] == [{"text": "s"}]
    assert call.body["messages"][0] == {"role": "user", "content": [{"text": "Continue."}]}


def test_labels_and_sampling(encode: Any) -> None:
    call = encode(
        end_user_id="jo",
        metadata={"team": "a b", "bad": "ü", "x" * 300: "y"},
        service_tier="flex",
        sampling=Sampling(temperature=1.9, stop=("END", " "), max_output_tokens=0),
    )
    assert call.body["serviceTier"] == {"type": "flex"}
    assert call.body["requestMetadata"]["team"] == "a b"
    assert "jo" not in call.body["requestMetadata"]["user_id"]
    assert call.body["inferenceConfig"] == {
        "maxTokens": 1,
        "temperature": 1.0,
        "stopSequences": ["END"],
    }
    assert call.body["additionalModelResponseFieldPaths"] == ["/stop_sequence"]
    assert codes(call, "metadata.bad") == [LossCode.DROPPED]


def test_every_unknown_knob_is_listed(encode: Any) -> None:
    call = encode(
        sampling=Sampling(seed=1, top_k=3, logit_bias={"1": 1.0}, logprobs=True),
        parallel_tool_calls=False,
        tools=(Tool(name="f"),),
        verbosity="low",
        store=True,
        service_tier="odd",
        caching=Caching(key="k"),
        extra={"user_location": {}},
        **OTHER_MODEL,
    )
    assert {loss.path for loss in call.losses if loss.is_lossy} == {
        "sampling.seed",
        "sampling.top_k",
        "sampling.logit_bias",
        "sampling.logprobs",
        "parallel_tool_calls",
        "verbosity",
        "store",
        "service_tier",
        "caching.key",
        "extra.user_location",
    }


def test_n_is_refused(encode: Any) -> None:
    with pytest.raises(UnsupportedParameter) as raised:
        encode(sampling=Sampling(n=3))
    assert raised.value.param == "sampling.n"


def test_search_results_travel_whole(encode: Any, spec: Any) -> None:
    from providers.protocols.anthropic_messages import CODEC as ANTHROPIC
    from providers.protocols.codec import ClientCall

    block = {
        "type": "search_result",
        "source": "https://x.test",
        "title": "T",
        "content": [{"type": "text", "text": "c"}],
        "citations": {"enabled": True},
    }
    request = ANTHROPIC.decode_request(
        {"model": "m", "max_tokens": 5, "messages": [{"role": "user", "content": [block]}]},
        ClientCall(),
    )
    call = encode(*request.messages)
    assert blocks(call, 0) == [
        {
            "searchResult": {
                "source": "https://x.test",
                "title": "T",
                "content": [{"text": "c"}],
                "citations": {"enabled": True},
            }
        }
    ]
