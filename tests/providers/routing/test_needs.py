"""What a body says it needs, in each dialect. The reading refuses nothing."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from providers.protocols.members import Members
from providers.routing.needs import BITS, needs_of


def needs(body: Any, *, streaming: bool = False) -> Any:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return needs_of(Members(raw), is_streaming=streaming)


def chat(*parts: dict[str, Any]) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}, *parts]}]}


def gemini(*parts: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"contents": [{"role": "user", "parts": [{"text": "a"}, *parts]}], **more}


TOOL = {"type": "function", "function": {"name": "f"}}
IMAGE = {"type": "image_url", "image_url": {"url": "data:"}}
ROWS: dict[str, tuple[dict[str, Any], set[str]]] = {
    "nothing": ({}, set()),
    "empty tools": ({"tools": []}, set()),
    "no tools": ({"tools": None}, set()),
    "tools": ({"tools": [TOOL]}, {"functions"}),
    "old functions": ({"functions": [{"name": "f"}]}, {"functions"}),
    "chat image": (chat(IMAGE), {"vision"}),
    "chat file": (chat({"type": "file", "file": {}}), {"documents"}),
    "chat audio": (chat({"type": "input_audio", "input_audio": {}}), {"audio"}),
    "chat image and tools": ({**chat(IMAGE), "tools": [TOOL]}, {"vision", "functions"}),
    "a word in a text": (chat({"type": "text", "text": '"image_url" and "input_audio"'}), set()),
    "a text that is the word": (chat({"type": "text", "text": "image"}), set()),
    "a field named so": ({"tools": [], "metadata": {"image": "input_audio"}}, set()),
    "responses image": (
        {"input": [{"role": "user", "content": [{"type": "input_image"}]}]},
        {"vision"},
    ),
    "responses file": (
        {"input": [{"role": "user", "content": [{"type": "input_file"}]}]},
        {"documents"},
    ),
    "responses output of a function": (
        {"input": [{"type": "function_call_output", "output": [{"type": "input_image"}]}]},
        {"vision"},
    ),
    "messages image": (chat({"type": "image", "source": {}}), {"vision"}),
    "messages document": (chat({"type": "document", "source": {}}), {"documents"}),
    "messages image in a result": (
        chat({"type": "tool_result", "content": [{"type": "image"}]}),
        {"vision"},
    ),
    "gemini image": (gemini({"inlineData": {"mimeType": "image/png"}}), {"vision"}),
    "gemini image, snake case": (gemini({"inline_data": {"mime_type": "image/png"}}), {"vision"}),
    "gemini audio": (gemini({"inlineData": {"mimeType": "audio/wav"}}), {"audio"}),
    "gemini video": (gemini({"fileData": {"mimeType": "video/mp4"}}), {"video"}),
    "gemini pdf": (gemini({"inlineData": {"mimeType": "application/pdf"}}), {"documents"}),
    "gemini text": (gemini({"inlineData": {"mimeType": "text/plain"}}), set()),
    "chat schema": ({"response_format": {"type": "json_schema"}}, {"structured_output"}),
    "chat json": ({"response_format": {"type": "json_object"}}, {"structured_output"}),
    "chat text": ({"response_format": {"type": "text"}}, set()),
    "responses schema": ({"text": {"format": {"type": "json_schema"}}}, {"structured_output"}),
    "responses verbosity": ({"text": {"verbosity": "low"}}, set()),
    "messages schema": ({"output_format": {"type": "json_schema"}}, {"structured_output"}),
    "messages config": (
        {"output_config": {"format": {"type": "json_schema"}}},
        {"structured_output"},
    ),
    "gemini json": (
        gemini(generationConfig={"responseMimeType": "application/json"}),
        {"structured_output"},
    ),
    "chat effort": ({"reasoning_effort": "high"}, {"reasoning"}),
    "chat no effort": ({"reasoning_effort": "none"}, set()),
    "responses effort": ({"reasoning": {"effort": "low"}}, {"reasoning"}),
    "responses summary alone": ({"reasoning": {"summary": "auto"}}, set()),
    "messages thinking": ({"thinking": {"type": "enabled", "budget_tokens": 9}}, {"reasoning"}),
    "messages adaptive": ({"thinking": {"type": "adaptive"}}, {"reasoning"}),
    "messages no thinking": ({"thinking": {"type": "disabled"}}, set()),
    "gemini thinking": (
        gemini(generationConfig={"thinkingConfig": {"thinkingBudget": -1}}),
        {"reasoning"},
    ),
    "gemini level": (
        gemini(generationConfig={"thinkingConfig": {"thinkingLevel": "low"}}),
        {"reasoning"},
    ),
    "gemini no thinking": (
        gemini(generationConfig={"thinkingConfig": {"thinkingBudget": 0}}),
        set(),
    ),
}


@pytest.mark.parametrize("name", ROWS)
def test_needs(name: str) -> None:
    body, wanted = ROWS[name]
    assert set(needs(body).names()) == wanted
    assert set(needs(body, streaming=True).names()) == {*wanted, "streaming"}


@pytest.mark.parametrize(
    ("body", "tokens"),
    [
        ({}, 0),
        ({"max_tokens": 5}, 5),
        ({"max_completion_tokens": 6, "max_tokens": 5}, 6),
        ({"max_output_tokens": 7}, 7),
        ({"generationConfig": {"maxOutputTokens": 8}}, 8),
        ({"max_tokens": None}, 0),
        ({"max_tokens": True}, 0),
        ({"max_tokens": "9"}, 0),
        ({"max_tokens": -4}, 0),
        ({"max_tokens": 10**400}, 10**12),
    ],
    ids=lambda value: str(value)[:40],
)
def test_the_most_it_may_answer(body: dict[str, Any], tokens: int) -> None:
    assert needs(body).max_output == tokens


def test_the_size_bounds_the_tokens_and_media_say_nothing() -> None:
    long = chat({"type": "text", "text": "word " * 20_000})
    read = needs(long)
    assert read.fewest_tokens < 25_000 < read.most_tokens
    with_image = needs({"messages": [*long["messages"], *chat(IMAGE)["messages"]]})
    assert (with_image.fewest_tokens, with_image.most_tokens) == (0, 0)


LONG = "You are a careful assistant. " * 200
SESSIONS: dict[str, tuple[dict[str, Any], str]] = {
    "cache key": ({"prompt_cache_key": "k", "metadata": {"user_id": "u"}}, "k"),
    "conversation": ({"conversation": "c"}, "c"),
    "conversation object": ({"conversation": {"id": "c"}}, "c"),
    "metadata session": ({"metadata": {"session_id": "s", "user_id": "u"}}, "s"),
    "metadata user": ({"metadata": {"user_id": "u"}}, "u"),
    "nothing": ({"messages": [{"role": "user", "content": "Hello"}]}, ""),
    "odd values": ({"prompt_cache_key": 5, "conversation": [], "metadata": "x"}, ""),
}


@pytest.mark.parametrize("name", SESSIONS)
def test_who_says_which_conversation(name: str) -> None:
    body, wanted = SESSIONS[name]
    assert needs(body).session == wanted


@pytest.mark.parametrize("dialect", ["chat", "messages", "responses", "gemini"])
def test_a_long_beginning_names_the_conversation_while_it_grows(dialect: str) -> None:
    def body(first: str, *later: str) -> dict[str, Any]:
        texts = [first, *later]
        roles = ["user", "assistant"] * len(texts)
        match dialect:
            case "gemini":
                turns = [{"role": r, "parts": [{"text": t}]} for r, t in zip(roles, texts)]  # noqa: B905
                return {"systemInstruction": {"parts": [{"text": LONG}]}, "contents": turns}
            case "responses":
                turns = [{"role": r, "content": t} for r, t in zip(roles, texts)]  # noqa: B905
                return {"instructions": LONG, "input": turns}
            case "messages":
                turns = [{"role": r, "content": t} for r, t in zip(roles, texts)]  # noqa: B905
                return {"system": LONG, "messages": turns}
            case _:
                turns = [{"role": r, "content": t} for r, t in zip(roles, texts)]  # noqa: B905
                return {"messages": [{"role": "system", "content": LONG}, *turns]}

    first = needs(body("one")).session
    assert first
    assert needs(body("one", "answer", "two")).session == first
    assert needs(body("other")).session != first


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)
FIELDS = st.sampled_from(
    (
        "tools messages input contents text thinking reasoning metadata generationConfig "
        "response_format max_tokens conversation system"
    ).split()
)


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(FIELDS, JSON))
def test_no_body_is_refused_for_its_needs(body: dict[str, Any]) -> None:
    body["model"] = "m"
    # Forces the careful look at parts.
    body["image"] = "image"
    read = needs(body)
    assert 0 <= read.bits < 2 * max(BITS.values())


BLOB = {"inlineData": {"mimeType": "image/png", "data": "QQ=="}}
SOUND = {"inlineData": {"mimeType": "audio/wav", "data": "QQ=="}}


@pytest.mark.parametrize(
    ("body", "images"),
    [
        (chat(), 0),
        (chat(IMAGE, IMAGE, {"type": "text", "text": '"image_url"'}), 2),
        (chat(IMAGE, {"type": "file", "file": {}}), 1),
        (chat({"type": "image"}, {"type": "tool_result", "content": [{"type": "image"}]}), 2),
        ({"input": [{"role": "user", "content": [{"type": "input_image"}] * 3}]}, 3),
        (gemini(BLOB, SOUND, BLOB), 2),
    ],
)
def test_images_are_counted_wherever_they_are(body: dict[str, Any], images: int) -> None:
    assert needs(body).images == images


def test_the_size_is_that_of_the_body_as_it_came() -> None:
    assert needs(b'{"messages":  []}').size == 17
