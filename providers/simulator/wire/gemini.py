"""The Gemini API as Google enforces it: generate, stream, count, embed, list."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable
from typing import Any, Final

from controlplane.kit import json
from controlplane.kit.json import JSONDict
from providers.protocols.canonical import Event
from providers.simulator.asked import Ask
from providers.simulator.http import Request, Response, json_response
from providers.simulator.keys import key_status
from providers.simulator.wire import Refused, WireRoute, checks, google_body
from providers.simulator.wire.checks import require
from providers.simulator.wire.google_answer import Answer, error_body
from providers.simulator.wire.google_contents import Conversation, family_of
from providers.simulator.world import World

SERVICE: Final = "generativelanguage.googleapis.com"
_PLACE: Final = google_body.Place("google-generative-ai", has_service_tier=True)
_MODELS: Final = ("sim-gemini", "sim-gemini-2.5", "sim-gemini-3")
_EMBEDDING: Final = "sim-gemini-embedding"
_TASKS: Final = (
    "TASK_TYPE_UNSPECIFIED", "RETRIEVAL_QUERY", "RETRIEVAL_DOCUMENT", "SEMANTIC_SIMILARITY",
    "CLASSIFICATION", "CLUSTERING", "QUESTION_ANSWERING", "FACT_VERIFICATION",
    "CODE_RETRIEVAL_QUERY",
)  # fmt: skip


def _routes(action: str, operation: str, *, stream: bool | None = None, query: str = "") -> Any:
    return tuple(
        WireRoute("POST", f"/{version}/models/{{model}}:{action}", operation, stream, query)
        for version in ("v1beta", "v1")
    )


def model_name(request: Request) -> str:
    """From the path, where a plus is a plus."""
    return request.params["model"]


def given_key(request: Request) -> str:
    query = (request.query.get("key") or [""])[0]
    return request.headers.get("x-goog-api-key") or query or request.bearer()


class GeminiWire:
    slug = _PLACE.slug
    stream_media_type = "text/event-stream"
    routes: tuple[WireRoute, ...] = (
        *_routes("generateContent", "chat", stream=False),
        *_routes("streamGenerateContent", "chat", stream=True, query="alt=sse"),
        *_routes("countTokens", "count"),
        *_routes("embedContent", "embed"),
        *_routes("batchEmbedContents", "embed_batch"),
        WireRoute("GET", "/v1beta/models", "models"),
        WireRoute("GET", "/v1/models", "models"),
        WireRoute("GET", "/v1beta/models/{model}", "model"),
        WireRoute("GET", "/v1/models/{model}", "model"),
    )

    def authenticate(self, request: Request, world: World) -> None:
        key = given_key(request)
        if not key:
            raise Refused(
                403,
                "Method doesn't allow unauthenticated callers (callers without established "
                "identity). Please use API Key or other form of API consumer identity to call "
                "this API.",
            )
        status = key_status(key, world)
        if status == 401 and not request.bearer():
            # A wrong key is a bad argument here, not a missing login.
            raise Refused(
                400, "API key not valid. Please pass a valid API key.", code="API_KEY_INVALID"
            )
        if status:
            raise Refused(status, "Request had invalid authentication credentials.")

    def model_of(self, request: Request, body: JSONDict) -> str:
        return model_name(request)

    def wants_stream(self, route: WireRoute, body: JSONDict) -> bool:
        return bool(route.stream)

    def read(self, request: Request, body: JSONDict, world: World) -> Ask:
        return google_body.read(
            body,
            model_name(request),
            _PLACE,
            prompt_bytes=len(request.body),
            id=world.token("gemini", 22),
            created=int(world.now().timestamp()),
        )

    def answer(self, ask: Ask, body: JSONDict, events: list[Event]) -> bytes:
        return json.dumps(Answer(ask, events).whole())

    def stream(self, ask: Ask, body: JSONDict, events: list[Event]) -> Iterable[bytes]:
        for chunk in Answer(ask, events).chunks():
            yield b"data: " + chunk + b"\r\n\r\n"

    def error(self, refused: Refused) -> Response:
        return json_response(error_body(refused, service=SERVICE), refused.status)

    def error_piece(self, refused: Refused) -> bytes:
        return b"data: " + json.dumps(error_body(refused, service=SERVICE)) + b"\r\n\r\n"

    async def other(self, route: WireRoute, request: Request, world: World) -> Response:
        match route.operation:
            case "models":
                return json_response({"models": [_listed(name) for name in (*_MODELS, _EMBEDDING)]})
            case "model":
                name = model_name(request)
                if name not in (*_MODELS, _EMBEDDING):
                    raise Refused(404, f"Model is not found: models/{name}.")
                return json_response(_listed(name))
        body = google_body.in_camel(json_body(request))
        match route.operation:
            case "count":
                return json_response(_count(body, request))
            case "embed":
                return json_response({"embedding": _embedded(body), **_spent([body])})
            case _:
                inner = checks.items(body.get("requests"), "requests")
                require(inner, "requests", "* BatchEmbedContentsRequest.requests: not specified")
                for number, one in enumerate(inner):
                    named = checks.table(one, f"requests[{number}]").get("model")
                    require(
                        named == f"models/{model_name(request)}",
                        "model",
                        f"requests[{number}].model: must be models/{model_name(request)}",
                    )
                vectors = [_embedded(one) for one in inner]
                return json_response({"embeddings": vectors, **_spent(inner)})


class GeminiArrayWire(GeminiWire):
    """The same without `alt=sse`: one JSON array that arrives in pieces."""

    stream_media_type = "application/json; charset=UTF-8"
    routes = _routes("streamGenerateContent", "chat", stream=True)

    def stream(self, ask: Ask, body: JSONDict, events: list[Event]) -> Iterable[bytes]:
        lead = b"["
        for chunk in Answer(ask, events).chunks():
            yield lead + chunk
            lead = b",\r\n"
        yield b"]"

    def error(self, refused: Refused) -> Response:
        return json_response([error_body(refused, service=SERVICE)], refused.status)

    def error_piece(self, refused: Refused) -> bytes:
        lead = b",\r\n" if refused.position else b"["
        return lead + json.dumps(error_body(refused, service=SERVICE)) + b"]"


def json_body(request: Request) -> JSONDict:
    try:
        return json.loads_dict(request.body)
    except json.InvalidJSON as error:
        raise Refused(400, f"Invalid JSON payload received. {error}", rule="json") from None


def counted(body: JSONDict, model: str) -> JSONDict:
    """Checks what is to be counted as if it were to be answered."""
    base = model.partition("+")[0]
    Conversation(base=base, family=family_of(base)).read(body.get("contents"))
    google_body.system(body)
    google_body.read_tools(body, family_of(base))
    tokens = math.ceil(len(json.dumps(body)) / 4)
    return {
        "totalTokens": tokens,
        "promptTokensDetails": [{"modality": "TEXT", "tokenCount": tokens}],
    }


def _count(body: JSONDict, request: Request) -> JSONDict:
    google_body.known(body, ("contents", "generateContentRequest", "model"), "")
    require(
        not ("contents" in body and "generateContentRequest" in body),
        "count",
        "Only one of contents and generate_content_request may be set.",
    )
    inner = body
    if "generateContentRequest" in body:
        inner = checks.table(body["generateContentRequest"], "generate_content_request")
        name = model_name(request)
        require(
            inner.get("model") == f"models/{name}",
            "model",
            f"generate_content_request.model: must be models/{name}",
        )
    return counted(inner, model_name(request))


def embedded_text(content: Any, place: str) -> str:
    parts = checks.items(checks.table(content, place).get("parts"), f"{place}.parts")
    words = [
        checks.text(checks.table(part, place).get("text"), f"{place}.parts[{number}].text")
        for number, part in enumerate(parts)
    ]
    require("".join(words), "content", f"{place}: content is empty")
    return "\n".join(words)


def _embedded(body: JSONDict) -> JSONDict:
    google_body.known(
        body, ("model", "content", "taskType", "title", "outputDimensionality"), "embed"
    )
    if body.get("taskType") is not None:
        checks.one_of(body["taskType"], "task_type", _TASKS)
    size = checks.whole_number(
        body.get("outputDimensionality") or 768, "output_dimensionality", 1, 3072
    )
    return {"values": vector(embedded_text(body.get("content"), "content"), size)}


def vector(text: str, size: int) -> list[float]:
    """The same numbers for the same text, of length one."""
    numbers = [byte - 127.5 for byte in hashlib.shake_256(text.encode()).digest(size)]
    length = math.sqrt(math.fsum(number * number for number in numbers))
    return [round(number / length, 7) for number in numbers]


def _spent(requests: list[Any]) -> JSONDict:
    tokens = math.ceil(sum(len(json.dumps(one.get("content"))) for one in requests) / 4)
    return {"usageMetadata": {"promptTokenCount": tokens}}


def _listed(name: str) -> JSONDict:
    is_embedding = name == _EMBEDDING
    methods = (
        ["embedContent", "batchEmbedContents"]
        if is_embedding
        else ["generateContent", "countTokens", "createCachedContent", "batchGenerateContent"]
    )
    return {
        "name": f"models/{name}",
        "version": "001",
        "displayName": name.replace("-", " ").title(),
        "description": "A simulated model.",
        "inputTokenLimit": 2048 if is_embedding else 1_048_576,
        "outputTokenLimit": 1 if is_embedding else 65_536,
        "supportedGenerationMethods": methods,
        **({} if is_embedding else {"temperature": 1, "topP": 0.95, "topK": 64, "thinking": True}),
    }


WIRES: Final = (GeminiWire(), GeminiArrayWire())
