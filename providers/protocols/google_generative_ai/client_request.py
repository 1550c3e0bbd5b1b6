"""A Gemini client's request: generateContent, streamGenerateContent and countTokens."""

from __future__ import annotations

from typing import Any, Final, Literal, cast

from controlplane.kit.json import JSONDict
from providers.protocols.canonical import (
    LEVELS,
    Level,
    Reasoning,
    Request,
    ResponseFormat,
    Sampling,
    SystemText,
    Tool,
    ToolChoice,
)
from providers.protocols.codec import ClientCall
from providers.protocols.errors import LocalProtocolError
from providers.protocols.google_generative_ai.client_contents import MAX_CONTENTS, Conversation
from providers.protocols.google_generative_ai.client_schema import from_openapi
from providers.protocols.google_generative_ai.family import SLUG
from providers.protocols.google_generative_ai.fields import (
    flag,
    inner,
    integer,
    items,
    join,
    members,
    number,
    text,
    texts,
    wrong,
)

MAX_TOOLS: Final = 1_000
_KNOWN: Final = frozenset(
    {"contents", "systemInstruction", "tools", "toolConfig", "generationConfig", "serviceTier",
     "labels", "model"}
)  # fmt: skip
_KNOWN_GENERATION: Final = frozenset(
    {"temperature", "topP", "topK", "candidateCount", "maxOutputTokens", "stopSequences", "seed",
     "presencePenalty", "frequencyPenalty", "responseMimeType", "responseSchema",
     "responseJsonSchema", "responseLogprobs", "logprobs", "thinkingConfig"}
)  # fmt: skip
_KNOWN_DECLARATION: Final = frozenset({"name", "description", "parameters", "parametersJsonSchema"})


def decode_request(body: JSONDict, call: ClientCall) -> Request:
    wire = members(body, "body")
    generation = inner(wire, "generationConfig", "") or {}
    extra: JSONDict = {key: value for key, value in wire.items() if key not in _KNOWN}
    other = {key: value for key, value in generation.items() if key not in _KNOWN_GENERATION}
    response_format = _response_format(generation, other)
    if other:
        extra["generationConfig"] = other
    tool_choice, tool_config = _tool_choice(wire)
    if tool_config:
        extra["toolConfig"] = tool_config
    conversation = Conversation()
    contents = items(wire, "contents", "")
    if len(contents) > MAX_CONTENTS:
        raise LocalProtocolError(
            f"contents has {len(contents)} entries; the limit is {MAX_CONTENTS}.",
            param="contents",
        )
    for index, value in enumerate(contents):
        conversation.add(value, f"contents[{index}]")
    messages = conversation.close()
    extra.update(conversation.knobs)
    return Request(
        model=_model(wire, call),
        dialect=SLUG,
        messages=messages,
        system=_system(wire),
        tools=_tools(wire),
        tool_choice=tool_choice,
        sampling=_sampling(generation),
        reasoning=_reasoning(generation),
        response_format=response_format,
        metadata=_labels(wire),
        service_tier=_tier(wire),
        stream=bool(call.stream),
        include_usage=True,
        extra=extra,
    )


def decode_count(body: JSONDict, call: ClientCall) -> Request:
    """countTokens: the contents themselves, or a whole request inside `generateContentRequest`."""
    wire = members(body, "body")
    whole = inner(wire, "generateContentRequest", "")
    return decode_request(whole if whole is not None else wire, call)


def _model(wire: JSONDict, call: ClientCall) -> str:
    name = call.model or text(wire, "model", "") or ""
    name = name.removeprefix("models/")
    if not name:
        raise LocalProtocolError(
            "The path must name a model: /v1beta/models/{model}:generateContent.", param="model"
        )
    return name


