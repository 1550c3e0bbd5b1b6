"""SQL of the hot path, for both databases, past Django's cursors where those cost the most.

A statement of SQLite takes 3 µs; the same through Django's cursor takes 30, and a row of
`executemany` gives the interpreter away and waits to get it back. So many rows go in one
statement, straight to the driver. PostgreSQL keeps Django's cursor: row-level security hears of
the scope there, and the round trip costs more than the cursor.

Statements are written with %s, with {rows} for the rows of their one VALUES, and with {names} for
"is one of these".
"""

from __future__ import annotations

import contextlib
import sqlite3
import uuid
from collections.abc import Iterator, Sequence
from datetime import datetime
from functools import lru_cache
from itertools import chain
from typing import Any, Final

from django.db import connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from tenants import scope

# SQLite prepares each text once and keeps it: so there are few texts, one for each of these, and
# no number of rows below 32 needs more than two.
_SIZES: Final = (32, 28, 24, 20, 16, 14, 12, 10, 8, 7, 6, 5, 4, 3, 2, 1)
# A text for every number of rows costs PostgreSQL nothing, a round trip does.
_MOST_ROWS_OF_POSTGRESQL: Final = 256
_MOST_NAMES: Final = 256


class DirectSQL:
    """The current thread's connection. Made in the scope that it acts for; Raises NoScope."""

    __slots__ = ("_django", "_driver", "_errors", "is_postgresql")

    def __init__(self) -> None:
        # What the guard of Django's cursors asks of every statement (tenants/row_security.py).
        scope.required("The hot path's SQL")
        self._django: BaseDatabaseWrapper = connections["default"]
        self._django.ensure_connection()
        self._driver: sqlite3.Connection = self._django.connection
        self._errors = self._django.wrap_database_errors
        self.is_postgresql = self._django.vendor == "postgresql"

    def wait_at_most(self, seconds: float) -> None:
        """For others who write at the same time. SQLite only."""
        with self._errors:
            self._driver.execute(f"PRAGMA busy_timeout={round(seconds * 1000)}")

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """All of it or nothing. On SQLite without Django's `atomic`, which takes ten times as long:
        nothing within it may use `atomic` either."""
        if self.is_postgresql or self._django.in_atomic_block:
            with transaction.atomic():
                yield
            return
        driver = self._driver
        with self._errors:
            driver.execute("BEGIN IMMEDIATE")
        try:
            yield
            with self._errors:
                driver.execute("COMMIT")
        except BaseException:
            # After some errors SQLite has done so itself.
            if driver.in_transaction:
                driver.execute("ROLLBACK")
            raise

    def rows(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        if self.is_postgresql:
            with self._django.cursor() as cursor:
                cursor.execute(sql, values)
                return list(cursor.fetchall())
        with self._errors:
            return self._driver.execute(_question_marks(sql), values).fetchall()

    def change(self, sql: str, values: Sequence[Any] = ()) -> int:
        """How many rows it changed."""
        if self.is_postgresql:
            with self._django.cursor() as cursor:
                cursor.execute(sql, values)
                return int(cursor.rowcount)
        with self._errors:
            return self._driver.execute(_question_marks(sql), values).rowcount

    def change_many(self, sql: str, rows: Sequence[Sequence[Any]]) -> int:
        """How many rows they changed, in the order given. All rows are of one length."""
        changed, at = 0, 0
        while at < len(rows):
            left = len(rows) - at
            size = (
                min(left, _MOST_ROWS_OF_POSTGRESQL)
                if self.is_postgresql
                else next(size for size in _SIZES if size <= left)
            )
            values = list(chain.from_iterable(rows[at : at + size]))
            changed += self.change(_with_rows(sql, size, len(rows[at])), values)
            at += size
        return changed

    def rows_of(
        self, sql: str, names: Sequence[Any], *, is_locked: bool = False
    ) -> list[tuple[Any, ...]]:
        """The rows that `names` name. `is_locked` holds them until the transaction ends: SQLite's
        transactions hold everything anyhow."""
        if self.is_postgresql:
            sql = f"{sql} FOR UPDATE" if is_locked else sql
            return self.rows(sql.replace("{names}", "= ANY(%s)"), [list(names)])
        found: list[tuple[Any, ...]] = []
        for some in _padded(names):
            found += self.rows(_with_names(sql, len(some)), some)
        return found

    def change_of(self, sql: str, names: Sequence[Any]) -> int:
        """How many of the rows that `names` name it changed."""
        if self.is_postgresql:
            return self.change(sql.replace("{names}", "= ANY(%s)"), [list(names)])
        return sum(self.change(_with_names(sql, len(some)), some) for some in _padded(names))

    def spell_id(self, value: uuid.UUID) -> Any:
        return value if self.is_postgresql else f"{value.int:032x}"

    def spell_number(self, value: int) -> Any:
        """The id with this number."""
        return uuid.UUID(int=value) if self.is_postgresql else f"{value:032x}"

    def spell_moment(self, value: datetime) -> Any:
        """`value` is in UTC."""
        # As Django writes it: SQLite's text has no zone.
        return value if self.is_postgresql else value.isoformat(" ")[:-6]


@lru_cache(maxsize=1024)
def _question_marks(sql: str) -> str:
    return sql.replace("%s", "?")


@lru_cache(maxsize=1024)
def _with_rows(sql: str, rows: int, columns: int) -> str:
    row = f"({', '.join(['%s'] * columns)})"
    return sql.replace("{rows}", ", ".join([row] * rows))


@lru_cache(maxsize=256)
def _with_names(sql: str, count: int) -> str:
    return sql.replace("{names}", f"IN ({', '.join(['%s'] * count)})")


def _padded(names: Sequence[Any]) -> Iterator[list[Any]]:
    """In pieces whose lengths are few: the last name again and again changes nothing."""
    for start in range(0, len(names), _MOST_NAMES):
        some = list(names[start : start + _MOST_NAMES])
        some += [some[-1]] * ((1 << (len(some) - 1).bit_length()) - len(some))
        yield some
