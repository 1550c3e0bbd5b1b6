"""Counters in the database: one transaction of the caller's decides a batch of requests.

The counters of the batch are locked in the order of their keys (SQLite's IMMEDIATE transactions
lock the database), read, decided in memory, and moved by conditional UPDATEs whose row count has
the last word.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from tenants import scope
from tenants.direct_sql import DirectSQL
from tenants.quotas.policy import MOST, Decision, Take, decide
from tenants.quotas.store import Change

_MAKE: Final = (
    "INSERT INTO tenants_counter (key, settled, reserved, opening, ends_at)"
    " VALUES (%s, 0, 0, 0, %s) ON CONFLICT (key) DO NOTHING"
)
# One row: the key, what is settled more, what is reserved more, whether it must fit, the cap.
_MOVE: Final = (
    "UPDATE tenants_counter SET settled = settled + column2, reserved = reserved + column3"
    " FROM (VALUES {rows}) AS moves WHERE key = column1 AND"
    " (column4 = 0 OR settled + reserved + opening + column2 + column3 <= column5)"
)
_READ: Final = (
    "SELECT key, settled + reserved + opening FROM tenants_counter WHERE key {names} ORDER BY key"
)


class LostRace(AssertionError):
    """A counter moved under our lock: our bug. The transaction must not be committed."""


class DatabaseStore:
    """Must be called inside a transaction; remembers which counters exist."""

    def __init__(self) -> None:
        self._made: set[str] = set()

    def prepare(self, sql: DirectSQL, requests: Iterable[Sequence[Take]]) -> None:
        """Before the transaction: makes missing counters, so that each can be locked. In one
        statement per counter, in order, so that no two processes wait for each other."""
        self._make(
            sql,
            {
                take.key: take.ends_at
                for takes in requests
                for take in takes
                if take.key not in self._made
            },
        )

    def forget(self) -> None:
        """Counters may have been deleted, or never committed: make them anew where they are
        missing."""
        self._made.clear()

    def settle(self, sql: DirectSQL, changes: Sequence[Change]) -> None:
        self.move(sql, changes, ())

    def move(
        self, sql: DirectSQL, changes: Sequence[Change], requests: Sequence[Sequence[Take]]
    ) -> list[Decision]:
        """Settles, then decides: one statement reads and locks, one writes. Raises LostRace."""
        settled: dict[str, int] = {}
        reserved: dict[str, int] = {}
        for change in changes:
            key = change.key
            settled[key] = settled.get(key, 0) + change.settled
            reserved[key] = reserved.get(key, 0) - change.reserved
        self._make(sql, {one.key: one.ends_at for one in changes if one.key not in self._made})
        decisions: list[Decision] = []
        # The cap each counter must stay within. A rolling window's cap is shared by several
        # counters, whose locks are ours.
        caps: dict[str, int] = {}
        gains: set[str] = set()
        used: dict[str, int] = {}
        wanted = {key for takes in requests for take in takes for key in take.reads}
        if wanted or (sql.is_postgresql and settled):
            used.update(sql.rows_of(_READ, sorted(wanted | settled.keys()), is_locked=True))
            for key, amount in settled.items():
                used[key] = used.get(key, 0) + amount + reserved[key]
        for takes in requests:
            decision = decide(used, takes)
            decisions.append(decision)
            if decision.refused is not None:
                continue
            for take in takes:
                key, amount = take.key, take.amount
                if not amount:
                    continue
                used[key] = used.get(key, 0) + amount
                reserved[key] = reserved.get(key, 0) + amount
                gains.add(key)
                if take.is_enforced and len(take.reads) == 1:
                    caps[key] = take.cap
        rows = [
            (key, more, delta, int(key in gains), caps.get(key, 4 * MOST))
            for key, delta in sorted(reserved.items())
            if (more := settled.get(key, 0)) or delta
        ]
        if rows:
            self._write(sql, rows)
        return decisions

    def _write(self, sql: DirectSQL, rows: list[tuple[str, int, int, int, int]]) -> None:
        moved = sql.change_many(_MOVE, rows)
        if moved != len(rows):
            # Pruned since it was made, or moved past our lock: nothing is granted.
            self.forget()
            raise LostRace(f"{len(rows) - moved} counters did not move.")

    def used(self, sql: DirectSQL, keys: Sequence[str]) -> Mapping[str, int]:
        return dict(sql.rows_of(_READ, sorted(set(keys)))) if keys else {}

    def _make(self, sql: DirectSQL, missing: Mapping[str, int]) -> None:
        if not missing:
            return
        for counter in sorted(missing.items()):
            sql.change(_MAKE, counter)
        if len(self._made) > 100_000:
            self._made.clear()
        self._made.update(missing)


class TransactionalDatabaseStore:
    """The database store with a transaction of its own around each call, for those who do
    nothing else in it."""

    def __init__(self) -> None:
        self._store = DatabaseStore()

    def take(self, requests: Sequence[Sequence[Take]]) -> list[Decision]:
        with scope.platform("counters"):
            sql = DirectSQL()
            self._store.prepare(sql, requests)
            with sql.transaction():
                return self._store.move(sql, (), requests)

    def settle(self, changes: Sequence[Change]) -> None:
        with scope.platform("counters"):
            sql = DirectSQL()
            with sql.transaction():
                self._store.settle(sql, changes)

    def used(self, keys: Sequence[str]) -> Mapping[str, int]:
        with scope.platform("counters"):
            return self._store.used(DirectSQL(), keys)
