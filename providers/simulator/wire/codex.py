"""Codex, the ChatGPT subscription's Responses: strict in what may be sent, terse in its errors."""

from __future__ import annotations

import base64
from typing import Any, Final

from controlplane.kit import json
from controlplane.kit.json import JSONDict
from providers.simulator.asked import Ask, ToolAsked
from providers.simulator.http import Request, Response, json_response
from providers.simulator.keys import key_status
from providers.simulator.wire import Refused, WireRoute, checks
from providers.simulator.wire.checks import fail, require
from providers.simulator.wire.openai_responses import FIELDS, ResponsesWire
from providers.simulator.wire.responses_answer import ENCRYPTED, Manner
from providers.simulator.world import World

_FORBIDDEN: Final = (
    "max_output_tokens",
    "max_completion_tokens",
    "temperature",
    "top_p",
    "top_logprobs",
    "truncation",
    "user",
    "metadata",
    "prompt_cache_retention",
    "prompt_cache_options",
    "context_management",
    "previous_response_id",
    "conversation",
    "background",
    "max_tool_calls",
    "safety_identifier",
    "prompt",
)
_MODELS: Final = ("sim-codex", "sim-codex-mini")
_PLAN: Final = "plus"


class CodexWire(ResponsesWire):
    slug = "openai-codex-responses"
    stream_media_type = "text/event-stream"
    routes = (
        # Bases that end in /codex already are tolerated by clients and server alike.
        WireRoute("POST", "/backend-api/codex/responses", "chat", True),
        WireRoute("POST", "/codex/responses", "chat", True),
        WireRoute("GET", "/backend-api/codex/models", "models"),
        WireRoute("GET", "/codex/models", "models"),
    )
    manner = Manner(is_terse=True)

    def authenticate(self, request: Request, world: World) -> None:
        status = key_status(request.bearer(), world)
        if status:
            raise Refused(status, "Could not parse your authentication token. Please try again.")
        account = _account(request.bearer())
        if account is not None and request.headers.get("chatgpt-account-id") != account:
            raise Refused(401, "Unauthorized", rule="account")

    def wants_stream(self, route: WireRoute, body: JSONDict) -> bool:
        return True

    def read(self, request: Request, body: JSONDict, world: World) -> Ask:
        require(body.get("stream") is True, "stream", "Stream must be set to true")
        require(body.get("store") is False, "store", "Store must be set to false")
        given = body.get("input")
        require(isinstance(given, list), "input_list", "Input must be a list")
        instructions = body.get("instructions")
        require(
            isinstance(instructions, str) and instructions.strip(),
            "instructions",
            "Instructions are required",
        )
        for number, item in enumerate(checks.items(given, "input")):
            is_system = isinstance(item, dict) and item.get("role") == "system"
            require(not is_system, "system_role", "System messages are not allowed")
            _no_breakpoints(item, f"input[{number}]")
        return super().read(request, body, world)

    def check_fields(self, body: JSONDict) -> None:
        for name in sorted(body):
            require(
                name in FIELDS and name not in _FORBIDDEN,
                "unsupported_parameter",
                f"Unsupported parameter: {name}",
            )

    def check_knobs(self, body: JSONDict) -> None:
        super().check_knobs(body)
        include = body.get("include") or []
        require(ENCRYPTED in include, "include", f"include must contain {ENCRYPTED}")
        require(
            body.get("parallel_tool_calls") is True,
            "parallel_tool_calls",
            "parallel_tool_calls must be true",
        )
        require(body.get("tool_choice"), "tool_choice", "tool_choice is required")
        text = body.get("text") or {}
        require(text.get("verbosity"), "verbosity", "text.verbosity is required")
        require(
            body.get("service_tier") in (None, "priority"),
            "service_tier",
            f"Unsupported service_tier: {body.get('service_tier')}",
        )

    def strictness(self, tool: JSONDict, place: str) -> bool:
        require(tool.get("strict") is None, "strict", f"{place}.strict must be null")
        return False

    def tools(self, body: JSONDict) -> tuple[ToolAsked, ...]:
        for number, tool in enumerate(checks.items(body.get("tools") or [], "tools")):
            kind = checks.table(tool, f"tools[{number}]").get("type")
            require(
                not str(kind).startswith("web_search_preview"),
                "web_search",
                f"Unsupported tool type: {kind}",
            )
            if kind == "function":
                root = checks.table(tool.get("parameters"), f"tools[{number}].parameters")
                _with_properties(root, f"tools[{number}].parameters")
        return super().tools(body)

    # --- errors ---

    def error(self, refused: Refused) -> Response:
        if refused.status == 429:
            return json_response({"error": _limit(refused)}, 429)
        return json_response({"detail": refused.message}, refused.status)

    def error_piece(self, refused: Refused) -> bytes:
        """What breaks in the middle breaks as a failed response; `miderror=2` right after the
        handshake, as an overloaded backend does under HTTP 200."""
        code = "server_is_overloaded" if refused.code == "overloaded" else "server_error"
        return _failed_event(code, refused.message, refused.position)

    async def other(self, route: WireRoute, request: Request, world: World) -> Response:
        require(
            request.query.get("client_version"),
            "client_version",
            "client_version is required",
        )
        models = [
            {
                "slug": name,
                "display_name": name,
                "supported_reasoning_levels": [
                    {"effort": effort} for effort in ("low", "medium", "high", "xhigh")
                ],
                "default_reasoning_level": "medium",
                "context_window": 272_000,
                "visibility": "list",
            }
            for name in _MODELS
        ]
        return json_response({"models": models})


