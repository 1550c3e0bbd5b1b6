"""Amazon Bedrock Converse and ConverseStream.

https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_ConverseStream.html
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from controlplane.kit.errors import Fault
from providers.protocols.bedrock_converse_stream import errors, request, response
from providers.protocols.bedrock_converse_stream.content import SLUG
from providers.protocols.canonical import Event, ModelSpec, Request
from providers.protocols.codec import Restore, StreamDecoder, UpstreamCall
from providers.protocols.eventstream import MEDIA_TYPE


class BedrockConverseStream:
    """UpstreamCodec. No caller speaks it to us."""

    slug = SLUG
    stream_media_type = MEDIA_TYPE

    def encode_request(
        self, request_: Request, model: ModelSpec, *, request_id: str
    ) -> UpstreamCall:
        return request.encode_request(request_, model)

    def decode_answer(self, body: bytes, restore: Restore, model: ModelSpec) -> list[Event]:
        return response.decode_answer(body, restore, model)

    def stream_decoder(self, restore: Restore, model: ModelSpec) -> StreamDecoder:
        return response.BedrockStreamDecoder(restore, model)

    def decode_error(self, status: int, headers: Mapping[str, str], body: bytes) -> Fault:
        return errors.decode_error(status, headers, body)


CODEC: Final = BedrockConverseStream()
