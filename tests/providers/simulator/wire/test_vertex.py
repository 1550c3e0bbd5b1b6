"""The simulated Vertex AI, judged by Google's own SDK; and what it refuses."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from google import genai
from google.genai import errors, types
from google.oauth2.credentials import Credentials

from tests.providers.simulator.wire.google_said import (
    CONFIG,
    HELLO,
    STATUSES,
    expected,
    heard,
    history,
)
from tests.providers.simulator.wire.said import NAMES, model
from tests.simulator_server import SimulatorServer

PLACE = "projects/demo-project/locations/us-central1"
MODELS = f"/vertex/v1/{PLACE}/publishers/google/models/"
BEARER = {"authorization": "Bearer token"}


def _options(simulator: SimulatorServer) -> types.HttpOptions:
    return types.HttpOptions(base_url=f"{simulator.url}/vertex", api_version="v1")


@pytest.fixture
def client(simulator: SimulatorServer) -> Iterator[genai.Client]:
    made = genai.Client(
        vertexai=True,
        project="demo-project",
        location="us-central1",
        credentials=Credentials(token="ya29.test"),
        http_options=_options(simulator),
    )
    yield made
    made.close()


@pytest.mark.parametrize("scenario", NAMES)
def test_the_sdk_reads_every_scenario(
    client: genai.Client, simulator: SimulatorServer, scenario: str
) -> None:
    name = model("sim-gemini-3", scenario)
    whole = client.models.generate_content(model=name, contents="hello", config=CONFIG)
    chunks = list(
        client.models.generate_content_stream(model=name, contents="hello", config=CONFIG)
    )
    assert heard([whole]) == expected(scenario)
    assert heard(chunks) == expected(scenario)
    assert simulator.rules() == []
    assert whole.usage_metadata is not None
    assert whole.usage_metadata.traffic_type == types.TrafficType.ON_DEMAND
    paths = [record["path"] for record in simulator.control("requests?vendor=vertex")["requests"]]
    assert paths[0] == f"{MODELS}{name}:generateContent"


def test_express_mode_labels_and_sources(
    simulator: SimulatorServer, request: pytest.FixtureRequest
) -> None:
    express = genai.Client(vertexai=True, api_key="test-key", http_options=_options(simulator))
    request.addfinalizer(express.close)
    config = types.GenerateContentConfig(labels={"team": "search"})
    answer = express.models.generate_content(
        model="sim-gemini+citation", contents="hello", config=config
    )
    assert answer.candidates is not None
    sources = answer.candidates[0].citation_metadata
    assert sources is not None
    assert sources.citations is not None
    assert (sources.citations[0].uri, sources.citations[0].title) == (
        "https://example.com/source",
        "Source",
    )
    blocked = express.models.generate_content(model="sim-gemini+refusal", contents="hello")
    assert blocked.prompt_feedback is not None
    assert blocked.prompt_feedback.block_reason_message
    assert simulator.rules() == []
    records = simulator.control("requests?vendor=vertex")["requests"]
    assert records[0]["path"].startswith("/vertex/v1/publishers/google/models/")


def test_counting_listing_embedding(client: genai.Client, simulator: SimulatorServer) -> None:
    counted = client.models.count_tokens(model="sim-gemini", contents="hello")
    assert counted.total_tokens
    embedded = client.models.embed_content(
        model="text-embedding-005",
        contents=["one", "two"],
        config=types.EmbedContentConfig(output_dimensionality=8),
    ).embeddings
    assert embedded is not None
    assert [len(vector.values or ()) for vector in embedded] == [8, 8]
    url = f"{simulator.url}/vertex/v1beta1/publishers/google/models"
    listed = httpx.get(url, headers=BEARER).json()["publisherModels"]
    assert listed[0]["name"] == "publishers/google/models/sim-gemini"
    assert httpx.get(f"{url}/none", headers=BEARER).status_code == 404
    single = httpx.post(
        f"{simulator.url}{MODELS}gemini-embedding-2:embedContent",
        json={"content": {"parts": [{"text": "one"}]}, "outputDimensionality": 8},
        headers=BEARER,
    )
    assert single.json()["embedding"]["values"] == embedded[0].values
    assert simulator.rules() == []


@pytest.mark.parametrize(("status", "word"), STATUSES.items())
def test_every_status_in_the_vendors_shape(client: genai.Client, status: int, word: str) -> None:
    with pytest.raises(errors.APIError) as caught:
        client.models.generate_content(model=f"sim-gemini+status={status}", contents="hello")
    assert (caught.value.code, caught.value.status) == (status, word)


def test_an_error_in_mid_stream(client: genai.Client) -> None:
    stream = client.models.generate_content_stream(
        model="sim-gemini+text+miderror=2", contents="hello"
    )
    with pytest.raises(errors.APIError) as caught:
        list(stream)
    assert caught.value.status == "UNAVAILABLE"


def test_a_stream_without_sse_is_one_array(simulator: SimulatorServer) -> None:
    url = f"{simulator.url}{MODELS}sim-gemini+text+tokens=2:streamGenerateContent"
    assert len(httpx.post(url, json=HELLO, headers=BEARER).json()) == 3
    for after in (0, 1):
        broken = url.replace("tokens=2", f"miderror={after}")
        *before, last = httpx.post(broken, json=HELLO, headers=BEARER).json()
        assert (len(before), last["error"]["status"]) == (after, "UNAVAILABLE")
    refused = httpx.post(url, json={}, headers=BEARER)
    assert refused.json()[0]["error"]["status"] == "INVALID_ARGUMENT"


def _with(**fields: Any) -> dict[str, Any]:
    return HELLO | fields


def _history_of(name: str) -> tuple[str, dict[str, Any]]:
    body = history()
    del body["contents"][1]["parts"][0]["thoughtSignature"]
    return f"{MODELS}{name}:generateContent", body


CHAT = f"{MODELS}sim-gemini-3:generateContent"
OTHER = "/vertex/v1/projects/{}/locations/{}/publishers/{}/models/sim-gemini:generateContent"
REFUSED = [
    (400, "project", OTHER.format("No_Project", "us-central1", "google"), HELLO),
    (400, "location", OTHER.format("demo-project", "Nowhere", "google"), HELLO),
    (404, "publisher", OTHER.format("demo-project", "global", "anthropic"), HELLO),
    (400, "labels", CHAT, _with(labels={"Team": "x"})),
    (400, "labels", CHAT, _with(labels={"team": "Not Allowed"})),
    (400, "labels", CHAT, _with(labels={f"l{n}": "x" for n in range(65)})),
    (400, "unknown_field", CHAT, _with(foo=1)),
    # Ids came with Gemini 3.
    (400, "call_id", *_history_of("sim-gemini-2.5")),
    (400, "signature_missing", *_history_of("sim-gemini-3")),
    (400, "contents", f"{MODELS}sim-gemini:countTokens", {"contents": []}),
    (400, "unknown_field", f"{MODELS}sim-gemini:countTokens", _with(safetySettings=[])),
    (400, "instances", f"{MODELS}e:predict", {"instances": []}),
    (400, "empty_text", f"{MODELS}e:predict", {"instances": [{"content": ""}]}),
]


@pytest.mark.parametrize(("status", "rule", "path", "body"), REFUSED)
def test_refuses(
    simulator: SimulatorServer, status: int, rule: str, path: str, body: dict[str, Any]
) -> None:
    answer = httpx.post(simulator.url + path, json=body, headers=BEARER)
    assert answer.status_code == status, answer.text
    assert answer.json()["error"]["code"] == status
    assert simulator.rules("vertex") == [rule]


def test_who_may_call_which_address(simulator: SimulatorServer) -> None:
    url = simulator.url + CHAT
    express = f"{simulator.url}/vertex/v1/publishers/google/models/sim-gemini:generateContent"
    key = {"x-goog-api-key": "k"}
    assert httpx.post(url, json=HELLO).status_code == 401
    assert httpx.post(url, json=HELLO, headers=key).status_code == 401
    assert httpx.post(express, json=HELLO, headers=BEARER).status_code == 403
    assert simulator.rules("vertex") == ["api_key_with_project", "token_without_project"]
    assert httpx.post(express, json=HELLO, headers=key).status_code == 200
    wrong = httpx.post(express, json=HELLO, headers={"x-goog-api-key": "wrong"})
    assert wrong.json()["error"]["details"][0]["reason"] == "API_KEY_INVALID"
    expired = httpx.post(url, json=HELLO, headers={"authorization": "Bearer wrong"})
    assert (expired.status_code, expired.json()["error"]["status"]) == (401, "UNAUTHENTICATED")
