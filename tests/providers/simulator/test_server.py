"""The test bench itself: a real server, one world per test, nothing left behind."""

from __future__ import annotations

import httpx
import pytest

from tests.simulator_server import SimulatorServer, serve

CHAT = {"model": "sim-gpt+text+tokens=3", "messages": [{"role": "user", "content": "hi"}]}
KEY = {"authorization": "Bearer sk-test"}


def test_speaks_http(simulator: SimulatorServer) -> None:
    answer = httpx.post(f"{simulator.url}/openai/v1/chat/completions", json=CHAT, headers=KEY)
    assert answer.json()["choices"][0]["message"]["content"] == "the quick answer"
    assert simulator.control("requests")["requests"][0]["vendor"] == "openai"
    assert simulator.rules() == []


@pytest.mark.parametrize("turn", [1, 2])
def test_every_test_has_a_fresh_world(simulator: SimulatorServer, turn: int) -> None:
    assert simulator.world.count("turn") == 1


def test_mounted_under_a_prefix() -> None:
    with serve(prefix="/simulator") as mounted:
        url = f"{mounted.url}/openai/v1/chat/completions"
        assert httpx.post(url, json=CHAT, headers=KEY).status_code == 200


def test_stops_while_an_answer_stalls() -> None:
    with serve() as server:
        body = CHAT | {"model": "sim-gpt+text+stall=1", "stream": True}
        client = httpx.Client()
        with client.stream(
            "POST", f"{server.url}/openai/v1/chat/completions", json=body, headers=KEY
        ) as answer:
            assert next(answer.iter_bytes())
        client.close()
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{server.url}/control")
