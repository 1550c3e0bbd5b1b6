"""A canonical Request as the body that a Chat Completions vendor accepts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from controlplane.kit.json import JSONDict
from providers.protocols.canonical import ModelSpec, Request, ResponseFormat, Tool, ToolChoice
from providers.protocols.codec import UpstreamCall
from providers.protocols.errors import UnsupportedParameter
from providers.protocols.history import mended
from providers.protocols.losses import Loss, LossCode
from providers.protocols.openai_completions.caching import (
    OPENAI_DIALECTS,
    Marks,
    affinity_headers,
    cache_fields,
)
from providers.protocols.openai_completions.messages import Messages
from providers.protocols.openai_completions.reading import refuse_server_state
from providers.protocols.openai_completions.thinking import thinking_fields
from providers.protocols.tool_calls import (
    CUSTOM_SCHEMA,
    NO_TOOLS,
    WireNames,
    custom_description,
    report_parallel,
    unique_tools,
)

PATH: Final = "/chat/completions"
_OWN: Final = "openai-completions"
_TIERS: Final = frozenset({"auto", "default", "flex", "scale", "priority", "fast"})
# Fields that Chat Completions and Responses both know.
_SHARED_EXTRA: Final = frozenset({"prompt_cache_options", "moderation"})
# What another vendor would refuse, although most vendors of this protocol take it.
_EXTENSIONS: Final = ("top_k", "min_p", "repetition_penalty")


def encode_request(request: Request, model: ModelSpec) -> UpstreamCall:
    refuse_server_state(request)
    losses: list[Loss] = []
    quirks = model.quirks
    turns = mended(request.messages, losses)
    names = WireNames(request.tools)
    marks = Marks(request, model, losses)
    # Tools stand before everything else in the prompt: their marks are counted first.
    tools = _tools(request, model, names, marks, losses)
    messages = Messages(request, model, names, marks, losses)
    messages.write(turns)
    body: JSONDict = {"model": model.id, "messages": messages.out}
    if tools or (quirks.requires_tools_with_tool_history and messages.has_calls):
        body["tools"] = tools
    if request.tool_choice is not None:
        body["tool_choice"] = _tool_choice(request.tool_choice, request, model, names)
    if request.parallel_tool_calls is not None:
        if tools:
            body["parallel_tool_calls"] = request.parallel_tool_calls
        else:
            report_parallel(request, losses, NO_TOOLS)
    _add_sampling(body, request, model, losses)
    if request.response_format is not None:
        body["response_format"] = _response_format(request.response_format)
    if request.verbosity is not None:
        body["verbosity"] = request.verbosity
    body.update(thinking_fields(request.reasoning, model, losses))
    body.update(cache_fields(request, model, losses))
    _add_identity(body, request, model, losses)
    if request.stream:
        body["stream"] = True
        if quirks.supports_usage_in_streaming:
            body["stream_options"] = {"include_usage": True}
    _add_extra(body, request, losses)
    body.update(vendor_fields(model, has_tools=bool(tools), stream=request.stream, body=body))
    names.report(losses)
    restore = names.restore()
    if quirks.supports_grammar_tools:
        restore = msgspec.structs.replace(restore, custom=frozenset())
    if messages.call_ids:
        restore = msgspec.structs.replace(restore, call_ids=messages.call_ids)
    key = request.caching.key if request.caching.retention != "none" else None
    return UpstreamCall(
        path=PATH,
        body=body,
        headers=affinity_headers(key, model),
        stream=request.stream,
        restore=restore,
        losses=tuple(losses),
    )


def vendor_fields(
    model: ModelSpec, *, has_tools: bool, stream: bool, body: Mapping[str, Any]
) -> JSONDict:
    """What the operator's catalog adds; the operator's routing wins over the client's."""
    quirks = model.quirks
    fields: JSONDict = {}
    if quirks.zai_tool_stream and stream and has_tools:
        fields["tool_stream"] = True
    if quirks.vllm_priority is not None:
        fields["priority"] = quirks.vllm_priority
    if quirks.open_router_routing is not None:
        theirs = body.get("provider")
        fields["provider"] = {
            **(theirs if isinstance(theirs, dict) else {}),
            **quirks.open_router_routing,
        }
    if quirks.vercel_gateway_routing is not None:
        theirs = body.get("providerOptions")
        fields["providerOptions"] = {
            **(theirs if isinstance(theirs, dict) else {}),
            "gateway": quirks.vercel_gateway_routing,
        }
    return fields


