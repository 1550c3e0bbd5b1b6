"""Keeps in-process snapshots young: asks for the revisions and reloads what has moved.

One thread per process, with a database connection of its own:

    watcher = Watcher()
    watcher.add({"keys", "tenants"}, snapshot)
    watcher.start()
    ...
    watcher.stop()

A change is seen within `interval_seconds` and one reload. While the database is away the
snapshots stay as they are and learn that nobody confirmed them; each decides for how long
that is good enough.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass
from typing import Final, Protocol

from django.conf import settings
from django.db import close_old_connections, connections

from tenants.revisions import wake
from tenants.revisions.services import TOPICS, current

log = logging.getLogger(__name__)

# With the reload still below the second in which a revocation must be seen.
INTERVAL_SECONDS: Final = 0.4


class Watched(Protocol):
    def reload(self) -> None:
        """Read everything anew. May raise: the next poll tries again."""

    def confirm(self, as_of: float) -> None:
        """What is held was still right at `as_of` (time.monotonic)."""


@dataclass(slots=True)
class _Entry:
    topics: frozenset[str]
    watched: Watched
    seen: dict[str, int] | None = None


class Watcher:
    def __init__(
        self,
        *,
        interval_seconds: float = INTERVAL_SECONDS,
        read: Callable[[], Mapping[str, int]] = current,
        redis_url: str | None = None,
    ) -> None:
        self._interval_seconds = interval_seconds
        self._read = read
        self._redis_url = settings.REDIS_URL if redis_url is None else redis_url
        self._entries: list[_Entry] = []
        self._stopped = threading.Event()
        self._woken = threading.Event()
        self._threads: list[threading.Thread] = []
        self._is_failing = False

    def add(self, topics: Set[str], watched: Watched) -> None:
        unknown = topics - TOPICS
        if unknown:
            raise ValueError(f"There is no topic {', '.join(sorted(unknown))}.")
        # A new list: the thread may be walking the old one.
        self._entries = [*self._entries, _Entry(frozenset(topics), watched)]
        self._woken.set()

    def poll(self) -> bool:
        """Ask once, in this thread. True when everything is loaded and confirmed."""
        # Taken before the question: what is committed after it is in the next answer.
        as_of = time.monotonic()
        revisions = self._read()
        is_current = True
        for entry in self._entries:
            moved = {topic: revisions[topic] for topic in entry.topics}
            try:
                if moved != entry.seen:
                    entry.watched.reload()
                    entry.seen = moved
                entry.watched.confirm(as_of)
            except Exception:  # one broken snapshot must not stop the others
                is_current = False
                log.exception("A snapshot of %s was not kept current.", ", ".join(sorted(moved)))
        return is_current

    def start(self) -> None:
        if self._threads:
            raise RuntimeError("This watcher is already running.")
        self._stopped.clear()
        jobs: list[Callable[[], None]] = [self._run]
        if self._redis_url:
            jobs.append(self._listen)
        for job in jobs:
            thread = threading.Thread(target=job, name=f"revisions{job.__name__}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def stop(self, timeout_seconds: float = 5.0) -> None:
        self._stopped.set()
        self._woken.set()
        deadline = time.monotonic() + timeout_seconds
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        self._threads = []

    def wake(self) -> None:
        """Poll now instead of at the next turn."""
        self._woken.set()

    def _run(self) -> None:
        try:
            while not self._stopped.is_set():
                self._woken.clear()
                self._poll_or_log()
                self._woken.wait(self._interval_seconds)
        finally:
            connections.close_all()

    def _poll_or_log(self) -> None:
        try:
            close_old_connections()
            self.poll()
        except Exception as error:  # noqa: BLE001  (whatever it is, the thread must live on)
            if not self._is_failing:
                log.warning("The database does not answer for revisions: %s", error)
            self._is_failing = True
            connections.close_all()
        else:
            if self._is_failing:
                log.info("The database answers again.")
            self._is_failing = False

    def _listen(self) -> None:
        wake.listen(self._redis_url, self.wake, self._stopped)
