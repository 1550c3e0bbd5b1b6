"""Several gateways and one Idempotency-Key: rows alone decide. And kill -9 in the middle: the
repetition runs anew, and each call of a provider is in the ledger exactly once."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from django.db import connection

from controlplane.kit import clock
from providers.catalog import services
from tenants import scope
from tenants.audit.actor import acting_as
from tenants.idempotency.models import RememberedAnswer
from tenants.keys.services import create_key
from tenants.members.models import Tenant
from tenants.usage.leases import LEASE_SECONDS, settle_abandoned
from tenants.usage.models import Hold, UsageEvent
from tests.conftest import ROOT
from tests.controlplane.proxy.conftest import FACTS, Gateway, started

pytestmark = pytest.mark.storage

SCRIPT = Path(__file__).with_name("killed_gateway.py")
CHAT = "/v1/chat/completions"
ENDLESS, LONG = "sim-gpt+stall=2", "sim-gpt+text+tokens=40+rate=25"


@pytest.fixture(scope="module")
def survivor(registry: dict[str, Any], simulated: tuple[str, Any]) -> Iterator[Gateway]:
    with acting_as("command", None, "tests", ""), scope.platform("tests"):
        services.add_model(provider=registry["sim-openai"], upstream_id=LONG, facts=FACTS)
    with started("asgi", registry, simulated) as gateway:
        yield gateway


@contextlib.contextmanager
def victim() -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    command = [sys.executable, str(SCRIPT), str(connection.settings_dict["NAME"])]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
    ) as process:
        try:
            assert process.stdout is not None
            # What it logs comes before.
            said = (line.decode().strip() for line in process.stdout)
            yield next(line for line in said if line.startswith("http")), process
        finally:
            process.kill()


class Asking:
    """A tenant of its own, whose requests all have one key."""

    def __init__(self, survivor: Gateway, model: str) -> None:
        with acting_as("command", None, "tests", ""), scope.platform("tests"):
            self.tenant = Tenant.objects.create(slug=f"t{uuid.uuid4().hex[:8]}", name="Killed")
            _, secret = create_key(tenant=self.tenant, label="proxy")
        survivor.running_state.keys.reload()
        self.survivor = survivor
        self.headers = {"Authorization": f"Bearer {secret.reveal()}", "Idempotency-Key": "k"}
        self.body = {
            "model": model,
            "messages": [{"role": "user", "content": "Hello"}],
            "stream": True,
        }

    def stream(self, url: str = "") -> Any:
        target = (url or self.survivor.url) + CHAT
        return httpx.stream("POST", target, json=self.body, headers=self.headers, timeout=60)

    def whole(self, url: str = "", **more: Any) -> httpx.Response:
        target = (url or self.survivor.url) + CHAT
        return httpx.post(target, json={**self.body, **more}, headers=self.headers, timeout=120)

    def kill_in_the_middle(self) -> None:
        with victim() as (url, process), self.stream(url) as answer:
            next(answer.iter_raw())
            process.kill()
            process.wait(60)

    def rows(self) -> Any:
        return RememberedAnswer.objects.filter(tenant=self.tenant)

    def settled(self) -> list[UsageEvent]:
        settle_abandoned(now=time.time() + LEASE_SECONDS + 1)
        with scope.platform("tests"):
            assert not Hold.objects.filter(tenant=self.tenant).exists()
            return list(UsageEvent.objects.filter(tenant=self.tenant).order_by("sequence"))


def test_thirty_two_at_two_gateways_are_one(
    survivor: Gateway, registry: dict[str, Any], simulated: tuple[str, Any]
) -> None:
    callers = 32
    survivor.world.reset()
    asking = Asking(survivor, LONG)
    together = threading.Barrier(callers)
    with (
        started("asgi", registry, simulated) as second,
        ThreadPoolExecutor(callers) as pool,
        patient(survivor),
        patient(second),
    ):

        def ask(number: int) -> httpx.Response:
            together.wait(60)
            return asking.whole((survivor, second)[number % 2].url)

        answers = list(pool.map(ask, range(callers)))
        other = asking.whole(second.url, temperature=0)
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.content for answer in answers}) == 1
    assert sum("idempotent-replayed" not in answer.headers for answer in answers) == 1
    assert len(survivor.world.requests) == 1
    assert len(asking.settled()) == 1
    assert other.status_code == 422


@contextlib.contextmanager
def patient(gateway: Gateway) -> Iterator[None]:
    """However slow this machine is."""
    under_way = gateway.running_state.under_way
    usual, under_way.wait_seconds = under_way.wait_seconds, 100.0
    yield
    under_way.wait_seconds = usual


def test_the_lease_of_the_killed_holds_and_ends(survivor: Gateway) -> None:
    asking = Asking(survivor, ENDLESS)
    asking.kill_in_the_middle()
    under_way = survivor.running_state.under_way
    usual = under_way.wait_seconds, under_way.finish_seconds
    under_way.wait_seconds, under_way.finish_seconds = 0.0, 0
    try:
        with scope.platform("tests"):
            # However slow this machine is.
            asking.rows().update(claimed_until=clock.now() + timedelta(hours=1))
            assert asking.whole().status_code == 409
            asking.rows().update(claimed_until=clock.now())
        with asking.stream() as answer:
            assert answer.status_code == 200
            assert "idempotent-replayed" not in answer.headers
            next(answer.iter_raw())
    finally:
        under_way.wait_seconds, under_way.finish_seconds = usual


def test_each_call_of_a_provider_is_charged_once(survivor: Gateway) -> None:
    survivor.world.reset()
    asking = Asking(survivor, LONG)
    for _ in range(2):
        asking.kill_in_the_middle()
        with scope.platform("tests"):
            # The lease, if the kill was in time for one to be left.
            asking.rows().filter(claim__isnull=False).update(claimed_until=clock.now())
    first = asking.whole()
    again = asking.whole()
    assert first.status_code == again.status_code == 200
    assert again.headers["idempotent-replayed"] == "true"
    assert again.content == first.content
    assert first.content.rstrip().endswith(b"[DONE]")
    events = asking.settled()
    assert len(events) == len(survivor.world.requests)
    assert len({event.request_id for event in events}) == len(events)
    # The outcome that is given out was settled by who answered it.
    assert "usage" in {event.entry for event in events}
