"""JSON in and out, by msgspec: the one place that names the library."""

from __future__ import annotations

import re
from typing import Any, cast

import msgspec

JSONDict = dict[str, Any]

MAX_DEPTH = 64

_NOT_MARKS = bytes(code for code in range(256) if code not in b'{}[]"')
_ONE_KIND = bytes.maketrans(b"{}", b"[]")
# A whole string, so that brackets inside it are skipped, or one bracket.
_STRING_OR_BRACKET = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[\[\]{}]', re.DOTALL)

# A surrogate pair (kept), a lone surrogate (group 1), or any other escape (kept).
_ESCAPE = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
    rb"|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)",
    re.DOTALL,
)

_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode


class InvalidJSON(ValueError):
    """The bytes are not JSON, or nest deeper than MAX_DEPTH."""


def loads(data: bytes | str) -> Any:
    try:
        return _decode(data)
    except (msgspec.DecodeError, RecursionError, UnicodeError, OverflowError) as error:
        raw = _utf8(data) if isinstance(data, str) else data
        mended = _ESCAPE.sub(_without_lone_surrogate, raw)
        if mended == data:
            raise InvalidJSON(str(error)) from None
    try:
        return _decode(mended)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError, OverflowError) as error:
        raise InvalidJSON(str(error)) from None


def _utf8(text: str) -> bytes:
    # Python strings may hold half a pair as a character of its own.
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace").encode()


def _without_lone_surrogate(match: re.Match[bytes]) -> bytes:
    # Tool output cut inside an emoji leaves half a pair, which is no text in any encoding.
    return b"\\ufffd" if len(match.group()) == 6 and match.group(1) is not None else match.group()


def loads_dict(data: bytes | str) -> JSONDict:
    value = loads(data)
    if type(value) is not dict:
        raise InvalidJSON("expected a JSON object")
    return cast(JSONDict, value)


def dumps(value: object) -> bytes:
    return _encode(value)


def dumps_str(value: object) -> str:
    return _encode(value).decode()


def depth_exceeds(data: bytes, limit: int = MAX_DEPTH) -> bool:
    """Whether brackets nest deeper than `limit`.

    Almost every body is answered in C-speed passes: keep brackets and quotes, drop the strings
    (a bracket in one must not cancel a real one), then strip one level of pairs at a time. What
    is left after `limit` passes is counted exactly.
    """
    if len(data) < 2048 and data.count(b"{") + data.count(b"[") <= limit:
        return False
    if b"\\" in data:
        marks = data.replace(b"\\\\", b"").replace(b'\\"', b"").translate(None, _NOT_MARKS)
    else:
        marks = data.translate(None, _NOT_MARKS)
    # Removing two neighbouring quotes leaves every other bracket inside or outside as it was.
    brackets = marks.replace(b'""', b"")
    if b'"' in brackets:
        brackets = b"".join(brackets.split(b'"')[::2])
    # One kind of bracket, or a pass would take an object and the array around it together.
    brackets = brackets.translate(_ONE_KIND)
    for _ in range(limit):
        if not brackets:
            return False
        brackets = brackets.replace(b"[]", b"")
    depth = 0
    for match in _STRING_OR_BRACKET.finditer(data):
        first = data[match.start()]
        if first in b"{[":
            depth += 1
            if depth > limit:
                return True
        elif first in b"}]":
            depth -= 1
    return False
