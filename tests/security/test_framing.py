"""Ambiguous framing (bar N5): what two readers could understand differently is refused, and the
bytes behind it never become a request."""

from __future__ import annotations

import json

import pytest

from tests.security.arena import Arena, raw
from tests.security.dialects import CHAT
from tests.security.requests import head

BODY = json.dumps(CHAT.body("sim-gpt", "Hello", False)).encode()
LENGTH = f"content-length: {len(BODY)}"
CHUNKED = b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)

# Header lines behind the good ones, and the body that follows them.
AMBIGUOUS: dict[str, tuple[tuple[str, ...], bytes]] = {
    "length and chunks": ((LENGTH, "transfer-encoding: chunked"), CHUNKED),
    "chunks and length": (("transfer-encoding: chunked", LENGTH), CHUNKED),
    "length and chunks, length 0": (("content-length: 0", "transfer-encoding: chunked"), CHUNKED),
    "two lengths": ((LENGTH, "content-length: 5"), BODY),
    "two equal lengths": ((LENGTH, LENGTH), BODY),
    "a list of lengths": ((f"content-length: {len(BODY)}, 5",), BODY),
    "a negative length": (("content-length: -1",), BODY),
    "a signed length": ((f"content-length: +{len(BODY)}",), BODY),
    "a hexadecimal length": ((f"content-length: {hex(len(BODY))}",), BODY),
    "a length of no digits": (("content-length: ten",), BODY),
    "a length with a blank inside": (("content-length: 1 0",), BODY),
    "a length in wide digits": (("content-length: \xb2",), BODY),
    "unknown coding": (("transfer-encoding: xchunked",), CHUNKED),
    "coding not last": (("transfer-encoding: chunked, identity",), CHUNKED),
    "coding twice": (("transfer-encoding: chunked", "transfer-encoding: identity"), CHUNKED),
    "coding behind a vertical tab": (("transfer-encoding: \x0bchunked",), CHUNKED),
    "a blank before the colon": ((f"content-length : {len(BODY)}",), BODY),
    "a blank before the coding's colon": (("transfer-encoding : chunked",), CHUNKED),
    "a folded header": ((LENGTH, "x-a: b", " c: d"), BODY),
    "a header without a name": ((LENGTH, ": empty"), BODY),
    "a header without a colon": ((LENGTH, "nothing"), BODY),
    "NUL in a name": ((LENGTH, "x-\x00a: b"), BODY),
    "NUL in a value": ((LENGTH, "x-a: b\x00c"), BODY),
    "CR in a value": ((LENGTH, "x-a: b\rx-c: d"), BODY),
    "a chunk with a sign": (("transfer-encoding: chunked",), b"+5\r\nhello\r\n0\r\n\r\n"),
    "a chunk with a prefix": (("transfer-encoding: chunked",), b"0x5\r\nhello\r\n0\r\n\r\n"),
    "a chunk too large to count": (("transfer-encoding: chunked",), b"f" * 40 + b"\r\nhello"),
    "a chunk longer than it says": (("transfer-encoding: chunked",), b"3\r\nhello\r\n0\r\n\r\n"),
    "a chunk ended by LF alone": (("transfer-encoding: chunked",), b"5\nhello\n0\n\n"),
}
# What a caller would like to have understood behind the first request.
SMUGGLED = (
    b"GET /v1/models HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n"
    b"authorization: Bearer %b\r\n\r\n"
)


@pytest.mark.parametrize("name", AMBIGUOUS)
def test_ambiguous_framing_is_refused(arena: Arena, name: str) -> None:
    lines, body = AMBIGUOUS[name]
    request = head(arena, "/v1/chat/completions", *lines) + body
    request += SMUGGLED % arena.key.encode()
    request = request.replace(b"connection: close\r\n", b"", 1)
    answer = raw(arena.address, request, seconds=1, hangs_up=True)
    assert answer.status == 400, answer
    # One answer at most, and behind it nothing: no second request was seen.
    assert not answer.rest, answer
    assert not arena.world.requests


@pytest.mark.parametrize(
    "line",
    [
        b"POST /v1/chat/completions HTTP/1.1\r\n",  # and no Host
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\nhost: b\r\n",
        b"POST  /v1/chat/completions HTTP/1.1\r\nhost: a\r\n",
        b"POST /v1/chat/completions HTTP/1.1 \r\nhost: a\r\n",
        b"POST /v1/chat/completions HTTP/9.9\r\nhost: a\r\n",
        b"POST /v1/chat/completions\x00 HTTP/1.1\r\nhost: a\r\n",
        b"POST /v1/chat/completions\rx HTTP/1.1\r\nhost: a\r\n",
        b"P\x00ST /v1/chat/completions HTTP/1.1\r\nhost: a\r\n",
        b"CONNECT 127.0.0.1:22 HTTP/1.1\r\nhost: a\r\n",
        b"POST http://169.254.169.254/v1/chat/completions HTTP/1.1\r\nhost: a\r\n",
        b"POST //169.254.169.254/v1/chat/completions HTTP/1.1\r\nhost: a\r\n",
        b"\r\n\r\n\r\nNONSENSE\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n",
    ],
)
def test_odd_request_lines_reach_no_upstream_but_by_path(arena: Arena, line: bytes) -> None:
    """Where the path is right the answer may be one: the caller's Host decides nothing."""
    rest = f"connection: close\r\nauthorization: Bearer {arena.key}\r\n{LENGTH}\r\n\r\n"
    answer = raw(arena.address, line + rest.encode() + BODY, seconds=1, hangs_up=True)
    assert answer.status < 500, answer
    for seen in arena.world.requests:
        assert seen.headers["host"] == arena.vendors.removeprefix("http://")
        assert seen.path == "/openai/v1/chat/completions"


def test_the_same_without_ambiguity_is_answered(arena: Arena) -> None:
    for lines, body in (((LENGTH,), BODY), (("transfer-encoding: chunked",), CHUNKED)):
        answer = raw(arena.address, head(arena, "/v1/chat/completions", *lines) + body)
        assert answer.status == 200, answer
