"""Mistral's chat as it enforces it: near to Chat Completions, strict about every field."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import Any, Final

from controlplane.kit import json
from controlplane.kit.json import JSONDict
from providers.protocols.canonical import Event
from providers.simulator.asked import Ask, ToolAsked
from providers.simulator.http import Request, Response, json_response
from providers.simulator.keys import key_status
from providers.simulator.wire import Refused, WireRoute
from providers.simulator.wire.gemini import vector
from providers.simulator.wire.mistral_answer import answer_of, chunks_of
from providers.simulator.wire.mistral_messages import Conversation
from providers.simulator.wire.mistral_rules import Invalid, at, only, ordered
from providers.simulator.world import World

_BODY: Final = frozenset(
    "model messages temperature top_p top_k max_tokens min_tokens stream stop random_seed "
    "metadata response_format tools tool_choice presence_penalty frequency_penalty "
    "repetition_penalty n prediction parallel_tool_calls prompt_mode reasoning_effort safe_prompt "
    "guardrails prompt_cache_key service_tier logprobs top_logprobs".split(" ")
)
_TOOL_NAME: Final = re.compile(r"[a-zA-Z0-9_-]{1,64}\Z")
_HOSTED: Final = (
    "web_search", "web_search_premium", "code_interpreter", "image_generation",
    "document_library", "connector",
)  # fmt: skip
_EFFORTS: Final = ("none", "minimal", "low", "medium", "high", "xhigh")
_MODELS: Final = ("sim-mistral", "sim-magistral")
_EMBEDDING: Final = "sim-mistral-embed"
_CODES: Final = {
    400: ("invalid_request_error", "3051"),
    402: ("payment_required", "2402"),
    403: ("forbidden", "1403"),
    404: ("invalid_model", "1500"),
    408: ("request_timeout", "1408"),
    429: ("rate_limited", "1300"),
    500: ("internal_server_error", "3700"),
    503: ("unreachable_backend", "1100"),
    529: ("service_tier_capacity_exceeded", "3505"),
}


class MistralWire:
    slug = "mistral-conversations"
    stream_media_type = "text/event-stream; charset=utf-8"
    routes = (
        WireRoute("POST", "/v1/chat/completions", "chat"),
        WireRoute("GET", "/v1/models", "models"),
        WireRoute("GET", "/v1/models/{model}", "model"),
        WireRoute("POST", "/v1/embeddings", "embed"),
    )

    def authenticate(self, request: Request, world: World) -> None:
        status = key_status(request.bearer(), world)
        if status:
            raise Refused(status, "Unauthorized")

    def model_of(self, request: Request, body: JSONDict) -> str:
        model = body.get("model")
        if not isinstance(model, str) or not model:
            raise Invalid(("model",), "Field required", "missing")
        return model

    def wants_stream(self, route: WireRoute, body: JSONDict) -> bool:
        return bool(body.get("stream"))

    def read(self, request: Request, body: JSONDict, world: World) -> Ask:
        only(body, _BODY, ())
        _knobs(body)
        tools = _tools(body)
        forced, is_required, is_off = _choice(body, tools)
        schema, wants_json = _format(body)
        talk = Conversation()
        talk.read(body.get("messages"))
        stop = body.get("stop") or ()
        return Ask(
            model=body["model"],
            prompt=talk.prompt,
            prompt_bytes=len(request.body),
            tools=tools,
            has_tool_results=talk.has_tool_results,
            forced_tool=forced,
            is_tool_required=is_required,
            are_tools_off=is_off,
            max_tokens=body.get("max_tokens"),
            stop=(stop,) if isinstance(stop, str) else tuple(stop),
            response_schema=schema,
            wants_json=wants_json,
            images=tuple(talk.images),
            wants_thinking=body.get("prompt_mode") == "reasoning"
            or body.get("reasoning_effort") not in (None, "none"),
            choices=body.get("n") or 1,
            protocol=self.slug,
            id=world.token("mistral", 32),
            created=int(world.now().timestamp()),
        )

    def answer(self, ask: Ask, body: JSONDict, events: list[Event]) -> bytes:
        return json.dumps(answer_of(ask, events))

    def stream(self, ask: Ask, body: JSONDict, events: list[Event]) -> Iterable[bytes]:
        for chunk in chunks_of(ask, events):
            yield b"data: " + json.dumps(chunk) + b"\n\n"
        yield b"data: [DONE]\n\n"

    def error(self, refused: Refused) -> Response:
        if isinstance(refused, Invalid):
            return json_response({"detail": [refused.detail]}, 422)
        if refused.status == 401:
            return json_response({"detail": refused.message}, 401)
        if refused.status == 429 and not refused.code:
            # Its gateway's words, not its own.
            return json_response({"message": "Requests rate limit exceeded"}, 429)
        return json_response(_error(refused), refused.status)

    def error_piece(self, refused: Refused) -> bytes:
        return b"data: " + json.dumps(_error(refused)) + b"\n\n"

    async def other(self, route: WireRoute, request: Request, world: World) -> Response:
        names = (*_MODELS, _EMBEDDING)
        match route.operation:
            case "models":
                return json_response({"object": "list", "data": [_listed(name) for name in names]})
            case "model":
                name = request.params["model"]
                if name not in names:
                    raise Refused(404, f"Invalid model: {name}", code="1500")
                return json_response(_listed(name))
            case _:
                return json_response(_embeddings(request, world))


def _error(refused: Refused) -> JSONDict:
    kind, code = _CODES.get(refused.status, _CODES[500 if refused.status >= 500 else 400])
    if refused.rule and refused.param:
        kind = refused.param
    return {
        "object": "error",
        "message": refused.message,
        "type": kind,
        "param": None,
        "code": refused.code if refused.code.isdigit() else code,
    }


# --- knobs -------------------------------------------------------------------------------


def _knobs(body: JSONDict) -> None:
    for name, low, high in (
        ("temperature", 0, 1.5),
        ("top_p", 0, 1),
        ("presence_penalty", -2, 2),
        ("frequency_penalty", -2, 2),
        ("repetition_penalty", 0, 10),
    ):
        if body.get(name) is not None:
            at((name,)).number(body[name], low, high)
    for name, least in (
        ("max_tokens", 0),
        ("min_tokens", 0),
        ("random_seed", 0),
        ("n", 1),
        ("top_k", 0),
        ("top_logprobs", 0),
    ):
        if body.get(name) is not None:
            at((name,)).whole(body[name], least)
    for name in ("stream", "safe_prompt", "parallel_tool_calls", "logprobs"):
        if body.get(name) is not None:
            at((name,)).flag(body[name])
    stop = body.get("stop")
    if stop is not None and not isinstance(stop, str):
        for number, text in enumerate(at(("stop",)).items(stop)):
            at(("stop", number)).text(text)
    if body.get("prompt_mode") is not None:
        at(("prompt_mode",)).word(body["prompt_mode"], ("reasoning",))
    if body.get("reasoning_effort") is not None:
        at(("reasoning_effort",)).word(body["reasoning_effort"], _EFFORTS)
    if body.get("service_tier") is not None:
        at(("service_tier",)).word(body["service_tier"], ("standard", "priority"))
    if body.get("prompt_cache_key") is not None:
        at(("prompt_cache_key",)).text(body["prompt_cache_key"])
    if body.get("metadata") is not None:
        at(("metadata",)).table(body["metadata"])
    if body.get("guardrails") is not None:
        at(("guardrails",)).items(body["guardrails"])
    if body.get("prediction") is not None:
        prediction = at(("prediction",)).table(body["prediction"])
        only(prediction, ("type", "content"), ("prediction",))
        at(("prediction", "type")).word(prediction.get("type", "content"), ("content",))
        at(("prediction", "content")).text(prediction.get("content"))


def _tools(body: JSONDict) -> tuple[ToolAsked, ...]:
    found: list[ToolAsked] = []
    for number, value in enumerate(at(("tools",)).items(body.get("tools") or [])):
        place: tuple[str | int, ...] = ("tools", number)
        tool = at(place).table(value)
        kind = at((*place, "type")).word(tool.get("type", "function"), ("function", *_HOSTED))
        if kind != "function":
            continue
        only(tool, ("type", "function"), place)
        function = at((*place, "function")).table(tool.get("function"))
        only(function, ("name", "description", "parameters", "strict"), (*place, "function"))
        name = at((*place, "function", "name")).text(function.get("name"))
        if not _TOOL_NAME.match(name):
            raise ordered(
                "invalid_request_function",
                f"Function name was {name} but must be a-z, A-Z, 0-9, or contain underscores and "
                "dashes, with a maximum length of 64.",
                "3280",
                rule="tool_name",
            )
        parameters = at((*place, "function", "parameters")).table(function.get("parameters"))
        if function.get("strict") is not None:
            at((*place, "function", "strict")).flag(function["strict"])
        found.append(ToolAsked(name, parameters))
    names = [tool.name for tool in found]
    if len(set(names)) != len(names):
        raise ordered(
            "invalid_request_function",
            "Duplicate function names in tools.",
            "3280",
            rule="duplicate_tool",
        )
    return tuple(found)


def _choice(body: JSONDict, tools: tuple[ToolAsked, ...]) -> tuple[str, bool, bool]:
    """(forced name, required, off)."""
    choice = body.get("tool_choice")
    if choice is None:
        return "", False, False
    if isinstance(choice, str):
        at(("tool_choice",)).word(choice, ("auto", "none", "any", "required"))
        if choice in ("any", "required") and not body.get("tools"):
            raise ordered(
                "invalid_request_function",
                f"When using tool_choice '{choice}', tools must be given.",
                "3280",
                rule="tool_choice",
            )
        return "", choice in ("any", "required"), choice == "none"
    table = at(("tool_choice",)).table(choice)
    only(table, ("type", "function"), ("tool_choice",))
    at(("tool_choice", "type")).word(table.get("type", "function"), ("function",))
    function = at(("tool_choice", "function")).table(table.get("function"))
    only(function, ("name",), ("tool_choice", "function"))
    name = at(("tool_choice", "function", "name")).text(function.get("name"))
    if name not in [tool.name for tool in tools]:
        raise ordered(
            "invalid_request_function",
            f"Function {name} of tool_choice is not one of the tools.",
            "3280",
            rule="tool_choice",
        )
    return name, True, False


def _format(body: JSONDict) -> tuple[JSONDict | None, bool]:
    if body.get("response_format") is None:
        return None, False
    place = ("response_format",)
    wanted = at(place).table(body["response_format"])
    only(wanted, ("type", "json_schema"), place)
    kind = at((*place, "type")).word(
        wanted.get("type", "text"), ("text", "json_object", "json_schema")
    )
    if kind != "json_schema":
        return None, kind == "json_object"
    inside = (*place, "json_schema")
    inner = at(inside).table(wanted.get("json_schema"))
    only(inner, ("name", "description", "schema", "strict"), inside)
    at((*inside, "name")).text(inner.get("name"))
    return at((*inside, "schema")).table(inner.get("schema")), True


# --- others ------------------------------------------------------------------------------


def _embeddings(request: Request, world: World) -> JSONDict:
    body: Any = request.json()
    if not isinstance(body, dict):
        raise Invalid((), "Input should be a valid dictionary", "dict_type")
    only(
        body,
        ("model", "input", "output_dimension", "output_dtype", "encoding_format", "metadata"),
        (),
    )
    at(("model",)).text(body.get("model"))
    given = body.get("input")
    texts = [given] if isinstance(given, str) else at(("input",)).items(given)
    for number, text in enumerate(texts):
        at(("input", number)).text(text)
    size = 1024
    if body.get("output_dimension") is not None:
        size = at(("output_dimension",)).whole(body["output_dimension"], 1)
    tokens = sum(math.ceil(len(text) / 4) for text in texts)
    return {
        "id": world.token("mistral-embedding", 32),
        "object": "list",
        "data": [
            {"object": "embedding", "embedding": vector(text, size), "index": number}
            for number, text in enumerate(texts)
        ],
        "model": body["model"],
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens, "completion_tokens": 0},
    }


def _listed(name: str) -> JSONDict:
    is_embedding = name == _EMBEDDING
    return {
        "id": name,
        "object": "model",
        "created": 1_767_225_600,
        "owned_by": "mistralai",
        "capabilities": {
            "completion_chat": not is_embedding,
            "completion_fim": False,
            "function_calling": not is_embedding,
            "fine_tuning": False,
            "vision": not is_embedding,
        },
        "name": name,
        "description": "A simulated model.",
        "max_context_length": 131_072,
        "aliases": [],
        "type": "base",
    }


WIRES: Final = (MistralWire(),)
