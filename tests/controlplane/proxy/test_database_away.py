"""PostgreSQL is taken away in mid-traffic: no stream is cut, nothing lost or doubled (bar R7)."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from django.db import connection, connections

from controlplane.proxy.routes import CHAT, GEMINI, MESSAGES
from tenants import scope
from tenants.audit.actor import acting_as
from tenants.keys.services import create_key
from tenants.members.models import Tenant
from tenants.quotas.services import create_limit
from tenants.usage.models import Hold, UsageEvent
from tenants.usage.verify import verify
from tests.controlplane.proxy.conftest import Gateway, started
from tests.patience import allowed

pytestmark = pytest.mark.storage

HELLO = [{"role": "user", "content": "Hello"}]
SLOW = "sim-gpt+rate=25"


class Cable:
    """Between us and PostgreSQL: to be cut and mended."""

    def __init__(self, socket_path: str) -> None:
        self._socket_path = socket_path
        self._loop = asyncio.new_event_loop()
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()
        self.port = 0
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.mend()

    def mend(self) -> None:
        self._run(self._listen())

    def cut(self) -> None:
        self._run(self._cut())

    def close(self) -> None:
        self.cut()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def _run(self, what: Any) -> None:
        asyncio.run_coroutine_threadsafe(what, self._loop).result(10)

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._joined, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _cut(self) -> None:
        if self._server is not None:
            self._server.close()
        for writer in self._open:
            writer.transport.abort()
        self._open.clear()

    async def _joined(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_unix_connection(self._socket_path)
        self._open |= {writer, back}
        await asyncio.gather(_pump(reader, back), _pump(there, writer))


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while content := await source.read(65536):
            sink.write(content)
            await sink.drain()
    sink.close()


@pytest.fixture
def cable() -> Iterator[Cable]:
    """All connections that are made from now on go through it."""
    if connection.vendor != "postgresql":
        pytest.skip("SQLite cannot be away: it is a file of ours.")
    known = connection.settings_dict
    before = {name: known[name] for name in ("HOST", "PORT")}
    if not str(known["HOST"]).startswith("/"):
        pytest.skip("The database is reached by an address: only a socket is taken away here.")
    made = Cable(f"{known['HOST']}/.s.PGSQL.{known['PORT'] or 5432}")
    connections.close_all()
    known.update(HOST="127.0.0.1", PORT=str(made.port))
    try:
        yield made
    finally:
        connections.close_all()
        known.update(before)
        made.close()


@pytest.fixture
def served(
    cable: Cable,
    transactional_db: None,
    registry: Any,
    simulated: Any,
    settings: Any,
    tmp_path: Path,
) -> Iterator[Gateway]:
    settings.USAGE_JOURNAL_FOLDER = str(tmp_path / "journal")
    with started("asgi", registry, simulated) as gateway:
        yield gateway


@dataclass
class Traffic:
    """Callers that never stop asking, and what they were told."""

    gateway: Gateway
    answered: list[str] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    failed: list[BaseException] = field(default_factory=list)
    _stopped: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def start(self, callers: int) -> None:
        self._threads = [threading.Thread(target=self._call) for _ in range(callers)]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join(60)

    def _call(self) -> None:
        try:
            with httpx.Client(timeout=60) as client:
                while not self._stopped.is_set():
                    answer = client.post(
                        f"{self.gateway.url}/v1/chat/completions",
                        json={"model": "sim-gpt", "messages": HELLO},
                        headers=self.gateway.headers(),
                    )
                    self.statuses[answer.status_code] += 1
                    if answer.status_code == 200:
                        self.answered.append(answer.headers["x-request-id"])
        except BaseException as error:
            self.failed.append(error)
            raise


def stream(gateway: Gateway, into: list[str]) -> None:
    """One slow stream, read to its end; how it ended."""
    body = {"model": SLOW, "messages": HELLO, "stream": True, "max_tokens": 40}
    with httpx.stream(
        "POST",
        f"{gateway.url}/v1/chat/completions",
        json=body,
        headers=gateway.headers(),
        timeout=120,
    ) as answer:
        lines = [line for line in answer.iter_lines() if line]
        into.append(lines[-1])
        into.append(answer.headers["x-request-id"])


def bound_key() -> str:
    """Of a tenant whom a limit binds."""
    with acting_as("command", None, "tests", ""), scope.platform("tests"):
        tenant = Tenant.objects.create(slug=f"bound-{uuid.uuid4().hex[:8]}", name="Bound")
        create_limit(
            tenant=tenant,
            is_platform_set=True,
            scope_kind="tenant",
            kind="requests",
            period="day",
            amount=10**6,
        )
        return create_key(tenant=tenant, label="one")[1].reveal()


ASKED = {
    CHAT: ("/v1/chat/completions", {"model": "sim-gpt", "messages": HELLO}),
    MESSAGES: ("/v1/messages", {"model": "sim-claude", "messages": HELLO, "max_tokens": 9}),
    GEMINI: (
        "/v1beta/models/sim-gpt:generateContent",
        {"contents": [{"role": "user", "parts": [{"text": "Hello"}]}]},
    ),
}


def ask(gateway: Gateway, key: str, dialect: str = CHAT, **headers: str) -> httpx.Response:
    path, body = ASKED[dialect]
    headers["Authorization"] = f"Bearer {key}"
    return httpx.post(gateway.url + path, json=body, headers=headers, timeout=60)


def outage(
    traffic: Traffic, key: str, cable: Cable, wait_until: Callable[..., Any], seconds: float
) -> None:
    gateway, before = traffic.gateway, len(traffic.answered)
    journal = gateway.running_state.metering.writer.journal
    wait_until(lambda: len(traffic.answered) > before + 10, seconds=60, what="traffic")
    cable.cut()
    began = time.monotonic()
    wait_until(lambda: journal.is_away, seconds=60, what="it is noticed")
    noticed = len(traffic.answered)
    wait_until(
        lambda: len(traffic.answered) > noticed + 20 and time.monotonic() - began >= seconds,
        seconds=seconds + 60,
        what="requests from the snapshot",
    )
    for dialect in ASKED:
        refused = ask(gateway, key, dialect)
        assert refused.status_code == 503, dialect
        assert "limits cannot be counted" in json.dumps(refused.json()["error"])
        assert refused.headers["retry-after"]
    repeated = ask(gateway, gateway.key, **{"Idempotency-Key": "once"})
    assert repeated.status_code == 503
    cable.mend()
    back = time.monotonic()
    wait_until(lambda: ask(gateway, key).status_code == 200, seconds=60, what="normal")
    assert time.monotonic() - back < allowed(5.0)
    wait_until(lambda: journal._key is not None, seconds=60, what="another key")


def outages(gateway: Gateway, cable: Cable, wait_until: Callable[..., Any], *, pauses: Any) -> None:
    key = bound_key()
    wait_until(lambda: ask(gateway, key).status_code == 200, seconds=60, what="the key is known")
    journal = gateway.running_state.metering.writer.journal
    wait_until(lambda: journal._key is not None, seconds=60, what="the journal has a key")
    traffic = Traffic(gateway)
    traffic.start(4)
    streams: list[list[str]] = [[] for _ in range(3)]
    readers = [threading.Thread(target=stream, args=(gateway, into)) for into in streams]
    for reader in readers:
        reader.start()
    try:
        for seconds in pauses:
            outage(traffic, key, cable, wait_until, seconds)
    finally:
        traffic.stop()
        for reader in readers:
            reader.join(120)
    assert traffic.failed == []
    assert set(traffic.statuses) == {200}
    folder = journal._folder
    # Ours was cut as well.
    connections.close_all()
    wait_until(lambda: not list(folder.glob("*")), seconds=60, what="the journal is written")
    with scope.platform("tests"):
        wait_until(lambda: not Hold.objects.exists(), seconds=60, what="all is settled")
        events = Counter(
            UsageEvent.objects.filter(tenant=gateway.tenant).values_list("trace_id", flat=True)
        )
        assert set(UsageEvent.objects.values_list("entry", flat=True)) == {"usage"}
    assert [last for last, _ in streams] == ["data: [DONE]"] * len(streams)
    answered = [*traffic.answered, *(name for _, name in streams)]
    assert set(answered) == set(events), "lost or made up"
    assert set(events.values()) == {1}, "doubled"
    assert verify().findings == []


def test_away_in_mid_traffic(served: Gateway, cable: Cable, wait_until: Callable[..., Any]) -> None:
    outages(served, cable, wait_until, pauses=[0.0, 0.0])


@pytest.mark.soak
def test_away_four_times_and_then_for_thirty_seconds(
    served: Gateway, cable: Cable, wait_until: Callable[..., Any]
) -> None:
    outages(served, cable, wait_until, pauses=[0.0, 0.0, 0.0, 0.0, 30.0])
