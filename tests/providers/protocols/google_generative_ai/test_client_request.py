"""What Gemini clients send, read in both spellings."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from typing import Any

import pytest

from controlplane.kit.json import JSONDict
from providers.protocols import signatures
from providers.protocols.canonical import (
    Audio,
    Base64,
    Document,
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
from providers.protocols.codec import ClientCall
from providers.protocols.errors import LocalProtocolError
from providers.protocols.google_generative_ai import CODEC

Decode = Callable[[JSONDict], Request]
SLUG = "google-generative-ai"


def snake(value: Any) -> Any:
    """The same body as Python clients spell it. Names inside free-form data stay."""
    if isinstance(value, list):
        return [snake(item) for item in value]
    if isinstance(value, dict):
        return {
            re.sub(r"(?<=[a-z])([A-Z])", lambda m: "_" + m.group().lower(), key): (
                item
                if key in ("args", "response", "parametersJsonSchema", "labels")
                else snake(item)
            )
            for key, item in value.items()
        }
    return value


FULL: JSONDict = {
    "contents": [
        {
            "role": "user",
            "parts": [{"text": "look"}, {"inlineData": {"mimeType": "image/png", "data": "AAAA"}}],
        },
        {
            "role": "model",
            "parts": [
                {"text": "hm", "thought": True, "thoughtSignature": "QUJD"},
                {"text": "I call"},
                {
                    "functionCall": {"name": "get_it", "args": {"snake_arg": 1}},
                    "thoughtSignature": "REVG",
                },
            ],
        },
        {
            "role": "user",
            "parts": [{"functionResponse": {"name": "get_it", "response": {"output": "42"}}}],
        },
    ],
    "systemInstruction": {"role": "user", "parts": [{"text": "be"}, {"text": "kind"}]},
    "tools": [
        {
            "functionDeclarations": [
                {
                    "name": "get_it",
                    "description": "gets",
                    "parametersJsonSchema": {"type": "object"},
                },
                {
                    "name": "b",
                    "parameters": {
                        "type": "OBJECT",
                        "properties": {"x": {"type": "STRING", "nullable": True}},
                    },
                },
            ]
        },
        {"googleSearch": {}},
    ],
    "toolConfig": {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["get_it"]}},
    "generationConfig": {
        "temperature": 0.5,
        "topP": 0.9,
        "topK": 40.0,
        "candidateCount": 2,
        "maxOutputTokens": 100,
        "stopSequences": ["END"],
        "seed": 7,
        "presencePenalty": 0.1,
        "frequencyPenalty": 0.2,
        "responseMimeType": "application/json",
        "responseJsonSchema": {"type": "object", "title": "Out"},
        "responseLogprobs": True,
        "logprobs": 3,
        "thinkingConfig": {"includeThoughts": True, "thinkingBudget": 2048},
        "mediaResolution": "MEDIA_RESOLUTION_LOW",
    },
    "safetySettings": [{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "BLOCK_NONE"}],
    "labels": {"team": "a"},
    "serviceTier": "FLEX",
}

DECODED = Request(
    model="alias",
    dialect=SLUG,
    messages=(
        Message(
            role="user",
            parts=(
                Text(text="look"),
                Image(source=Base64(media_type="image/png", data="AAAA")),
            ),
        ),
        Message(
            role="assistant",
            parts=(
                Thinking(text="hm", signature=Signature(value="QUJD", protocol=SLUG)),
                Text(text="I call"),
                ToolCall(
                    id="call_get_it_1",
                    name="get_it",
                    arguments='{"snake_arg":1}',
                    signature=Signature(value="REVG", protocol=SLUG),
                ),
            ),
        ),
        Message(
            role="tool",
            parts=(ToolResult(call_id="call_get_it_1", name="get_it", content=(Text(text="42"),)),),
        ),
    ),
    system=(SystemText(text="be"), SystemText(text="kind")),
    tools=(
        Tool(name="get_it", description="gets", schema={"type": "object"}),
        Tool(
            name="b",
            schema={"type": "object", "properties": {"x": {"type": ["string", "null"]}}},
        ),
        Tool(
            name="googleSearch",
            kind="builtin",
            builtin={"googleSearch": {}},
            builtin_protocol=SLUG,
        ),
    ),
    tool_choice=ToolChoice(mode="named", names=("get_it",)),
    sampling=Sampling(
        max_output_tokens=100,
        temperature=0.5,
        top_p=0.9,
        top_k=40,
        seed=7,
        stop=("END",),
        presence_penalty=0.1,
        frequency_penalty=0.2,
        n=2,
        logprobs=True,
        top_logprobs=3,
    ),
    reasoning=Reasoning(budget_tokens=2048, show=True),
    response_format=ResponseFormat(
        kind="json_schema", name="Out", schema={"type": "object", "title": "Out"}
    ),
    metadata={"team": "a"},
    service_tier="flex",
    include_usage=True,
    extra={
        "safetySettings": [{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "BLOCK_NONE"}],
        "generationConfig": {"mediaResolution": "MEDIA_RESOLUTION_LOW"},
    },
)


def test_everything(decode: Decode) -> None:
    assert decode(FULL) == DECODED


def test_trap_176_everything_in_snake_case(decode: Decode) -> None:
    spelled = snake(FULL)
    assert "system_instruction" in spelled
    assert "thinking_budget" in spelled["generation_config"]["thinking_config"]
    assert decode(spelled) == DECODED


def test_the_model_stands_in_the_path() -> None:
    body: JSONDict = {"contents": []}
    assert CODEC.decode_request(body, ClientCall(model="models/a/b:c")).model == "a/b:c"
    assert CODEC.decode_request(body, ClientCall(model="m", stream=True)).stream
    assert CODEC.decode_request({**body, "model": "models/x"}, ClientCall()).model == "x"
    with pytest.raises(LocalProtocolError, match="must name a model"):
        CODEC.decode_request(body, ClientCall())


# --- contents ------------------------------------------------------------------------------


def turns(decode: Decode, *contents: JSONDict) -> tuple[Message, ...]:
    return decode({"contents": list(contents)}).messages


def test_a_role_may_be_missing_and_old_roles_are_users(decode: Decode) -> None:
    found = turns(decode, {"parts": [{"text": "a"}]})
    assert found == (Message(role="user", parts=(Text(text="a"),)),)
    call = {"role": "model", "parts": [{"functionCall": {"name": "f", "args": {}}}]}
    answer = {"functionResponse": {"name": "f", "response": {}}}
    for role in ("function", "tool", "user"):
        assert [m.role for m in turns(decode, call, {"role": role, "parts": [answer]})] == [
            "assistant",
            "tool",
        ]


def test_a_streamed_turn_that_comes_back_in_pieces_is_one_turn(decode: Decode) -> None:
    """Google's clients keep one content per chunk they received."""
    pieces: list[JSONDict] = [
        {"role": "model", "parts": [{"text": "let ", "thought": True}]},
        {"role": "model", "parts": [{"text": "me think", "thought": True}]},
        {"role": "model", "parts": [{"text": "", "thought": True, "thoughtSignature": "QUJD"}]},
        {"role": "model", "parts": [{"text": "The "}]},
        {"role": "model", "parts": [{"text": "answer"}]},
        {"role": "model", "parts": [{"functionCall": {"name": "a", "args": {}}}]},
        {"role": "model", "parts": [{"functionCall": {"name": "b", "args": {}}}]},
        {"role": "model", "parts": [{"text": ""}]},
    ]
    assert turns(decode, *pieces) == (
        Message(
            role="assistant",
            parts=(
                Thinking(text="let me think", signature=Signature(value="QUJD", protocol=SLUG)),
                Text(text="The answer"),
                ToolCall(id="call_a_1", name="a"),
                ToolCall(id="call_b_1", name="b"),
            ),
        ),
    )


