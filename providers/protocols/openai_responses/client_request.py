"""A Responses request of one of our callers, as a canonical Request."""

from __future__ import annotations

from typing import Any, Final, Literal, cast

from controlplane.kit.json import JSONDict
from providers.protocols.canonical import (
    Caching,
    Reasoning,
    Request,
    ResponseFormat,
    Sampling,
    SystemText,
    Tool,
    ToolChoice,
)
from providers.protocols.errors import LocalProtocolError
from providers.protocols.openai_completions import reading
from providers.protocols.openai_completions.client_request import cache_retention
from providers.protocols.openai_completions.reading import wrong
from providers.protocols.openai_responses.carriers import SLUG
from providers.protocols.openai_responses.client_items import conversation

ENCRYPTED: Final = "reasoning.encrypted_content"
LOGPROBS: Final = "message.output_text.logprobs"
# Kept with a namespace's first tool, so that the group can be declared again.
NAMESPACE_DESCRIPTION: Final = "namespace_description"

_KNOWN: Final = frozenset(
    {
        "model",
        "input",
        "instructions",
        "max_output_tokens",
        "temperature",
        "top_p",
        "top_logprobs",
        "tools",
        "tool_choice",
        "parallel_tool_calls",
        "reasoning",
        "text",
        "include",
        "store",
        "previous_response_id",
        "conversation",
        "stream",
        "prompt_cache_key",
        "prompt_cache_retention",
        "service_tier",
        "safety_identifier",
        "user",
        "metadata",
    }
)
_REASONING: Final = frozenset({"effort", "summary", "generate_summary"})


def decode_request(body: JSONDict) -> Request:
    system, messages = conversation(body)
    instructions = reading.string(body, "instructions")
    if instructions:
        system = (SystemText(text=instructions, origin="instructions"), *system)
    extra = {key: value for key, value in body.items() if key not in _KNOWN and value is not None}
    include = list(reading.strings(body, "include"))
    others = [word for word in include if word not in (ENCRYPTED, LOGPROBS)]
    if others:
        extra["include"] = others
    text = reading.mapping(body, "text") or {}
    safety, user = reading.string(body, "safety_identifier"), reading.string(body, "user")
    if safety and user and safety != user:
        extra["user"] = user
    previous = reading.string(body, "previous_response_id")
    conversation_id = _conversation_id(body)
    if previous and conversation_id:
        raise LocalProtocolError(
            "`previous_response_id` and `conversation` exclude each other. Send one of them.",
            param="conversation",
        )
    if not (messages or system or previous or conversation_id or body.get("prompt")):
        raise wrong("input", "is required and must hold at least one item")
    return Request(
        model=reading.required_string(body, "model"),
        dialect=SLUG,
        messages=messages,
        system=system,
        tools=_tools(body),
        tool_choice=_tool_choice(body.get("tool_choice"), extra),
        parallel_tool_calls=reading.boolean(body, "parallel_tool_calls"),
        sampling=Sampling(
            max_output_tokens=reading.integer(body, "max_output_tokens", least=1),
            temperature=reading.number(body, "temperature"),
            top_p=reading.number(body, "top_p"),
            logprobs=True if LOGPROBS in include else None,
            top_logprobs=reading.integer(body, "top_logprobs", least=0),
        ),
        reasoning=_reasoning(body, extra),
        response_format=_format(text),
        verbosity=cast(
            "Literal['low', 'medium', 'high'] | None",
            reading.one_of(text, "verbosity", ("low", "medium", "high"), "text."),
        ),
        caching=Caching(
            key=reading.string(body, "prompt_cache_key") or None,
            retention=cache_retention(body),
        ),
        store=reading.boolean(body, "store"),
        previous_response_id=previous,
        conversation=conversation_id,
        metadata=reading.string_map(body, "metadata"),
        end_user_id=safety or user or None,
        service_tier=reading.string(body, "service_tier"),
        stream=reading.boolean(body, "stream") or False,
        # The last event of a stream always counts the tokens.
        include_usage=True,
        extra=extra,
    )


def _conversation_id(body: JSONDict) -> str | None:
    value = body.get("conversation")
    if type(value) is dict:
        return reading.required_string(value, "id", "conversation.")
    return reading.string(body, "conversation")


def _reasoning(body: JSONDict, extra: dict[str, Any]) -> Reasoning | None:
    wish = reading.mapping(body, "reasoning")
    if wish is None:
        return None
    rest = {key: value for key, value in wish.items() if key not in _REASONING and value}
    if rest:
        extra["reasoning"] = rest
    words = ("auto", "concise", "detailed")
    summary = reading.one_of(wish, "summary", words, "reasoning.") or reading.one_of(
        wish, "generate_summary", words, "reasoning."
    )
    effort = wish.get("effort")
    if effort is None and summary is None:
        return None
    return Reasoning(
        level=None if effort is None else reading.level(effort, "reasoning.effort"),
        summary=cast("Literal['auto', 'concise', 'detailed'] | None", summary),
    )


