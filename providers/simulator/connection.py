"""What ASGI has no word for: breaking a connection, and noticing that the caller broke it."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable, MutableMapping
from contextvars import ContextVar
from typing import Any, Final

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

_FLUSH_SECONDS: Final = 5.0
# "Do not linger": the kernel answers with RST instead of FIN when the socket is closed.
_NO_LINGER: Final = struct.pack("ii", 1, 0)


class Dropped(Exception):
    """Raised into a server whose connection we cannot reach, so that it drops it itself."""


async def drop(send: Send, receive: Receive, *, is_reset: bool) -> None:
    """Ends the connection in the middle of a message. Raises Dropped where only the server can.

    uvicorn hands out a bound method of the object that holds the transport. Breaking the
    connection there leaves no trace in its log, as when a caller hangs up.
    """
    transport: Any = getattr(getattr(send, "__self__", None), "transport", None)
    # By what it can: uvloop's transport is no subclass of asyncio's.
    if not hasattr(transport, "abort") or not hasattr(transport, "get_extra_info"):
        raise Dropped
    if is_reset:
        await _flushed(transport)
        _do_not_linger(transport)
        transport.abort()
    else:
        transport.close()
    while (await receive())["type"] != "http.disconnect":
        pass


async def _flushed(transport: Any) -> None:
    """An abort forgets what was written but not yet sent."""
    deadline = asyncio.get_running_loop().time() + _FLUSH_SECONDS
    while transport.get_write_buffer_size() and not transport.is_closing():
        if asyncio.get_running_loop().time() > deadline:
            return
        await asyncio.sleep(0.001)


def _do_not_linger(transport: Any) -> None:
    handle = transport.get_extra_info("socket")
    if handle is None or handle.fileno() < 0:
        return
    # The loop's own socket object may refuse options; a second handle of the same socket does not.
    with socket.fromfd(handle.fileno(), handle.family, handle.type) as same:
        same.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)


class Watcher:
    """Cancels the answering task when its caller hangs up: stalls and drips would outlive it.
    Watching begins with the first wait, because most answers never wait."""

    __slots__ = ("_answering", "_receive", "_task", "is_gone")

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._answering: asyncio.Task[Any] | None = None
        self._task: asyncio.Task[None] | None = None
        self.is_gone = False

    def start(self) -> None:
        if self._task is None:
            self._answering = asyncio.current_task()
            self._task = asyncio.get_running_loop().create_task(self._watch())

    async def _watch(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self.is_gone = True
        if self._answering is not None:
            self._answering.cancel()

    def is_over(self) -> bool:
        """Whether a cancellation was this one: then nothing is left to cancel."""
        if self.is_gone and self._answering is not None:
            self._answering.uncancel()
        return self.is_gone

    def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()


# The watcher of the request that is being answered; none outside of one.
CALLER: Final[ContextVar[Watcher | None]] = ContextVar("caller", default=None)


async def wait(seconds: float) -> None:
    """Sleeps; ends with its caller."""
    watcher = CALLER.get()
    if watcher is not None:
        watcher.start()
    await asyncio.sleep(seconds)
