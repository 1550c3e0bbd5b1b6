"""OpenAI Chat Completions as the vendor enforces it."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any, Final

from controlplane.kit import json
from controlplane.kit.json import JSONDict
from providers.protocols import openai_completions
from providers.protocols.canonical import Event
from providers.simulator.asked import Ask, ToolAsked
from providers.simulator.http import Request, Response, json_response
from providers.simulator.wire import Refused, WireRoute, checks, rendering
from providers.simulator.wire.checks import fail, require
from providers.simulator.world import World

FIELDS: Final = frozenset(
    "model messages max_completion_tokens max_tokens temperature top_p stop n seed "
    "presence_penalty frequency_penalty logit_bias logprobs top_logprobs tools tool_choice "
    "parallel_tool_calls functions function_call response_format reasoning_effort verbosity "
    "stream stream_options store metadata service_tier prompt_cache_key prompt_cache_retention "
    "prompt_cache_options safety_identifier user modalities audio prediction web_search_options "
    "moderation".split(" ")
)
EFFORTS: Final = ("none", "minimal", "low", "medium", "high", "xhigh", "max")


class ChatWire:
    slug = "openai-completions"
    stream_media_type = "text/event-stream; charset=utf-8"
    routes: tuple[WireRoute, ...] = (WireRoute("POST", "/v1/chat/completions", "chat"),)

    def authenticate(self, request: Request, world: World) -> None:
        checks.check_key(request.bearer(), world)

    def model_of(self, request: Request, body: JSONDict) -> str:
        return checks.text(body.get("model"), "model", may_be_empty=False)

    def wants_stream(self, route: WireRoute, body: JSONDict) -> bool:
        return bool(body.get("stream"))

    def read(self, request: Request, body: JSONDict, world: World) -> Ask:
        check_fields(body, FIELDS)
        self.knobs(body)
        tools = read_tools(body)
        chosen, is_required, is_off = read_choice(body, tools)
        prompt, images, has_results = read_messages(body)
        schema, wants_json = read_format(body)
        limit = body.get("max_completion_tokens", body.get("max_tokens"))
        stop = body.get("stop") or ()
        return Ask(
            model=body["model"],
            prompt=prompt,
            prompt_bytes=checks.prompt_bytes(body),
            tools=tools,
            has_tool_results=has_results,
            forced_tool=chosen,
            is_tool_required=is_required,
            are_tools_off=is_off,
            max_tokens=limit,
            stop=(stop,) if isinstance(stop, str) else tuple(stop),
            response_schema=schema,
            wants_json=wants_json,
            images=images,
            wants_thinking=body.get("reasoning_effort") not in (None, "none"),
            choices=body.get("n") or 1,
            logprobs=(body.get("top_logprobs") or 0) if body.get("logprobs") else None,
            protocol=self.slug,
            id=world.token("chat", 16),
            created=int(world.now().timestamp()),
        )

    def knobs(self, body: JSONDict) -> None:
        require(
            not ("max_tokens" in body and "max_completion_tokens" in body),
            "two_limits",
            "Setting 'max_tokens' and 'max_completion_tokens' at the same time is not supported.",
        )
        for name, low, high in (
            ("temperature", 0, 2),
            ("top_p", 0, 1),
            ("presence_penalty", -2, 2),
            ("frequency_penalty", -2, 2),
        ):
            if body.get(name) is not None:
                checks.number(body[name], name, low, high)
        for name in ("max_tokens", "max_completion_tokens"):
            if body.get(name) is not None:
                checks.whole_number(body[name], name, 1)
        if body.get("n") is not None:
            checks.whole_number(body["n"], "n", 1, 128)
        if body.get("top_logprobs") is not None:
            checks.whole_number(body["top_logprobs"], "top_logprobs", 0, 20)
            require(body.get("logprobs"), "logprobs", "top_logprobs needs logprobs to be true")
        stop = body.get("stop")
        if isinstance(stop, list):
            require(len(stop) <= 4, "stop", "stop: at most 4 sequences")
        if body.get("reasoning_effort") is not None:
            checks.one_of(body["reasoning_effort"], "reasoning_effort", EFFORTS)
        if body.get("verbosity") is not None:
            checks.one_of(body["verbosity"], "verbosity", ("low", "medium", "high"))
        require(
            "stream_options" not in body or body.get("stream"),
            "stream_options",
            "The 'stream_options' parameter is only allowed when 'stream' is enabled.",
        )
        if body.get("prompt_cache_key") is not None:
            key = checks.text(body["prompt_cache_key"], "prompt_cache_key")
            require(len(key) <= 64, "cache_key", "prompt_cache_key: at most 64 characters")
        check_metadata(body)

    def answer(self, ask: Ask, body: JSONDict, events: list[Event]) -> bytes:
        codec = openai_completions.CODEC
        return rendering.whole(codec, ask, events, uses_legacy_functions="functions" in body)

    def stream(self, ask: Ask, body: JSONDict, events: list[Event]) -> Iterable[bytes]:
        options = body.get("stream_options") or {}
        return rendering.pieces(
            openai_completions.CODEC,
            ask,
            events,
            include_usage=bool(options.get("include_usage")),
            uses_legacy_functions="functions" in body,
        )

    def error(self, refused: Refused) -> Response:
        return openai_error(refused)

    def error_piece(self, refused: Refused) -> bytes:
        return b"data: " + json.dumps(error_body(refused)) + b"\n\n"

    async def other(self, route: WireRoute, request: Request, world: World) -> Response:
        raise Refused(404, f"Unknown operation {route.operation}.")


_CODES: Final = {401: "invalid_api_key", 404: "model_not_found", 429: "rate_limit_exceeded"}


def openai_error(refused: Refused) -> Response:
    return json_response(error_body(refused), refused.status)


def error_body(refused: Refused) -> JSONDict:
    kind = "server_error" if refused.status >= 500 else "invalid_request_error"
    if refused.status == 429:
        # A quota is no rate: waiting does not help.
        kind = refused.code if refused.code == "insufficient_quota" else "requests"
    return {
        "error": {
            "message": refused.message,
            "type": kind,
            "param": refused.param or None,
            "code": refused.code or _CODES.get(refused.status),
        }
    }


def check_fields(body: JSONDict, allowed: Collection[str]) -> None:
    if unknown := sorted(set(body) - set(allowed)):
        raise Refused(
            400,
            f"Unrecognized request argument supplied: {unknown[0]}",
            code="unknown_parameter",
            rule="unknown_field",
            param=unknown[0],
        )


def check_metadata(body: JSONDict) -> None:
    metadata = checks.table(body.get("metadata") or {}, "metadata")
    require(len(metadata) <= 16, "metadata", "metadata: at most 16 pairs")
    for name, value in metadata.items():
        require(len(name) <= 64, "metadata", f"metadata: {name[:70]!r} has over 64 characters")
        text = checks.text(value, f"metadata.{name}")
        require(len(text) <= 512, "metadata", f"metadata.{name} has over 512 characters")


def read_tools(body: JSONDict) -> tuple[ToolAsked, ...]:
    found: list[ToolAsked] = []
    tools = checks.items(body.get("tools") or [], "tools")
    if body.get("functions"):
        require(not tools, "functions", "'functions' and 'tools' cannot be used together.")
        given = checks.items(body["functions"], "functions")
        tools = [{"type": "function", "function": function} for function in given]
    require(len(tools) <= 128, "tools", "tools: at most 128")
    for position, tool in enumerate(tools):
        place = f"tools[{position}]"
        kind = checks.one_of(tool.get("type"), f"{place}.type", ("function", "custom"))
        inner = checks.table(tool.get(kind), f"{place}.{kind}")
        name = checks.text(inner.get("name"), f"{place}.{kind}.name")
        require(checks.TOOL_NAME.match(name), "tool_name", f"{place}: invalid name {name!r}")
        if kind == "custom":
            found.append(ToolAsked(name, {}, "custom"))
            continue
        if "strict" in inner:
            require(
                isinstance(inner["strict"], bool | None), "strict", f"{place}: strict is a boolean"
            )
        parameters = inner.get("parameters") or {}
        checks.schema(parameters, f"{place}.parameters", strict=bool(inner.get("strict")))
        found.append(ToolAsked(name, parameters))
    names = [tool.name for tool in found]
    require(len(set(names)) == len(names), "duplicate_tool", "tools: names must be unique")
    return tuple(found)


def read_choice(body: JSONDict, tools: tuple[ToolAsked, ...]) -> tuple[str, bool, bool]:
    """(forced name, required, off)."""
    choice = body.get("tool_choice")
    if choice is None:
        return _legacy_choice(body, tools)
    require(tools, "tool_choice", "'tool_choice' is only allowed when 'tools' are specified.")
    if isinstance(choice, str):
        checks.one_of(choice, "tool_choice", ("none", "auto", "required"))
        return "", choice == "required", choice == "none"
    kind = checks.one_of(
        choice.get("type"), "tool_choice.type", ("function", "custom", "allowed_tools")
    )
    inner = checks.table(choice.get(kind), f"tool_choice.{kind}")
    if kind == "allowed_tools":
        return "", inner.get("mode") == "required", False
    name = checks.text(inner.get("name"), "tool_choice name")
    require(
        name in [tool.name for tool in tools], "tool_choice", f"Tool choice {name!r} is no tool."
    )
    return name, True, False


def _legacy_choice(body: JSONDict, tools: tuple[ToolAsked, ...]) -> tuple[str, bool, bool]:
    choice = body.get("function_call")
    if choice is None:
        return "", False, False
    require(
        body.get("functions"),
        "function_call",
        "'function_call' is only allowed when 'functions' are specified.",
    )
    if isinstance(choice, str):
        return "", False, checks.one_of(choice, "function_call", ("none", "auto")) == "none"
    name = checks.text(checks.table(choice, "function_call").get("name"), "function_call.name")
    require(name in [t.name for t in tools], "function_call", f"{name!r} is no function.")
    return name, True, False


def read_messages(body: JSONDict) -> tuple[str, tuple[tuple[str, int], ...], bool]:
    """(last user text, images, whether the conversation ends with tool results)."""
    messages = checks.items(body.get("messages"), "messages")
    require(messages, "messages", "messages: expected a non-empty array")
    prompt = ""
    images: list[tuple[str, int]] = []
    pending: set[str] = set()
    role = ""
    for position, message in enumerate(messages):
        place = f"messages[{position}]"
        role = checks.one_of(
            checks.table(message, place).get("role"),
            f"{place}.role",
            ("system", "developer", "user", "assistant", "tool", "function"),
        )
        if role == "tool":
            call_id = checks.text(message.get("tool_call_id"), f"{place}.tool_call_id")
            require(
                call_id in pending,
                "orphan_result",
                f"{place}: messages with role 'tool' must be a response to a preceding message "
                "with 'tool_calls'.",
            )
            pending.discard(call_id)
            _parts(message.get("content"), place, ("text",), images)
            continue
        require(
            not pending,
            "missing_result",
            f"{place}: an assistant message with 'tool_calls' must be followed by tool messages "
            "responding to each 'tool_call_id'.",
        )
        if role == "assistant":
            pending = _assistant(message, place, images)
        elif role == "user":
            said = _parts(
                message.get("content"), place, ("text", "image_url", "input_audio", "file"), images
            )
            prompt = said or prompt
        else:
            if role == "function":
                checks.text(message.get("name"), f"{place}.name", may_be_empty=False)
            _parts(message.get("content"), place, ("text",), images)
    require(not pending, "missing_result", "messages: the last tool calls have no results")
    return prompt, tuple(images), role in ("tool", "function")


def _assistant(message: JSONDict, place: str, images: list[tuple[str, int]]) -> set[str]:
    calls = checks.items(message.get("tool_calls") or [], f"{place}.tool_calls")
    ids: set[str] = set()
    for number, call in enumerate(calls):
        where = f"{place}.tool_calls[{number}]"
        call_id = checks.text(call.get("id"), f"{where}.id", may_be_empty=False)
        require(len(call_id) <= 40, "call_id", f"{where}.id: string too long, at most 40")
        require(call_id not in ids, "call_id", f"{where}.id: duplicate id")
        ids.add(call_id)
        kind = checks.one_of(call.get("type"), f"{where}.type", ("function", "custom"))
        inner = checks.table(call.get(kind), where)
        name = checks.text(inner.get("name"), f"{where}.name")
        require(checks.TOOL_NAME.match(name), "tool_name", f"{where}: invalid name {name!r}")
        checks.text(inner.get("arguments" if kind == "function" else "input"), where)
    content = message.get("content")
    if content is None:
        require(
            calls or message.get("refusal") or message.get("audio") or message.get("function_call"),
            "empty_assistant",
            f"{place}: an assistant message needs content or tool_calls",
        )
    else:
        _parts(content, place, ("text", "refusal"), images)
    return ids


def _parts(content: Any, place: str, kinds: tuple[str, ...], images: list[tuple[str, int]]) -> str:
    """Checks the content; returns its text."""
    if isinstance(content, str):
        return content
    said: list[str] = []
    parts = checks.items(content, f"{place}.content")
    require(parts, "content", f"{place}.content: expected a non-empty array")
    for number, part in enumerate(parts):
        where = f"{place}.content[{number}]"
        kind = checks.one_of(checks.table(part, where).get("type"), f"{where}.type", kinds)
        if kind in ("text", "refusal"):
            said.append(checks.text(part.get(kind), f"{where}.{kind}"))
        elif kind == "image_url":
            url = checks.text(
                checks.table(part.get("image_url"), f"{where}.image_url").get("url"), where
            )
            if url.startswith("data:"):
                images.append(checks.data_url(url, where))
            else:
                require(url.startswith(("https://", "http://")), "url", where)
                images.append(("url", len(url)))
        elif kind == "input_audio":
            audio = checks.table(part.get("input_audio"), f"{where}.input_audio")
            checks.one_of(audio.get("format"), f"{where}.format", ("wav", "mp3"))
            checks.inline("audio", audio.get("data", ""), where)
        else:
            file = checks.table(part.get("file"), f"{where}.file")
            require(
                file.get("file_id") or file.get("file_data"), "file", f"{where}: file has no data"
            )
            if file.get("file_data"):
                checks.data_url(file["file_data"], where)
    return "".join(said)


def read_format(body: JSONDict) -> tuple[JSONDict | None, bool]:
    wanted = body.get("response_format")
    if wanted is None:
        return None, False
    kind = checks.one_of(
        checks.table(wanted, "response_format").get("type"),
        "response_format.type",
        ("text", "json_object", "json_schema"),
    )
    if kind == "json_object" and "json" not in str(body.get("messages")).lower():
        raise fail(
            "json_word", "'messages' must contain the word 'json' in some form to use json_object."
        )
    if kind != "json_schema":
        return None, kind == "json_object"
    inner = checks.table(wanted.get("json_schema"), "response_format.json_schema")
    name = checks.text(inner.get("name"), "response_format.json_schema.name", may_be_empty=False)
    require(checks.TOOL_NAME.match(name), "schema_name", "json_schema.name: invalid characters")
    return (
        checks.schema(
            inner.get("schema") or {}, "json_schema.schema", strict=bool(inner.get("strict"))
        ),
        True,
    )


WIRES: Final = (ChatWire(),)
