"""The provider simulator as a real HTTP server on this machine, for tests.

A conftest imports the fixtures (`from tests.simulator_server import simulator, simulator_door`);
every test gets a world of its own. Tests that need two worlds, or a prefix, use `serve`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import threading
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
import uvicorn

from providers.simulator.app import Scope, SimulatorApplication
from providers.simulator.connection import Receive, Send
from providers.simulator.world import World
from tests.patience import LONG_SECONDS

DEADLINE_SECONDS = LONG_SECONDS


class SimulatorServer:
    """A running simulation: `url` without a trailing slash, and the `world` behind it."""

    def __init__(self, url: str, world: World) -> None:
        self.url = url
        self.world = world

    def control(self, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """GET, or with a body POST, of /control/`path`."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}/control/{path}", data)
        with urllib.request.urlopen(request, timeout=DEADLINE_SECONDS) as answer:
            value: dict[str, Any] = json.load(answer)
        return value

    def rules(self, vendor: str = "") -> list[str]:
        """Names of the rules that were broken so far, as the control API tells them."""
        found = self.control(f"violations?vendor={vendor}")["violations"]
        return [violation["rule"] for violation in found]


class _Door:
    """What the server calls: whichever simulation a test has put behind it."""

    def __init__(self, application: SimulatorApplication) -> None:
        self.application = application

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.application(scope, receive, send)


class _Server(uvicorn.Server):
    """Says when it is ready, and stops when told instead of looking ten times a second."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.is_ready = threading.Event()
        self._told: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def main_loop(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._told = asyncio.Event()
        self.is_ready.set()
        # Makes the Date header, once: nobody here reads it.
        await self.on_tick(0)
        await self._told.wait()

    def stop(self) -> None:
        if self._loop is not None and self._told is not None:
            self._loop.call_soon_threadsafe(self._told.set)

    def drop_requests(self) -> None:
        """Ends what still runs: a stalled answer must not outlive its test."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._cancel)

    def _cancel(self) -> None:
        for task in self.server_state.tasks:
            task.cancel()


@contextlib.contextmanager
def _running(application: Any) -> Iterator[tuple[_Server, str]]:
    config = uvicorn.Config(
        application,
        lifespan="off",
        ws="none",
        loop="asyncio",
        log_config=None,
        log_level="critical",
        access_log=False,
        timeout_graceful_shutdown=0,
    )
    listener = socket.create_server(("127.0.0.1", 0), backlog=128)
    # asyncio sees no TCP in a listener made like this, and would let answers wait for 40 ms.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    server = _Server(config)
    thread = threading.Thread(
        target=server.run, kwargs={"sockets": [listener]}, name="simulator", daemon=True
    )
    thread.start()
    try:
        if not server.is_ready.wait(DEADLINE_SECONDS):
            raise AssertionError(f"the simulator was not ready within {DEADLINE_SECONDS} s")
        yield server, url
    finally:
        server.stop()
        thread.join(DEADLINE_SECONDS)
        listener.close()
        assert not thread.is_alive(), "the simulator did not stop"


@contextlib.contextmanager
def serve(world: World | None = None, *, prefix: str = "") -> Iterator[SimulatorServer]:
    """A server of its own on a free port. Requests still running at the end are cancelled."""
    application = SimulatorApplication(world, prefix=prefix)
    with _running(application) as (_, url):
        yield SimulatorServer(url + prefix, application.world)


@pytest.fixture(scope="session")
def simulator_door() -> Iterator[tuple[_Server, str, _Door]]:
    door = _Door(SimulatorApplication())
    with _running(door) as (server, url):
        yield server, url, door


@pytest.fixture
def simulator(simulator_door: tuple[_Server, str, _Door]) -> Iterator[SimulatorServer]:
    """A simulator with a world of the test's own, at an address all tests of a run share."""
    server, url, door = simulator_door
    door.application = SimulatorApplication()
    yield SimulatorServer(url, door.application.world)
    server.drop_requests()