def test_texts_of_one_content_stay_apart(decode: Decode) -> None:
    content = {"role": "model", "parts": [{"text": "a"}, {"text": "b"}]}
    assert turns(decode, content)[0].parts == (Text(text="a"), Text(text="b"))


def test_trap_081_a_signed_part_is_not_thought_unless_it_says_so(decode: Decode) -> None:
    content = {"role": "model", "parts": [{"text": "a", "thoughtSignature": "QUJD"}]}
    assert turns(decode, content)[0].parts == (
        Text(text="a", signature=Signature(value="QUJD", protocol=SLUG)),
    )


@pytest.mark.parametrize(
    "part", [{"text": "", "thoughtSignature": "QUJD"}, {"thoughtSignature": "QUJD"}]
)
def test_trap_082_a_part_that_is_only_a_signature_is_kept(decode: Decode, part: JSONDict) -> None:
    signature = Signature(value="QUJD", protocol=SLUG)
    assert turns(decode, {"role": "model", "parts": [part]})[0].parts == (
        Text(text="", signature=signature),
    )
    # After a text it is that text's.
    assert turns(decode, {"role": "model", "parts": [{"text": "a"}, part]})[0].parts == (
        Text(text="a", signature=signature),
    )
    # After a signed text it is nobody else's.
    parts = [{"text": "a", "thoughtSignature": "REVG"}, part]
    assert len(turns(decode, {"role": "model", "parts": parts})[0].parts) == 2


