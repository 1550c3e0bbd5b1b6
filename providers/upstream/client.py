"""The one maker of outbound requests: pooled, guarded, bounded, cancelled cleanly.

dialing.py decides what may be reached and how, connection.py speaks HTTP/1.1; this module keeps
connections for the next request, says how long to wait and how much to read, and turns every
failure into one of ours. Redirects are never followed, environment proxies and .netrc are never
read, certificates are always verified (bars N1-N6).
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from multidict import CIMultiDict
from yarl import URL

from providers.errors import (
    UpstreamBroken,
    UpstreamRedirected,
    UpstreamTooLarge,
)
from providers.upstream.connection import Connection
from providers.upstream.dialing import Dialer, Place, parsed
from providers.upstream.guard import Guard

MAX_BODY: Final = 64 * 1024 * 1024
MAX_RATIO: Final = 100
_MIN_RATIO_BASE: Final = 64 * 1024
# An idle connection is not used after this long: many servers close theirs after 60 or 75 s.
KEPT_SECONDS: Final = 50.0


@dataclass(frozen=True, slots=True)
class Timeouts:
    """By phase. `first_byte` waits for the status line; `idle` is silence between chunks; `total`
    is all of it, to the last byte (0 = no bound)."""

    connect_seconds: float = 10.0
    first_byte_seconds: float = 300.0
    idle_seconds: float = 300.0
    total_seconds: float = 0.0


DEFAULT_TIMEOUTS: Final = Timeouts()


class LargeBody(Protocol):
    """A body that is not in memory. It may be read more than once."""

    @property
    def size(self) -> int: ...
    def pieces(self) -> Iterator[bytes]: ...


class UpstreamResponse:
    """Status and headers are here; the body is still on its way. Always `close()` it."""

    __slots__ = ("_close", "_connection", "_inflate", "_inflated", "_received", "headers", "status")

    def __init__(self, connection: Connection, close: Callable[[Connection], None]) -> None:
        self._connection: Connection | None = connection
        self._close = close
        self.status = connection.status
        self.headers: CIMultiDict[str] = connection.headers
        self._received = 0
        self._inflated = 0
        encoding = self.headers.get("content-encoding", "").lower()
        self._inflate = (
            zlib.decompressobj(zlib.MAX_WBITS | 32) if encoding in ("gzip", "deflate") else None
        )
        if encoding not in ("", "identity", "gzip", "deflate"):
            raise UpstreamBroken(
                f"The upstream answered with content encoding {encoding[:40]!r}, "
                "which we did not offer."
            )

    async def chunk(self) -> bytes:
        """The next bytes as they arrive; b"" at the end."""
        if self._connection is None:
            raise UpstreamBroken("This answer was closed.")
        if self._inflate is None:
            return await self._connection.chunk()
        while True:
            data = await self._connection.chunk()
            # A piece of a compressed body may inflate to nothing: that is not the end.
            out = self._decompressed(data)
            if out or not data:
                return out

    def _decompressed(self, data: bytes) -> bytes:
        inflate = self._inflate
        assert inflate is not None
        self._received += len(data)
        try:
            if not data:
                if not inflate.eof:
                    raise UpstreamBroken("The upstream's compressed answer was cut off.")
                return b""
            room = MAX_BODY + 1 - self._inflated
            out = inflate.decompress(data, room)
        except zlib.error:
            raise UpstreamBroken("The upstream's compressed answer is damaged.") from None
        self._inflated += len(out)
        allowed = max(_MIN_RATIO_BASE, self._received) * MAX_RATIO
        if self._inflated > MAX_BODY or self._inflated > allowed or inflate.unconsumed_tail:
            raise UpstreamTooLarge("The upstream's compressed answer inflates beyond our bounds.")
        return out

    async def chunks(self) -> AsyncIterator[bytes]:
        while data := await self.chunk():
            yield data

    async def read(self, limit: int = MAX_BODY) -> bytes:
        """The whole body, or UpstreamTooLarge."""
        pieces: list[bytes] = []
        size = 0
        async for data in self.chunks():
            size += len(data)
            if size > limit:
                raise UpstreamTooLarge(f"The upstream answered with more than {limit} bytes.")
            pieces.append(data)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def close(self) -> None:
        """Gives the connection back when the body was read to its end, else drops it."""
        connection, self._connection = self._connection, None
        if connection is not None:
            self._close(connection)


class UpstreamClient:
    """One per event loop and trust setting; pools connections per host."""

    def __init__(self, *, guard: Guard, ca_certificate: str = "", proxy: str | None = None) -> None:
        self._dialer = Dialer(guard, ca_certificate, proxy)
        self._idle: dict[Place, list[Connection]] = {}
        self._places: dict[Connection, Place] = {}
        self._sweeping: asyncio.TimerHandle | None = None

    async def send(
        self,
        method: str,
        url: str | URL,
        *,
        headers: Mapping[str, str],
        body: bytes | LargeBody | None = None,
        timeouts: Timeouts = DEFAULT_TIMEOUTS,
        total_seconds: float = 0.0,
    ) -> UpstreamResponse:
        """Send and wait for the status line. Raises a ProviderError leaf; a status of 3xx is
        UpstreamRedirected. The caller closes the response. `total_seconds` = what is left for
        this request, beside what its provider may take; 0 = no bound."""
        total = timeouts.total_seconds
        if total_seconds and not 0 < total < total_seconds:
            total = total_seconds
        ends_at = asyncio.get_running_loop().time() + total if total else 0.0
        place, host, target = parsed(str(url))
        request = _head(method, host, target, headers, body)
        connection = self._take(place)
        if connection is None:
            patience = timeouts.connect_seconds
            patience = min(patience, total) if total else patience
            connection = await self._dialer.connect(place, self._lost, patience)
            self._places[connection] = place
        try:
            connection.send(
                request,
                body if isinstance(body, bytes) else b"",
                first_byte_seconds=timeouts.first_byte_seconds,
                idle_seconds=timeouts.idle_seconds,
                ends_at=ends_at,
                is_whole=body is None or isinstance(body, bytes),
            )
            if body is not None and not isinstance(body, bytes):
                await _write(connection, body)
            await connection.head()
            if 300 <= connection.status < 400:
                raise UpstreamRedirected(
                    f"The upstream answered with a redirect ({connection.status}), which is never "
                    "followed. Check the provider's base URL."
                )
            return UpstreamResponse(connection, self._give_back)
        except BaseException:
            connection.drop()
            raise

    def _take(self, place: Place) -> Connection | None:
        """The one used last: the others may grow old and go."""
        waiting = self._idle.get(place)
        oldest = asyncio.get_running_loop().time() - KEPT_SECONDS
        while waiting:
            connection = waiting.pop()
            if connection.is_open and connection.idle_since > oldest:
                return connection
            connection.drop()
        return None

    def _give_back(self, connection: Connection) -> None:
        place = self._places.get(connection)
        loop = asyncio.get_running_loop()
        if not connection.rest(loop.time()) or place is None:
            connection.drop()
            return
        self._idle.setdefault(place, []).append(connection)
        if self._sweeping is None:
            self._sweeping = loop.call_later(KEPT_SECONDS, self._sweep)

    def _sweep(self) -> None:
        """Nobody else would ever close what is not used again."""
        loop = asyncio.get_running_loop()
        oldest = loop.time() - KEPT_SECONDS
        for place in list(self._idle):
            waiting = self._idle[place]
            for connection in [one for one in waiting if one.idle_since <= oldest]:
                connection.drop()
            self._idle[place] = [one for one in waiting if one.is_open]
            if not self._idle[place]:
                del self._idle[place]
        self._sweeping = loop.call_later(KEPT_SECONDS, self._sweep) if self._idle else None

    def _lost(self, connection: Connection) -> None:
        place = self._places.pop(connection, None)
        waiting = self._idle.get(place) if place is not None else None
        if waiting and connection in waiting:
            waiting.remove(connection)

    async def close(self) -> None:
        if self._sweeping is not None:
            self._sweeping.cancel()
            self._sweeping = None
        for connection in list(self._places):
            connection.drop()
        self._idle.clear()
        # The loop closes their sockets in its next turn.
        await asyncio.sleep(0)


async def _write(connection: Connection, body: LargeBody) -> None:
    for piece in body.pieces():
        if not await connection.write(piece):
            return
    connection.written()


def _head(
    method: str,
    host: str,
    target: str,
    headers: Mapping[str, str],
    body: bytes | LargeBody | None,
) -> bytes:
    """A request up to its body. Raises UpstreamBroken for what would end a line early (bar N5)."""
    lines = [f"{method} {target} HTTP/1.1", f"Host: {host}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    if body is not None:
        size = len(body) if isinstance(body, bytes) else body.size
        lines.append(f"Content-Length: {size}")
    head = "\r\n".join([*lines, "", ""])
    ends = len(lines) + 1
    if head.count("\r") != ends or head.count("\n") != ends or "\0" in head:
        raise UpstreamBroken("A header of this request holds a line break.")
    return head.encode()
