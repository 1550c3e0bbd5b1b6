"""Azure OpenAI: Responses and Chat Completions under a deployment's name, with its own errors."""

from __future__ import annotations

import re
from typing import Final

from controlplane.kit.json import JSONDict
from providers.simulator.asked import script_of
from providers.simulator.http import Request, Response, json_response
from providers.simulator.keys import key_status
from providers.simulator.wire import Refused, WireRoute, checks
from providers.simulator.wire.checks import require
from providers.simulator.wire.openai_chat import ChatWire
from providers.simulator.wire.openai_responses import ResponsesWire
from providers.simulator.wire.responses_answer import Manner
from providers.simulator.world import World

_VERSION: Final = re.compile(r"(v1|preview|latest|20\d\d-[01]\d-[0-3]\d(-preview)?)\Z")
# Under this path the version may be left out; the older paths need a dated one.
_CURRENT: Final = "/openai/v1/"
_DEPLOYMENT: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")
_HARMLESS: Final[JSONDict] = {"filtered": False, "severity": "safe"}


def _authenticate(request: Request, world: World) -> None:
    """A key in `api-key`, or a directory token as bearer."""
    key = request.headers.get("api-key") or request.bearer()
    status = key_status(key, world)
    if status:
        raise Refused(
            status,
            "Access denied due to invalid subscription key or wrong API endpoint. Make sure to "
            "provide a valid key for an active subscription and use a correct regional API "
            "endpoint for your resource.",
        )
    version = (request.query.get("api-version") or [""])[0]
    if not version and _CURRENT in request.path:
        return
    if not _VERSION.match(version):
        raise Refused(404, "Resource not found", rule="api_version", param="api-version")


def _deployment(name: object) -> str:
    """Deployments are named by the operator, more strictly than models."""
    model = checks.text(name, "model", may_be_empty=False)
    if not _DEPLOYMENT.match(script_of(model).base):
        raise Refused(
            404,
            "The API deployment for this resource does not exist. If you created the deployment "
            "within the last 5 minutes, please wait a moment and try again.",
            code="DeploymentNotFound",
            rule="deployment",
        )
    return model


def _no_tier(body: JSONDict) -> None:
    require(
        body.get("service_tier") in (None, "auto", "default"),
        "service_tier",
        "service_tier is a property of the deployment and cannot be set.",
    )


def _error(refused: Refused) -> Response:
    error: JSONDict = {
        "code": _code(refused),
        "message": refused.message,
        "param": refused.param or None,
        "type": "server_error" if refused.status >= 500 else "invalid_request_error",
    }
    if refused.code == "content_filter":
        violent: JSONDict = {"filtered": True, "severity": "high"}
        names = ("hate", "jailbreak", "self_harm", "sexual")
        error |= {
            "message": "The response was filtered due to the prompt triggering the content "
            "management policy.",
            "param": "prompt",
            "type": None,
            "status": 400,
            "innererror": {
                "code": "ResponsibleAIPolicyViolation",
                "content_filter_result": dict.fromkeys(names, _HARMLESS) | {"violence": violent},
            },
        }
    elif refused.status == 429:
        error["type"] = "too_many_requests"
        if not refused.code:
            error["message"] = (
                "The system is currently at peak load capacity. Please retry after "
                f"{refused.retry_after or '1'} seconds."
            )
    return json_response({"error": error}, refused.status)


def _code(refused: Refused) -> str:
    if refused.code:
        return "DeploymentNotFound" if refused.code == "model_not_found" else refused.code
    # The front door answers with bare numbers, the service behind it with words.
    if refused.status == 429:
        return "too_many_requests"
    return "invalid_value" if refused.status == 400 else str(refused.status)


class AzureResponsesWire(ResponsesWire):
    slug = "azure-openai-responses"
    routes = tuple(
        WireRoute(route.method, f"{base}{route.pattern.removeprefix('/v1')}", route.operation)
        for base in ("/openai/v1", "/openai")
        for route in ResponsesWire.routes
    )
    manner = Manner(is_late=True)

    def authenticate(self, request: Request, world: World) -> None:
        _authenticate(request, world)

    def model_of(self, request: Request, body: JSONDict) -> str:
        return _deployment(body.get("model"))

    def check_knobs(self, body: JSONDict) -> None:
        super().check_knobs(body)
        _no_tier(body)

    def error(self, refused: Refused) -> Response:
        return _error(refused)


class AzureChatWire(ChatWire):
    """The deployment stands in the path of older versions; the body may still name a model."""

    slug = "azure-openai-responses"
    routes = (
        WireRoute("POST", "/openai/v1/chat/completions", "chat"),
        WireRoute("POST", "/openai/deployments/{deployment}/chat/completions", "chat"),
    )

    def authenticate(self, request: Request, world: World) -> None:
        _authenticate(request, world)

    def model_of(self, request: Request, body: JSONDict) -> str:
        if named := request.params.get("deployment"):
            body["model"] = named
        return _deployment(body.get("model"))

    def knobs(self, body: JSONDict) -> None:
        super().knobs(body)
        _no_tier(body)

    def error(self, refused: Refused) -> Response:
        return _error(refused)


WIRES: Final = (AzureResponsesWire(), AzureChatWire())
