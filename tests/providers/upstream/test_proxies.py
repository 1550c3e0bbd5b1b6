"""A registration's own way out: HTTP and SOCKS 5 proxies, with and without a password."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator

import pytest

from providers.errors import AddressRefused, UpstreamUnreachable
from providers.upstream.client import UpstreamClient
from providers.upstream.guard import Guard

LOOPBACK = Guard(["127.0.0.0/8"])


class Proxy:
    """Speaks both; notes who was asked for, and connects everybody to the one vendor."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.logins: list[str] = []
        self.port = 0
        self.vendor_port = 0
        self.answer = 0

    async def met(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            first = await reader.readexactly(1)
            if first == b"\x05":
                is_through = await self._socks(reader, writer)
            else:
                is_through = await self._connect(first, reader, writer)
            if is_through:
                await self._join(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            writer.close()

    async def _socks(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        methods = await reader.readexactly((await reader.readexactly(1))[0])
        writer.write(b"\x05" + methods)
        if methods == b"\x02":
            await reader.readexactly(1)
            user = await reader.readexactly((await reader.readexactly(1))[0])
            password = await reader.readexactly((await reader.readexactly(1))[0])
            self.logins.append(f"{user.decode()}:{password.decode()}")
            writer.write(b"\x01\x00")
        *_, kind = await reader.readexactly(4)
        if kind == 3:
            host = (await reader.readexactly((await reader.readexactly(1))[0])).decode()
        else:
            host = ".".join(map(str, await reader.readexactly(4)))
        port = int.from_bytes(await reader.readexactly(2), "big")
        self.asked.append(f"{host}:{port}")
        writer.write(bytes([5, self.answer, 0, 1, 0, 0, 0, 0, 0, 0]))
        return self.answer == 0

    async def _connect(
        self, first: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        head = (first + await reader.readuntil(b"\r\n\r\n")).decode()
        self.asked.append(head.split()[1])
        for line in head.splitlines():
            if line.startswith("Proxy-Authorization: Basic "):
                self.logins.append(base64.b64decode(line.split()[2]).decode())
        if self.answer:
            writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n")
            return False
        writer.write(b"HTTP/1.1 200 Connection established\r\nX: y\r\n\r\n")
        return True

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        theirs, ours = await asyncio.open_connection("127.0.0.1", self.vendor_port)

        async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            while data := await source.read(65_536):
                sink.write(data)
                await sink.drain()
            sink.close()

        await asyncio.gather(pump(reader, ours), pump(theirs, writer), return_exceptions=True)


@pytest.fixture
async def proxy() -> AsyncIterator[Proxy]:
    async def answers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        assert b"roxy-" not in head
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
        writer.close()

    made = Proxy()
    vendor = await asyncio.start_server(answers, "127.0.0.1", 0)
    made.vendor_port = vendor.sockets[0].getsockname()[1]
    server = await asyncio.start_server(made.met, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    yield made
    server.close()
    vendor.close()


async def ask(guard: Guard, proxy_url: str, url: str) -> bytes:
    client = UpstreamClient(guard=guard, proxy=proxy_url)
    try:
        response = await client.send("GET", url, headers={})
        data = await response.read()
        response.close()
        return data
    finally:
        await client.close()


@pytest.mark.parametrize("scheme", ["http", "socks5", "socks5h"])
async def test_the_proxy_is_asked_by_name(proxy: Proxy, scheme: str) -> None:
    url = f"{scheme}://127.0.0.1:{proxy.port}"
    assert await ask(LOOPBACK, url, "http://vendor.example:8080/v1") == b"ok"
    assert await ask(LOOPBACK, url, "http://8.8.8.8/v1") == b"ok"
    assert proxy.asked == ["vendor.example:8080", "8.8.8.8:80"]
    assert proxy.logins == []


@pytest.mark.parametrize("scheme", ["http", "socks5"])
async def test_the_proxy_is_told_who_asks(proxy: Proxy, scheme: str) -> None:
    url = f"{scheme}://ann:p%40ss@127.0.0.1:{proxy.port}"
    assert await ask(LOOPBACK, url, "http://vendor.example/") == b"ok"
    assert proxy.logins == ["ann:p@ss"]


@pytest.mark.parametrize("scheme", ["http", "socks5"])
async def test_a_refusal_is_said(proxy: Proxy, scheme: str) -> None:
    proxy.answer = 5
    with pytest.raises(UpstreamUnreachable, match="outbound proxy"):
        await ask(LOOPBACK, f"{scheme}://127.0.0.1:{proxy.port}", "http://vendor.example/")


@pytest.mark.parametrize("scheme", ["http", "socks5"])
async def test_n1_neither_the_proxy_nor_the_vendor_may_be_private(
    proxy: Proxy, scheme: str
) -> None:
    with pytest.raises(AddressRefused):
        await ask(Guard(), f"{scheme}://127.0.0.1:{proxy.port}", "http://vendor.example/")
    for address in ("169.254.169.254", "10.0.0.1", "[::1]"):
        with pytest.raises(AddressRefused):
            await ask(LOOPBACK, f"{scheme}://127.0.0.1:{proxy.port}", f"http://{address}/")
    assert proxy.asked == []
