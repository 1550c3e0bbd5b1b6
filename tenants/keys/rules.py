"""What a key may be limited to: which texts are accepted, and what they allow. Pure."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Final

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address

# Model names as vendors write them, and `*` and `?`.
_MODEL_PATTERN: Final = re.compile(r"[A-Za-z0-9*?][A-Za-z0-9._:/@+*?-]{0,199}")


def model_patterns(texts: Iterable[str]) -> re.Pattern[str] | None:
    """One expression for all globs (`*` any text, `?` one character, case matters).

    None = no limit. Raises ValueError naming a text that is no model name or glob.
    """
    expressions = []
    for text in texts:
        if not _MODEL_PATTERN.fullmatch(text):
            raise ValueError(
                f"{text!r} is no model name: use letters, digits and . _ : / @ + -, "
                "with * for any text and ? for one character."
            )
        expressions.append(_expression(text))
    return re.compile("|".join(expressions)) if expressions else None


def _expression(glob: str) -> str:
    """Each inner piece is taken where it first fits, and that choice is final (an atomic
    group): enough for globs, and no pattern of a tenant's can make the match slow."""
    first, *rest = [re.escape(piece).replace(r"\?", ".") for piece in glob.split("*")]
    if not rest:
        return first
    *inner, last = rest
    return first + "".join(f"(?>.*?{piece})" for piece in inner if piece) + ".*" + last


def networks(texts: Iterable[str]) -> tuple[Network, ...]:
    """Raises ValueError naming a text that is no address or CIDR range."""
    found = []
    for text in texts:
        try:
            found.append(ipaddress.ip_network(text))
        except ValueError as error:
            raise ValueError(
                f"{text!r} is no address range: write it like 203.0.113.0/24 or 2001:db8::/32 "
                f"({error})."
            ) from None
    return tuple(found)


def permits(texts: Iterable[str], caller: str) -> bool:
    """Whether a key limited to these networks may be used from this address. No limit: always;
    an address nobody knows is in no network."""
    limits = networks(texts)
    known = address(caller)
    return not limits or (known is not None and any(known in limit for limit in limits))


@lru_cache(maxsize=4096)
def address(text: str) -> Address | None:
    """None when the text is no address. IPv4 inside IPv6 counts as IPv4."""
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped:
        return found.ipv4_mapped
    return found
