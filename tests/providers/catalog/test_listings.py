"""Listings of every shape, kind and hostile, read into one form."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.catalog.listings import (
    FoundModel,
    UnreadableListing,
    read_facts,
    read_page,
)
from providers.catalog.schema import ListingShape


def read(shape: ListingShape, body: Any) -> tuple[FoundModel, ...]:
    return read_page(shape, json.dumps(body).encode()).models


@pytest.mark.parametrize(
    ("shape", "body", "found"),
    [
        (
            "openai",
            {"object": "list", "data": [{"id": "gpt-4o", "object": "model", "owned_by": "openai"}]},
            FoundModel(id="gpt-4o"),
        ),
        (  # OpenRouter: dollars per token, as text
            "openai",
            {"data": [{
                "id": "z-ai/glm-5.3", "name": "GLM 5.3", "context_length": 2_000_000,
                "architecture": {"input_modalities": ["text", "image", "file"]},
                "pricing": {"prompt": "0.0000014", "completion": "0.0000044",
                            "input_cache_read": "0.00000026", "request": "0"},
                "top_provider": {"context_length": 1_048_576, "max_completion_tokens": 943_718},
                "supported_parameters": ["tools", "reasoning"],
            }]},
            FoundModel(
                id="z-ai/glm-5.3", name="GLM 5.3", context_window=1_048_576,
                max_output_tokens=943_718, modalities=("text", "image", "document"),
                reasoning=True, functions=True,
                price={"input": "1.4", "output": "4.4", "cache_read": "0.26"},
            ),
        ),
        (  # a router has no price of its own
            "openai",
            {"data": [{"id": "openrouter/auto", "pricing": {"prompt": "-1", "completion": "-1"}}]},
            FoundModel(id="openrouter/auto"),
        ),
        (  # Together: a bare array, dollars per million as numbers
            "openai",
            [{"id": "zai-org/GLM-5.3", "type": "chat", "context_length": 1_048_575,
              "pricing": {"input": 1.4, "output": 4.4}}],
            FoundModel(
                id="zai-org/GLM-5.3", kind="chat", context_window=1_048_575,
                price={"input": "1.4", "output": "4.4"},
            ),
        ),
        (  # Vercel: dollars per token as text, under Together's names
            "openai",
            {"data": [{"id": "zai/glm-5.3", "name": "GLM 5.3", "context_window": 1_000_000,
                       "max_tokens": 128_000, "type": "language",
                       "pricing": {"input": "0.0000014", "output": "0.0000044"}}]},
            FoundModel(
                id="zai/glm-5.3", name="GLM 5.3", kind="chat", context_window=1_000_000,
                max_output_tokens=128_000, price={"input": "1.4", "output": "4.4"},
            ),
        ),
        (  # Groq and vLLM
            "openai",
            {"data": [{"id": "m", "context_window": 131_072, "max_completion_tokens": 32_768}]},
            FoundModel(id="m", context_window=131_072, max_output_tokens=32_768),
        ),
        (
            "openai", {"data": [{"id": "m", "max_model_len": 4096}]},
            FoundModel(id="m", context_window=4096),
        ),
        (  # Mistral
            "openai",
            {"data": [{"id": "mistral-small", "max_context_length": 262_144,
                       "capabilities": {"vision": True, "function_calling": True}}]},
            FoundModel(
                id="mistral-small", context_window=262_144, modalities=("text", "image"),
                functions=True,
            ),
        ),
        (
            "anthropic",
            {"data": [{"id": "claude-sonnet-5", "display_name": "Claude Sonnet 5",
                       "max_input_tokens": 1_000_000, "max_tokens": 128_000}], "has_more": False},
            FoundModel(
                id="claude-sonnet-5", name="Claude Sonnet 5", context_window=1_000_000,
                max_output_tokens=128_000,
            ),
        ),
        (
            "gemini",
            {"models": [{"name": "models/gemini-3.8-flash", "displayName": "Gemini 3.8 Flash",
                         "inputTokenLimit": 1_048_576, "outputTokenLimit": 65_536,
                         "supportedGenerationMethods": ["generateContent"], "thinking": True},
                        {"name": "models/aqa", "supportedGenerationMethods": ["generateAnswer"]}]},
            FoundModel(
                id="gemini-3.8-flash", name="Gemini 3.8 Flash", kind="chat",
                context_window=1_048_576, max_output_tokens=65_536, reasoning=True,
            ),
        ),
        (
            "ollama", {"models": [{"name": "llama3:8b", "model": "llama3:8b"}]},
            FoundModel(id="llama3:8b"),
        ),
        (
            "bedrock",
            {"modelSummaries": [
                {"modelId": "amazon.nova-pro-v1:0", "modelName": "Nova Pro",
                 "inputModalities": ["TEXT", "IMAGE"], "modelLifecycle": {"status": "ACTIVE"}},
                {"modelId": "old", "modelLifecycle": {"status": "LEGACY"}}]},
            FoundModel(
                id="amazon.nova-pro-v1:0", name="Nova Pro", modalities=("text", "image")
            ),
        ),
        (
            "copilot",
            {"data": [
                {"id": "gpt-6", "name": "GPT-6", "model_picker_enabled": True,
                 "policy": {"state": "enabled"},
                 "capabilities": {"supports": {"tool_calls": True, "vision": True},
                                  "limits": {"max_context_window_tokens": 128_000,
                                             "max_output_tokens": 16_384}}},
                {"id": "hidden", "model_picker_enabled": False},
                {"id": "refused", "policy": {"state": "disabled"}}]},
            FoundModel(
                id="gpt-6", name="GPT-6", context_window=128_000, max_output_tokens=16_384,
                modalities=("text", "image"), functions=True,
            ),
        ),
        (
            "kiro",
            {"models": [{"modelId": "claude-sonnet-4.6", "modelName": "Sonnet",
                         "rateMultiplier": 1.3, "tokenLimits": {"maxInputTokens": 200_000}}]},
            FoundModel(id="claude-sonnet-4.6", name="Sonnet", context_window=200_000),
        ),
        (
            "codex",
            {"models": [{"slug": "gpt-6-sol", "display_name": "GPT-6 Sol"}]},
            FoundModel(id="gpt-6-sol", name="GPT-6 Sol"),
        ),
        (
            "code-assist",
            {"models": {"gemini-3-flash": {"displayName": "Gemini 3 Flash", "quotaInfo": {}}}},
            FoundModel(id="gemini-3-flash", name="Gemini 3 Flash"),
        ),
    ],
)  # fmt: skip
def test_every_shape(shape: ListingShape, body: Any, found: FoundModel) -> None:
    assert read(shape, body) == (found,)


@pytest.mark.parametrize(
    ("shape", "body", "query"),
    [
        ("anthropic", {"data": [], "has_more": True, "last_id": "m-9"}, {"after_id": "m-9"}),
        ("anthropic", {"data": [], "has_more": False, "last_id": "m-9"}, {}),
        ("gemini", {"models": [], "nextPageToken": "t"}, {"pageToken": "t"}),
        ("kiro", {"models": [], "nextToken": "t"}, {"nextToken": "t"}),
        ("openai", {"data": [], "has_more": True, "last_id": "m"}, {}),
    ],
)
def test_where_the_next_page_is(
    shape: ListingShape, body: dict[str, Any], query: dict[str, str]
) -> None:
    assert read_page(shape, json.dumps(body).encode()).next == query


@pytest.mark.parametrize(
    "body",
    [b"", b"<html>no</html>", b"null", b"7", b'"text"', b"{}", b'{"data": {}}', b'{"error": {}}'],
)
def test_what_is_no_listing_is_said_to_be_none(body: bytes) -> None:
    with pytest.raises(UnreadableListing):
        read_page("openai", body)


@pytest.mark.parametrize(
    "entry",
    [
        {"id": ""}, {"id": 7}, {"id": "a\nb"}, {"id": "x" * 300}, {}, 7, None,
    ],
)  # fmt: skip
def test_entries_without_a_usable_name_are_left_out(entry: Any) -> None:
    assert [model.id for model in read("openai", {"data": [entry, {"id": "good"}]})] == ["good"]


@pytest.mark.parametrize("value", [-1, 0, True, "8k", 1e30, None, [], 2**40])
def test_limits_that_make_no_sense_are_unknown(value: Any) -> None:
    assert (
        read("openai", {"data": [{"id": "m", "context_length": value}]})[0].context_window is None
    )


def test_a_listing_without_end_is_refused() -> None:
    body = {"data": [{"id": f"m-{n}"} for n in range(20_001)]}
    with pytest.raises(UnreadableListing, match="more than 20000"):
        read("openai", body)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(
        st.sampled_from([
            "id", "name", "data", "models", "pricing", "prompt", "completion", "input", "output",
            "context_length", "capabilities", "limits", "policy", "tokenLimits", "modelId", "cost",
            "limit", "context", "modalities", "top_provider", "architecture", "input_modalities",
        ]),
        inner,
        max_size=6,
    ),
    max_leaves=30,
)  # fmt: skip
shapes = st.sampled_from(
    [
        "openai", "anthropic", "gemini", "ollama", "bedrock", "copilot", "kiro", "codex",
        "code-assist",
    ]
)  # fmt: skip


@given(shape=shapes, body=json_values)
def test_no_answer_breaks_the_reader(shape: ListingShape, body: Any) -> None:
    try:
        models = read(shape, body)
    except UnreadableListing:
        return
    for model in models:
        assert model.id
        assert model.context_window is None or model.context_window > 0


@given(body=json_values)
def test_no_facts_file_breaks_the_reader(body: Any) -> None:
    try:
        read_facts(json.dumps(body).encode())
    except UnreadableListing:
        return


def test_a_facts_file() -> None:
    data = b"""{"acme": {"id": "acme", "name": "Acme", "env": ["ACME_KEY"], "models": {
        "big": {"id": "big", "name": "Big", "reasoning": true, "tool_call": true,
          "modalities": {"input": ["text", "image", "pdf"], "output": ["text"]},
          "cost": {"input": 0.1, "output": 0.35, "cache_read": 0.003625, "input_audio": 1,
                   "context_over_200k": {"input": 0.2, "output": 0.7}},
          "limit": {"context": 400000, "output": 128000}},
        "free": {"id": "free", "cost": {"input": 0, "output": 0}, "limit": {"context": 0}},
        "picture": {"id": "picture", "modalities": {"input": ["text"], "output": ["image"]}}}}}"""
    big, free, picture = read_facts(data)["acme"]
    assert big == FoundModel(
        id="big",
        name="Big",
        context_window=400_000,
        max_output_tokens=128_000,
        modalities=("text", "image", "document"),
        reasoning=True,
        functions=True,
        price={
            "input": "0.1",
            "output": "0.35",
            "cache_read": "0.003625",
            "audio_input": "1",
            "tiers": [{"above_input_tokens": 200_000, "input": "0.2", "output": "0.7"}],
        },
    )
    # Nothing said, or said to be nothing: unknown, never free.
    assert (free.price, free.context_window) == (None, None)
    assert picture.kind == "image"


@pytest.mark.parametrize(
    "data", [b"[]", b"{", b'{"acme": 1}', b'{"acme": {}}', b'{"acme": {"models": []}}']
)
def test_what_is_no_facts_file_is_said_to_be_none(data: bytes) -> None:
    with pytest.raises(UnreadableListing):
        read_facts(data)
