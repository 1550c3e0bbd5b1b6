"""What the simulated Gemini API refuses, by which rule, and what it must not refuse."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from providers.simulator.proofs import make
from providers.simulator.scenarios import PIXEL
from tests.providers.simulator.wire.google_said import (
    CALL,
    DECLARED,
    HELLO,
    RESPONSE,
    SIGNED,
    history,
)
from tests.providers.simulator.wire.said import WEATHER
from tests.simulator_server import SimulatorServer

URL = "/gemini/v1beta/models/{}:generateContent"


def send(simulator: SimulatorServer, body: Any, name: str = "sim-gemini-3") -> httpx.Response:
    return httpx.post(simulator.url + URL.format(name), json=body, headers={"x-goog-api-key": "k"})


def _contents(*turns: tuple[str, list[Any]]) -> dict[str, Any]:
    return {"contents": [{"role": role, "parts": parts} for role, parts in turns]}


def _user(*parts: Any) -> dict[str, Any]:
    return _contents(("user", list(parts)))


def _with(**fields: Any) -> dict[str, Any]:
    return HELLO | fields


def _config(**fields: Any) -> dict[str, Any]:
    return _with(generationConfig=fields)


def _thinks(**fields: Any) -> dict[str, Any]:
    return _config(thinkingConfig=fields)


def _declare(**fields: Any) -> dict[str, Any]:
    return _with(tools=[{"functionDeclarations": [DECLARED | fields]}])


def _parameters(schema: Any) -> dict[str, Any]:
    return _with(tools=[{"functionDeclarations": [{"name": "f", "parameters": schema}]}])


def _property(schema: Any) -> dict[str, Any]:
    return _parameters({"type": "OBJECT", "properties": {"p": schema}})


def _json_property(schema: Any) -> dict[str, Any]:
    return _declare(parametersJsonSchema={"type": "object", "properties": {"p": schema}})


def _choose(**fields: Any) -> dict[str, Any]:
    return _declare() | {"toolConfig": {"functionCallingConfig": fields}}


def _history(change: Callable[[list[Any]], object]) -> dict[str, Any]:
    body = history()
    change(body["contents"])
    return body


def _call(turns: list[Any], **fields: Any) -> None:
    turns[1]["parts"][0]["functionCall"].update(fields)


def _reply(turns: list[Any], **fields: Any) -> None:
    turns[2]["parts"][0]["functionResponse"].update(fields)


IMAGE = {"inlineData": {"mimeType": "image/png", "data": PIXEL}}
REFUSED: list[tuple[str, dict[str, Any]]] = [
    ("contents", {"contents": []}),
    ("type", {"contents": "hello"}),
    ("unknown_field", _with(foo=1)),
    ("unknown_field", _with(labels={"a": "b"})),
    ("unknown_field", _user({"text": "x", "cache_control": {}})),
    ("role", _contents(("assistant", [{"text": "x"}]))),
    ("parts", _user()),
    ("part_data", _user({})),
    ("part_data", _user({"text": "x", "inlineData": IMAGE["inlineData"]})),
    ("empty_text", _user({"text": ""})),
    ("first_role", _contents(("model", [{"text": "x"}]), ("user", [{"text": "x"}]))),
    ("last_role", _contents(("user", [{"text": "x"}]), ("model", [{"text": "x"}]))),
    ("base64", _user({"inlineData": {"mimeType": "image/png", "data": "***"}})),
    ("media_type", _user({"inlineData": {"mimeType": "image/jpeg", "data": PIXEL}})),
    ("mime_type", _user({"inlineData": {"mimeType": "png", "data": PIXEL}})),
    ("file_uri", _user({"fileData": {"fileUri": "ftp://x"}})),
    # Calls and their answers.
    ("call_role", _user(CALL)),
    ("orphan_response", _user(RESPONSE)),
    ("missing_response", _history(lambda turns: turns[2]["parts"].pop())),
    (
        "missing_response",
        _history(lambda turns: turns.append({"parts": [turns[2]["parts"].pop()]})),
    ),
    ("missing_response", _history(lambda turns: turns.insert(2, turns[1]))),
    ("response_order", _history(lambda turns: turns[2]["parts"].reverse())),
    ("response_order", _history(lambda turns: _reply(turns, name="other"))),
    ("response_order", _history(lambda turns: _reply(turns, id="c9"))),
    ("response_role", _history(lambda turns: turns[1]["parts"].append(RESPONSE))),
    (
        "call_order",
        _history(lambda turns: turns.insert(1, {"role": "model", "parts": [{"text": "x"}]})),
    ),
    ("type", _history(lambda turns: _reply(turns, response="text"))),
    ("type", _history(lambda turns: _call(turns, args="{}"))),
    ("function_name", _history(lambda turns: _call(turns, name="7up"))),
    ("function_name", _history(lambda turns: _reply(turns, name=""))),
    ("call_id", _history(lambda turns: turns[1]["parts"][0]["functionCall"].pop("id"))),
    ("call_id", _history(lambda turns: _call(turns, id="c2"))),
    # Signatures.
    (
        "signature_missing",
        _history(lambda turns: turns[1]["parts"][0].pop("thoughtSignature")),
    ),
    (
        "signature_base64",
        _history(lambda turns: turns[1]["parts"][0].update(thoughtSignature="not base64!")),
    ),
    (
        "signature_corrupt",
        _history(lambda turns: turns[1]["parts"][0].update(thoughtSignature="ErUBCkYIChgC")),
    ),
    (
        "signature_corrupt",
        _history(
            lambda turns: turns[1]["parts"][0].update(
                thoughtSignature=make("sim-claude", "call:get_weather")
            )
        ),
    ),
    # Tools and their schemas.
    ("function_name", _declare(name="with space")),
    ("function_name", _declare(name="x" * 65)),
    ("unknown_field", _declare(strict=True)),
    ("two_schemas", _declare(parameters={"type": "OBJECT", "properties": {"a": {}}})),
    (
        "duplicate_function",
        _with(tools=[{"functionDeclarations": [DECLARED, DECLARED]}]),
    ),
    (
        "tool_objects",
        _with(
            tools=[
                {"functionDeclarations": [DECLARED]},
                {"functionDeclarations": [DECLARED | {"name": "other"}]},
            ]
        ),
    ),
    ("mixed_tools", _with(tools=[{"functionDeclarations": [DECLARED]}, {"googleSearch": {}}])),
    ("schema_root", _parameters({"type": "STRING"})),
    ("schema_empty", _parameters({"type": "OBJECT", "properties": {}})),
    ("schema_word", _parameters({"type": "OBJECT", "properties": {"a": {}}, "$schema": "x"})),
    ("schema_word", _property({"type": "STRING", "const": "x"})),
    ("schema_type", _property({"type": ["STRING", "NULL"]})),
    ("schema_type", _property({"type": "FLOAT"})),
    ("schema_enum", _property({"type": "INTEGER", "enum": [1, 2]})),
    ("schema_format", _property({"type": "STRING", "format": "email"})),
    ("schema_items", _property({"type": "ARRAY"})),
    (
        "schema_required",
        _parameters({"type": "OBJECT", "properties": {"a": {}}, "required": ["b"]}),
    ),
    ("schema_const", _json_property({"const": "x"})),
    ("schema_ref", _json_property({"$ref": "#/$defs/Nothing"})),
    ("schema_root", _declare(parametersJsonSchema={"type": "string"})),
    # Choice.
    ("calling_config", _with(toolConfig={"functionCallingConfig": {"mode": "NONE"}})),
    ("enum", _choose(mode="SOMETIMES")),
    ("allowed_names", _choose(mode="AUTO", allowedFunctionNames=["get_weather"])),
    ("allowed_names", _choose(mode="ANY", allowedFunctionNames=["other"])),
    # Generation.
    ("unknown_field", _config(maxTokens=5)),
    ("range", _config(temperature=2.5)),
    ("range", _config(maxOutputTokens=0)),
    ("range", _config(topP=1.5)),
    ("stop", _config(stopSequences=list("abcdef"))),
    ("logprobs", _config(logprobs=3)),
    ("enum", _config(responseMimeType="application/xml")),
    ("schema_mime_type", _config(responseJsonSchema=WEATHER)),
    (
        "two_schemas",
        _config(
            responseMimeType="application/json",
            responseJsonSchema=WEATHER,
            responseSchema={"type": "OBJECT"},
        ),
    ),
    ("budget_and_level", _thinks(thinkingBudget=100, thinkingLevel="LOW")),
    ("enum", _thinks(thinkingLevel="EXTREME")),
    ("thinking_budget", _thinks(thinkingBudget=0)),
    ("range", _thinks(thinkingBudget=-5)),
    # The rest.
    ("cached_content", _with(cachedContent="mine")),
    (
        "cached_content",
        _with(cachedContent="cachedContents/a", systemInstruction={"parts": [{"text": "x"}]}),
    ),
    ("system", _with(systemInstruction={"parts": []})),
    ("system", _with(systemInstruction={"parts": [IMAGE]})),
    ("empty_text", _with(systemInstruction={"parts": [{"text": ""}]})),
    ("enum", _with(serviceTier="golden")),
    ("enum", _with(safetySettings=[{"category": "RUDE", "threshold": "OFF"}])),
    (
        "safety",
        _with(safetySettings=[{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "OFF"}] * 2),
    ),
]


@pytest.mark.parametrize(
    ("rule", "body"), REFUSED, ids=[f"{i}-{rule}" for i, (rule, _) in enumerate(REFUSED)]
)
def test_refuses(simulator: SimulatorServer, rule: str, body: dict[str, Any]) -> None:
    answer = send(simulator, body)
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["status"] == "INVALID_ARGUMENT"
    assert simulator.rules("gemini") == [rule]


BY_FAMILY: list[tuple[str, str, dict[str, Any]]] = [
    ("sim-gemini-2.5", "thinking_level", _thinks(thinkingLevel="LOW")),
    ("sim-gemini-4-argon", "thinking_budget", _thinks(thinkingBudget=1024)),
    (
        "sim-gemini-2.5",
        "mixed_tools",
        _declare() | {"tools": [{"functionDeclarations": [DECLARED], "googleSearch": {}}]},
    ),
    (
        "sim-gemini-2.5",
        "response_media",
        _history(
            lambda turns: (
                turns[1]["parts"][0].pop("thoughtSignature"),
                _reply(turns, parts=[IMAGE]),
            )
        ),
    ),
]


@pytest.mark.parametrize(("name", "rule", "body"), BY_FAMILY)
def test_refuses_by_generation(
    simulator: SimulatorServer, name: str, rule: str, body: dict[str, Any]
) -> None:
    assert send(simulator, body, name).status_code == 400
    assert simulator.rules("gemini") == [rule]


def _unsigned(body: dict[str, Any], *, signature: str = "") -> dict[str, Any]:
    part = body["contents"][1]["parts"][0]
    part.pop("thoughtSignature")
    if signature:
        part["thoughtSignature"] = signature
    return body


def _older_turn() -> dict[str, Any]:
    body = _unsigned(history())
    body["contents"] += [
        {"role": "model", "parts": [{"text": "It is sunny."}]},
        {"role": "user", "parts": [{"text": "thanks"}]},
    ]
    return body


ACCEPTED: list[tuple[str, dict[str, Any]]] = [
    ("sim-gemini-3", history()),
    ("sim-gemini-3", _unsigned(history(), signature="skip_thought_signature_validator")),
    # The SDK sends bytes in the URL-safe alphabet.
    (
        "sim-gemini-3",
        _unsigned(history(), signature=SIGNED.translate(str.maketrans("+/", "-_"))),
    ),
    # Signatures are asked for in the current turn only.
    ("sim-gemini-3", _older_turn()),
    ("sim-gemini", _unsigned(history())),
    ("sim-gemini-3", _thinks(thinkingLevel="low", includeThoughts=True)),
    ("sim-gemini-2.5", _thinks(thinkingBudget=0)),
    ("sim-gemini-3", _user({"text": "", "thoughtSignature": make("sim-gemini-3", "x")})),
    # Properties may be called like keywords.
    ("sim-gemini-3", _property({"type": "object", "properties": {"const": {"type": "string"}}})),
    ("sim-gemini-3", _json_property({"type": "object", "properties": {"$ref": {}, "const": {}}})),
    ("sim-gemini-3", _with(cachedContent="cachedContents/abc-1")),
    # The names of the Python client.
    (
        "sim-gemini-3",
        {
            "contents": [{"parts": [{"inline_data": {"mime_type": "image/png", "data": PIXEL}}]}],
            "system_instruction": {"parts": [{"text": "Be brief."}]},
            "generation_config": {"max_output_tokens": 5, "thinking_config": {}},
        },
    ),
]


@pytest.mark.parametrize(("name", "body"), ACCEPTED)
def test_accepts(simulator: SimulatorServer, name: str, body: dict[str, Any]) -> None:
    answer = send(simulator, body, name)
    assert answer.status_code == 200, answer.text
    assert simulator.rules() == []


def test_refuses_wrong_counts_and_embeddings(simulator: SimulatorServer) -> None:
    base = f"{simulator.url}/gemini/v1beta/models/"
    wrong = [
        ("sim-gemini:countTokens", {"contents": []}),
        (
            "sim-gemini:countTokens",
            HELLO | {"generateContentRequest": {"model": "models/sim-gemini"} | HELLO},
        ),
        ("sim-gemini:countTokens", {"generateContentRequest": HELLO}),
        ("e:embedContent", {"content": {"parts": []}}),
        ("e:embedContent", {"content": {"parts": [{"text": "x"}]}, "taskType": "FUN"}),
        ("e:batchEmbedContents", {"requests": [{"content": {"parts": [{"text": "x"}]}}]}),
    ]
    for path, body in wrong:
        assert httpx.post(f"{base}{path}?key=k", json=body).status_code == 400, path
    assert simulator.rules("gemini") == ["contents", "count", "model", "content", "enum", "model"]
    right = {"generateContentRequest": {"model": "models/sim-gemini"} | HELLO}
    counted = httpx.post(f"{base}sim-gemini:countTokens?key=k", json=right).json()
    assert counted["totalTokens"] > 0


def test_a_body_of_more_than_20_megabytes(simulator: SimulatorServer) -> None:
    answer = send(simulator, _user({"text": "x" * (20 * 1024 * 1024 + 1)}))
    assert answer.status_code == 413
    assert simulator.rules("gemini") == ["too_large"]
