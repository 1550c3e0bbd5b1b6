"""SQL past Django's cursors: in few sizes, all rows once, and never outside a scope."""

from __future__ import annotations

import pytest
from django.db import IntegrityError, OperationalError, ProgrammingError, transaction

from tenants import scope
from tenants.direct_sql import _SIZES, DirectSQL, _padded
from tenants.errors import NoScope
from tenants.quotas.models import Counter

pytestmark = [pytest.mark.storage, pytest.mark.django_db]

INSERT = "INSERT INTO tenants_counter (key, settled, reserved, opening, ends_at) VALUES {rows}"
FIND = "SELECT key, settled FROM tenants_counter WHERE key {names} ORDER BY key"


def rows(count: int) -> list[tuple[str, int, int, int, int]]:
    return [(f"key-{number:04}", number, 0, 0, 1) for number in range(count)]


@pytest.mark.parametrize("count", [0, 1, 9, 15, 31, 33, 300])
def test_every_row_is_written_found_and_changed_once(count: int) -> None:
    with scope.platform("tests"):
        sql = DirectSQL()
        assert sql.change_many(INSERT, rows(count)) == count
        names = [row[0] for row in rows(count)]
        assert sql.rows_of(FIND, names) == [(row[0], row[1]) for row in rows(count)]
        assert sql.rows_of(FIND, names, is_locked=True) == sql.rows_of(FIND, names)
        raised = sql.change_of("UPDATE tenants_counter SET opening = 1 WHERE key {names}", names)
        assert raised == count
    assert Counter.objects.filter(opening=1).count() == count


def test_no_statement_without_a_scope() -> None:
    with pytest.raises(NoScope):
        DirectSQL()


def test_errors_are_django_s_and_the_transaction_rolls_back() -> None:
    with scope.platform("tests"):
        with pytest.raises(IntegrityError), transaction.atomic():
            DirectSQL().change_many(INSERT, [*rows(2), *rows(1)])
        with pytest.raises((OperationalError, ProgrammingError)), transaction.atomic():
            DirectSQL().rows("SELECT nothing FROM nowhere")
    assert not Counter.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_a_transaction_is_whole_or_nothing_and_leaves_none_open() -> None:
    with scope.platform("tests"):
        sql = DirectSQL()
        with sql.transaction():
            sql.change_many(INSERT, rows(2))

        def change_and_fail() -> None:
            with sql.transaction():
                sql.change("UPDATE tenants_counter SET settled = 7 WHERE key = %s", ["key-0000"])
                sql.change_many(INSERT, rows(1))

        with pytest.raises(IntegrityError):
            change_and_fail()
        # Within one of Django's it is a part of that.
        with transaction.atomic():
            with sql.transaction():
                sql.change("DELETE FROM tenants_counter WHERE key = %s", ["key-0000"])
            transaction.set_rollback(True)
        assert sql.rows_of(FIND, ["key-0000", "key-0001"]) == [("key-0000", 0), ("key-0001", 1)]
    with transaction.atomic():
        assert Counter.objects.count() == 2


def test_sqlite_meets_few_texts() -> None:
    """It keeps 128 prepared statements: more texts than that would be prepared again and again."""
    assert {len(some) for count in range(1, 257) for some in _padded(range(count))} == {
        1 << power for power in range(9)
    }
    for count in range(1, 33):
        first = next(size for size in _SIZES if size <= count)
        assert count == first or count - first in _SIZES
