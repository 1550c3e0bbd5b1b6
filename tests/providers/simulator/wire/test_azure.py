"""Azure OpenAI: its keys, versions, deployments, late parts and proofs, and its errors."""

from __future__ import annotations

from typing import Any

import openai
import pytest

from providers.simulator import proofs
from tests.providers.simulator.raw_http import Answer, ask, chat
from tests.providers.simulator.wire.sdk import openai_client
from tests.simulator_server import SimulatorServer

RESPONSES = "/azure/openai/v1/responses"
CLASSIC = "/azure/openai/deployments/sim-gpt/chat/completions"
KEY = {"api-key": "azure-key", "authorization": ""}
ENCRYPTED = "reasoning.encrypted_content"


def post(
    simulator: SimulatorServer, path: str = RESPONSES, model: str = "sim-gpt", **fields: Any
) -> Answer:
    body = {"model": model, "input": "hello", **fields}
    return ask(simulator.url, path, body, headers=KEY)


def test_the_official_azure_client(simulator: SimulatorServer) -> None:
    with openai.AzureOpenAI(
        azure_endpoint=f"{simulator.url}/azure",
        api_key="azure-key",
        api_version="2024-10-21",
        max_retries=0,
    ) as client:
        said = client.chat.completions.create(
            model="sim-gpt", messages=[{"role": "user", "content": "hello"}]
        )
        assert said.choices[0].message.content == "You said: hello"
        answer = client.responses.create(model="sim-gpt", input="hello")
        assert answer.output_text == "You said: hello"
        with pytest.raises(openai.RateLimitError):
            client.responses.create(model="sim-gpt+status=429", input="x")
    assert simulator.rules() == []
    headers = simulator.control("requests")["requests"][0]["headers"]
    assert headers["api-key"].startswith("…")


def test_the_plain_client_at_the_current_path(simulator: SimulatorServer) -> None:
    with openai_client(simulator, base="/azure/openai/v1") as client:
        with client.responses.stream(model="sim-gpt+thinktool", input="x") as stream:
            kinds = [event.type for event in stream]
        assert kinds[-1] == "response.completed"


@pytest.mark.parametrize("version", ["v1", "preview", "2024-02-01", "2025-04-01-preview"])
def test_versions_it_knows(simulator: SimulatorServer, version: str) -> None:
    assert post(simulator, f"/azure/openai/responses?api-version={version}").status == 200


@pytest.mark.parametrize("query", ["", "?api-version=", "?api-version=latest-ish", "?version=v1"])
def test_older_paths_need_a_version(simulator: SimulatorServer, query: str) -> None:
    answer = post(simulator, f"/azure/openai/responses{query}")
    assert (answer.status, simulator.rules()) == (404, ["api_version"])
    assert answer.json()["error"]["message"] == "Resource not found"


def test_the_current_path_needs_none_but_checks_what_it_gets(simulator: SimulatorServer) -> None:
    assert post(simulator).status == 200
    assert post(simulator, f"{RESPONSES}?api-version=v1").status == 200
    assert post(simulator, f"{RESPONSES}?api-version=1").status == 404


def test_keys_stand_in_a_header_of_their_own_or_are_tokens(simulator: SimulatorServer) -> None:
    body = {"model": "sim-gpt", "input": "x"}
    for headers, status in (
        (KEY, 200),
        ({"authorization": "Bearer token-of-the-directory"}, 200),
        ({"authorization": ""}, 401),
        ({"authorization": "", "api-key": "wrong"}, 401),
    ):
        answer = ask(simulator.url, RESPONSES, body, headers=headers)
        assert answer.status == status, headers
    assert answer.json()["error"]["code"] == "401"


@pytest.mark.parametrize("model", ["a deployment", "x/y", "ä", "-x", "x" * 65])
def test_deployments_are_named_strictly(simulator: SimulatorServer, model: str) -> None:
    answer = post(simulator, model=model)
    assert (answer.status, simulator.rules()) == (404, ["deployment"])
    assert answer.json()["error"]["code"] == "DeploymentNotFound"


def test_a_deployment_that_is_not_there(simulator: SimulatorServer) -> None:
    answer = post(simulator, model="gpt-5")
    assert answer.status == 404
    assert answer.json()["error"]["code"] == "DeploymentNotFound"


@pytest.mark.parametrize("path", [RESPONSES, f"{CLASSIC}?api-version=2024-10-21"])
def test_the_tier_belongs_to_the_deployment(simulator: SimulatorServer, path: str) -> None:
    fields: dict[str, Any] = {"service_tier": "priority"}
    body = chat("sim-gpt", **fields) if "chat" in path else {"input": "x", "model": "sim-gpt"}
    answer = ask(simulator.url, path, body | fields, headers=KEY)
    assert (answer.status, simulator.rules()) == (400, ["service_tier"])


def test_the_rules_of_responses_hold_here_too(simulator: SimulatorServer) -> None:
    answer = post(simulator, max_output_tokens=3)
    assert (answer.status, simulator.rules()) == (400, ["max_output_tokens"])
    assert answer.json()["error"]["code"] == "integer_below_min_value"


def test_a_filtered_prompt_tells_what_was_found(simulator: SimulatorServer) -> None:
    answer = post(simulator, model="sim-gpt+promptfilter")
    error = answer.json()["error"]
    assert (answer.status, error["code"], error["param"]) == (400, "content_filter", "prompt")
    inner = error["innererror"]
    assert inner["code"] == "ResponsibleAIPolicyViolation"
    assert inner["content_filter_result"]["violence"] == {"filtered": True, "severity": "high"}
    assert inner["content_filter_result"]["hate"]["filtered"] is False


def test_a_busy_deployment_says_when(simulator: SimulatorServer) -> None:
    answer = post(simulator, model="sim-gpt+status=429+after=1.5")
    assert answer.status == 429
    assert (answer.headers["retry-after-ms"], answer.headers["retry-after"]) == ("1500", "2")
    assert "peak load capacity" in answer.json()["error"]["message"]
    assert answer.headers["apim-request-id"]


def test_text_may_come_before_its_part(simulator: SimulatorServer) -> None:
    events = post(simulator, model="sim-gpt+text+tokens=2", stream=True).events()
    kinds = [event["type"].removeprefix("response.") for event in events]
    assert kinds[2:6] == [
        "output_item.added",
        "output_text.delta",
        "content_part.added",
        "output_text.delta",
    ]
    assert [event["sequence_number"] for event in events] == list(range(len(events)))


def test_a_proof_may_come_with_the_whole_answer_only(simulator: SimulatorServer) -> None:
    events = post(
        simulator, model="sim-gpt+thinking", stream=True, include=[ENCRYPTED], store=False
    ).events()
    items = [event["item"] for event in events if "item" in event]
    assert not any("encrypted_content" in item for item in items)
    assert proofs.is_whole(events[-1]["response"]["output"][0]["encrypted_content"], "sim-gpt")
