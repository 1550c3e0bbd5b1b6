"""The simulated Cloud Code Assist: our codec as the client, and hand-written envelopes."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from providers.protocols import google_gemini_cli
from providers.protocols.quirks import Quirks
from providers.simulator.proofs import make
from tests.providers.simulator.wire.google_said import HELLO, history
from tests.providers.simulator.wire.said import NAMES, SAID, WEATHER, Said, model
from tests.providers.simulator.wire.through_codec import TOOLS, heard, hello, play, spec
from tests.simulator_server import SimulatorServer

BEARER = {"authorization": "Bearer token"}
GENERATE = "/code-assist/v1internal:generateContent"
STREAM = "/code-assist/v1internal:streamGenerateContent?alt=sse"
QUIRKS = Quirks(
    supports_function_call_ids=True, requires_thought_signature=True, thinking_control="level"
)


def envelope(request: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {
        "project": "demo-project",
        "model": "sim-gemini-3",
        "request": request,
        "userAgent": "test",
        "requestId": "r-1",
        **fields,
    }


def expected(scenario: str) -> Said:
    said = SAID[scenario]
    if scenario == "badargs":
        return Said(reason="error")
    if scenario == "refusal":
        return Said(reason="content_filter")
    return said


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("scenario", NAMES)
def test_our_codec_reads_every_scenario(
    simulator: SimulatorServer, scenario: str, stream: bool
) -> None:
    codec = google_gemini_cli.CODEC
    target = spec(
        codec,
        model("sim-gemini-3", scenario),
        quirks=QUIRKS,
        endpoint={"project": "demo-project"},
    )
    request = hello(tools=TOOLS, stream=stream)
    events = play(f"{simulator.url}/code-assist", codec, request, target)
    assert heard(events) == expected(scenario)
    assert simulator.rules() == []


def test_the_envelope_of_an_answer(simulator: SimulatorServer) -> None:
    body = envelope(HELLO, model="sim-gemini+text+tokens=2")
    whole = httpx.post(simulator.url + GENERATE, json=body, headers=BEARER).json()
    assert set(whole) == {"response", "traceId"}
    assert whole["response"]["candidates"][0]["content"]["parts"] == [{"text": "the quick"}]
    stream = httpx.post(simulator.url + STREAM, json=body, headers=BEARER)
    assert stream.headers["content-type"] == "text/event-stream"
    items = [
        json.loads(line.removeprefix("data: "))
        for line in stream.text.split("\r\n")
        if line.startswith("data: ")
    ]
    assert [sorted(item) for item in items] == [["response", "traceId"]] * 3
    assert items[-1]["response"]["candidates"][0]["finishReason"] == "STOP"


def test_counting_and_listing(simulator: SimulatorServer) -> None:
    base = f"{simulator.url}/code-assist/v1internal"
    body = {"request": {"model": "models/sim-gemini", **HELLO}}
    assert httpx.post(f"{base}:countTokens", json=body, headers=BEARER).json()["totalTokens"]
    models = httpx.post(f"{base}:fetchAvailableModels", json={}, headers=BEARER).json()["models"]
    assert models["sim-gemini"]["displayName"] == "Sim Gemini"
    assert simulator.rules() == []


def test_errors(simulator: SimulatorServer) -> None:
    url = simulator.url + GENERATE
    missing = httpx.post(url, json=envelope(HELLO))
    assert (missing.status_code, missing.json()["error"]["status"]) == (401, "UNAUTHENTICATED")
    spent = httpx.post(url, json=envelope(HELLO, model="sim-gemini+quota=66670"), headers=BEARER)
    assert spent.status_code == 429
    error = spent.json()["error"]
    assert error["status"] == "RESOURCE_EXHAUSTED"
    assert error["message"].endswith("will reset after 18h31m10s.")
    broken = httpx.post(
        simulator.url + STREAM,
        json=envelope(HELLO, model="sim-gemini+text+miderror=1"),
        headers=BEARER,
    )
    assert '"status":"UNAVAILABLE"' in broken.text.strip().split("\r\n")[-1]
    assert simulator.rules() == []


THOUGHT = {
    "contents": [
        {"role": "user", "parts": [{"text": "x"}]},
        {
            "role": "model",
            "parts": [{"thought": True, "thoughtSignature": make("sim-gemini-3", "x")}],
        },
        {"role": "user", "parts": [{"text": "y"}]},
    ]
}


def _unsigned_history() -> dict[str, Any]:
    body = history()
    del body["contents"][1]["parts"][0]["thoughtSignature"]
    return body


def _without_ids() -> dict[str, Any]:
    body = _unsigned_history()
    del body["tools"]
    for content in body["contents"][1:]:
        for part in content["parts"]:
            next(iter(part.values())).pop("id")
    return body


CLAUDE_TOOL = {"functionDeclarations": [{"name": "get_weather", "parametersJsonSchema": WEATHER}]}
CLAUDE_THINKS = {
    "generationConfig": {"maxOutputTokens": 1000, "thinkingConfig": {"thinkingBudget": 2000}}
}
REFUSED = [
    ("unknown_field", envelope(HELLO, contents=[])),
    ("type", envelope(HELLO, project=None)),
    ("project", envelope(HELLO, project=" ")),
    ("type", envelope(HELLO, model=None)),
    ("model", envelope(HELLO, model="models/sim-gemini")),
    ("type", envelope(HELLO) | {"request": None}),
    ("envelope", envelope({"model": "sim-gemini", **HELLO})),
    ("unknown_field", envelope({"labels": {}, **HELLO})),
    ("unknown_field", envelope({"serviceTier": "flex", **HELLO})),
    ("thought_text", envelope(THOUGHT)),
    ("call_id", envelope(_unsigned_history(), model="sim-gemini-2.5")),
    ("call_id", envelope(_without_ids(), model="sim-claude-thinking")),
    ("call_id", envelope(_without_ids(), model="sim-gpt-oss")),
    ("legacy_parameters", envelope({"tools": [CLAUDE_TOOL], **HELLO}, model="sim-claude")),
    ("budget", envelope({**CLAUDE_THINKS, **HELLO}, model="sim-claude-thinking")),
    ("signature_missing", envelope(_unsigned_history())),
]


@pytest.mark.parametrize(("rule", "body"), REFUSED)
def test_refuses(simulator: SimulatorServer, rule: str, body: dict[str, Any]) -> None:
    answer = httpx.post(simulator.url + GENERATE, json=body, headers=BEARER)
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["status"] == "INVALID_ARGUMENT"
    assert simulator.rules("code-assist") == [rule]


def test_refuses_a_wrong_count(simulator: SimulatorServer) -> None:
    url = f"{simulator.url}/code-assist/v1internal:countTokens"
    for request in ({"model": "sim-gemini", **HELLO}, {"model": "models/x", "contents": []}):
        answer = httpx.post(url, json={"request": request}, headers=BEARER)
        assert answer.status_code == 400
    assert simulator.rules("code-assist") == ["model", "contents"]


def test_a_session_and_signed_calls_are_accepted(simulator: SimulatorServer) -> None:
    body = envelope({"sessionId": "s-1", **history()}, requestType="agent")
    assert httpx.post(simulator.url + GENERATE, json=body, headers=BEARER).status_code == 200
    assert simulator.rules() == []
