"""A Chat Completions request of one of our callers, as a canonical Request."""

from __future__ import annotations

from typing import Any, Final, Literal, cast

from controlplane.kit.json import JSONDict
from providers.protocols.canonical import (
    Caching,
    Reasoning,
    Request,
    ResponseFormat,
    Sampling,
    Tool,
    ToolChoice,
)
from providers.protocols.openai_completions import reading
from providers.protocols.openai_completions.client_messages import conversation
from providers.protocols.openai_completions.reading import wrong

SLUG: Final = "openai-completions"

# Fields with a canonical meaning; all others travel in `extra`.
_KNOWN: Final = frozenset(
    {
        "model",
        "messages",
        "max_tokens",
        "max_completion_tokens",
        "temperature",
        "top_p",
        "top_k",
        "min_p",
        "repetition_penalty",
        "seed",
        "stop",
        "presence_penalty",
        "frequency_penalty",
        "logit_bias",
        "n",
        "logprobs",
        "top_logprobs",
        "tools",
        "tool_choice",
        "functions",
        "function_call",
        "parallel_tool_calls",
        "response_format",
        "reasoning_effort",
        "reasoning",
        "verbosity",
        "stream",
        "stream_options",
        "store",
        "metadata",
        "service_tier",
        "prompt_cache_key",
        "prompt_cache_retention",
        "safety_identifier",
        "user",
    }
)
_RETENTION: Final[dict[str, Literal["none", "short", "long"]]] = {
    "in_memory": "short",
    "in-memory": "short",
    "24h": "long",
}


def decode_request(body: JSONDict) -> Request:
    system, messages = conversation(
        reading.items(body, "messages", limit=reading.MAX_MESSAGES), SLUG
    )
    if not messages and not system:
        raise wrong("messages", "is required and must hold at least one message")
    tools, choice, is_legacy = _tools(body)
    options = reading.mapping(body, "stream_options") or {}
    extra = {key: value for key, value in body.items() if key not in _KNOWN and value is not None}
    safety, user = reading.string(body, "safety_identifier"), reading.string(body, "user")
    if safety and user and safety != user:
        extra["user"] = user
    parallel = reading.boolean(body, "parallel_tool_calls")
    return Request(
        model=reading.required_string(body, "model"),
        dialect=SLUG,
        messages=messages,
        system=system,
        tools=tools,
        tool_choice=choice,
        # One `function_call` is all that the old grammar can carry.
        parallel_tool_calls=False if is_legacy else parallel,
        sampling=_sampling(body),
        reasoning=_reasoning(body),
        response_format=_response_format(body),
        verbosity=cast(
            "Literal['low', 'medium', 'high'] | None",
            reading.one_of(body, "verbosity", ("low", "medium", "high")),
        ),
        caching=Caching(
            key=reading.string(body, "prompt_cache_key") or None,
            retention=cache_retention(body),
        ),
        store=reading.boolean(body, "store"),
        metadata=reading.string_map(body, "metadata"),
        end_user_id=safety or user or None,
        service_tier=reading.string(body, "service_tier"),
        stream=reading.boolean(body, "stream") or False,
        include_usage=reading.boolean(options, "include_usage", "stream_options.") or False,
        uses_legacy_functions=is_legacy,
        extra=extra,
    )


def cache_retention(body: JSONDict) -> Literal["none", "short", "long"] | None:
    word = reading.string(body, "prompt_cache_retention")
    if word is None:
        return None
    if word not in _RETENTION:
        raise wrong("prompt_cache_retention", "must be in_memory or 24h")
    return _RETENTION[word]


def _sampling(body: JSONDict) -> Sampling:
    bias = reading.mapping(body, "logit_bias")
    for token, value in (bias or {}).items():
        if type(value) not in (int, float):
            raise wrong(f"logit_bias.{token}", "must be a number")
    # Both names in one request: the newer one counts (trap 172).
    limit = reading.integer(body, "max_completion_tokens", least=1)
    older = reading.integer(body, "max_tokens", least=1)
    return Sampling(
        max_output_tokens=limit if limit is not None else older,
        temperature=reading.number(body, "temperature"),
        top_p=reading.number(body, "top_p"),
        top_k=reading.integer(body, "top_k"),
        min_p=reading.number(body, "min_p"),
        repetition_penalty=reading.number(body, "repetition_penalty"),
        seed=reading.integer(body, "seed"),
        stop=reading.strings(body, "stop"),
        presence_penalty=reading.number(body, "presence_penalty"),
        frequency_penalty=reading.number(body, "frequency_penalty"),
        logit_bias={key: float(value) for key, value in bias.items()} if bias else None,
        n=reading.integer(body, "n", least=1),
        logprobs=reading.boolean(body, "logprobs"),
        top_logprobs=reading.integer(body, "top_logprobs", least=0),
    )


def _reasoning(body: JSONDict) -> Reasoning | None:
    """OpenAI's `reasoning_effort`, or the `reasoning` object that OpenRouter's clients send."""
    effort = body.get("reasoning_effort")
    wishes = reading.mapping(body, "reasoning")
    if effort is not None:
        level = reading.level(effort, "reasoning_effort")
        show = None if wishes is None or not wishes.get("exclude") else False
        return Reasoning(level=level, show=show)
    if wishes is None:
        return None
    if reading.boolean(wishes, "enabled", "reasoning.") is False:
        return Reasoning(level="off")
    inner = wishes.get("effort")
    return Reasoning(
        level=None if inner is None else reading.level(inner, "reasoning.effort"),
        budget_tokens=reading.integer(wishes, "max_tokens", "reasoning.", least=0),
        show=False if reading.boolean(wishes, "exclude", "reasoning.") else None,
    )


