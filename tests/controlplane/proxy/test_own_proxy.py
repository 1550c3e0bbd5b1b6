"""A credential's own way out: counted by real proxies, through both lanes."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from controlplane.kit import clock
from controlplane.kit.secret import Secret
from providers.catalog import services
from providers.catalog.models import Provider
from providers.credentials.models import Credential
from providers.credentials.services import add_credential, change_credential
from providers.files.models import VendorObject
from providers.files.settling import settle_due
from tenants import scope
from tenants.audit.actor import acting_as
from tests.controlplane.proxy.conftest import Gateway
from tests.outbound_proxy import Proxy, running_proxy


@pytest.fixture
def proxies() -> Iterator[tuple[Proxy, Proxy]]:
    with running_proxy() as one, running_proxy() as other:
        yield one, other


@dataclass
class Case:
    """A registration whose way out is the first proxy, and one credential of it."""

    gateway: Gateway
    provider: Provider
    credential: Credential
    registrations: Proxy
    credentials: Proxy

    def goes(self, proxy_url: str) -> None:
        with acting_as("command", None, "tests", ""), scope.platform("tests"):
            change_credential(self.credential, secret=Secret("sim-x"), proxy_url=proxy_url)
        self.gateway.running_state.tables.forget()
        self.registrations.asked.clear()
        self.credentials.asked.clear()

    def post(self, path: str, **sent: Any) -> Any:
        answer = httpx.post(
            self.gateway.url + path, headers=self.gateway.headers(), timeout=30, **sent
        )
        assert answer.status_code == 200, answer.text
        return answer.json()

    def ask(self) -> None:
        said = [{"role": "user", "content": "Hello"}]
        self.post(
            "/v1/chat/completions",
            json={"model": f"{self.provider.slug}/sim-gpt", "messages": said},
        )

    @property
    def asked(self) -> tuple[bool, bool]:
        return bool(self.registrations.asked), bool(self.credentials.asked)


@pytest.fixture
def case(gateway: Gateway, proxies: tuple[Proxy, Proxy]) -> Case:
    one, other = proxies
    with acting_as("command", None, "tests", ""), scope.platform("tests"):
        provider = services.register(
            slug=f"p{uuid.uuid4().hex[:8]}",
            catalog_id="simulator",
            endpoint={"origin": gateway.vendors},
            proxy_url=one.url,
        )
        made = add_credential(provider=provider, label="one", secret=Secret("sim-x"))
    return Case(gateway, provider, made, one, other)


def test_a_credentials_own_proxy_comes_before_the_registrations(case: Case) -> None:
    for proxy_url, expected in (
        ("", (True, False)),
        (case.credentials.url, (False, True)),
        (f"socks5://127.0.0.1:{case.credentials.port}", (False, True)),
        ("direct", (False, False)),
    ):
        case.goes(proxy_url)
        case.ask()
        assert case.asked == expected, proxy_url


def test_files_and_the_bills_of_batches_take_the_same_way(case: Case) -> None:
    case.goes(case.credentials.url)
    line = '{"custom_id": "1", "method": "POST", "url": "/v1/chat/completions", "body": {"model": '
    line += f'"{case.provider.slug}/sim-gpt", "messages": [{{"role": "user", "content": "Hi"}}]}}}}'
    made = case.post(
        f"/v1/files?provider={case.provider.slug}",
        files={"file": ("in.jsonl", line.encode())},
        data={"purpose": "batch"},
    )
    batch = {"endpoint": "/v1/chat/completions", "completion_window": "24h"}
    case.post("/v1/batches", json={"input_file_id": made["id"], **batch})
    assert case.asked == (False, True)
    case.credentials.asked.clear()
    case.gateway.world.advance(6)
    with scope.platform("tests"):
        VendorObject.objects.filter(provider=case.provider).update(look_at=clock.now())
    assert settle_due(now=clock.now())
    assert case.asked == (False, True)
