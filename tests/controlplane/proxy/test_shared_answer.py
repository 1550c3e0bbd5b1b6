"""One answer for several readers: from its start, at each one's own pace, in bounded memory."""

from __future__ import annotations

import asyncio
import gc

import pytest

from controlplane.proxy.exchange import Answer
from controlplane.proxy.shared_answer import Reader, SharedAnswer


class Deserted:
    def __init__(self) -> None:
        self.count = 0

    def __call__(self) -> None:
        self.count += 1


def made(limit: int = 1_000) -> tuple[SharedAnswer, Deserted]:
    deserted = Deserted()
    return SharedAnswer(limit, deserted=deserted), deserted


async def rest_of(reader: Reader) -> bytes:
    return b"".join([piece async for piece in reader])


async def turns(count: int = 20) -> None:
    """Lets every task that can go on do so."""
    for _ in range(count):
        await asyncio.sleep(0)


async def test_whoever_comes_when_reads_all_of_it() -> None:
    shared, _ = made()
    early = shared.reader()
    reading = asyncio.create_task(rest_of(early))
    shared.begin(Answer(200))
    shared.add(b"one ")
    await turns()
    late = shared.reader()
    assert (await late.head()).status == 200
    shared.add(b"two")
    shared.end()
    assert await reading == await rest_of(late) == b"one two"


@pytest.mark.parametrize("has_begun", [False, True])
async def test_what_broke_it_off_reaches_everybody(has_begun: bool) -> None:
    shared, _ = made()
    reader = shared.reader()
    if has_begun:
        shared.begin(Answer(200))
        shared.add(b"one")
    shared.end(ConnectionError("gone"))
    if has_begun:
        assert (await reader.head()).status == 200
        assert await anext(reader) == b"one"
        with pytest.raises(ConnectionError):
            await anext(reader)
    else:
        with pytest.raises(ConnectionError):
            await reader.head()


async def test_the_last_to_leave_early_is_noticed_once() -> None:
    shared, deserted = made()
    one, other = shared.reader(), shared.reader()
    one.leave()
    await one.aclose()
    assert deserted.count == 0
    # Dropped without a word, as by a lane that never sent its first byte.
    del other
    gc.collect()
    await turns()
    assert deserted.count == 1
    shared.reader()
    shared.end()
    gc.collect()
    await turns()
    assert deserted.count == 1, "behind the end nobody leaves early"


async def test_beyond_the_limit_it_waits_for_the_slowest_reader() -> None:
    shared, _ = made(limit=10)
    shared.begin(Answer(200))
    quick, slow = shared.reader(), shared.reader()
    shared.add(b"12345678")
    await shared.room()
    shared.add(b"90ab")
    assert shared.is_too_large
    waiting = asyncio.create_task(shared.room())
    assert [await anext(quick), await anext(quick)] == [b"12345678", b"90ab"]
    await turns()
    assert not waiting.done(), "the slow one has had nothing yet"
    assert await anext(slow) == b"12345678"
    await asyncio.wait_for(waiting, 60)
    shared.add(b"c")
    shared.end()
    assert await rest_of(slow) == b"90abc"
    assert await rest_of(quick) == b"c"


async def test_beyond_the_limit_nobody_is_waited_for_who_left() -> None:
    shared, _ = made(limit=10)
    reader = shared.reader()
    shared.begin(Answer(200))
    shared.add(b"12345678901")
    waiting = asyncio.create_task(shared.room())
    await turns()
    assert not waiting.done()
    reader.leave()
    await asyncio.wait_for(waiting, 60)
    for _ in range(1_000):
        shared.add(b"x" * 100)
        await shared.room()
    assert len(shared.content()) <= 100
