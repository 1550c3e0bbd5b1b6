"""A JSON array that arrives in pieces: what Google streams without `alt=sse`."""

from __future__ import annotations

import re
from typing import Final

import msgspec

from providers.protocols.errors import RemoteProtocolError
from providers.protocols.sse import MAX_EVENT

# A whole string, a string that this piece does not finish (1: with half an escape), a bracket.
_TOKEN: Final = re.compile(
    rb'"[^"\\]*(?:\\.[^"\\]*)*"|"[^"\\]*(?:\\.[^"\\]*)*(\\?)\Z|[{}\[\]]', re.DOTALL
)
# The rest of a string, with its end (1), with half an escape (2), or with neither.
_REST: Final = re.compile(rb'[^"\\]*(?:\\.[^"\\]*)*(")?(\\?)', re.DOTALL)
_BETWEEN: Final = b", \r\n\t"
# Checks the form and builds nothing.
_anything: Final = msgspec.json.Decoder(msgspec.Raw).decode


class ArrayParser:
    """feed() bytes, get the whole elements of the outer array, in any cutting. An element is
    bounded like an event."""

    def __init__(self, *, max_element: int = MAX_EVENT) -> None:
        self._buffer = bytearray()
        self._depth = 0
        self._in_string = False
        self._is_escaped = False
        self._max_element = max_element

    def feed(self, chunk: bytes) -> list[bytes]:
        out: list[bytes] = []
        if not chunk:
            return out
        if self._depth == 1 and (element := self._only_element(chunk)):
            return [element]
        start = 0  # of the element's bytes in this chunk
        position = self._end_of_string(chunk) if self._in_string else 0
        for match in _TOKEN.finditer(chunk, position):
            first = chunk[match.start()]
            if first == 0x22:
                if match.group(1) is not None:
                    self._in_string = True
                    self._is_escaped = bool(match.group(1))
            elif first in b"{[":
                self._depth += 1
                if self._depth == 2:
                    start = match.start()
            else:
                self._depth -= 1
                if self._depth == 1:
                    self._keep(chunk[start : match.end()])
                    out.append(bytes(self._buffer))
                    self._buffer.clear()
                elif self._depth < 0:
                    raise RemoteProtocolError("The upstream sent brackets that do not match.")
        if self._depth >= 2:
            self._keep(chunk[start:])
        return out

    def _only_element(self, chunk: bytes) -> bytes:
        """Between elements: the one that this piece is, if it is one and nothing else. Vendors
        send them so, and checking that costs a tenth of looking at every bracket."""
        element = chunk.strip(_BETWEEN)
        if element[:1] != b"{" or len(element) > self._max_element:
            return b""
        try:
            _anything(element)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return b""
        return element

    def _end_of_string(self, chunk: bytes) -> int:
        """Where to go on after the string that an earlier piece began."""
        position = 1 if self._is_escaped else 0
        self._is_escaped = False
        rest = _REST.match(chunk, position)
        assert rest is not None  # it matches nothing, too
        if rest.group(1) is None:
            self._is_escaped = bool(rest.group(2))
            return len(chunk)
        self._in_string = False
        return rest.end(1)

    def _keep(self, piece: bytes) -> None:
        self._buffer += piece
        if len(self._buffer) > self._max_element:
            raise RemoteProtocolError(
                f"The upstream sent an element of more than {self._max_element} bytes."
            )
