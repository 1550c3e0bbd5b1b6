"""A Converse body as Bedrock checks it, except for its messages."""

from __future__ import annotations

import re
from typing import Any, Final

from controlplane.kit import json
from controlplane.kit.json import JSONDict
from providers.simulator.asked import Ask, ToolAsked, script_of
from providers.simulator.wire import checks
from providers.simulator.wire.bedrock_messages import (
    Conversation,
    cache_point,
    check_text,
    only_key,
)
from providers.simulator.wire.checks import require

_BODY: Final = frozenset(
    "messages system inferenceConfig toolConfig guardrailConfig additionalModelRequestFields "
    "promptVariables additionalModelResponseFieldPaths requestMetadata performanceConfig "
    "serviceTier outputConfig".split(" ")
)
_METADATA: Final = re.compile(r"[a-zA-Z0-9\s:_@$#=/+,.-]{0,256}\Z")
_EFFORTS: Final = ("low", "medium", "high", "xhigh", "max")
_MAX_CACHE_POINTS: Final = 4


def read_body(body: JSONDict, model: str, **facts: Any) -> Ask:
    """Raises Refused(400). `facts` (id, created, prompt_bytes) complete what is asked."""
    base = script_of(model).base
    is_claude = "claude" in base
    for name in body:
        require(
            name in _BODY, "unknown_field", f"The request has a field that is not known: {name}"
        )
    extra = checks.table(
        body.get("additionalModelRequestFields") or {}, "additionalModelRequestFields"
    )
    config = checks.table(body.get("inferenceConfig") or {}, "inferenceConfig")
    thinks = _thinking(extra, config, is_claude=is_claude)
    limit = _inference(config, thinks=thinks)
    tools, points = _tools(body, base)
    forced, is_required = _choice(body, tools, thinks=thinks)
    points += _system(body, base)
    talk = Conversation(base=base, thinks=thinks, has_tools=body.get("toolConfig") is not None)
    talk.read(body.get("messages"))
    require(
        points + talk.cache_points <= _MAX_CACHE_POINTS,
        "cache_points",
        f"The model allows at most {_MAX_CACHE_POINTS} cache points.",
    )
    schema = _output(body)
    _rest(body)
    return Ask(
        model=model,
        prompt=talk.prompt,
        tools=tools,
        has_tool_results=talk.has_tool_results,
        forced_tool=forced,
        is_tool_required=is_required,
        max_tokens=limit,
        stop=tuple(config.get("stopSequences") or ()),
        response_schema=schema,
        images=tuple(talk.images),
        wants_thinking=thinks or _reasons(extra),
        protocol="bedrock-converse-stream",
        **facts,
    )


# --- thinking and sampling ---------------------------------------------------------------


def _thinking(extra: JSONDict, config: JSONDict, *, is_claude: bool) -> bool:
    """Whether Claude's thinking is on."""
    if "thinking" not in extra:
        return False
    require(
        is_claude,
        "thinking",
        "The model returned the following errors: Malformed input request: extraneous key "
        "[thinking] is not permitted",
    )
    thinking = checks.table(extra["thinking"], "thinking")
    kind = checks.one_of(thinking.get("type"), "thinking.type", ("enabled", "adaptive", "disabled"))
    if kind == "enabled":
        budget = checks.whole_number(thinking.get("budget_tokens"), "thinking.budget_tokens", 1024)
        limit = config.get("maxTokens")
        require(
            limit is None or limit > budget,
            "budget",
            "The model returned the following errors: `max_tokens` must be greater than "
            "`thinking.budget_tokens`.",
        )
    if kind != "disabled":
        require("top_k" not in extra, "thinking_top_k", "`top_k` must be unset when thinking is on")
    return kind != "disabled"


def _reasons(extra: JSONDict) -> bool:
    effort = extra.get("reasoning_effort")
    if isinstance(extra.get("reasoning"), dict):
        effort = extra["reasoning"].get("effort")
    return effort not in (None, "none")


def _inference(config: JSONDict, *, thinks: bool) -> int | None:
    checks.known_fields(
        config, ("maxTokens", "temperature", "topP", "stopSequences"), "inferenceConfig."
    )
    limit = config.get("maxTokens")
    if limit is not None:
        checks.whole_number(limit, "inferenceConfig.maxTokens", 1)
    for name in ("temperature", "topP"):
        if config.get(name) is not None:
            checks.number(config[name], f"inferenceConfig.{name}", 0, 1)
    require(
        not thinks or config.get("temperature", 1) == 1,
        "thinking_temperature",
        "`temperature` may only be set to 1 when thinking is enabled.",
    )
    require(
        not thinks or config.get("topP", 1) >= 0.95,
        "thinking_top_p",
        "`top_p` must be greater than or equal to 0.95 or unset when thinking is enabled.",
    )
    for stop in checks.items(config.get("stopSequences") or [], "inferenceConfig.stopSequences"):
        checks.text(stop, "inferenceConfig.stopSequences", may_be_empty=False)
    return limit


# --- tools -------------------------------------------------------------------------------


def _tools(body: JSONDict, base: str) -> tuple[tuple[ToolAsked, ...], int]:
    """The tools, and how many cache points stand among them."""
    if body.get("toolConfig") is None:
        return (), 0
    config = checks.table(body["toolConfig"], "toolConfig")
    checks.known_fields(config, ("tools", "toolChoice"), "toolConfig.")
    entries = checks.items(config.get("tools"), "toolConfig.tools")
    require(
        entries,
        "tools",
        "Value at 'toolConfig.tools' failed to satisfy constraint: Member must have length "
        "greater than or equal to 1",
    )
    found: list[ToolAsked] = []
    points = 0
    for number, entry in enumerate(entries):
        place = f"toolConfig.tools.{number}"
        kind, value = only_key(entry, place, ("toolSpec", "systemTool", "cachePoint"))
        if kind == "cachePoint":
            require(number, "cache_points", f"{place}: a cache point needs a tool before it")
            cache_point(value, place, base)
            points += 1
        elif kind == "toolSpec":
            found.append(_specified(value, f"{place}.toolSpec"))
    names = [tool.name for tool in found]
    require(
        len(set(names)) == len(names),
        "duplicate_tool",
        "The toolConfig field contains tools with the same name.",
    )
    return tuple(found), points


