"""The simulated Mistral: our codec as the client, hand-written bytes, and what it refuses."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from providers.protocols import mistral_conversations
from providers.protocols.canonical import Message, Text, ToolCall, ToolResult
from providers.simulator.proofs import make
from providers.simulator.scenarios import PIXEL
from tests.providers.simulator.wire.said import NAMES, SAID, TIME, WEATHER, Said, model
from tests.providers.simulator.wire.through_codec import TOOLS, heard, hello, play, spec
from tests.simulator_server import SimulatorServer

BEARER = {"authorization": "Bearer key"}
HELLO: dict[str, Any] = {
    "model": "sim-mistral",
    "messages": [{"role": "user", "content": "hello"}],
}
NINE = re.compile(r"[a-zA-Z0-9]{9}\Z")


def send(simulator: SimulatorServer, body: Any) -> httpx.Response:
    return httpx.post(f"{simulator.url}/mistral/v1/chat/completions", json=body, headers=BEARER)


def expected(scenario: str) -> Said:
    said = SAID[scenario]
    # There is no word for a refusal or a filter.
    reason = "stop" if said.reason in ("refusal", "content_filter") else said.reason
    return Said(said.text, said.thoughts, said.calls, reason)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("scenario", NAMES)
def test_our_codec_reads_every_scenario(
    simulator: SimulatorServer, scenario: str, stream: bool
) -> None:
    codec = mistral_conversations.CODEC
    target = spec(codec, model("sim-mistral", scenario))
    request = hello(tools=TOOLS, stream=stream)
    assert heard(play(f"{simulator.url}/mistral", codec, request, target)) == expected(scenario)
    assert simulator.rules() == []


def test_an_agent_turn_through_our_codec(simulator: SimulatorServer) -> None:
    codec = mistral_conversations.CODEC
    target = spec(codec, "sim-mistral+loop")
    calls = (
        ToolCall(id="call_one", name="get_weather", arguments='{"city": "Bern"}'),
        ToolCall(id="call_two", name="get_time", arguments="{}"),
    )
    results = tuple(ToolResult(call_id=call.id, content=(Text(text="ok"),)) for call in calls)
    request = hello(
        Message(role="user", parts=(Text(text="hello"),)),
        Message(role="assistant", parts=calls),
        Message(role="tool", parts=results),
        tools=TOOLS,
    )
    answer = heard(play(f"{simulator.url}/mistral", codec, request, target))
    assert answer.text == "The tool has answered."
    assert simulator.rules() == []


def test_a_whole_answer(simulator: SimulatorServer) -> None:
    answer = send(simulator, HELLO | {"model": "sim-mistral+thinktool"})
    body = answer.json()
    assert body["object"] == "chat.completion"
    (choice,) = body["choices"]
    assert choice["finish_reason"] == "tool_calls"
    (call,) = choice["message"]["tool_calls"]
    assert NINE.match(call["id"])
    assert call["function"] == {"name": "get_weather", "arguments": '{"city":"simulated"}'}
    assert choice["message"]["content"] == [
        {
            "type": "thinking",
            "thinking": [{"type": "text", "text": "A tool is needed."}],
            "closed": True,
            "signature": make("sim-mistral", "A tool is needed."),
        }
    ]
    usage = body["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    assert "ratelimitbysize-remaining" in answer.headers


def test_a_streamed_answer(simulator: SimulatorServer) -> None:
    body = HELLO | {"model": "sim-mistral+interleaved", "stream": True}
    answer = send(simulator, body)
    lines = [line.removeprefix("data: ") for line in answer.text.split("\n\n") if line]
    assert lines[-1] == "[DONE]"
    chunks = [json.loads(line) for line in lines[:-1]]
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    calls = [
        call for chunk in chunks for call in chunk["choices"][0]["delta"].get("tool_calls", ())
    ]
    assert [call["index"] for call in calls] == [0, 1, 0, 1, 0, 1, 0, 1]
    assert all(NINE.match(call["id"]) for call in calls[:2])
    assert {call["id"] for call in calls[2:]} == {"null"}
    # Usage stands in the last chunk and nowhere else.
    assert ["usage" in chunk for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
    assert chunks[-1]["choices"][0]["finish_reason"] == "tool_calls"


def test_choices_caches_references_and_pictures(simulator: SimulatorServer) -> None:
    two = send(simulator, HELLO | {"n": 2}).json()["choices"]
    assert [choice["message"]["content"] for choice in two] == ["You said: hello"] * 2
    streamed = send(simulator, HELLO | {"n": 2, "stream": True}).text
    ends = re.findall(r'"index":(\d),"delta":{"content":""},"finish_reason":"stop"', streamed)
    assert ends == ["0", "1"]
    cached = send(simulator, HELLO | {"model": "sim-mistral+cached+read=4"}).json()["usage"]
    assert cached["num_cached_tokens"] == cached["prompt_tokens_details"]["cached_tokens"] == 4
    cited = send(simulator, HELLO | {"model": "sim-mistral+citation"}).json()
    assert [chunk["type"] for chunk in cited["choices"][0]["message"]["content"]] == [
        "text",
        "reference",
    ]
    pictured = send(simulator, HELLO | {"model": "sim-mistral+image"}).json()
    chunk = pictured["choices"][0]["message"]["content"][1]
    assert chunk == {"type": "image_url", "image_url": f"data:image/png;base64,{PIXEL}"}
    assert simulator.rules() == []


def test_listing_and_embeddings(simulator: SimulatorServer) -> None:
    base = f"{simulator.url}/mistral/v1"
    listed = httpx.get(f"{base}/models", headers=BEARER).json()
    assert listed["data"][0]["id"] == "sim-mistral"
    assert listed["data"][0]["capabilities"]["function_calling"] is True
    assert httpx.get(f"{base}/models/sim-magistral", headers=BEARER).json()["object"] == "model"
    missing = httpx.get(f"{base}/models/none", headers=BEARER)
    assert (missing.status_code, missing.json()["type"]) == (404, "invalid_model")
    body = {"model": "sim-mistral-embed", "input": ["a", "b"], "output_dimension": 8}
    embedded = httpx.post(f"{base}/embeddings", json=body, headers=BEARER).json()
    assert [len(one["embedding"]) for one in embedded["data"]] == [8, 8]
    assert simulator.rules() == []
    wrong = httpx.post(f"{base}/embeddings", json=body | {"foo": 1}, headers=BEARER)
    assert wrong.status_code == 422
    assert simulator.rules("mistral") == ["extra_forbidden"]


# --- errors ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "invalid_request_error"),
        (403, "forbidden"),
        (404, "invalid_model"),
        (500, "internal_server_error"),
        (503, "unreachable_backend"),
        (529, "service_tier_capacity_exceeded"),
    ],
)
def test_statuses_in_the_vendors_shape(simulator: SimulatorServer, status: int, kind: str) -> None:
    answer = send(simulator, HELLO | {"model": f"sim-mistral+status={status}"})
    assert answer.status_code == status
    body = answer.json()
    assert (body["object"], body["type"], body["param"]) == ("error", kind, None)
    assert body["message"] == f"Simulated status {status}."
    assert simulator.rules() == []


def test_the_gateways_own_errors(simulator: SimulatorServer) -> None:
    url = f"{simulator.url}/mistral/v1/chat/completions"
    missing = httpx.post(url, json=HELLO)
    assert (missing.status_code, missing.json()) == (401, {"detail": "Unauthorized"})
    limited = send(simulator, HELLO | {"model": "sim-mistral+status=429+after=3"})
    assert limited.json() == {"message": "Requests rate limit exceeded"}
    assert limited.headers["retry-after"] == "3"
    body = HELLO | {"model": "sim-mistral+text+miderror=2", "stream": True}
    last = send(simulator, body).text.strip().split("\n\n")[-1]
    assert json.loads(last.removeprefix("data: "))["object"] == "error"


# --- what is refused ---------------------------------------------------------------------

CALL = {"id": "abcDEF123", "function": {"name": "get_weather", "arguments": "{}"}}
OTHER_CALL = {"id": "xyzXYZ789", "function": {"name": "get_time", "arguments": {}}}
RESULT = {"role": "tool", "tool_call_id": "abcDEF123", "name": "get_weather", "content": "ok"}
OTHER_RESULT = {
    "role": "tool",
    "tool_call_id": "xyzXYZ789",
    "content": [{"type": "text", "text": "ok"}],
}
THOUGHT = {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}], "closed": True}
FUNCTION = {"name": "get_weather", "parameters": WEATHER}
TOOL = {"type": "function", "function": FUNCTION}


def history() -> dict[str, Any]:
    return copy.deepcopy(
        {
            "model": "sim-mistral",
            "messages": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": "hello"},
                {"role": "assistant", "content": [THOUGHT], "tool_calls": [CALL, OTHER_CALL]},
                RESULT,
                OTHER_RESULT,
            ],
            "tools": [TOOL, {"type": "function", "function": FUNCTION | {"name": "get_time"}}],
        }
    )


def _history(change: Callable[[list[Any]], object]) -> dict[str, Any]:
    body = history()
    change(body["messages"])
    return body


def _with(**fields: Any) -> dict[str, Any]:
    return HELLO | fields


def _messages(*messages: dict[str, Any]) -> dict[str, Any]:
    return {"model": "sim-mistral", "messages": list(messages)}


def _user(*chunks: Any) -> dict[str, Any]:
    return _messages({"role": "user", "content": list(chunks)})


def _function(**fields: Any) -> dict[str, Any]:
    return _with(tools=[{"type": "function", "function": FUNCTION | fields}])


def _said(role: str, content: Any = "x", **fields: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **fields}


USER = _said("user")
IMAGE = {"type": "image_url", "image_url": f"data:image/png;base64,{PIXEL}"}
INVALID: list[tuple[str, str, dict[str, Any]]] = [
    # What Chat Completions has and Mistral has not.
    ("extra_forbidden", "max_completion_tokens", _with(max_completion_tokens=5)),
    ("extra_forbidden", "stream_options", _with(stream=True, stream_options={})),
    ("extra_forbidden", "seed", _with(seed=1)),
    ("extra_forbidden", "logit_bias", _with(logit_bias={})),
    ("extra_forbidden", "store", _with(store=False)),
    ("extra_forbidden", "user", _with(user="u")),
    ("extra_forbidden", "messages.0.name", _messages(_said("user", name="ann"))),
    ("missing", "model", {"messages": [USER]}),
    ("missing", "messages", {"model": "sim-mistral"}),
    ("enum", "messages.0.role", _messages(_said("developer"), USER)),
    ("missing", "messages.0.content", _messages({"role": "user"})),
    ("enum", "messages.0.content.0.type", _user({"type": "image", "image": "x"})),
    (
        "extra_forbidden",
        "messages.0.content.0.cache_control",
        _user({"type": "text", "text": "x", "cache_control": {}}),
    ),
    (
        "url_parsing",
        "messages.0.content.0.image_url",
        _user({"type": "image_url", "image_url": "x"}),
    ),
    ("less_than_equal", "temperature", _with(temperature=1.6)),
    ("greater_than_equal", "top_p", _with(top_p=-1)),
    ("greater_than_equal", "n", _with(n=0)),
    ("int_type", "max_tokens", _with(max_tokens="5")),
    ("bool_type", "safe_prompt", _with(safe_prompt="no")),
    ("enum", "prompt_mode", _with(prompt_mode="chat")),
    ("enum", "reasoning_effort", _with(reasoning_effort="extreme")),
    ("enum", "service_tier", _with(service_tier="flex")),
    ("enum", "tool_choice", _with(tool_choice="sometimes")),
    (
        "missing",
        "tools.0.function.parameters",
        _with(tools=[{"type": "function", "function": {"name": "f"}}]),
    ),
    ("bool_type", "tools.0.function.strict", _function(strict="yes")),
    ("enum", "response_format.type", _with(response_format={"type": "yaml"})),
    (
        "missing",
        "response_format.json_schema.schema",
        _with(response_format={"type": "json_schema", "json_schema": {"name": "n"}}),
    ),
]


@pytest.mark.parametrize(("kind", "place", "body"), INVALID)
def test_the_validator_says_where(
    simulator: SimulatorServer, kind: str, place: str, body: dict[str, Any]
) -> None:
    answer = send(simulator, body)
    assert answer.status_code == 422, answer.text
    (detail,) = answer.json()["detail"]
    assert detail["type"] == kind
    assert ".".join(str(step) for step in detail["loc"]) == f"body.{place}"
    assert detail["msg"]
    assert simulator.rules("mistral") == [kind]


REFUSED: list[tuple[str, str, dict[str, Any]]] = [
    ("messages", "3230", _messages()),
    ("last_role", "3230", _messages(USER, _said("assistant"))),
    ("last_role", "3230", _messages(_said("system"))),
    ("prefix", "3230", _messages(USER, _said("assistant", prefix=True), USER)),
    ("empty_assistant", "3240", _messages(USER, _said("assistant", ""), USER)),
    ("orphan_result", "3230", _messages(USER, RESULT)),
    ("orphan_result", "3280", _history(lambda turns: turns[3].update(tool_call_id="zzzzzzzzz"))),
    ("results", "3230", _history(lambda turns: turns.pop())),
    ("results", "3230", _history(lambda turns: turns.insert(3, USER))),
    ("call_id", "3280", _history(lambda turns: turns[2]["tool_calls"][0].update(id="call_0001"))),
    ("call_id", "3280", _history(lambda turns: turns[2]["tool_calls"][0].update(id="short"))),
    (
        "call_id",
        "3280",
        _history(lambda turns: turns[2]["tool_calls"][0].update(id=OTHER_CALL["id"])),
    ),
    ("call_id", "3280", _history(lambda turns: turns[3].update(tool_call_id="null"))),
    (
        "tool_name",
        "3280",
        _history(lambda turns: turns[2]["tool_calls"][0]["function"].update(name="a.b")),
    ),
    ("thinking_first", "3240", _history(lambda turns: turns[2]["content"].append(THOUGHT))),
    ("images", "3310", _user(*[IMAGE] * 9)),
    ("tool_name", "3280", _function(name="a b")),
    ("duplicate_tool", "3280", _with(tools=[TOOL, TOOL])),
    ("tool_choice", "3280", _with(tool_choice="any")),
    (
        "tool_choice",
        "3280",
        _with(tools=[TOOL], tool_choice={"type": "function", "function": {"name": "x"}}),
    ),
]


@pytest.mark.parametrize(
    ("rule", "code", "body"), REFUSED, ids=[f"{i}-{rule}" for i, (rule, *_) in enumerate(REFUSED)]
)
def test_refuses(simulator: SimulatorServer, rule: str, code: str, body: dict[str, Any]) -> None:
    answer = send(simulator, body)
    assert answer.status_code == 400, answer.text
    assert answer.json()["object"] == "error"
    assert answer.json()["code"] == code
    assert answer.json()["type"].startswith("invalid_")
    assert simulator.rules("mistral") == [rule]


ACCEPTED = [
    history(),
    # No answer is needed any more between a tool's result and the next question.
    _history(lambda turns: turns.append(_said("user", "and?"))),
    _messages(USER, _said("assistant", "It is", prefix=True)),
    _user(
        {"type": "text", "text": "look"},
        IMAGE,
        {"type": "image_url", "image_url": {"url": "https://x.test/a.png", "detail": "low"}},
    ),
    _user({"type": "document_url", "document_url": "https://x.test/a.pdf", "document_name": "a"}),
    _with(
        random_seed=1,
        top_k=5,
        min_tokens=0,
        safe_prompt=True,
        prompt_mode="reasoning",
        service_tier="priority",
        metadata={"a": "b"},
        prompt_cache_key="k",
        stop="x",
    ),
    _with(tools=[TOOL, {"type": "web_search"}], tool_choice="required", parallel_tool_calls=False),
    _with(
        response_format={
            "type": "json_schema",
            "json_schema": {"name": "w", "schema": TIME, "strict": True},
        }
    ),
]


@pytest.mark.parametrize("body", ACCEPTED)
def test_accepts(simulator: SimulatorServer, body: dict[str, Any]) -> None:
    answer = send(simulator, body)
    assert answer.status_code == 200, answer.text
    assert simulator.rules() == []
