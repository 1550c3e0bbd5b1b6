"""Tool names and call ids that a target would refuse, changed so that they can be restored."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from typing import Final

SAFE: Final = re.compile(r"[A-Za-z0-9_-]+\Z")
_UNSAFE_CHARACTER: Final = re.compile(r"[^A-Za-z0-9_-]")


def digest(text: str, length: int) -> str:
    """Deterministic over turns and processes: prompt caches depend on it (trap 50)."""
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:length]


def safe_id(value: str, limit: int, allowed: re.Pattern[str] = SAFE) -> str:
    """`value` if the target accepts it, else sanitised and cut by hash, never by plain
    truncation: two ids may share a prefix. The same function serves a call and its result."""
    if len(value) <= limit and allowed.match(value) and not value.endswith("_"):
        return value
    stem = _UNSAFE_CHARACTER.sub("_", value)[: limit - 9].strip("_")
    return f"{stem}_{digest(value, 8)}" if stem else f"id_{digest(value, 8)}"


class NameMap:
    """Client tool names to wire names for one request. Collisions get a hashed tail.

    Direct (already valid) names win over sanitised ones (trap 69).
    """

    def __init__(
        self, names: Iterable[str], *, limit: int = 64, allowed: re.Pattern[str] = SAFE
    ) -> None:
        self._limit = limit
        self._allowed = allowed
        self._wire: dict[str, str] = {}
        self._taken: set[str] = set()
        changed = []
        for name in dict.fromkeys(names):
            if self._is_valid(name):
                self._wire[name] = name
                self._taken.add(name)
            else:
                changed.append(name)
        for name in changed:
            self._add(name)

    def _is_valid(self, name: str) -> bool:
        return 0 < len(name) <= self._limit and self._allowed.match(name) is not None

    def _add(self, name: str) -> str:
        cleaned = _UNSAFE_CHARACTER.sub("_", name)
        if not cleaned or not (cleaned[0].isalpha() or cleaned[0] == "_"):
            cleaned = "t_" + cleaned
        candidate = cleaned
        if len(candidate) > self._limit or candidate in self._taken:
            candidate = f"{cleaned[: self._limit - 9]}_{digest(name, 8)}"
        self._wire[name] = candidate
        self._taken.add(candidate)
        return candidate

    def wire(self, name: str) -> str:
        """The name to send; names that were not declared (history only) are added."""
        known = self._wire.get(name)
        if known is not None:
            return known
        if self._is_valid(name) and name not in self._taken:
            self._wire[name] = name
            self._taken.add(name)
            return name
        return self._add(name)

    def restore(self) -> dict[str, str]:
        """Wire name to client name, only where they differ."""
        return {wire: name for name, wire in self._wire.items() if wire != name}
