"""A vendor of several addresses is asked at the next where one is away or lets nobody in."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import msgspec
import pytest

from providers.routing.table import RouteTable, Target
from tests.controlplane.proxy.conftest import Gateway

BODY = {"model": "sim-gpt", "messages": [{"role": "user", "content": "Hello"}]}
Elsewhere = Callable[[str, tuple[str, ...]], None]


@pytest.fixture
def closed() -> Iterator[str]:
    """An address at which nobody listens, and nobody else will."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}/v1"


@pytest.fixture
def elsewhere(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> Elsewhere:
    """Gives the registration other addresses than its own."""
    tables = gateway.running_state.tables
    really = tables.of

    def moved(base_url: str, fallbacks: tuple[str, ...]) -> None:
        def at(target: Target) -> Target:
            endpoint = msgspec.structs.replace(
                target.endpoint, base_url=base_url, fallback_base_urls=fallbacks
            )
            return msgspec.structs.replace(target, endpoint=endpoint)

        async def of(tenant_id: Any) -> RouteTable:
            table = await really(tenant_id)
            found = {name: tuple(map(at, targets)) for name, targets in table.targets.items()}
            return msgspec.structs.replace(table, targets=found)

        monkeypatch.setattr(tables, "of", of)
        gateway.running_state.routing.cooldowns.rests.clear()

    return moved


def ask(gateway: Gateway) -> httpx.Response:
    url = f"{gateway.url}/v1/chat/completions"
    return httpx.post(url, headers=gateway.headers(), json=BODY, timeout=30)


def test_the_next_address_answers(gateway: Gateway, elsewhere: Elsewhere, closed: str) -> None:
    there = f"{gateway.vendors}/openai/v1"
    for first in (closed, f"{gateway.vendors}/nowhere"):
        elsewhere(first, (closed, there))
        answer = ask(gateway)
        assert answer.status_code == 200, answer.text
        assert answer.headers["x-route-attempts"] == "1"


def test_what_all_of_them_say_is_said(gateway: Gateway, elsewhere: Elsewhere, closed: str) -> None:
    elsewhere(closed, (closed,))
    assert ask(gateway).status_code == 502
    elsewhere(closed, (f"{gateway.vendors}/nowhere",))
    assert ask(gateway).status_code == 404


def test_other_errors_stay_where_they_are(
    gateway: Gateway, elsewhere: Elsewhere, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A vendor who answers is not asked twice."""
    there = f"{gateway.vendors}/openai/v1"
    elsewhere(there, (there,))
    monkeypatch.setitem(BODY, "model", "sim-gpt+status=503")
    assert ask(gateway).status_code == 503
    assert len(gateway.world.requests) == 1
