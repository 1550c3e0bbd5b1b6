"""Reading one JSON event of an upstream into a typed struct, whatever bytes came."""

from __future__ import annotations

from typing import TypeVar

import msgspec

from controlplane.kit.json import InvalidJSON, depth_exceeds, dumps, loads
from providers.protocols.errors import RemoteProtocolError

T = TypeVar("T")


def read_chunk(decoder: msgspec.json.Decoder[T], data: bytes) -> T:
    if depth_exceeds(data):
        raise RemoteProtocolError("The upstream sent JSON that nests too deep.")
    try:
        return decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass
    try:
        # Half a surrogate pair (trap 11): the generic reader mends it.
        return decoder.decode(dumps(loads(data)))
    except (InvalidJSON, msgspec.DecodeError, RecursionError) as error:
        raise RemoteProtocolError(f"The upstream sent an unreadable chunk: {error}.") from None
