"""Whose address a proxied request came from. Pure; the walk itself is in kit/addresses.py."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from controlplane.kit.addresses import client_address, networks

_FORWARDED_FOR: Final = b"x-forwarded-for"


def caller_address(
    peer: str, headers: Iterable[tuple[bytes, bytes]], trusted_proxies: Sequence[str]
) -> str:
    """The caller's address, or "" when nobody knows it (no limit by address lets that pass).

    X-Forwarded-For counts only from a peer in `trusted_proxies`, in that spelling alone:
    `X_Forwarded_For` is what a caller writes past a proxy that replaces the other. Nothing is
    trusted for being loopback or private."""
    if not trusted_proxies:
        return client_address(peer, "", ())
    lines = [value for name, value in headers if name.lower() == _FORWARDED_FOR]
    return client_address(peer, b",".join(lines).decode("latin-1"), trusted_proxies)


def trusted_proxies(texts: Sequence[str]) -> tuple[str, ...]:
    """The setting, checked once. Raises ValueError that says what to set."""
    for text in texts:
        try:
            networks((text,))
        except ValueError as error:
            raise ValueError(
                f"Set TRUSTED_PROXIES to addresses or CIDR ranges; {text!r} is none ({error})."
            ) from None
    return tuple(texts)
