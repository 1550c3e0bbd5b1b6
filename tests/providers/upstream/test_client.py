"""The outbound client against a server that lies, stalls and breaks off."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from providers.errors import (
    UpstreamBroken,
    UpstreamRedirected,
    UpstreamTimeout,
    UpstreamTooLarge,
    UpstreamUnreachable,
)
from providers.upstream.client import Timeouts, UpstreamClient
from providers.upstream.guard import Guard

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Upstream:
    """Answers every connection with `serve`; remembers the request heads it saw."""

    def __init__(self) -> None:
        self.heads: list[bytes] = []
        self.connections = 0
        self.open = 0
        self.is_quiet = asyncio.Event()
        self.serve: Serve = self.plain
        self.reply = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
        self.port = 0

    async def plain(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(self.reply)
        await writer.drain()

    async def met(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.open += 1
        if self.open > 2:
            self.is_quiet.clear()
        try:
            while True:
                try:
                    self.heads.append(await reader.readuntil(b"\r\n\r\n"))
                except (asyncio.IncompleteReadError, ConnectionError):
                    return
                await self.serve(reader, writer)
        except ConnectionError:
            return
        finally:
            self.open -= 1
            if self.open <= 2:
                self.is_quiet.set()
            writer.close()


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    made = Upstream()
    server = await asyncio.start_server(made.met, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    yield made
    server.close()


@pytest.fixture
async def client() -> AsyncIterator[UpstreamClient]:
    made = UpstreamClient(guard=Guard(["127.0.0.0/8"]))
    yield made
    await made.close()


def url(upstream: Upstream, path: str = "/v1/x") -> str:
    return f"http://127.0.0.1:{upstream.port}{path}"


async def test_answers_and_reuses_the_connection(
    upstream: Upstream, client: UpstreamClient
) -> None:
    for _ in range(20):
        response = await client.send("POST", url(upstream), headers={"X-A": "1"}, body=b"")
        assert (response.status, await response.read()) == (200, b"ok")
        response.close()
    assert upstream.connections == 1
    head = upstream.heads[0].lower()
    assert b"x-a: 1" in head
    for unwanted in (b"user-agent", b"accept-encoding", b"cookie", b"authorization"):
        assert unwanted not in head


async def test_n6_environment_proxies_and_netrc_are_ignored(
    upstream: Upstream,
    client: UpstreamClient,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login a password b\n")
    monkeypatch.setenv("NETRC", str(netrc))
    response = await client.send("GET", url(upstream), headers={})
    assert await response.read() == b"ok"
    response.close()
    assert b"authorization" not in upstream.heads[0].lower()


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_n3_redirects_are_never_followed(
    status: int, upstream: Upstream, client: UpstreamClient
) -> None:
    upstream.reply = (
        f"HTTP/1.1 {status} Moved\r\nLocation: {url(upstream, '/other')}\r\n"
        "Content-Length: 0\r\n\r\n"
    ).encode()
    with pytest.raises(UpstreamRedirected, match="base URL"):
        await client.send("POST", url(upstream), headers={}, body=b"{}")
    assert len(upstream.heads) == 1


async def test_refused_connection_is_unreachable(client: UpstreamClient) -> None:
    server = await asyncio.start_server(lambda r, w: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    with pytest.raises(UpstreamUnreachable, match="refused"):
        await client.send("GET", f"http://127.0.0.1:{port}/", headers={})


async def test_silence_before_the_status_line_times_out(
    upstream: Upstream, client: UpstreamClient
) -> None:
    held = asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await held.wait()

    upstream.serve = silent
    with pytest.raises(UpstreamTimeout):
        await client.send(
            "GET", url(upstream), headers={}, timeouts=Timeouts(first_byte_seconds=0.05)
        )
    held.set()


async def test_silence_in_the_middle_times_out(upstream: Upstream, client: UpstreamClient) -> None:
    held = asyncio.Event()

    async def half(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n")
        await writer.drain()
        await held.wait()

    upstream.serve = half
    response = await client.send(
        "GET", url(upstream), headers={}, timeouts=Timeouts(idle_seconds=0.05)
    )
    assert await response.chunk() == b"half"
    with pytest.raises(UpstreamTimeout, match="middle"):
        await response.chunk()
    response.close()
    held.set()


@pytest.mark.parametrize(
    "reply",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nshort\r\n",
    ],
    ids=["wrong length", "cut chunks"],
)
async def test_half_an_answer_is_the_upstreams_fault(
    reply: bytes, upstream: Upstream, client: UpstreamClient
) -> None:
    async def cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(reply)
        await writer.drain()
        writer.close()

    upstream.serve = cut
    response = await client.send("GET", url(upstream), headers={})
    with pytest.raises(UpstreamBroken):
        await response.read()
    response.close()


async def test_bytes_that_are_not_http_are_broken(
    upstream: Upstream, client: UpstreamClient
) -> None:
    upstream.reply = b"\x16\x03\x01 nonsense\r\n\r\n"
    with pytest.raises(UpstreamBroken):
        await client.send("GET", url(upstream), headers={})


async def test_gzip_is_inflated_within_bounds(upstream: Upstream, client: UpstreamClient) -> None:
    packed = gzip.compress(b'{"a": 1}' * 1000)
    upstream.reply = (
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(packed)
    ) + packed
    response = await client.send("GET", url(upstream), headers={})
    assert await response.read() == b'{"a": 1}' * 1000
    response.close()


async def test_i4_a_gzip_bomb_is_refused(upstream: Upstream, client: UpstreamClient) -> None:
    packed = gzip.compress(b"\0" * (80 * 1024 * 1024), 9)
    upstream.reply = (
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(packed)
    ) + packed
    response = await client.send("GET", url(upstream), headers={})
    with pytest.raises(UpstreamTooLarge):
        await response.read()
    response.close()


@pytest.mark.parametrize("damage", ["cut", "garbage"])
async def test_damaged_gzip_is_broken(
    damage: str, upstream: Upstream, client: UpstreamClient
) -> None:
    packed = gzip.compress(b"hello" * 1000)
    packed = packed[: len(packed) // 2] if damage == "cut" else b"\x1f\x8b\x08\x00" + b"x" * 40
    upstream.reply = (
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(packed)
    ) + packed
    response = await client.send("GET", url(upstream), headers={})
    with pytest.raises(UpstreamBroken):
        await response.read()
    response.close()


async def test_a_body_beyond_the_limit_is_refused(
    upstream: Upstream, client: UpstreamClient
) -> None:
    upstream.reply = b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n" + b"x" * 5000
    response = await client.send("GET", url(upstream), headers={})
    with pytest.raises(UpstreamTooLarge):
        await response.read(1000)
    response.close()


async def test_r13_cancelled_requests_leave_nothing_behind(
    upstream: Upstream, client: UpstreamClient
) -> None:
    """A thousand cancels in flight here; ten thousand through the gateway in the proxy's tests."""
    held = asyncio.Event()
    seen = asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(upstream.heads) % 50 == 0:
            seen.set()
        await held.wait()

    upstream.serve = silent
    for _ in range(20):
        seen.clear()
        tasks = [
            asyncio.create_task(client.send("GET", url(upstream), headers={})) for _ in range(50)
        ]
        await asyncio.wait_for(seen.wait(), 10)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    held.set()
    upstream.serve = upstream.plain
    for _ in range(20):
        response = await client.send("GET", url(upstream), headers={})
        assert await response.read() == b"ok"
        response.close()
    await asyncio.wait_for(upstream.is_quiet.wait(), 10)
