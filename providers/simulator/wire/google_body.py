"""A generateContent body as Google checks it, for Gemini, Vertex and Code Assist."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final

from controlplane.kit.json import JSONDict
from providers.simulator.asked import Ask, ToolAsked, script_of
from providers.simulator.wire import Refused, checks
from providers.simulator.wire.checks import fail, require
from providers.simulator.wire.google_contents import (
    Conversation,
    Family,
    check_name,
    family_of,
)
from providers.simulator.wire.google_schema_rules import camel, json_schema, openapi

MAX_BODY: Final = 20 * 1024 * 1024
# Their values are the caller's own: keys in them are left alone.
_FREE: Final = frozenset(
    "args response parameters parametersJsonSchema responseSchema responseJsonSchema "
    "labels partMetadata".split(" ")
)
_BODY: Final = (
    "contents", "systemInstruction", "tools", "toolConfig", "generationConfig", "safetySettings",
    "cachedContent",
)  # fmt: skip
_GENERATION: Final = frozenset(
    "temperature topP topK candidateCount maxOutputTokens stopSequences seed presencePenalty "
    "frequencyPenalty responseMimeType responseSchema responseJsonSchema responseLogprobs logprobs "
    "responseModalities mediaResolution speechConfig thinkingConfig imageConfig "
    "enableEnhancedCivicAnswers audioTimestamp routingConfig modelConfig "
    "responseFormat".split(" ")
)
_TOOLS: Final = frozenset(
    "functionDeclarations googleSearch googleSearchRetrieval urlContext codeExecution googleMaps "
    "fileSearch computerUse enterpriseWebSearch retrieval".split(" ")
)
_DECLARATION: Final = (
    "name", "description", "parameters", "parametersJsonSchema", "response", "responseJsonSchema",
    "behavior",
)  # fmt: skip
_MODES: Final = ("MODE_UNSPECIFIED", "AUTO", "ANY", "NONE", "VALIDATED")
_LEVELS: Final = ("THINKING_LEVEL_UNSPECIFIED", "MINIMAL", "LOW", "MEDIUM", "HIGH", "XHIGH")
_THRESHOLDS: Final = (
    "HARM_BLOCK_THRESHOLD_UNSPECIFIED", "BLOCK_LOW_AND_ABOVE", "BLOCK_MEDIUM_AND_ABOVE",
    "BLOCK_ONLY_HIGH", "BLOCK_NONE", "OFF",
)  # fmt: skip
_LABEL: Final = re.compile(r"[a-z0-9_-]{0,63}\Z")
_CACHED: Final = re.compile(r"(projects/[^/]+/locations/[^/]+/)?cachedContents/[\w-]+\Z")


@dataclass(frozen=True, slots=True)
class Place:
    """How one of the three hosts differs from the others."""

    slug: str
    has_labels: bool = False
    has_service_tier: bool = False
    has_session: bool = False
    refuses_old_ids: bool = False
    thoughts_need_text: bool = False


def in_camel(value: Any) -> Any:
    """The body in the names of the documentation; snake_case is taken as well."""
    if isinstance(value, dict):
        out: JSONDict = {}
        for name, inner in value.items():
            key = camel(name)
            out[key] = inner if key in _FREE else in_camel(inner)
        return out
    if isinstance(value, list):
        return [in_camel(inner) for inner in value]
    return value


def known(body: JSONDict, allowed: Any, place: str) -> None:
    for name in body:
        if name not in allowed:
            where = f" at '{place}'" if place else ""
            raise fail(
                "unknown_field",
                f'Invalid JSON payload received. Unknown name "{name}"{where}: Cannot find field.',
            )


def read(raw: JSONDict, model: str, place: Place, **facts: Any) -> Ask:
    """Checks everything; `facts` (id, created, prompt_bytes …) complete what is asked.

    `raw` is replaced in place by its camelCase form, which the answer is made from.
    """
    size = facts.get("prompt_bytes", 0)
    if size > MAX_BODY:
        raise Refused(
            413, f"Request payload size exceeds the limit: {MAX_BODY} bytes.", rule="too_large"
        )
    body = in_camel(raw)
    raw.clear()
    raw.update(body)
    base = script_of(model).base
    family = family_of(base)
    allowed = {*_BODY, "model"}
    if place.has_labels:
        allowed.add("labels")
    if place.has_service_tier:
        allowed.add("serviceTier")
    if place.has_session:
        allowed.add("sessionId")
    known(body, allowed, "")
    _cached(body)
    system(body)
    generation = checks.table(body.get("generationConfig") or {}, "generation_config")
    thinks = _generation(generation, family)
    tools = read_tools(body, family)
    forced, is_required, is_off = _choice(body, tools)
    _safety(body)
    _labels(body)
    if body.get("serviceTier") is not None:
        checks.one_of(
            str(body["serviceTier"]).lower(), "service_tier", ("flex", "standard", "priority")
        )
    talk = Conversation(
        base=base,
        family=family,
        refuses_old_ids=place.refuses_old_ids,
        thoughts_need_text=place.thoughts_need_text,
    )
    talk.read(body.get("contents"))
    schema = generation.get("responseSchema") or generation.get("responseJsonSchema")
    return Ask(
        model=model,
        prompt=talk.prompt,
        tools=tools,
        has_tool_results=talk.has_tool_results,
        forced_tool=forced,
        is_tool_required=is_required,
        are_tools_off=is_off,
        max_tokens=generation.get("maxOutputTokens"),
        stop=tuple(generation.get("stopSequences") or ()),
        response_schema=schema,
        wants_json=generation.get("responseMimeType") == "application/json",
        images=tuple(talk.images),
        wants_thinking=thinks,
        choices=generation.get("candidateCount") or 1,
        logprobs=(generation.get("logprobs") or 0) if generation.get("responseLogprobs") else None,
        protocol=place.slug,
        **facts,
    )


def _cached(body: JSONDict) -> None:
    name = body.get("cachedContent")
    if name is None:
        return
    require(
        _CACHED.match(checks.text(name, "cached_content")),
        "cached_content",
        f"Invalid CachedContent name: {name!r}",
    )
    require(
        not {"systemInstruction", "tools", "toolConfig"} & set(body),
        "cached_content",
        "CachedContent can not be used with GenerateContent request setting system_instruction, "
        "tools or tool_config.",
    )


def system(body: JSONDict) -> None:
    value = body.get("systemInstruction")
    if value is None:
        return
    instruction = checks.table(value, "system_instruction")
    known(instruction, ("parts", "role"), "system_instruction")
    parts = checks.items(instruction.get("parts"), "system_instruction.parts")
    require(parts, "system", "system_instruction.parts: must not be empty")
    for number, part in enumerate(parts):
        where = f"system_instruction.parts[{number}]"
        require(
            isinstance(part, dict) and set(part) == {"text"}, "system", f"{where}: expected text"
        )
        checks.text(part["text"], f"{where}.text", may_be_empty=False)


# --- generationConfig --------------------------------------------------------------------


def _generation(config: JSONDict, family: Family) -> bool:
    """Whether thoughts are to be shown."""
    known(config, _GENERATION, "generation_config")
    for name, low, high in (
        ("temperature", 0, 2),
        ("topP", 0, 1),
        ("presencePenalty", -2, 2),
        ("frequencyPenalty", -2, 2),
    ):
        if config.get(name) is not None:
            checks.number(config[name], f"generation_config.{name}", low, high)
    for name, least, most in (
        ("maxOutputTokens", 1, 10**9),
        ("candidateCount", 1, 8),
        ("logprobs", 0, 20),
        ("seed", -(2**31), 2**31 - 1),
    ):
        if config.get(name) is not None:
            checks.whole_number(config[name], f"generation_config.{name}", least, most)
    if config.get("topK") is not None:
        checks.number(config["topK"], "generation_config.topK", 1, 10**6)
    stops = checks.items(config.get("stopSequences") or [], "generation_config.stop_sequences")
    require(len(stops) <= 5, "stop", "generation_config.stop_sequences: at most 5")
    for stop in stops:
        require(
            isinstance(stop, str) and stop, "stop", "generation_config.stop_sequences: empty text"
        )
    require(
        config.get("logprobs") is None or config.get("responseLogprobs"),
        "logprobs",
        "Logprobs requires response_logprobs to be set.",
    )
    _format(config)
    return _thinking(config, family)


def _format(config: JSONDict) -> None:
    media = config.get("responseMimeType")
    if media is not None:
        checks.one_of(
            media,
            "generation_config.response_mime_type",
            ("text/plain", "application/json", "text/x.enum"),
        )
    given = [name for name in ("responseSchema", "responseJsonSchema") if config.get(name)]
    require(
        len(given) < 2,
        "two_schemas",
        "generation_config: only one of response_schema and response_json_schema may be set",
    )
    require(
        not given or media in ("application/json", "text/x.enum"),
        "schema_mime_type",
        "Response schema requires response_mime_type application/json.",
    )
    if config.get("responseSchema"):
        openapi(config["responseSchema"], "generation_config.response_schema")
    if config.get("responseJsonSchema"):
        json_schema(config["responseJsonSchema"], "generation_config.response_json_schema")


def _thinking(config: JSONDict, family: Family) -> bool:
    if config.get("thinkingConfig") is None:
        return False
    place = "generation_config.thinking_config"
    thinking = checks.table(config["thinkingConfig"], place)
    known(thinking, ("includeThoughts", "thinkingBudget", "thinkingLevel"), place)
    budget, level = thinking.get("thinkingBudget"), thinking.get("thinkingLevel")
    require(
        budget is None or level is None,
        "budget_and_level",
        "You can only set only one of thinking budget and thinking level.",
    )
    if level is not None:
        checks.one_of(str(level).upper(), f"{place}.thinking_level", _LEVELS)
        require(
            not 0 < family.version < 3,
            "thinking_level",
            "Thinking level is not supported for this model.",
        )
    if budget is not None:
        checks.whole_number(budget, f"{place}.thinking_budget", -1, 128_000)
        require(
            family.version < 4,
            "thinking_budget",
            "Thinking budget is not supported for this model. Use thinking level.",
        )
        require(
            family.version < 3 or budget != 0,
            "thinking_budget",
            "Budget 0 is invalid. This model only works in thinking mode.",
        )
        if family.is_claude and budget > 0:
            require(
                config.get("maxOutputTokens", 10**9) > budget,
                "budget",
                "`max_tokens` must be greater than `thinking.budget_tokens`.",
            )
    return bool(thinking.get("includeThoughts")) and budget != 0


# --- tools -------------------------------------------------------------------------------


def read_tools(body: JSONDict, family: Family) -> tuple[ToolAsked, ...]:
    found: list[ToolAsked] = []
    with_functions = 0
    hosted: set[str] = set()
    for number, tool in enumerate(checks.items(body.get("tools") or [], "tools")):
        place = f"tools[{number}]"
        known(checks.table(tool, place), _TOOLS, place)
        hosted |= set(tool) - {"functionDeclarations"}
        declared = checks.items(tool.get("functionDeclarations") or [], f"{place}.functions")
        with_functions += bool(declared)
        for position, declaration in enumerate(declared):
            where = f"{place}.function_declarations[{position}]"
            found.append(_declared(declaration, where, family))
    names = [tool.name for tool in found]
    for name in names:
        require(
            names.count(name) == 1,
            "duplicate_function",
            f"Duplicate function declaration found: {name}",
        )
    require(
        with_functions < 2,
        "tool_objects",
        "Multiple tools are supported only when they are all search tools. Put all function "
        "declarations into one tool.",
    )
    config = body.get("toolConfig") or {}
    mixes = bool(found) and bool(hosted)
    require(
        not mixes
        or family.version == 0
        or (family.version >= 3 and config.get("includeServerSideToolInvocations")),
        "mixed_tools",
        "Built-in tools and function calling cannot be combined in the same request.",
    )
    return tuple(found)


def _declared(value: Any, where: str, family: Family) -> ToolAsked:
    declaration = checks.table(value, where)
    known(declaration, _DECLARATION, where)
    name = check_name(declaration.get("name"), where)
    checks.text(declaration.get("description", ""), f"{where}.description")
    plain, schema = declaration.get("parameters"), declaration.get("parametersJsonSchema")
    require(
        plain is None or schema is None,
        "two_schemas",
        f"{where}: only one of parameters and parameters_json_schema may be set",
    )
    require(
        schema is None or not family.is_claude,
        "legacy_parameters",
        f"{where}: tools of this model take `parameters`",
    )
    if plain is not None:
        return ToolAsked(name, openapi(plain, f"{where}.parameters", must_be_object=True))
    if schema is not None:
        checked = json_schema(schema, f"{where}.parameters_json_schema", must_be_object=True)
        return ToolAsked(name, checked)
    return ToolAsked(name)


def _choice(body: JSONDict, tools: tuple[ToolAsked, ...]) -> tuple[str, bool, bool]:
    """(forced name, required, off)."""
    if body.get("toolConfig") is None:
        return "", False, False
    config = checks.table(body["toolConfig"], "tool_config")
    known(
        config,
        ("functionCallingConfig", "retrievalConfig", "includeServerSideToolInvocations"),
        "tool_config",
    )
    if config.get("functionCallingConfig") is None:
        return "", False, False
    place = "tool_config.function_calling_config"
    calling = checks.table(config["functionCallingConfig"], place)
    known(calling, ("mode", "allowedFunctionNames", "streamFunctionCallArguments"), place)
    require(
        tools,
        "calling_config",
        "Function calling config is set without function_declarations.",
    )
    mode = checks.one_of(str(calling.get("mode", "AUTO")).upper(), f"{place}.mode", _MODES)
    allowed = checks.items(calling.get("allowedFunctionNames") or [], f"{place}.allowed")
    require(
        not allowed or mode in ("ANY", "VALIDATED"),
        "allowed_names",
        "Allowed function names should only be set when the function calling mode is ANY.",
    )
    names = [tool.name for tool in tools]
    for name in allowed:
        require(
            name in names, "allowed_names", f"{place}: {name!r} is not a declared function name"
        )
    return (allowed[0] if allowed and mode == "ANY" else ""), mode == "ANY", mode == "NONE"


# --- the rest ----------------------------------------------------------------------------


def _safety(body: JSONDict) -> None:
    seen: set[str] = set()
    for number, value in enumerate(checks.items(body.get("safetySettings") or [], "safety")):
        place = f"safety_settings[{number}]"
        setting = checks.table(value, place)
        known(setting, ("category", "threshold", "method"), place)
        category = checks.text(setting.get("category"), f"{place}.category")
        require(
            category.startswith("HARM_CATEGORY_"),
            "enum",
            f"Invalid value at '{place}.category': {category!r}",
        )
        checks.one_of(setting.get("threshold"), f"{place}.threshold", _THRESHOLDS)
        require(
            category not in seen,
            "safety",
            f"{place}: element with category {category} already exists",
        )
        seen.add(category)


def _labels(body: JSONDict) -> None:
    labels = checks.table(body.get("labels") or {}, "labels")
    require(len(labels) <= 64, "labels", "labels: at most 64")
    for key, value in labels.items():
        require(
            key and key[0].islower() and _LABEL.match(key),
            "labels",
            f"labels: invalid key {key!r}: lowercase letters, digits, _ and - only, at most 63",
        )
        require(
            isinstance(value, str) and _LABEL.match(value),
            "labels",
            f"labels: invalid value of {key!r}: lowercase letters, digits, _ and - only",
        )
