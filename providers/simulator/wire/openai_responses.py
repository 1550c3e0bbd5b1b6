"""OpenAI Responses as the vendor enforces it."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from controlplane.kit import json
from controlplane.kit.json import JSONDict
from providers.protocols.canonical import Event
from providers.simulator import proofs
from providers.simulator.asked import Ask, ToolAsked, script_of
from providers.simulator.http import Request, Response, json_response
from providers.simulator.wire import Refused, WireRoute, checks, responses_answer
from providers.simulator.wire.checks import fail, require
from providers.simulator.wire.openai_chat import EFFORTS, check_metadata, openai_error
from providers.simulator.wire.responses_answer import Manner
from providers.simulator.wire.responses_input import Conversation, KeptItem
from providers.simulator.world import World

FIELDS: Final = frozenset(
    "model input instructions max_output_tokens temperature top_p top_logprobs tools tool_choice "
    "parallel_tool_calls max_tool_calls reasoning text include store previous_response_id "
    "conversation stream stream_options background truncation prompt_cache_key "
    "prompt_cache_retention prompt_cache_options service_tier safety_identifier user metadata "
    "prompt context_management moderation image access_programs".split(" ")
)
INCLUDES: Final = (
    "reasoning.encrypted_content",
    "message.output_text.logprobs",
    "message.input_image.image_url",
    "file_search_call.results",
    "web_search_call.results",
    "web_search_call.action.sources",
    "code_interpreter_call.outputs",
    "computer_call_output.output.image_url",
)
BUILTINS: Final = (
    "web_search",
    "web_search_preview",
    "web_search_2025_08_26",
    "web_search_preview_2025_03_11",
    "file_search",
    "code_interpreter",
    "image_generation",
    "mcp",
    "computer",
    "computer_use_preview",
    "local_shell",
    "shell",
    "apply_patch",
    "tool_search",
)
TIERS: Final = ("auto", "default", "flex", "scale", "priority", "fast")
MAX_KEPT: Final = 1000
_COMPACTED: Final = "compaction"


@dataclass(slots=True)
class _Kept:
    """A stored response: what was asked, and the answer once there is one."""

    input: list[JSONDict]
    # The whole conversation up to here, which `previous_response_id` brings along.
    before: tuple[JSONDict, ...]
    response: JSONDict | None = None

    def conversation(self) -> tuple[JSONDict, ...]:
        output = self.response["output"] if self.response is not None else []
        return (*self.before, *self.input, *output)


class Store:
    """What the vendor keeps while `store` is not false."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self._items: OrderedDict[str, KeptItem] = OrderedDict()

    def open(self, id_: str, asked: list[JSONDict], before: tuple[JSONDict, ...]) -> _Kept:
        kept = self._kept[id_] = _Kept(asked, before)
        if len(self._kept) > MAX_KEPT:
            self._kept.popitem(last=False)
        return kept

    def close(self, kept: _Kept, response: JSONDict) -> None:
        kept.response = response
        reasoning = ""
        for item in response["output"]:
            self._items[item["id"]] = KeptItem(item, reasoning)
            reasoning = item["id"] if item["type"] == "reasoning" else ""
            if len(self._items) > MAX_KEPT * 4:
                self._items.popitem(last=False)

    def find(self, id_: str) -> _Kept | None:
        return self._kept.get(id_)

    def item(self, id_: str) -> KeptItem | None:
        return self._items.get(id_)

    def forget(self, id_: str) -> bool:
        return self._kept.pop(id_, None) is not None


def store_of(world: World) -> Store:
    store: Store | None = world.parts.get("responses")
    if store is None:
        store = world.parts["responses"] = Store()
    return store


