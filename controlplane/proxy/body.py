"""Reads a request body under the door's limits (bars I2, I3, I5)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, MutableMapping
from typing import Any, Final

from controlplane.proxy.errors import (
    BodyTooLarge,
    BodyTooSlow,
    ClientGone,
    CompressedBody,
    HeadersTooLarge,
    TooManyItems,
)
from controlplane.proxy.spooled import Spooled
from providers.protocols.members import CONVERSATIONS, Members

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]

MAX_HEADER_BYTES: Final = 32 * 1024
MAX_HEADERS: Final = 100
MIN_BYTES_PER_SECOND: Final = 1024
BODY_GRACE_SECONDS: Final = 30.0
MAX_MESSAGES: Final = 10_000
MAX_FUNCTIONS: Final = 1_000
# Where one entry of `tools` holds several functions.
_SEVERAL: Final = ("functionDeclarations", "function_declarations", "tools")


def check_headers(headers: list[tuple[bytes, bytes]]) -> None:
    if len(headers) > MAX_HEADERS:
        raise HeadersTooLarge(f"Send at most {MAX_HEADERS} headers.")
    size = 0
    for name, value in headers:
        size += len(name) + len(value)
    if size > MAX_HEADER_BYTES:
        raise HeadersTooLarge(f"Send at most {MAX_HEADER_BYTES} bytes of headers.")


def check_encoding(headers: list[tuple[bytes, bytes]]) -> None:
    for name, value in headers:
        if name == b"content-encoding" and value.lower() not in (b"", b"identity"):
            raise CompressedBody("Send the body uncompressed: drop the Content-Encoding header.")


def check_length(headers: list[tuple[bytes, bytes]], limit: int) -> None:
    for name, value in headers:
        if name == b"content-length" and value.isdigit() and int(value) > limit:
            raise BodyTooLarge(f"The body may hold at most {limit} bytes.")


class BoundedReceive:
    """For an application that reads any body to its end, as Django does (to the disk): beyond
    the limit it hears that the caller left, and `is_over` says why."""

    __slots__ = ("_limit", "_receive", "_size", "is_over")

    def __init__(self, receive: Receive, limit: int) -> None:
        self._receive = receive
        self._limit = limit
        self._size = 0
        self.is_over = False

    async def __call__(self) -> MutableMapping[str, Any]:
        message = await self._receive()
        self._size += len(message.get("body", b""))
        if self._size > self._limit:
            self.is_over = True
            return {"type": "http.disconnect"}
        return message


def check_counts(body: Mapping[str, Any]) -> None:
    """Also for bodies that are passed on unread: some vendors accept what then takes minutes."""
    for name in CONVERSATIONS:
        if _length(body, name) > MAX_MESSAGES:
            raise TooManyItems(f"{name!r} may hold at most {MAX_MESSAGES} entries.", param=name)
    if isinstance(body, Members) and not _may_hold(body.text("tools"), MAX_FUNCTIONS):
        return
    tools = body.get("tools")
    if type(tools) is list and sum(map(_functions, tools)) > MAX_FUNCTIONS:
        raise TooManyItems(f"'tools' may hold at most {MAX_FUNCTIONS} functions.", param="tools")


def _length(body: Mapping[str, Any], name: str) -> int:
    entries: Any = body.entries(name) if isinstance(body, Members) else None
    if entries is None:
        entries = body.get(name)
    return len(entries) if type(entries) is list else 0


def _may_hold(text: bytes, most: int) -> bool:
    """Whether it is worth counting: a list has an entry more than commas, and every list within
    it is an entry itself."""
    return len(text) > most and 2 * text.count(b",") >= most


def _functions(entry: object) -> int:
    if type(entry) is dict:
        for name in _SEVERAL:
            if type(entry.get(name)) is list:
                return max(1, len(entry[name]))
    return 1


async def read_body(receive: Receive, headers: list[tuple[bytes, bytes]], limit: int) -> bytes:
    """The whole body. Content-Length is only a hint: the count of bytes decides."""
    check_encoding(headers)
    check_length(headers, limit)
    message = await receive()
    if message["type"] == "http.disconnect":
        raise ClientGone
    body: bytes = message.get("body", b"")
    if not message.get("more_body", False):
        if len(body) > limit:
            raise BodyTooLarge(f"The body may hold at most {limit} bytes.")
        return body
    pieces = [body]
    async for piece in _rest(receive, len(body), limit):
        pieces.append(piece)
    return b"".join(pieces)


async def spool(receive: Receive, headers: list[tuple[bytes, bytes]], limit: int) -> Spooled:
    """The same, to the disk: memory holds a piece at a time. Whoever calls closes it."""
    check_encoding(headers)
    check_length(headers, limit)
    spooled = Spooled()
    try:
        async for piece in _rest(receive, 0, limit):
            spooled.write(piece)
    except BaseException:
        spooled.close()
        raise
    return spooled


async def _rest(receive: Receive, size: int, limit: int) -> AsyncIterator[bytes]:
    """What still comes, after `size` bytes. At least MIN_BYTES_PER_SECOND on average, after a grace
    for the first bytes."""
    loop = asyncio.get_running_loop()
    started = loop.time()
    while True:
        deadline = started + BODY_GRACE_SECONDS + size / MIN_BYTES_PER_SECOND
        try:
            async with asyncio.timeout_at(deadline):
                message = await receive()
        except TimeoutError:
            raise BodyTooSlow("The body did not arrive in time.") from None
        if message["type"] == "http.disconnect":
            raise ClientGone
        piece = message.get("body", b"")
        size += len(piece)
        if size > limit:
            raise BodyTooLarge(f"The body may hold at most {limit} bytes.")
        yield piece
        if not message.get("more_body", False):
            return
