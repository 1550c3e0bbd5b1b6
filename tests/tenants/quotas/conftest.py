"""Counters in the database and in Redis, behind one interface."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tenants.quotas.database_store import TransactionalDatabaseStore
from tenants.quotas.redis_store import RedisStore
from tenants.quotas.store import CounterStore

STORES = ["database", "redis"]


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """The Valkey of the suite where there is one, else one of our own."""
    if url := os.environ.get("REDIS_URL"):
        yield url
        return
    from tests.services import valkey

    with valkey() as url:
        yield url


@pytest.fixture(params=STORES)
def make_store(
    request: pytest.FixtureRequest, transactional_db: None
) -> Iterator[Callable[[], Any]]:
    """Each call gives another process's view of the same counters."""
    if request.param == "database":
        yield TransactionalDatabaseStore
        return
    url = request.getfixturevalue("redis_url")
    epoch = secrets.token_hex(8)
    stores = [RedisStore(url)]
    stores[0].seed(epoch, [])

    def make() -> RedisStore:
        stores.append(RedisStore(url, epoch))
        return stores[-1]

    yield make
    for store in stores:
        store.close()


@pytest.fixture
def store(make_store: Callable[[], CounterStore]) -> CounterStore:
    return make_store()
