"""Anthropic Messages: as spoken to vendors, as spoken by our callers, and relayed.

https://docs.claude.com/en/api/messages
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from controlplane.kit.errors import Fault
from controlplane.kit.json import InvalidJSON, JSONDict, loads_dict
from providers.protocols import numbers
from providers.protocols.anthropic_messages import (
    client_answer,
    client_request,
    errors,
    relay,
    request,
    response,
)
from providers.protocols.anthropic_messages.carried import SLUG
from providers.protocols.canonical import Event, ModelSpec, Request, Usage
from providers.protocols.codec import (
    ClientCall,
    EncodedAnswer,
    Meter,
    Reply,
    Restore,
    StreamDecoder,
    StreamEncoder,
    StreamFilter,
    UpstreamCall,
)
from providers.protocols.errors import RemoteProtocolError


class AnthropicMessages:
    """UpstreamCodec, ClientCodec and RelayCodec, and counting beside them."""

    slug = SLUG
    stream_media_type = "text/event-stream"

    # --- to a vendor ---

    def encode_request(
        self, request_: Request, model: ModelSpec, *, request_id: str
    ) -> UpstreamCall:
        return request.encode_request(request_, model)

    def encode_count_request(
        self, request_: Request, model: ModelSpec, *, request_id: str
    ) -> UpstreamCall:
        """The same request for the vendor's count_tokens."""
        return request.encode_count_request(request_, model)

    def decode_count(self, body: bytes) -> int:
        """The vendor's count. Raises RemoteProtocolError when there is none."""
        try:
            value = loads_dict(body).get("input_tokens")
        except InvalidJSON:
            value = None
        if type(value) is not int:
            raise RemoteProtocolError("The upstream's token count is unreadable.")
        return numbers.count(value)

    def decode_answer(self, body: bytes, restore: Restore, model: ModelSpec) -> list[Event]:
        return response.decode_answer(body, restore, model)

    def stream_decoder(self, restore: Restore, model: ModelSpec) -> StreamDecoder:
        return response.AnthropicStreamDecoder(restore, model)

    def decode_error(self, status: int, headers: Mapping[str, str], body: bytes) -> Fault:
        return errors.decode_error(status, headers, body)

    # --- to a client ---

    def decode_request(self, body: JSONDict, call: ClientCall) -> Request:
        return client_request.decode_request(body, call)

    def decode_count_request(self, body: JSONDict, call: ClientCall) -> Request:
        """A count_tokens body: the same without `max_tokens`."""
        return client_request.decode_request(body, call, is_count=True)

    def encode_count(self, tokens: int) -> JSONDict:
        return {"input_tokens": tokens}

    def encode_answer(self, events: Iterable[Event], reply: Reply) -> EncodedAnswer:
        return client_answer.encode_answer(events, reply)

    def stream_encoder(self, reply: Reply) -> StreamEncoder:
        return client_answer.AnthropicStreamEncoder(reply)

    def encode_error(self, fault: Fault, request_id: str = "") -> JSONDict:
        return errors.encode_error(fault, request_id)

    def encode_error_event(self, fault: Fault, request_id: str = "") -> bytes:
        return errors.encode_error_event(fault, request_id)

    # --- relayed ---

    def relay_request(
        self, raw: bytes, body: Mapping[str, Any], model: ModelSpec, *, stream: bool
    ) -> tuple[UpstreamCall, bytes]:
        return relay.relay_request(raw, body, model, stream=stream)

    def relay_count_request(
        self, raw: bytes, body: Mapping[str, Any], model: ModelSpec
    ) -> tuple[UpstreamCall, bytes]:
        return relay.relay_count_request(raw, body, model)

    def stream_meter(self, model: ModelSpec) -> Meter:
        return relay.AnthropicMeter()

    def stream_filter(self, body: Mapping[str, Any], model: ModelSpec) -> StreamFilter | None:
        return None

    def answer_usage(self, body: bytes) -> Usage | None:
        return relay.answer_usage(body)


CODEC: Final = AnthropicMessages()
