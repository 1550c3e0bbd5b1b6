"""Mistral: Chat Completions with ids, thoughts and fields of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from controlplane.kit.errors import Fault
from providers.protocols.canonical import Event, ModelSpec, Request
from providers.protocols.codec import Restore, StreamDecoder, UpstreamCall
from providers.protocols.mistral_conversations import errors, stream
from providers.protocols.mistral_conversations.messages import SLUG
from providers.protocols.mistral_conversations.request import encode_request


class MistralConversations:
    """UpstreamCodec. Nobody calls us in this dialect."""

    slug = SLUG
    stream_media_type = "text/event-stream"

    def encode_request(
        self, request: Request, model: ModelSpec, *, request_id: str
    ) -> UpstreamCall:
        return encode_request(request, model)

    def decode_answer(self, body: bytes, restore: Restore, model: ModelSpec) -> list[Event]:
        return stream.decode_answer(body, restore, model)

    def stream_decoder(self, restore: Restore, model: ModelSpec) -> StreamDecoder:
        return stream.AnswerStream(restore, model)

    def decode_error(self, status: int, headers: Mapping[str, str], body: bytes) -> Fault:
        return errors.decode_error(status, headers, body)


CODEC: Final = MistralConversations()
