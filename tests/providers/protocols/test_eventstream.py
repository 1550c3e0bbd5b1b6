"""AWS event-stream framing, with botocore as the judge."""

from __future__ import annotations

import random
import struct
import uuid
from binascii import crc32
from typing import Any

import pytest
from botocore.eventstream import EventStreamBuffer

from providers.protocols.errors import RemoteProtocolError
from providers.protocols.eventstream import (
    EventStreamDecoder,
    Frame,
    encode_event,
    encode_exception,
    encode_frame,
)

HEADERS: dict[str, Any] = {
    ":event-type": "contentBlockDelta",
    "yes": True,
    "no": False,
    "small": -5,
    "large": 2**40,
    "raw": b"\x00\xff",
    "text": "Grüße 世界",
}


def botocore_frames(data: bytes) -> list[tuple[dict[str, Any], bytes]]:
    buffer = EventStreamBuffer()
    buffer.add_data(data)
    return [(message.headers, message.payload) for message in buffer]


def decode(data: bytes, size: int) -> list[Frame]:
    decoder = EventStreamDecoder()
    frames: list[Frame] = []
    for position in range(0, len(data), size):
        frames += decoder.feed(data[position : position + size])
    assert not decoder.has_pending
    return frames


def test_botocore_reads_what_we_write() -> None:
    data = encode_frame(HEADERS, b'{"a":1}') + encode_event("messageStop", b"{}")
    first, second = botocore_frames(data)
    assert first == (HEADERS, b'{"a":1}')
    assert second[0] == {
        ":event-type": "messageStop",
        ":content-type": "application/json",
        ":message-type": "event",
    }


@pytest.mark.parametrize("size", [1, 2, 3, 11, 12, 13, 64, 100_000])
def test_we_read_what_botocore_reads(size: int) -> None:
    dice = random.Random(1)
    data = b"".join(
        encode_frame({**HEADERS, "n": index}, dice.randbytes(dice.choice([0, 1, 50, 3000])))
        for index in range(20)
    )
    ours = [(dict(frame.headers), frame.payload) for frame in decode(data, size)]
    assert ours == botocore_frames(data)


def _raw_frame(block: bytes, payload: bytes = b"") -> bytes:
    lengths = struct.pack(">II", 16 + len(block) + len(payload), len(block))
    body = lengths + struct.pack(">I", crc32(lengths)) + block + payload
    return body + struct.pack(">I", crc32(body))


def test_every_value_type_is_read_as_botocore_reads_it() -> None:
    identity = uuid.UUID(int=7)
    block = b"".join(
        bytes((len(name),)) + name + value
        for name, value in (
            (b"t", b"\x00"),
            (b"f", b"\x01"),
            (b"i8", b"\x02\xff"),
            (b"i16", b"\x03\xff\xfe"),
            (b"i32", b"\x04\x00\x00\x00\x07"),
            (b"i64", b"\x05" + struct.pack(">q", -9)),
            (b"raw", b"\x06\x00\x02ab"),
            (b"text", b"\x07\x00\x03abc"),
            (b"time", b"\x08" + struct.pack(">q", 1_700_000_000_000)),
            (b"id", b"\x09" + identity.bytes),
        )
    )
    data = _raw_frame(block, b"x")
    (frame,) = decode(data, 7)
    assert dict(frame.headers) == botocore_frames(data)[0][0]
    assert frame.text("text") == "abc"
    assert frame.text("i8") == frame.text("absent") == ""


def test_exceptions_are_frames_of_their_own_kind() -> None:
    (frame,) = decode(encode_exception("throttlingException", b'{"message":"slow"}'), 5)
    assert frame.text(":message-type") == "exception"
    assert frame.text(":exception-type") == "throttlingException"


def test_a_cut_frame_is_pending() -> None:
    decoder = EventStreamDecoder()
    assert decoder.feed(encode_event("x", b"{}")[:-1]) == []
    assert decoder.has_pending


@pytest.mark.parametrize("position", [0, 5, 9, 14, 40, -6, -1])
def test_every_checksum_is_checked(position: int) -> None:
    data = bytearray(encode_event("messageStop", b'{"stopReason":"end_turn"}'))
    data[position] ^= 0x40
    with pytest.raises(RemoteProtocolError):
        EventStreamDecoder().feed(bytes(data) + bytes(64))


def _prelude(total: int, headers: int) -> bytes:
    lengths = struct.pack(">II", total, headers)
    return lengths + struct.pack(">I", crc32(lengths))


@pytest.mark.parametrize(
    ("total", "headers"),
    [(2**31, 0), (16 * 1024 * 1024 + 1, 0), (1024, 2**20), (300_000, 200_000), (15, 0), (20, 8)],
)
def test_impossible_or_unbounded_lengths(total: int, headers: int) -> None:
    with pytest.raises(RemoteProtocolError):
        EventStreamDecoder().feed(_prelude(total, headers))


@pytest.mark.parametrize(
    "block",
    [
        b"\x05ab",
        b"\x01a\x07\x00\xffx",
        b"\x01a\x0a",
        b"\x01a\x04\x00",
        b"\x01a",
        b"\x01\xff\x00",
        b"\x01a\x07\x00\x01\xff",
        b"\x01a\x00\x01a\x00",
        b"\x01a\x09short",
    ],
    ids=[
        "name-cut",
        "text-cut",
        "unknown-type",
        "number-cut",
        "type-missing",
        "name-not-text",
        "text-not-text",
        "twice",
        "uuid-cut",
    ],
)
def test_malformed_headers(block: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        EventStreamDecoder().feed(_raw_frame(block))


def test_mutated_bytes_give_typed_errors_only() -> None:
    dice = random.Random(3)
    sample = b"".join(encode_frame({**HEADERS, "n": n}, b"x" * n) for n in range(5))
    for _ in range(5000):
        data = bytearray(sample)
        for _ in range(dice.randint(1, 4)):
            data[dice.randrange(len(data))] = dice.randrange(256)
        decoder = EventStreamDecoder()
        try:
            decoder.feed(bytes(data))
        except RemoteProtocolError:
            continue
        assert len(data) <= 4096


@pytest.mark.parametrize(
    ("headers", "payload"),
    [
        ({"": "x"}, b""),
        ({"n" * 256: "x"}, b""),
        ({"a": "x" * 65536}, b""),
        ({}, bytes(16 * 1024 * 1024)),
    ],
)
def test_what_the_framing_cannot_hold(headers: dict[str, Any], payload: bytes) -> None:
    with pytest.raises(ValueError):
        encode_frame(headers, payload)
