"""OpenAI Chat Completions: what most vendors speak, and what most of our callers do."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from controlplane.kit.errors import Fault
from controlplane.kit.json import JSONDict, dumps
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
from providers.protocols.openai_completions.client_answer import encode_answer
from providers.protocols.openai_completions.client_request import SLUG, decode_request
from providers.protocols.openai_completions.client_stream import ChatStreamEncoder
from providers.protocols.openai_completions.meter import (
    ChatMeter,
    UsageChunkFilter,
    answer_usage,
    needs_usage_filter,
)
from providers.protocols.openai_completions.relay import relay_request
from providers.protocols.openai_completions.request import encode_request
from providers.protocols.openai_completions.stream import ChatStreamDecoder, decode_answer
from providers.protocols.sse import DONE, data_event


class ChatCodec:
    """All three halves."""

    slug = SLUG
    stream_media_type = "text/event-stream"

    # --- toward a vendor ---

    def encode_request(
        self, request: Request, model: ModelSpec, *, request_id: str
    ) -> UpstreamCall:
        return encode_request(request, model)

    def decode_answer(self, body: bytes, restore: Restore, model: ModelSpec) -> list[Event]:
        return decode_answer(body, restore, model)

    def stream_decoder(self, restore: Restore, model: ModelSpec) -> StreamDecoder:
        return ChatStreamDecoder(restore, model)

    def decode_error(self, status: int, headers: Mapping[str, str], body: bytes) -> Fault:
        return errors.decode_error(status, headers, body)

    # --- toward a client ---

    def decode_request(self, body: JSONDict, call: ClientCall) -> Request:
        return decode_request(body)

    def encode_answer(self, events: Iterable[Event], reply: Reply) -> EncodedAnswer:
        return encode_answer(events, reply)

    def stream_encoder(self, reply: Reply) -> StreamEncoder:
        return ChatStreamEncoder(reply)

    def encode_error(self, fault: Fault, request_id: str = "") -> JSONDict:
        return errors.encode_error(fault)

    def encode_error_event(self, fault: Fault, request_id: str = "") -> bytes:
        return data_event(dumps(errors.encode_error(fault))) + DONE

    # --- the same on both sides ---

    def relay_request(
        self, raw: bytes, body: Mapping[str, Any], model: ModelSpec, *, stream: bool
    ) -> tuple[UpstreamCall, bytes]:
        return relay_request(raw, body, model, stream=stream)

    def stream_meter(self, model: ModelSpec) -> Meter:
        return ChatMeter(model)

    def stream_filter(self, body: Mapping[str, Any], model: ModelSpec) -> StreamFilter | None:
        return UsageChunkFilter() if needs_usage_filter(body, model) else None

    def answer_usage(self, body: bytes) -> Usage | None:
        return answer_usage(body)


CODEC: Final = ChatCodec()
