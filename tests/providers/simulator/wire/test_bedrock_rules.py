"""What the simulated Bedrock refuses, by which rule, and what it must not refuse."""

from __future__ import annotations

import base64
import copy
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from providers.simulator.proofs import make
from providers.simulator.scenarios import PIXEL
from tests.providers.simulator.wire.bedrock_said import CONVERSATION, TOOL_CONFIG
from tests.providers.simulator.wire.said import WEATHER
from tests.simulator_server import SimulatorServer

CALL = {"toolUse": {"toolUseId": "t1", "name": "get_weather", "input": {"city": "Bern"}}}
RESULT = {"toolResult": {"toolUseId": "t1", "content": [{"text": "ok"}]}}
IMAGE = {"image": {"format": "png", "source": {"bytes": PIXEL}}}
DOCUMENT = {"format": "pdf", "name": "a b", "source": {"bytes": "JVBERi0xLjQ="}}
THOUGHT = {
    "reasoningContent": {"reasoningText": {"text": "x", "signature": make("sim-claude", "x")}}
}
POINT = {"cachePoint": {"type": "default"}}
THINKS = {"thinking": {"type": "enabled", "budget_tokens": 1024}}


def history() -> dict[str, Any]:
    return copy.deepcopy(
        {
            "messages": [
                {"role": "user", "content": [{"text": "hello"}]},
                {"role": "assistant", "content": [THOUGHT, {"text": "I look."}, CALL]},
                {"role": "user", "content": [RESULT, {"text": "and?"}]},
            ],
            "toolConfig": TOOL_CONFIG,
        }
    )


def _history(change: Callable[[list[Any]], object]) -> dict[str, Any]:
    body = history()
    change(body["messages"])
    return body


