"""Threads with database connections of their own: none is left behind when they end."""

from __future__ import annotations

import asyncio
import threading

import pytest

from controlplane.kit import database_threads
from controlplane.kit.database_threads import DatabaseThreads


class Connections:
    """Which threads opened one, and which closed theirs."""

    def __init__(self) -> None:
        self.opened: set[int] = set()
        self.closed: set[int] = set()

    def open(self) -> None:
        self.opened.add(threading.get_ident())

    def close_all(self) -> None:
        self.closed.add(threading.get_ident())


class Busy(threading.Semaphore):
    """Says that nobody is idle: as an executor sees threads that finished this very moment."""

    def acquire(self, blocking: bool = True, timeout: float | None = None) -> bool:
        return False


@pytest.mark.parametrize("how", ["idle", "just done"])
def test_every_thread_closes_its_connection(monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    monkeypatch.setattr(database_threads, "close_old_connections", lambda: None)
    for _ in range(20):
        found = Connections()
        monkeypatch.setattr(database_threads, "connections", found)
        threads = DatabaseThreads()
        asyncio.run(threads.run(found.open))
        executor = threads._executor
        assert executor is not None
        if how == "just done":
            executor._idle_semaphore = Busy()  # type: ignore[attr-defined]  # the race, each time
        threads.close()
        assert found.opened
        assert found.opened <= found.closed


def test_what_was_never_used_closes_too() -> None:
    DatabaseThreads().close()
