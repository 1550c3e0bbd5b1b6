"""Where a registration may point, looked at when it is saved.

This is for early, helpful sentences. What holds is the guard that looks at each address as it is
dialled (providers/upstream/guard.py): names are not resolved here.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Sequence
from typing import Final, Literal
from urllib.parse import urlsplit

from controlplane.kit.errors import FaultKind
from providers.errors import ProviderError
from providers.upstream.guard import ForbiddenAddress, Guard

Owner = Literal["platform", "tenant"]
Origin = tuple[str, str, int]

_PORTS: Final = {"http": 80, "https": 443}
# What is said through a proxy is encrypted for the provider: the way to it need not be.
_PROXY_PORTS: Final = {"http": 80, "socks5": 1080, "socks5h": 1080}
# Visible ASCII without what splits, quotes or escapes in a URL (bars N4, N5).
_URL: Final = re.compile(
    r"[A-Za-z0-9]{4,7}://[A-Za-z0-9.:\[\]_-]+(?:/[A-Za-z0-9._~!$&'()*+,;=:%/-]*)?\Z"
)
_HOST: Final = re.compile(
    r"(?=.{1,253}\Z)(?:[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?\.?)+\Z"
)
# Numbers in any base: what the C library reads as an address and a person does not.
_NUMERIC: Final = re.compile(
    r"(?:0[xX][0-9A-Fa-f]*|[0-9]+)(?:\.(?:0[xX][0-9A-Fa-f]*|[0-9]+)){0,3}\.?\Z"
)
_ENCODED: Final = re.compile(
    r"%(?![0-9A-Fa-f]{2})|%(?:2[eEfF]|5[cC]|0[0-9a-fA-F]|1[0-9a-fA-F]|7[fF])"
)
# Names that mean this machine or its neighbours, wherever they are asked for.
_NEIGHBOURS: Final = (".localhost", ".local", ".internal", ".home.arpa", ".localdomain", ".lan")


class BadAddress(ProviderError):
    """A URL that is none, or that this owner may not use."""

    kind = FaultKind.BAD_REQUEST
    code = "bad_address"


def origin_of(url: str) -> Origin:
    """Scheme, host and port: what decides who gets a secret."""
    parts = urlsplit(url)
    return (
        parts.scheme,
        (parts.hostname or "").rstrip("."),
        parts.port or _PORTS.get(parts.scheme, 0),
    )


def check_url(
    url: str, *, owner: Owner, allowed: Sequence[str], param: str, is_proxy: bool = False
) -> Origin:
    """Raises BadAddress in one sentence. `allowed` are the networks the operator opened for this
    owner."""
    what = "proxy URL" if is_proxy else "base URL"

    def refuse(reason: str) -> BadAddress:
        return BadAddress(f"The {what} {url[:100]!r} {reason}.", param=param)

    if len(url) > 500:
        raise refuse("is longer than 500 characters")
    if "@" in url:
        raise refuse("holds a name or password: credentials are stored apart from it, sealed")
    if "?" in url or "#" in url:
        raise refuse("has a query or fragment: give only scheme, host, port and path")
    if not _URL.match(url):
        usual = "http://proxy.example.com:3128" if is_proxy else "https://api.example.com/v1"
        raise refuse(f"is no address: write it like {usual}")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise refuse("has a host or port that does not exist") from None
    scheme = parts.scheme.lower()
    ports = _PROXY_PORTS if is_proxy else _PORTS
    if scheme not in ports:
        if is_proxy:
            raise refuse("must begin with http:// or socks5://")
        raise refuse("must begin with https:// (or http:// for a private network)")
    if port == 0:
        raise refuse("has a port that does not exist")
    if _ENCODED.search(parts.path) or any(part in {".", ".."} for part in parts.path.split("/")):
        raise refuse("has a path with dots or escaped separators: write it plainly")
    _check_host(host, port or ports[scheme], owner, allowed, refuse)
    if owner == "tenant" and scheme == "http" and not allowed and not is_proxy:
        raise refuse("would send credentials unencrypted: use https://")
    return scheme, host.rstrip("."), port or ports[scheme]


def _check_host(
    host: str, port: int, owner: Owner, allowed: Sequence[str], refuse: Callable[[str], BadAddress]
) -> None:
    literal = _literal(host)
    if literal is None:
        if _NUMERIC.match(host):
            raise refuse("spells an address in an unusual way: write it as four decimal numbers")
        if not _HOST.match(host):
            raise refuse("has a host that is no name")
        literal = _LOOPBACK if host.rstrip(".").lower() == "localhost" else None
    # The platform's own private registrations are opened at run time too (the simulator's).
    if owner == "platform":
        return
    if literal is not None:
        try:
            Guard(allowed).check(str(literal), port)
        except ForbiddenAddress:
            raise refuse(
                "is a private or reserved address, which the operator has not opened for tenants"
            ) from None
        return
    name = host.rstrip(".").lower()
    if not allowed and ("." not in name or name.endswith(_NEIGHBOURS)):
        raise refuse("names a private host, and the operator has opened no network for tenants")


_LOOPBACK: Final = ipaddress.ip_address("127.0.0.1")


def _literal(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None