def _tools(
    request: Request, model: ModelSpec, names: WireNames, marks: Marks, losses: list[Loss]
) -> list[JSONDict]:
    out: list[JSONDict] = []
    for index, tool in unique_tools(request, losses):
        path = f"tools[{index}]"
        if tool.kind == "builtin":
            if tool.builtin_protocol == _OWN and tool.builtin is not None:
                out.append(tool.builtin)
            else:
                why = f"only {tool.builtin_protocol} has this built-in tool"
                losses.append(Loss(path, LossCode.DROPPED, why))
            continue
        entry = _tool(tool, path, request, model, names, losses)
        if tool.cache is not None:
            if model.quirks.supports_cache_control_on_tools:
                entry.update(marks.field(tool.cache, path))
            else:
                losses.append(Loss(f"{path}.cache", LossCode.DROPPED, "tools take no cache marks"))
        out.append(entry)
    return out


def _tool(
    tool: Tool,
    path: str,
    request: Request,
    model: ModelSpec,
    names: WireNames,
    losses: list[Loss],
) -> JSONDict:
    quirks = model.quirks
    inner: JSONDict = {"name": names.wire(tool.name, tool.namespace)}
    if tool.kind == "custom" and quirks.supports_grammar_tools:
        if tool.description is not None:
            inner["description"] = tool.description
        if tool.grammar is not None:
            inner["format"] = {"type": "grammar", "grammar": tool.grammar}
        return {"type": "custom", "custom": inner}
    if tool.kind == "custom":
        losses.append(Loss(path, LossCode.EMULATED, "free text travels in a function's `input`"))
        inner["description"] = custom_description(tool)
        inner["parameters"] = CUSTOM_SCHEMA
        return {"type": "function", "function": inner}
    if tool.description is not None:
        inner["description"] = tool.description
    if tool.schema is not None:
        inner["parameters"] = object_schema(tool.schema)
    if tool.strict is not None and quirks.supports_strict_tools:
        inner["strict"] = tool.strict
    elif tool.strict:
        # Absent, never null: LM Studio fails on null (traps 60, 61).
        losses.append(Loss(f"{path}.strict", LossCode.DROPPED, "the vendor has no strict tools"))
    entry: JSONDict = {"type": "function", "function": inner}
    if tool.extra:
        if request.dialect == _OWN:
            entry.update(tool.extra)
        else:
            for name in tool.extra:
                losses.append(
                    Loss(f"{path}.extra.{name}", LossCode.DROPPED, "the protocol has no such field")
                )
    return entry


def object_schema(schema: JSONDict) -> JSONDict:
    """OpenAI wants `properties` on an object, even without any (trap 65)."""
    if "properties" in schema or "$ref" in schema or schema.get("type", "object") != "object":
        return schema
    if any(key in schema for key in ("anyOf", "oneOf", "allOf")):
        return schema
    return {"type": "object", **schema, "properties": {}}


def _tool_choice(
    choice: ToolChoice, request: Request, model: ModelSpec, names: WireNames
) -> object:
    if choice.mode not in ("named", "allowed"):
        return choice.mode
    entries = [_named(name, request, model, names) for name in choice.names]
    if choice.mode == "allowed":
        allowed = {"mode": choice.allowed_mode, "tools": entries}
        return {"type": "allowed_tools", "allowed_tools": allowed}
    if not entries:
        raise UnsupportedParameter("`tool_choice` names no tool.", param="tool_choice")
    return entries[0]


