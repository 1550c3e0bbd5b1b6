"""What a key looks like, and how one is recognised. Pure.

    pcp_live_<public id: 12>_<256 random bits: 43><CRC32: 6>

Letters and digits only after the prefix, so that a double click selects a whole key and a leak
scanner needs one expression (`LEAK_PATTERN`); the checksum tells it, and us, a real key from a
mistyped or invented one without asking anybody. What is stored is HMAC-SHA256 of the whole
text under a pepper, and the whole digest is what is looked up.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final
from zlib import crc32

ALPHABET: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
PUBLIC_ID_LENGTH: Final = 12
SECRET_BYTES: Final = 32
_SECRET_LENGTH: Final = 43  # 62**43 > 2**256
_CHECKSUM_LENGTH: Final = 6  # 62**6 > 2**32
LEAK_PATTERN: Final = r"pcp_(live|invite)_[0-9A-Za-z]{12}_[0-9A-Za-z]{49}"


class TokenKind(StrEnum):
    LIVE = "live"  # a tenant's API key
    INVITE = "invite"  # joins a tenant, once


@dataclass(frozen=True, slots=True)
class ParsedKey:
    """A token whose checksum is right. Says nothing about whether it is anybody's."""

    kind: TokenKind
    public_id: str
    token: str = field(repr=False)


_TOKEN: Final = re.compile(
    rf"pcp_({'|'.join(TokenKind)})_([0-9A-Za-z]{{{PUBLIC_ID_LENGTH}}})"
    rf"_[0-9A-Za-z]{{{_SECRET_LENGTH}}}([0-9A-Za-z]{{{_CHECKSUM_LENGTH}}})"
)
_AFTER_PREFIX: Final = PUBLIC_ID_LENGTH + 1 + _SECRET_LENGTH + _CHECKSUM_LENGTH
_LONGEST: Final = max(len(f"pcp_{kind}_") for kind in TokenKind) + _AFTER_PREFIX
LIVE_LENGTH: Final = len(f"pcp_{TokenKind.LIVE}_") + _AFTER_PREFIX


def base62(number: int, length: int) -> str:
    digits = []
    for _ in range(length):
        number, remainder = divmod(number, 62)
        digits.append(ALPHABET[remainder])
    return "".join(reversed(digits))


def render(kind: TokenKind, public_id: str, secret: bytes) -> str:
    """The token for these parts; `secret` is SECRET_BYTES of randomness."""
    if len(secret) != SECRET_BYTES:
        raise ValueError(f"A key holds {SECRET_BYTES} random bytes, not {len(secret)}.")
    body = f"pcp_{kind}_{public_id}_{base62(int.from_bytes(secret, 'big'), _SECRET_LENGTH)}"
    return body + _checksum(body)


def parse(token: str, kind: TokenKind = TokenKind.LIVE) -> ParsedKey | None:
    """None unless the text is a well-formed token of this kind with a right checksum."""
    if len(token) > _LONGEST:
        return None
    found = _TOKEN.fullmatch(token)
    if found is None or found[1] != kind or found[3] != _checksum(token[:-_CHECKSUM_LENGTH]):
        return None
    return ParsedKey(kind=kind, public_id=found[2], token=token)


def digest(token: str, pepper: bytes) -> bytes:
    return hmac.digest(pepper, token.encode(), "sha256")


def digests(token: str, peppers: Iterable[bytes]) -> list[bytes]:
    """Where this token may be found: one digest per pepper of the ring, the newest first."""
    return [digest(token, pepper) for pepper in peppers]


def _checksum(body: str) -> str:
    return base62(crc32(body.encode("ascii")), _CHECKSUM_LENGTH)
