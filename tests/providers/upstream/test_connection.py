"""HTTP/1.1 as upstreams really speak it, and as hostile ones do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from providers.errors import UpstreamBroken, UpstreamUnreachable
from providers.upstream.client import UpstreamClient
from providers.upstream.connection import HIGH_WATER, MAX_HEAD
from providers.upstream.guard import Guard
from tests.patience import LONG_SECONDS

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Vendor:
    """Sends the next script for each request: bytes; None = closes."""

    def __init__(self) -> None:
        self.scripts: list[list[bytes | None]] = []
        self.heads: list[bytes] = []
        self.connections = 0
        self.port = 0

    async def met(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                self.heads.append(head)
                for line in head.lower().split(b"\r\n"):
                    if line.startswith(b"content-length:"):
                        await reader.readexactly(int(line[15:]))
                for piece in self.scripts.pop(0) if self.scripts else [OK]:
                    if piece is None:
                        return
                    writer.write(piece)
                    await writer.drain()
                    await asyncio.sleep(0)
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            writer.close()


@pytest.fixture
async def vendor() -> AsyncIterator[Vendor]:
    made = Vendor()
    server = await asyncio.start_server(made.met, "127.0.0.1", 0, limit=2**24)
    made.port = server.sockets[0].getsockname()[1]
    yield made
    server.close()


@pytest.fixture
async def client() -> AsyncIterator[UpstreamClient]:
    made = UpstreamClient(guard=Guard(["127.0.0.0/8"]))
    yield made
    await made.close()


async def ask(client: UpstreamClient, vendor: Vendor, body: bytes | None = b"{}") -> bytes:
    url = f"http://127.0.0.1:{vendor.port}/v1/x"
    response = await client.send("POST", url, headers={"A": "b"}, body=body)
    try:
        return await response.read()
    finally:
        response.close()


@pytest.mark.parametrize(
    "pieces",
    [
        [OK],
        [OK[i : i + 1] for i in range(len(OK))],
        [b"HTTP/1.1 100 Continue\r\n\r\n", OK],
        [b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + OK],
        [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\no\r\n1\r\nk\r\n0\r\n\r\n"],
        [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;a=b\r\nok\r\n0\r\nX: y\r\n\r\n"],
        [b"HTTP/1.1 200 OK\r\n\r\no", b"k", None],
        [b"HTTP/1.0 200 OK\r\n\r\nok", None],
    ],
    ids=["whole", "byte by byte", "continue", "hints", "chunks", "trailer", "until close", "1.0"],
)
async def test_answers_in_every_form(
    vendor: Vendor, client: UpstreamClient, pieces: list[bytes | None]
) -> None:
    vendor.scripts = [pieces]
    assert await ask(client, vendor) == b"ok"
    # And the next request is served, on this connection or another.
    assert await ask(client, vendor) == b"ok"


async def test_no_body_where_the_status_has_none(vendor: Vendor, client: UpstreamClient) -> None:
    vendor.scripts = [[b"HTTP/1.1 204 No Content\r\n\r\n"]]
    assert await ask(client, vendor) == b""
    assert await ask(client, vendor) == b"ok"
    assert vendor.connections == 1


@pytest.mark.parametrize(
    "reply",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nokk",
        b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"a" * MAX_HEAD + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 300 + b"\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"\r\n" * 10 + b"nonsense",
        b"",
    ],
    ids=[
        "length and chunked", "two lengths", "no number", "gzip coding", "gzip and chunked",
        "long header", "many headers", "upgrade", "no chunk", "nonsense", "nothing",
    ],
)  # fmt: skip
async def test_what_is_not_plain_http_is_broken(
    vendor: Vendor, client: UpstreamClient, reply: bytes
) -> None:
    vendor.scripts = [[reply, None]]
    with pytest.raises(UpstreamBroken):
        await ask(client, vendor)
    assert await ask(client, vendor) == b"ok"
    assert vendor.connections == 2


@pytest.mark.parametrize("is_late", [False, True], ids=["at once", "a moment later"])
async def test_an_answer_that_nobody_asked_for_is_never_anothers(
    vendor: Vendor, client: UpstreamClient, is_late: bool
) -> None:
    evil = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"
    vendor.scripts = [[OK, evil] if is_late else [OK + evil]]
    for _ in range(3):
        assert await ask(client, vendor) == b"ok"
        await asyncio.sleep(0)
    assert vendor.connections == 2


async def test_the_vendor_waits_for_who_does_not_read(
    vendor: Vendor, client: UpstreamClient
) -> None:
    length = 64 * 2**20
    sent = 0

    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % length)
        try:
            while sent < length:
                writer.write(b"x" * 65_536)
                await writer.drain()
                sent += 65_536
        except ConnectionError:
            return
        finally:
            writer.close()

    server = await asyncio.start_server(endless, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    response = await client.send("GET", f"http://127.0.0.1:{port}/", headers={})
    first = await response.chunk()
    assert len(first) >= 1
    before = -1
    while sent != before:
        before = sent
        for _ in range(200):
            await asyncio.sleep(0)
    assert sent < length / 2, "held back by the buffers of the system alone"
    got = len(first)
    while got < 16 * HIGH_WATER:
        got += len(await response.chunk())
    response.close()
    server.close()


async def test_requests_at_once_have_connections_of_their_own(
    vendor: Vendor, client: UpstreamClient
) -> None:
    answers = await asyncio.gather(*(ask(client, vendor) for _ in range(50)))
    assert answers == [b"ok"] * 50
    opened = vendor.connections
    assert await asyncio.gather(*(ask(client, vendor) for _ in range(20))) == [b"ok"] * 20
    assert vendor.connections == opened


async def test_a_connection_that_the_vendor_closed_is_not_used(
    vendor: Vendor, client: UpstreamClient
) -> None:
    vendor.scripts = [[OK, None]]
    assert await ask(client, vendor) == b"ok"
    for _ in range(1000):
        await asyncio.sleep(0)
    assert await ask(client, vendor) == b"ok"
    assert vendor.connections == 2


@pytest.mark.parametrize(
    "header", ["a\r\nX-Evil: 1", "a\nX-Evil: 1", "a\rb", "a\0b"], ids=["crlf", "lf", "cr", "nul"]
)
async def test_n5_no_line_break_reaches_the_wire(
    vendor: Vendor, client: UpstreamClient, header: str
) -> None:
    url = f"http://127.0.0.1:{vendor.port}/"
    for headers in ({"X-A": header}, {header: "a"}):
        with pytest.raises(UpstreamBroken):
            await client.send("POST", url, headers=headers, body=b"")
    assert vendor.connections == 0


@pytest.mark.parametrize(
    "url",
    [
        "ftp://127.0.0.1/",
        "http:///x",
        "http://a b/",
        "http://127.0.0.1:99999/",
        "x",
        "http://a/b c",
    ],
)
async def test_what_is_no_url_is_not_dialled(client: UpstreamClient, url: str) -> None:
    with pytest.raises(UpstreamUnreachable):
        await client.send("GET", url, headers={})


async def test_who_waits_hears_that_the_client_was_closed(
    vendor: Vendor, client: UpstreamClient
) -> None:
    vendor.scripts = [[b""], [b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nha"]]
    url = f"http://127.0.0.1:{vendor.port}/"
    waiting = asyncio.create_task(client.send("GET", url, headers={}))
    for _ in range(1000):
        await asyncio.sleep(0)
    assert len(vendor.heads) == 1
    response = await client.send("GET", url, headers={})
    assert await response.chunk() == b"ha"
    reading = asyncio.create_task(response.chunk())
    await asyncio.sleep(0)
    await client.close()
    for task in (waiting, reading):
        with pytest.raises(UpstreamBroken):
            await asyncio.wait_for(task, LONG_SECONDS)
    response.close()
