"""Changes to JSON that leave every other byte as it was.

Positions come from one C-speed pass (msgspec.Raw) and a walk over the keys; values that do
not change are never re-serialised.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from controlplane.kit.json import loads
from providers.protocols.errors import LocalProtocolError
from providers.protocols.members import Members

_members: Final = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_elements: Final = msgspec.json.Decoder(list[msgspec.Raw]).decode
_KEY: Final = re.compile(rb'[\s,{]*("(?:[^"\\]|\\.)*")\s*:\s*', re.DOTALL)
_GAP: Final = re.compile(rb"[\s,\[]*")
_END: Final = re.compile(rb"\s*}\s*\Z")


class Object:
    """One JSON object as bytes: read where its members are, set or drop some, render."""

    __slots__ = ("_dropped", "_names", "_raw", "_spans", "_values")

    def __init__(self, raw: bytes, path: str = "", body: Mapping[str, Any] | None = None) -> None:
        """`body` = the same object; where it knows its members, they are not looked for again."""
        self._raw = raw
        self._values: dict[str, bytes] = {}
        self._names: dict[str, str] = {}
        self._dropped: set[str] = set()
        # key -> start of its text, start and end of its value
        self._spans: dict[str, tuple[int, int, int]] = {}
        try:
            members = body.raws() if isinstance(body, Members) else _members(raw)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise LocalProtocolError("The body is not a JSON object.", param=path or None) from None
        position = 0
        for key, value in members.items():
            match = _KEY.match(raw, position)
            # Most keys stand there as they are: only one with an escape has to be read.
            if match is None or (
                match.group(1) != b'"%b"' % key.encode("utf-8", "surrogatepass")
                and loads(match.group(1)) != key
            ):
                raise _twice(path)
            start = match.end()
            position = start + memoryview(value).nbytes
            self._spans[key] = (match.start(1), start, position)
        if members and _END.match(raw, position) is None:
            raise _twice(path)

    def __contains__(self, key: str) -> bool:
        return key in self._spans

    def value(self, key: str) -> bytes:
        _, start, end = self._spans[key]
        return self._raw[start:end]

    def set(self, key: str, value: bytes) -> None:
        """Replaces the value where the member is, else adds it at the end. The last one counts."""
        self._values[key] = value

    def rename(self, key: str, to: str) -> None:
        self._names[key] = to

    def drop(self, key: str) -> None:
        self._dropped.add(key)

    def _key_end(self, start: int) -> int:
        match = _KEY.match(self._raw, start)
        assert match is not None
        return match.end(1)

    def _edits(self) -> list[tuple[int, int, bytes]]:
        edits: list[tuple[int, int, bytes]] = []
        for key, value in self._values.items():
            span = self._spans.get(key)
            if span and key not in self._dropped and self._raw[span[1] : span[2]] != value:
                edits.append((span[1], span[2], value))
        for key, name in self._names.items():
            if key not in self._dropped:
                start = self._spans[key][0]
                edits.append((start, self._key_end(start), msgspec.json.encode(name)))
        return edits + self._cuts() if self._dropped else edits

    def render(self) -> bytes:
        edits = self._edits()
        added = [
            msgspec.json.encode(key) + b":" + value
            for key, value in self._values.items()
            if key not in self._spans
        ]
        if added:
            edits.append(self._end_with(added))
        return applied(self._raw, edits) if edits else self._raw

    def _end_with(self, added: list[bytes]) -> tuple[int, int, bytes]:
        """New members behind the last one that stays."""
        ends = [end for _, _, end in self._spans.values()]
        place = ends[-1] if ends else self._raw.rindex(b"}")
        comma = b"," if self._spans.keys() - self._dropped else b""
        return place, place, comma + b",".join(added)

    def _cuts(self) -> list[tuple[int, int, bytes]]:
        """Dropped members, each with the comma before it, the leading ones with that after."""
        cuts: list[tuple[int, int, bytes]] = []
        spans = list(self._spans.items())
        has_kept = False
        for number, (key, (start, _, end)) in enumerate(spans):
            if key not in self._dropped:
                has_kept = True
            elif has_kept:
                cuts.append((spans[number - 1][1][2], end, b""))
            else:
                after = spans[number + 1][1][0] if number + 1 < len(spans) else end
                cuts.append((start, after, b""))
        return cuts


def applied(raw: bytes, edits: Iterable[tuple[int, int, bytes]]) -> bytes:
    """`raw` with spans replaced; the spans do not overlap."""
    pieces: list[bytes] = []
    position = 0
    for start, end, value in sorted(edits):
        pieces += (raw[position:start], value)
        position = end
    pieces.append(raw[position:])
    return b"".join(pieces)


def elements(raw: bytes) -> list[tuple[int, int]]:
    """Where each element of a JSON array begins and ends."""
    spans: list[tuple[int, int]] = []
    position = 0
    for value in _elements(raw):
        gap = _GAP.match(raw, position)
        assert gap is not None
        start = gap.end()
        position = start + memoryview(value).nbytes
        spans.append((start, position))
    return spans


def _twice(path: str) -> LocalProtocolError:
    # Vendors and gateways disagree which of the two counts: nobody may exploit that.
    return LocalProtocolError(
        "A field occurs twice in the same JSON object. Send each field once.", param=path or None
    )
