"""A relayed event stream, cut where events end: half an event, or one that is no JSON or no text,
is the vendor's fault and does not leave. What is whole leaves byte for byte."""

from __future__ import annotations

import codecs
from typing import Final, Protocol

import msgspec

from controlplane.kit.errors import FaultKind, GatewayError

# As our own decoders bound an event (bar I4).
MAX_EVENT: Final = 4 * 1024 * 1024
_ENDS: Final = (b"\n\n", b"\r\n\r\n")


class UnreadableStream(GatewayError):
    """What arrived before it was shown; the rest is not."""

    kind = FaultKind.UPSTREAM
    code = "upstream_unreadable"


_NOT_TEXT: Final = "The provider sent bytes that are not text. What arrived is incomplete."


class _AnyObject(msgspec.Struct):
    """Decoding to this walks the whole text and keeps nothing of it."""


walk: Final = msgspec.json.Decoder(_AnyObject).decode


class Cut(Protocol):
    """`feed` gives back what may leave by now; `rest` what is left when all went well. Raises
    UnreadableStream."""

    def feed(self, data: bytes) -> bytes: ...
    def rest(self) -> bytes: ...


class AnyText:
    """For a stream that is not made of events: it only has to be text."""

    __slots__ = ("_decoder",)

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("strict")

    def feed(self, data: bytes) -> bytes:
        try:
            self._decoder.decode(data)
        except UnicodeDecodeError:
            raise UnreadableStream(_NOT_TEXT) from None
        return data

    def rest(self) -> bytes:
        return b""


class WholeEvents:
    """Server-sent events."""

    __slots__ = ("_rest",)

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> bytes:
        if self._rest:
            data = self._rest + data
            self._rest = b""
        if not data.endswith(_ENDS):
            end = max(data.rfind(mark) + len(mark) if mark in data else 0 for mark in _ENDS)
            data, self._rest = data[:end], data[end:]
            if len(self._rest) > MAX_EVENT:
                raise UnreadableStream("The provider sent an event that is too long.")
        # Almost always each event is one line of JSON, and three counts say so.
        opened = data.count(b"data: {") + data.count(b"data:{")
        if opened != data.count(b"}\n\n") + data.count(b"}\r\n\r\n"):
            _check(data)
        if not data.isascii():
            try:
                data.decode()
            except UnicodeDecodeError:
                raise UnreadableStream(_NOT_TEXT) from None
        return data

    def rest(self) -> bytes:
        """What followed the last complete event: some vendors leave out the last blank line."""
        rest, self._rest = self._rest, b""
        return rest


def _check(data: bytes) -> None:
    for event in data.replace(b"\r\n", b"\n").split(b"\n\n"):
        lines = [line[5:] for line in event.split(b"\n") if line.startswith(b"data:")]
        text = b"\n".join(lines).strip()
        if text.startswith(b"{"):
            try:
                walk(text)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                raise UnreadableStream(
                    "The provider sent an event that is not whole JSON. What arrived is incomplete."
                ) from None