class ResponsesWire:
    slug = "openai-responses"
    stream_media_type = "text/event-stream; charset=utf-8"
    routes: tuple[WireRoute, ...] = (
        WireRoute("POST", "/v1/responses", "chat"),
        WireRoute("POST", "/v1/responses/compact", "compact"),
        WireRoute("POST", "/v1/responses/input_tokens", "count"),
        WireRoute("GET", "/v1/responses/{id}", "get"),
        WireRoute("DELETE", "/v1/responses/{id}", "delete"),
        WireRoute("POST", "/v1/responses/{id}/cancel", "cancel"),
        WireRoute("GET", "/v1/responses/{id}/input_items", "input_items"),
    )
    manner = Manner()

    def authenticate(self, request: Request, world: World) -> None:
        checks.check_key(request.bearer(), world)

    def model_of(self, request: Request, body: JSONDict) -> str:
        return checks.text(body.get("model"), "model", may_be_empty=False)

    def wants_stream(self, route: WireRoute, body: JSONDict) -> bool:
        return bool(body.get("stream"))

    # --- the request ---

    def read(self, request: Request, body: JSONDict, world: World) -> Ask:
        self.check_fields(body)
        self.check_knobs(body)
        store = store_of(world)
        before = self._before(body, store)
        tools = self.tools(body)
        forced, is_required, is_off, tools = _choice(body, tools)
        model = body["model"]
        conversation = Conversation(script_of(model).base, store.item, before)
        conversation.read(body.get("input"))
        schema, wants_json = _format(body, conversation.has_json_word)
        reasoning = body.get("reasoning") or {}
        id_ = world.token("response", 40)
        wants_logprobs = "message.output_text.logprobs" in (body.get("include") or ())
        return Ask(
            model=model,
            prompt=conversation.prompt,
            prompt_bytes=checks.prompt_bytes(body),
            tools=tools,
            has_tool_results=conversation.ends_with_results,
            forced_tool=forced,
            is_tool_required=is_required,
            are_tools_off=is_off,
            max_tokens=body.get("max_output_tokens"),
            response_schema=schema,
            wants_json=wants_json,
            images=tuple(conversation.images),
            wants_thinking=reasoning.get("effort") not in (None, "none"),
            logprobs=(body.get("top_logprobs") or 0) if wants_logprobs else None,
            protocol=self.slug,
            id=id_,
            created=int(world.now().timestamp()),
            on_answer=_keeper(body, store, f"resp_{id_}", before),
        )

    def check_fields(self, body: JSONDict) -> None:
        if unknown := sorted(set(body) - FIELDS):
            raise Refused(
                400,
                f"Unknown parameter: '{unknown[0]}'.",
                code="unknown_parameter",
                rule="unknown_field",
                param=unknown[0],
            )

    def check_knobs(self, body: JSONDict) -> None:
        _check_sampling(body)
        _check_state(body)
        for name in checks.items(body.get("include") or [], "include"):
            checks.one_of(name, "include", INCLUDES)
        reasoning = checks.table(body.get("reasoning") or {}, "reasoning")
        checks.known_fields(
            reasoning, ("effort", "summary", "generate_summary", "context", "mode"), "reasoning."
        )
        if reasoning.get("effort") is not None:
            checks.one_of(reasoning["effort"], "reasoning.effort", EFFORTS)
        for name in ("summary", "generate_summary"):
            if reasoning.get(name) is not None:
                words = ("auto", "concise", "detailed")
                checks.one_of(reasoning[name], f"reasoning.{name}", words)
        if body.get("instructions") is not None and not isinstance(body["instructions"], list):
            checks.text(body["instructions"], "instructions")
        require(
            "stream_options" not in body or body["stream_options"] is None or body.get("stream"),
            "stream_options",
            "The 'stream_options' parameter is only allowed when 'stream' is enabled.",
        )
        if body.get("truncation") is not None:
            checks.one_of(body["truncation"], "truncation", ("auto", "disabled"))
        if body.get("service_tier") is not None:
            checks.one_of(body["service_tier"], "service_tier", TIERS)
        if body.get("prompt_cache_key") is not None:
            key = checks.text(body["prompt_cache_key"], "prompt_cache_key")
            require(len(key) <= 64, "cache_key", "prompt_cache_key: at most 64 characters")
        check_metadata(body)

    def _before(self, body: JSONDict, store: Store) -> tuple[JSONDict, ...]:
        previous = body.get("previous_response_id")
        if previous is None:
            return ()
        kept = store.find(checks.text(previous, "previous_response_id"))
        if kept is None or kept.response is None:
            raise Refused(
                400,
                f"Previous response with id '{previous}' not found.",
                code="previous_response_not_found",
                rule="previous_response",
                param="previous_response_id",
            )
        return kept.conversation()

    def tools(self, body: JSONDict) -> tuple[ToolAsked, ...]:
        found: list[ToolAsked] = []
        for number, tool in enumerate(checks.items(body.get("tools") or [], "tools")):
            found += self._tool(checks.table(tool, f"tools[{number}]"), f"tools[{number}]", None)
        names = [(tool.namespace, tool.name) for tool in found]
        require(len(set(names)) == len(names), "duplicate_tool", "tools: names must be unique")
        require(len(found) <= 128, "tools", "tools: at most 128")
        return tuple(found)

    def _tool(self, tool: JSONDict, place: str, namespace: str | None) -> list[ToolAsked]:
        kind = checks.one_of(
            tool.get("type"), f"{place}.type", ("function", "custom", "namespace", *BUILTINS)
        )
        if kind in BUILTINS:
            return []
        # Flat: the name stands beside the type, not in an object as on Chat Completions.
        if kind in tool:
            raise Refused(
                400,
                f"Missing required parameter: '{place}.name'.",
                code="missing_required_parameter",
                rule="nested_tool",
                param=f"{place}.name",
            )
        name = checks.text(tool.get("name"), f"{place}.name")
        require(checks.TOOL_NAME.match(name), "tool_name", f"{place}.name: invalid name {name!r}")
        if kind == "namespace":
            require(namespace is None, "namespace", f"{place}: namespaces do not nest")
            inner = checks.items(tool.get("tools"), f"{place}.tools")
            groups = [self._tool(t, f"{place}.tools[{n}]", name) for n, t in enumerate(inner)]
            return [found for group in groups for found in group]
        if kind == "custom":
            return [ToolAsked(name, {}, "custom", namespace)]
        strict = self.strictness(tool, place)
        parameters = tool.get("parameters") or {}
        checks.schema(parameters, f"{place}.parameters", strict=strict)
        return [ToolAsked(name, parameters, "function", namespace)]

    def strictness(self, tool: JSONDict, place: str) -> bool:
        """The vendor's typed clients always send `strict`; null and false are the same."""
        strict = tool.get("strict")
        require(isinstance(strict, bool | None), "strict", f"{place}.strict is a boolean")
        return bool(strict)

    # --- the answer ---

    def answer(self, ask: Ask, body: JSONDict, events: list[Event]) -> bytes:
        response = responses_answer.whole(ask, body, events)
        if body.get("background"):
            # Asked for later: what is there at once is only the promise.
            response = {**response, "status": "queued", "output": [], "usage": None}
        return json.dumps(response)

    def stream(self, ask: Ask, body: JSONDict, events: list[Event]) -> Iterable[bytes]:
        return responses_answer.stream(ask, body, events, self.manner)

    def error(self, refused: Refused) -> Response:
        return openai_error(refused)

    def error_piece(self, refused: Refused) -> bytes:
        code = "server_is_overloaded" if refused.code == "overloaded" else refused.code
        event = {
            "type": "error",
            "sequence_number": refused.position,
            "code": code or "server_error",
            "message": refused.message,
            "param": None,
        }
        return b"event: error\ndata: " + json.dumps(event) + b"\n\n"

    # --- what was kept ---

    async def other(self, route: WireRoute, request: Request, world: World) -> Response:
        if route.operation == "compact":
            return self._compact(request, world)
        if route.operation == "count":
            body = checks.table(request.json(), "body")
            size = math.ceil(len(json.dumps(body.get("input") or "")) / 4)
            return json_response({"object": "response.input_tokens", "input_tokens": size})
        store, id_ = store_of(world), request.params["id"]
        kept = store.find(id_)
        if kept is None or kept.response is None:
            raise Refused(404, f"Response with id '{id_}' not found.", code="not_found")
        if route.operation == "delete":
            store.forget(id_)
            return json_response({"id": id_, "object": "response", "deleted": True})
        if route.operation == "input_items":
            return json_response(_listed(kept.input, id_))
        if route.operation == "cancel":
            require(
                kept.response["background"],
                "cancel",
                "Cannot cancel a synchronous response.",
            )
        return json_response(kept.response)

    def _compact(self, request: Request, world: World) -> Response:
        """The conversation as one item that only the vendor can read."""
        body = checks.table(request.json(), "body")
        model = self.model_of(request, body)
        conversation = Conversation(script_of(model).base, store_of(world).item)
        conversation.read(body.get("input"))
        id_ = world.token("compaction", 40)
        proof = proofs.make(script_of(model).base, conversation.prompt)
        tokens = math.ceil(len(request.body) / 4)
        return json_response(
            {
                "id": f"resp_{id_}",
                "object": "response.compaction",
                "created_at": int(world.now().timestamp()),
                "output": [{"id": f"cmp_{id_}", "type": _COMPACTED, "encrypted_content": proof}],
                "usage": {
                    "input_tokens": tokens,
                    "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
                    "output_tokens": 8,
                    "output_tokens_details": {"reasoning_tokens": 0},
                    "total_tokens": tokens + 8,
                },
            }
        )


