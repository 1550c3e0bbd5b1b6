"""One answer for several callers: it grows in a task of its own, and each caller reads it from its
start, at its own pace, whenever it came."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from itertools import count

from controlplane.proxy.exchange import Answer


class SharedAnswer:
    """Used in one event loop. `limit` bytes are kept for those who come later; beyond that only
    what some reader has not had yet, and nobody can begin to read any more."""

    def __init__(self, limit: int, *, deserted: Callable[[], None]) -> None:
        """`deserted` is called when the last reader leaves before the end."""
        self._limit = limit
        self._deserted = deserted
        self._head: Answer | None = None
        self._error: BaseException | None = None
        self._pieces: list[bytes] = []
        # How many pieces are gone from the front, and how many bytes are left.
        self._gone = 0
        self._kept = 0
        self._is_over = False
        # The place of each reader. Not the readers: one that is dropped has to be noticed.
        self._places: dict[int, int] = {}
        self._numbers = count()
        self._changed = asyncio.Event()
        self.is_too_large = False

    # --- The side that writes

    def begin(self, head: Answer) -> None:
        """Status and headers, and the body where it came whole."""
        self._head = head
        self._tell()

    def add(self, piece: bytes) -> None:
        self._pieces.append(piece)
        self._kept += len(piece)
        self.is_too_large = self.is_too_large or self._kept > self._limit
        self._tell()

    async def room(self) -> None:
        """Waits while readers are further behind than the limit."""
        while self.is_too_large:
            self._drop()
            if self._kept <= self._limit:
                return
            await self._changed.wait()

    def end(self, error: BaseException | None = None) -> None:
        """The second call does nothing."""
        if self._is_over:
            return
        self._error = error
        self._is_over = True
        self._tell()

    def content(self) -> bytes:
        """All of it so far, unless it is too large."""
        return b"".join(self._pieces)

    # --- The side that reads

    def reader(self) -> Reader:
        number = next(self._numbers)
        self._places[number] = 0
        return Reader(self, number)

    def leave(self, number: int) -> None:
        if self._places.pop(number, None) is None:
            return
        self._tell()
        if not self._places and not self._is_over:
            self._deserted()

    async def head(self) -> Answer:
        """Raises what ended the answer before it began."""
        while self._head is None:
            if self._error is not None:
                raise self._error
            await self._changed.wait()
        return self._head

    async def next_piece(self, number: int) -> bytes | None:
        """None behind the last. Raises what broke the answer off."""
        place = self._places[number]
        while True:
            if place - self._gone < len(self._pieces):
                break
            if self._error is not None:
                raise self._error
            if self._is_over:
                return None
            await self._changed.wait()
        self._places[number] = place + 1
        if self.is_too_large:
            # Somebody may wait for room.
            self._tell()
        return self._pieces[place - self._gone]

    def _drop(self) -> None:
        furthest = self._gone + len(self._pieces)
        had_by_all = min(self._places.values(), default=furthest)
        dropped = self._pieces[: had_by_all - self._gone]
        del self._pieces[: had_by_all - self._gone]
        self._gone = had_by_all
        self._kept -= sum(map(len, dropped))

    def _tell(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()


class Reader:
    """One caller's place in the answer. No generator: one that is dropped before its first piece
    never runs, and would be waited for to the end."""

    __slots__ = ("_has_left", "_loop", "_number", "_shared")

    def __init__(self, shared: SharedAnswer, number: int) -> None:
        self._shared = shared
        self._number = number
        self._loop = asyncio.get_running_loop()
        self._has_left = False

    async def head(self) -> Answer:
        """Raises what ended the answer before it began."""
        return await self._shared.head()

    def __aiter__(self) -> Reader:
        return self

    async def __anext__(self) -> bytes:
        piece = await self._shared.next_piece(self._number)
        if piece is None:
            raise StopAsyncIteration
        return piece

    def leave(self) -> None:
        self._has_left = True
        self._shared.leave(self._number)

    async def aclose(self) -> None:
        self.leave()

    def __del__(self) -> None:
        if self._has_left or self._loop.is_closed():
            return
        # Whoever drops it may be in another thread, and the loop about to close.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._shared.leave, self._number)
