"""Anthropic Messages as the vendor enforces it."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import Final

from controlplane.kit import json
from controlplane.kit.json import JSONDict
from providers.protocols import anthropic_messages
from providers.protocols.canonical import Event
from providers.simulator.asked import Ask, ToolAsked
from providers.simulator.http import Request, Response, json_response
from providers.simulator.keys import key_status
from providers.simulator.wire import Refused, WireRoute, checks, rendering
from providers.simulator.wire.anthropic_conversation import (
    ID,
    Conversation,
    check_marks,
    known_fields,
)
from providers.simulator.wire.checks import require
from providers.simulator.world import World

FIELDS: Final = frozenset(
    "model messages max_tokens system stop_sequences temperature top_p top_k tools tool_choice "
    "thinking output_config output_format metadata service_tier speed cache_control stream "
    "container inference_geo context_management mcp_servers fallbacks prefill "
    "diagnostics".split(" ")
)
# The reference names 2023-06-01; the official SDK of autumn 2026 sends 2026-10-21.
_VERSION: Final = re.compile(r"20\d\d-[01]\d-[0-3]\d\Z")
# A person's access token, and what the vendor wants to see with it (providers 5.2).
SUBSCRIPTION: Final = "sk-ant-oat"
IDENTITY: Final = "You are Claude Code, Anthropic's official CLI for Claude."
_OAUTH_BETA: Final = "oauth-2025-04-20"
MODELS: Final = ("sim-claude", "sim-claude-small")
_TOOL_FIELDS: Final = frozenset(
    "type name description input_schema cache_control strict eager_input_streaming defer_loading "
    "input_examples allowed_callers".split(" ")
)
_SERVER_TOOL: Final = re.compile(
    r"(?:(?:web_search|web_fetch|code_execution|bash|text_editor|computer|memory)_20\d{6}"
    r"|tool_search_tool_(?:regex|bm25)(?:_20\d{6})?|mcp_toolset)\Z"
)
_KINDS: Final = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}


class MessagesWire:
    slug = "anthropic-messages"
    stream_media_type = "text/event-stream; charset=utf-8"
    routes: tuple[WireRoute, ...] = (
        WireRoute("POST", "/v1/messages", "chat"),
        WireRoute("POST", "/v1/messages/count_tokens", "count"),
        WireRoute("GET", "/v1/models", "models"),
        WireRoute("GET", "/v1/models/{model...}", "model"),
    )

    def authenticate(self, request: Request, world: World) -> None:
        key = request.headers.get("x-api-key") or request.bearer()
        status = key_status(key, world)
        if status:
            raise Refused(status, "invalid x-api-key")
        if SUBSCRIPTION in key:
            _check_subscription(request)
        require(
            _VERSION.match(request.headers.get("anthropic-version", "")),
            "version",
            "anthropic-version: header is required",
        )

    def model_of(self, request: Request, body: JSONDict) -> str:
        return checks.text(body.get("model"), "model", may_be_empty=False)

    def wants_stream(self, route: WireRoute, body: JSONDict) -> bool:
        return bool(body.get("stream"))

    def read(self, request: Request, body: JSONDict, world: World) -> Ask:
        known_fields(body, FIELDS, "")
        thinks = _thinking(body)
        _knobs(body, thinks)
        check_marks(body)
        tools = _tools(body)
        forced, is_required, is_off = _choice(body, tools, thinks)
        _system(body, is_subscription=SUBSCRIPTION in request.bearer())
        conversation = Conversation(body, thinks)
        conversation.read()
        schema = _format(body)
        return Ask(
            model=body["model"],
            prompt=conversation.prompt,
            prompt_bytes=checks.prompt_bytes(body),
            tools=tools,
            has_tool_results=conversation.ends_with_results,
            forced_tool=forced,
            is_tool_required=is_required,
            are_tools_off=is_off,
            max_tokens=body["max_tokens"],
            stop=tuple(body.get("stop_sequences") or ()),
            response_schema=schema,
            images=tuple(conversation.images),
            wants_thinking=thinks,
            protocol=self.slug,
            id=world.token("message", 16),
            call_prefix="toolu_",
            created=int(world.now().timestamp()),
        )

    def answer(self, ask: Ask, body: JSONDict, events: list[Event]) -> bytes:
        return rendering.whole(anthropic_messages.CODEC, ask, events)

    def stream(self, ask: Ask, body: JSONDict, events: list[Event]) -> Iterable[bytes]:
        ping = b'event: ping\ndata: {"type": "ping"}\n\n'
        for number, piece in enumerate(rendering.pieces(anthropic_messages.CODEC, ask, events)):
            yield piece
            if number == 0:
                yield ping

    def error(self, refused: Refused) -> Response:
        return json_response(_error(refused), refused.status)

    def error_piece(self, refused: Refused) -> bytes:
        return b"event: error\ndata: " + json.dumps(_error(refused)) + b"\n\n"

    async def other(self, route: WireRoute, request: Request, world: World) -> Response:
        if route.operation == "count":
            body = checks.table(request.json(), "body")
            self.model_of(request, body)
            known_fields(body, FIELDS - {"max_tokens", "stream"}, "")
            _tools(body)
            Conversation(body, _thinking(body)).read()
            return json_response({"input_tokens": math.ceil(len(request.body) / 4)})
        if route.operation == "model":
            name = request.params["model"]
            if name not in MODELS:
                raise Refused(404, f"model: {name}")
            return json_response(_model(name))
        return json_response(_models(request))


def _model(name: str) -> JSONDict:
    return {
        "type": "model",
        "id": name,
        "display_name": name.replace("-", " ").title(),
        "created_at": "2026-01-01T00:00:00Z",
        "lifecycle": "active",
        "max_input_tokens": 200_000,
        "max_tokens": 64_000,
        "capabilities": {},
    }


def _models(request: Request) -> JSONDict:
    """One page: `limit` of them, those that follow `after_id` or stand before `before_id`."""
    query = {name: values[-1] for name, values in request.query.items()}
    limit = query.get("limit", "20")
    require(limit.isdigit() and 1 <= int(limit) <= 1000, "limit", "limit: between 1 and 1000")
    names = list(MODELS)
    if query.get("after_id") in names:
        names = names[names.index(query["after_id"]) + 1 :]
    elif query.get("before_id") in names:
        names = names[: names.index(query["before_id"])]
    shown = names[: int(limit)]
    return {
        "data": [_model(name) for name in shown],
        "has_more": len(shown) < len(names),
        "first_id": shown[0] if shown else None,
        "last_id": shown[-1] if shown else None,
    }


def _check_subscription(request: Request) -> None:
    """A person's login is a bearer token, and says so in a beta name (providers 5.2)."""
    betas = request.headers.get("anthropic-beta", "").replace(" ", "").split(",")
    if "x-api-key" in request.headers or _OAUTH_BETA not in betas:
        raise Refused(
            401, "OAuth authentication is currently not supported.", rule="subscription_headers"
        )


