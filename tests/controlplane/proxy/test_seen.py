"""What a request showed is true at its end, however it ended."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from controlplane.proxy import attempt
from controlplane.proxy.exchange import Exchange
from controlplane.proxy.seen import Seen
from tests.controlplane.proxy.conftest import Gateway


@pytest.fixture
def exchanges(monkeypatch: pytest.MonkeyPatch) -> list[Exchange]:
    found: list[Exchange] = []
    really = attempt.first_answer

    async def first_answer(exchange: Exchange, *arguments: Any) -> Any:
        found.append(exchange)
        return await really(exchange, *arguments)

    monkeypatch.setattr(attempt, "first_answer", first_answer)
    return found


def ask(gateway: Gateway, model: str, *, stream: bool) -> httpx.Response:
    body = {
        "model": model,
        "stream": stream,
        "messages": [{"role": "user", "content": "Hello"}],
    }
    if stream:
        body["stream_options"] = {"include_usage": True}
    return httpx.post(
        f"{gateway.url}/v1/chat/completions", json=body, headers=gateway.headers(), timeout=30
    )


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("model", ["sim-gpt", "sim-claude"])
def test_a_whole_answer_leaves_its_usage(
    gateway: Gateway, exchanges: list[Exchange], model: str, stream: bool
) -> None:
    assert ask(gateway, model, stream=stream).status_code == 200
    seen = exchanges[0].seen
    assert seen.is_whole
    assert seen.fault is None
    assert seen.usage is not None
    assert seen.usage.output > 0
    assert seen.target is not None
    assert seen.credential is not None


@pytest.mark.parametrize("model", ["sim-gpt", "sim-claude"])
def test_a_stream_that_breaks_is_not_whole_and_tells_how_much_came(
    gateway: Gateway, exchanges: list[Exchange], model: str
) -> None:
    answer = ask(gateway, f"{model}+cut=3", stream=True)
    assert answer.status_code == 200
    seen: Seen = exchanges[0].seen
    assert not seen.is_whole
    assert seen.output_characters + seen.output_events > 0
    assert seen.first_content_at >= seen.asked_at > 0
