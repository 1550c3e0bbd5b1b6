"""Two gateways on one database: what one learns the other knows, and figures are those of both."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from django.core.management import call_command
from django.test import override_settings

from controlplane.kit.secret import Secret
from providers.catalog import services
from providers.credentials.services import store_key
from providers.simulator.world import World
from tenants import scope
from tenants.audit.actor import acting_as
from tests.controlplane.proxy.conftest import FACTS, Gateway, register_vendors, started

TOKEN = "a token of the operator's"


@pytest.fixture
def gateways(transactional_db: None, simulated: tuple[str, World]) -> Iterator[list[Gateway]]:
    simulated[1].reset()
    with override_settings(UPSTREAM_ALLOWED_NETWORKS=["127.0.0.0/8"], METRICS_TOKEN=TOKEN):
        try:
            made = register_vendors(simulated[0])
            with (
                started("asgi", made, simulated) as one,
                started("asgi", made, simulated) as other,
            ):
                yield [one, other]
        finally:
            call_command("flush", verbosity=0, interactive=False)


def ask(gateway: Gateway, model: str) -> int:
    body = {"model": model, "messages": [{"role": "user", "content": "Hello"}]}
    answer = httpx.post(
        f"{gateway.url}/v1/chat/completions", json=body, headers=gateway.headers(), timeout=120
    )
    return answer.status_code


def figure(gateway: Gateway, **labels: str) -> float:
    """Of Prometheus's text, as that gateway answers it; 0 = it has none."""
    answer = httpx.get(
        f"{gateway.url}/metrics", headers={"Authorization": f"Bearer {TOKEN}"}, timeout=120
    )
    assert answer.status_code == 200
    wanted = ",".join(f'{name}="{value}"' for name, value in labels.items())
    pattern = rf"^gateway_provider_requests_5m{{{re.escape(wanted)}}} ([\d.]+)$"
    found = re.search(pattern, answer.text, re.MULTILINE)
    return float(found.group(1)) if found else 0.0


def test_prometheus_reads_the_sum_of_all_processes_from_any_of_them(
    gateways: list[Gateway], wait_until: Callable[..., Any]
) -> None:
    for gateway, count in zip(gateways, (2, 3), strict=True):
        for _ in range(count):
            assert ask(gateway, "sim-openai/sim-gpt") == 200
    for gateway in gateways:
        wait_until(
            lambda at=gateway: figure(at, provider="sim-openai", outcome="ok") == 5,
            seconds=60,
            what="both have written their figures",
        )


def test_what_one_gateway_puts_to_rest_rests_for_the_other(
    gateways: list[Gateway], wait_until: Callable[..., Any]
) -> None:
    one, other = gateways
    with acting_as("command", None, "tests", ""), scope.platform("tests"):
        bad = services.register(
            slug="bad", protocol="openai-completions", base_url=f"{one.vendors}/openai/v1"
        )
        store_key(provider=bad, label="one", secret=Secret("sim-bad"))
        services.add_model(
            provider=bad, upstream_id="sim-gpt+status=429+after=200", alias="busy", facts=FACTS
        )
    wait_until(lambda: ask(one, "busy") == 429, seconds=60, what="the route is seen")
    wait_until(
        lambda: other.running_state.routing.cooldowns.rests,
        seconds=60,
        what="the other one has heard of it",
    )
    [place] = other.running_state.routing.cooldowns.rests
    assert place[0] == str(bad.pk)
