"""Server-sent events: bounded, incremental, indifferent to how bytes are cut."""

from __future__ import annotations

from typing import Final

import msgspec

from providers.protocols.errors import RemoteProtocolError

MAX_LINE: Final = 1 * 1024 * 1024
MAX_EVENT: Final = 4 * 1024 * 1024
_LINE_COST: Final = 16
_BOM: Final = b"\xef\xbb\xbf"


class SSEvent(msgspec.Struct, frozen=True):
    """`event` is empty when the stream named none. `data` is UTF-8 checked by its JSON parser."""

    event: bytes
    data: bytes


class SSEParser:
    """feed() bytes, get whole events. close() gives the pending one of a stream that ended
    without its blank line (Codex does, trap 119). LF, CRLF and lone CR end lines."""

    __slots__ = ("_buffer", "_data", "_event", "_is_first", "_max_event", "_max_line", "_size")

    def __init__(self, *, max_line: int = MAX_LINE, max_event: int = MAX_EVENT) -> None:
        self._buffer = bytearray()
        self._event = b""
        self._data: list[bytes] = []
        self._size = 0
        self._is_first = True
        self._max_line = max_line
        self._max_event = max_event

    def feed(self, chunk: bytes) -> list[SSEvent]:
        events: list[SSEvent] = []
        if self._is_first or b"\r" in chunk or self._buffer.endswith(b"\r"):
            pass
        elif b"\n" not in chunk:
            # Only grow: copying the buffer for each piece of a long line is quadratic.
            self._buffer += chunk
            self._check_line()
            return events
        elif not self._buffer:
            self._split(chunk, events)
            self._check_line()
            return events
        if not self._is_first and not self._buffer and chunk.endswith(b"\n"):
            # Whole lines that end CRLF, as Google sends them: no half line and no half CRLF.
            self._split(chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n"), events)
            return events
        return self._feed_mixed(chunk, events)

    def _feed_mixed(self, chunk: bytes, events: list[SSEvent]) -> list[SSEvent]:
        """The general case: a pending line, a CR somewhere, or the start of the stream."""
        self._buffer += chunk
        if self._is_first:
            if len(self._buffer) < 3 and _BOM.startswith(bytes(self._buffer)):
                return events
            self._is_first = False
            if self._buffer.startswith(_BOM):
                del self._buffer[:3]
        block = bytes(self._buffer)
        self._buffer.clear()
        # A CR at the very end may be half of a CRLF: it waits for the next byte.
        is_cr_pending = block.endswith(b"\r")
        if is_cr_pending:
            block = block[:-1]
        if b"\r" in block:
            block = block.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        self._split(block, events)
        if is_cr_pending:
            self._buffer += b"\r"
        self._check_line()
        return events

    def close(self) -> list[SSEvent]:
        events: list[SSEvent] = []
        rest = bytes(self._buffer).rstrip(b"\r")
        self._buffer.clear()
        if rest:
            self._line(rest, events)
        self._dispatch(events)
        return events

    def _check_line(self) -> None:
        if len(self._buffer) > self._max_line:
            raise RemoteProtocolError(
                f"The upstream sent a line of more than {self._max_line} bytes."
            )

    def _split(self, block: bytes, events: list[SSEvent]) -> None:
        lines = block.split(b"\n")
        last = lines.pop()
        for line in lines:
            if len(line) > self._max_line:
                raise RemoteProtocolError(
                    f"The upstream sent a line of more than {self._max_line} bytes."
                )
            self._line(line, events)
        if last:
            self._buffer += last

    def _line(self, line: bytes, events: list[SSEvent]) -> None:
        if not line:
            self._dispatch(events)
            return
        if line.startswith(b"data:"):
            value = line[6:] if line[5:6] == b" " else line[5:]
            # What keeping a line costs beside its bytes: empty lines are bounded too.
            self._size += len(value) + _LINE_COST
            if self._size > self._max_event:
                raise RemoteProtocolError(
                    f"The upstream sent an event of more than {self._max_event} bytes."
                )
            self._data.append(value)
        elif line.startswith(b"event:"):
            self._event = line[6:].strip()
        elif line == b"data":
            self._line(b"data:", events)

    def _dispatch(self, events: list[SSEvent]) -> None:
        if self._data:
            data = self._data[0] if len(self._data) == 1 else b"\n".join(self._data)
            events.append(SSEvent(self._event, data))
            self._data = []
            self._size = 0
        self._event = b""


def data_event(payload: bytes) -> bytes:
    """One `data:` event. JSON never holds a raw newline, so one line is enough."""
    return b"data: " + payload + b"\n\n"


def named_event(name: bytes, payload: bytes) -> bytes:
    return b"event: " + name + b"\ndata: " + payload + b"\n\n"


COMMENT: Final = b": keep-alive\n\n"
DONE: Final = b"data: [DONE]\n\n"
