"""A change and its revision show together, and none is lost."""

from __future__ import annotations

import contextlib
import threading

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from tenants.revisions.models import Revision
from tenants.revisions.services import TOPICS, bump, current
from tests.patience import LONG_SECONDS

pytestmark = [pytest.mark.storage, pytest.mark.django_db]


def test_every_topic_starts_at_zero_and_moves_alone() -> None:
    assert current() == dict.fromkeys(TOPICS, 0)
    bump("keys")
    bump("keys")
    bump("routes")
    assert current() == dict.fromkeys(TOPICS, 0) | {"keys": 2, "routes": 1}
    with CaptureQueriesContext(connection) as queries:
        current()
    assert len([q for q in queries if "set_config" not in q["sql"]]) == 1


def test_an_unknown_topic_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="keys, limits"):
        bump("kyes")


@pytest.mark.django_db(transaction=True)
def test_a_bump_belongs_to_a_transaction_and_goes_with_it() -> None:
    with pytest.raises(transaction.TransactionManagementError):
        bump("keys")
    with contextlib.suppress(ZeroDivisionError), transaction.atomic():
        bump("keys")
        assert current()["keys"] == 1
        _ = 1 / 0
    assert current()["keys"] == 0


@pytest.mark.django_db(transaction=True)
def test_simultaneous_first_bumps_all_count() -> None:
    start = threading.Barrier(6, timeout=20)

    def work() -> None:
        try:
            start.wait()
            for _ in range(5):
                with transaction.atomic():
                    bump("limits")
        finally:
            connection.close()

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LONG_SECONDS)
    assert current()["limits"] == 30
    assert Revision.objects.count() == 1