def _system(wire: JSONDict) -> tuple[SystemText, ...]:
    value = wire.get("systemInstruction")
    if value is None:
        return ()
    if type(value) is str:
        return (SystemText(text=value),) if value else ()
    content = members(value, "systemInstruction")
    out: list[SystemText] = []
    for index, item in enumerate(items(content, "parts", "systemInstruction")):
        path = f"systemInstruction.parts[{index}]"
        part = members(item, path)
        words = text(part, "text", path)
        if words is None:
            raise LocalProtocolError(f"{path} must hold text.", param=path)
        if words:
            out.append(SystemText(text=words))
    return tuple(out)


# --- tools ---------------------------------------------------------------------------------


def _tools(wire: JSONDict) -> tuple[Tool, ...]:
    out: list[Tool] = []
    for index, value in enumerate(items(wire, "tools", "")):
        path = f"tools[{index}]"
        for key, item in members(value, path).items():
            if item is None:
                continue
            if key != "functionDeclarations":
                out.append(
                    Tool(name=key, kind="builtin", builtin={key: item}, builtin_protocol=SLUG)
                )
                continue
            if type(item) is not list:
                raise wrong(f"{path}.{key}", "a list", item)
            for position, declaration in enumerate(item):
                out.append(_declaration(declaration, f"{path}.{key}[{position}]"))
    if len(out) > MAX_TOOLS:
        raise LocalProtocolError(
            f"tools has {len(out)} declarations; the limit is {MAX_TOOLS}.", param="tools"
        )
    return tuple(out)


def _declaration(value: Any, path: str) -> Tool:
    declaration = members(value, path)
    name = text(declaration, "name", path)
    if not name:
        raise LocalProtocolError(f"{path}.name is missing.", param=f"{path}.name")
    schema: JSONDict | None = None
    if (json_schema := declaration.get("parametersJsonSchema")) is not None:
        if type(json_schema) is not dict:
            raise wrong(f"{path}.parametersJsonSchema", "an object", json_schema)
        schema = json_schema
    elif declaration.get("parameters") is not None:
        schema = from_openapi(declaration["parameters"], f"{path}.parameters")
    return Tool(
        name=name,
        description=text(declaration, "description", path),
        schema=schema,
        extra={
            key: item
            for key, item in declaration.items()
            if key not in _KNOWN_DECLARATION and item is not None
        },
    )


def _tool_choice(wire: JSONDict) -> tuple[ToolChoice | None, JSONDict]:
    """The choice, and what of `toolConfig` has no canonical meaning."""
    config = inner(wire, "toolConfig", "")
    if config is None:
        return None, {}
    rest = {
        key: value
        for key, value in config.items()
        if key != "functionCallingConfig" and value is not None
    }
    path = "toolConfig.functionCallingConfig"
    calling = inner(config, "functionCallingConfig", "toolConfig")
    if calling is None:
        return None, rest
    kept = {
        key: value
        for key, value in calling.items()
        if key not in ("mode", "allowedFunctionNames") and value is not None
    }
    mode = (text(calling, "mode", path) or "MODE_UNSPECIFIED").upper()
    names = texts(calling, "allowedFunctionNames", path)
    choice: ToolChoice | None
    match mode:
        case "MODE_UNSPECIFIED":
            choice = None
        case "NONE":
            choice = ToolChoice(mode="none")
        case "AUTO":
            choice = _allowed(names, "auto")
        case "ANY":
            choice = (
                ToolChoice(mode="named", names=names)
                if len(names) == 1
                else _allowed(names, "required")
            )
        case "VALIDATED":
            # Like AUTO, with arguments that match the schema: a knob of Google's own.
            kept["mode"] = "VALIDATED"
            choice = _allowed(names, "auto")
        case _:
            raise LocalProtocolError(
                f"{path}.mode must be AUTO, ANY, NONE or VALIDATED, not {mode[:50]!r}.",
                param=f"{path}.mode",
            )
    if kept:
        rest["functionCallingConfig"] = kept
    return choice, rest


