"""Whose address a request came from: the peer's, unless the peer is a proxy we were told about."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from functools import lru_cache

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@lru_cache(maxsize=16)
def networks(texts: tuple[str, ...]) -> tuple[Network, ...]:
    """Addresses or CIDR ranges as networks. Raises ValueError naming the bad one."""
    return tuple(ipaddress.ip_network(text, strict=False) for text in texts)


def client_address(peer: str, forwarded_for: str, trusted: Sequence[str]) -> str:
    """The caller's address.

    `forwarded_for` (the X-Forwarded-For header) counts only when `peer` is a trusted proxy; it is
    read from the right, because each proxy appends what it saw and only the rightmost entries
    were written by proxies of ours. The first entry that is not a trusted proxy is the caller.
    """
    proxies = networks(tuple(trusted))
    caller = plain(peer)
    if not proxies:
        return caller
    entries = [entry.strip() for entry in forwarded_for.split(",") if entry.strip()]
    while _is_in(caller, proxies) and entries:
        entry = plain(entries.pop())
        if not _is_address(entry):
            break  # a caller's invention: the proxy that passed it on is the last we know
        caller = entry
    return caller


@lru_cache(maxsize=1024)
def plain(text: str) -> str:
    """One spelling per address: no port, brackets or zone, IPv4 written as IPv4."""
    text = text.strip().strip('"')
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return text
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        return str(address.ipv4_mapped)
    return str(address)


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _is_in(text: str, ranges: Sequence[Network]) -> bool:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    return any(address in network for network in ranges)
