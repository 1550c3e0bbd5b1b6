"""Tool declarations and tool choice for the Messages API."""

from __future__ import annotations

from typing import Any, Final

from controlplane.kit.json import JSONDict
from providers.protocols.anthropic_messages.carried import SLUG
from providers.protocols.canonical import CacheMark, ModelSpec, Request, Tool
from providers.protocols.errors import UnsupportedContent
from providers.protocols.losses import Loss, LossCode
from providers.protocols.tool_calls import (
    CUSTOM_SCHEMA,
    NO_TOOLS,
    WireNames,
    custom_description,
    report_parallel,
    unique_tools,
)

_STRICT_FORBIDDEN: Final = frozenset(
    {
        "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "maxItems",
        "uniqueItems", "minContains", "maxContains", "minProperties", "maxProperties",
    }
)  # fmt: skip
_STRICT_FORMATS: Final = frozenset(
    {
        "date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid",
    }
)  # fmt: skip
# Keywords whose values are schemas by name: properties may be called like keywords (trap 186).
_SCHEMA_MAPS: Final = frozenset(
    {"properties", "$defs", "definitions", "patternProperties", "dependentSchemas"}
)
_SCHEMA_VALUES: Final = frozenset(
    {
        "items", "prefixItems", "additionalProperties", "anyOf", "oneOf", "allOf", "not", "if",
        "then", "else", "contains", "propertyNames",
    }
)  # fmt: skip
_COMBINERS: Final = ("allOf", "anyOf", "oneOf")
_MAX_DEPTH: Final = 64


def declarations(
    request: Request,
    model: ModelSpec,
    names: WireNames,
    losses: list[Loss],
) -> tuple[list[JSONDict], list[tuple[JSONDict, CacheMark]], bool]:
    """Tools to send, those with cache marks, and whether the eager-streaming beta is wanted."""
    choice = request.tool_choice
    only: frozenset[str] | None = None
    if choice is not None and choice.mode == "allowed":
        only = frozenset(choice.names)
        losses.append(Loss("tool_choice", LossCode.EMULATED, "only the allowed tools are declared"))
    wants_eager_beta = False
    out: list[JSONDict] = []
    marked: list[tuple[JSONDict, CacheMark]] = []
    for index, tool in unique_tools(request, losses):
        if only is not None and tool.name not in only:
            continue
        declared = (
            _builtin(tool, index)
            if tool.kind == "builtin"
            else _function(tool, index, model, names, losses)
        )
        if tool.extra:
            wants_eager_beta |= _extras(declared, tool, index, request, model, losses)
        out.append(declared)
        if tool.cache is not None:
            if model.quirks.supports_cache_control_on_tools:
                marked.append((declared, tool.cache))
            else:
                losses.append(
                    Loss(f"tools[{index}].cache", LossCode.DROPPED, "no cache marks on tools here")
                )
    return out, marked, wants_eager_beta


def _builtin(tool: Tool, index: int) -> JSONDict:
    if tool.builtin_protocol != SLUG or tool.builtin is None:
        raise UnsupportedContent(
            f"{SLUG} has no equivalent of the built-in tool {tool.name!r} (tools[{index}]).",
            param=f"tools[{index}]",
        )
    return dict(tool.builtin)


def _function(
    tool: Tool, index: int, model: ModelSpec, names: WireNames, losses: list[Loss]
) -> JSONDict:
    declared: JSONDict = {"name": names.wire(tool.name, tool.namespace)}
    if tool.kind == "custom":
        declared["description"] = custom_description(tool)
        declared["input_schema"] = CUSTOM_SCHEMA
        losses.append(Loss(f"tools[{index}]", LossCode.EMULATED, "a free-text tool, as a function"))
        return declared
    if tool.description:
        declared["description"] = tool.description
    schema = object_schema(tool.schema, f"tools[{index}].schema", losses)
    declared["input_schema"] = schema
    if tool.strict:
        problem = strict_problem(schema) if model.quirks.supports_strict_tools else "not offered"
        if problem is None:
            declared["strict"] = True
        else:
            losses.append(Loss(f"tools[{index}].strict", LossCode.DROPPED, f"strict: {problem}"))
    return declared


def _extras(
    declared: JSONDict,
    tool: Tool,
    index: int,
    request: Request,
    model: ModelSpec,
    losses: list[Loss],
) -> bool:
    """Anthropic's own fields stay with Anthropic; returns whether the eager beta replaces one."""
    wants_beta = False
    for key, value in tool.extra.items():
        if request.dialect != SLUG:
            losses.append(
                Loss(f"tools[{index}].{key}", LossCode.DROPPED, "unknown to this protocol")
            )
        elif (
            key == "eager_input_streaming" and not model.quirks.supports_eager_tool_input_streaming
        ):
            wants_beta |= bool(value)
        else:
            declared[key] = value
    return wants_beta


