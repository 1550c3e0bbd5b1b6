"""The simulated Gemini API, judged by Google's own SDK; and what it refuses."""

from __future__ import annotations

import base64
import copy
import json
import math
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from google import genai
from google.genai import errors, types

from providers.simulator.proofs import make
from providers.simulator.scenarios import PIXEL
from tests.providers.simulator.wire.google_said import (
    CONFIG,
    HELLO,
    STATUSES,
    expected,
    heard,
)
from tests.providers.simulator.wire.said import NAMES, WEATHER, model
from tests.simulator_server import SimulatorServer


@pytest.fixture
def client(simulator: SimulatorServer) -> Iterator[genai.Client]:
    made = genai.Client(
        api_key="test-key", http_options=types.HttpOptions(base_url=f"{simulator.url}/gemini")
    )
    yield made
    made.close()


@pytest.mark.parametrize("base", ["sim-gemini", "sim-gemini-2.5", "sim-gemini-3"])
@pytest.mark.parametrize("scenario", NAMES)
def test_the_sdk_reads_every_scenario(
    client: genai.Client, simulator: SimulatorServer, scenario: str, base: str
) -> None:
    name = model(base, scenario)
    whole = client.models.generate_content(model=name, contents="hello", config=CONFIG)
    chunks = list(
        client.models.generate_content_stream(model=name, contents="hello", config=CONFIG)
    )
    assert heard([whole]) == expected(scenario)
    assert heard(chunks) == expected(scenario)
    assert simulator.rules() == []
    assert whole.usage_metadata is not None
    # The figures of the last chunk are those of the whole answer, and every chunk has some.
    assert chunks[-1].usage_metadata == whole.usage_metadata
    totals = [chunk.usage_metadata.total_token_count for chunk in chunks if chunk.usage_metadata]
    assert len(totals) == len(chunks)
    assert totals == sorted(totals)


def test_a_blocked_prompt_has_no_candidates(client: genai.Client) -> None:
    answer = client.models.generate_content(model="sim-gemini+refusal", contents="hello")
    assert not answer.candidates
    assert answer.prompt_feedback is not None
    assert answer.prompt_feedback.block_reason == types.BlockedReason.PROHIBITED_CONTENT


def test_picture_source_and_cache(client: genai.Client) -> None:
    picture = client.models.generate_content(model="sim-gemini+image", contents="hello")
    assert picture.parts is not None
    assert picture.parts[1].inline_data is not None
    assert picture.parts[1].inline_data.data == base64.b64decode(PIXEL)
    cited = client.models.generate_content(model="sim-gemini+citation", contents="hello")
    assert cited.candidates is not None
    grounding = cited.candidates[0].grounding_metadata
    assert grounding is not None
    assert grounding.grounding_chunks is not None
    assert grounding.grounding_chunks[0].web is not None
    assert grounding.grounding_chunks[0].web.uri == "https://example.com/source"
    cached = client.models.generate_content(model="sim-gemini+cached+read=7", contents="hello")
    assert cached.usage_metadata is not None
    assert cached.usage_metadata.cached_content_token_count == 7


def test_candidates_and_log_probabilities(client: genai.Client) -> None:
    config = types.GenerateContentConfig(
        candidate_count=2, response_logprobs=True, logprobs=2, stop_sequences=["is"]
    )
    answer = client.models.generate_content(
        model="sim-gemini+text+tokens=3", contents="hello", config=config
    )
    assert answer.candidates is not None
    assert [candidate.index for candidate in answer.candidates] == [0, 1]
    for candidate in answer.candidates:
        assert candidate.content is not None
        assert candidate.content.parts is not None
        assert candidate.content.parts[0].text == "the quick answer"
        assert candidate.logprobs_result is not None
        assert candidate.logprobs_result.chosen_candidates is not None
        chosen = [one.token for one in candidate.logprobs_result.chosen_candidates]
        assert chosen == ["the", " quick", " answer"]


def test_an_agent_turn_with_signed_calls(client: genai.Client, simulator: SimulatorServer) -> None:
    """The history that the SDK keeps is one that the vendor accepts: ids, order, signatures."""
    chat = client.chats.create(model="sim-gemini-3+loop", config=CONFIG)
    first = chat.send_message("hello")
    assert first.function_calls is not None
    call = first.function_calls[0]
    assert call.id
    response = types.Part(
        function_response=types.FunctionResponse(
            id=call.id, name=call.name, response={"output": "sunny"}
        )
    )
    answer = chat.send_message([response])
    assert answer.text == "The tool has answered."
    assert simulator.rules() == []


def test_thoughts_sign_the_part_behind_them(client: genai.Client) -> None:
    answer = client.models.generate_content(model="sim-gemini-3+thinking", contents="hello")
    assert answer.parts is not None
    thought, text = answer.parts
    assert thought.thought
    assert thought.thought_signature is None
    assert text.thought_signature == base64.b64decode(
        make("sim-gemini-3", "First I consider the question.")
    )
    older = client.models.generate_content(
        model="sim-gemini-2.5+tool", contents="hello", config=CONFIG
    )
    assert older.function_calls is not None
    assert older.function_calls[0].id is None
    assert older.parts is not None
    assert older.parts[0].thought_signature is None


def test_structured_output_tool_choice_and_images(client: genai.Client) -> None:
    config = types.GenerateContentConfig(
        response_mime_type="application/json", response_json_schema=WEATHER
    )
    answer = client.models.generate_content(model="sim-gemini", contents="hello", config=config)
    assert json.loads(answer.text or "") == {"city": "simulated"}
    forced = copy.deepcopy(CONFIG)
    forced.tool_config = types.ToolConfig(
        function_calling_config=types.FunctionCallingConfig(
            mode=types.FunctionCallingConfigMode.ANY, allowed_function_names=["get_time"]
        )
    )
    answer = client.models.generate_content(model="sim-gemini", contents="hello", config=forced)
    assert answer.function_calls is not None
    assert answer.function_calls[0].name == "get_time"
    image = types.Part.from_bytes(data=base64.b64decode(PIXEL), mime_type="image/png")
    answer = client.models.generate_content(model="sim-gemini", contents=["look", image])
    assert answer.text == f"You said: look [image image/png, {len(base64.b64decode(PIXEL))} bytes]"


