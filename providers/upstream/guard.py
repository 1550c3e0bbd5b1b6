"""Which addresses may be dialled. Checked where the socket is made, on the address itself,
so that spelling, DNS tricks and second look-ups cannot get around it (bars N1, N2)."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable
from typing import Any, Final

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

# Our own table: the standard library's `is_global` misses some of these. Sources: IANA
# special-purpose registries, the metadata addresses of the large clouds.
_DENIED_TEXT: Final = (
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.0.2.0/24",
    "192.31.196.0/24",
    "192.52.193.0/24",
    "192.88.99.0/24",
    "192.168.0.0/16",
    "192.175.48.0/24",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "224.0.0.0/4",
    "240.0.0.0/4",
    # Azure's wire server and Alibaba's metadata service sit on otherwise public addresses.
    "168.63.129.16/32",
    "100.100.100.200/32",
    "::/96",
    "64:ff9b::/96",
    "64:ff9b:1::/48",
    "100::/64",
    "2001::/23",
    "2001:db8::/32",
    "2002::/16",
    "3fff::/20",
    "5f00::/16",
    "fc00::/7",
    "fe80::/10",
    "fec0::/10",
    "ff00::/8",
    # AWS's metadata address on IPv6 lies in fc00::/7; named for the reader.
    "fd00:ec2::254/128",
)
_DENIED: Final[tuple[Network, ...]] = tuple(ipaddress.ip_network(text) for text in _DENIED_TEXT)
# IPv6 notations that carry an IPv4 address: the inner one is what is reached.
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")


class ForbiddenAddress(OSError):
    """An OSError, so that a connector tries the name's next address before giving up."""


class AllowedEndpoint:
    """A network the operator opened, for one port or for all: `10.1.0.0/16`, `127.0.0.1:8000`."""

    __slots__ = ("network", "port")

    def __init__(self, text: str) -> None:
        host, port = text, 0
        if text.startswith("["):
            inner, _, tail = text[1:].partition("]")
            if tail and not tail.startswith(":"):
                raise ValueError(f"{text!r}: write the prefix length inside the brackets")
            host, port = inner, int(tail[1:] or 0)
        elif text.count(":") == 1:
            host, _, tail = text.partition(":")
            port = int(tail)
        self.network: Network = ipaddress.ip_network(host, strict=True)
        self.port = port

    def covers(self, address: ipaddress.IPv4Address | ipaddress.IPv6Address, port: int) -> bool:
        return (
            address.version == self.network.version
            and address in self.network
            and self.port in (0, port)
        )


class Guard:
    """`socket_factory` for a connector: makes the socket only for an address we may dial."""

    def __init__(self, allowed: Iterable[str] = ()) -> None:
        self._allowed = tuple(AllowedEndpoint(text) for text in allowed)

    def allow(self, text: str) -> None:
        """Open one more endpoint while running."""
        self._allowed = (*self._allowed, AllowedEndpoint(text))

    def check(self, host: str, port: int) -> None:
        """Raises ForbiddenAddress. `host` is the numeric address about to be dialled."""
        address = ipaddress.ip_address(host.partition("%")[0])
        candidates: list[ipaddress.IPv4Address | ipaddress.IPv6Address] = [address]
        if isinstance(address, ipaddress.IPv6Address):
            inner = address.ipv4_mapped or address.sixtofour
            if inner is None and address in _NAT64:
                inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
            if inner is not None:
                candidates = [inner] if address.ipv4_mapped else [address, inner]
        for candidate in candidates:
            if any(endpoint.covers(candidate, port) for endpoint in self._allowed):
                continue
            if any(
                candidate.version == network.version and candidate in network for network in _DENIED
            ):
                raise ForbiddenAddress(f"refused to dial {host}")

    def __call__(self, addr_info: tuple[Any, ...]) -> socket.socket:
        family, kind, proto, _, sockaddr = addr_info
        self.check(sockaddr[0], sockaddr[1])
        made = socket.socket(family=family, type=kind, proto=proto)
        made.setblocking(False)
        return made
