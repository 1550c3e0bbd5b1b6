"""Where counters live, behind one interface: the database, or Redis/Valkey in front of it.

`take` is atomic for each request over all its takes: all are checked, then all are taken. What is
granted to one request of a batch is seen by the next.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import msgspec

from tenants.quotas.policy import Decision, Take


class Change(msgspec.Struct, frozen=True, gc=False):
    """What became of an earlier take: the reservation goes, the real amount stays."""

    key: str
    reserved: int
    settled: int
    ends_at: int


class StoreAway(Exception):
    """The store cannot say; nothing was taken."""


class StaleEpoch(StoreAway):
    """The counters were moved or lost since this epoch began; nothing was taken."""


class CounterStore(Protocol):
    def take(self, requests: Sequence[Sequence[Take]]) -> list[Decision]:
        """Decides the requests in order."""

    def settle(self, changes: Sequence[Change]) -> None:
        """Adds unconditionally: what was used was used."""

    def used(self, keys: Sequence[str]) -> Mapping[str, int]:
        """What the counters hold, reservations included. Those that are missing hold 0."""
