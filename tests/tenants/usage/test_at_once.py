"""On SQLite the event loop commits what its turns bring, and never waits for anybody."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db import connection

from tenants.direct_sql import DirectSQL
from tenants.usage.at_once import AtOnce, Waiting
from tenants.usage.group import Begin, Group, Operation, Settle
from tenants.usage.metering import Metering
from tenants.usage.outcome import Facts, Held, Outcome
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
def patience(monkeypatch: pytest.MonkeyPatch) -> set[int]:
    """For how many milliseconds the thread's groups wait for a lock."""
    found: set[int] = set()
    really = Group._write

    def noted(group: Group, sql: DirectSQL, operations: Any) -> None:
        if threading.current_thread().name == "metering":
            found.update(row[0] for row in sql.rows("PRAGMA busy_timeout"))
        really(group, sql, operations)

    monkeypatch.setattr(Group, "_write", noted)
    return found


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
    patience: set[int],
    somebody_else: sqlite3.Connection,
) -> None:
    requests = await limit("requests", 9, "day")
    metering = await awake(start)
    lent = at_once(metering).lent
    assert lent is not None
    # Not a millisecond, where the thread waits as long as the settings say.
    assert lent.rows("PRAGMA busy_timeout") == [(0,)]
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
    assert patience == {connection.settings_dict["OPTIONS"]["timeout"] * 1000}
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


class Noted:
    """A group and a thread that only note what they are given."""

    def __init__(self) -> None:
        self.is_idle = True
        self.written: list[list[Operation]] = []
        self.put_to_thread: list[Operation] = []

    def write(self, _: Any, operations: list[Operation]) -> None:
        self.written.append(list(operations))

    def put(self, waiting: Waiting) -> None:
        self.is_idle = False
        self.put_to_thread.append(waiting[0])

    def lending(self) -> AtOnce:
        made = AtOnce(self, asyncio.get_running_loop(), self)  # type: ignore[arg-type]  # notes only
        made.lent = object()  # type: ignore[assignment]  # nothing looks into it
        return made


def a_hold() -> tuple[Begin, Settle]:
    hold_id = uuid.uuid4()
    held = Held(request_id=hold_id.hex, tenant_id=hold_id, taken_at=0.0, model="m")
    return Begin(hold_id, held, ()), Settle(hold_id, held)


async def turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_beginning_and_end_of_one_hold_never_share_a_group() -> None:
    noted = Noted()
    at_once = noted.lending()
    (begin, settle), (other, _) = a_hold(), a_hold()
    for operation in (begin, settle, other):
        at_once.add(operation, None)
    await turns()
    assert noted.written == [[begin], [settle, other]]


async def test_nothing_overtakes_what_the_thread_was_given() -> None:
    noted = Noted()
    at_once = noted.lending()
    (begin, settle), (other, _) = a_hold(), a_hold()
    at_once.add(begin, None)
    # Before the turn somebody puts something, and the thread has not woken up yet.
    noted.put((other, None))
    assert at_once.takes(), "what comes now must follow what is gathered"
    at_once.add(settle, None)
    await turns()
    assert noted.put_to_thread == [other, begin, settle]
    assert noted.written == []
    assert not at_once.takes()
    noted.is_idle = True
    assert at_once.takes()


async def test_other_threads_do_not_gather() -> None:
    """Collecting garbage, one may drop a stream that was not settled."""
    at_once = Noted().lending()
    assert at_once.takes()
    assert not await asyncio.to_thread(at_once.takes)