def _user(*blocks: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": list(blocks)}]}


def _turns(*roles: str) -> dict[str, Any]:
    return {"messages": [{"role": role, "content": [{"text": "x"}]} for role in roles]}


def _with(**fields: Any) -> dict[str, Any]:
    return {"messages": CONVERSATION, **fields}


def _tool(**fields: Any) -> dict[str, Any]:
    specification = TOOL_CONFIG["tools"][0]["toolSpec"] | fields
    return _with(toolConfig={"tools": [{"toolSpec": specification}]})


def _choose(choice: Any) -> dict[str, Any]:
    return _with(toolConfig=TOOL_CONFIG | {"toolChoice": choice})


def _thinks(**fields: Any) -> dict[str, Any]:
    return _with(additionalModelRequestFields=THINKS, **fields)


def _document(**fields: Any) -> dict[str, Any]:
    return _user({"text": "x"}, {"document": DOCUMENT | fields})


def _assistant(*blocks: Any) -> dict[str, Any]:
    return _history(lambda turns: turns[1].update(content=[*blocks, CALL]))


def _result(**fields: Any) -> dict[str, Any]:
    return _history(lambda turns: turns[2]["content"][0]["toolResult"].update(fields))


def _call(**fields: Any) -> dict[str, Any]:
    return _history(lambda turns: turns[1]["content"][2]["toolUse"].update(fields))


REFUSED: list[tuple[str, dict[str, Any]]] = [
    ("unknown_field", _with(max_tokens=5)),
    ("first_role", {"messages": []}),
    ("first_role", _turns("assistant", "user")),
    ("enum", _turns("system", "user")),
    ("alternation", _turns("user", "user")),
    ("alternation", _turns("user", "assistant", "assistant", "user")),
    ("empty_content", _user()),
    ("blank_text", _user({"text": " "})),
    ("union", _user({"text": "x", "image": IMAGE["image"]})),
    ("union", _user({"type": "text", "text": "x"})),
    ("union", _user(CALL)),
    ("union", _user({"reasoningContent": {}})),
    (
        "trailing_space",
        {"messages": [*CONVERSATION, {"role": "assistant", "content": [{"text": "a "}]}]},
    ),
    # Media.
    ("enum", _user({"image": {"format": "bmp", "source": {"bytes": PIXEL}}})),
    ("media_type", _user({"image": {"format": "jpeg", "source": {"bytes": PIXEL}}})),
    ("base64", _user({"image": {"format": "png", "source": {"bytes": "*"}}})),
    ("union", _user({"image": {"format": "png", "source": {"url": "https://x"}}})),
    ("images", _user(*[IMAGE] * 21)),
    ("document_name", _document(name="report.pdf")),
    ("document_name", _document(name="two  spaces")),
    ("enum", _document(format="exe")),
    ("media_type", _document(source={"bytes": PIXEL})),
    # Tools.
    ("tool_config", _history(lambda turns: None) | {"toolConfig": None}),
    ("orphan_result", _user(RESULT) | {"toolConfig": TOOL_CONFIG}),
    ("missing_result", _history(lambda turns: turns[2]["content"].pop(0))),
    ("missing_result", _history(lambda turns: turns.pop())),
    ("orphan_result", _result(toolUseId="t9")),
    ("result_order", _history(lambda turns: turns[2]["content"].reverse())),
    ("empty_content", _result(content=[])),
    ("blank_text", _result(content=[{"text": ""}])),
    ("enum", _result(status="failed")),
    ("empty_key", _result(content=[{"json": {"": 1}}])),
    ("call_id", _call(toolUseId="has space")),
    ("call_id", _call(toolUseId="x" * 65)),
    ("call_id", _call(toolUseId="not:claude")),
    ("tool_name", _call(name="a.b")),
    ("empty_key", _call(input={"a": {"": 1}})),
    ("type", _call(input="{}")),
    ("tools", _with(toolConfig={"tools": []})),
    ("tool_name", _tool(name="a b")),
    ("tool_description", _tool(description="")),
    ("input_schema", _tool(inputSchema=WEATHER)),
    ("schema_root", _tool(inputSchema={"json": {"type": "string"}})),
    ("duplicate_tool", _with(toolConfig={"tools": TOOL_CONFIG["tools"][:1] * 2})),
    ("union", _choose({"none": {}})),
    ("tool_choice", _choose({"tool": {"name": "other"}})),
    # Knobs.
    ("range", _with(inferenceConfig={"maxTokens": 0})),
    ("range", _with(inferenceConfig={"temperature": 1.5})),
    ("empty_text", _with(inferenceConfig={"stopSequences": [" "]})),
    ("unknown_field", _with(inferenceConfig={"topK": 5})),
    ("blank_text", _with(system=[{"text": ""}])),
    ("metadata", _with(requestMetadata={"key": "émoji"})),
    ("enum", _with(serviceTier={"type": "gold"})),
    ("enum", _with(performanceConfig={"latency": "none"})),
    ("field_paths", _with(additionalModelResponseFieldPaths=["stop_sequence"])),
    ("enum", _with(outputConfig={"effort": "extreme"})),
    (
        "output_schema",
        _with(
            outputConfig={
                "textFormat": {
                    "type": "json_schema",
                    "structure": {"jsonSchema": {"schema": "not json"}},
                }
            }
        ),
    ),
    # Thinking.
    (
        "range",
        _with(additionalModelRequestFields={"thinking": {"type": "enabled", "budget_tokens": 5}}),
    ),
    ("budget", _thinks(inferenceConfig={"maxTokens": 1024})),
    ("thinking_temperature", _thinks(inferenceConfig={"temperature": 0.5})),
    ("thinking_top_p", _thinks(inferenceConfig={"topP": 0.5})),
    ("thinking_tool_choice", _choose({"any": {}}) | {"additionalModelRequestFields": THINKS}),
    ("thinking_first", _assistant({"text": "x"}) | {"additionalModelRequestFields": THINKS}),
    ("prefill", _turns("user", "assistant") | {"additionalModelRequestFields": THINKS}),
    (
        "signature",
        _assistant({"reasoningContent": {"reasoningText": {"text": "x", "signature": "abc"}}}),
    ),
    (
        "signature",
        _assistant({"reasoningContent": {"redactedContent": base64.b64encode(b"x").decode()}}),
    ),
    # Cache points.
    ("cache_points", _user(POINT, {"text": "x"})),
    ("cache_points", _user({"text": "x"}, *[POINT] * 5)),
    ("enum", _user({"text": "x"}, {"cachePoint": {"type": "default", "ttl": "2h"}})),
]


def send(simulator: SimulatorServer, body: Any, name: str = "sim-claude") -> httpx.Response:
    return httpx.post(
        f"{simulator.url}/bedrock/model/{name}/converse",
        json=body,
        headers={"authorization": "Bearer k"},
    )


@pytest.mark.parametrize(
    ("rule", "body"), REFUSED, ids=[f"{i}-{rule}" for i, (rule, _) in enumerate(REFUSED)]
)
def test_refuses(simulator: SimulatorServer, rule: str, body: dict[str, Any]) -> None:
    answer = send(simulator, body)
    assert answer.status_code == 400, answer.text
    assert answer.headers["x-amzn-errortype"].startswith("ValidationException:")
    assert list(answer.json()) == ["message"]
    assert simulator.rules("bedrock") == [rule]


BY_MODEL = [
    ("cache_model", _user({"text": "x"}, POINT)),
    ("cache_model", _with(system=[{"text": "x"}, POINT])),
    ("cache_model", _with(toolConfig={"tools": [*TOOL_CONFIG["tools"], POINT]})),
    ("thinking", _thinks()),
    ("signature", history()),
]


@pytest.mark.parametrize(("rule", "body"), BY_MODEL)
def test_other_models_refuse_what_only_claude_knows(
    simulator: SimulatorServer, rule: str, body: dict[str, Any]
) -> None:
    assert send(simulator, body, "sim-llama").status_code == 400
    assert simulator.rules("bedrock") == [rule]


ACCEPTED = [
    ("sim-claude", history()),
    ("sim-claude", history() | {"additionalModelRequestFields": THINKS}),
    ("sim-claude", _turns("user", "assistant")),
    ("sim-nova", _user({"text": "x"}, POINT)),
    ("sim-llama", _with(additionalModelRequestFields={"reasoning_effort": "low"})),
    ("sim-claude", _document(citations={"enabled": True}, context="c")),
]


@pytest.mark.parametrize(("name", "body"), ACCEPTED)
def test_accepts(simulator: SimulatorServer, name: str, body: dict[str, Any]) -> None:
    answer = send(simulator, body, name)
    assert answer.status_code == 200, answer.text
    assert simulator.rules() == []
