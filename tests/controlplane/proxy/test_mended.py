"""One more attempt without what the vendor refused, over real sockets, relayed and translated."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from controlplane.kit.secret import Secret
from providers.catalog import services
from providers.credentials.services import store_key
from providers.simulator.world import World
from tenants import scope
from tenants.audit.actor import acting_as
from tests.controlplane.proxy.conftest import Gateway
from tests.running import served

ANSWER = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "picky",
    "content": [{"type": "text", "text": "Yes."}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {"input_tokens": 1, "output_tokens": 1},
}
TOOL = {"name": "f", "strict": True, "input_schema": {"type": "object", "properties": {}}}


class Picky:
    """An endpoint of Anthropic's dialect that says no to what is picked, as Anthropic does."""

    def __init__(self) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.is_stubborn = False

    def complaint(self, body: dict[str, Any]) -> str:
        if self.is_stubborn or any(tool.get("strict") for tool in body.get("tools", ())):
            return "tools.0: strict tools: the compiled grammar is too large"
        if body.get("output_config", {}).get("effort") in ("max", "xhigh"):
            return "Invalid effort level"
        if any("thinking" in str(message["content"]) for message in body["messages"]):
            return "messages.1.content.0: Invalid `signature` in `thinking` block"
        if body["max_tokens"] > 800:
            return (
                f"input length and `max_tokens` exceed context limit: 99200 + "
                f"{body['max_tokens']} > 100000"
            )
        return ""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        raw, more = b"", True
        while more:
            message = await receive()
            raw += message.get("body", b"")
            more = message.get("more_body", False)
        body = json.loads(raw)
        self.bodies.append(body)
        words = self.complaint(body)
        error = {"type": "error", "error": {"type": "invalid_request_error", "message": words}}
        data = json.dumps(error if words else ANSWER).encode()
        await send(
            {
                "type": "http.response.start",
                "status": 400 if words else 200,
                "headers": [(b"content-type", b"application/json")],
            }
        )
        await send({"type": "http.response.body", "body": data})


@pytest.fixture(scope="module")
def vendor() -> Iterator[tuple[str, Picky]]:
    picky = Picky()
    with served(picky, lifespan="off") as url:
        yield url, picky


@pytest.fixture(scope="module")
def registry(
    registry: dict[str, Any], vendor: tuple[str, Picky], simulated: tuple[str, World]
) -> dict[str, Any]:
    with acting_as("command", None, "tests", ""), scope.platform("tests"):
        made = services.register(
            slug="picky", protocol="anthropic-messages", base_url=vendor[0], priority=5
        )
        store_key(provider=made, label="one", secret=Secret("k"))
        services.add_model(provider=made, upstream_id="picky")
        made = services.register(
            slug="responses",
            protocol="openai-responses",
            base_url=f"{simulated[0]}/openai/v1",
        )
        store_key(provider=made, label="one", secret=Secret("sim-responses"))
        services.add_model(provider=made, upstream_id="sim-gpt-responses")
    return registry


@pytest.fixture
def picky(vendor: tuple[str, Picky]) -> Picky:
    vendor[1].bodies.clear()
    vendor[1].is_stubborn = False
    return vendor[1]


def ask(gateway: Gateway, headers: dict[str, str] | None = None, **more: Any) -> httpx.Response:
    body = {
        "model": "picky",
        "max_tokens": 50,
        "messages": [{"role": "user", "content": "Hello"}],
        **more,
    }
    return httpx.post(
        f"{gateway.url}/v1/messages", json=body, headers=gateway.headers(**(headers or {}))
    )


THOUGHT = [
    {"role": "user", "content": "Hello"},
    {
        "role": "assistant",
        "content": [
            {"type": "thinking", "thinking": "Hm.", "signature": "bm8="},
            {"type": "text", "text": "Hi."},
        ],
    },
    {"role": "user", "content": "Well?"},
]


@pytest.mark.parametrize(
    "asked",
    [
        {"tools": [TOOL]},
        {"output_config": {"effort": "xhigh"}},
        {"messages": THOUGHT},
        {"max_tokens": 900},
    ],
    ids=["strict", "effort", "signature", "window"],
)
def test_the_same_target_is_asked_again_without_it(
    gateway: Gateway, picky: Picky, asked: dict[str, Any]
) -> None:
    answer = ask(gateway, **asked)
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-route-attempts"] == "2"
    assert answer.headers["x-route-losses"] == "1"
    first, second = picky.bodies
    assert first != second
    if "max_tokens" in asked:
        assert second["max_tokens"] == 800


def test_a_translated_request_is_mended_too(gateway: Gateway, picky: Picky) -> None:
    body = {"model": "picky", "max_tokens": 900, "messages": [{"role": "user", "content": "Hi"}]}
    answer = httpx.post(
        f"{gateway.url}/v1/chat/completions", json=body, headers=gateway.headers(), timeout=120
    )
    assert answer.status_code == 200, answer.text
    assert [sent["max_tokens"] for sent in picky.bodies] == [900, 800]


def test_it_is_mended_once_and_the_vendors_word_stays(gateway: Gateway, picky: Picky) -> None:
    picky.is_stubborn = True
    answer = ask(gateway, tools=[TOOL])
    assert answer.status_code == 400
    assert "grammar" in answer.json()["error"]["message"]
    assert len(picky.bodies) == 2


def test_strict_mode_mends_nothing_that_is_lost(gateway: Gateway, picky: Picky) -> None:
    strict = {"X-Translation-Strict": "true"}
    assert ask(gateway, strict, max_tokens=900).status_code == 400
    assert len(picky.bodies) == 1
    # A proof that its own maker refuses is worth nothing to anybody.
    assert ask(gateway, strict, messages=THOUGHT).status_code == 200


def test_a_conversation_remembers(gateway: Gateway, picky: Picky) -> None:
    """Trap 62: its next request does not run into the same wall."""
    session = {"X-Session-Id": "mended"}
    assert ask(gateway, session, tools=[TOOL]).headers["x-route-attempts"] == "2"
    again = ask(gateway, session, tools=[TOOL])
    assert (again.headers["x-route-attempts"], again.headers["x-route-losses"]) == ("1", "1")
    assert len(picky.bodies) == 3
    # Another one knows nothing of it.
    assert ask(gateway, {"X-Session-Id": "b"}, tools=[TOOL]).headers["x-route-attempts"] == "2"


def test_reasoning_of_another_account_is_left_out(gateway: Gateway) -> None:
    """Responses: what one key's organisation has encrypted no other can read."""
    items = [
        {"type": "message", "role": "user", "content": "Hello"},
        {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "Zm9yZWlnbg=="},
        {"type": "message", "role": "user", "content": "Go on"},
    ]
    body = {"model": "sim-gpt-responses", "input": items, "store": False}
    url = f"{gateway.url}/v1/responses"
    answer = httpx.post(url, json=body, headers=gateway.headers(), timeout=120)
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-route-attempts"] == "2"
    assert "encrypted_content" not in gateway.world.requests[-1].body