def _response_format(body: JSONDict) -> ResponseFormat | None:
    wish = reading.mapping(body, "response_format")
    if wish is None:
        return None
    at = "response_format."
    kind = reading.one_of(wish, "type", ("text", "json_object", "json_schema"), at)
    if kind == "json_schema":
        inner = reading.required_mapping(wish, "json_schema", at)
        at += "json_schema."
        return ResponseFormat(
            kind="json_schema",
            name=reading.string(inner, "name", at),
            schema=reading.mapping(inner, "schema", at) or {},
            strict=reading.boolean(inner, "strict", at),
            description=reading.string(inner, "description", at),
        )
    if kind == "json_object":
        return ResponseFormat(kind="json_object")
    if kind is None:
        raise wrong("response_format.type", "is required")
    return ResponseFormat(kind="text")


def _tools(body: JSONDict) -> tuple[tuple[Tool, ...], ToolChoice | None, bool]:
    """Declarations and choice, and whether they came in the grammar of 2023."""
    tools = [
        _tool(reading.as_mapping(entry, f"tools[{index}]"), f"tools[{index}].")
        for index, entry in enumerate(reading.items(body, "tools", limit=reading.MAX_TOOLS))
    ]
    functions = reading.items(body, "functions", limit=reading.MAX_TOOLS)
    choice = _tool_choice(body.get("tool_choice"))
    if not functions and body.get("function_call") is None:
        return tuple(tools), choice, False
    for index, entry in enumerate(functions):
        at = f"functions[{index}]"
        tools.append(_function(reading.as_mapping(entry, at), f"{at}.", {}))
    wish = body.get("function_call")
    if choice is None and wish is not None:
        if wish in ("auto", "none"):
            choice = ToolChoice(mode=wish)
        else:
            wanted = reading.as_mapping(wish, "function_call")
            name = reading.required_string(wanted, "name", "function_call.")
            choice = ToolChoice(mode="named", names=(name,))
    return tuple(tools), choice, not body.get("tools")


def _tool(entry: JSONDict, at: str) -> Tool:
    kind = entry.get("type", "function")
    if kind == "function":
        inner = reading.required_mapping(entry, "function", at)
        return _function(inner, f"{at}function.", entry)
    if kind == "custom":
        inner = reading.required_mapping(entry, "custom", at)
        return Tool(
            name=reading.required_string(inner, "name", f"{at}custom."),
            description=reading.string(inner, "description", f"{at}custom."),
            kind="custom",
            grammar=_grammar(inner, f"{at}custom."),
            cache=reading.cache_mark(entry, at),
        )
    if type(kind) is not str:
        raise wrong(f"{at}type", "must be a string")
    return Tool(name=kind, kind="builtin", builtin=entry, builtin_protocol=SLUG)


_TOOL_FIELDS: Final = frozenset({"type", "function", "cache_control"})
_FUNCTION_FIELDS: Final = frozenset({"name", "description", "parameters", "strict"})


def _function(inner: JSONDict, at: str, entry: JSONDict) -> Tool:
    extra: dict[str, Any] = {}
    if len(entry) > 2:
        extra = {key: value for key, value in entry.items() if key not in _TOOL_FIELDS}
    if len(inner) > 3:
        extra.update((key, inner[key]) for key in inner if key not in _FUNCTION_FIELDS)
    return Tool(
        name=reading.required_string(inner, "name", at),
        description=reading.string(inner, "description", at),
        schema=reading.mapping(inner, "parameters", at),
        strict=reading.boolean(inner, "strict", at),
        cache=reading.cache_mark(entry, at),
        extra=extra,
    )


def _grammar(custom: JSONDict, at: str) -> JSONDict | None:
    """`{syntax, definition}`; None for free text."""
    wish = reading.mapping(custom, "format", at)
    if wish is None or wish.get("type") != "grammar":
        return None
    inner = reading.mapping(wish, "grammar", f"{at}format.") or wish
    return {
        "syntax": reading.required_string(inner, "syntax", f"{at}format.grammar."),
        "definition": reading.required_string(inner, "definition", f"{at}format.grammar."),
    }


def _tool_choice(wish: object) -> ToolChoice | None:
    if wish is None:
        return None
    if wish in ("auto", "none", "required"):
        return ToolChoice(mode=wish)
    choice = reading.as_mapping(wish, "tool_choice")
    kind = choice.get("type")
    if kind == "allowed_tools":
        inner = reading.required_mapping(choice, "allowed_tools", "tool_choice.")
        at = "tool_choice.allowed_tools."
        mode = reading.one_of(inner, "mode", ("auto", "required"), at) or "auto"
        names = tuple(
            _choice_name(reading.as_mapping(entry, f"{at}tools[{index}]"), f"{at}tools[{index}]")
            for index, entry in enumerate(reading.items(inner, "tools", at))
        )
        return ToolChoice(
            mode="allowed", names=names, allowed_mode=cast("Literal['auto', 'required']", mode)
        )
    return ToolChoice(mode="named", names=(_choice_name(choice, "tool_choice"),))


def _choice_name(choice: JSONDict, path: str) -> str:
    kind = choice.get("type", "function")
    if kind not in ("function", "custom"):
        raise wrong(f"{path}.type", "must be function, custom or allowed_tools")
    inner = reading.required_mapping(choice, kind, f"{path}.")
    return reading.required_string(inner, "name", f"{path}.{kind}.")
