"""The Responses codec; its variants change what differs and share the rest."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from controlplane.kit.errors import Fault
from controlplane.kit.json import JSONDict
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
from providers.protocols.openai_completions import errors
from providers.protocols.openai_responses.carriers import SLUG
from providers.protocols.openai_responses.client_request import decode_request
from providers.protocols.openai_responses.client_stream import (
    ResponsesStreamEncoder,
    encode_answer,
    error_event,
)
from providers.protocols.openai_responses.meter import ResponsesMeter, answer_usage
from providers.protocols.openai_responses.relay import relay_request
from providers.protocols.openai_responses.request import encode_request
from providers.protocols.openai_responses.stream import ResponsesStreamDecoder, decode_answer


class ResponsesUpstream:
    """Toward a vendor: what OpenAI, Azure and Codex share."""

    slug = SLUG
    stream_media_type = "text/event-stream"

    def encode_request(
        self, request: Request, model: ModelSpec, *, request_id: str
    ) -> UpstreamCall:
        return encode_request(request, model)

    def decode_answer(self, body: bytes, restore: Restore, model: ModelSpec) -> list[Event]:
        return decode_answer(body, restore, model, self.slug)

    def stream_decoder(self, restore: Restore, model: ModelSpec) -> StreamDecoder:
        return ResponsesStreamDecoder(restore, model, self.slug)

    def decode_error(self, status: int, headers: Mapping[str, str], body: bytes) -> Fault:
        return errors.decode_error(status, headers, body)


class ResponsesRelay:
    """The same on both sides."""

    def relay_request(
        self, raw: bytes, body: Mapping[str, Any], model: ModelSpec, *, stream: bool
    ) -> tuple[UpstreamCall, bytes]:
        return relay_request(raw, body, model, stream=stream)

    def stream_meter(self, model: ModelSpec) -> Meter:
        return ResponsesMeter()

    def stream_filter(self, body: Mapping[str, Any], model: ModelSpec) -> StreamFilter | None:
        return None

    def answer_usage(self, body: bytes) -> Usage | None:
        return answer_usage(body)


class ResponsesCodec(ResponsesUpstream, ResponsesRelay):
    """All three halves."""

    def decode_request(self, body: JSONDict, call: ClientCall) -> Request:
        return decode_request(body)

    def encode_answer(self, events: Iterable[Event], reply: Reply) -> EncodedAnswer:
        return encode_answer(events, reply)

    def stream_encoder(self, reply: Reply) -> StreamEncoder:
        return ResponsesStreamEncoder(reply)

    def encode_error(self, fault: Fault, request_id: str = "") -> JSONDict:
        return errors.encode_error(fault)

    def encode_error_event(self, fault: Fault, request_id: str = "") -> bytes:
        return error_event(fault)
