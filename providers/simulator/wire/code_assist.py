"""Cloud Code Assist: the Gemini body in an envelope, for the CLI and for Antigravity."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from controlplane.kit import json
from controlplane.kit.json import JSONDict
from providers.protocols.canonical import Event
from providers.simulator.asked import Ask
from providers.simulator.http import Request, Response, json_response
from providers.simulator.keys import key_status
from providers.simulator.wire import Refused, WireRoute, checks, google_body
from providers.simulator.wire.answer_headers import go_duration, seconds
from providers.simulator.wire.checks import fail, require
from providers.simulator.wire.gemini import counted, json_body
from providers.simulator.wire.google_answer import Answer, error_body
from providers.simulator.world import World

SERVICE: Final = "cloudcode-pa.googleapis.com"
_PLACE: Final = google_body.Place(
    "google-gemini-cli", has_session=True, refuses_old_ids=True, thoughts_need_text=True
)
_ENVELOPE: Final = frozenset(
    "project model request userAgent requestId requestType user_prompt_id userPromptId "
    "enabledCreditTypes".split(" ")
)
_MODELS: Final = (
    "sim-gemini",
    "sim-gemini-2.5",
    "sim-gemini-3",
    "sim-claude-thinking",
    "sim-gpt-oss",
)


class CodeAssistWire:
    slug = _PLACE.slug
    stream_media_type = "text/event-stream"
    routes: tuple[WireRoute, ...] = (
        WireRoute("POST", "/v1internal:generateContent", "chat", False),
        WireRoute("POST", "/v1internal:streamGenerateContent", "chat", True, "alt=sse"),
        WireRoute("POST", "/v1internal:countTokens", "count"),
        WireRoute("POST", "/v1internal:fetchAvailableModels", "models"),
    )

    def authenticate(self, request: Request, world: World) -> None:
        status = key_status(request.bearer(), world)
        if status:
            raise Refused(
                status,
                "Request had invalid authentication credentials. Expected OAuth 2 access token, "
                "login cookie or other valid authentication credential.",
            )

    def model_of(self, request: Request, body: JSONDict) -> str:
        model = checks.text(body.get("model"), "model", may_be_empty=False)
        require(
            not model.startswith("models/"), "model", f"Requested entity was not found: {model}"
        )
        return model

    def wants_stream(self, route: WireRoute, body: JSONDict) -> bool:
        return bool(route.stream)

    def read(self, request: Request, body: JSONDict, world: World) -> Ask:
        google_body.known(body, _ENVELOPE, "")
        project = checks.text(body.get("project"), "project")
        require(project.strip(), "project", "project: must not be empty")
        for name in ("userAgent", "requestId", "requestType"):
            if name in body:
                checks.text(body[name], name, may_be_empty=False)
        inner = checks.table(body.get("request"), "request")
        if "model" in inner:
            raise fail("envelope", "request.model: the model belongs to the envelope")
        return google_body.read(
            inner,
            body["model"],
            _PLACE,
            prompt_bytes=len(request.body),
            id=world.token("code-assist", 22),
            created=int(world.now().timestamp()),
        )

    def answer(self, ask: Ask, body: JSONDict, events: list[Event]) -> bytes:
        return json.dumps({"response": Answer(ask, events).whole(), "traceId": ask.id[:16]})

    def stream(self, ask: Ask, body: JSONDict, events: list[Event]) -> Iterable[bytes]:
        tail = b',"traceId":' + json.dumps(ask.id[:16]) + b"}\r\n\r\n"
        for chunk in Answer(ask, events).chunks():
            yield b'data: {"response":' + chunk + tail

    def error(self, refused: Refused) -> Response:
        return json_response(_error(refused), refused.status)

    def error_piece(self, refused: Refused) -> bytes:
        return b"data: " + json.dumps(_error(refused)) + b"\r\n\r\n"

    async def other(self, route: WireRoute, request: Request, world: World) -> Response:
        body = json_body(request)
        if route.operation == "models":
            return json_response({"models": {name: _listed(name) for name in _MODELS}})
        google_body.known(body, ("request",), "")
        inner = google_body.in_camel(checks.table(body.get("request"), "request"))
        google_body.known(inner, ("model", "contents"), "request")
        model = checks.text(inner.get("model"), "request.model")
        require(model.startswith("models/"), "model", "request.model: must start with models/")
        total = counted(inner, model.removeprefix("models/"))["totalTokens"]
        return json_response({"totalTokens": total})


def _error(refused: Refused) -> JSONDict:
    """Quotas are told in words: how long, as people say it."""
    wait = seconds(refused.retry_after)
    if refused.status == 429 and wait is not None:
        refused = Refused(
            429,
            "You have exhausted your capacity on this model. Your quota will reset after "
            f"{go_duration(wait)}.",
            code=refused.code,
            retry_after=refused.retry_after,
        )
    return error_body(refused, service=SERVICE)


def _listed(name: str) -> JSONDict:
    return {
        "displayName": name.replace("-", " ").title(),
        "maxTokens": 1_048_576,
        "maxOutputTokens": 65_536,
        "supportsImages": True,
        "supportsThinking": True,
        "quotaInfo": {"remainingFraction": 1},
    }


WIRES: Final = (CodeAssistWire(),)
