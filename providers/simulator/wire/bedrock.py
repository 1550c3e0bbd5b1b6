"""Amazon Bedrock as AWS enforces it: Converse, ConverseStream, and the lists of models."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from controlplane.kit import json
from controlplane.kit.json import JSONDict
from providers.protocols import eventstream
from providers.protocols.canonical import Event
from providers.simulator.asked import Ask
from providers.simulator.http import Request, Response, json_response
from providers.simulator.keys import key_status
from providers.simulator.wire import Refused, WireRoute, sigv4
from providers.simulator.wire.bedrock_answer import answer_of, frames_of
from providers.simulator.wire.bedrock_body import read_body
from providers.simulator.world import World

_EXCEPTIONS: Final = {
    401: "UnrecognizedClientException",
    402: "ServiceQuotaExceededException",
    403: "AccessDeniedException",
    404: "ResourceNotFoundException",
    408: "ModelTimeoutException",
    409: "ConflictException",
    424: "ModelErrorException",
    429: "ThrottlingException",
    503: "ServiceUnavailableException",
    504: "ModelTimeoutException",
    529: "ServiceUnavailableException",
}
# In mid-stream only these exist.
_STREAM_EXCEPTIONS: Final = {
    400: "validationException",
    408: "modelStreamErrorException",
    424: "modelStreamErrorException",
    429: "throttlingException",
    503: "serviceUnavailableException",
    529: "serviceUnavailableException",
}
_ARN: Final = "arn:aws:bedrock:us-east-1"
_MODELS: Final = ("sim-claude", "sim-nova", "sim-gpt-oss", "sim-llama")


class BedrockWire:
    slug = "bedrock-converse-stream"
    stream_media_type = eventstream.MEDIA_TYPE
    # An id with a raw slash (an ARN that was not percent-encoded) finds no path, as at AWS.
    routes = (
        WireRoute("POST", "/model/{model}/converse", "chat", False),
        WireRoute("POST", "/model/{model}/converse-stream", "chat", True),
        WireRoute("GET", "/foundation-models", "models"),
        WireRoute("GET", "/foundation-models/{model}", "model"),
        WireRoute("GET", "/inference-profiles", "profiles"),
    )

    def authenticate(self, request: Request, world: World) -> None:
        header = request.headers.get("authorization", "")
        if header.startswith("AWS4-HMAC-SHA256"):
            sigv4.verify(request, world)
            return
        if not header:
            raise Refused(
                403, "Missing Authentication Token", code="MissingAuthenticationTokenException"
            )
        status = key_status(request.bearer(), world)
        if status:
            raise Refused(
                403 if status == 401 else status,
                "Authentication failed: Please make sure your API Key is valid.",
                code="AccessDeniedException",
            )

    def model_of(self, request: Request, body: JSONDict) -> str:
        return request.params["model"]

    def wants_stream(self, route: WireRoute, body: JSONDict) -> bool:
        return bool(route.stream)

    def read(self, request: Request, body: JSONDict, world: World) -> Ask:
        return read_body(
            body,
            self.model_of(request, body),
            prompt_bytes=len(request.body),
            id=world.token("bedrock", 16),
            created=int(world.now().timestamp()),
        )

    def answer(self, ask: Ask, body: JSONDict, events: list[Event]) -> bytes:
        return json.dumps(answer_of(ask, events, body))

    def stream(self, ask: Ask, body: JSONDict, events: list[Event]) -> Iterable[bytes]:
        return frames_of(ask, events, body)

    def error(self, refused: Refused) -> Response:
        name = _exception(refused)
        return json_response(
            {"message": refused.message},
            refused.status,
            x_amzn_ErrorType=f"{name}:http://internal.amazon.com/coral/com.amazon.bedrock/",
        )

    def error_piece(self, refused: Refused) -> bytes:
        name = _STREAM_EXCEPTIONS.get(
            refused.status,
            "internalServerException" if refused.status >= 500 else "validationException",
        )
        payload: JSONDict = {"message": refused.message}
        if name == "modelStreamErrorException":
            payload |= {
                "originalStatusCode": refused.status,
                "originalMessage": refused.message,
            }
        return eventstream.encode_exception(name, json.dumps(payload))

    async def other(self, route: WireRoute, request: Request, world: World) -> Response:
        query = {name: values[-1] for name, values in request.query.items()}
        match route.operation:
            case "models":
                found = [_listed(name) for name in _MODELS]
                wanted = query.get("byOutputModality", "TEXT")
                provider = query.get("byProvider")
                return json_response(
                    {
                        "modelSummaries": [
                            model
                            for model in found
                            if wanted in model["outputModalities"]
                            and provider in (None, model["providerName"])
                        ]
                    }
                )
            case "model":
                name = request.params["model"].rpartition("/")[2]
                if name not in _MODELS:
                    raise Refused(
                        404, f"Could not resolve the foundation model from the model id {name}."
                    )
                return json_response({"modelDetails": _listed(name)})
            case _:
                return json_response(
                    {"inferenceProfileSummaries": [_profile(name) for name in _MODELS]}
                )


def _exception(refused: Refused) -> str:
    if refused.code.endswith("Exception"):
        return refused.code
    other = "InternalServerException" if refused.status >= 500 else "ValidationException"
    return _EXCEPTIONS.get(refused.status, other)


def _arn(name: str) -> str:
    return f"{_ARN}::foundation-model/{name}"


def _listed(name: str) -> JSONDict:
    return {
        "modelArn": _arn(name),
        "modelId": name,
        "modelName": name.replace("-", " ").title(),
        "providerName": "Simulator",
        "inputModalities": ["TEXT", "IMAGE"],
        "outputModalities": ["TEXT"],
        "responseStreamingSupported": True,
        "customizationsSupported": [],
        "inferenceTypesSupported": ["ON_DEMAND"],
        "modelLifecycle": {"status": "ACTIVE"},
    }


def _profile(name: str) -> dict[str, Any]:
    profile = f"us.{name}"
    return {
        "inferenceProfileName": f"US {name}",
        "inferenceProfileId": profile,
        "inferenceProfileArn": f"{_ARN}:000000000000:inference-profile/{profile}",
        "models": [{"modelArn": _arn(name)}],
        "status": "ACTIVE",
        "type": "SYSTEM_DEFINED",
        "description": "A simulated profile.",
        "createdAt": "2026-01-01T00:00:00Z",
        "updatedAt": "2026-01-01T00:00:00Z",
    }


WIRES: Final = (BedrockWire(),)
