"""AWS binary event streams: bounded, incremental, every checksum checked.

One frame: total length, headers length, CRC of these eight bytes, headers, payload, CRC of
all before it; big-endian. Used by Bedrock and Kiro; the encoder serves the simulator and
tests. https://smithy.io/2.0/aws/amazon-eventstream.html
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Final
from zlib import crc32

import msgspec

from providers.protocols.errors import RemoteProtocolError

MEDIA_TYPE: Final = "application/vnd.amazon.eventstream"
# AWS allows 24 MB of payload; no chat vendor comes near, and a frame is held in memory whole.
MAX_FRAME: Final = 16 * 1024 * 1024
MAX_HEADERS: Final = 128 * 1024

_PRELUDE: Final = struct.Struct(">III")
_UINT32: Final = struct.Struct(">I")
_UINT16: Final = struct.Struct(">H")
_OVERHEAD: Final = _PRELUDE.size + 4
# Fixed-size value types: byte, int16, int32, int64, timestamp in milliseconds.
_NUMBERS: Final = {
    2: struct.Struct(">b"),
    3: struct.Struct(">h"),
    4: struct.Struct(">i"),
    5: struct.Struct(">q"),
    8: struct.Struct(">q"),
}
# A stream repeats a handful of header blocks; parsed once each. Bounded against hostile variety.
_CACHE_SIZE: Final = 32
_CACHE_BLOCK: Final = 512

HeaderValue = bool | int | str | bytes


class Frame(msgspec.Struct, frozen=True):
    """`headers` may be shared between frames: read only. UUIDs stay 16 raw bytes."""

    headers: Mapping[str, HeaderValue]
    payload: bytes

    def text(self, name: str) -> str:
        """A string header; empty when absent or of another type."""
        value = self.headers.get(name)
        return value if isinstance(value, str) else ""


class EventStreamDecoder:
    """feed() bytes in any cutting, get whole frames. Raises RemoteProtocolError on bytes that
    are not this framing, fail a checksum or exceed the bounds."""

    __slots__ = ("_buffer", "_cache", "_max_frame", "_needed")

    def __init__(self, *, max_frame: int = MAX_FRAME) -> None:
        self._buffer = bytearray()
        self._needed = _PRELUDE.size
        self._max_frame = max_frame
        self._cache: dict[bytes, dict[str, HeaderValue]] = {}

    @property
    def has_pending(self) -> bool:
        """Whether a frame has begun and is not whole: the stream was cut if it ends here."""
        return bool(self._buffer)

    def feed(self, chunk: bytes) -> list[Frame]:
        buffer = self._buffer
        buffer += chunk
        frames: list[Frame] = []
        if len(buffer) < self._needed:
            return frames
        position = 0
        while len(buffer) - position >= _PRELUDE.size:
            total, headers_length = self._prelude(position)
            if len(buffer) - position < total:
                self._needed = total
                break
            frames.append(self._frame(position, total, headers_length))
            position += total
        else:
            self._needed = _PRELUDE.size
        # Once per feed, not once per frame: moving the rest is what costs.
        del buffer[:position]
        return frames

    def _prelude(self, position: int) -> tuple[int, int]:
        total, headers_length, checksum = _PRELUDE.unpack_from(self._buffer, position)
        if crc32(self._buffer[position : position + 8]) != checksum:
            raise RemoteProtocolError("The upstream's event stream failed its prelude checksum.")
        if total > self._max_frame:
            raise RemoteProtocolError(
                f"The upstream sent an event of more than {self._max_frame} bytes."
            )
        if headers_length > MAX_HEADERS or total < headers_length + _OVERHEAD:
            raise RemoteProtocolError("The upstream's event stream has impossible lengths.")
        return total, headers_length

    def _frame(self, position: int, total: int, headers_length: int) -> Frame:
        message = bytes(self._buffer[position : position + total])
        if crc32(message[:-4]) != _UINT32.unpack_from(message, total - 4)[0]:
            raise RemoteProtocolError("The upstream's event stream failed its checksum.")
        end = _PRELUDE.size + headers_length
        return Frame(self._headers(message[_PRELUDE.size : end]), message[end:-4])

    def _headers(self, block: bytes) -> dict[str, HeaderValue]:
        known = self._cache.get(block)
        if known is None:
            known = _parse_headers(block)
            if len(self._cache) < _CACHE_SIZE and len(block) <= _CACHE_BLOCK:
                self._cache[block] = known
        return known


def _parse_headers(block: bytes) -> dict[str, HeaderValue]:
    headers: dict[str, HeaderValue] = {}
    position = 0
    try:
        while position < len(block):
            name_end = position + 1 + block[position]
            name = block[position + 1 : name_end].decode()
            value, position = _parse_value(block, name_end + 1, block[name_end])
            if name in headers or position > len(block):
                raise RemoteProtocolError("The upstream's event stream has malformed headers.")
            headers[name] = value
    except (IndexError, struct.error, UnicodeDecodeError):
        raise RemoteProtocolError("The upstream's event stream has malformed headers.") from None
    return headers


def _parse_value(block: bytes, position: int, kind: int) -> tuple[HeaderValue, int]:
    if kind in (0, 1):
        return kind == 0, position
    if kind in (6, 7):
        start = position + 2
        end = start + _UINT16.unpack_from(block, position)[0]
        return (block[start:end].decode() if kind == 7 else block[start:end]), end
    if kind == 9:
        return block[position : position + 16], position + 16
    number = _NUMBERS.get(kind)
    if number is None:
        raise RemoteProtocolError("The upstream's event stream has an unknown header type.")
    value: int = number.unpack_from(block, position)[0]
    return value, position + number.size


def encode_frame(headers: Mapping[str, HeaderValue], payload: bytes) -> bytes:
    """One frame. Raises ValueError for what the framing cannot hold."""
    block = b"".join(_header(name, value) for name, value in headers.items())
    total = len(block) + len(payload) + _OVERHEAD
    if len(block) > MAX_HEADERS or total > MAX_FRAME:
        raise ValueError("too large for one event-stream frame")
    lengths = struct.pack(">II", total, len(block))
    body = lengths + _UINT32.pack(crc32(lengths)) + block + payload
    return body + _UINT32.pack(crc32(body))


def encode_event(event_type: str, payload: bytes) -> bytes:
    """A JSON event as AWS services send it."""
    return encode_frame(
        {
            ":event-type": event_type,
            ":content-type": "application/json",
            ":message-type": "event",
        },
        payload,
    )


def encode_exception(exception_type: str, payload: bytes) -> bytes:
    """A modelled error in mid-stream."""
    return encode_frame(
        {
            ":exception-type": exception_type,
            ":content-type": "application/json",
            ":message-type": "exception",
        },
        payload,
    )


def _header(name: str, value: HeaderValue) -> bytes:
    raw = name.encode()
    if not 0 < len(raw) < 256:
        raise ValueError("a header name takes 1 to 255 bytes")
    start = bytes((len(raw),)) + raw
    if isinstance(value, bool):
        return start + (b"\x00" if value else b"\x01")
    if isinstance(value, int):
        if -(2**31) <= value < 2**31:
            return start + b"\x04" + _NUMBERS[4].pack(value)
        return start + b"\x05" + _NUMBERS[5].pack(value)
    data = value.encode() if isinstance(value, str) else value
    if len(data) > 65535:
        raise ValueError("a header value takes at most 65,535 bytes")
    return start + (b"\x07" if isinstance(value, str) else b"\x06") + _UINT16.pack(len(data)) + data
