"""A canonical request as Mistral's body. Mistral refuses unknown fields, so only known ones go."""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

from controlplane.kit.json import JSONDict
from providers.protocols import levels
from providers.protocols.canonical import ModelSpec, Request, Tool, ToolChoice
from providers.protocols.codec import UpstreamCall
from providers.protocols.errors import UnsupportedParameter
from providers.protocols.losses import Loss, LossCode
from providers.protocols.mistral_conversations.messages import SLUG, EncodedMessages
from providers.protocols.names import digest
from providers.protocols.temperature import temperature_and_top_p
from providers.protocols.tool_calls import (
    CUSTOM_SCHEMA,
    NO_TOOLS,
    WireNames,
    custom_description,
    report_parallel,
    unique_tools,
)

# Fields that a client of another dialect can only mean for Mistral.
_OWN_FIELDS: Final = frozenset(
    {"safe_prompt", "prompt_mode", "guardrails", "prediction", "min_tokens"}
)
_TIERS: Final = {"default": "standard", "standard": "standard", "priority": "priority"}
_HEADER_SAFE: Final = re.compile(r"[\x21-\x7e]{1,256}\Z")


def encode_request(request: Request, model: ModelSpec) -> UpstreamCall:
    losses: list[Loss] = []
    for field in ("previous_response_id", "conversation"):
        if getattr(request, field) is not None:
            raise UnsupportedParameter(
                "Mistral keeps no conversations here. Send the whole conversation instead.",
                param=field,
            )
    names = WireNames(request.tools)
    encoded = EncodedMessages(request, model, names, losses)
    body: JSONDict = {"model": model.id, "messages": encoded.messages}
    if request.stream:
        body["stream"] = True
    _tools(request, model, names, body, losses)
    _sampling(request, model, body, losses)
    _format(request, body)
    _reasoning(request, model, body, losses)
    headers = _caching(request, model, body, losses)
    _rest(request, body, losses)
    for key, value in request.extra.items():
        if key in _OWN_FIELDS:
            body[key] = value
        else:
            losses.append(Loss(f"extra.{key}", LossCode.DROPPED, "Mistral has no such field"))
    names.report(losses)
    return UpstreamCall(
        path="/v1/chat/completions",
        body=body,
        headers=headers,
        stream=request.stream,
        restore=msgspec.structs.replace(names.restore(), call_ids=encoded.ids.restore),
        losses=tuple(losses),
    )


# --- tools -------------------------------------------------------------------------------


def _tools(
    request: Request, model: ModelSpec, names: WireNames, body: JSONDict, losses: list[Loss]
) -> None:
    choice = request.tool_choice
    offered = frozenset(choice.names) if choice is not None and choice.mode == "allowed" else None
    tools: list[JSONDict] = []
    for index, tool in unique_tools(request, losses):
        path = f"tools[{index}]"
        if tool.kind == "builtin":
            if tool.builtin is not None and tool.builtin_protocol == SLUG:
                tools.append(tool.builtin)
            else:
                losses.append(
                    Loss(path, LossCode.DROPPED, f"{tool.name!r} is a tool another vendor runs")
                )
        elif offered is None or tool.name in offered:
            tools.append(_declaration(tool, path, model, names, losses))
    if tools:
        body["tools"] = tools
    if request.parallel_tool_calls is not None and tools:
        body["parallel_tool_calls"] = request.parallel_tool_calls
    else:
        report_parallel(request, losses, NO_TOOLS)
    if offered is not None:
        losses.append(
            Loss("tool_choice.names", LossCode.EMULATED, "only the allowed tools are declared")
        )
    if choice is not None:
        body["tool_choice"] = _choice(choice, names)


def _declaration(
    tool: Tool, path: str, model: ModelSpec, names: WireNames, losses: list[Loss]
) -> JSONDict:
    function: JSONDict = {"name": names.wire(tool.name, tool.namespace)}
    schema = tool.schema
    if tool.kind == "custom":
        function["description"] = custom_description(tool)
        schema = CUSTOM_SCHEMA
        losses.append(
            Loss(path, LossCode.EMULATED, "a free-text tool travels as a function with one string")
        )
    elif tool.description:
        function["description"] = tool.description
    # The field is required even where there is nothing to say.
    function["parameters"] = schema if schema is not None else {"type": "object", "properties": {}}
    if tool.strict is not None:
        if model.quirks.supports_strict_tools:
            function["strict"] = tool.strict
        elif tool.strict:
            losses.append(
                Loss(f"{path}.strict", LossCode.DROPPED, "this model has no strict tools")
            )
    if tool.cache is not None:
        losses.append(Loss(f"{path}.cache", LossCode.DROPPED, "Mistral has no cache marks"))
    for key in tool.extra:
        losses.append(Loss(f"{path}.{key}", LossCode.DROPPED, "Mistral has no such field"))
    return {"type": "function", "function": function}