def _allowed(names: tuple[str, ...], mode: Literal["auto", "required"]) -> ToolChoice:
    if not names:
        return ToolChoice(mode=mode)
    return ToolChoice(mode="allowed", names=names, allowed_mode=mode)


# --- knobs -------------------------------------------------------------------------------


def _sampling(generation: JSONDict) -> Sampling:
    path = "generationConfig"
    count = integer(generation, "candidateCount", path)
    if count is not None and not 1 <= count <= 128:
        raise LocalProtocolError(
            f"{path}.candidateCount must be between 1 and 128.", param=f"{path}.candidateCount"
        )
    return Sampling(
        max_output_tokens=integer(generation, "maxOutputTokens", path),
        temperature=number(generation, "temperature", path),
        top_p=number(generation, "topP", path),
        top_k=integer(generation, "topK", path),
        seed=integer(generation, "seed", path),
        stop=texts(generation, "stopSequences", path),
        presence_penalty=number(generation, "presencePenalty", path),
        frequency_penalty=number(generation, "frequencyPenalty", path),
        n=count,
        logprobs=flag(generation, "responseLogprobs", path),
        top_logprobs=integer(generation, "logprobs", path),
    )


def _reasoning(generation: JSONDict) -> Reasoning | None:
    config = inner(generation, "thinkingConfig", "generationConfig")
    if config is None:
        return None
    path = "generationConfig.thinkingConfig"
    budget = integer(config, "thinkingBudget", path)
    word = (text(config, "thinkingLevel", path) or "").lower()
    level: Level | None = None
    if word and word != "thinking_level_unspecified":
        if word not in LEVELS:
            raise LocalProtocolError(
                f"{path}.thinkingLevel must be MINIMAL, LOW, MEDIUM, HIGH or XHIGH.",
                param=f"{path}.thinkingLevel",
            )
        level = word
    show = flag(config, "includeThoughts", path)
    if budget is not None and budget < 0:
        return Reasoning(level=level, adaptive=True, show=show)
    if budget == 0:
        return Reasoning(level="off", budget_tokens=0, show=show)
    return Reasoning(level=level, budget_tokens=budget, show=show)


def _response_format(generation: JSONDict, other: JSONDict) -> ResponseFormat | None:
    """`other` collects what only Google understands (text/x.enum with its schema)."""
    path = "generationConfig"
    mime = (text(generation, "responseMimeType", path) or "").lower()
    schema = generation.get("responseJsonSchema")
    if schema is not None:
        if type(schema) is not dict:
            raise wrong(f"{path}.responseJsonSchema", "an object", schema)
    elif generation.get("responseSchema") is not None:
        schema = from_openapi(generation["responseSchema"], f"{path}.responseSchema")
    if mime in ("", "text/plain"):
        if schema is not None:
            raise LocalProtocolError(
                f"{path}.responseMimeType must be application/json when a schema is given.",
                param=f"{path}.responseMimeType",
            )
        return ResponseFormat(kind="text") if mime else None
    if mime != "application/json":
        for key in ("responseMimeType", "responseSchema", "responseJsonSchema"):
            if generation.get(key) is not None:
                other[key] = generation[key]
        return None
    if schema is None:
        return ResponseFormat(kind="json_object")
    title = schema.get("title")
    description = schema.get("description")
    return ResponseFormat(
        kind="json_schema",
        name=title if isinstance(title, str) else None,
        schema=schema,
        description=description if isinstance(description, str) else None,
    )


def _labels(wire: JSONDict) -> dict[str, str]:
    labels = inner(wire, "labels", "")
    if labels is None:
        return {}
    raw = cast(JSONDict, wire["labels"])
    for key, value in raw.items():
        if type(value) is not str:
            raise wrong(join("labels", key[:100]), "a string", value)
    return raw


def _tier(wire: JSONDict) -> str | None:
    tier = (text(wire, "serviceTier", "") or "").lower()
    return tier if tier and tier != "unspecified" else None
