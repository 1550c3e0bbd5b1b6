"""The codec objects: Google's wire as upstream, as dialect, and as relay."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final
from urllib.parse import quote

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
from providers.protocols.google_generative_ai import answer, client_answer, errors, relay
from providers.protocols.google_generative_ai.client_errors import encode_error
from providers.protocols.google_generative_ai.client_request import decode_count, decode_request
from providers.protocols.google_generative_ai.counting import decode_count_answer, encode_count
from providers.protocols.google_generative_ai.family import SLUG
from providers.protocols.google_generative_ai.request import Differences, encode_body
from providers.protocols.losses import Loss

_SSE: Final = {"alt": "sse"}


def model_segment(model_id: str) -> str:
    """The model as a path segment: slashes inside a name are part of it (trap 190)."""
    return quote(model_id.removeprefix("models/"), safe="")


class GoogleUpstream:
    """What the three Google wires share. Subclasses say where a request goes, and wrap it."""

    slug = SLUG
    stream_media_type = "text/event-stream"
    differences = Differences()

    def path(self, model: ModelSpec, action: str) -> str:
        if model.id.startswith("tunedModels/"):
            return f"/tunedModels/{quote(model.id.removeprefix('tunedModels/'), safe='')}:{action}"
        return f"/models/{model_segment(model.id)}:{action}"

    def envelope(
        self,
        body: JSONDict,
        request: Request,
        model: ModelSpec,
        request_id: str,
        losses: list[Loss],
    ) -> JSONDict:
        return body

    def headers(self, model: ModelSpec) -> dict[str, str]:
        return {}

    def encode_request(
        self, request: Request, model: ModelSpec, *, request_id: str
    ) -> UpstreamCall:
        encoded = encode_body(request, model, self.differences)
        return UpstreamCall(
            path=self.path(model, _action(request.stream)),
            body=self.envelope(encoded.body, request, model, request_id, encoded.losses),
            query=_SSE if request.stream else {},
            headers=self.headers(model),
            stream=request.stream,
            restore=encoded.restore,
            losses=tuple(encoded.losses),
        )

    def encode_count_request(
        self, request: Request, model: ModelSpec, *, request_id: str
    ) -> UpstreamCall:
        """The same request for countTokens, system prompt and tools included."""
        encoded = encode_body(request, model, self.differences)
        return UpstreamCall(
            path=self.path(model, "countTokens"),
            body=self.count_body(encoded.body, model),
            losses=tuple(encoded.losses),
        )

    def count_body(self, body: JSONDict, model: ModelSpec) -> JSONDict:
        return {"generateContentRequest": {"model": relay.model_name(model), **body}}

    def decode_count(self, body: bytes) -> int:
        """The vendor's count. Raises RemoteProtocolError when there is none."""
        return decode_count_answer(body)

    def decode_answer(self, body: bytes, restore: Restore, model: ModelSpec) -> list[Event]:
        return answer.decode_answer(body, restore, model)

    def stream_decoder(self, restore: Restore, model: ModelSpec) -> StreamDecoder:
        return answer.AnswerStream(restore, model)

    def decode_error(self, status: int, headers: Mapping[str, str], body: bytes) -> Fault:
        return errors.decode_error(status, headers, body)


def _action(stream: bool) -> str:
    return "streamGenerateContent" if stream else "generateContent"


class GoogleRelay(GoogleUpstream):
    """Gemini clients can be relayed to Gemini and to Vertex: the body is the same."""

    relays = frozenset({SLUG})

    def relay_request(
        self, raw: bytes, body: Mapping[str, Any], model: ModelSpec, *, stream: bool
    ) -> tuple[UpstreamCall, bytes]:
        call = UpstreamCall(
            path=self.path(model, _action(stream)),
            body={},
            query=self._relay_query(stream),
            headers=self.headers(model),
            stream=stream,
        )
        return call, relay.patched(raw, body, model)

    def _relay_query(self, stream: bool) -> dict[str, str]:
        return _SSE if stream else {}

    def relay_count_request(
        self, raw: bytes, body: Mapping[str, Any], model: ModelSpec
    ) -> tuple[UpstreamCall, bytes]:
        call = UpstreamCall(path=self.path(model, "countTokens"), body={})
        return call, relay.patched(raw, body, model)

    def stream_meter(self, model: ModelSpec) -> Meter:
        return relay.SSEMeter()

    def stream_filter(self, body: Mapping[str, Any], model: ModelSpec) -> StreamFilter | None:
        return None

    def answer_usage(self, body: bytes) -> Usage | None:
        return relay.answer_usage(body)


class GoogleGenerativeAI(GoogleRelay):
    def decode_request(self, body: JSONDict, call: ClientCall) -> Request:
        return decode_request(body, call)

    def decode_count_request(self, body: JSONDict, call: ClientCall) -> Request:
        return decode_count(body, call)

    def encode_count(self, tokens: int, cached: int = 0) -> JSONDict:
        return encode_count(tokens, cached)

    def encode_answer(self, events: Iterable[Event], reply: Reply) -> EncodedAnswer:
        return client_answer.encode_answer(events, reply)

    def stream_encoder(self, reply: Reply) -> StreamEncoder:
        return client_answer.SSEEncoder(reply)

    def encode_error(self, fault: Fault, request_id: str = "") -> JSONDict:
        return encode_error(fault, request_id)

    def encode_error_event(self, fault: Fault, request_id: str = "") -> bytes:
        return client_answer.encode_error_event(fault, request_id)


class GoogleArray(GoogleGenerativeAI):
    """The same dialect for a client that streams without `alt=sse`: one JSON array in pieces."""

    stream_media_type = "application/json"

    def stream_encoder(self, reply: Reply) -> StreamEncoder:
        return client_answer.ArrayEncoder(reply)

    def encode_error_event(self, fault: Fault, request_id: str = "") -> bytes:
        return client_answer.encode_error_element(fault, request_id)

    def _relay_query(self, stream: bool) -> dict[str, str]:
        return {}

    def stream_meter(self, model: ModelSpec) -> Meter:
        return relay.ArrayMeter()