def test_foreign_proofs_come_back_out_of_their_wrapping(decode: Decode) -> None:
    claude = Signature(value="Eq/+sig", protocol="anthropic-messages", model="claude-x")
    carried = signatures.wrap(claude, native=SLUG)
    # The Python client decodes to bytes and encodes again, in the URL-safe alphabet.
    respelled = base64.urlsafe_b64encode(base64.b64decode(carried)).decode()
    for spelling in (carried, respelled, respelled.rstrip("=")):
        parts = [{"text": "t", "thought": True, "thoughtSignature": spelling}]
        assert turns(decode, {"role": "model", "parts": parts})[0].parts == (
            Thinking(text="t", signature=claude),
        )


def test_trap_088_reasoning_with_nothing_to_read_is_known_again(decode: Decode) -> None:
    claude = Signature(value="redacted", protocol="anthropic-messages", model="claude-x")
    part = {"thought": True, "thoughtSignature": signatures.wrap(claude, native=SLUG)}
    assert turns(decode, {"role": "model", "parts": [part]})[0].parts == (
        Thinking(redacted=True, signature=claude),
    )


def called(*names: str | tuple[str, str]) -> JSONDict:
    parts = []
    for name in names:
        if isinstance(name, tuple):
            parts.append({"functionCall": {"name": name[0], "id": name[1], "args": {}}})
        else:
            parts.append({"functionCall": {"name": name}})
    return {"role": "model", "parts": parts}


def answered(*responses: tuple[str, str, str]) -> JSONDict:
    parts = []
    for name, call_id, text in responses:
        response: JSONDict = {"response": {"output": text}}
        if name:
            response["name"] = name
        if call_id:
            response["id"] = call_id
        parts.append({"functionResponse": response})
    return {"role": "user", "parts": parts}


def pairs(message: Message) -> list[tuple[str, str]]:
    out = []
    for part in message.parts:
        assert isinstance(part, ToolResult)
        assert isinstance(part.content[0], Text)
        out.append((part.call_id, part.content[0].text))
    return out


@pytest.mark.parametrize(
    ("call", "response", "wanted"),
    [
        pytest.param(
            called("f", "g", "f"),
            answered(("f", "", "1"), ("f", "", "2"), ("g", "", "3")),
            [("call_f_1", "1"), ("call_f_2", "2"), ("call_g_1", "3")],
            id="trap_049_first_in_first_out_per_name",
        ),
        pytest.param(
            called(("f", "x"), ("f", "y")),
            answered(("f", "y", "1"), ("f", "x", "2")),
            [("y", "1"), ("x", "2")],
            id="trap_049_explicit_ids_out_of_order",
        ),
        pytest.param(
            called("f"),
            answered(("f", "theirs", "1"), ("f", "", "2")),
            [("call_f_1", "1"), ("call_f_2", "2")],
            id="trap_049_extra_results_get_ids_of_their_own",
        ),
        pytest.param(
            called("f", "g"),
            answered(("", "", "1"), ("", "", "2")),
            [("call_f_1", "1"), ("call_g_1", "2")],
            id="trap_055_without_a_name_by_position",
        ),
    ],
)
def test_results_find_their_calls(
    decode: Decode, call: JSONDict, response: JSONDict, wanted: list[tuple[str, str]]
) -> None:
    assert pairs(turns(decode, call, response)[1]) == wanted


def test_trap_049_trap_050_made_ids_are_never_used_twice_and_stay_the_same(
    decode: Decode,
) -> None:
    history = [called("f"), answered(("f", "", "1"))]
    longer = [*history, called("f", ("f", "call_f_3")), answered(("f", "", "2")), called("f")]
    short, long = turns(decode, *history), turns(decode, *longer)
    assert long[:2] == short
    ids = [p.id for m in long for p in m.parts if isinstance(p, ToolCall)]
    assert ids == ["call_f_1", "call_f_2", "call_f_3", "call_f_4"]


def test_trap_055_a_missing_name_is_filled_from_the_call(decode: Decode) -> None:
    result = turns(decode, called(("f", "x")), answered(("", "x", "1")))[1].parts[0]
    assert isinstance(result, ToolResult)
    assert result.name == "f"


