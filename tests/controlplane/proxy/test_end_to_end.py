"""The whole path over real sockets, on both lanes: official SDKs in front, vendors behind."""

from __future__ import annotations

import anthropic
import httpx
import openai
import pytest

from tests.controlplane.proxy.conftest import Gateway

HELLO = [{"role": "user", "content": "Hello"}]


def openai_client(gateway: Gateway) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=gateway.key, max_retries=0)


def anthropic_client(gateway: Gateway) -> anthropic.Anthropic:
    return anthropic.Anthropic(base_url=gateway.url, api_key=gateway.key, max_retries=0)


@pytest.mark.parametrize("model", ["sim-gpt", "sim-claude", "sim-openai/sim-gpt"])
def test_chat_completions(gateway: Gateway, model: str) -> None:
    answer = openai_client(gateway).chat.completions.create(model=model, messages=HELLO)
    assert answer.choices[0].message.content == "You said: Hello"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.prompt_tokens > 0


@pytest.mark.parametrize("model", ["sim-gpt", "sim-claude"])
def test_chat_completions_stream(gateway: Gateway, model: str) -> None:
    chunks = list(
        openai_client(gateway).chat.completions.create(
            model=model, messages=HELLO, stream=True, stream_options={"include_usage": True}
        )
    )
    said = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert said == "You said: Hello"
    assert chunks[-1].usage is not None


@pytest.mark.parametrize("model", ["sim-claude", "sim-gpt"])
def test_messages(gateway: Gateway, model: str) -> None:
    client = anthropic_client(gateway)
    message = client.messages.create(model=model, max_tokens=100, messages=HELLO)
    assert message.content[0].text == "You said: Hello"
    with client.messages.stream(model=model, max_tokens=100, messages=HELLO) as stream:
        assert stream.get_final_text() == "You said: Hello"


@pytest.mark.parametrize("model", ["sim-claude+tool", "sim-gpt+tool"])
def test_tools_cross_the_dialects(gateway: Gateway, model: str) -> None:
    answer = openai_client(gateway).chat.completions.create(
        model=model,
        messages=HELLO,
        tools=[
            {
                "type": "function",
                "function": {
                    "name": "look",
                    "parameters": {"type": "object", "properties": {"at": {"type": "string"}}},
                },
            }
        ],
    )
    call = answer.choices[0].message.tool_calls[0]
    assert (call.function.name, call.function.arguments) == ("look", '{"at":"simulated"}')
    assert answer.choices[0].finish_reason == "tool_calls"


@pytest.mark.parametrize(
    ("model", "error"),
    [
        ("nobody-has-this", openai.NotFoundError),
        ("sim-gpt+status=429+after=7", openai.RateLimitError),
        ("sim-claude+status=429+after=7", openai.RateLimitError),
        ("sim-claude+status=503", openai.InternalServerError),
    ],
)
def test_failures_are_the_sdks_own_exceptions(
    gateway: Gateway, model: str, error: type[openai.APIStatusError]
) -> None:
    with pytest.raises(error) as caught:
        openai_client(gateway).chat.completions.create(model=model, messages=HELLO)
    if "after" in model:
        assert caught.value.response.headers["retry-after"] == "7"


@pytest.mark.parametrize("model", ["sim-gpt", "sim-claude"])
@pytest.mark.parametrize("fault", ["cut=3", "miderror=3"])
def test_a_broken_stream_never_ends_like_a_regular_one(
    gateway: Gateway, model: str, fault: str
) -> None:
    response = httpx.post(
        f"{gateway.url}/v1/chat/completions",
        headers=gateway.headers(),
        json={"model": f"{model}+{fault}", "messages": HELLO, "stream": True},
    )
    assert response.status_code == 200
    events = [line for line in response.text.split("\n\n") if line]
    assert any('"error"' in event for event in events)
    assert '"finish_reason":"stop"' not in response.text


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages", "/v1/responses"])
def test_no_key_no_answer(gateway: Gateway, path: str) -> None:
    for headers in ({}, {"Authorization": "Bearer pcp_live_wrong"}, {"x-api-key": "x" * 70}):
        response = httpx.post(gateway.url + path, headers=headers, json={"model": "sim-gpt"})
        assert response.status_code == 401, response.text
    assert not gateway.world.requests


@pytest.mark.parametrize(
    ("body", "status"),
    [(b"", 400), (b"{", 400), (b"[]", 400), (b'{"model": 5}', 400), (b"\xff", 400)],
)
def test_bad_bodies_are_the_callers_fault(gateway: Gateway, body: bytes, status: int) -> None:
    for path in ("/v1/chat/completions", "/v1/messages"):
        response = httpx.post(gateway.url + path, headers=gateway.headers(), content=body)
        assert response.status_code == status, response.text
        assert response.json()["error"]["message"]


def test_models_in_each_shape(gateway: Gateway) -> None:
    names = {model.id for model in openai_client(gateway).models.list()}
    assert {"sim-gpt", "sim-openai/sim-gpt", "sim-claude"} <= names
    assert {"sim-gpt"} <= {model.id for model in anthropic_client(gateway).models.list()}
    google = httpx.get(f"{gateway.url}/v1beta/models", params={"key": gateway.key}).json()
    assert "models/sim-gpt" in {model["name"] for model in google["models"]}


def test_count_tokens(gateway: Gateway) -> None:
    client = anthropic_client(gateway)
    for model in ("sim-claude", "sim-gpt"):
        assert client.messages.count_tokens(model=model, messages=HELLO).input_tokens > 0
