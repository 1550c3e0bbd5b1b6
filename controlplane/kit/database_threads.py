"""Where async code reads the database: a few threads with connections of their own.

Not asgiref's thread-sensitive executor: that is one thread for the whole process, and a
request that waits for us may be what occupies it.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

from django.db import close_old_connections, connections

T = TypeVar("T")
THREADS: Final = 4


class DatabaseThreads:
    """Made on first use; `close` ends the threads and their connections."""

    def __init__(self) -> None:
        self._executor: ThreadPoolExecutor | None = None

    async def run(self, function: Callable[..., T], *args: Any) -> T:
        if self._executor is None:
            self._executor = ThreadPoolExecutor(THREADS, thread_name_prefix="database")
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._executor, _fresh, function, args)

    def close(self) -> None:
        executor, self._executor = self._executor, None
        if executor is None:
            return
        # One task per thread, each waiting for the others, so that every thread gets one.
        barrier = _Barrier(len(executor._threads))
        for _ in range(len(executor._threads)):
            executor.submit(barrier.close_mine)
        executor.shutdown(wait=True)


class _Barrier:
    def __init__(self, parties: int) -> None:
        self._barrier = threading.Barrier(parties) if parties else None

    def close_mine(self) -> None:
        connections.close_all()
        if self._barrier is not None:
            self._barrier.wait(10)


def _fresh(function: Callable[..., T], args: tuple[Any, ...]) -> T:
    close_old_connections()
    try:
        return function(*args)
    finally:
        close_old_connections()


# One per process: its threads hold connections, which are few.
database_threads: Final = DatabaseThreads()
