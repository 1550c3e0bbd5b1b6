"""The same answers from every store: all or nothing, over by nothing (bar R3)."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable

import pytest
from django.db import connection

from tenants.quotas.policy import (
    Amounts,
    Decision,
    Kind,
    Period,
    Rule,
    Scope,
    Take,
    Window,
    decide,
)
from tenants.quotas.store import Change, CounterStore
from tests.tenants.quotas.conftest import STORES

pytestmark = [pytest.mark.storage, pytest.mark.django_db(transaction=True)]

Make = Callable[[], CounterStore]
LATER = int(time.time()) + 3_600


def take(key: str, amount: int, cap: int, *, enforced: bool = True, reads: tuple[str, ...] = ()):  # type: ignore[no-untyped-def]  # a shorthand
    return Take(key, (*reads, key), amount, cap, enforced, LATER)


def test_all_are_checked_before_any_is_taken(store: CounterStore) -> None:
    assert store.take([[take("a", 3, 10), take("b", 1, 0)]]) == [Decision((0, 0), refused=1)]
    assert store.used(["a", "b"]).get("a", 0) == 0
    assert store.take([[take("a", 3, 10), take("b", 1, 1)]]) == [Decision((0, 0))]
    assert dict(store.used(["a", "b"])) == {"a": 3, "b": 1}


def test_a_batch_is_decided_in_order(store: CounterStore) -> None:
    answers = store.take([[take("a", 4, 10)], [take("a", 7, 10)], [take("a", 6, 10)]])
    assert [answer.refused for answer in answers] == [None, 0, None]
    assert [answer.used for answer in answers] == [(0,), (4,), (4,)]


def test_who_reserves_nothing_needs_something_left(store: CounterStore) -> None:
    assert store.take([[take("a", 0, 1)], [take("a", 1, 1)], [take("a", 0, 1)]]) == [
        Decision((0,)),
        Decision((0,)),
        Decision((1,), refused=0),
    ]


def test_what_is_only_watched_never_refuses(store: CounterStore) -> None:
    for expected in (0, 5, 10):
        (answer,) = store.take([[take("a", 5, 1, enforced=False)]])
        assert answer == Decision((expected,))


def test_a_rolling_window_is_the_sum_of_its_buckets(store: CounterStore) -> None:
    store.take([[take("r1", 4, 10)], [take("r2", 3, 10)]])
    assert store.take([[take("r3", 4, 10, reads=("r1", "r2"))]]) == [Decision((7,), refused=0)]
    assert store.take([[take("r3", 3, 10, reads=("r1", "r2"))]]) == [Decision((7,))]


def test_a_settlement_replaces_the_reservation_and_may_exceed_the_limit(
    store: CounterStore,
) -> None:
    store.take([[take("a", 10, 10), take("b", 1, 5)]])
    store.settle([Change("a", 10, 14, LATER), Change("b", 1, 0, LATER)])
    assert dict(store.used(["a", "b"])) == {"a": 14, "b": 0}
    (answer,) = store.take([[take("a", 1, 10)]])
    assert answer.refused == 0


def test_money_keeps_every_nano_dollar(store: CounterStore) -> None:
    cap = 9_000_000_000_000_001
    store.take([[take("m", cap - 1, cap)]])
    assert store.take([[take("m", 2, cap)]])[0].refused == 0
    assert store.take([[take("m", 1, cap)]])[0].refused is None
    assert store.used(["m"])["m"] == cap


def test_the_stores_and_the_rule_agree_on_anything(store: CounterStore) -> None:
    """Against the pure rule, over a random history."""
    rng = random.Random(7)
    used: dict[str, int] = {}
    for _ in range(60):
        batch = []
        for _ in range(rng.randint(1, 4)):
            keys = rng.sample("abcde", rng.randint(1, 4))
            batch.append(
                [
                    take(
                        key,
                        rng.randint(0, 4),
                        rng.randint(0, 30),
                        enforced=rng.random() < 0.8,
                        reads=tuple(rng.sample("fgh", rng.randint(0, 2))),
                    )
                    for key in keys
                ]
            )
        expected = []
        for takes in batch:
            decision = decide(used, takes)
            expected.append(decision)
            if decision.refused is None:
                for one in takes:
                    used[one.key] = used.get(one.key, 0) + one.amount
        assert store.take(batch) == expected
    assert {key: count for key, count in store.used("abcde").items() if count} == {
        key: count for key, count in used.items() if count
    }


@pytest.mark.parametrize("callers", [64])
def test_many_at_once_are_granted_the_limit_and_not_one_more(
    make_store: Make, callers: int
) -> None:
    """Each call takes from three limits; the narrow one decides, the others take no more."""
    limit, each = 100, 3
    granted: list[bool] = []
    failed: list[BaseException] = []
    stores = [make_store() for _ in range(8)]
    locks = [threading.Lock() for _ in stores]
    start = threading.Barrier(callers, timeout=30)

    def call(number: int) -> None:
        try:
            start.wait()
            for _ in range(each):
                # As in a process: its requests go through one store, one after the other.
                with locks[number % len(stores)]:
                    (answer,) = stores[number % len(stores)].take(
                        [[take("wide", 1, 10**6), take("narrow", 1, limit), take("w2", 5, 10**6)]]
                    )
                granted.append(answer.refused is None)
        except BaseException as error:
            failed.append(error)
            raise
        finally:
            connection.close()

    threads = [threading.Thread(target=call, args=(number,)) for number in range(callers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not failed
    assert len(granted) == callers * each
    assert sum(granted) == limit
    assert dict(make_store().used(["wide", "narrow", "w2"])) == {
        "wide": limit,
        "narrow": limit,
        "w2": 5 * limit,
    }


def test_both_stores_are_tested() -> None:
    assert STORES == ["database", "redis"]


def test_a_real_rule_counts_in_a_store(store: CounterStore) -> None:
    rule = Rule(
        rule_id="limit",
        scope=Scope.KEY,
        scope_value="*",
        kind=Kind.TOKENS,
        period=Period.MINUTE,
        window=Window.ROLLING,
        amount=100,
        is_enforced=True,
    )
    now = time.time()
    amounts = Amounts(requests=1, input_tokens=40, output_tokens=20)
    assert store.take([[rule.take("key-1", amounts, now)]])[0].refused is None
    assert store.take([[rule.take("key-1", amounts, now)]])[0].refused == 0
    assert store.take([[rule.take("key-2", amounts, now)]])[0].refused is None
    # Half a window on, it still counts; a whole one and a bucket on, it is gone.
    assert store.take([[rule.take("key-1", amounts, now + 30)]])[0].refused == 0
    assert store.take([[rule.take("key-1", amounts, now + 66)]])[0].refused is None