def _format(body: JSONDict) -> JSONDict | None:
    output = checks.table(body.get("output_config") or {}, "output_config")
    known_fields(output, frozenset(("effort", "format", "task_budget")), "output_config.")
    if output.get("effort") is not None:
        efforts = ("low", "medium", "high", "xhigh", "max")
        checks.one_of(output["effort"], "output_config.effort", efforts)
    wanted = output.get("format") or body.get("output_format")
    if wanted is None:
        return None
    place = "output_config.format"
    checks.one_of(checks.table(wanted, place).get("type"), f"{place}.type", ("json_schema",))
    return checks.table(wanted.get("schema"), f"{place}.schema")


def _error(refused: Refused) -> JSONDict:
    kind = _KINDS.get(refused.status, "api_error" if refused.status >= 500 else _KINDS[400])
    return {
        "type": "error",
        "error": {"type": kind, "message": refused.message},
        "request_id": refused.request_id,
    }


def _knobs(body: JSONDict, thinks: bool) -> None:
    require("max_tokens" in body, "max_tokens", "max_tokens: Field required")
    checks.whole_number(body["max_tokens"], "max_tokens", 0)
    if body.get("temperature") is not None:
        checks.number(body["temperature"], "temperature", 0, 1)
        require(
            not thinks or body["temperature"] == 1,
            "thinking_temperature",
            "`temperature` may only be set to 1 when thinking is enabled.",
        )
        require(
            body.get("top_p") is None,
            "two_samplings",
            "`temperature` and `top_p` cannot both be specified for this model.",
        )
    if body.get("top_p") is not None:
        checks.number(body["top_p"], "top_p", 0.95 if thinks else 0, 1)
    if body.get("top_k") is not None:
        checks.whole_number(body["top_k"], "top_k", 0)
        require(not thinks, "thinking_top_k", "`top_k` must be unset when thinking is enabled.")
    for stop in checks.items(body.get("stop_sequences") or [], "stop_sequences"):
        checks.text(stop, "stop_sequences", may_be_empty=False)
    metadata = checks.table(body.get("metadata") or {}, "metadata")
    known_fields(metadata, frozenset(("user_id",)), "metadata.")
    if body.get("service_tier") is not None:
        checks.one_of(body["service_tier"], "service_tier", ("auto", "standard_only"))
    if body.get("speed") is not None:
        checks.one_of(body["speed"], "speed", ("standard", "fast"))


