"""A stream that is silent says so in its own dialect, and official SDKs take no notice."""

from __future__ import annotations

from collections.abc import Iterator

import anthropic
import httpx
import openai
import pytest
from google import genai
from google.genai import types

from controlplane.proxy.state import GatewayState
from tests.controlplane.proxy.conftest import Gateway

HELLO = [{"role": "user", "content": "Hello"}]
# Time between two words, and a beat in half of it.
SLOW = "rate=25"


@pytest.fixture
def beating(gateway: Gateway) -> Iterator[GatewayState]:
    state = gateway.running_state
    usual, state.keep_alive_seconds = state.keep_alive_seconds, 0.02
    yield state
    state.keep_alive_seconds = usual


def streamed(gateway: Gateway, path: str, body: dict[str, object]) -> str:
    answer = httpx.post(gateway.url + path, headers=gateway.headers(), json=body)
    assert answer.status_code == 200, answer.text
    return answer.text


@pytest.mark.parametrize("model", ["sim-gpt", "sim-claude"])
def test_each_dialect_has_its_own_sign_of_life(
    gateway: Gateway, beating: GatewayState, model: str
) -> None:
    name = f"{model}+{SLOW}"
    chat = {"model": name, "messages": HELLO, "stream": True, "max_tokens": 50}
    assert ": keep-alive\n\n" in streamed(gateway, "/v1/chat/completions", chat)
    assert "event: ping\n" in streamed(gateway, "/v1/messages", chat)
    responses = {"model": name, "input": "Hello", "stream": True}
    assert ": keep-alive\n\n" in streamed(gateway, "/v1/responses", responses)
    contents = {"contents": [{"role": "user", "parts": [{"text": "Hello"}]}]}
    path = f"/v1beta/models/{name.replace('+', '%2B')}:streamGenerateContent"
    assert "\n\n\n" in streamed(gateway, path + "?alt=sse", contents).replace("\r", "")
    array = httpx.post(gateway.url + path, headers=gateway.headers(), json=contents)
    assert isinstance(array.json(), list)


def test_sdks_take_no_notice(gateway: Gateway, beating: GatewayState) -> None:
    name = f"sim-claude+{SLOW}"
    asked = openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=gateway.key, max_retries=0)
    chunks = asked.chat.completions.create(model=name, messages=HELLO, stream=True)
    said = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert said == "You said: Hello"
    claude = anthropic.Anthropic(base_url=gateway.url, api_key=gateway.key, max_retries=0)
    with claude.messages.stream(model=name, max_tokens=50, messages=HELLO) as stream:
        assert stream.get_final_text() == "You said: Hello"
    google = genai.Client(api_key=gateway.key, http_options=types.HttpOptions(base_url=gateway.url))
    pieces = google.models.generate_content_stream(model=name, contents="Hello")
    assert "".join(piece.text or "" for piece in pieces) == "You said: Hello"


def test_a_stream_that_talks_gets_none(gateway: Gateway) -> None:
    body = {"model": "sim-gpt", "messages": HELLO, "stream": True}
    assert ": keep-alive" not in streamed(gateway, "/v1/chat/completions", body)
