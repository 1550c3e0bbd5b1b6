"""GitHub Copilot's models: three protocols on one host, and one rule for who may ask."""

from __future__ import annotations

from typing import Final

from controlplane.kit import json
from controlplane.kit.json import JSONDict
from providers.simulator.asked import Ask, script_of
from providers.simulator.http import Request, Response, json_response
from providers.simulator.logins import copilot
from providers.simulator.logins.asking import Declined
from providers.simulator.wire import Refused, WireRoute
from providers.simulator.wire.anthropic import MessagesWire
from providers.simulator.wire.checks import require
from providers.simulator.wire.openai_chat import ChatWire
from providers.simulator.wire.openai_responses import ResponsesWire
from providers.simulator.world import World

# OpenAI takes them in Chat Completions, Copilot does not.
_NOT_HERE: Final = ("store", "reasoning_effort")
_IMAGES: Final = frozenset({"image", "image_url", "input_image"})


def _admitted(request: Request, path: str, world: World) -> None:
    """Who asks, for which model, and whether pictures were announced. Raises Refused."""
    try:
        account = copilot.signed_in_api(request, world).account
    except Declined as declined:
        raise _refused(declined.response, declined.rule) from None
    try:
        body = request.json()
    except json.InvalidJSON:
        return  # the protocol's own checks say what is wrong with it
    model = body.get("model") if isinstance(body, dict) else None
    name = script_of(model).base if isinstance(model, str) else ""
    if "sim" in name and (no := copilot.refuse_model(name, path, account, world)) is not None:
        raise _refused(no, "model" if no.status == 400 else "")
    require(
        not _shows_image(body) or request.headers.get("copilot-vision-request") == "true",
        "vision_header",
        "missing required Copilot-Vision-Request header for vision requests",
    )


def _refused(response: Response, rule: str) -> Refused:
    assert isinstance(response.body, bytes)
    error = json.loads_dict(response.body)["error"]
    return Refused(response.status, error["message"], code=error["code"], rule=rule)


def _shows_image(value: object) -> bool:
    if isinstance(value, list):
        return any(map(_shows_image, value))
    if not isinstance(value, dict):
        return False
    return value.get("type") in _IMAGES or any(map(_shows_image, value.values()))


def _error(refused: Refused) -> Response:
    code = refused.code or ("rate_limited" if refused.status == 429 else "bad_request")
    return json_response({"error": {"message": refused.message, "code": code}}, refused.status)


class CopilotChatWire(ChatWire):
    routes = (WireRoute("POST", "/chat/completions", "chat"),)

    def authenticate(self, request: Request, world: World) -> None:
        _admitted(request, "/chat/completions", world)

    def read(self, request: Request, body: JSONDict, world: World) -> Ask:
        for name in _NOT_HERE:
            require(name not in body, "field", f"{name}: Extra inputs are not permitted")
        return super().read(request, body, world)

    def error(self, refused: Refused) -> Response:
        return _error(refused)


class CopilotResponsesWire(ResponsesWire):
    routes = (WireRoute("POST", "/responses", "chat"),)

    def authenticate(self, request: Request, world: World) -> None:
        _admitted(request, "/responses", world)

    def error(self, refused: Refused) -> Response:
        return _error(refused)


class CopilotMessagesWire(MessagesWire):
    """A bearer here too, and no `x-api-key`."""

    routes = (WireRoute("POST", "/v1/messages", "chat"),)

    def authenticate(self, request: Request, world: World) -> None:
        _admitted(request, "/v1/messages", world)
        require(
            request.headers.get("anthropic-version"),
            "version",
            "anthropic-version: header is required",
        )

    def error(self, refused: Refused) -> Response:
        return _error(refused)


WIRES: Final = (CopilotChatWire(), CopilotResponsesWire(), CopilotMessagesWire())
