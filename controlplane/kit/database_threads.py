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
        # One task for each thread that there may be, waiting for the others, so that every thread
        # gets one: a thread that finished this moment still counts as busy, and the executor would
        # start another for its task.
        barrier = threading.Barrier(THREADS)
        for _ in range(THREADS):
            executor.submit(_close_mine, barrier)
        executor.shutdown(wait=True)


def _close_mine(barrier: threading.Barrier) -> None:
    connections.close_all()
    barrier.wait(10)


def _fresh(function: Callable[..., T], args: tuple[Any, ...]) -> T:
    close_old_connections()
    try:
        return function(*args)
    finally:
        close_old_connections()


# One per process: its threads hold connections, which are few.
database_threads: Final = DatabaseThreads()
