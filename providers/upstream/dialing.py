"""From a URL to a connected socket: names are looked up here, addresses checked where the socket is
made, proxies of a registration asked, TLS begun and always verified (bars N1-N3, N6)."""

from __future__ import annotations

import asyncio
import base64
import ipaddress
import socket
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import aiohappyeyeballs
from yarl import URL

from providers.errors import (
    AddressRefused,
    NameNotFound,
    TlsFailed,
    UpstreamTimeout,
    UpstreamUnreachable,
)
from providers.upstream.connection import Connection
from providers.upstream.guard import ForbiddenAddress, Guard

DNS_SECONDS: Final = 10.0
MAX_PROXY_ANSWER: Final = 16 * 1024
_REFUSED: Final = (
    "The provider's address is private or reserved. The operator can open it with "
    "UPSTREAM_ALLOWED_NETWORKS."
)
_NO_URL: Final = "The provider's base URL is not a valid URL."
AddressInfo = tuple[int, int, int, str, Any]


@dataclass(frozen=True, slots=True)
class Place:
    """Where connections are the same: what the pool keeps them by."""

    host: str
    port: int
    is_tls: bool


@lru_cache(maxsize=4096)
def parsed(text: str) -> tuple[Place, str, str]:
    """The place, the Host header and the request target of a URL. Raises UpstreamUnreachable."""
    try:
        url = URL(text, encoded=True)
        host, port = url.raw_host, url.port
    except ValueError:
        raise UpstreamUnreachable(_NO_URL) from None
    if not host or not port or url.scheme not in ("http", "https"):
        raise UpstreamUnreachable(_NO_URL)
    target = url.raw_path_qs or "/"
    shown = f"[{host}]" if ":" in host else host
    if not url.is_default_port():
        shown += f":{port}"
    if not (target + shown).isprintable() or " " in target + shown:
        raise UpstreamUnreachable(_NO_URL)
    return Place(host, port, url.scheme == "https"), shown, target


@lru_cache(maxsize=64)
def tls(ca_certificate: str) -> ssl.SSLContext:
    """Reading the system's certificates costs 30 ms: once per CA, not per client."""
    return ssl.create_default_context(cadata=ca_certificate or None)


class Dialer:
    """Opens connections under one guard, one CA and perhaps one proxy."""

    def __init__(self, guard: Guard, ca_certificate: str = "", proxy: str | None = None) -> None:
        self._guard = guard
        self._ca_certificate = ca_certificate
        self._proxy = proxy
        self._known: dict[tuple[str, int], tuple[float, list[AddressInfo]]] = {}

    async def connect(
        self, place: Place, on_lost: Callable[[Connection], None], seconds: float
    ) -> Connection:
        """Raises a leaf of ProviderError."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(seconds):
                sock = await self._socket(place, loop)
                try:
                    _, connection = await loop.create_connection(
                        lambda: Connection(loop, on_lost),
                        sock=sock,
                        ssl=tls(self._ca_certificate) if place.is_tls else None,
                        server_hostname=place.host if place.is_tls else None,
                    )
                except BaseException:
                    sock.close()
                    raise
                return connection
        except TimeoutError:
            raise UpstreamTimeout("The upstream could not be reached in time.") from None
        except ssl.SSLCertVerificationError:
            raise TlsFailed("The upstream's TLS certificate is not trusted.") from None
        except ssl.SSLError as error:
            raise TlsFailed(f"TLS with the upstream failed ({error.reason}).") from None
        except ForbiddenAddress:
            raise AddressRefused(_REFUSED) from None
        except OSError:
            raise UpstreamUnreachable("The upstream refused the connection.") from None

    async def _socket(self, place: Place, loop: asyncio.AbstractEventLoop) -> socket.socket:
        if self._proxy is None:
            return await self._dial(place.host, place.port, loop)
        # A proxy looks names up itself; an address that we would not dial it must not either.
        literal = _literal(place.host, place.port)
        if literal is not None and self._forbids(literal):
            raise AddressRefused(_REFUSED)
        url = URL(self._proxy)
        if url.scheme not in ("http", "socks5", "socks5h") or not url.raw_host:
            raise UpstreamUnreachable("The outbound proxy must be http:// or socks5://.")
        sock = await self._dial(url.raw_host, url.port or 1080, loop)
        try:
            if url.scheme.startswith("socks5"):
                await _through_socks(sock, place, url, loop)
            else:
                await _through_connect(sock, place, url, loop)
        except BaseException:
            sock.close()
            raise
        return sock

    async def _dial(self, host: str, port: int, loop: asyncio.AbstractEventLoop) -> socket.socket:
        addresses = await self._addresses(host, port, loop)
        if all(self._forbids(address) for address in addresses):
            raise AddressRefused(_REFUSED)
        sock = await aiohappyeyeballs.start_connection(
            addresses,
            happy_eyeballs_delay=0.25,
            interleave=1,
            loop=loop,
            socket_factory=self._guard,
        )
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock

    def _forbids(self, address: AddressInfo) -> bool:
        """For the right words only: what decides is the guard that makes the socket."""
        try:
            self._guard.check(address[4][0], address[4][1])
        except ForbiddenAddress:
            return True
        return False

    async def _addresses(
        self, host: str, port: int, loop: asyncio.AbstractEventLoop
    ) -> Sequence[AddressInfo]:
        literal = _literal(host, port)
        if literal is not None:
            return [literal]
        known = self._known.get((host, port))
        if known is not None and known[0] > loop.time():
            return known[1]
        try:
            found: list[AddressInfo] = list(
                await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            )
        except (socket.gaierror, UnicodeError):
            raise NameNotFound("The provider's host name cannot be resolved.") from None
        if len(self._known) > 1024:
            self._known.clear()
        self._known[host, port] = (loop.time() + DNS_SECONDS, found)
        return found


def _literal(host: str, port: int) -> AddressInfo | None:
    """An address needs no look-up. Odd spellings of one are names, which the system resolves."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    if address.version == 6:
        return socket.AF_INET6, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (host, port, 0, 0)
    return socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (host, port)


