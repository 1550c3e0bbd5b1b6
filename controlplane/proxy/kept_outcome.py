"""What is kept of an answer so that it can be given again, and what of it belongs to one request
alone."""

from __future__ import annotations

import zlib
from typing import Final

import msgspec

from controlplane.kit.secret import Secret
from controlplane.proxy.exchange import Answer

Pairs = list[tuple[bytes, bytes]]

# The id of a request and what is left of limits are true of one moment.
_MOMENTARY: Final = (b"x-request-id", b"content-length", b"retry-after", b"retry-after-ms")
_MOMENTARY_PREFIXES: Final = (b"x-ratelimit-", b"anthropic-ratelimit-")
# Streams repeat themselves in each event: the quickest level already makes them ten times smaller.
_LEVEL: Final = 1


class KeptOutcome(msgspec.Struct, frozen=True):
    """`content` is compressed; None where it was too large."""

    request_id: str
    status: int
    headers: list[tuple[str, str]]
    content: bytes | None
    is_stream: bool

    @classmethod
    def of(cls, answer: Answer, content: bytes | None, request_id: str) -> KeptOutcome:
        return cls(
            request_id=request_id,
            status=answer.status,
            headers=[
                (name.decode("latin-1"), value.decode("latin-1"))
                for name, value in lasting(answer.headers)
            ],
            content=None if content is None else zlib.compress(content, _LEVEL),
            is_stream=answer.stream is not None,
        )

    def pairs(self) -> Pairs:
        return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in self.headers]

    def sealable(self) -> Secret:
        return Secret(_encode(self).decode())


_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder(KeptOutcome).decode


def read(secret: Secret) -> KeptOutcome:
    return _decode(secret.reveal())


def lasting(headers: Pairs) -> Pairs:
    """The headers that are true of the answer whoever asks, and whenever."""
    return [
        (name, value)
        for name, value in headers
        if name not in _MOMENTARY and not name.startswith(_MOMENTARY_PREFIXES)
    ]