def _listed(items: list[JSONDict], id_: str) -> JSONDict:
    shown = [
        {**item, "id": item.get("id") or f"msg_{id_.removeprefix('resp_')}{number:04x}"}
        for number, item in enumerate(items)
    ]
    return {
        "object": "list",
        "data": shown,
        "has_more": False,
        "first_id": shown[0]["id"] if shown else None,
        "last_id": shown[-1]["id"] if shown else None,
    }


def _keeper(body: JSONDict, store: Store, id_: str, before: tuple[JSONDict, ...]) -> Any:
    """Keeps the answer once it is there; None where the caller wants it forgotten."""
    if body.get("store") is False:
        return None
    given = body["input"]
    if isinstance(given, str):
        content = [{"type": "input_text", "text": given}]
        given = [{"type": "message", "role": "user", "content": content}]
    kept = store.open(id_, given, before)

    def keep(response: JSONDict) -> None:
        store.close(kept, response)

    return keep


def _check_sampling(body: JSONDict) -> None:
    if body.get("temperature") is not None:
        checks.number(body["temperature"], "temperature", 0, 2)
    if body.get("top_p") is not None:
        checks.number(body["top_p"], "top_p", 0, 1)
    if body.get("top_logprobs") is not None:
        checks.whole_number(body["top_logprobs"], "top_logprobs", 0, 20)
    if body.get("max_tool_calls") is not None:
        checks.whole_number(body["max_tool_calls"], "max_tool_calls", 1)
    limit = body.get("max_output_tokens")
    if limit is None:
        return
    checks.whole_number(limit, "max_output_tokens", 1)
    if limit < 16:
        raise Refused(
            400,
            "Invalid 'max_output_tokens': integer below minimum value. Expected a value >= 16.",
            code="integer_below_min_value",
            rule="max_output_tokens",
            param="max_output_tokens",
        )


