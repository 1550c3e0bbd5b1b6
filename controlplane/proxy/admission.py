"""How many requests one process answers at a time. Beyond that it says so at once, before it has
read a body or looked at a key: refusing must stay cheap when nothing else is."""

from __future__ import annotations

import threading
from typing import Final

from controlplane.proxy.errors import Overloaded

RETRY_AFTER_SECONDS: Final = 1.0


class Admission:
    """Counts what is being answered, streams until their end. The lane of Django's views enters
    from many threads."""

    __slots__ = ("_lock", "in_flight", "limit")

    def __init__(self, limit: int) -> None:
        """0 = no limit."""
        self.limit = limit
        self.in_flight = 0
        self._lock = threading.Lock()

    def enter(self) -> None:
        """Raises Overloaded. Whoever entered leaves, once."""
        with self._lock:
            if 0 < self.limit <= self.in_flight:
                raise Overloaded(
                    "Too many requests are being answered right now. Try again in a moment.",
                    retry_after_seconds=RETRY_AFTER_SECONDS,
                )
            self.in_flight += 1

    def leave(self) -> None:
        with self._lock:
            self.in_flight -= 1
