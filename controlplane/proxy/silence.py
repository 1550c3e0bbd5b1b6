"""Signs of life for a stream that is silent, so that nobody between us and the caller takes a model
that thinks for a connection that died."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from controlplane.kit.json import JSONDict
from controlplane.proxy.dialects import wants_array
from controlplane.proxy.exchange import Exchange
from controlplane.proxy.routes import GEMINI, MESSAGES

Send = Callable[[JSONDict], Awaitable[None]]

_COMMENT: Final = b": keep-alive\n\n"
# Its SDKs know this event and say nothing of it to their users.
_PING: Final = b'event: ping\ndata: {"type": "ping"}\n\n'
# Google's SDKs take every line for data, except empty ones.
_EMPTY_LINE: Final = b"\n"


def beat_of(exchange: Exchange) -> bytes:
    """What says nothing in this caller's stream. Empty where there is no such thing: a piece of a
    JSON array may end in the middle of a text."""
    if wants_array(exchange):
        return b""
    match exchange.route.dialect:
        case dialect if dialect == MESSAGES:
            return _PING
        case dialect if dialect == GEMINI:
            return _EMPTY_LINE
        case _:
            return _COMMENT


class Beats:
    """Sends a beat whenever nothing was sent for so many seconds. A stream that is not silent pays
    for one timer in all that time, and nothing for its pieces but a look at the clock."""

    __slots__ = ("_beat", "_handle", "_is_sending", "_last", "_loop", "_seconds", "_send", "_task")

    def __init__(self, send: Send, beat: bytes, seconds: float) -> None:
        self._send = send
        self._beat = beat
        self._seconds = seconds
        self._loop = asyncio.get_running_loop()
        self._last = self._loop.time()
        self._is_sending = False
        self._task: asyncio.Task[None] | None = None
        self._handle: asyncio.TimerHandle | None = None
        if beat and seconds > 0:
            self._handle = self._loop.call_later(seconds, self._look)

    async def send(self, data: bytes) -> None:
        """A piece of the answer itself."""
        self._is_sending = True
        await self._send({"type": "http.response.body", "body": data, "more_body": True})
        self._is_sending = False
        self._last = self._loop.time()

    def _look(self) -> None:
        silent = self._loop.time() - self._last
        # A caller who does not take what is there needs no sign of life.
        if silent >= self._seconds and not self._is_sending:
            self._last, silent = self._loop.time(), 0.0
            self._task = self._loop.create_task(self._beat_once())
        self._handle = self._loop.call_later(max(self._seconds - silent, 0.01), self._look)

    async def _beat_once(self) -> None:
        await self._send({"type": "http.response.body", "body": self._beat, "more_body": True})

    def stop(self) -> None:
        """Before the last message, and when the caller is gone."""
        if self._handle is not None:
            self._handle.cancel()
        if self._task is not None:
            self._task.cancel()