def _choice(choice: ToolChoice, names: WireNames) -> Any:
    match choice.mode:
        case "named":
            if not choice.names:
                raise UnsupportedParameter("tool_choice names no tool.", param="tool_choice")
            return {"type": "function", "function": {"name": names.wire(choice.names[0])}}
        case "allowed":
            return choice.allowed_mode
        case mode:
            return mode


# --- knobs -------------------------------------------------------------------------------


def _sampling(request: Request, model: ModelSpec, body: JSONDict, losses: list[Loss]) -> None:
    wish = request.sampling
    temperature, top_p = temperature_and_top_p(wish, model, losses)
    for key, value in (
        ("max_tokens", wish.max_output_tokens),
        ("temperature", temperature),
        ("top_p", top_p),
        ("top_k", wish.top_k),
        ("repetition_penalty", wish.repetition_penalty),
        ("random_seed", wish.seed),
        ("presence_penalty", wish.presence_penalty),
        ("frequency_penalty", wish.frequency_penalty),
        ("n", wish.n),
        ("logprobs", wish.logprobs),
        ("top_logprobs", wish.top_logprobs),
    ):
        if value is not None:
            body[key] = value
    if wish.stop:
        body["stop"] = list(wish.stop)
    for field in ("min_p", "logit_bias"):
        if getattr(wish, field) is not None:
            losses.append(Loss(f"sampling.{field}", LossCode.DROPPED, "Mistral has no such knob"))


def _format(request: Request, body: JSONDict) -> None:
    wish = request.response_format
    if wish is None:
        return
    if wish.kind != "json_schema" or wish.schema is None:
        body["response_format"] = {"type": "text" if wish.kind == "text" else "json_object"}
        return
    schema: JSONDict = {"name": wish.name or "response", "schema": wish.schema}
    if wish.description is not None:
        schema["description"] = wish.description
    if wish.strict is not None:
        schema["strict"] = wish.strict
    body["response_format"] = {"type": "json_schema", "json_schema": schema}


def _reasoning(request: Request, model: ModelSpec, body: JSONDict, losses: list[Loss]) -> None:
    wish = request.reasoning
    if wish is None:
        return
    level = levels.requested_level(wish)
    if not model.reasoning:
        if level != "off":
            losses.append(Loss("reasoning", LossCode.DROPPED, "this model does not reason"))
        return
    if not model.levels:
        # Models without levels have a mode instead; without it they think as they like.
        if level != "off":
            body["prompt_mode"] = "reasoning"
            if wish.level is not None or wish.budget_tokens is not None:
                losses.append(
                    Loss("reasoning.level", LossCode.DROPPED, "this model knows on and off only")
                )
    else:
        nearest = levels.clamp(level, model)
        if nearest is None:
            losses.append(
                Loss("reasoning.level", LossCode.DROPPED, f"this model has no level {level}")
            )
        else:
            body["reasoning_effort"] = levels.word(nearest, model)
            if nearest != level:
                losses.append(
                    Loss("reasoning.level", LossCode.CLAMPED, f"{level} is sent as {nearest}")
                )
        if wish.budget_tokens is not None and wish.level is None:
            losses.append(
                Loss("reasoning.budget_tokens", LossCode.EMULATED, "this model knows levels only")
            )
    if wish.show is False or wish.summary == "off":
        losses.append(Loss("reasoning.show", LossCode.DROPPED, "Mistral always shows its thoughts"))
    elif wish.summary in ("concise", "detailed"):
        losses.append(
            Loss("reasoning.summary", LossCode.DROPPED, "Mistral shows its thoughts, not summaries")
        )


def _caching(
    request: Request, model: ModelSpec, body: JSONDict, losses: list[Loss]
) -> dict[str, str]:
    """A key keeps a conversation on one server: in the body and in a header."""
    wish = request.caching
    if wish.retention is not None:
        losses.append(Loss("caching.retention", LossCode.DROPPED, "Mistral decides how long"))
    if wish.key is None:
        return {}
    if model.quirks.supports_prompt_cache_key == "disabled":
        losses.append(Loss("caching.key", LossCode.DROPPED, "this model takes no cache key"))
        return {}
    body["prompt_cache_key"] = wish.key
    is_safe = _HEADER_SAFE.match(wish.key) is not None
    return {"x-affinity": wish.key if is_safe else digest(wish.key, 64)}


def _rest(request: Request, body: JSONDict, losses: list[Loss]) -> None:
    metadata = dict(request.metadata)
    if request.end_user_id is not None:
        metadata.setdefault("user_id", request.end_user_id)
    if metadata:
        body["metadata"] = metadata
    tier = request.service_tier
    if tier is not None and tier != "auto":
        word = _TIERS.get(tier)
        if word is None:
            losses.append(
                Loss("service_tier", LossCode.DROPPED, f"Mistral has no tier {tier[:50]!r}")
            )
        else:
            body["service_tier"] = word
    for path, value in (("verbosity", request.verbosity), ("store", request.store or None)):
        if value is not None:
            losses.append(Loss(path, LossCode.DROPPED, "Mistral has no such knob"))
