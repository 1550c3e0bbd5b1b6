"""Kiro's generateAssistantResponse, the wire of Amazon Q Developer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from controlplane.kit.errors import Fault
from providers.protocols.canonical import Event, ModelSpec, Request
from providers.protocols.codec import Restore, StreamDecoder, UpstreamCall
from providers.protocols.eventstream import MEDIA_TYPE
from providers.protocols.kiro_generate_assistant import errors, request, response
from providers.protocols.kiro_generate_assistant.names import SLUG


class KiroGenerateAssistant:
    """UpstreamCodec. No caller speaks it to us, and every answer is a stream."""

    slug = SLUG
    stream_media_type = MEDIA_TYPE

    def encode_request(
        self, request_: Request, model: ModelSpec, *, request_id: str
    ) -> UpstreamCall:
        return request.encode_request(request_, model, request_id=request_id)

    def decode_answer(self, body: bytes, restore: Restore, model: ModelSpec) -> list[Event]:
        return response.decode_answer(body, restore, model)

    def stream_decoder(self, restore: Restore, model: ModelSpec) -> StreamDecoder:
        return response.KiroStreamDecoder(restore, model)

    def decode_error(self, status: int, headers: Mapping[str, str], body: bytes) -> Fault:
        return errors.decode_error(status, headers, body)


CODEC: Final = KiroGenerateAssistant()
