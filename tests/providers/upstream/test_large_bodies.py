"""Bodies that are not in memory: sent as fast as the upstream takes them, and no faster."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass

import pytest

from providers.errors import UpstreamBroken, UpstreamTimeout
from providers.upstream.client import Timeouts, UpstreamClient
from providers.upstream.guard import Guard

PIECE = b"x" * 65_536
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
TOO_LARGE = b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\n\r\nno"
Met = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Pieces:
    """Counts what was taken of it."""

    count: int
    taken: int = 0

    @property
    def size(self) -> int:
        return self.count * len(PIECE)

    def pieces(self) -> Iterator[bytes]:
        for _ in range(self.count):
            self.taken += 1
            yield PIECE


@pytest.fixture
async def client() -> AsyncIterator[UpstreamClient]:
    made = UpstreamClient(guard=Guard(["127.0.0.0/8"]))
    yield made
    await made.close()


@contextlib.asynccontextmanager
async def vendor(met: Met) -> AsyncIterator[str]:
    async def closed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await met(reader, writer)
        finally:
            writer.close()

    server = await asyncio.start_server(closed, "127.0.0.1", 0, limit=4096)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/files"
    finally:
        server.close()


async def send(client: UpstreamClient, url: str, body: Pieces) -> tuple[int, bytes]:
    timeouts = Timeouts(connect_seconds=10, first_byte_seconds=20, idle_seconds=20)
    response = await client.send("POST", url, headers={}, body=body, timeouts=timeouts)
    try:
        return response.status, await response.read()
    finally:
        response.close()


async def test_all_of_it_arrives_and_the_connection_is_used_again(client: UpstreamClient) -> None:
    sizes: list[int] = []
    met = 0

    async def read_all(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal met
        met += 1
        with contextlib.suppress(asyncio.IncompleteReadError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                size = int(head.lower().partition(b"content-length: ")[2].split(b"\r")[0])
                sizes.append(len(await reader.readexactly(size)))
                writer.write(OK)

    async with vendor(read_all) as url:
        for count in (0, 1, 200):
            assert await send(client, url, Pieces(count)) == (200, b"ok")
    assert sizes == [0, len(PIECE), 200 * len(PIECE)]
    assert met == 1


async def test_who_does_not_read_is_not_sent_more(client: UpstreamClient) -> None:
    """The rest stays where it is, and leaves once the upstream reads on."""
    may_read = asyncio.Event()
    body = Pieces(2000)

    async def waits(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await may_read.wait()
        await reader.readexactly(body.size)
        writer.write(OK)

    async with vendor(waits) as url:
        sending = asyncio.create_task(send(client, url, body))
        seen = -1
        while body.taken == 0 or seen != body.taken:
            seen = body.taken
            # Turns of the loop in which it could have gone on.
            for _ in range(200):
                await asyncio.sleep(0)
        assert body.taken < body.count, "as much as the sockets between hold, and no more"
        may_read.set()
        assert await sending == (200, b"ok")
    assert body.taken == body.count


async def test_an_early_answer_is_the_answer(client: UpstreamClient) -> None:
    """What was not taken is not sent after it, and the connection serves nobody else."""
    met = 0

    async def refuses(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal met
        met += 1
        await reader.readuntil(b"\r\n\r\n")
        writer.write(TOO_LARGE)
        await writer.drain()
        await reader.read()

    async with vendor(refuses) as url:
        for number in (1, 2):
            body = Pieces(2000)
            assert await send(client, url, body) == (413, b"no")
            assert body.taken < body.count
            assert met == number


async def test_who_hangs_up_in_the_middle_is_broken(client: UpstreamClient) -> None:
    async def leaves(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.transport.abort()

    async with vendor(leaves) as url:
        with pytest.raises(UpstreamBroken):
            await send(client, url, Pieces(2000))


async def test_who_never_reads_times_out(client: UpstreamClient) -> None:
    over = asyncio.Event()

    async def stares(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await over.wait()

    async with vendor(stares) as url:
        with pytest.raises(UpstreamTimeout):
            await client.send(
                "POST",
                url,
                headers={},
                body=Pieces(2000),
                timeouts=Timeouts(connect_seconds=10, first_byte_seconds=0.2, idle_seconds=0.2),
            )
        over.set()
