"""What is sent to Google, judged by the SDK's own models, and what is reported as lost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

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
from providers.protocols.codec import ClientCall, UpstreamCall
from providers.protocols.errors import UnsupportedContent, UnsupportedParameter
from providers.protocols.google_generative_ai import CODEC
from providers.protocols.losses import LossCode

Models = Callable[..., ModelSpec]
Requests = Callable[..., Request]
Check = Callable[[JSONDict], None]
SLUG = "google-generative-ai"
PNG = Base64(media_type="image/png", data="AA==")


@pytest.fixture
def encode(
    make_model: Models, make_request: Requests, check_body: Check
) -> Callable[..., UpstreamCall]:
    """Messages and fields of a request, quirks and levels of a model; the body is checked."""

    def run(*messages: Message, model: ModelSpec | None = None, **fields: Any) -> UpstreamCall:
        request = make_request(*messages, **fields)
        call = CODEC.encode_request(request, model or make_model(), request_id="r1")
        check_body(call.body)
        return call

    return run


Encode = Callable[..., UpstreamCall]


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


def losses(call: UpstreamCall) -> list[tuple[str, str]]:
    return [(loss.path, loss.code.value) for loss in call.losses]


def roles(call: UpstreamCall) -> list[str]:
    return [content["role"] for content in call.body["contents"]]


# --- where it goes -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "stream", "path"),
    [
        ("gemini-x", False, "/models/gemini-x:generateContent"),
        ("gemini-x", True, "/models/gemini-x:streamGenerateContent"),
        ("models/gemini-x", False, "/models/gemini-x:generateContent"),
        ("org/gem ini", False, "/models/org%2Fgem%20ini:generateContent"),
        ("tunedModels/mine-1", False, "/tunedModels/mine-1:generateContent"),
    ],
)
def test_trap_188_trap_190_the_path_has_the_model_and_no_version(
    encode: Encode, make_model: Models, name: str, stream: bool, path: str
) -> None:
    call = encode(model=make_model(name=name), stream=stream)
    assert call.path == path
    assert call.query == ({"alt": "sse"} if stream else {})
    assert call.stream is stream
    assert call.headers == {}
    assert "model" not in call.body


def test_a_plain_request_loses_nothing(encode: Encode) -> None:
    call = encode(
        user("hi"),
        assistant("hello"),
        user("and?"),
        system=(SystemText(text="be kind"),),
        sampling=Sampling(
            max_output_tokens=10, temperature=1.5, top_p=0.5, top_k=3, seed=4, stop=("a",) * 5,
            presence_penalty=0.5, frequency_penalty=0.25, n=2, logprobs=True, top_logprobs=2,
        ),
        store=False,
        service_tier="priority",
        parallel_tool_calls=True,
    )  # fmt: skip
    assert call.losses == ()
    assert call.body == {
        "contents": [
            {"role": "user", "parts": [{"text": "hi"}]},
            {"role": "model", "parts": [{"text": "hello"}]},
            {"role": "user", "parts": [{"text": "and?"}]},
        ],
        "systemInstruction": {"parts": [{"text": "be kind"}]},
        "generationConfig": {
            "maxOutputTokens": 10, "temperature": 1.5, "topP": 0.5, "topK": 3, "seed": 4,
            "stopSequences": ["a"] * 5, "presencePenalty": 0.5, "frequencyPenalty": 0.25,
            "candidateCount": 2, "responseLogprobs": True, "logprobs": 2,
        },
        "serviceTier": "priority",
    }  # fmt: skip


# --- turns ---------------------------------------------------------------------------------


def test_trap_012_only_a_system_prompt_gets_a_user_turn(
    make_model: Models, check_body: Check
) -> None:
    request = Request(model="a", dialect="x", system=(SystemText(text="be"),))
    call = CODEC.encode_request(request, make_model(), request_id="r")
    check_body(call.body)
    assert roles(call) == ["user"]
    assert losses(call) == [("messages", "synthesised")]


def test_trap_013_an_assistant_turn_at_the_end_is_stripped(encode: Encode) -> None:
    call = encode(user("a"), assistant("Sure:"))
    assert roles(call) == ["user"]
    assert losses(call) == [("messages", "dropped")]


def test_it_begins_with_a_user_turn(encode: Encode) -> None:
    call = encode(assistant("hello"), user("a"))
    assert roles(call) == ["user", "model", "user"]
    assert losses(call) == [("messages", "synthesised")]


def test_trap_014_turns_of_one_role_are_merged(encode: Encode) -> None:
    call = encode(user("a"), user("b"), assistant("c"), assistant("d"), user("e"))
    assert call.body["contents"] == [
        {"role": "user", "parts": [{"text": "a"}, {"text": "b"}]},
        {"role": "model", "parts": [{"text": "c"}, {"text": "d"}]},
        {"role": "user", "parts": [{"text": "e"}]},
    ]


def test_trap_017_a_system_message_in_mid_conversation_is_a_reminder(encode: Encode) -> None:
    call = encode(
        user("a"), assistant("b"), Message(role="system", parts=(Text(text="rule"),)), user("c")
    )
    assert roles(call) == ["user", "model", "user"]
    assert "rule" in call.body["contents"][2]["parts"][0]["text"]
    assert losses(call) == [("messages[2]", "moved")]


def test_trap_009_trap_010_blank_text_is_left_out(encode: Encode) -> None:
    call = encode(user(" \n", Image(source=PNG)), assistant("b", "  "), user("c"))
    assert [len(content["parts"]) for content in call.body["contents"]] == [1, 1, 1]
    assert call.losses == ()


# --- calls and results ---------------------------------------------------------------------


CALLS = assistant(
    "I call", ToolCall(id="a|1", name="f", arguments='{"x":1}'), ToolCall(id="b", name="g")
)


def test_trap_018_trap_054_results_are_one_user_turn_in_the_order_of_the_calls(
    encode: Encode,
) -> None:
    call = encode(user("go"), CALLS, tool(result("b", "2"), result("a|1", "1")), user("thanks"))
    assert roles(call) == ["user", "model", "user", "user"]
    assert call.body["contents"][2]["parts"] == [
        {"functionResponse": {"name": "f", "response": {"output": "1"}}},
        {"functionResponse": {"name": "g", "response": {"output": "2"}}},
    ]
    assert call.body["contents"][1]["parts"] == [
        {"text": "I call"},
        {"functionCall": {"name": "f", "args": {"x": 1}}},
        {"functionCall": {"name": "g", "args": {}}},
    ]


def test_trap_051_trap_052_ids_only_where_the_model_takes_them(
    encode: Encode, make_model: Models
) -> None:
    turns = (user("go"), CALLS, tool(result("a|1", "1"), result("b", "2")))
    without = encode(*turns)
    assert "id" not in str(without.body)
    assert without.restore.call_ids == {}
    for quirk in ("supports_function_call_ids", "is_claude"):
        call = encode(*turns, model=make_model(**{quirk: True}))
        sent = [p["functionCall"]["id"] for p in call.body["contents"][1]["parts"][1:]]
        back = [p["functionResponse"]["id"] for p in call.body["contents"][2]["parts"]]
        assert sent == back
        assert sent[1] == "b"
        assert call.restore.call_ids == {sent[0]: "a|1"}
        assert ("messages[1]", "renamed") in losses(call)


def test_trap_028_one_id_used_twice_is_two_ids(encode: Encode, make_model: Models) -> None:
    call = encode(
        user("go"),
        assistant(ToolCall(id="a", name="f"), ToolCall(id="a", name="f")),
        tool(result("a", "1"), result("a", "2")),
        assistant(ToolCall(id="a", name="f")),
        tool(result("a", "3")),
        model=make_model(supports_function_call_ids=True),
    )
    sent = [
        p["functionCall"]["id"]
        for c in call.body["contents"]
        for p in c["parts"]
        if "functionCall" in p
    ]
    back = [
        (p["functionResponse"]["id"], p["functionResponse"]["response"]["output"])
        for c in call.body["contents"]
        for p in c["parts"]
        if "functionResponse" in p
    ]
    assert len(set(sent)) == 3
    assert back == list(zip(sent, ("1", "2", "3"), strict=True))


def test_trap_053_output_or_error(encode: Encode) -> None:
    call = encode(user("go"), CALLS, tool(result("a|1", "no", is_error=True), result("b", "2")))
    responses = [p["functionResponse"]["response"] for p in call.body["contents"][2]["parts"]]
    assert responses == [{"error": "no"}, {"output": "2"}]


def test_trap_055_a_result_has_the_name_of_its_call(encode: Encode) -> None:
    call = encode(user("go"), CALLS, tool(result("a|1", "1", name=""), result("b", "2")))
    assert [p["functionResponse"]["name"] for p in call.body["contents"][2]["parts"]] == ["f", "g"]


@pytest.mark.parametrize(
    ("content", "output"),
    [
        ((), ""),
        ((" \n",), ""),
        (("a", "b"), "a\nb"),
        ((Image(source=PNG),), "(see attached image)"),
    ],
)
def test_trap_009_trap_075_empty_results(
    encode: Encode, content: tuple[Any, ...], output: str
) -> None:
    call = encode(user("go"), assistant(ToolCall(id="a", name="f")), tool(result("a", *content)))
    response = call.body["contents"][2]["parts"][0]["functionResponse"]
    assert response["response"] == {"output": output}


def test_trap_078_images_of_results_before_gemini_3_follow_in_a_turn_of_their_own(
    encode: Encode, make_model: Models
) -> None:
    turns = (
        user("go"),
        CALLS,
        tool(result("a|1", "see", Image(source=PNG)), result("b", Image(source=PNG))),
    )
    old = encode(*turns)
    assert roles(old) == ["user", "model", "user", "user"]
    assert [next(iter(part)) for part in old.body["contents"][2]["parts"]] == [
        "functionResponse"
    ] * 2
    assert [next(iter(part)) for part in old.body["contents"][3]["parts"]] == [
        "text",
        "inlineData",
        "inlineData",
    ]
    assert ("messages", "moved") in losses(old)
    new = encode(*turns, model=make_model(supports_images_in_tool_results=True))
    assert roles(new) == ["user", "model", "user"]
    assert new.body["contents"][2]["parts"][0]["functionResponse"]["parts"] == [
        {"inlineData": {"mimeType": "image/png", "data": "AA=="}}
    ]


@pytest.mark.parametrize(
    ("call", "args", "lost"),
    [
        (ToolCall(id="a", name="f", arguments=""), {}, []),
        (
            ToolCall(id="a", name="f", arguments='{"n":12345678901234567}'),
            {"n": 12345678901234567},
            [],
        ),
        (ToolCall(id="a", name="f", arguments="[1]"), {"INVALID_JSON": "[1]"}, ["emulated"]),
        (ToolCall(id="a", name="f", arguments='{"x'), {"INVALID_JSON": '{"x'}, ["emulated"]),
        (ToolCall(id="a", name="f", arguments="free", kind="custom"), {"input": "free"}, []),
    ],
)
def test_trap_045_trap_046_arguments_are_an_object(
    encode: Encode, call: ToolCall, args: JSONDict, lost: list[str]
) -> None:
    sent = encode(user("go"), assistant(call), tool(result("a", "1")))
    assert sent.body["contents"][1]["parts"][0]["functionCall"]["args"] == args
    assert [code for _, code in losses(sent)] == lost


# --- reasoning and proofs ------------------------------------------------------------------


def own(value: str = "QUJD", model: str | None = "gemini-x", protocol: str = SLUG) -> Signature:
    return Signature(value=value, protocol=protocol, model=model)


def test_trap_085_the_first_unsigned_call_of_a_group_gets_the_sentinel(
    encode: Encode, make_model: Models
) -> None:
    gemini_3 = make_model(requires_thought_signature=True)
    call = encode(user("go"), CALLS, tool(result("a|1", "1"), result("b", "2")), model=gemini_3)
    signed = [part.get("thoughtSignature") for part in call.body["contents"][1]["parts"]]
    assert signed == [None, "skip_thought_signature_validator", None]
    assert ("messages[1].parts[1]", "synthesised") in losses(call)
    real = assistant(ToolCall(id="a", name="f", signature=own()), ToolCall(id="b", name="g"))
    call = encode(user("go"), real, tool(result("a", "1"), result("b", "2")), model=gemini_3)
    signed = [part.get("thoughtSignature") for part in call.body["contents"][1]["parts"]]
    assert signed == ["QUJD", None]
    assert call.losses == ()


def test_proofs_return_on_exactly_their_part(encode: Encode) -> None:
    call = encode(
        user("go"),
        assistant(
            Thinking(text="hm", signature=own("AAAA")),
            Thinking(signature=own("BBBB")),
            Text(text="so", signature=own("CCCC")),
            Text(text="", signature=own("DDDD")),
            Image(source=PNG, signature=own("EEEE")),
            ToolCall(id="a", name="f", signature=own("FFFF")),
        ),
        tool(result("a", "1")),
    )
    parts = call.body["contents"][1]["parts"]
    assert [part["thoughtSignature"] for part in parts] == [c * 4 for c in "ABCDEF"]
    assert [part.get("thought") for part in parts] == [True, True, None, None, None, None]
    # Code Assist answers 500 to a thought without text.
    assert parts[1]["text"] == ""
    assert call.losses == ()


@pytest.mark.parametrize(
    "signature",
    [
        pytest.param(own(protocol="anthropic-messages"), id="trap_094_of_another_vendor"),
        pytest.param(own(model="gemini-y"), id="trap_020_of_another_model"),
        pytest.param(own("not base64!"), id="trap_084_not_base64"),
        pytest.param(None, id="trap_089_unsigned"),
    ],
)
def test_reasoning_that_is_not_this_models_is_dropped_not_told(
    encode: Encode, signature: Signature | None
) -> None:
    call = encode(
        user("go"), assistant(Thinking(text="secret", signature=signature), "so"), user("b")
    )
    assert call.body["contents"][1]["parts"] == [{"text": "so"}]
    assert losses(call) == [("messages[1].parts[0]", "signature_dropped")]


def test_trap_086_a_foreign_proof_on_a_call_goes_and_the_call_stays(
    encode: Encode, make_model: Models
) -> None:
    foreign = own(protocol="openai-responses")
    call = encode(
        user("go"),
        assistant(
            Thinking(text="x", signature=own()), ToolCall(id="a", name="f", signature=foreign)
        ),
        tool(result("a", "1")),
        model=make_model(requires_thought_signature=True),
    )
    parts = call.body["contents"][1]["parts"]
    assert parts[0]["thoughtSignature"] == "QUJD"
    assert parts[1]["thoughtSignature"] == "skip_thought_signature_validator"


LEVEL = {"thinking_control": "level"}


@pytest.mark.parametrize(
    ("reasoning", "levels", "quirks", "config", "lost"),
    [
        # by level: Gemini 3 and later
        (Reasoning(level="low"), {}, LEVEL, {"thinkingLevel": "LOW"}, []),
        (Reasoning(level="max"), {}, LEVEL, {"thinkingLevel": "HIGH"}, ["clamped"]),
        (Reasoning(level="xhigh"), {"xhigh": "xhigh"}, LEVEL, {"thinkingLevel": "XHIGH"}, []),
        (
            Reasoning(level="minimal"),
            {"minimal": None},
            LEVEL,
            {"thinkingLevel": "LOW"},
            ["clamped"],
        ),
        pytest.param(
            Reasoning(level="off"),
            {"off": None, "minimal": None},
            LEVEL,
            {"thinkingLevel": "LOW"},
            ["clamped"],
            id="trap_108_gemini_3_cannot_be_switched_off",
        ),
        (Reasoning(level="off"), {"off": "none"}, LEVEL, {"thinkingLevel": "NONE"}, []),
        pytest.param(
            Reasoning(budget_tokens=20000),
            {},
            LEVEL,
            {"thinkingLevel": "HIGH"},
            ["emulated"],
            id="trap_108_no_budget_where_levels_are",
        ),
        (Reasoning(adaptive=True, show=True), {}, LEVEL, {"includeThoughts": True}, []),
        # by budget: Gemini 2.5
        pytest.param(
            Reasoning(level="off"), {}, {}, {"thinkingBudget": 0}, [], id="trap_106_an_explicit_off"
        ),
        (Reasoning(level="off", budget_tokens=0), {}, {}, {"thinkingBudget": 0}, []),
        (Reasoning(level="off"), {"off": None}, {}, {"thinkingBudget": 1024}, ["clamped"]),
        (Reasoning(level="medium"), {}, {}, {"thinkingBudget": 8192}, []),
        (
            Reasoning(level="high"),
            {},
            {"thinking_budgets": {"high": 32768}},
            {"thinkingBudget": 32768},
            [],
        ),
        (Reasoning(level="max"), {}, {}, {"thinkingBudget": 16384}, ["clamped"]),
        (Reasoning(budget_tokens=777), {}, {}, {"thinkingBudget": 777}, []),
        (Reasoning(adaptive=True), {}, {}, {"thinkingBudget": -1}, []),
        (Reasoning(show=True), {}, {}, {"includeThoughts": True}, []),
        (
            Reasoning(level="low", show=False),
            {},
            {},
            {"thinkingBudget": 2048, "includeThoughts": False},
            [],
        ),
        (
            Reasoning(level="low", summary="auto"),
            {},
            {},
            {"thinkingBudget": 2048, "includeThoughts": True},
            [],
        ),
        (
            Reasoning(level="low", summary="detailed"),
            {},
            {},
            {"thinkingBudget": 2048, "includeThoughts": True},
            ["clamped"],
        ),
        (Reasoning(level="low", summary="off"), {}, {}, {"thinkingBudget": 2048}, []),
    ],
)
def test_thinking(
    encode: Encode, make_model: Models, reasoning: Reasoning, levels: dict[str, str | None],
    quirks: dict[str, Any], config: JSONDict, lost: list[str],
) -> None:  # fmt: skip
    model = make_model(levels=levels, **quirks)
    request = Request(model="a", dialect=SLUG, messages=(user("hi"),), reasoning=reasoning)
    call = CODEC.encode_request(request, model, request_id="r")
    assert call.body["generationConfig"]["thinkingConfig"] == config
    assert [code for _, code in losses(call)] == lost


@pytest.mark.parametrize(
    ("dialect", "reasoning", "shown"),
    [
        ("anthropic-messages", Reasoning(budget_tokens=2048), True),
        ("anthropic-messages", Reasoning(budget_tokens=2048, show=False), False),
        ("openai-completions", Reasoning(level="low"), True),
        ("openai-completions", Reasoning(level="off"), None),
        ("openai-responses", Reasoning(level="low"), None),
        ("openai-responses", Reasoning(level="low", summary="auto"), True),
        (SLUG, Reasoning(level="low"), None),
    ],
)
def test_thoughts_are_shown_to_clients_that_expect_them(
    encode: Encode, dialect: str, reasoning: Reasoning, shown: bool | None
) -> None:
    call = encode(dialect=dialect, reasoning=reasoning)
    assert call.body["generationConfig"]["thinkingConfig"].get("includeThoughts") is shown


def test_a_model_that_does_not_reason_is_told_nothing(encode: Encode, make_model: Models) -> None:
    plain = make_model(reasoning=False)
    call = encode(model=plain, reasoning=Reasoning(level="high"))
    assert "generationConfig" not in call.body
    assert losses(call) == [("reasoning", "dropped")]
    assert encode(model=plain, reasoning=Reasoning(level="off")).losses == ()
    assert "generationConfig" not in encode(reasoning=None).body


# --- media ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("part", "wire", "lost"),
    [
        (Image(source=PNG), {"inlineData": {"mimeType": "image/png", "data": "AA=="}}, []),
        (
            Image(source=PNG, detail="auto"),
            {"inlineData": {"mimeType": "image/png", "data": "AA=="}},
            [],
        ),
        (
            Image(source=PNG, detail="high"),
            {"inlineData": {"mimeType": "image/png", "data": "AA=="}},
            ["messages[0].parts[0].detail"],
        ),
        (
            Image(source=Url(url="gs://b/a.png", media_type="image/png")),
            {"fileData": {"mimeType": "image/png", "fileUri": "gs://b/a.png"}},
            [],
        ),
        (
            Audio(source=Base64(media_type="audio/wav", data="AA==")),
            {"inlineData": {"mimeType": "audio/wav", "data": "AA=="}},
            [],
        ),
        (
            Video(source=Url(url="https://youtu.be/1")),
            {"fileData": {"fileUri": "https://youtu.be/1"}},
            [],
        ),
        (
            Document(source=Base64(media_type="application/pdf", data="AA==")),
            {"inlineData": {"mimeType": "application/pdf", "data": "AA=="}},
            [],
        ),
        (
            Document(source=FileId(id="https://generativelanguage.googleapis.com/v1beta/files/1")),
            {"fileData": {"fileUri": "https://generativelanguage.googleapis.com/v1beta/files/1"}},
            [],
        ),
        (
            Document(source=PNG, filename="a.pdf", citations=True),
            {"inlineData": {"mimeType": "image/png", "data": "AA=="}},
            ["messages[0].parts[0].citations", "messages[0].parts[0].filename"],
        ),
    ],
)
def test_trap_178_media(encode: Encode, part: Part, wire: JSONDict, lost: list[str]) -> None:
    call = encode(user(part))
    assert call.body["contents"][0]["parts"] == [wire]
    assert [path for path, _ in losses(call)] == lost


def test_what_is_said_about_a_document_stands_before_it(encode: Encode) -> None:
    call = encode(user(Document(source=PNG, title="T", context="C")))
    assert call.body["contents"][0]["parts"][0] == {"text": "T\nC"}
    assert losses(call) == [("messages[0].parts[0]", "moved")]


@pytest.mark.parametrize(
    ("message", "param"),
    [
        (user("a", Image(source=Url(url="https://example.com/a.png"))), "messages[0].parts[1]"),
        (user(Document(source=FileId(id="file-abc"))), "messages[0].parts[0]"),
        (user(Opaque(protocol="anthropic-messages", value={"a": 1})), "messages[0].parts[0]"),
        (Message(role="system", parts=(Image(source=PNG),)), "messages[0].parts[0]"),
        (user(ToolCall(id="a", name="f")), "messages[0].parts[0]"),
        (assistant(ToolResult(call_id="a")), "messages[0].parts[0]"),
    ],
)
def test_content_that_cannot_be_carried_is_refused(
    make_model: Models, make_request: Requests, message: Message, param: str
) -> None:
    with pytest.raises(UnsupportedContent) as caught:
        CODEC.encode_request(make_request(message), make_model(), request_id="r")
    assert caught.value.param == param


def test_googles_own_parts_return_to_google(encode: Encode) -> None:
    part = {"executableCode": {"language": "PYTHON", "code": "1"}}
    call = encode(user("a"), assistant(Opaque(protocol="google-vertex", value=part)), user("b"))
    assert call.body["contents"][1]["parts"] == [part]


def test_refusals_and_marks(encode: Encode) -> None:
    call = encode(
        user(Text(text="a", cache=CacheMark(ttl="1h"))),
        assistant(Refusal(text="no"), Text(text="b", phase="commentary", citations=({"a": 1},))),
        Message(role="user", parts=(Text(text="c"),), name="bob"),
        system=(SystemText(text="s", cache=CacheMark()),),
        tools=(Tool(name="f", cache=CacheMark()),),
    )
    assert call.body["contents"][1]["parts"] == [{"text": "no"}, {"text": "b"}]
    assert sorted(losses(call)) == [
        ("messages[0].parts[0].cache", "dropped"),
        ("messages[1].parts[1].citations", "dropped"),
        ("messages[1].parts[1].phase", "dropped"),
        ("messages[2].name", "dropped"),
        ("system[0].cache", "dropped"),
        ("tools[0].cache", "dropped"),
    ]


# --- tools ---------------------------------------------------------------------------------

SCHEMA: JSONDict = {"type": "object", "properties": {"x": {"const": "a"}}}


def test_declarations_stand_in_one_object(encode: Encode) -> None:
    call = encode(tools=(Tool(name="f", description="d", schema=SCHEMA), Tool(name="g")))
    assert call.body["tools"] == [
        {
            "functionDeclarations": [
                {
                    "name": "f",
                    "description": "d",
                    "parametersJsonSchema": {
                        "type": "object",
                        "properties": {"x": {"enum": ["a"]}},
                    },
                },
                {"name": "g"},
            ]
        }
    ]
    assert call.losses == ()


def test_the_older_dialect_of_schemas(encode: Encode, make_model: Models) -> None:
    tools = (
        Tool(name="f", schema={**SCHEMA, "additionalProperties": False}),
        Tool(name="g", schema={"type": "object", "properties": {}}),
    )
    call = encode(tools=tools, model=make_model(schema_dialect="openapi"))
    assert call.body["tools"][0]["functionDeclarations"] == [
        {
            "name": "f",
            "parameters": {
                "type": "object",
                "description": "No other properties.",
                "properties": {"x": {"type": "string", "enum": ["a"]}},
            },
        },
        {"name": "g"},
    ]
    assert losses(call) == [("tools[0].schema", "emulated")]
    claude = encode(tools=tools, model=make_model(is_claude=True))
    assert list(claude.body["tools"][0]["functionDeclarations"][1]["parameters"]["properties"])


@pytest.mark.parametrize("name", ["9lives", "get weather", "-x", "naïve", "a" * 65, "", "a/b"])
def test_trap_066_trap_067_names_are_made_valid_everywhere_and_restored(
    encode: Encode, name: str
) -> None:
    call = encode(
        user("go"),
        assistant(ToolCall(id="a", name=name)),
        tool(result("a", "1")),
        tools=(Tool(name=name), Tool(name="ok.name:v-1")),
        tool_choice=ToolChoice(mode="named", names=(name,)),
    )
    wire = call.body["tools"][0]["functionDeclarations"][0]["name"]
    assert wire != name
    assert call.restore.names == {wire: name}
    assert call.body["contents"][1]["parts"][0]["functionCall"]["name"] == wire
    assert call.body["contents"][2]["parts"][0]["functionResponse"]["name"] == wire
    config = call.body["toolConfig"]["functionCallingConfig"]
    assert config["allowedFunctionNames"] == [wire]
    assert call.body["tools"][0]["functionDeclarations"][1]["name"] == "ok.name:v-1"
    assert losses(call) == [("tools", "renamed")]


def test_trap_068_a_tool_declared_twice_is_sent_once(encode: Encode) -> None:
    call = encode(tools=(Tool(name="f"), Tool(name="f", description="other")))
    assert len(call.body["tools"][0]["functionDeclarations"]) == 1
    assert losses(call) == [("tools[1]", "dropped")]


def test_trap_069_namespaces_are_qualified_and_restored(encode: Encode) -> None:
    tools = (Tool(name="run", namespace="shell"), Tool(name="shell__run"), Tool(name="run"))
    history = assistant(ToolCall(id="a", name="run", namespace="shell"))
    call = encode(user("go"), history, tool(result("a", "1")), tools=tools)
    wires = [d["name"] for d in call.body["tools"][0]["functionDeclarations"]]
    assert wires[1:] == ["shell__run", "run"]
    assert call.restore.namespaces == {wires[0]: ("shell", "run")}
    assert call.body["contents"][1]["parts"][0]["functionCall"]["name"] == wires[0]
    assert call.body["contents"][2]["parts"][0]["functionResponse"]["name"] == wires[0]


def test_trap_070_free_text_tools_are_functions_with_one_string(encode: Encode) -> None:
    call = encode(tools=(Tool(name="patch", kind="custom", grammar={"syntax": "lark"}),))
    declaration = call.body["tools"][0]["functionDeclarations"][0]
    assert list(declaration["parametersJsonSchema"]["properties"]) == ["input"]
    assert "lark" in declaration["description"]
    assert call.restore.custom == {"patch"}
    assert losses(call) == [("tools[0]", "emulated")]


def test_trap_071_fields_of_other_wires_are_stripped(encode: Encode) -> None:
    extra = {"defer_loading": True, "eager_input_streaming": True}
    call = encode(tools=(Tool(name="f", extra=extra),))
    assert call.body["tools"][0]["functionDeclarations"] == [{"name": "f"}]
    assert losses(call) == [
        ("tools[0].defer_loading", "dropped"),
        ("tools[0].eager_input_streaming", "dropped"),
    ]


def test_trap_072_tools_that_a_vendor_runs(encode: Encode) -> None:
    search = Tool(
        name="googleSearch", kind="builtin", builtin={"googleSearch": {}}, builtin_protocol=SLUG
    )
    theirs = Tool(
        name="web_search",
        kind="builtin",
        builtin={"type": "x"},
        builtin_protocol="openai-responses",
    )
    call = encode(tools=(search, Tool(name="f"), theirs))
    assert call.body["tools"] == [
        {"functionDeclarations": [{"name": "f"}]},
        {"googleSearch": {}},
    ]
    assert losses(call) == [("tools[2]", "dropped")]


@pytest.mark.parametrize(
    ("choice", "config"),
    [
        (ToolChoice(mode="auto"), {"mode": "AUTO"}),
        (ToolChoice(mode="none"), {"mode": "NONE"}),
        (ToolChoice(mode="required"), {"mode": "ANY"}),
        (ToolChoice(mode="named", names=("f",)), {"mode": "ANY", "allowedFunctionNames": ["f"]}),
        (
            ToolChoice(mode="allowed", names=("f", "g"), allowed_mode="required"),
            {"mode": "ANY", "allowedFunctionNames": ["f", "g"]},
        ),
    ],
)
def test_tool_choice(encode: Encode, choice: ToolChoice, config: JSONDict) -> None:
    tools = (Tool(name="f"), Tool(name="g"), Tool(name="h"))
    call = encode(tools=tools, tool_choice=choice)
    assert call.body["toolConfig"] == {"functionCallingConfig": config}
    assert call.losses == ()
    # Trap 57: also where no tools are declared.
    assert encode(tool_choice=choice).body["toolConfig"] == {"functionCallingConfig": config}


def test_a_subset_with_free_choice_declares_only_the_subset(encode: Encode) -> None:
    tools = (Tool(name="f"), Tool(name="g"))
    call = encode(tools=tools, tool_choice=ToolChoice(mode="allowed", names=("g",)))
    assert call.body["tools"][0]["functionDeclarations"] == [{"name": "g"}]
    assert losses(call) == [("tool_choice.names", "emulated")]


def test_strict_tools_are_validated_where_the_model_can(encode: Encode, make_model: Models) -> None:
    tools = (Tool(name="f", strict=True), Tool(name="g", strict=False))
    call = encode(tools=tools, model=make_model(supports_strict_tools=True))
    assert call.body["toolConfig"] == {"functionCallingConfig": {"mode": "VALIDATED"}}
    assert call.losses == ()
    assert losses(encode(tools=tools)) == [("tools[0].strict", "dropped")]


# --- formats and other knobs ---------------------------------------------------------------


def test_trap_177_response_formats(encode: Encode, make_model: Models) -> None:
    def config(wish: ResponseFormat, **quirks: Any) -> JSONDict:
        body = encode(response_format=wish, model=make_model(**quirks)).body
        found: JSONDict = body["generationConfig"]
        return found

    assert config(ResponseFormat(kind="text")) == {"responseMimeType": "text/plain"}
    assert config(ResponseFormat(kind="json_object")) == {"responseMimeType": "application/json"}
    wish = ResponseFormat(
        kind="json_schema", name="Out", schema=SCHEMA, description="d", strict=True
    )
    assert config(wish) == {
        "responseMimeType": "application/json",
        "responseJsonSchema": {
            "type": "object",
            "properties": {"x": {"enum": ["a"]}},
            "title": "Out",
            "description": "d",
        },
    }
    assert config(wish, schema_dialect="openapi") == {
        "responseMimeType": "application/json",
        "responseSchema": {
            "type": "object",
            "properties": {"x": {"type": "string", "enum": ["a"]}},
            "description": "d",
        },
    }


def test_every_knob_that_google_lacks_is_reported(encode: Encode) -> None:
    call = encode(
        sampling=Sampling(min_p=0.1, repetition_penalty=1.1, logit_bias={"1": 1.0}),
        tools=(Tool(name="f"),),
        parallel_tool_calls=False,
        verbosity="low",
        caching=Caching(key="k", retention="long"),
        end_user_id="u",
        store=True,
        metadata={"a": "b"},
        service_tier="scale",
        extra={"prediction": {}, "generationConfig": {"x": 1}},
    )
    assert sorted(losses(call)) == [
        (path, "dropped")
        for path in sorted(
            [
                "sampling.min_p", "sampling.repetition_penalty", "sampling.logit_bias",
                "parallel_tool_calls", "verbosity", "caching.key", "caching.retention",
                "end_user_id", "store", "metadata", "service_tier", "extra.prediction",
                "extra.generationConfig",
            ]
        )
    ]  # fmt: skip
    assert set(call.body) == {"contents", "tools"}
    assert all(loss.code is LossCode.DROPPED for loss in call.losses)


@pytest.mark.parametrize(
    ("quirks", "sent", "lost"),
    [
        ({}, {"temperature", "topP"}, []),
        ({"supports_temperature": False}, {"topP"}, ["sampling.temperature"]),
        ({"supports_top_p_with_temperature": False}, {"temperature"}, ["sampling.top_p"]),
    ],
)
def test_sampling_quirks(
    encode: Encode, make_model: Models, quirks: dict[str, Any], sent: set[str], lost: list[str]
) -> None:
    call = encode(sampling=Sampling(temperature=1.0, top_p=0.5), model=make_model(**quirks))
    assert set(call.body["generationConfig"]) == sent
    assert [path for path, _ in losses(call)] == lost


@pytest.mark.parametrize("field", ["previous_response_id", "conversation"])
def test_state_that_google_does_not_keep_is_refused(
    make_model: Models, make_request: Requests, field: str
) -> None:
    with pytest.raises(UnsupportedParameter) as caught:
        CODEC.encode_request(make_request(**{field: "x"}), make_model(), request_id="r")
    assert caught.value.param == field


def test_a_gemini_client_gets_its_own_fields_through(make_model: Models) -> None:
    body: JSONDict = {
        "contents": [{"role": "user", "parts": [{"text": "a", "videoMetadata": {"fps": 1}}]}],
        "safetySettings": [{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "OFF"}],
        "cachedContent": "cachedContents/1",
        "generationConfig": {"temperature": 1, "mediaResolution": "MEDIA_RESOLUTION_LOW"},
        "tools": [{"functionDeclarations": [{"name": "f", "behavior": "BLOCKING"}]}],
        "toolConfig": {
            "functionCallingConfig": {"mode": "VALIDATED", "streamFunctionCallArguments": True},
            "retrievalConfig": {"languageCode": "de"},
        },
    }
    request = CODEC.decode_request(body, ClientCall(model="alias"))
    call = CODEC.encode_request(request, make_model(), request_id="r")
    assert call.body == {
        **body,
        "contents": [{"role": "user", "parts": [{"text": "a"}]}],
        "toolConfig": {
            "functionCallingConfig": {"mode": "VALIDATED"},
            "retrievalConfig": {"languageCode": "de"},
        },
    }
    assert losses(call) == [
        ("extra.toolConfig.functionCallingConfig.streamFunctionCallArguments", "dropped"),
        ("extra.contents[0].parts[0].videoMetadata", "dropped"),
    ]


def test_the_same_request_gives_the_same_bytes(encode: Encode) -> None:
    """Prompt caches depend on it (traps 50, 167)."""
    turns = (user("go"), CALLS, tool(result("a|1", "1"), result("b", "2")))
    assert encode(*turns).body == encode(*turns).body
    longer = encode(*turns, assistant("so"), user("more")).body["contents"]
    assert longer[:3] == encode(*turns).body["contents"]


def test_counting_sends_the_whole_request(make_request: Requests, make_model: Models) -> None:
    request = make_request(system=(SystemText(text="s"),), tools=(Tool(name="f"),))
    call = CODEC.encode_count_request(request, make_model(), request_id="r")
    assert call.path == "/models/gemini-x:countTokens"
    whole = call.body["generateContentRequest"]
    assert whole["model"] == "models/gemini-x"
    assert {"contents", "systemInstruction", "tools"} < set(whole)
    assert CODEC.decode_count(b'{"totalTokens": 31, "promptTokensDetails": []}') == 31
    assert CODEC.decode_count(b"{}") == 0
