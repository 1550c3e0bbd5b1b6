"""Bar N1: private, metadata and reserved addresses, in every spelling, are never dialled."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from providers.errors import AddressRefused, UpstreamUnreachable
from providers.upstream.client import UpstreamClient
from providers.upstream.guard import AllowedEndpoint, ForbiddenAddress, Guard

# Spellings as they may stand in a URL's host. Numeric oddities are resolved by the system or
# refused as names; either way no connection may be made.
SPELLINGS = [
    "127.0.0.1", "127.1", "127.0.1", "2130706433", "0x7f000001", "0x7f.1", "017700000001",
    "0177.0.0.1", "127.0.0.1.", "127.255.255.254", "localhost", "LOCALHOST", "localhost.",
    "0.0.0.0", "0", "0x0", "00", "10.0.0.1", "10.255.255.255", "172.16.0.1", "172.31.255.255",
    "192.168.0.1", "192.168.255.255", "100.64.0.1", "100.127.255.254", "169.254.169.254",
    "169.254.170.2", "169.254.169.253", "2852039166", "0xa9fea9fe", "0251.0376.0251.0376",
    "168.63.129.16", "100.100.100.200", "192.0.0.1", "192.0.2.1", "198.18.0.1", "198.51.100.7",
    "203.0.113.7", "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255", "192.88.99.1",
    "[::1]", "[::]", "[0:0:0:0:0:0:0:1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]",
    "[::ffff:169.254.169.254]", "[::ffff:a9fe:a9fe]", "[::127.0.0.1]", "[fe80::1]", "[fec0::1]",
    "[fc00::1]", "[fd00:ec2::254]", "[ff02::1]", "[64:ff9b::7f00:1]", "[64:ff9b::a9fe:a9fe]",
    "[2002:7f00:1::]", "[2001:db8::1]", "[2001::1]", "[100::1]",
]  # fmt: skip
PUBLIC = ["1.1.1.1", "8.8.8.8", "93.184.216.34", "2606:4700:4700::1111", "2a00:1450:4001::200e"]


class Listener:
    """Counts connections on every loopback address the guard could leak to."""

    def __init__(self) -> None:
        self.connections = 0
        self.port = 0
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Listener:
        async def met(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self.connections += 1
            writer.close()

        self._server = await asyncio.start_server(met, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        await self._server.wait_closed()


@pytest.mark.parametrize("host", SPELLINGS)
async def test_n1_no_spelling_is_dialled(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    _resolve_like_the_system(monkeypatch)
    async with Listener() as listener:
        client = UpstreamClient(guard=Guard())
        try:
            with pytest.raises(UpstreamUnreachable):
                await client.send("GET", f"http://{host}:{listener.port}/", headers={})
        finally:
            await client.close()
        assert listener.connections == 0


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_pass(address: str) -> None:
    Guard().check(address, 443)


@pytest.mark.parametrize("resolved", ["127.0.0.1", "10.1.2.3", "169.254.169.254", "::1"])
async def test_n1_names_that_resolve_to_private_addresses(
    resolved: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Listener() as listener:
        _resolve_to(monkeypatch, [resolved])
        client = UpstreamClient(guard=Guard())
        try:
            with pytest.raises(AddressRefused, match="UPSTREAM_ALLOWED_NETWORKS"):
                await client.send("GET", f"http://evil.example:{listener.port}/", headers={})
        finally:
            await client.close()
        assert listener.connections == 0


async def test_n2_alternating_answers_leak_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The address that is dialled is the one that is checked: a second look-up cannot differ."""
    async with Listener() as listener:
        for turn in range(1000):
            _resolve_to(monkeypatch, ["127.0.0.1"] if turn % 2 else ["10.0.0.1", "127.0.0.1"])
            client = UpstreamClient(guard=Guard())
            try:
                with pytest.raises(AddressRefused):
                    await client.send("GET", f"http://a{turn}.example:{listener.port}/", headers={})
            finally:
                await client.close()
        assert listener.connections == 0


async def test_an_opened_endpoint_is_dialled_and_only_on_its_port() -> None:
    async with Listener() as listener:
        guard = Guard([f"127.0.0.1:{listener.port}"])
        guard.check("127.0.0.1", listener.port)
        with pytest.raises(ForbiddenAddress):
            guard.check("127.0.0.1", listener.port + 1)
        with pytest.raises(ForbiddenAddress):
            guard.check("127.0.0.2", listener.port)


@pytest.mark.parametrize(
    ("text", "address", "port", "covered"),
    [
        ("10.1.0.0/16", "10.1.2.3", 80, True),
        ("10.1.0.0/16", "10.2.2.3", 80, False),
        ("127.0.0.1:8000", "127.0.0.1", 8000, True),
        ("127.0.0.1:8000", "127.0.0.1", 8001, False),
        ("[::1]:8000", "::1", 8000, True),
        ("[fd00::]/8", "fd00::1", 1, None),
        ("fd00::/8", "fd12::1", 1, True),
    ],
)
def test_allowed_endpoints(text: str, address: str, port: int, covered: bool | None) -> None:
    import ipaddress

    if covered is None:
        with pytest.raises(ValueError):
            AllowedEndpoint(text)
        return
    assert AllowedEndpoint(text).covers(ipaddress.ip_address(address), port) is covered


def _resolve_like_the_system(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names and numeric oddities as a C library reads them, without asking a name server."""

    async def getaddrinfo(
        self: asyncio.BaseEventLoop, host: Any, port: Any, **kwargs: Any
    ) -> list[Any]:
        name = str(host).rstrip(".").lower()
        try:
            address = (
                "127.0.0.1" if name == "localhost" else socket.inet_ntoa(socket.inet_aton(name))
            )
        except OSError:
            raise socket.gaierror(socket.EAI_NONAME, "unknown name") from None
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", getaddrinfo)


def _resolve_to(monkeypatch: pytest.MonkeyPatch, addresses: list[str]) -> None:
    async def getaddrinfo(
        self: asyncio.BaseEventLoop, host: Any, port: Any, **kwargs: Any
    ) -> list[Any]:
        return [
            (
                socket.AF_INET6 if ":" in address else socket.AF_INET,
                socket.SOCK_STREAM,
                6,
                "",
                (address, port, 0, 0) if ":" in address else (address, port),
            )
            for address in addresses
        ]

    monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", getaddrinfo)
