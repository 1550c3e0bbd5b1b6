"""A registration's own way out: HTTP and SOCKS 5 proxies, with and without a password."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from providers.errors import AddressRefused, UpstreamUnreachable
from providers.upstream.client import UpstreamClient
from providers.upstream.guard import Guard
from tests.outbound_proxy import Proxy

LOOPBACK = Guard(["127.0.0.0/8"])


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
