"""The thread between the event loop and the database: whoever waits at a moment shares a commit.

The event loop hands over operations and waits for futures. The thread takes all that have come
while the last commit ran, and writes them together (tenants/usage/group.py). On SQLite the loop
does so itself while the thread has nothing to do (tenants/usage/at_once.py).
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, Final

from django.conf import settings
from django.db import DatabaseError, close_old_connections, connection, connections

from controlplane.kit.jobs.services import process_name
from tenants import scope
from tenants.direct_sql import DirectSQL
from tenants.usage.at_once import AtOnce, Waiting, resolve
from tenants.usage.group import DatabaseAway, Group, Operation, Settle
from tenants.usage.journal.journal import Journal
from tenants.usage.leases import LEASE_SECONDS, RENEW_SECONDS, farewell, renew

log = logging.getLogger(__name__)

MOST_IN_GROUP: Final = 256
# While neither the database nor the journal takes them, settlements wait here.
MOST_WAITING: Final = 50_000
_RETRY_SECONDS: Final = 1.0
_IDLE_SECONDS: Final = 2.0
# While it stops and the event loop still has some.
_LAST_SECONDS: Final = 0.02
# SQLite copies its log into the database at the commit that finds it this long, and waits for the
# disk. Here it is long, 32 MB, so that others do it, who commit now and then (they have SQLite's
# default, 1,000) and whom no request waits for.
_PAGES_BEFORE_CHECKPOINT: Final = 8_000


class Writer:
    """Bound to one event loop. `start` before, `stop` after; `stop` writes what is left."""

    def __init__(self, redis_url: str = "") -> None:
        self.group = Group(redis_url)
        # None wakes the thread and says nothing.
        self._queue: SimpleQueue[Waiting | None] = SimpleQueue()
        # Of the queue, and those of it that the thread is at.
        self._unwritten = 0
        self._counting = threading.Lock()
        # Taken from the queue, and to come in a later group.
        self._postponed: Waiting | None = None
        self._stopping = False
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._renewed_at = float("-inf")
        self._backlog: deque[Settle] = deque()
        self.journal = Journal(
            Path(settings.USAGE_JOURNAL_FOLDER),
            settings.USAGE_JOURNAL_LIMIT_BYTES,
            self.group.process_id,
            wake=lambda: self._queue.put(None),
        )
        self._tuned: Any = None
        self._at_once: AtOnce | None = None

    def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stopping = False
        self.journal.start()
        self._at_once = AtOnce(self.group, self._loop, self)
        self._thread = threading.Thread(target=self._run, name="metering", daemon=True)
        self._thread.start()

    def stop(self, timeout_seconds: float = 10.0) -> None:
        """Blocks: call it off the event loop."""
        self._stopping = True
        if self._at_once is not None and self._loop is not None and not self._loop.is_running():
            self._at_once.hand_over_all()
        self._queue.put(None)
        if self._thread is not None:
            self._thread.join(timeout_seconds)
            self._thread = None

    def post(self, operation: Operation) -> None:
        """Nobody waits for it."""
        self._hand_in(operation, None)

    async def run(self, operation: Operation) -> None:
        """Returns when it is committed; its result is in it. A caller that is cancelled while
        waiting leaves an operation that happens all the same."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._hand_in(operation, future)
        await future

    def _hand_in(self, operation: Operation, future: asyncio.Future[None] | None) -> None:
        if self._at_once is not None and self._at_once.takes():
            self._at_once.add(operation, future)
        else:
            self.put((operation, future))

    def put(self, waiting: Waiting) -> None:
        """From any thread."""
        with self._counting:
            self._unwritten += 1
        self._queue.put(waiting)

    @property
    def is_idle(self) -> bool:
        return not self._unwritten

    @property
    def waiting(self) -> int:
        return self._gathered + self._unwritten + len(self._backlog)

    @property
    def _gathered(self) -> int:
        return self._at_once.waiting if self._at_once is not None else 0

    def _run(self) -> None:
        try:
            at_once = self._at_once
            assert at_once is not None, "start() makes it"
            while not self._stopping or self._unwritten or self._gathered:
                first = self._next()
                with at_once.lock:
                    self._take_back(at_once)
                    self._look_after()
                    if first is not None:
                        self._execute(self._with_others(first))
                    self._lend(at_once)
            with at_once.lock:
                self._take_back(at_once)
                self._last_turn()
        finally:
            self.journal.stop()
            self.group.counting.close()
            connections.close_all()

    def _next(self) -> Waiting | None:
        """Whoever waits the longest; None when it is time to look after things."""
        first, self._postponed = self._postponed, None
        if first is not None:
            return first
        seconds = _RETRY_SECONDS if self._backlog else _IDLE_SECONDS
        try:
            return self._queue.get(timeout=_LAST_SECONDS if self._stopping else seconds)
        except Empty:
            return None

    def _with_others(self, first: Waiting) -> list[Waiting]:
        """All that wait at this moment. A group settles before it begins, so the operations of
        one hold go one by one."""
        some, ids = [first], {first[0].hold_id}
        for _ in range(min(self._queue.qsize(), MOST_IN_GROUP - 1)):
            one = self._queue.get_nowait()
            if one is None:
                continue
            if one[0].hold_id in ids:
                self._postponed = one
                break
            some.append(one)
            ids.add(one[0].hold_id)
        return some

    def _execute(self, some: list[Waiting]) -> None:
        try:
            if self.journal.is_away:
                self._without_database(some, was_tried=False)
            else:
                self.group.execute([operation for operation, _ in some])
        except DatabaseAway as error:
            self.journal.leave(error)
            self._without_database(some, was_tried=True)
        except Exception as error:  # the thread must live on, and nobody may wait for ever
            log.exception("A group of requests could not be metered.")
            for operation, _ in some:
                operation.error = operation.error or error
        with self._counting:
            self._unwritten -= len(some)
        futures = [future for _, future in some if future is not None]
        if futures and self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(resolve, futures)

    def _without_database(self, some: list[Waiting], *, was_tried: bool) -> None:
        """The journal takes what it may. Settlements that find no room there are remembered, so
        that no stream is cut and no usage is lost while this process lives."""
        for settle in self.journal.keep([one for one, _ in some], was_tried=was_tried):
            if len(self._backlog) < MOST_WAITING:
                self._backlog.append(settle)
            else:
                log.error("A settlement was lost: %s", settle.held.request_id)

    def _look_after(self) -> None:
        """What has to be done now and then: say that we live, catch up, go back to Redis."""
        now = time.monotonic()
        if self.journal.is_away and not self.journal.is_back:
            return
        try:
            if self.journal.is_away or now - self._renewed_at >= RENEW_SECONDS:
                with scope.platform("metering"):
                    self._renew(now)
            self._catch_up()
        except (DatabaseAway, DatabaseError) as error:
            self.journal.leave(error)
            connections.close_all()
        except Exception:  # the thread must live on: without it every request would wait for ever
            log.exception("The metering thread could not look after itself.")

    def _renew(self, now: float) -> None:
        counting = self.group.counting
        close_old_connections()
        self._tune()
        renew(self.group.process_id, process_name(), lease_seconds=LEASE_SECONDS)
        self._renewed_at = now
        if counting.cache is not None and not counting.current().is_cache:
            counting.move_to_cache()

    def _tune(self) -> None:
        connection.ensure_connection()
        if connection.vendor == "sqlite" and connection.connection is not self._tuned:
            connection.connection.execute(f"PRAGMA wal_autocheckpoint={_PAGES_BEFORE_CHECKPOINT}")
            self._tuned = connection.connection

    def _lend(self, at_once: AtOnce) -> None:
        """To the event loop, which must not wait for a lock."""
        counting = self.group.counting
        is_well = not self._backlog and not self.journal.is_away
        if connection.vendor != "sqlite" or counting.cache is not None or not is_well:
            return
        if connection.connection is None:
            return
        try:
            with scope.platform("metering"):
                sql = DirectSQL()
            sql.wait_at_most(0)
        except DatabaseError:
            log.exception("The metering thread keeps its connection to itself.")
        else:
            at_once.lent = sql

    def _take_back(self, at_once: AtOnce) -> None:
        sql, at_once.lent = at_once.lent, None
        if sql is None:
            return
        try:
            sql.wait_at_most(connection.settings_dict["OPTIONS"].get("timeout", 5.0))
        except DatabaseError:
            # The next one waits as the settings say.
            log.exception("The metering thread needs another connection.")
            connections.close_all()

    def _catch_up(self) -> None:
        if self.journal.is_away:
            self.journal.come_back(self.group)
        while self._backlog:
            some = [self._backlog[index] for index in range(min(64, len(self._backlog)))]
            self.group.execute(list[Operation](some))
            for _ in some:
                self._backlog.popleft()

    def _last_turn(self) -> None:
        try:
            self._catch_up()
            farewell(self.group.process_id)
        except (DatabaseAway, DatabaseError):
            if self._backlog:
                log.exception("%d settlements could not be written.", len(self._backlog))
