"""The contract of a protocol: pure, both directions, no clock, no I/O."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import msgspec

from controlplane.kit.errors import Fault
from controlplane.kit.json import JSONDict
from providers.protocols.canonical import Event, ModelSpec, Request, Usage
from providers.protocols.losses import Loss


class ClientCall(msgspec.Struct, frozen=True, kw_only=True):
    """What a dialect needs beside the body: Gemini has model and streaming in the path,
    Anthropic has beta names in a header."""

    model: str | None = None
    stream: bool | None = None
    betas: tuple[str, ...] = ()


class Restore(msgspec.Struct, frozen=True):
    """Wire name or id -> the client's own, for names that the target would have refused.

    `custom` holds wire names of custom tools emulated as functions with one string `input`;
    `namespaces` maps a qualified wire name to (namespace, name).
    """

    names: dict[str, str] = {}
    call_ids: dict[str, str] = {}
    custom: frozenset[str] = frozenset()
    namespaces: dict[str, tuple[str, str]] = {}


class UpstreamCall(msgspec.Struct, frozen=True, kw_only=True):
    """An encoded request: everything but host and credential.

    `path` is relative to the provider's base URL and starts with a slash; already
    percent-encoded. `headers` holds protocol headers only (anthropic-version, betas), never
    a credential.
    """

    path: str
    body: JSONDict
    query: dict[str, str] = {}
    headers: dict[str, str] = {}
    stream: bool = False
    restore: Restore = Restore()
    losses: tuple[Loss, ...] = ()


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """What a client-facing encoder needs to answer: who asked, with which words."""

    request: Request
    id: str  # unique per request, without the dialect's prefix
    created: int  # epoch seconds
    restore: Restore = Restore()


class EncodedAnswer(msgspec.Struct, frozen=True):
    body: JSONDict
    losses: tuple[Loss, ...] = ()


class StreamDecoder(Protocol):
    """Upstream bytes to events. `feed` takes any cutting and yields the same events.

    The last event is always End or Failed, emitted exactly once: when the protocol's own
    terminator is seen, or by `close()`. After it, further bytes are ignored. Unreadable or
    unbounded bytes raise RemoteProtocolError.
    """

    def feed(self, chunk: bytes) -> list[Event]: ...
    def close(self) -> list[Event]: ...


class StreamEncoder(Protocol):
    """Events to the client's bytes. Terminal bytes leave on End or Failed, once."""

    losses: list[Loss]

    def feed(self, event: Event) -> bytes: ...


class Meter(Protocol):
    """Watches a relayed stream, changing nothing: usage, first content, how it ended.

    Must not parse a chunk that cannot hold usage, an error or the end.
    """

    usage: Usage | None
    fault: Fault | None
    is_ended: bool  # the protocol's own terminator was seen
    has_content: bool  # something of the answer itself (not a handshake) was seen

    def feed(self, chunk: bytes) -> None: ...
    def close(self) -> None: ...


class UpstreamCodec(Protocol):
    """One wire protocol as spoken to a vendor."""

    slug: str
    # SSE text or a binary event stream: the media type of a streamed answer.
    stream_media_type: str

    def encode_request(
        self, request: Request, model: ModelSpec, *, request_id: str
    ) -> UpstreamCall:
        """Raises LocalProtocolError for what cannot be expressed."""
        ...

    def decode_answer(self, body: bytes, restore: Restore, model: ModelSpec) -> list[Event]:
        """A complete answer as the events of one that arrived at once. Raises
        RemoteProtocolError when the bytes are not an answer."""
        ...

    def stream_decoder(self, restore: Restore, model: ModelSpec) -> StreamDecoder: ...

    def decode_error(self, status: int, headers: Mapping[str, str], body: bytes) -> Fault:
        """An error answer, whatever its shape (JSON, HTML, empty). Header names are lower case.
        Never raises, never echoes a credential."""
        ...


class ClientCodec(Protocol):
    """One wire protocol as spoken by our callers: a dialect."""

    slug: str

    def decode_request(self, body: JSONDict, call: ClientCall) -> Request:
        """Raises LocalProtocolError naming the field."""
        ...

    def encode_answer(self, events: Iterable[Event], reply: Reply) -> EncodedAnswer:
        """The whole answer. The caller has already turned Failed into an error answer."""
        ...

    def stream_encoder(self, reply: Reply) -> StreamEncoder: ...

    def encode_error(self, fault: Fault, request_id: str = "") -> JSONDict: ...

    def encode_error_event(self, fault: Fault, request_id: str = "") -> bytes:
        """The error in this dialect's stream grammar, for after the first byte."""
        ...


class StreamFilter(Protocol):
    """Takes out of a relayed stream what only we asked for."""

    def feed(self, chunk: bytes) -> bytes: ...
    def close(self) -> bytes: ...


class RelayCodec(Protocol):
    """Same dialect on both sides: bytes are patched and relayed, never rebuilt."""

    def relay_request(
        self, raw: bytes, body: Mapping[str, Any], model: ModelSpec, *, stream: bool
    ) -> tuple[UpstreamCall, bytes]:
        """The call (its `body` unused, may be empty) and the bytes to send: `raw` with the model id
        and the few fields the provider needs changed, everything else byte for byte."""
        ...

    def stream_meter(self, model: ModelSpec) -> Meter: ...

    def stream_filter(self, body: Mapping[str, Any], model: ModelSpec) -> StreamFilter | None:
        """None when the client may see the stream as it comes."""
        ...

    def answer_usage(self, body: bytes) -> Usage | None:
        """Usage of a complete relayed answer; None when it reports none."""
        ...