def test_counting_listing_embedding(client: genai.Client, simulator: SimulatorServer) -> None:
    assert client.models.count_tokens(model="sim-gemini", contents="hello").total_tokens
    names = [listed.name for listed in client.models.list()]
    assert names[0] == "models/sim-gemini"
    assert client.models.get(model="sim-gemini").input_token_limit == 1_048_576
    embedded = client.models.embed_content(
        model="sim-gemini-embedding",
        contents=["one", "two"],
        config=types.EmbedContentConfig(output_dimensionality=16, task_type="CLUSTERING"),
    ).embeddings
    assert embedded is not None
    one, two = (vector.values or [] for vector in embedded)
    assert len(one) == 16
    assert math.isclose(sum(number * number for number in one), 1, abs_tol=1e-5)
    assert one != two
    single = httpx.post(
        f"{simulator.url}/gemini/v1beta/models/sim-gemini-embedding:embedContent?key=k",
        json={"content": {"parts": [{"text": "one"}]}, "outputDimensionality": 16},
    )
    assert single.json()["embedding"]["values"] == one
    assert simulator.rules() == []


# --- errors ------------------------------------------------------------------------------


@pytest.mark.parametrize("is_stream", [False, True])
@pytest.mark.parametrize(("status", "word"), STATUSES.items())
def test_every_status_in_the_vendors_shape(
    client: genai.Client, simulator: SimulatorServer, status: int, word: str, is_stream: bool
) -> None:
    name = f"sim-gemini+status={status}"
    models = client.models

    def asked() -> object:
        if is_stream:
            return list(models.generate_content_stream(model=name, contents="hello"))
        return models.generate_content(model=name, contents="hello")

    with pytest.raises(errors.APIError) as caught:
        asked()
    assert (caught.value.code, caught.value.status) == (status, word)
    assert simulator.rules() == []


def test_a_limit_says_how_long(client: genai.Client) -> None:
    with pytest.raises(errors.ClientError) as caught:
        client.models.generate_content(model="sim-gemini+status=429+after=22", contents="hello")
    kinds = {
        detail["@type"].rpartition(".")[2]: detail
        for detail in caught.value.details["error"]["details"]
    }
    assert kinds["RetryInfo"]["retryDelay"] == "22s"
    assert kinds["QuotaFailure"]["violations"][0]["quotaId"]


def test_an_error_in_mid_stream(client: genai.Client) -> None:
    stream = client.models.generate_content_stream(
        model="sim-gemini+text+miderror=2", contents="hello"
    )
    assert next(stream).text == "the"
    with pytest.raises(errors.APIError) as caught:
        list(stream)
    assert caught.value.status == "UNAVAILABLE"


URL = "/gemini/v1beta/models/{}:generateContent"


def test_keys(simulator: SimulatorServer) -> None:
    url = simulator.url + URL.format("sim-gemini")
    until = datetime.now(UTC) + timedelta(hours=1)
    simulator.control("keys", {"key": "spent", "until": "2020-01-01T00:00:00Z", "status": 403})
    simulator.control("keys", {"key": "good", "until": until.isoformat()})
    missing = httpx.post(url, json=HELLO)
    assert (missing.status_code, missing.json()["error"]["status"]) == (403, "PERMISSION_DENIED")
    wrong = httpx.post(url, json=HELLO, headers={"x-goog-api-key": "wrong"})
    assert wrong.status_code == 400
    assert wrong.json()["error"]["details"][0]["reason"] == "API_KEY_INVALID"
    assert httpx.post(f"{url}?key=good", json=HELLO).status_code == 200
    assert httpx.post(f"{url}?key=spent", json=HELLO).status_code == 403
    expired = httpx.post(url, json=HELLO, headers={"authorization": "Bearer wrong"})
    assert (expired.status_code, expired.json()["error"]["status"]) == (401, "UNAUTHENTICATED")
    assert simulator.rules() == []


def test_a_stream_without_sse_is_one_array(simulator: SimulatorServer) -> None:
    url = f"{simulator.url}/gemini/v1beta/models/sim-gemini+text+tokens=2:streamGenerateContent"
    answer = httpx.post(url, json=HELLO, headers={"x-goog-api-key": "k"})
    assert answer.headers["content-type"].startswith("application/json")
    chunks = answer.json()
    assert [chunk["candidates"][0]["content"].get("parts") for chunk in chunks] == [
        [{"text": "the"}],
        [{"text": " quick"}],
        None,
    ]
    long = httpx.post(
        url.replace("tokens=2", "tokens=2+line=100000"), json=HELLO, headers={"x-goog-api-key": "k"}
    )
    assert len(long.content) > 100_000
    assert [chunk["candidates"] for chunk in long.json()] == [
        chunk["candidates"] for chunk in chunks
    ]
    refused = httpx.post(url, json={}, headers={"x-goog-api-key": "k"})
    assert refused.json()[0]["error"]["status"] == "INVALID_ARGUMENT"
    for after in (0, 2):
        broken = httpx.post(
            url.replace("tokens=2", f"miderror={after}"),
            json=HELLO,
            headers={"x-goog-api-key": "k"},
        )
        *before, last = broken.json()
        assert (len(before), last["error"]["status"]) == (after, "UNAVAILABLE")
