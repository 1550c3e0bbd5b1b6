"""Requests written by hand: exact sizes, framings and headers that no client library sends."""

from __future__ import annotations

import json
from typing import Any

from tests.security.arena import Arena
from tests.security.dialects import Dialect


def head(arena: Arena, path: str, *lines: str) -> bytes:
    fixed = [f"POST {path} HTTP/1.1", "host: 127.0.0.1", "connection: close"]
    fixed += [f"authorization: Bearer {arena.key}", "content-type: application/json"]
    return "\r\n".join([*fixed, *lines]).encode("latin-1") + b"\r\n\r\n"


def padded(dialect: Dialect, size: int) -> bytes:
    """A right request of exactly `size` bytes."""
    body = json.dumps(dialect.body(dialect.own_model, "Hello", False)).encode()
    return body[:-1] + b" " * (size - len(body)) + b"}"


def chunked(*pieces: bytes) -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


def refused(answer: Any, dialect: Dialect, status: int) -> None:
    found = getattr(answer, "status", None) or answer.status_code
    assert found == status, answer
    dialect.check_error(answer.json(), status)
