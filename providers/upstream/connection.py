"""One HTTP/1.1 connection to an upstream: a request at a time, the answer parsed as it arrives.

Written for what a gateway does all day and nothing else: no redirects, cookies or encodings.
httptools (the parser that uvicorn uses too) reads what comes; everything it reads is bounded.
Cancelling a request drops its connection and leaves nothing behind.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Final

import httptools
from multidict import CIMultiDict

from providers.errors import UpstreamBroken, UpstreamTimeout

# Before more is read the caller has to take what is there (bar R14).
HIGH_WATER: Final = 8 * 1024
# What is read at a time. Event loops would read 256 KB, and hold as much for each slow reader.
READ_SIZE: Final = 32 * 1024
MAX_HEAD: Final = 64 * 1024
# Up to here one piece is cheaper to send than two.
COPIED: Final = 16 * 1024
MAX_HEADERS: Final = 200

_buffers: Final = threading.local()
_BROKEN: Final = "The upstream broke the connection"
_HALF: Final = "The upstream broke off its answer"


class Connection(asyncio.BufferedProtocol):
    """`send` begins an answer: wait for `head`, then for `chunk` until it is empty. Then either the
    pool gets the connection back, or `drop` ends it."""

    __slots__ = (
        "_deadline",
        "_ends_at",
        "_error",
        "_first_byte_seconds",
        "_head_size",
        "_idle_seconds",
        "_is_busy",
        "_is_full",
        "_is_paused",
        "_is_sending",
        "_is_until_close",
        "_loop",
        "_named",
        "_on_lost",
        "_parser",
        "_pieces",
        "_rings_at",
        "_size",
        "_timer",
        "_transport",
        "_waiter",
        "has_head",
        "headers",
        "idle_since",
        "is_closed",
        "is_complete",
        "is_reusable",
        "status",
    )

    def __init__(
        self, loop: asyncio.AbstractEventLoop, on_lost: Callable[[Connection], None]
    ) -> None:
        self._loop = loop
        self._on_lost = on_lost
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._waiter: asyncio.Future[None] | None = None
        self.is_closed = False
        self.idle_since = 0.0
        self._is_busy = False
        # The transport holds as much as it should of what we send.
        self._is_full = False
        self._reset()

    def _reset(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._pieces: list[bytes] = []
        self._size = 0
        # Bytes that came before the head was whole, and those of headers that were read in it.
        self._head_size = 0
        self._named = 0
        self._is_paused = False
        self._is_until_close = False
        self._error: Exception | None = None
        self._deadline = 0.0
        self._ends_at = 0.0
        self._rings_at = 0.0
        self._idle_seconds = 0.0
        self._first_byte_seconds = 0.0
        # More of the request's body is to come.
        self._is_sending = False
        self.status = 0
        self.headers: CIMultiDict[str] = CIMultiDict()
        self.has_head = False
        self.is_complete = False
        self.is_reusable = False

    # --- what the client does -------------------------------------------------------------------

    def send(
        self,
        head: bytes,
        body: bytes = b"",
        *,
        first_byte_seconds: float,
        idle_seconds: float,
        ends_at: float = 0.0,
        is_whole: bool = True,
    ) -> None:
        """`ends_at` in the loop's time: when the answer must be whole. 0 = no bound. `is_whole`
        False: the body follows by `write`, until `written`."""
        assert self._transport is not None
        self._reset()
        self._is_busy = True
        self._is_sending = not is_whole
        self._idle_seconds = idle_seconds
        self._ends_at = ends_at
        self._first_byte_seconds = first_byte_seconds
        self._deadline = self._loop.time() + first_byte_seconds
        self._ring_at(self._deadline)
        if len(body) < COPIED:
            self._transport.write(head + body)
        else:
            self._transport.writelines((head, body))

    async def write(self, data: bytes) -> bool:
        """More of the body, as fast as the upstream takes it. False = it wants no more: it is
        answering already, or gone, and `head` tells which."""
        assert self._transport is not None
        if not self._takes_more():
            return False
        self._transport.write(data)
        while self._is_full and self._takes_more():
            await self._wait()
        # It took something: the time to answer counts from here.
        self._deadline = self._loop.time() + self._first_byte_seconds
        return True

    def _takes_more(self) -> bool:
        return not self.has_head and self._error is None and not self.is_closed

    def written(self) -> None:
        self._is_sending = False

    async def head(self) -> None:
        """Until status and headers are there. Raises UpstreamBroken or UpstreamTimeout."""
        while not self.has_head:
            if self._error is not None:
                raise self._error
            await self._wait()

    async def chunk(self) -> bytes:
        """What has arrived of the body, waiting for some; b"" at the end."""
        while not self._pieces:
            if self._error is not None:
                raise self._error
            if self.is_complete:
                return b""
            await self._wait()
        pieces = self._pieces
        data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        pieces.clear()
        self._size = 0
        if self._is_paused:
            self._is_paused = False
            if self._transport is not None and not self.is_closed:
                # Silence counts from here: before it was we who did not listen.
                self._deadline = self._loop.time() + self._idle_seconds
                self._transport.resume_reading()
        return data

    async def _wait(self) -> None:
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    @property
    def is_open(self) -> bool:
        """False too in the moment when the upstream has closed and the loop has not said so."""
        return (
            not self.is_closed and self._transport is not None and not self._transport.is_closing()
        )

    def rest(self, now: float) -> bool:
        """After an answer: whether another request may follow. Until then nothing may arrive."""
        self._stop_timer()
        self._is_busy = False
        self.idle_since = now
        return (
            self.is_complete
            and self.is_reusable
            and self.is_open
            and not self._pieces
            and self._error is None
        )

    def drop(self) -> None:
        """At once: what was not sent is not, what comes is not read. Whoever waits hears of it."""
        self._stop_timer()
        if self._is_busy and not self.is_complete and self._error is None:
            self._error = UpstreamBroken("The connection to the upstream was given up.")
            self._wake()
        self._is_busy = False
        if self._transport is not None and not self.is_closed:
            self.is_closed = True
            self._transport.abort()

    def _ring_at(self, moment: float) -> None:
        if 0 < self._ends_at < moment:
            moment = self._ends_at
        self._rings_at = moment
        self._timer = self._loop.call_at(moment, self._look)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        """One timer for an answer, moved on when it rings too early: not one for each piece."""
        self._timer = None
        if self.is_complete or self.is_closed:
            return
        if 0 < self._ends_at <= self._loop.time():
            self._fail(UpstreamTimeout("The answer took longer than it may."))
            return
        if not self._is_paused and self._loop.time() >= self._deadline:
            words = (
                "The upstream fell silent in the middle of its answer."
                if self.has_head
                else "The upstream did not answer in time."
            )
            self._fail(UpstreamTimeout(words))
            return
        again = max(self._deadline, self._loop.time() + 0.01)
        if self._is_paused:
            again = self._loop.time() + self._idle_seconds
        self._ring_at(again)

    def _fail(self, error: Exception) -> None:
        if self._error is None and not self.is_complete:
            self._error = error
        self._wake()
        if self._transport is not None and not self.is_closed:
            self.is_closed = True
            self._transport.abort()

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    # --- what the event loop says ---------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport) or hasattr(transport, "write")
        self._transport = transport  # type: ignore[assignment]  # uvloop's is none by name

    def pause_writing(self) -> None:
        self._is_full = True

    def resume_writing(self) -> None:
        self._is_full = False
        self._wake()

    def get_buffer(self, sizehint: int) -> memoryview:
        """One for all connections of a thread: what is read into it is parsed, and so copied,
        before anything else is read."""
        buffer: memoryview | None = getattr(_buffers, "one", None)
        if buffer is None:
            buffer = _buffers.one = memoryview(bytearray(READ_SIZE))
        return buffer

    def buffer_updated(self, nbytes: int) -> None:
        self._received(_buffers.one[:nbytes])

    def _received(self, data: memoryview) -> None:
        if not self._is_busy or self.is_complete:
            # Nobody asked: an answer to nothing must never become one to the next request.
            self.is_reusable = False
            if not self.is_closed:
                self.drop()
            return
        if not self.has_head:
            self._head_size += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._fail(
                UpstreamBroken(f"The upstream's answer is no HTTP ({type(error).__name__}).")
            )
            return
        if not self.has_head:
            if self._head_size > MAX_HEAD:
                self._fail(UpstreamBroken("The upstream's headers are too long."))
            return
        self._deadline = self._loop.time() + self._idle_seconds
        if self._timer is not None and self._rings_at > self._deadline:
            self._timer.cancel()
            self._ring_at(self._deadline)
        if self._size > HIGH_WATER and not self._is_paused and not self.is_complete:
            self._is_paused = True
            assert self._transport is not None
            self._transport.pause_reading()
        self._wake()

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, error: Exception | None) -> None:
        self.is_closed = True
        if self._is_busy and not self.is_complete:
            if self.has_head and self._is_until_close and error is None and self._error is None:
                self.is_complete = True
            elif self._error is None:
                what = _HALF if self.has_head else _BROKEN
                kind = f" ({type(error).__name__})" if error is not None else ""
                self._error = UpstreamBroken(f"{what}{kind}.")
        self._stop_timer()
        self._wake()
        self._on_lost(self)

    # --- what the parser says -------------------------------------------------------------------

    def on_message_begin(self) -> None:
        if self.is_complete:
            raise UpstreamBroken("The upstream answered twice.")

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.has_head:
            return  # a trailer: who reads headers has read them
        self._named += len(name) + len(value)
        if len(self.headers) >= MAX_HEADERS or self._named > MAX_HEAD:
            raise UpstreamBroken("The upstream sent too many headers.")
        self.headers.add(name.decode("latin-1"), value.decode("utf-8", "surrogateescape"))

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if status < 200:
            return  # a provisional answer; the real one follows
        self.status = status
        headers = self.headers
        # Who answers before the whole request is there takes the rest of it for the next one.
        self.is_reusable = self._parser.should_keep_alive() and not self._is_sending
        encoding = headers.get("transfer-encoding", "").lower()
        self._is_until_close = (
            not encoding.endswith("chunked")
            and "content-length" not in headers
            and status not in (204, 304)
        )
        if encoding and encoding != "chunked":
            raise UpstreamBroken("The upstream's transfer encoding is one that we did not offer.")
        self.has_head = True

    def on_body(self, data: bytes) -> None:
        self._pieces.append(data)
        self._size += len(data)

    def on_message_complete(self) -> None:
        if not self.has_head:
            # The end of a provisional answer.
            self.headers = CIMultiDict()
            self._head_size = 0
            return
        self.is_complete = True
        self._stop_timer()