def _specified(value: Any, place: str) -> ToolAsked:
    spec = checks.table(value, place)
    checks.known_fields(spec, ("name", "description", "inputSchema", "strict"), f"{place}.")
    name = checks.text(spec.get("name"), f"{place}.name")
    require(
        checks.TOOL_NAME.match(name),
        "tool_name",
        f"Value '{name}' at '{place}.name' failed to satisfy constraint: Member must satisfy "
        "regular expression pattern: [a-zA-Z0-9_-]+ and have length less than or equal to 64",
    )
    if "description" in spec:
        description = checks.text(spec["description"], f"{place}.description")
        require(
            description.strip(),
            "tool_description",
            f"Value at '{place}.description' failed to satisfy constraint: Member must have "
            "length greater than or equal to 1",
        )
    holder = checks.table(spec.get("inputSchema"), f"{place}.inputSchema")
    require(set(holder) == {"json"}, "input_schema", f"{place}.inputSchema: set exactly `json`")
    schema = checks.table(holder["json"], f"{place}.inputSchema.json")
    require(
        schema.get("type") == "object",
        "schema_root",
        f"The value at {place}.inputSchema.json.type must be one of the following: object.",
    )
    return ToolAsked(name, schema)


def _choice(body: JSONDict, tools: tuple[ToolAsked, ...], *, thinks: bool) -> tuple[str, bool]:
    """(forced name, required)."""
    choice = (body.get("toolConfig") or {}).get("toolChoice")
    if choice is None:
        return "", False
    kind, value = only_key(choice, "toolConfig.toolChoice", ("auto", "any", "tool"))
    checks.table(value, f"toolConfig.toolChoice.{kind}")
    require(
        kind == "auto" or not thinks,
        "thinking_tool_choice",
        "Thinking may not be enabled when tool_choice forces tool use.",
    )
    if kind != "tool":
        return "", kind == "any"
    name = value.get("name")
    require(
        name in [tool.name for tool in tools],
        "tool_choice",
        f"The toolChoice names {name!r}, which is not in toolConfig.tools.",
    )
    return name, True


# --- the rest ----------------------------------------------------------------------------


def _system(body: JSONDict, base: str) -> int:
    """How many cache points stand in the system prompt."""
    points = 0
    for number, entry in enumerate(checks.items(body.get("system") or [], "system")):
        place = f"system.{number}"
        kind, value = only_key(entry, place, ("text", "guardContent", "cachePoint"))
        if kind == "text":
            check_text(value, place, "SystemContentBlock")
        elif kind == "cachePoint":
            require(number, "cache_points", f"{place}: a cache point needs a text before it")
            cache_point(value, place, base)
            points += 1
    return points


def _output(body: JSONDict) -> JSONDict | None:
    output = checks.table(body.get("outputConfig") or {}, "outputConfig")
    checks.known_fields(output, ("textFormat", "effort"), "outputConfig.")
    if output.get("effort") is not None:
        checks.one_of(output["effort"], "outputConfig.effort", _EFFORTS)
    if output.get("textFormat") is None:
        return None
    place = "outputConfig.textFormat"
    wanted = checks.table(output["textFormat"], place)
    checks.one_of(wanted.get("type"), f"{place}.type", ("json_schema",))
    structure = checks.table(wanted.get("structure"), f"{place}.structure")
    kind, inner = only_key(structure, f"{place}.structure", ("jsonSchema",))
    definition = checks.table(inner, f"{place}.structure.{kind}")
    checks.known_fields(definition, ("schema", "name", "description"), f"{place}.jsonSchema.")
    text = checks.text(definition.get("schema"), f"{place}.structure.jsonSchema.schema")
    try:
        return json.loads_dict(text)
    except json.InvalidJSON:
        raise checks.fail(
            "output_schema", f"{place}.structure.jsonSchema.schema: expected JSON in a string"
        ) from None


def _rest(body: JSONDict) -> None:
    metadata = checks.table(body.get("requestMetadata") or {}, "requestMetadata")
    require(len(metadata) <= 16, "metadata", "requestMetadata: at most 16 entries")
    for key, value in metadata.items():
        require(
            key and _METADATA.match(key) and isinstance(value, str) and _METADATA.match(value),
            "metadata",
            f"requestMetadata: the entry {key[:50]!r} has characters that are not allowed",
        )
    if body.get("serviceTier") is not None:
        tier = checks.table(body["serviceTier"], "serviceTier")
        checks.one_of(
            tier.get("type"), "serviceTier.type", ("priority", "default", "flex", "reserved")
        )
    if body.get("performanceConfig") is not None:
        wanted = checks.table(body["performanceConfig"], "performanceConfig")
        checks.one_of(wanted.get("latency"), "performanceConfig.latency", ("standard", "optimized"))
    paths = checks.items(
        body.get("additionalModelResponseFieldPaths") or [], "additionalModelResponseFieldPaths"
    )
    require(len(paths) <= 10, "field_paths", "additionalModelResponseFieldPaths: at most 10")
    for path in paths:
        require(
            isinstance(path, str) and path.startswith("/"),
            "field_paths",
            f"additionalModelResponseFieldPaths: {path!r} is no JSON pointer",
        )