def _thinking(body: JSONDict) -> bool:
    thinking = body.get("thinking")
    if thinking is None:
        return False
    kind = checks.one_of(
        checks.table(thinking, "thinking").get("type"),
        "thinking.type",
        ("enabled", "adaptive", "disabled"),
    )
    if thinking.get("display") is not None:
        checks.one_of(thinking["display"], "thinking.display", ("summarized", "omitted"))
    require(
        kind == "enabled" or "budget_tokens" not in thinking,
        "budget",
        f"thinking.{kind}.budget_tokens: Extra inputs are not permitted",
    )
    if kind == "enabled":
        budget = checks.whole_number(thinking.get("budget_tokens"), "thinking.budget_tokens", 1024)
        limit = body.get("max_tokens")
        require(
            limit is None or budget < limit,
            "budget",
            "`max_tokens` must be greater than `thinking.budget_tokens`.",
        )
    return kind != "disabled"


def _tools(body: JSONDict) -> tuple[ToolAsked, ...]:
    found: list[ToolAsked] = []
    for position, tool in enumerate(checks.items(body.get("tools") or [], "tools")):
        place = f"tools.{position}"
        kind = checks.table(tool, place).get("type") or "custom"
        require(
            kind == "custom" or _SERVER_TOOL.match(str(kind)),
            "tool_type",
            f"{place}: Input tag '{kind}' found using 'type' does not match any of the expected "
            "tags",
        )
        name = checks.text(tool.get("name"), f"{place}.name")
        require(ID.match(name), "tool_name", f"{place}.name: invalid {name!r}")
        if kind != "custom":
            continue
        known_fields(tool, _TOOL_FIELDS, f"{place}.custom.")
        root = checks.table(tool.get("input_schema"), f"{place}.input_schema")
        require(root.get("type") == "object", "schema_root", f"{place}.input_schema.type: object")
        for union in ("anyOf", "oneOf", "allOf"):
            require(
                union not in root,
                "schema_root",
                f"{place}.input_schema: does not support {union} at the top level",
            )
        found.append(ToolAsked(name, root))
    names = [tool.name for tool in found]
    require(len(set(names)) == len(names), "duplicate_tool", "tools: Tool names must be unique.")
    return tuple(found)


def _choice(body: JSONDict, tools: tuple[ToolAsked, ...], thinks: bool) -> tuple[str, bool, bool]:
    choice = body.get("tool_choice")
    if choice is None:
        return "", False, False
    kind = checks.one_of(
        checks.table(choice, "tool_choice").get("type"),
        "tool_choice.type",
        ("auto", "any", "tool", "none"),
    )
    require(
        body.get("tools"),
        "tool_choice",
        "tool_choice may only be specified while providing tools",
    )
    require(
        not thinks or kind in ("auto", "none"),
        "thinking_tool_choice",
        "Thinking may not be enabled when tool_choice forces tool use.",
    )
    name = choice.get("name", "") if kind == "tool" else ""
    if kind == "tool":
        require(name in [tool.name for tool in tools], "tool_choice", f"Tool {name!r} not found")
    return name, kind in ("any", "tool"), kind == "none"


def _system(body: JSONDict, *, is_subscription: bool) -> None:
    system = body.get("system")
    if is_subscription:
        first = system[0] if isinstance(system, list) and system else system
        said = first.get("text") if isinstance(first, dict) else first
        require(
            said == IDENTITY,
            "identity",
            "This credential is only authorized for use with Claude Code and cannot be used for "
            "other API requests.",
        )
    if system is None or isinstance(system, str):
        return
    for position, block in enumerate(checks.items(system, "system")):
        require(block.get("type") == "text", "system", f"system.{position}.type: text")
        checks.text(block.get("text"), f"system.{position}.text", may_be_empty=False)


WIRES: Final = (MessagesWire(),)
