"""Groups that the event loop writes itself, where the database is a file of this machine.

A thread costs more than what SQLite does for a group: two wake-ups, and from then on both want the
interpreter. So the loop gathers what its turns bring and commits it in between. It never waits for
anybody: while somebody else writes, where a group failed, or when the disk is slow, the operations
go to the thread (tenants/usage/writer.py), as they do on PostgreSQL and with Redis.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from typing import Final, Protocol

from tenants.direct_sql import DirectSQL
from tenants.usage.group import Group, Operation

Waiting = tuple[Operation, "asyncio.Future[None] | None"]
# Some two milliseconds of work.
_MOST_AT_ONCE: Final = 32
# A group that took longer waited for the disk, and so would the next.
_SLOW_SECONDS: Final = 0.5
_REST_SECONDS: Final = 5.0


class Thread(Protocol):
    """Who writes what the loop cannot."""

    @property
    def is_idle(self) -> bool:
        """Whether it has written all that was put."""

    def put(self, waiting: Waiting) -> None: ...


class AtOnce:
    """Belongs to one event loop. The connection is the thread's, which lends it while it sleeps."""

    def __init__(self, group: Group, loop: asyncio.AbstractEventLoop, thread: Thread) -> None:
        self._group = group
        self._loop = loop
        self._thread_id = threading.get_ident()
        self._thread = thread
        self._gathered: deque[Waiting] = deque()
        self._counted = 0
        self._is_planned = False
        self._not_before = 0.0
        # Whoever has this may use the connection.
        self.lock = threading.Lock()
        # Set by the thread: None = nothing is lent.
        self.lent: DirectSQL | None = None

    @property
    def waiting(self) -> int:
        return len(self._gathered)

    def takes(self) -> bool:
        """Whether an operation comes here, else to the thread: none may overtake another of its
        hold. Other threads ask too: whoever collects garbage may drop a stream."""
        if threading.get_ident() != self._thread_id:
            return False
        return bool(self._gathered) or (self.lent is not None and self._thread.is_idle)

    def add(self, operation: Operation, future: asyncio.Future[None] | None) -> None:
        self._gathered.append((operation, future))
        if not self._is_planned:
            self._is_planned = True
            self._counted = len(self._gathered)
            self._loop.call_soon(self._turn)

    def hand_over_all(self) -> None:
        """In the loop's thread, or when the loop runs no more."""
        while self._gathered:
            self._thread.put(self._gathered.popleft())

    def _turn(self) -> None:
        if self._counted < len(self._gathered) < _MOST_AT_ONCE:
            # The turn that just ended brought more, so may the next.
            self._counted = len(self._gathered)
            self._loop.call_soon(self._turn)
            return
        self._is_planned = False
        while self._gathered:
            some = self._next_group()
            if not self._write(some):
                for one in some:
                    self._thread.put(one)
                self.hand_over_all()

    def _next_group(self) -> list[Waiting]:
        """A group settles before it begins, so the operations of one hold go one by one."""
        some: list[Waiting] = []
        ids = set()
        while self._gathered and len(some) < _MOST_AT_ONCE:
            hold_id = self._gathered[0][0].hold_id
            if hold_id in ids:
                break
            ids.add(hold_id)
            some.append(self._gathered.popleft())
        return some

    def _write(self, some: list[Waiting]) -> bool:
        """Whether they are committed; else nothing of them happened."""
        began = time.monotonic()
        if began < self._not_before or not self.lock.acquire(blocking=False):
            return False
        try:
            if self.lent is None or not self._thread.is_idle:
                return False
            self._group.write(self.lent, [operation for operation, _ in some])
        except Exception:  # noqa: BLE001  (whatever it is: the thread meets it again, and tells)
            return False
        finally:
            self.lock.release()
        ended = time.monotonic()
        if ended - began > _SLOW_SECONDS:
            self._not_before = ended + _REST_SECONDS
        resolve([future for _, future in some if future is not None])
        return True


def resolve(futures: list[asyncio.Future[None]]) -> None:
    for future in futures:
        if not future.done():
            future.set_result(None)