def _check_state(body: JSONDict) -> None:
    require(
        not (body.get("previous_response_id") and body.get("conversation")),
        "two_states",
        "Mutually exclusive parameters: 'previous_response_id' and 'conversation'.",
    )
    is_forgotten = body.get("store") is False
    require(
        not (body.get("background") and is_forgotten),
        "background",
        "Background mode requires 'store' to be true.",
    )
    require(
        not (body.get("conversation") and is_forgotten),
        "conversation",
        "A conversation requires 'store' to be true.",
    )
    if body.get("conversation"):
        named = body["conversation"]
        id_ = named.get("id") if isinstance(named, dict) else named
        raise Refused(404, f"Conversation with id '{id_}' not found.", code="not_found")


def _choice(
    body: JSONDict, tools: tuple[ToolAsked, ...]
) -> tuple[str, bool, bool, tuple[ToolAsked, ...]]:
    """(forced name, required, off, the tools that may be called)."""
    choice = body.get("tool_choice")
    if choice is None:
        return "", False, False, tools
    if isinstance(choice, str):
        checks.one_of(choice, "tool_choice", ("none", "auto", "required"))
        require(
            choice != "required" or body.get("tools"),
            "tool_choice",
            "Tool choice 'required' must be specified with 'tools' parameter.",
        )
        return "", choice == "required", choice == "none", tools
    kind = checks.one_of(
        checks.table(choice, "tool_choice").get("type"),
        "tool_choice.type",
        ("function", "custom", "allowed_tools", *BUILTINS),
    )
    if kind in BUILTINS:
        return "", False, False, tools
    names = {tool.name for tool in tools}
    if kind == "allowed_tools":
        mode = checks.one_of(choice.get("mode"), "tool_choice.mode", ("auto", "required"))
        wanted = checks.items(choice.get("tools"), "tool_choice.tools")
        allowed = {entry.get("name") for entry in wanted if isinstance(entry, dict)}
        missing = sorted(str(name) for name in allowed - names if name is not None)
        require(not missing, "tool_choice", f"Tool choice {missing} not found in 'tools'.")
        return "", mode == "required", False, tuple(t for t in tools if t.name in allowed)
    if kind in choice:
        raise fail("nested_tool", "Missing required parameter: 'tool_choice.name'.")
    name = checks.text(choice.get("name"), "tool_choice.name")
    require(name in names, "tool_choice", f"Tool choice '{name}' not found in 'tools' parameter.")
    return name, True, False, tools


def _format(body: JSONDict, has_json_word: bool) -> tuple[JSONDict | None, bool]:
    text = checks.table(body.get("text") or {}, "text")
    checks.known_fields(text, ("format", "verbosity"), "text.")
    if text.get("verbosity") is not None:
        checks.one_of(text["verbosity"], "text.verbosity", ("low", "medium", "high"))
    wanted = text.get("format")
    if wanted is None:
        return None, False
    kind = checks.one_of(
        checks.table(wanted, "text.format").get("type"),
        "text.format.type",
        ("text", "json_object", "json_schema"),
    )
    if kind == "json_object":
        require(
            has_json_word or "json" in str(body.get("instructions")).lower(),
            "json_word",
            "Response input messages must contain the word 'json' in some form to use "
            "'text.format' of type 'json_object'.",
        )
        return None, True
    if kind == "text":
        return None, False
    # Flat, too: name and schema beside the type.
    name = checks.text(wanted.get("name"), "text.format.name", may_be_empty=False)
    require(checks.TOOL_NAME.match(name), "schema_name", "text.format.name: invalid characters")
    strict = bool(wanted.get("strict"))
    return checks.schema(wanted.get("schema"), "text.format.schema", strict=strict), True


WIRES: Final = (ResponsesWire(),)
