"""What is sent to Mistral, and what is reported as lost."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.kit.json import JSONDict
from providers.protocols.canonical import (
    Audio,
    Base64,
    CacheMark,
    Caching,
    Document,
    FileId,
    Image,
    Message,
    ModelSpec,
    Opaque,
    Part,
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
from providers.protocols.mistral_conversations import CODEC
from providers.protocols.mistral_conversations.ids import CallIds, short_id
from providers.protocols.quirks import Quirks

SLUG = "mistral-conversations"
PNG = Base64(media_type="image/png", data="AA==")


def spec(
    levels: dict[str, str | None] | None = None, reasoning: bool = True, **quirks: Any
) -> ModelSpec:
    return ModelSpec(
        id="mistral-x",
        protocol=SLUG,
        reasoning=reasoning,
        levels=levels or {},
        quirks=Quirks(**quirks),
    )


def user(*parts: Part | str) -> Message:
    return Message(
        role="user", parts=tuple(Text(text=p) if isinstance(p, str) else p for p in parts)
    )


def assistant(*parts: Part | str) -> Message:
    return Message(
        role="assistant", parts=tuple(Text(text=p) if isinstance(p, str) else p for p in parts)
    )


def tool(*results: ToolResult) -> Message:
    return Message(role="tool", parts=results)


def result(call_id: str, *content: Any, **fields: Any) -> ToolResult:
    parts = tuple(Text(text=p) if isinstance(p, str) else p for p in content)
    return ToolResult(call_id=call_id, content=parts, **fields)


def encode(*messages: Message, model: ModelSpec | None = None, **fields: Any) -> UpstreamCall:
    request = Request(
        model="alias",
        dialect=fields.pop("dialect", "anthropic-messages"),
        messages=messages or (user("hi"),),
        **fields,
    )
    return CODEC.encode_request(request, model or spec(), request_id="r")


def losses(call: UpstreamCall) -> list[tuple[str, str]]:
    return [(loss.path, loss.code.value) for loss in call.losses]


def roles(call: UpstreamCall) -> list[str]:
    return [message["role"] for message in call.body["messages"]]


def test_a_plain_request_loses_nothing() -> None:
    call = encode(
        user("hi"),
        system=(SystemText(text="be kind"),),
        sampling=Sampling(
            max_output_tokens=10, temperature=0.5, top_p=0.9, top_k=4, seed=7, stop=("a", "b"),
            presence_penalty=0.1, frequency_penalty=0.2, repetition_penalty=1.1, n=2,
        ),
        metadata={"a": "b"},
        end_user_id="u1",
        service_tier="default",
        store=False,
        stream=True,
    )  # fmt: skip
    assert call.path == "/v1/chat/completions"
    assert call.stream
    assert (call.query, call.headers, call.losses) == ({}, {}, ())
    assert call.body == {
        "model": "mistral-x",
        "messages": [
            {"role": "system", "content": "be kind"},
            {"role": "user", "content": "hi"},
        ],
        "stream": True,
        "max_tokens": 10, "temperature": 0.5, "top_p": 0.9, "top_k": 4, "random_seed": 7,
        "presence_penalty": 0.1, "frequency_penalty": 0.2, "repetition_penalty": 1.1, "n": 2,
        "stop": ["a", "b"],
        "metadata": {"a": "b", "user_id": "u1"},
        "service_tier": "standard",
    }  # fmt: skip


# --- ids -----------------------------------------------------------------------------------


@given(st.lists(st.text(max_size=60), max_size=30))
def test_trap_030_ids_are_nine_letters_and_digits_unique_and_found_again(ids: list[str]) -> None:
    taken = CallIds()
    wires = [taken.take(one) for one in ids]
    assert all(len(one) == 9 and one.isascii() and one.isalnum() for one in wires)
    assert len(set(wires)) == len(wires)
    assert [taken.restore.get(wire, wire) for wire in wires] == ids
    again = CallIds()
    assert [again.take(one) for one in ids] == wires


def test_a_good_id_is_left_alone() -> None:
    assert CallIds().take("AbC123xyZ") == "AbC123xyZ"
    assert short_id("a") != short_id("b")


CALLS = assistant(
    "I call",
    ToolCall(id="toolu_01A", name="f", arguments='{"x": 1}'),
    ToolCall(id="call00009", name="g", arguments=""),
)


def test_calls_and_results() -> None:
    call = encode(
        user("go"),
        CALLS,
        tool(result("call00009", "no", is_error=True), result("toolu_01A", "1")),
        user("thanks"),
    )
    wire = short_id("toolu_01A")
    # Trap 19: nothing stands between a result and the user.
    assert call.body["messages"][1:] == [
        {
            "role": "assistant",
            "content": "I call",
            "tool_calls": [
                {
                    "id": wire,
                    "type": "function",
                    "function": {"name": "f", "arguments": '{"x": 1}'},
                },
                {
                    "id": "call00009",
                    "type": "function",
                    "function": {"name": "g", "arguments": "{}"},
                },
            ],
        },
        {"role": "tool", "tool_call_id": wire, "name": "f", "content": "1"},
        {"role": "tool", "tool_call_id": "call00009", "name": "g", "content": "Error: no"},
        {"role": "user", "content": "thanks"},
    ]
    assert call.restore.call_ids == {wire: "toolu_01A"}
    assert losses(call) == [("messages[1].parts[1]", "renamed")]


def test_trap_019_an_answer_in_between_only_where_the_quirk_asks() -> None:
    turns = (user("go"), CALLS, tool(result("toolu_01A", "1"), result("call00009", "2")), user("b"))
    call = encode(*turns, model=spec(requires_assistant_after_tool_result=True))
    assert roles(call) == ["user", "assistant", "tool", "tool", "assistant", "user"]
    assert ("messages", "synthesised") in losses(call)
    assert roles(encode(*turns)) == ["user", "assistant", "tool", "tool", "user"]


@pytest.mark.parametrize(
    ("content", "text"),
    [((), "(no tool output)"), ((" \n",), "(no tool output)"), (("a", "b"), "a\nb")],
)
def test_trap_009_trap_075_empty_results(content: tuple[str, ...], text: str) -> None:
    call = encode(user("go"), assistant(ToolCall(id="a", name="f")), tool(result("a", *content)))
    assert call.body["messages"][2]["content"] == text


def test_trap_077_images_of_results_follow_the_last_result() -> None:
    call = encode(
        user("go"),
        CALLS,
        tool(result("toolu_01A", Image(source=PNG)), result("call00009", "2", Image(source=PNG))),
    )
    assert roles(call) == ["user", "assistant", "tool", "tool", "user"]
    assert call.body["messages"][2]["content"] == "(see attached image)"
    assert [chunk["type"] for chunk in call.body["messages"][4]["content"]] == [
        "text",
        "image_url",
        "image_url",
    ]
    assert ("messages", "moved") in losses(call)


def test_trap_023_text_after_a_call_follows_the_results() -> None:
    call = encode(
        user("go"),
        assistant("before", ToolCall(id="a", name="f"), "after"),
        tool(result("a", "1")),
        user("b"),
    )
    assert roles(call) == ["user", "assistant", "tool", "assistant", "user"]
    assert call.body["messages"][1]["content"] == "before"
    assert call.body["messages"][3]["content"] == "after"
    assert ("messages[1].parts[2]", "moved") in losses(call)


# --- turns ---------------------------------------------------------------------------------


def test_trap_008_an_assistant_turn_that_would_be_empty_is_left_out() -> None:
    foreign = Signature(value="s", protocol="anthropic-messages")
    call = encode(user("a"), assistant(Thinking(text="t", signature=foreign)), user("b"))
    assert roles(call) == ["user", "user"]
    assert losses(call) == [("messages[1].parts[0]", "signature_dropped")]


def test_an_assistant_turn_at_the_end_is_a_prefix() -> None:
    assert encode(user("a"), assistant("Sure:")).body["messages"][-1] == {
        "role": "assistant",
        "content": "Sure:",
        "prefix": True,
    }
    assert "prefix" not in encode(user("a"), CALLS).body["messages"][-1]


def test_system_messages_keep_their_place() -> None:
    call = encode(user("a"), Message(role="system", parts=(Text(text="rule"),)), user("b"))
    assert roles(call) == ["user", "system", "user"]
    assert call.losses == ()


def own(value: str = "unsigned", model: str = "mistral-x") -> Signature:
    return Signature(value=value, protocol=SLUG, model=model)


def test_trap_101_thoughts_are_one_leading_chunk() -> None:
    call = encode(
        user("a"),
        assistant(
            Thinking(text="one", signature=own()),
            "so",
            Thinking(text="two", signature=own("sig")),
            ToolCall(id="a", name="f"),
        ),
        tool(result("a", "1")),
    )
    assert call.body["messages"][1]["content"] == [
        {
            "type": "thinking",
            "thinking": [{"type": "text", "text": "one\n\ntwo"}],
            "closed": True,
            "signature": "sig",
        },
        {"type": "text", "text": "so"},
    ]
    unsigned = encode(user("a"), assistant(Thinking(text="t", signature=own()), "so"), user("b"))
    assert "signature" not in unsigned.body["messages"][1]["content"][0]
    assert unsigned.losses == ()


@pytest.mark.parametrize(
    "signature", [None, own(model="mistral-y"), Signature(value="s", protocol="google-vertex")]
)
def test_trap_020_thoughts_of_others_are_dropped(signature: Signature | None) -> None:
    call = encode(user("a"), assistant(Thinking(text="t", signature=signature), "so"), user("b"))
    assert call.body["messages"][1]["content"] == "so"
    assert losses(call) == [("messages[1].parts[0]", "signature_dropped")]


@pytest.mark.parametrize(
    ("part", "chunk"),
    [
        (
            Image(source=PNG),
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}},
        ),
        (
            Image(source=Url(url="https://x/a.png"), detail="low"),
            {"type": "image_url", "image_url": {"url": "https://x/a.png", "detail": "low"}},
        ),
        (
            Document(source=Url(url="https://x/a.pdf"), filename="a.pdf"),
            {"type": "document_url", "document_url": "https://x/a.pdf", "document_name": "a.pdf"},
        ),
        (
            Document(source=Base64(media_type="application/pdf", data="AA==")),
            {"type": "document_url", "document_url": "data:application/pdf;base64,AA=="},
        ),
        (Document(source=FileId(id="f1")), {"type": "file", "file_id": "f1"}),
        (
            Audio(source=Base64(media_type="audio/wav", data="AA==")),
            {"type": "input_audio", "input_audio": "AA=="},
        ),
        (
            Audio(source=Url(url="https://x/a.mp3")),
            {"type": "input_audio", "input_audio": "https://x/a.mp3"},
        ),
        (
            Opaque(protocol=SLUG, value={"type": "reference", "reference_ids": [1]}),
            {"type": "reference", "reference_ids": [1]},
        ),
    ],
)
def test_trap_178_media(part: Part, chunk: JSONDict) -> None:
    call = encode(user(part))
    assert call.body["messages"][0]["content"] == [chunk]
    assert call.losses == ()


@pytest.mark.parametrize(
    ("message", "param"),
    [
        (user("a", Video(source=Url(url="https://x/a.mp4"))), "messages[0].parts[1]"),
        (user(Image(source=FileId(id="file-1"))), "messages[0].parts[0]"),
        (user(Opaque(protocol="openai-responses", value={})), "messages[0].parts[0]"),
        (assistant("a", Image(source=PNG)), "messages[0].parts[1]"),
        (Message(role="system", parts=(Image(source=PNG),)), "messages[0].parts[0]"),
        (user(ToolCall(id="a", name="f")), "messages[0].parts[0]"),
    ],
)
def test_content_that_cannot_be_carried_is_refused(message: Message, param: str) -> None:
    with pytest.raises(UnsupportedContent) as caught:
        encode(message)
    assert caught.value.param == param


def test_marks_are_reported() -> None:
    call = encode(
        user(Text(text="a", cache=CacheMark()), Document(source=PNG, title="T", citations=True)),
        assistant(
            Refusal(text="no"),
            Text(text="b", phase="x", signature=own(), citations=({"a": 1},)),
        ),
        Message(role="user", parts=(Text(text="c"),), name="bob"),
        system=(SystemText(text="s", cache=CacheMark()),),
    )
    assert sorted(losses(call)) == [
        ("messages[0].parts[0].cache", "dropped"),
        ("messages[0].parts[1]", "moved"),
        ("messages[0].parts[1].citations", "dropped"),
        ("messages[1].parts[1]", "signature_dropped"),
        ("messages[1].parts[1].citations", "dropped"),
        ("messages[1].parts[1].phase", "dropped"),
        ("messages[2].name", "dropped"),
        ("system[0].cache", "dropped"),
    ]
    assert call.body["messages"][2]["content"] == [
        {"type": "text", "text": "no"},
        {"type": "text", "text": "b"},
    ]


# --- tools ---------------------------------------------------------------------------------


def test_declarations() -> None:
    tools = (
        Tool(name="f", description="d", schema={"type": "object"}, strict=True, cache=CacheMark()),
        Tool(name="g", strict=False, extra={"defer_loading": True}),
        Tool(name="p", kind="custom", grammar={"syntax": "lark"}),
        Tool(name="w", kind="builtin", builtin={"type": "web_search"}, builtin_protocol="x"),
        Tool(name="i", kind="builtin", builtin={"type": "image_generation"}, builtin_protocol=SLUG),
        Tool(name="f"),
    )
    call = encode(tools=tools, parallel_tool_calls=False)
    functions = [tool["function"] for tool in call.body["tools"] if "function" in tool]
    assert functions[0] == {"name": "f", "description": "d", "parameters": {"type": "object"}}
    assert functions[1] == {"name": "g", "parameters": {"type": "object", "properties": {}}}
    assert list(functions[2]["parameters"]["properties"]) == ["input"]
    assert call.body["tools"][3] == {"type": "image_generation"}
    assert call.body["parallel_tool_calls"] is False
    assert call.restore.custom == {"p"}
    assert losses(call) == [
        ("tools[5]", "dropped"),
        ("tools[0].strict", "dropped"),
        ("tools[0].cache", "dropped"),
        ("tools[1].defer_loading", "dropped"),
        ("tools[2]", "emulated"),
        ("tools[3]", "dropped"),
    ]
    strict = encode(tools=tools[:2], model=spec(supports_strict_tools=True))
    # Trap 60: a boolean or nothing.
    assert [tool["function"].get("strict") for tool in strict.body["tools"]] == [True, False]


def test_trap_066_trap_067_names_are_made_valid_everywhere_and_restored() -> None:
    call = encode(
        user("go"),
        assistant(ToolCall(id="a", name="a.b"), ToolCall(id="b", name="run", namespace="sh")),
        tool(result("a", "1"), result("b", "2")),
        tools=(Tool(name="a.b"), Tool(name="run", namespace="sh")),
        tool_choice=ToolChoice(mode="named", names=("a.b",)),
    )
    assert [t["function"]["name"] for t in call.body["tools"]] == ["a_b", "sh__run"]
    assert [c["function"]["name"] for c in call.body["messages"][1]["tool_calls"]] == [
        "a_b",
        "sh__run",
    ]
    assert [m["name"] for m in call.body["messages"][2:]] == ["a_b", "sh__run"]
    assert call.body["tool_choice"] == {"type": "function", "function": {"name": "a_b"}}
    assert call.restore.names == {"a_b": "a.b"}
    assert call.restore.namespaces == {"sh__run": ("sh", "run")}


def test_trap_070_free_text_calls_stay_in_the_history() -> None:
    call = encode(
        user("go"),
        assistant(ToolCall(id="a", name="p", kind="custom", arguments='say "x"')),
        tool(result("a", "1")),
    )
    function = call.body["messages"][1]["tool_calls"][0]["function"]
    assert function["arguments"] == '{"input":"say \\"x\\""}'


@pytest.mark.parametrize(
    ("choice", "wire", "lost"),
    [
        (ToolChoice(mode="auto"), "auto", []),
        (ToolChoice(mode="none"), "none", []),
        (ToolChoice(mode="required"), "required", []),
        (
            ToolChoice(mode="named", names=("f",)),
            {"type": "function", "function": {"name": "f"}},
            [],
        ),
        (
            ToolChoice(mode="allowed", names=("g",), allowed_mode="required"),
            "required",
            ["emulated"],
        ),
    ],
)
def test_trap_056_tool_choice(choice: ToolChoice, wire: Any, lost: list[str]) -> None:
    call = encode(tools=(Tool(name="f"), Tool(name="g")), tool_choice=choice)
    assert call.body["tool_choice"] == wire
    assert [code for _, code in losses(call)] == lost
    names = [tool["function"]["name"] for tool in call.body["tools"]]
    assert names == (["g"] if lost else ["f", "g"])


# --- knobs ---------------------------------------------------------------------------------


LEVELS: dict[str, str | None] = {"off": "none", "minimal": None, "low": None, "medium": None}


@pytest.mark.parametrize(
    ("reasoning", "levels", "sent", "lost"),
    [
        (Reasoning(level="high"), LEVELS, {"reasoning_effort": "high"}, []),
        (Reasoning(level="off"), LEVELS, {"reasoning_effort": "none"}, []),
        (Reasoning(level="low"), LEVELS, {"reasoning_effort": "high"}, ["reasoning.level"]),
        (
            Reasoning(budget_tokens=9000),
            LEVELS,
            {"reasoning_effort": "high"},
            ["reasoning.budget_tokens"],
        ),
        (Reasoning(level="off"), {"off": None}, {}, ["reasoning.level"]),
        (Reasoning(adaptive=True), {}, {"prompt_mode": "reasoning"}, []),
        (Reasoning(level="low"), {}, {"prompt_mode": "reasoning"}, ["reasoning.level"]),
        (Reasoning(level="off"), {}, {}, []),
        (
            Reasoning(level="high", show=False),
            LEVELS,
            {"reasoning_effort": "high"},
            ["reasoning.show"],
        ),
        (
            Reasoning(level="high", show=True, summary="auto"),
            LEVELS,
            {"reasoning_effort": "high"},
            [],
        ),
        (
            Reasoning(level="high", summary="concise"),
            LEVELS,
            {"reasoning_effort": "high"},
            ["reasoning.summary"],
        ),
    ],
)
def test_reasoning(
    reasoning: Reasoning, levels: dict[str, str | None], sent: JSONDict, lost: list[str]
) -> None:
    call = encode(reasoning=reasoning, model=spec(levels))
    assert {k: call.body[k] for k in ("reasoning_effort", "prompt_mode") if k in call.body} == sent
    assert [path for path, _ in losses(call)] == lost


def test_a_model_that_does_not_reason() -> None:
    call = encode(reasoning=Reasoning(level="high"), model=spec(reasoning=False))
    assert set(call.body) == {"model", "messages"}
    assert losses(call) == [("reasoning", "dropped")]


def test_trap_177_response_formats() -> None:
    def sent(wish: ResponseFormat) -> Any:
        return encode(response_format=wish).body["response_format"]

    assert sent(ResponseFormat(kind="text")) == {"type": "text"}
    assert sent(ResponseFormat(kind="json_object")) == {"type": "json_object"}
    schema: JSONDict = {"type": "object"}
    assert sent(ResponseFormat(kind="json_schema", schema=schema)) == {
        "type": "json_schema",
        "json_schema": {"name": "response", "schema": schema},
    }
    assert sent(
        ResponseFormat(kind="json_schema", name="n", schema=schema, strict=True, description="d")
    )["json_schema"] == {"name": "n", "schema": schema, "strict": True, "description": "d"}


@pytest.mark.parametrize(("key", "header"), [("conv-1", "conv-1"), ("a b\r\nX: y", None)])
def test_a_cache_key_is_sent_twice_and_never_breaks_a_header(key: str, header: str | None) -> None:
    call = encode(caching=Caching(key=key))
    assert call.body["prompt_cache_key"] == key
    affinity = call.headers["x-affinity"]
    assert affinity == header if header else affinity.isalnum()
    off = encode(caching=Caching(key=key), model=spec(supports_prompt_cache_key="disabled"))
    assert off.headers == {}
    assert losses(off) == [("caching.key", "dropped")]


def test_every_knob_that_mistral_lacks_is_reported() -> None:
    call = encode(
        sampling=Sampling(min_p=0.1, logit_bias={"1": 1.0}),
        verbosity="low",
        caching=Caching(retention="long"),
        store=True,
        service_tier="flex",
        extra={"safetySettings": [], "safe_prompt": True, "prediction": {"type": "content"}},
    )
    assert sorted(path for path, _ in losses(call)) == [
        "caching.retention",
        "extra.safetySettings",
        "sampling.logit_bias",
        "sampling.min_p",
        "service_tier",
        "store",
        "verbosity",
    ]
    assert call.body["safe_prompt"] is True
    assert call.body["prediction"] == {"type": "content"}
    assert set(call.body) == {"model", "messages", "safe_prompt", "prediction"}


@pytest.mark.parametrize(
    ("quirks", "sent", "lost"),
    [
        ({"supports_temperature": False}, {"top_p"}, ["sampling.temperature"]),
        ({"supports_top_p_with_temperature": False}, {"temperature"}, ["sampling.top_p"]),
    ],
)
def test_sampling_quirks(quirks: dict[str, Any], sent: set[str], lost: list[str]) -> None:
    call = encode(sampling=Sampling(temperature=1.0, top_p=0.5), model=spec(**quirks))
    assert set(call.body) - {"model", "messages"} == sent
    assert [path for path, _ in losses(call)] == lost


@pytest.mark.parametrize("field", ["previous_response_id", "conversation"])
def test_state_that_mistral_does_not_keep_is_refused(field: str) -> None:
    with pytest.raises(UnsupportedParameter) as caught:
        encode(**{field: "x"})
    assert caught.value.param == field


def test_a_named_choice_without_a_name_is_refused() -> None:
    with pytest.raises(UnsupportedParameter):
        encode(tool_choice=ToolChoice(mode="named"))
