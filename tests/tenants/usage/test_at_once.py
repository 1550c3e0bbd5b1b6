"""On SQLite the event loop commits what its turns bring, and never waits for anybody."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db import connection

from tenants.usage.at_once import AtOnce
from tenants.usage.group import Group
from tenants.usage.metering import Metering
from tenants.usage.outcome import Facts, Outcome
from tests.tenants.usage.conftest import events, holds, off_loop, until, used

MakeFacts = Callable[..., Facts]
pytestmark = pytest.mark.skipif(
    connection.vendor != "sqlite", reason="elsewhere a commit is a round trip: the thread's"
)


@pytest.fixture
def by_thread(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of the groups that the thread writes."""
    sizes: list[int] = []
    execute = Group.execute

    def noted(group: Group, operations: Any) -> None:
        sizes.append(len(operations))
        execute(group, operations)

    monkeypatch.setattr(Group, "execute", noted)
    return sizes


@pytest.fixture
def somebody_else(transactional_db: None) -> Iterator[sqlite3.Connection]:
    other = sqlite3.connect(connection.settings_dict["NAME"], isolation_level=None)
    yield other
    other.close()


async def awake(start: Any) -> Metering:
    """A meter whose thread has looked after itself and sleeps."""
    metering: Metering = await start()
    # Anything wakes it for the first time.
    metering.writer._queue.put(None)
    await until(lambda: at_once(metering).lent is not None)
    return metering


def at_once(metering: Metering) -> AtOnce:
    found = metering.writer._at_once
    assert found is not None
    return found


async def test_what_comes_together_is_committed_together_without_the_thread(
    limit: Callable[..., Any],
    facts: MakeFacts,
    start: Any,
    by_thread: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    requests = await limit("requests", 5, "day")
    metering = await awake(start)
    sizes: list[int] = []
    write = metering.writer.group.write

    def noted(sql: Any, operations: Any) -> None:
        sizes.append(len(operations))
        write(sql, operations)

    monkeypatch.setattr(metering.writer.group, "write", noted)
    begun = await asyncio.gather(
        *(metering.begin(f"r-{number}", facts()) for number in range(8)), return_exceptions=True
    )
    admitted = [hold for hold in begun if not isinstance(hold, BaseException)]
    assert len(admitted) == 5
    assert await off_loop(holds) == 5
    await asyncio.gather(*(hold.settle(Outcome(input=1, output=1)) for hold in admitted))
    assert (len(await off_loop(events)), await off_loop(used, requests)) == (5, 5)
    assert (sizes, by_thread) == ([8, 5], [])


async def test_while_somebody_else_writes_the_loop_goes_on_and_the_thread_waits(
    limit: Callable[..., Any],
    facts: MakeFacts,
    start: Any,
    by_thread: list[int],
    somebody_else: sqlite3.Connection,
) -> None:
    requests = await limit("requests", 9, "day")
    metering = await awake(start)
    somebody_else.execute("BEGIN IMMEDIATE")
    running = [asyncio.create_task(metering.begin(f"r-{n}", facts())) for n in range(3)]
    await until(lambda: not metering.writer.is_idle)
    # This line was reached: the loop did not wait. What follows may not overtake.
    running.append(asyncio.create_task(metering.begin("r-3", facts())))
    await asyncio.sleep(0)
    assert not any(task.done() for task in running)
    somebody_else.execute("COMMIT")
    begun = await asyncio.gather(*running)
    assert sum(by_thread) == 4
    assert await off_loop(used, requests) == 4
    await until(lambda: metering.writer.is_idle and at_once(metering).lent is not None)
    by_thread.clear()
    await asyncio.gather(*(hold.settle(Outcome(input=1, output=1)) for hold in begun))
    assert by_thread == []


async def test_what_fails_in_the_loop_is_told_by_the_thread_and_takes_nobody_with_it(
    facts: MakeFacts, start: Any, by_thread: list[int]
) -> None:
    metering = await awake(start)
    good, bad = [await metering.begin(f"r-{number}", facts()) for number in range(2)]
    assert by_thread == []
    await asyncio.gather(
        bad.settle(Outcome(status="nonsense")),  # type: ignore[arg-type]  # that is the point
        good.settle(Outcome(input=1, output=1)),
    )
    assert by_thread == [2, 1, 1]
    assert [event.request_id for event in await off_loop(events)] == ["r-0"]


async def test_whoever_leaves_before_the_commit_leaves_nothing(
    limit: Callable[..., Any], facts: MakeFacts, start: Any
) -> None:
    parallel = await limit("parallel", 1)
    metering = await awake(start)
    leaving = asyncio.create_task(metering.begin("r-0", facts()))
    await asyncio.sleep(0)
    assert at_once(metering).waiting == 1
    leaving.cancel()
    await asyncio.gather(leaving, return_exceptions=True)
    await metering.begin("r-1", facts())
    assert await off_loop(used, parallel) == 1
    assert await off_loop(holds) == 1


async def test_a_slow_disk_is_the_thread_s_to_wait_for(
    facts: MakeFacts, start: Any, by_thread: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    metering = await awake(start)
    monkeypatch.setattr("tenants.usage.at_once._SLOW_SECONDS", -1.0)
    await metering.begin("r-0", facts())
    assert by_thread == []
    await metering.begin("r-1", facts())
    assert by_thread == [1]
