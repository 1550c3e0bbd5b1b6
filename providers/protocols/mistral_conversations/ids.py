"""Mistral's call ids: exactly nine letters and digits (trap 30)."""

from __future__ import annotations

import hashlib
import re
from typing import Final

LENGTH: Final = 9
_VALID: Final = re.compile(r"[A-Za-z0-9]{9}\Z")
_ALPHABET: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"


def short_id(text: str) -> str:
    """Nine characters that depend on the text alone, so that every turn sends the same."""
    number = int.from_bytes(hashlib.sha256(text.encode("utf-8", "replace")).digest()[:8])
    out = []
    for _ in range(LENGTH):
        number, index = divmod(number, len(_ALPHABET))
        out.append(_ALPHABET[index])
    return "".join(out)


class CallIds:
    """Client ids to wire ids for one conversation: valid, unique, and found again."""

    def __init__(self) -> None:
        self._taken: set[str] = set()
        self.restore: dict[str, str] = {}

    def take(self, call_id: str) -> str:
        """The wire id of a call. Two calls never share one, even where the client's did."""
        wire = call_id if _VALID.match(call_id) else short_id(call_id)
        repeat = 1
        while wire in self._taken:
            repeat += 1
            wire = short_id(f"{call_id}\x00{repeat}")
        self._taken.add(wire)
        if wire != call_id:
            self.restore[wire] = call_id
        return wire