def test_results_over_several_contents_are_one_turn_and_text_follows_it(decode: Decode) -> None:
    mixed = answered(("g", "", "2"))
    mixed["parts"].insert(0, {"text": "and?"})
    found = turns(decode, called("f", "g"), answered(("f", "", "1")), mixed)
    assert [m.role for m in found] == ["assistant", "tool", "user"]
    assert pairs(found[1]) == [("call_f_1", "1"), ("call_g_1", "2")]


@pytest.mark.parametrize(
    ("response", "text", "is_error"),
    [
        ({"output": "x"}, "x", False),
        ({"error": "no"}, "no", True),
        ({"output": {"a": 1}}, '{"a":1}', False),
        ({"result": 5}, '{"result":5}', False),
        ({"output": "x", "more": 1}, '{"output":"x","more":1}', False),
        ({"some_key": 1}, '{"some_key":1}', False),
        ({"output": ["a"]}, '["a"]', False),
        ({"output": None}, "null", False),
        ({}, None, False),
        ({"output": ""}, None, False),
        (None, None, False),
    ],
)
def test_trap_074_the_shapes_of_a_result(
    decode: Decode, response: JSONDict | None, text: str | None, is_error: bool
) -> None:
    part = {"functionResponse": {"name": "f", "response": response}}
    result = turns(decode, called("f"), {"role": "user", "parts": [part]})[1].parts[0]
    assert result == ToolResult(
        call_id="call_f_1",
        name="f",
        content=(Text(text=text),) if text is not None else (),
        is_error=is_error,
    )


def test_a_result_with_an_image(decode: Decode) -> None:
    response = {
        "name": "f",
        "response": {"output": "see"},
        "parts": [{"inlineData": {"mimeType": "image/png", "data": "AA=="}}],
    }
    content = {"role": "user", "parts": [{"functionResponse": response}]}
    result = turns(decode, called("f"), content)[1].parts[0]
    assert isinstance(result, ToolResult)
    assert result.content == (
        Text(text="see"),
        Image(source=Base64(media_type="image/png", data="AA==")),
    )


@pytest.mark.parametrize(
    ("part", "wanted"),
    [
        (
            {"inlineData": {"mimeType": "image/jpeg", "data": "_-8"}},
            Image(source=Base64(media_type="image/jpeg", data="/+8=")),
        ),
        (
            {"inlineData": {"mimeType": "audio/wav", "data": "AAAA"}},
            Audio(source=Base64(media_type="audio/wav", data="AAAA")),
        ),
        (
            {"inlineData": {"mimeType": "video/mp4", "data": "AAAA"}},
            Video(source=Base64(media_type="video/mp4", data="AAAA")),
        ),
        (
            {"inlineData": {"mimeType": "application/pdf", "data": "AAAA", "displayName": "a.pdf"}},
            Document(source=Base64(media_type="application/pdf", data="AAAA"), filename="a.pdf"),
        ),
        (
            {"fileData": {"mimeType": "image/png", "fileUri": "gs://b/a.png"}},
            Image(source=Url(url="gs://b/a.png", media_type="image/png")),
        ),
        (
            {"fileData": {"fileUri": "https://www.youtube.com/watch?v=1"}},
            Video(source=Url(url="https://www.youtube.com/watch?v=1")),
        ),
        (
            {"fileData": {"fileUri": "https://x/files/1"}},
            Document(source=Url(url="https://x/files/1")),
        ),
        (
            {"executableCode": {"language": "PYTHON", "code": "1"}},
            Opaque(protocol=SLUG, value={"executableCode": {"language": "PYTHON", "code": "1"}}),
        ),
    ],
)
def test_trap_178_media_by_their_type(decode: Decode, part: JSONDict, wanted: Any) -> None:
    assert turns(decode, {"role": "user", "parts": [part]})[0].parts == (wanted,)
    assert turns(decode, {"role": "model", "parts": [snake(part)]})[0].parts[0] is not None


def test_knobs_of_parts_are_kept_by_their_path(decode: Decode) -> None:
    part = {"text": "a", "videoMetadata": {"fps": 1}}
    request = decode({"contents": [{"role": "user", "parts": [part]}]})
    assert request.extra == {"contents[0].parts[0].videoMetadata": {"fps": 1}}


