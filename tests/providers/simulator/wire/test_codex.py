"""Codex: everything that must be sent, everything that must not, and how it ends."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from typing import Any

import pytest

from providers.simulator import proofs
from tests.providers.simulator.raw_http import Answer, ask
from tests.simulator_server import SimulatorServer

PATH = "/codex/backend-api/codex/responses"
ENCRYPTED = "reasoning.encrypted_content"
USER: dict[str, Any] = {"role": "user", "content": [{"type": "input_text", "text": "hello"}]}
WEATHER: dict[str, Any] = {
    "type": "function",
    "name": "weather",
    "parameters": {"type": "object", "properties": {}},
    "strict": None,
}
BODY: dict[str, Any] = {
    "model": "sim-codex",
    "instructions": "You are a helpful assistant.",
    "input": [USER],
    "stream": True,
    "store": False,
    "include": [ENCRYPTED],
    "tool_choice": "auto",
    "parallel_tool_calls": True,
    "text": {"verbosity": "medium"},
}


def token(account: str = "acct-1") -> str:
    """A login's token: only its claims are looked at."""
    claims = {"https://api.openai.com/auth": {"chatgpt_account_id": account}}
    payload = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    return f"e30.{payload}.c2ln"


def post(
    simulator: SimulatorServer, path: str = PATH, account: str = "acct-1", **fields: Any
) -> Answer:
    body = {name: value for name, value in {**BODY, **fields}.items() if value != "absent"}
    headers = {"authorization": f"Bearer {token()}", "chatgpt-account-id": account}
    return ask(simulator.url, path, body, headers=headers)


@pytest.mark.parametrize("path", [PATH, "/codex/codex/responses"])
def test_a_right_request_is_streamed(simulator: SimulatorServer, path: str) -> None:
    answer = post(simulator, path)
    assert (answer.status, simulator.rules()) == (200, [])
    assert answer.headers["content-type"].startswith("text/event-stream")
    text = "".join(e["delta"] for e in answer.events() if e["type"].endswith("text.delta"))
    assert text == "You said: hello"


def test_the_end_is_terse(simulator: SimulatorServer) -> None:
    answer = post(simulator, model="sim-codex+thinktool", tools=[WEATHER])
    last = answer.events()[-1]
    assert last["type"] == "response.completed"
    assert last["response"]["output"] == []
    assert last["response"]["usage"]["output_tokens"] > 0
    assert not answer.body.endswith(b"\n")
    done = [e["item"] for e in answer.events() if e["type"] == "response.output_item.done"]
    assert [item["type"] for item in done] == ["reasoning", "function_call"]
    assert proofs.is_whole(done[0]["encrypted_content"], "sim-codex")


def test_the_end_has_a_second_name(simulator: SimulatorServer) -> None:
    answer = post(simulator, model="sim-codex+text+done")
    assert answer.events()[-1]["type"] == "response.done"
    assert answer.body.split(b"\n\n")[-1].startswith(b"event: response.done\n")


def test_an_overloaded_backend_fails_after_the_handshake(simulator: SimulatorServer) -> None:
    answer = post(simulator, model="sim-codex+text+miderror=2")
    assert answer.status == 200
    *handshake, last = answer.events()
    assert [e["type"] for e in handshake] == ["response.created", "response.in_progress"]
    assert last["type"] == "response.failed"
    assert last["sequence_number"] == 2
    assert last["response"]["error"]["code"] == "server_is_overloaded"


def test_a_used_up_plan_says_when_it_comes_back(simulator: SimulatorServer) -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    simulator.world.set_clock(now)
    answer = post(simulator, model="sim-codex+quota=18000")
    assert answer.status == 429
    assert answer.json()["error"] == {
        "type": "usage_limit_reached",
        "message": "The usage limit has been reached",
        "plan_type": "plus",
        "resets_at": int(now.timestamp()) + 18_000,
        "resets_in_seconds": 18_000,
    }
    assert answer.headers["x-codex-primary-used-percent"] == "100"
    assert answer.headers["x-codex-primary-reset-at"] == str(int(now.timestamp()) + 18_000)


def test_a_rate_limit_is_no_used_up_plan(simulator: SimulatorServer) -> None:
    answer = post(simulator, model="sim-codex+status=429")
    assert answer.json()["error"]["type"] == "rate_limit_exceeded"
    assert "resets_at" not in answer.json()["error"]