def choice(
    request: Request, names: WireNames, losses: list[Loss], *, has_tools: bool
) -> JSONDict | None:
    wanted = request.tool_choice
    parallel = request.parallel_tool_calls
    out: JSONDict | None = None
    if wanted is not None:
        mode = wanted.allowed_mode if wanted.mode == "allowed" else wanted.mode
        if mode == "named":
            out = {"type": "tool", "name": names.wire(wanted.names[0])}
        elif mode == "required":
            out = {"type": "any"}
        elif has_tools:
            # Without tools auto and none change nothing, and the API wants none of them.
            out = {"type": mode}
    if parallel is not None and has_tools and (out is None or out["type"] != "none"):
        if out is None and not parallel:
            out = {"type": "auto"}
        if out is not None:
            out["disable_parallel_tool_use"] = not parallel
    else:
        report_parallel(request, losses, "no call can be made" if has_tools else NO_TOOLS)
    return out


def object_schema(schema: JSONDict | None, path: str, losses: list[Loss]) -> JSONDict:
    """A schema whose root is a plain object; `$defs` and the rest stay (traps 63-65)."""
    if not schema:
        return {"type": "object", "properties": {}}
    combined = any(key in schema for key in _COMBINERS)
    kind = schema.get("type", "object")
    if isinstance(kind, list):
        kind = "object" if "object" in kind else None
    if kind != "object":
        raise UnsupportedContent(
            f"Tool parameters must be a JSON object; `{path}` describes something else.",
            param=path,
        )
    if not combined:
        if schema.get("type") == "object" and "properties" in schema:
            return schema
        return {**schema, "type": "object", "properties": schema.get("properties") or {}}
    losses.append(
        Loss(path, LossCode.EMULATED, "anyOf, oneOf and allOf at the root, as one object")
    )
    return _merged_root(schema)


def _merged_root(schema: JSONDict) -> JSONDict:
    """One object that accepts all that the alternatives accept: properties of all, required
    only what every alternative requires (allOf: any of them)."""
    root = {key: value for key, value in schema.items() if key not in _COMBINERS}
    own = root.get("properties")
    properties: JSONDict = dict(own) if isinstance(own, dict) else {}
    required = _required(root)
    for combiner in _COMBINERS:
        branches = schema.get(combiner)
        if not isinstance(branches, list):
            continue
        wanted: list[set[str]] = []
        for branch in branches:
            resolved = _resolved(branch, schema)
            if any(key in resolved for key in _COMBINERS):
                resolved = _merged_root({**resolved, **_definitions(schema)})
            inner = resolved.get("properties")
            if isinstance(inner, dict):
                for name, value in inner.items():
                    properties.setdefault(name, value)
            wanted.append(_required(resolved))
        if wanted:
            required |= set.union(*wanted) if combiner == "allOf" else set.intersection(*wanted)
    root["type"] = "object"
    root["properties"] = properties
    root.pop("required", None)
    if required:
        root["required"] = sorted(required & properties.keys())
    return root


def _definitions(schema: JSONDict) -> JSONDict:
    return {key: schema[key] for key in ("$defs", "definitions") if key in schema}


def _resolved(branch: Any, schema: JSONDict) -> JSONDict:
    """A branch, with one local reference followed."""
    if not isinstance(branch, dict):
        return {}
    reference = branch.get("$ref")
    if isinstance(reference, str) and reference.startswith(("#/$defs/", "#/definitions/")):
        _, section, name = reference.split("/", 2)
        definitions = schema.get(section)
        target = definitions.get(name) if isinstance(definitions, dict) else None
        # A definition that combines again could lead back here: its properties are enough.
        if isinstance(target, dict):
            return {key: value for key, value in target.items() if key not in _COMBINERS}
    return branch


def _required(schema: JSONDict) -> set[str]:
    value = schema.get("required")
    return {name for name in value if isinstance(name, str)} if isinstance(value, list) else set()


def strict_problem(schema: Any, depth: int = 0) -> str | None:
    """The first thing that Anthropic's strict mode rejects; None when there is none (trap 62)."""
    if depth > _MAX_DEPTH:
        return "nested too deeply"
    if isinstance(schema, list):
        for item in schema:
            problem = strict_problem(item, depth + 1)
            if problem:
                return problem
        return None
    if not isinstance(schema, dict):
        return None
    for key, value in schema.items():
        problem = _keyword_problem(key, value, depth)
        if problem:
            return problem
    return None


def _keyword_problem(key: str, value: Any, depth: int) -> str | None:
    if key in _STRICT_FORBIDDEN:
        return f"`{key}` is not accepted"
    if key == "minItems" and value not in (0, 1):
        return "`minItems` above 1 is not accepted"
    if key == "format" and value not in _STRICT_FORMATS:
        return f"`format` {value!r} is not accepted"
    if key in _SCHEMA_MAPS and isinstance(value, dict):
        for inner in value.values():
            problem = strict_problem(inner, depth + 1)
            if problem:
                return problem
        return None
    return strict_problem(value, depth + 1) if key in _SCHEMA_VALUES else None
