"""Tool declarations and the choice among them, for Google (wire-protocols 14.4)."""

from __future__ import annotations

import msgspec

from controlplane.kit.json import JSONDict
from providers.protocols.canonical import ModelSpec, Request, Tool, ToolChoice
from providers.protocols.errors import UnsupportedParameter
from providers.protocols.google_generative_ai.family import (
    FAMILY,
    FUNCTION_NAME,
    MAX_FUNCTION_NAME,
)
from providers.protocols.google_schema import to_openapi, without_const
from providers.protocols.losses import Loss, LossCode
from providers.protocols.tool_calls import (
    CUSTOM_SCHEMA,
    WireNames,
    custom_description,
    report_parallel,
    unique_tools,
)


class EncodedTools(msgspec.Struct, frozen=True):
    tools: list[JSONDict]
    config: JSONDict


def wire_names(request: Request) -> WireNames:
    return WireNames(request.tools, limit=MAX_FUNCTION_NAME, allowed=FUNCTION_NAME)


def encode_tools(
    request: Request, model: ModelSpec, names: WireNames, losses: list[Loss]
) -> EncodedTools:
    """All declarations stand in ONE tool object; Google's own tools follow, one object each."""
    choice = request.tool_choice
    declarations: list[JSONDict] = []
    builtins: list[JSONDict] = []
    has_strict = False
    offered = _offered(choice)
    if offered is not None:
        losses.append(
            Loss(
                "tool_choice.names",
                LossCode.EMULATED,
                "only the allowed tools are declared: this mode takes no list of names",
            )
        )
    for index, tool in unique_tools(request, losses):
        path = f"tools[{index}]"
        if tool.kind == "builtin":
            _builtin(tool, path, builtins, losses)
            continue
        if offered is not None and tool.name not in offered:
            continue
        if tool.strict:
            if model.quirks.supports_strict_tools:
                has_strict = True
            else:
                losses.append(
                    Loss(f"{path}.strict", LossCode.DROPPED, "this model has no strict tools")
                )
        declarations.append(_declaration(tool, path, request, model, names, losses))
    tools = [{"functionDeclarations": declarations}] if declarations else []
    report_parallel(request, losses, "Google cannot forbid parallel calls")
    return EncodedTools(tools + builtins, _config(choice, names, has_strict))


def _offered(choice: ToolChoice | None) -> frozenset[str] | None:
    """`allowedFunctionNames` needs mode ANY; for `auto` the others are simply not declared."""
    if choice is not None and choice.mode == "allowed" and choice.allowed_mode == "auto":
        return frozenset(choice.names)
    return None


def _builtin(tool: Tool, path: str, out: list[JSONDict], losses: list[Loss]) -> None:
    if tool.builtin is not None and tool.builtin_protocol in FAMILY:
        out.append(tool.builtin)
    else:
        losses.append(
            Loss(path, LossCode.DROPPED, f"{tool.name!r} is a tool that another vendor runs")
        )


def _declaration(
    tool: Tool,
    path: str,
    request: Request,
    model: ModelSpec,
    names: WireNames,
    losses: list[Loss],
) -> JSONDict:
    out: JSONDict = {"name": names.wire(tool.name, tool.namespace)}
    schema = tool.schema
    if tool.kind == "custom":
        out["description"] = custom_description(tool)
        schema = CUSTOM_SCHEMA
        losses.append(
            Loss(path, LossCode.EMULATED, "a free-text tool travels as a function with one string")
        )
    elif tool.description:
        out["description"] = tool.description
    if schema is not None:
        _schema(schema, path, model, out, losses)
    if tool.cache is not None:
        losses.append(Loss(f"{path}.cache", LossCode.DROPPED, "Google caches by itself"))
    for key, value in tool.extra.items():
        if request.dialect in FAMILY:
            out[key] = value
        else:
            losses.append(Loss(f"{path}.{key}", LossCode.DROPPED, "Google has no such field"))
    return out


def _schema(
    schema: JSONDict, path: str, model: ModelSpec, out: JSONDict, losses: list[Loss]
) -> None:
    if model.quirks.schema_dialect == "json-schema" and not model.quirks.is_claude:
        out["parametersJsonSchema"] = without_const(schema)
        return
    is_claude = model.quirks.is_claude
    converted = to_openapi(
        schema, path=f"{path}.schema", bounds_as_text=is_claude, placeholder=is_claude
    )
    if converted.schema is not None:
        out["parameters"] = converted.schema
    if converted.changed:
        losses.append(
            Loss(
                f"{path}.schema",
                LossCode.EMULATED,
                "said in the description instead: " + ", ".join(converted.changed),
            )
        )


def _config(choice: ToolChoice | None, names: WireNames, has_strict: bool) -> JSONDict:
    """An explicit choice is kept even without tools: the vendor judges it (trap 57)."""
    if choice is None or choice.mode == "auto" or _offered(choice) is not None:
        if has_strict:
            return {"mode": "VALIDATED"}
        return {} if choice is None else {"mode": "AUTO"}
    match choice.mode:
        case "none":
            return {"mode": "NONE"}
        case "required":
            return {"mode": "ANY"}
        case _:
            if not choice.names:
                raise UnsupportedParameter("tool_choice names no tool.", param="tool_choice")
            return {
                "mode": "ANY",
                "allowedFunctionNames": [names.wire(name) for name in choice.names],
            }
