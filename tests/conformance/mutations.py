"""Hostile inputs made from good ones: bytes bent, JSON values swapped, frames re-signed."""

from __future__ import annotations

import random
from typing import Any, Final

import msgspec

from controlplane.kit import json
from providers.protocols import eventstream
from providers.protocols.errors import RemoteProtocolError

_SPICES: Final = (
    b"null", b"{}", b"[]", b"-1", b"1e999", b'"', b"\\ud800", b"\xff", b"\x00", b"true", b":",
    b"\n\n", b"\r", b"data:", b"event: error\n", b"[DONE]", b"{" * 100, b"[" * 3000,
    b"9" * 40, b'"a":' * 20, b"\xef\xbb\xbf",
)  # fmt: skip
# Written as deep nesting, which Python's own structures do not survive.
_DEEP: Final = b'"deep"'
_VALUES: Final[tuple[Any, ...]] = (
    "deep", {"deep": "deep", "type": "text"},
    None, True, False, 0, -1, 1, 2**63, -(2**63), 1.5, -0.0, 1e308, "", "x", "null", "\x00",
    "é" * 50, [], {}, [None], [[]], {"type": None}, {"": {}}, ["x", 1, None], {"text": 1},
    {"type": "text"}, {"type": "x", "index": -1}, "x" * 5000, {"a": {"b": {"c": [1]}}},
)  # fmt: skip


def bent(data: bytes, source: random.Random) -> bytes:
    """Bytes changed, removed, repeated or put in."""
    out = bytearray(data)
    for _ in range(source.randint(1, 6)):
        if not out:
            break
        place = source.randrange(len(out))
        how = source.random()
        if how < 0.3:
            out[place] = source.randrange(256)
        elif how < 0.5:
            del out[place : place + source.randint(1, 40)]
        elif how < 0.6:
            end = place + source.randint(1, 200)
            out[place:place] = out[place:end] * source.randint(1, 4)
        elif how < 0.7:
            del out[place:]
        else:
            out[place : place + source.randint(0, 9)] = source.choice(_SPICES)
    return bytes(out)


def swapped(value: Any, source: random.Random) -> Any:
    """The same JSON with one to three of its values, at any depth, replaced by others."""
    out = json.loads(json.dumps(value))
    for _ in range(source.randint(1, 3)):
        out = _swap(out, source)
    return out


def _value(source: random.Random) -> Any:
    # A copy: it may be swapped again.
    return json.loads(json.dumps(source.choice(_VALUES)))


def _swap(value: Any, source: random.Random) -> Any:
    holder: Any = None
    key: Any = None
    node = value
    while isinstance(node, dict | list) and node and (holder is None or source.random() < 0.85):
        holder = node
        key = source.choice(list(node)) if isinstance(node, dict) else source.randrange(len(node))
        node = node[key]
    if holder is None:
        return _value(source)
    how = source.random()
    if how < 0.15:
        del holder[key]
    elif how < 0.3 and isinstance(holder, dict):
        holder[source.choice(("type", "id", "index", "text", "x"))] = holder[key]
    elif how < 0.4 and isinstance(holder, list):
        holder.append(node)
    else:
        holder[key] = _value(source)
    return value


def stream(pieces: tuple[bytes, ...], source: random.Random) -> bytes:
    """A stream whose pieces are bent, swapped inside, reordered, repeated or left out."""
    found = list(pieces)
    for _ in range(source.randint(1, 3)):
        if not found:
            break
        place = source.randrange(len(found))
        how = source.random()
        if how < 0.55:
            found[place] = _inside(found[place], source)
        elif how < 0.65:
            del found[place]
        elif how < 0.75:
            found.insert(source.randrange(len(found) + 1), found[place])
        else:
            found[place] = bent(found[place], source)
    data = b"".join(found)
    return bent(data, source) if source.random() < 0.25 else data


def _inside(piece: bytes, source: random.Random) -> bytes:
    """One event of the wire with other values in it, and its framing intact."""
    if piece[:1] == b"\x00":
        try:
            [frame] = eventstream.EventStreamDecoder().feed(piece)
        except (RemoteProtocolError, ValueError):
            return bent(piece, source)  # bent before, or torn
        payload = _other(frame.payload, source)
        kind = frame.text(":event-type") or frame.text(":exception-type")
        if source.random() < 0.1:
            kind = source.choice(("", "x", "messageStop", "throttlingException", "metadata"))
        if frame.text(":message-type") == "exception" or source.random() < 0.05:
            return eventstream.encode_exception(kind, payload)
        return eventstream.encode_event(kind, payload)
    head, mark, rest = piece.partition(b"data: ")
    if not mark:
        return bent(piece, source)
    data = rest.rstrip(b"\r\n")
    return head + mark + _other(data, source) + rest[len(data) :]


def _other(data: bytes, source: random.Random) -> bytes:
    try:
        value = json.loads(data)
        return dumped(swapped(value, source), source)
    except (json.InvalidJSON, RecursionError):
        return bent(data, source)  # bent before


def dumped(value: Any, source: random.Random) -> bytes:
    """As JSON, with what stands for deep nesting written out."""
    depth = source.choice((70, 500, 900, 990, 3000))
    return json.dumps(value).replace(_DEEP, b"[" * depth + b"]" * depth)


def body(value: Any, source: random.Random) -> Any:
    """A request's JSON. What does not survive JSON (a bent text that is none) stays as it was."""
    if source.random() < 0.8:
        return swapped(value, source)
    try:
        return msgspec.json.decode(bent(json.dumps(value), source))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return swapped(value, source)
