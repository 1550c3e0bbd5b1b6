"""An overloaded process says so at once, in the caller's words, and is free again afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from controlplane.proxy.admission import Admission
from controlplane.proxy.errors import Overloaded
from tests.controlplane.proxy.conftest import Gateway

HELLO = [{"role": "user", "content": "Hello"}]
ASKED: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"model": "sim-gpt", "messages": HELLO},
    "/v1/messages": {"model": "sim-gpt", "messages": HELLO, "max_tokens": 5},
    "/v1beta/models/sim-gpt:generateContent": {"contents": [{"parts": [{"text": "Hello"}]}]},
    "/v1/embeddings": {"model": "sim-embedding", "input": "Hello"},
}


@pytest.fixture
def one_at_a_time(gateway: Gateway) -> Iterator[Admission]:
    admission = gateway.running_state.admission
    usual, admission.limit = admission.limit, 1
    yield admission
    admission.limit = usual


def test_the_one_too_many_is_refused_in_every_dialect(
    gateway: Gateway, one_at_a_time: Admission, wait_until: Any
) -> None:
    slow = {"model": "sim-gpt+stall=2", "messages": HELLO, "stream": True}
    with (
        httpx.Client(base_url=gateway.url, headers=gateway.headers()) as client,
        client.stream("POST", "/v1/chat/completions", json=slow) as held,
    ):
        assert held.status_code == 200
        asked = len(gateway.world.requests)
        for path, body in ASKED.items():
            refused = httpx.post(gateway.url + path, headers=gateway.headers(), json=body)
            assert refused.status_code == 503, refused.text
            assert refused.headers["retry-after"] == "1"
            assert refused.json()["error"]["message"]
        # Not even a key was looked at, and no vendor asked.
        assert httpx.post(f"{gateway.url}/v1/messages", json={}).status_code == 503
        assert len(gateway.world.requests) == asked
    wait_until(lambda: one_at_a_time.in_flight == 0, what="the caller who left was counted out")
    free = httpx.post(
        f"{gateway.url}/v1/chat/completions",
        headers=gateway.headers(),
        json=ASKED["/v1/chat/completions"],
    )
    assert free.status_code == 200


def test_whatever_becomes_of_requests_they_are_counted_out(
    gateway: Gateway, wait_until: Any
) -> None:
    stream = {"model": "sim-gpt", "messages": HELLO, "stream": True}
    bodies = [stream, {"model": "nobody"}, {}, {**stream, "model": "sim-claude+cut=3"}]

    def ask(number: int) -> int:
        with httpx.Client(base_url=gateway.url, headers=gateway.headers()) as client:
            body = bodies[number % len(bodies)]
            return client.post("/v1/chat/completions", json=body).status_code

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(ask, range(40))) == {200, 404, 400}
    wait_until(lambda: gateway.running_state.admission.in_flight == 0)


def test_nothing_is_refused_without_a_limit() -> None:
    open_door = Admission(0)
    for _ in range(10_000):
        open_door.enter()
    assert open_door.in_flight == 10_000
    narrow = Admission(2)
    narrow.enter()
    narrow.enter()
    with pytest.raises(Overloaded):
        narrow.enter()
    narrow.leave()
    narrow.enter()