def _named(name: str, request: Request, model: ModelSpec, names: WireNames) -> JSONDict:
    tool = next((tool for tool in request.tools if tool.name == name), None)
    if tool is not None and tool.kind == "builtin":
        raise UnsupportedParameter(
            f"`tool_choice` asks for the built-in tool {name!r}, which this model does not have.",
            param="tool_choice",
        )
    wire = names.wire(name, tool.namespace if tool is not None else None)
    is_custom = tool is not None and tool.kind == "custom" and model.quirks.supports_grammar_tools
    kind = "custom" if is_custom else "function"
    return {"type": kind, kind: {"name": wire}}


def _add_sampling(body: JSONDict, request: Request, model: ModelSpec, losses: list[Loss]) -> None:
    wish, quirks = request.sampling, model.quirks
    if wish.max_output_tokens is not None:
        body[quirks.max_tokens_field] = wish.max_output_tokens
    has_temperature = wish.temperature is not None and quirks.supports_temperature
    if has_temperature:
        body["temperature"] = wish.temperature
    elif wish.temperature is not None:
        losses.append(
            Loss("sampling.temperature", LossCode.DROPPED, "the model takes no temperature")
        )
    if wish.top_p is not None:
        if has_temperature and not quirks.supports_top_p_with_temperature:
            losses.append(
                Loss("sampling.top_p", LossCode.DROPPED, "not together with a temperature")
            )
        else:
            body["top_p"] = wish.top_p
    if wish.stop:
        body["stop"] = list(wish.stop)
    for name in (
        "n",
        "seed",
        "presence_penalty",
        "frequency_penalty",
        "logit_bias",
        "logprobs",
        "top_logprobs",
    ):
        value = getattr(wish, name)
        if value is not None:
            body[name] = value
    may_extend = quirks.supports_sampling_extensions or request.dialect == _OWN
    for name in _EXTENSIONS:
        value = getattr(wish, name)
        if value is None:
            continue
        if may_extend:
            body[name] = value
        else:
            losses.append(Loss(f"sampling.{name}", LossCode.DROPPED, "the vendor has no such knob"))


def _response_format(wish: ResponseFormat) -> JSONDict:
    if wish.kind != "json_schema":
        return {"type": wish.kind}
    inner: JSONDict = {"name": wish.name or "response", "schema": wish.schema or {}}
    if wish.description is not None:
        inner["description"] = wish.description
    if wish.strict is not None:
        inner["strict"] = wish.strict
    return {"type": "json_schema", "json_schema": inner}


def _add_identity(body: JSONDict, request: Request, model: ModelSpec, losses: list[Loss]) -> None:
    if model.quirks.supports_store:
        body["store"] = bool(request.store and model.store)
    if request.store and not (model.store and model.quirks.supports_store):
        losses.append(Loss("store", LossCode.DROPPED, "answers are not kept at the vendor"))
    if request.metadata:
        if model.quirks.supports_store:
            body["metadata"] = request.metadata
        else:
            losses.append(Loss("metadata", LossCode.DROPPED, "the vendor keeps no metadata"))
    if request.end_user_id is not None:
        body["user"] = request.end_user_id
    tier = request.service_tier
    if tier is not None:
        if tier in _TIERS or request.dialect in OPENAI_DIALECTS:
            body["service_tier"] = tier
        elif tier in ("standard", "standard_only"):
            body["service_tier"] = "default"
        else:
            losses.append(Loss("service_tier", LossCode.DROPPED, f"no tier is named {tier!r}"))


def _add_extra(body: JSONDict, request: Request, losses: list[Loss]) -> None:
    """The client's own fields, where the vendor speaks its dialect."""
    for name, value in request.extra.items():
        if request.dialect == _OWN or (
            name in _SHARED_EXTRA and request.dialect in OPENAI_DIALECTS
        ):
            body.setdefault(name, value)
        else:
            losses.append(Loss(f"extra.{name}", LossCode.DROPPED, "the protocol has no such field"))