@pytest.mark.parametrize("status", [400, 401, 403, 404, 500, 503])
def test_other_errors_are_one_sentence(simulator: SimulatorServer, status: int) -> None:
    answer = post(simulator, model=f"sim-codex+status={status}")
    assert answer.status == status
    assert set(answer.json()) == {"detail"}


@pytest.mark.parametrize("account", ["", "acct-2"])
def test_the_account_of_the_token_is_named_too(simulator: SimulatorServer, account: str) -> None:
    answer = post(simulator, account=account)
    assert (answer.status, simulator.rules()) == (401, ["account"])


def test_a_key_that_is_no_login_speaks_for_no_account(simulator: SimulatorServer) -> None:
    assert ask(simulator.url, PATH, BODY).status == 200
    assert ask(simulator.url, PATH, BODY, headers={"authorization": ""}).status == 401


def test_it_lists_its_models(simulator: SimulatorServer) -> None:
    path = "/codex/backend-api/codex/models"
    assert ask(simulator.url, path).status == 400
    models = ask(simulator.url, f"{path}?client_version=1.0.0").json()["models"]
    assert "sim-codex" in [model["slug"] for model in models]


MARKED = {**USER["content"][0], "prompt_cache_breakpoint": {"mode": "explicit"}}
FORBIDDEN: dict[str, Any] = {
    "max_output_tokens": 100,
    "max_completion_tokens": 100,
    "temperature": 1,
    "top_p": 1,
    "truncation": "auto",
    "user": "someone",
    "prompt_cache_retention": "24h",
    "prompt_cache_options": {"mode": "implicit"},
    "context_management": [],
    "previous_response_id": "resp_1",
    "conversation": "conv_1",
    "background": True,
    "metadata": {},
    "unheard_of": 1,
}
BREAKERS: list[tuple[str, dict[str, Any]]] = [
    *(("unsupported_parameter", {name: value}) for name, value in FORBIDDEN.items()),
    ("unsupported_parameter", {"input": [{**USER, "content": [MARKED]}]}),
    ("stream", {"stream": False}),
    ("stream", {"stream": "absent"}),
    ("store", {"store": True}),
    ("store", {"store": "absent"}),
    ("input_list", {"input": "hello"}),
    ("instructions", {"instructions": "absent"}),
    ("instructions", {"instructions": "  "}),
    ("system_role", {"input": [{"role": "system", "content": "x"}, USER]}),
    ("include", {"include": []}),
    ("include", {"include": "absent"}),
    ("parallel_tool_calls", {"parallel_tool_calls": False}),
    ("tool_choice", {"tool_choice": "absent"}),
    ("verbosity", {"text": {}}),
    ("service_tier", {"service_tier": "flex"}),
    ("strict", {"tools": [{**WEATHER, "strict": True}]}),
    ("tool_name", {"tools": [{**WEATHER, "name": "x" * 65}]}),
    ("object_properties", {"tools": [{**WEATHER, "parameters": {"type": "object"}}]}),
    (
        "object_properties",
        {
            "tools": [
                {
                    **WEATHER,
                    "parameters": {"type": "object", "properties": {"a": {"type": "object"}}},
                }
            ]
        },
    ),
    ("web_search", {"tools": [{"type": "web_search_preview"}]}),
    (
        "call_id",
        {
            "input": [
                USER,
                {
                    "type": "function_call",
                    "call_id": "x" * 65,
                    "name": "weather",
                    "arguments": "{}",
                },
            ]
        },
    ),
]


@pytest.mark.parametrize(("rule", "fields"), BREAKERS)
def test_every_prohibition_has_a_breaker(
    simulator: SimulatorServer, rule: str, fields: dict[str, Any]
) -> None:
    answer = post(simulator, **fields)
    assert (answer.status, simulator.rules()) == (400, [rule])
    assert set(answer.json()) == {"detail"}


@pytest.mark.parametrize(
    "fields",
    [
        {"service_tier": "priority"},
        {"prompt_cache_key": "conversation"},
        {"reasoning": {"effort": "medium", "summary": "auto"}},
        {"tools": [WEATHER, {"type": "web_search"}]},
        {"input": [{"role": "developer", "content": "be kind"}, USER]},
    ],
)
def test_what_is_right_is_answered(simulator: SimulatorServer, fields: dict[str, Any]) -> None:
    answer = post(simulator, **fields)
    assert (answer.status, simulator.rules()) == (200, [])
