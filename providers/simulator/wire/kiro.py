"""Kiro (CodeWhisperer) as it enforces it: one conversation state in, binary events out."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from controlplane.kit import json
from controlplane.kit.json import JSONDict
from providers.protocols import eventstream
from providers.protocols.canonical import Event
from providers.simulator.asked import Ask, ToolAsked
from providers.simulator.http import Request, Response, json_response
from providers.simulator.keys import key_status
from providers.simulator.wire import Refused, WireRoute, checks
from providers.simulator.wire.checks import fail, require
from providers.simulator.wire.kiro_answer import frames_of
from providers.simulator.world import World

CONTEXT_TOKENS: Final = 200_000
MAX_OUTPUT_TOKENS: Final = 32_000
_MAX_DESCRIPTION: Final = 10_240
_IMPROPER: Final = "Improperly formed request."
_THINKING: Final = re.compile(
    r"<thinking_mode>enabled</thinking_mode>\s*<max_thinking_length>\d+</max_thinking_length>"
)
_ID: Final = re.compile(r"[a-zA-Z0-9_.:-]{1,64}\Z")
# What answers where no model, or none in particular, was named.
_AUTO: Final = "sim-auto"
_MODELS: Final = ("auto", "sim-claude", "sim-claude-haiku")
_EXCEPTIONS: Final = {
    401: "AccessDeniedException",
    402: "ServiceQuotaExceededException",
    403: "AccessDeniedException",
    404: "ResourceNotFoundException",
    429: "ThrottlingException",
    503: "ServiceUnavailableException",
    529: "ServiceUnavailableException",
}
_REASONS: Final = {402: "MONTHLY_REQUEST_COUNT", 503: "INSUFFICIENT_MODEL_CAPACITY"}


class KiroWire:
    slug = "kiro-generate-assistant"
    stream_media_type = eventstream.MEDIA_TYPE
    routes = (
        WireRoute("POST", "/generateAssistantResponse", "chat", True),
        WireRoute("GET", "/ListAvailableModels", "models"),
    )

    def authenticate(self, request: Request, world: World) -> None:
        status = key_status(request.bearer(), world)
        if status:
            raise Refused(
                403 if status == 401 else status,
                "The bearer token included in the request is invalid.",
            )

    def model_of(self, request: Request, body: JSONDict) -> str:
        state = body.get("conversationState")
        current = state.get("currentMessage") if isinstance(state, dict) else None
        message = current.get("userInputMessage") if isinstance(current, dict) else None
        model = message.get("modelId") if isinstance(message, dict) else None
        if model in (None, "auto"):
            return _AUTO
        return checks.text(model, "modelId", may_be_empty=False)

    def wants_stream(self, route: WireRoute, body: JSONDict) -> bool:
        return True

    def read(self, request: Request, body: JSONDict, world: World) -> Ask:
        if len(request.body) / 4 > CONTEXT_TOKENS:
            raise Refused(400, "Input is too long.", code="CONTENT_LENGTH_EXCEEDS_THRESHOLD")
        checks.known_fields(
            body, ("conversationState", "profileArn", "inferenceConfig", "agentMode")
        )
        state = _State(checks.table(body.get("conversationState"), "conversationState"))
        state.read()
        limit = _inference(body)
        profile = body.get("profileArn")
        require(
            profile is None or str(profile).startswith("arn:aws:codewhisperer:"),
            "profile",
            "Invalid profileArn",
        )
        _check_member(request.bearer(), profile or "", world)
        return Ask(
            model=self.model_of(request, body),
            prompt=state.prompt,
            prompt_bytes=len(request.body),
            tools=state.tools,
            has_tool_results=state.has_tool_results,
            max_tokens=limit,
            images=tuple(state.images),
            wants_thinking=bool(_THINKING.search(state.opening)),
            protocol=self.slug,
            id=world.token("kiro", 16),
            created=int(world.now().timestamp()),
        )

    def answer(self, ask: Ask, body: JSONDict, events: list[Event]) -> bytes:
        return b"".join(self.stream(ask, body, events))

    def stream(self, ask: Ask, body: JSONDict, events: list[Event]) -> Iterable[bytes]:
        conversation = body["conversationState"]["conversationId"]
        return frames_of(ask, events, conversation_id=conversation, context=CONTEXT_TOKENS)

    def error(self, refused: Refused) -> Response:
        kind = _exception(refused.status)
        reason = refused.code if refused.code.isupper() else _REASONS.get(refused.status)
        body = {"__type": kind, "message": refused.message, "reason": reason}
        return json_response(
            body, refused.status, x_amzn_ErrorType=f"{kind}:http://internal.amazon.com/coral/"
        )

    def error_piece(self, refused: Refused) -> bytes:
        kind = _exception(refused.status)
        name = kind[0].lower() + kind[1:]
        payload = {"message": refused.message, "reason": _REASONS.get(refused.status)}
        return eventstream.encode_exception(name, json.dumps(payload))

    async def other(self, route: WireRoute, request: Request, world: World) -> Response:
        require(
            (request.query.get("origin") or [""])[0] == "AI_EDITOR", "origin", "origin is required"
        )
        return json_response(
            {
                "models": [
                    {
                        "modelId": name,
                        "modelName": name.replace("-", " ").title(),
                        "description": "A simulated model.",
                        "rateMultiplier": 1.0,
                        "rateUnit": "credit",
                        "supportedInputTypes": ["TEXT", "IMAGE"],
                        "tokenLimits": {
                            "maxInputTokens": CONTEXT_TOKENS,
                            "maxOutputTokens": MAX_OUTPUT_TOKENS,
                        },
                    }
                    for name in _MODELS
                ],
                "defaultModel": {"modelId": "auto"},
            }
        )


def _exception(status: int) -> str:
    other = "InternalServerException" if status >= 500 else "ValidationException"
    return _EXCEPTIONS.get(status, other)


def _check_member(bearer: str, profile: str, world: World) -> None:
    """What a token of a simulated login may do here; keys that nobody issued may do all."""
    logins = world.parts.get("logins")
    token = logins.tokens.get(bearer) if logins is not None else None
    if token is None or "method" not in token.family.facts:
        return
    # Here and not above: most worlds never see a login.
    from providers.simulator.logins.kiro import profile_arn

    account, method = token.family.account, token.family.facts["method"]
    if method == "builder-id" and profile:
        raise Refused(403, "User is not authorized to make this call.", rule="profile")
    if method == "idc" and not profile:
        raise fail("profile", "profileArn is required for this bearer token.")
    if profile and profile != profile_arn(account):
        raise Refused(403, "User is not authorized to use this profile.", rule="profile")
    match account.plan:
        case "suspended":
            message = "Your User ID temporarily is suspended."
            raise Refused(403, message, code="TEMPORARILY_SUSPENDED")
        case "none":
            raise Refused(403, "User is not authorized to make this call.")
        case "exhausted":
            message = "You have reached the limit for number of requests this month."
            raise Refused(402, message, code="MONTHLY_REQUEST_COUNT")
        case _:
            pass


def _inference(body: JSONDict) -> int | None:
    config = checks.table(body.get("inferenceConfig") or {}, "inferenceConfig")
    checks.known_fields(config, ("maxTokens", "temperature", "topP"), "inferenceConfig.")
    for name in ("temperature", "topP"):
        if config.get(name) is not None:
            checks.number(config[name], f"inferenceConfig.{name}", 0, 1)
    limit = config.get("maxTokens")
    if limit is not None:
        checks.whole_number(limit, "inferenceConfig.maxTokens", 1, MAX_OUTPUT_TOKENS)
    return limit


def _form(condition: object, rule: str) -> None:
    """The service never says what is wrong with a conversation."""
    require(condition, rule, _IMPROPER)


@dataclass(slots=True)
class _State:
    """Reads and checks `conversationState`."""

    value: JSONDict
    prompt: str = ""
    # The first message of all: thinking is switched on in it.
    opening: str = ""
    tools: tuple[ToolAsked, ...] = ()
    has_tool_results: bool = False
    images: list[tuple[str, int]] = field(default_factory=list)
    _has_calls: bool = False

    def read(self) -> None:
        state = self.value
        checks.known_fields(
            state,
            (
                "chatTriggerType", "conversationId", "agentTaskType", "agentContinuationId",
                "currentMessage", "history", "customizationArn", "workspaceId",
            ),
            "conversationState.",
        )  # fmt: skip
        _form(state.get("chatTriggerType") in ("MANUAL", "DIAGNOSTIC", "INLINE_CHAT"), "trigger")
        _form(_is_text(state.get("conversationId")), "conversation_id")
        calls: list[str] = []
        wanted = "userInputMessage"
        history = state.get("history")
        for number, entry in enumerate(checks.items(history if history is not None else [], "h")):
            kind, message = _entry(entry)
            _form(kind == wanted, "alternation")
            if kind == "userInputMessage":
                self._user(message, calls, is_current=False)
                calls = []
                wanted = "assistantResponseMessage"
            else:
                calls = self._assistant(message)
                wanted = "userInputMessage"
            if number == 0:
                self.opening = message["content"]
        # The current message continues the alternation.
        _form(wanted == "userInputMessage", "alternation")
        kind, message = _entry(state.get("currentMessage"))
        _form(kind == "userInputMessage", "current_message")
        self._user(message, calls, is_current=True)
        self.opening = self.opening or message["content"]
        _form(not self._has_calls or self.tools, "tools_missing")

    def _user(self, message: JSONDict, calls: list[str], *, is_current: bool) -> None:
        checks.known_fields(
            message,
            (
                "content", "modelId", "origin", "images", "userInputMessageContext",
                "userIntent", "documents",
            ),
            "userInputMessage.",
        )  # fmt: skip
        _form(_is_text(message.get("content")), "empty_content")
        if message.get("origin") is not None or is_current:
            _form(message.get("origin") in ("AI_EDITOR", "CLI", "IDE", "KIRO_CLI"), "origin")
        for number, image in enumerate(checks.items(message.get("images") or [], "images")):
            self._image(image, f"images[{number}]")
        context = checks.table(message.get("userInputMessageContext") or {}, "context")
        checks.known_fields(
            context,
            ("tools", "toolResults", "envState", "editorState", "additionalContext"),
            "userInputMessageContext.",
        )
        _form("tools" not in context or is_current, "tools_in_history")
        if is_current:
            self.tools = _tools(context.get("tools"))
        given = checks.items(context.get("toolResults") or [], "toolResults")
        results = [_result(value) for value in given]
        _form(sorted(results) == sorted(calls), "tool_results")
        self.has_tool_results = bool(results)
        if is_current and not results:
            self.prompt = _THINKING.sub("", message["content"]).strip()

    def _assistant(self, message: JSONDict) -> list[str]:
        checks.known_fields(
            message,
            ("content", "toolUses", "messageId", "references", "followupPrompt"),
            "assistantResponseMessage.",
        )
        _form(_is_text(message.get("content")), "empty_content")
        calls: list[str] = []
        for value in checks.items(message.get("toolUses") or [], "toolUses"):
            call = checks.table(value, "toolUse")
            checks.known_fields(call, ("toolUseId", "name", "input"), "toolUse.")
            call_id = call.get("toolUseId")
            _form(isinstance(call_id, str) and _ID.match(call_id), "call_id")
            _form(call_id not in calls, "call_id")
            _form(isinstance(call.get("input"), dict), "call_input")
            _form(checks.TOOL_NAME.match(str(call.get("name"))), "tool_name")
            calls.append(str(call_id))
        self._has_calls = self._has_calls or bool(calls)
        return calls

    def _image(self, value: Any, place: str) -> None:
        image = checks.table(value, place)
        form = image.get("format")
        _form(form in ("png", "jpeg", "gif", "webp"), "image_format")
        source = checks.table(image.get("source"), f"{place}.source")
        _form(set(source) == {"bytes"}, "image_source")
        data = checks.text(source["bytes"], f"{place}.source.bytes")
        self.images.append((f"image/{form}", checks.inline(f"image/{form}", data, place)))


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _entry(value: Any) -> tuple[str, JSONDict]:
    entry = checks.table(value, "message")
    _form(len(entry) == 1, "union")
    kind = next(iter(entry))
    _form(kind in ("userInputMessage", "assistantResponseMessage"), "union")
    return kind, checks.table(entry[kind], kind)


def _tools(value: Any) -> tuple[ToolAsked, ...]:
    found: list[ToolAsked] = []
    for entry in checks.items(value or [], "tools"):
        specification = checks.table(
            checks.table(entry, "tool").get("toolSpecification"), "toolSpecification"
        )
        name = specification.get("name")
        _form(isinstance(name, str) and checks.TOOL_NAME.match(name), "tool_name")
        description = specification.get("description")
        _form(_is_text(description), "tool_description")
        _form(len(str(description).encode()) <= _MAX_DESCRIPTION, "tool_description")
        schema = specification.get("inputSchema")
        _form(isinstance(schema, dict) and isinstance(schema.get("json"), dict), "input_schema")
        found.append(ToolAsked(str(name), specification["inputSchema"]["json"]))
    names = [tool.name for tool in found]
    if len(set(names)) != len(names):
        raise fail("duplicate_tool", _IMPROPER)
    return tuple(found)


def _result(value: Any) -> str:
    result = checks.table(value, "toolResult")
    checks.known_fields(result, ("toolUseId", "status", "content"), "toolResult.")
    _form(result.get("status", "success") in ("success", "error"), "result_status")
    content = checks.items(result.get("content"), "toolResult.content")
    _form(content, "empty_content")
    for block in content:
        inner = checks.table(block, "toolResult.content")
        _form(set(inner) in ({"text"}, {"json"}), "result_content")
        _form("json" in inner or _is_text(inner["text"]), "empty_content")
    call_id = result.get("toolUseId")
    _form(isinstance(call_id, str) and _ID.match(call_id), "call_id")
    return str(call_id)


WIRES: Final = (KiroWire(),)
