"""Vertex AI: the Gemini body under a project and a location, or under none (express mode)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from controlplane.kit import json
from controlplane.kit.json import JSONDict
from providers.protocols.canonical import Event
from providers.simulator.asked import Ask
from providers.simulator.http import Request, Response, json_response
from providers.simulator.keys import key_status
from providers.simulator.wire import Refused, WireRoute, checks, google_body
from providers.simulator.wire.checks import require
from providers.simulator.wire.gemini import (
    counted,
    embedded_text,
    json_body,
    model_name,
    vector,
)
from providers.simulator.wire.google_answer import Answer, error_body
from providers.simulator.world import World

SERVICE: Final = "aiplatform.googleapis.com"
_PLACE: Final = google_body.Place(
    "google-vertex", has_labels=True, has_service_tier=True, refuses_old_ids=True
)
# Ids, numbers, and the older domain-scoped ids.
_PROJECT: Final = re.compile(r"(?:[a-z0-9.-]+:)?[a-z][a-z0-9-]{4,28}[a-z0-9]\Z|[0-9]{6,20}\Z")
_LOCATION: Final = re.compile(r"global\Z|[a-z]+-[a-z]+[0-9]+\Z|[a-z]{2}\Z")
_MODELS: Final = ("sim-gemini", "sim-gemini-2.5", "sim-gemini-3")
_VERSIONS: Final = ("v1", "v1beta1")


def _routes(
    action: str, operation: str, *, stream: bool | None = None, query: str = ""
) -> tuple[WireRoute, ...]:
    places = ("/projects/{project}/locations/{location}", "")
    return tuple(
        WireRoute(
            "POST",
            f"/{version}{place}/publishers/{{publisher}}/models/{{model}}:{action}",
            operation,
            stream,
            query,
        )
        for version in _VERSIONS
        for place in places
    )


class VertexWire:
    slug = _PLACE.slug
    stream_media_type = "text/event-stream"
    routes: tuple[WireRoute, ...] = (
        *_routes("generateContent", "chat", stream=False),
        *_routes("streamGenerateContent", "chat", stream=True, query="alt=sse"),
        *_routes("countTokens", "count"),
        *_routes("embedContent", "embed"),
        *_routes("predict", "predict"),
        *(WireRoute("GET", f"/{v}/publishers/{{publisher}}/models", "models") for v in _VERSIONS),
        *(
            WireRoute("GET", f"/{v}/publishers/{{publisher}}/models/{{model}}", "model")
            for v in _VERSIONS
        ),
    )

    def authenticate(self, request: Request, world: World) -> None:
        key = request.headers.get("x-goog-api-key") or (request.query.get("key") or [""])[0]
        token = request.bearer()
        if not key and not token:
            raise Refused(
                401,
                "Request is missing required authentication credential. Expected OAuth 2 access "
                "token, login cookie or other valid authentication credential.",
            )
        has_project = "project" in request.params
        if has_project and not token:
            # Express mode has addresses of its own.
            raise Refused(
                401,
                "API keys are not supported by this API. Expected OAuth2 access token or other "
                "authentication credentials that assert a principal.",
                rule="api_key_with_project",
            )
        if not has_project and not key and request.method == "POST":
            raise Refused(
                403,
                "Permission denied: a request without a project needs an API key (express mode).",
                rule="token_without_project",
            )
        status = key_status(token if has_project else key or token, world)
        if status == 401 and not has_project and key:
            raise Refused(
                400, "API key not valid. Please pass a valid API key.", code="API_KEY_INVALID"
            )
        if status:
            raise Refused(
                status,
                "Request had invalid authentication credentials. Expected OAuth 2 access token, "
                "login cookie or other valid authentication credential.",
            )

    def model_of(self, request: Request, body: JSONDict) -> str:
        return model_name(request)

    def wants_stream(self, route: WireRoute, body: JSONDict) -> bool:
        return bool(route.stream)

    def read(self, request: Request, body: JSONDict, world: World) -> Ask:
        check_address(request)
        return google_body.read(
            body,
            model_name(request),
            _PLACE,
            prompt_bytes=len(request.body),
            id=world.token("vertex", 22),
            created=int(world.now().timestamp()),
        )

    def answer(self, ask: Ask, body: JSONDict, events: list[Event]) -> bytes:
        return json.dumps(Answer(ask, events, is_vertex=True).whole())

    def stream(self, ask: Ask, body: JSONDict, events: list[Event]) -> Iterable[bytes]:
        for chunk in Answer(ask, events, is_vertex=True).chunks():
            yield b"data: " + chunk + b"\r\n\r\n"

    def error(self, refused: Refused) -> Response:
        return json_response(error_body(refused, service=SERVICE), refused.status)

    def error_piece(self, refused: Refused) -> bytes:
        return b"data: " + json.dumps(error_body(refused, service=SERVICE)) + b"\r\n\r\n"

    async def other(self, route: WireRoute, request: Request, world: World) -> Response:
        check_address(request)
        if route.operation == "models":
            return json_response({"publisherModels": [_listed(name) for name in _MODELS]})
        if route.operation == "model":
            name = model_name(request)
            if name not in _MODELS:
                raise Refused(404, f"Publisher Model `publishers/google/models/{name}` not found.")
            return json_response(_listed(name))
        body = json_body(request)
        if route.operation == "predict":
            return json_response(_predict(body))
        body = google_body.in_camel(body)
        if route.operation == "embed":
            return json_response(_embed(body))
        google_body.known(
            body,
            ("contents", "systemInstruction", "tools", "generationConfig", "model", "instances"),
            "",
        )
        answer = counted(body, model_name(request))
        return json_response({**answer, "totalBillableCharacters": answer["totalTokens"] * 4})


class VertexArrayWire(VertexWire):
    """The same without `alt=sse`: one JSON array that arrives in pieces."""

    stream_media_type = "application/json; charset=UTF-8"
    routes = _routes("streamGenerateContent", "chat", stream=True)

    def stream(self, ask: Ask, body: JSONDict, events: list[Event]) -> Iterable[bytes]:
        lead = b"["
        for chunk in Answer(ask, events, is_vertex=True).chunks():
            yield lead + chunk
            lead = b",\r\n"
        yield b"]"

    def error(self, refused: Refused) -> Response:
        return json_response([error_body(refused, service=SERVICE)], refused.status)

    def error_piece(self, refused: Refused) -> bytes:
        lead = b",\r\n" if refused.position else b"["
        return lead + json.dumps(error_body(refused, service=SERVICE)) + b"]"


def check_address(request: Request) -> None:
    """Raises Refused for a project, location or publisher that cannot be."""
    where = request.params
    if "project" in where:
        require(
            _PROJECT.match(where["project"]),
            "project",
            f"Invalid resource field value in the request: projects/{where['project']}",
        )
        require(
            _LOCATION.match(where["location"]),
            "location",
            f"Unsupported region for Vertex AI, select from the supported regions: "
            f"{where['location']}",
        )
    if where["publisher"] != "google":
        raise Refused(
            404,
            f"Publisher Model `publishers/{where['publisher']}` not found: only google's speak "
            "this protocol.",
            rule="publisher",
        )


def _embed(body: JSONDict) -> JSONDict:
    google_body.known(
        body,
        (
            "content",
            "taskType",
            "title",
            "outputDimensionality",
            "autoTruncate",
            "embedContentConfig",
        ),
        "embed",
    )
    wish = {**body, **(body.get("embedContentConfig") or {})}
    size = checks.whole_number(
        wish.get("outputDimensionality") or 768, "output_dimensionality", 1, 3072
    )
    text = embedded_text(body.get("content"), "content")
    return {
        "embedding": {"values": vector(text, size)},
        "usageMetadata": {"promptTokenCount": len(text) // 4 + 1},
        "truncated": False,
    }


def _predict(body: JSONDict) -> JSONDict:
    """Text embeddings, the older way."""
    instances = checks.items(body.get("instances"), "instances")
    require(instances, "instances", "instances: at least one is needed")
    parameters = checks.table(body.get("parameters") or {}, "parameters")
    size = checks.whole_number(
        parameters.get("outputDimensionality") or 768, "outputDimensionality", 1, 3072
    )
    predictions = []
    for number, instance in enumerate(instances):
        place = f"instances[{number}]"
        text = checks.text(
            checks.table(instance, place).get("content"), f"{place}.content", may_be_empty=False
        )
        statistics = {"token_count": len(text) // 4 + 1, "truncated": False}
        predictions.append({"embeddings": {"values": vector(text, size), "statistics": statistics}})
    return {"predictions": predictions}


def _listed(name: str) -> JSONDict:
    return {
        "name": f"publishers/google/models/{name}",
        "versionId": "001",
        "openSourceCategory": "PROPRIETARY",
        "launchStage": "GA",
        "publisherModelTemplate": "projects/{project}/locations/{location}/publishers/google/"
        f"models/{name}",
    }


WIRES: Final = (VertexWire(), VertexArrayWire())