def _account(token: str) -> str | None:
    """The account that a login's token speaks for, which a header must name too. None for
    a key that is no such token."""
    try:
        payload = token.split(".")[1]
        claims = json.loads_dict(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    except (IndexError, ValueError):
        return None
    found = claims.get("https://api.openai.com/auth")
    account = found.get("chatgpt_account_id") if isinstance(found, dict) else None
    return account if isinstance(account, str) else None


def _limit(refused: Refused) -> JSONDict:
    """A used-up plan says when it comes back; a rate limit does not."""
    if refused.code != "insufficient_quota":
        return {"type": "rate_limit_exceeded", "message": refused.message}
    return {
        "type": "usage_limit_reached",
        "message": "The usage limit has been reached",
        "plan_type": _PLAN,
        "resets_at": refused.resets_at,
        "resets_in_seconds": int(float(refused.retry_after or 0)),
    }


def _failed_event(code: str, message: str, position: int) -> bytes:
    response: JSONDict = {
        "id": "resp_failed",
        "object": "response",
        "status": "failed",
        "error": {"code": code, "message": message},
        "output": [],
        "usage": None,
    }
    event = {"type": "response.failed", "sequence_number": position, "response": response}
    return b"event: response.failed\ndata: " + json.dumps(event) + b"\n\n"


def _no_breakpoints(value: Any, place: str) -> None:
    if isinstance(value, dict):
        if "prompt_cache_breakpoint" in value:
            raise fail(
                "unsupported_parameter", f"Unsupported parameter: {place}.prompt_cache_breakpoint"
            )
        for name, inner in value.items():
            _no_breakpoints(inner, f"{place}.{name}")
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            _no_breakpoints(inner, f"{place}[{number}]")


def _with_properties(node: JSONDict, place: str) -> None:
    if node.get("type") != "object":
        return
    properties = node.get("properties")
    require(
        isinstance(properties, dict),
        "object_properties",
        f"Invalid schema: {place}: object schema missing properties",
    )
    for name, inner in (properties or {}).items():
        if isinstance(inner, dict):
            _with_properties(inner, f"{place}.{name}")


WIRES: Final = (CodexWire(),)
