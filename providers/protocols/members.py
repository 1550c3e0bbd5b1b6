"""The top of a JSON object that arrived, read in one pass: who asks for a member gets it decoded
then, and what nobody asks for is never decoded at all.

Reading a body of an agent whole costs more than everything else that is done for its request. The
one pass proves that the text is JSON; routing, limits and the relay then look at the few members
they need, and at the entries of a conversation as far as they are more than plain text.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec

from controlplane.kit.json import MAX_DEPTH, InvalidJSON, depth_exceeds, loads
from providers.protocols.errors import LocalProtocolError

# Where the dialects have their messages.
CONVERSATIONS: Final = ("messages", "input", "contents")
# An entry of one, with what nests in it as it stands in the text.
Entry = dict[str, bool | int | float | str | list[msgspec.Raw] | dict[str, msgspec.Raw] | None]

_members: Final = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_entries: Final = msgspec.json.Decoder(list[Entry]).decode
_NOTHING: Final = (b"null", b"false", b'""', b"[]", b"{}")


class Members(Mapping[str, Any]):
    """Reads like the dict that the object is. Making it raises msgspec.DecodeError,
    UnicodeDecodeError or RecursionError where the text is no JSON object; a member that is no
    value of ours raises LocalProtocolError when it is asked for."""

    __slots__ = ("_entries", "_parts", "_raws", "_values", "raw")

    def __init__(self, raw: bytes) -> None:
        if not raw.isascii():
            raw.decode()
        self.raw = raw
        self._raws = _members(raw)
        self._values: dict[str, Any] = {}
        self._entries: dict[str, list[Entry] | None] = {}
        self._parts: list[tuple[bytes, int]] | None = None

    def __getitem__(self, name: str) -> Any:
        if name not in self._values:
            try:
                self._values[name] = loads(bytes(self._raws[name]))
            except InvalidJSON as error:
                raise LocalProtocolError(
                    f"The body is not a JSON object that can be read: {error}.", param=name
                ) from None
        return self._values[name]

    def get(self, name: str, default: Any = None) -> Any:
        return self[name] if name in self._raws else default

    def __contains__(self, name: object) -> bool:
        return name in self._raws

    def __iter__(self) -> Iterator[str]:
        return iter(self._raws)

    def __len__(self) -> int:
        return len(self._raws)

    def raws(self) -> Mapping[str, msgspec.Raw]:
        """The members as they stand in the text, in its order."""
        return self._raws

    def text(self, name: str) -> bytes:
        """The member as it stands in the text; empty when it is not there."""
        raw = self._raws.get(name)
        return b"" if raw is None else bytes(raw)

    def says(self, name: str) -> bool:
        """Whether it is there and says something."""
        text = self.text(name)
        return bool(text) and (len(text) > 64 or b"".join(text.split()) not in _NOTHING)

    def entries(self, name: str) -> list[Entry] | None:
        """The objects of a list. None = it is not there, or is no list of objects."""
        if name not in self._entries:
            found: list[Entry] | None = None
            text = self.text(name)
            if text.startswith(b"["):
                try:
                    found = _entries(text)
                except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                    found = None
            self._entries[name] = found
        return self._entries[name]

    def parts(self) -> list[tuple[bytes, int]]:
        """Every list and object in the body, and how deep it stands: those of the conversation's
        entries one by one. Texts and numbers are left out, and so is most of the body."""
        if self._parts is None:
            found: list[tuple[bytes, int]] = []
            for name, raw in self._raws.items():
                entries = self.entries(name) if name in CONVERSATIONS else None
                if entries is not None:
                    _add_nested(entries, found)
                    continue
                text = bytes(raw)
                if text[0] in b"[{":
                    found.append((text, 1))
            self._parts = found
        return self._parts

    def depth_exceeds(self, limit: int = MAX_DEPTH) -> bool:
        """Whether brackets nest deeper than `limit`, which is at least 4: so deep stands what an
        entry of a conversation holds."""
        return any(depth_exceeds(text, limit - above) for text, above in self.parts())


def _add_nested(entries: list[Entry], found: list[tuple[bytes, int]]) -> None:
    for entry in entries:
        for value in entry.values():
            if type(value) is list:
                found += [(bytes(raw), 4) for raw in value]
            elif type(value) is dict:
                found += [(bytes(raw), 4) for raw in value.values()]