def _format(text: JSONDict) -> ResponseFormat | None:
    wish = reading.mapping(text, "format", "text.")
    if wish is None:
        return None
    at = "text.format."
    kind = reading.one_of(wish, "type", ("text", "json_object", "json_schema"), at)
    if kind == "json_schema":
        return ResponseFormat(
            kind="json_schema",
            name=reading.string(wish, "name", at),
            schema=reading.mapping(wish, "schema", at) or {},
            strict=reading.boolean(wish, "strict", at),
            description=reading.string(wish, "description", at),
        )
    if kind is None:
        raise wrong("text.format.type", "is required")
    return ResponseFormat(kind="json_object" if kind == "json_object" else "text")


def _tools(body: JSONDict) -> tuple[Tool, ...]:
    tools: list[Tool] = []
    for index, entry in enumerate(reading.items(body, "tools", limit=reading.MAX_TOOLS)):
        path = f"tools[{index}]"
        tool = reading.as_mapping(entry, path)
        if tool.get("type") == "namespace":
            tools += _namespace(tool, f"{path}.")
        else:
            tools.append(_tool(tool, f"{path}."))
        if len(tools) > reading.MAX_TOOLS:
            raise wrong("tools", f"holds more than {reading.MAX_TOOLS} entries")
    return tuple(tools)


def _namespace(entry: JSONDict, at: str) -> list[Tool]:
    name = reading.required_string(entry, "name", at)
    description = reading.string(entry, "description", at)
    tools: list[Tool] = []
    for index, inner in enumerate(reading.items(entry, "tools", at, limit=reading.MAX_TOOLS)):
        path = f"{at}tools[{index}]"
        tool = _tool(reading.as_mapping(inner, path), f"{path}.", namespace=name)
        if tool.kind == "builtin":
            raise wrong(f"{path}.type", "must be function or custom in a namespace")
        if description and not tools:
            tool.extra[NAMESPACE_DESCRIPTION] = description
        tools.append(tool)
    return tools


_FUNCTION: Final = frozenset({"type", "name", "description", "parameters", "strict"})
_CUSTOM: Final = frozenset({"type", "name", "description", "format"})


def _tool(entry: JSONDict, at: str, namespace: str | None = None) -> Tool:
    kind = reading.required_string(entry, "type", at)
    if kind == "function":
        return Tool(
            name=reading.required_string(entry, "name", at),
            description=reading.string(entry, "description", at),
            schema=reading.mapping(entry, "parameters", at),
            strict=reading.boolean(entry, "strict", at),
            namespace=namespace,
            extra={key: value for key, value in entry.items() if key not in _FUNCTION},
        )
    if kind == "custom":
        grammar = None
        wish = reading.mapping(entry, "format", at)
        if wish is not None and wish.get("type") == "grammar":
            grammar = {
                "syntax": reading.required_string(wish, "syntax", f"{at}format."),
                "definition": reading.required_string(wish, "definition", f"{at}format."),
            }
        return Tool(
            name=reading.required_string(entry, "name", at),
            description=reading.string(entry, "description", at),
            kind="custom",
            grammar=grammar,
            namespace=namespace,
            extra={key: value for key, value in entry.items() if key not in _CUSTOM},
        )
    return Tool(name=kind, kind="builtin", builtin=entry, builtin_protocol=SLUG)


def _tool_choice(wish: object, extra: dict[str, Any]) -> ToolChoice | None:
    if wish is None:
        return None
    if wish in ("auto", "none", "required"):
        return ToolChoice(mode=wish)
    choice = reading.as_mapping(wish, "tool_choice")
    kind = choice.get("type")
    if kind in ("function", "custom"):
        name = reading.required_string(choice, "name", "tool_choice.")
        return ToolChoice(mode="named", names=(name,))
    if kind == "allowed_tools":
        entries = [
            reading.as_mapping(entry, f"tool_choice.tools[{index}]")
            for index, entry in enumerate(reading.items(choice, "tools", "tool_choice."))
        ]
        mode = reading.one_of(choice, "mode", ("auto", "required"), "tool_choice.") or "auto"
        if all(entry.get("type") in ("function", "custom") for entry in entries):
            return ToolChoice(
                mode="allowed",
                names=tuple(
                    reading.required_string(entry, "name", f"tool_choice.tools[{index}].")
                    for index, entry in enumerate(entries)
                ),
                allowed_mode=cast("Literal['auto', 'required']", mode),
            )
    # A built-in tool, or a subset with one: only this family understands it.
    extra["tool_choice"] = choice
    return None
