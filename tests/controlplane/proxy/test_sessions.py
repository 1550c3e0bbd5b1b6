"""A vendor that insists on the id of a conversation gets the same one for as long as it lasts."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from controlplane.kit import json
from controlplane.kit.secret import Secret
from controlplane.proxy.exchange import Exchange
from controlplane.proxy.routes import ROUTES
from controlplane.proxy.sessions import session_headers
from providers.catalog import services
from providers.credentials.services import store_key
from tenants import scope
from tenants.audit.actor import acting_as
from tests.controlplane.proxy.conftest import Gateway

NAME = "x-opencode-session"
FIRST = {"role": "user", "content": "Who are you?"}
LATER = [FIRST, {"role": "assistant", "content": "Me."}, {"role": "user", "content": "And now?"}]


def exchange(body: Any, tenant: str = "acme", **headers: str) -> Exchange:
    return Exchange(
        route=ROUTES[0],
        request_id="r",
        method="POST",
        path="/",
        query=b"",
        headers=[(name.replace("_", "-").encode(), v.encode()) for name, v in headers.items()],
        address="",
        body=json.dumps(body),
        tenant=tenant,
    )


def id_of(body: Any, tenant: str = "acme", **headers: str) -> str:
    return session_headers(exchange(body, tenant, **headers), NAME)[NAME]


def test_it_stays_while_the_conversation_grows() -> None:
    system = {"role": "system", "content": "It is noon."}
    evening = {"role": "system", "content": "It is evening."}
    begun = id_of({"messages": [system, FIRST]})
    assert begun == id_of({"messages": [evening, *LATER], "stream": True})
    assert begun == id_of({"input": LATER})
    assert begun != id_of({"messages": LATER[2:]})
    assert begun != id_of({"messages": [FIRST]}, tenant="globex")


def test_the_callers_own_words_come_first() -> None:
    one = id_of({"messages": [FIRST], "prompt_cache_key": "k"})
    assert one == id_of({"messages": LATER[2:], "prompt_cache_key": "k"})
    assert id_of({"messages": [FIRST]}, x_opencode_session="mine-1") == "mine-1"
    for odd in ("", "a b", "x" * 200, "a\r\nb"):
        made = id_of({"messages": [FIRST]}, x_opencode_session=odd)
        assert made == id_of({"messages": [FIRST]})
    assert session_headers(exchange({}), "") == {}


@pytest.fixture(scope="module")
def registry(registry: dict[str, Any], simulated: tuple[str, Any]) -> dict[str, Any]:
    with acting_as("command", None, "tests", ""), scope.platform("tests"):
        made = services.register(
            slug="strict", protocol="openai-completions", base_url=f"{simulated[0]}/openai/v1"
        )
        store_key(provider=made, label="one", secret=Secret("sim-strict"))
        facts = {"quirks": {"session_header": NAME}}
        services.add_model(provider=made, upstream_id="sim-gpt", facts=facts)
    return registry


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", {"messages": [FIRST]}),
        ("/v1/messages", {"messages": [FIRST], "max_tokens": 5}),
    ],
    ids=["relayed", "translated"],
)
def test_it_arrives(gateway: Gateway, path: str, body: dict[str, Any]) -> None:
    answer = httpx.post(
        gateway.url + path, headers=gateway.headers(), json={"model": "strict/sim-gpt", **body}
    )
    assert answer.status_code == 200, answer.text
    assert len(gateway.world.requests[-1].headers[NAME]) == 32