# --- proxies of a registration ------------------------------------------------------------------


async def _through_connect(
    sock: socket.socket, place: Place, proxy: URL, loop: asyncio.AbstractEventLoop
) -> None:
    """An HTTP proxy, also for plain HTTP: it then sees addresses and no requests."""
    host = f"[{place.host}]" if ":" in place.host else place.host
    lines = [f"CONNECT {host}:{place.port} HTTP/1.1", f"Host: {host}:{place.port}"]
    if proxy.user is not None:
        secret = base64.b64encode(f"{proxy.user}:{proxy.password or ''}".encode()).decode()
        lines.append(f"Proxy-Authorization: Basic {secret}")
    await loop.sock_sendall(sock, "\r\n".join([*lines, "", ""]).encode("ascii"))
    answer = b""
    while b"\r\n\r\n" not in answer:
        # One at a time at the end: what follows is the other side's already.
        data = await loop.sock_recv(sock, 1)
        answer += data
        if not data or len(answer) > MAX_PROXY_ANSWER:
            raise UpstreamUnreachable("The outbound proxy broke the connection.")
    status = answer.split(b" ", 2)[1:2]
    if status != [b"200"]:
        shown = status[0][:3].decode("latin-1") if status else "none"
        raise UpstreamUnreachable(f"The outbound proxy refused (status {shown}).")


async def _through_socks(
    sock: socket.socket, place: Place, proxy: URL, loop: asyncio.AbstractEventLoop
) -> None:
    """SOCKS 5 (RFC 1928), the proxy resolving names; with user and password where it has some."""
    wants_login = proxy.user is not None
    await loop.sock_sendall(sock, b"\x05\x01\x02" if wants_login else b"\x05\x01\x00")
    version, method = await _exactly(sock, 2, loop)
    if version != 5 or method != (2 if wants_login else 0):
        raise UpstreamUnreachable("The outbound proxy wants another way to sign in.")
    if wants_login:
        user, password = (proxy.user or "").encode()[:255], (proxy.password or "").encode()[:255]
        login = b"\x01" + bytes([len(user)]) + user + bytes([len(password)]) + password
        await loop.sock_sendall(sock, login)
        if (await _exactly(sock, 2, loop))[1] != 0:
            raise UpstreamUnreachable("The outbound proxy refused its user and password.")
    literal = _literal(place.host, place.port)
    if literal is None:
        name = place.host.encode("ascii")[:255]
        target = b"\x03" + bytes([len(name)]) + name
    else:
        packed = ipaddress.ip_address(place.host).packed
        target = (b"\x01" if len(packed) == 4 else b"\x04") + packed
    await loop.sock_sendall(sock, b"\x05\x01\x00" + target + place.port.to_bytes(2, "big"))
    _, reply, _, kind = await _exactly(sock, 4, loop)
    if reply != 0:
        raise UpstreamUnreachable(f"The outbound proxy could not connect (reply {reply}).")
    length = {1: 4, 4: 16}.get(kind)
    if length is None:
        length = (await _exactly(sock, 1, loop))[0]
    await _exactly(sock, length + 2, loop)


async def _exactly(sock: socket.socket, count: int, loop: asyncio.AbstractEventLoop) -> bytes:
    data = b""
    while len(data) < count:
        piece = await loop.sock_recv(sock, count - len(data))
        if not piece:
            raise UpstreamUnreachable("The outbound proxy broke the connection.")
        data += piece
    return data