# --- tools, choice, knobs ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "choice", "extra"),
    [
        ({"mode": "AUTO"}, ToolChoice(mode="auto"), {}),
        ({"mode": "none"}, ToolChoice(mode="none"), {}),
        ({"mode": "ANY"}, ToolChoice(mode="required"), {}),
        ({"mode": "MODE_UNSPECIFIED"}, None, {}),
        ({}, None, {}),
        (
            {"mode": "ANY", "allowedFunctionNames": ["a", "b"]},
            ToolChoice(mode="allowed", names=("a", "b"), allowed_mode="required"),
            {},
        ),
        (
            {"mode": "VALIDATED", "allowedFunctionNames": ["a"]},
            ToolChoice(mode="allowed", names=("a",)),
            {"toolConfig": {"functionCallingConfig": {"mode": "VALIDATED"}}},
        ),
        (
            {"mode": "AUTO", "streamFunctionCallArguments": True},
            ToolChoice(mode="auto"),
            {"toolConfig": {"functionCallingConfig": {"streamFunctionCallArguments": True}}},
        ),
    ],
)
def test_tool_choice(
    decode: Decode, config: JSONDict, choice: ToolChoice | None, extra: JSONDict
) -> None:
    request = decode({"contents": [], "toolConfig": {"functionCallingConfig": config}})
    assert request.tool_choice == choice
    assert request.extra == extra


@pytest.mark.parametrize(
    ("config", "wanted"),
    [
        ({"thinkingBudget": 0}, Reasoning(level="off", budget_tokens=0)),
        ({"thinkingBudget": -1}, Reasoning(adaptive=True)),
        ({"thinkingBudget": 512}, Reasoning(budget_tokens=512)),
        ({"thinkingLevel": "LOW"}, Reasoning(level="low")),
        (
            {"thinkingLevel": "xhigh", "includeThoughts": False},
            Reasoning(level="xhigh", show=False),
        ),
        ({"thinkingLevel": "THINKING_LEVEL_UNSPECIFIED"}, Reasoning()),
        ({}, Reasoning()),
    ],
)
def test_thinking(decode: Decode, config: JSONDict, wanted: Reasoning) -> None:
    body = {"contents": [], "generationConfig": {"thinkingConfig": config}}
    assert decode(body).reasoning == wanted
    assert decode(snake(body)).reasoning == wanted


@pytest.mark.parametrize(
    ("config", "wanted"),
    [
        ({"responseMimeType": "text/plain"}, ResponseFormat(kind="text")),
        ({"responseMimeType": "application/json"}, ResponseFormat(kind="json_object")),
        (
            {
                "responseMimeType": "application/json",
                "responseSchema": {"type": "ARRAY", "items": {"type": "INTEGER"}},
            },
            ResponseFormat(
                kind="json_schema", schema={"type": "array", "items": {"type": "integer"}}
            ),
        ),
        ({"responseMimeType": "text/x.enum", "responseSchema": {"type": "STRING"}}, None),
        ({}, None),
    ],
)
def test_trap_177_response_formats(
    decode: Decode, config: JSONDict, wanted: ResponseFormat | None
) -> None:
    request = decode({"contents": [], "generationConfig": config})
    assert request.response_format == wanted
    if config.get("responseMimeType") == "text/x.enum":
        assert request.extra == {"generationConfig": config}


def test_trap_175_candidate_count(decode: Decode) -> None:
    assert decode({"contents": [], "generationConfig": {"candidateCount": 3}}).sampling.n == 3


def test_a_system_prompt_may_be_text_alone(decode: Decode) -> None:
    assert decode({"contents": [], "systemInstruction": "be kind"}).system == (
        SystemText(text="be kind"),
    )


def test_unknown_fields_are_kept(decode: Decode) -> None:
    request = decode({"contents": [], "cached_content": "cachedContents/1", "newThing": 1})
    assert request.extra == {"cachedContent": "cachedContents/1", "newThing": 1}


def test_fields_of_declarations_without_a_meaning_are_kept(decode: Decode) -> None:
    declaration = {"name": "f", "behavior": "BLOCKING", "response": {"type": "STRING"}}
    request = decode({"contents": [], "tools": [{"functionDeclarations": [declaration]}]})
    assert request.tools[0].extra == {"behavior": "BLOCKING", "response": {"type": "STRING"}}


# --- countTokens ---------------------------------------------------------------------------


def test_count_tokens_of_contents_and_of_a_whole_request() -> None:
    call = ClientCall(model="alias")
    contents = [{"parts": [{"text": "a"}]}]
    bare = CODEC.decode_count_request({"contents": contents}, call)
    whole = CODEC.decode_count_request(
        {"generateContentRequest": {"model": "models/alias", "contents": contents}}, call
    )
    assert bare == whole
    assert bare.messages == (Message(role="user", parts=(Text(text="a"),)),)
