"""The canonical request as a Converse call."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import quote

from controlplane.kit.json import JSONDict, dumps_str
from providers.protocols import levels
from providers.protocols.alternation import FILLER, alternating
from providers.protocols.anthropic_messages import thinking
from providers.protocols.bedrock_converse_stream.content import (
    SLUG,
    ContentWriter,
    keeps_thinking,
)
from providers.protocols.bedrock_converse_stream.tools import ToolWriter
from providers.protocols.canonical import CacheMark, ModelSpec, Request
from providers.protocols.codec import UpstreamCall
from providers.protocols.losses import Loss, LossCode
from providers.protocols.missing_knobs import (
    UNKNOWN_SAMPLING,
    refuse_state,
    report_extra,
    report_labels,
    report_sampling,
)
from providers.protocols.names import SAFE, digest
from providers.protocols.response_formats import format_instruction
from providers.protocols.tool_calls import WireNames

_ANY_ID: Final = re.compile(r"[a-zA-Z0-9_.:-]+\Z")
_METADATA: Final = re.compile(r"[a-zA-Z0-9\s:_@$#=/+,.-]{1,256}\Z")
_MAX_METADATA: Final = 16
_TIERS: Final = frozenset({"priority", "default", "flex", "reserved"})
_MAX_CACHE_POINTS: Final = 4
# Claude's answer limit where neither client nor catalog names one: thinking needs a number.
_DEFAULT_MAX_TOKENS: Final = 32_000


def encode_request(request: Request, model: ModelSpec) -> UpstreamCall:
    losses: list[Loss] = []
    refuse_state(request, SLUG)
    names = WireNames(request.tools)
    writer = ContentWriter(request, model, names, losses)
    turns = alternating(
        request,
        losses,
        keeps_thinking=lambda part: keeps_thinking(part, model),
        id_limit=model.quirks.max_tool_call_id_length or 64,
        id_allowed=SAFE if model.quirks.is_claude else _ANY_ID,
    )
    messages = writer.messages(turns)
    tools = ToolWriter(request, model, names, losses)
    tool_config = tools.config(writer.used_tools)
    body: JSONDict = {"messages": messages}
    extra_fields: JSONDict = {}
    output_config: JSONDict = {}
    max_tokens = _inference(request, model, body, extra_fields, losses)
    is_thinking = _reasoning(
        request,
        model,
        max_tokens,
        extra_fields,
        output_config,
        losses,
        off_because=_cannot_think(messages, tool_config, model),
    )
    if is_thinking:
        _mend_for_thinking(body, extra_fields, tool_config, losses)
    _end_with_user(messages, model, losses, is_thinking=is_thinking)
    system, system_marks = _system(request, model, losses, output_config)
    if system:
        body["system"] = system
    if tool_config is not None:
        body["toolConfig"] = tool_config
    if output_config:
        body["outputConfig"] = output_config
    if extra_fields:
        body["additionalModelRequestFields"] = extra_fields
    _labels(request, body, losses)
    _cache_points(request, model, body, [*tools.marked, *system_marks, *writer.marked], losses)
    names.report(losses)
    return UpstreamCall(
        # Colons and slashes of ARNs are part of the id, not of the path (trap 190).
        path=f"/model/{quote(model.id, safe='')}/"
        + ("converse-stream" if request.stream else "converse"),
        body=body,
        stream=request.stream,
        restore=names.restore(),
        losses=tuple(losses),
    )


def _inference(
    request: Request,
    model: ModelSpec,
    body: JSONDict,
    extra_fields: JSONDict,
    losses: list[Loss],
) -> int:
    """Fills inferenceConfig; returns the answer's limit for the thinking budget."""
    sampling = request.sampling
    config: JSONDict = {}
    limit = model.max_output_tokens
    wanted = sampling.max_output_tokens
    if wanted is not None:
        allowed = max(1, min(wanted, limit or wanted))
        if allowed != wanted:
            losses.append(
                Loss("sampling.max_output_tokens", LossCode.CLAMPED, f"{wanted} as {allowed}")
            )
        config["maxTokens"] = allowed
    elif limit:
        config["maxTokens"] = limit
    for name, key in (("temperature", "temperature"), ("top_p", "topP")):
        value = getattr(sampling, name)
        if value is None:
            continue
        if not model.quirks.supports_temperature or (
            key == "topP"
            and "temperature" in config
            and not model.quirks.supports_top_p_with_temperature
        ):
            losses.append(Loss(f"sampling.{name}", LossCode.DROPPED, "this model refuses it"))
            continue
        if value > 1:
            losses.append(Loss(f"sampling.{name}", LossCode.CLAMPED, f"{value:g} is sent as 1"))
            value = 1.0
        config[key] = value
    if sampling.top_k is not None:
        if model.quirks.is_claude and model.quirks.supports_temperature:
            extra_fields["top_k"] = sampling.top_k
        else:
            losses.append(Loss("sampling.top_k", LossCode.DROPPED, "unknown to this model"))
    stop = [text for text in sampling.stop if text.strip()]
    if len(stop) != len(sampling.stop):
        losses.append(Loss("sampling.stop", LossCode.DROPPED, "blank stop sequences are refused"))
    if stop:
        config["stopSequences"] = stop
        if model.quirks.is_claude:
            # Which one it was is told only on demand.
            body["additionalModelResponseFieldPaths"] = ["/stop_sequence"]
    report_sampling(request, losses, UNKNOWN_SAMPLING)
    if config:
        body["inferenceConfig"] = config
    return int(config.get("maxTokens", _DEFAULT_MAX_TOKENS))


def _reasoning(
    request: Request,
    model: ModelSpec,
    max_tokens: int,
    extra_fields: JSONDict,
    output_config: JSONDict,
    losses: list[Loss],
    *,
    off_because: str | None,
) -> bool:
    """Whether Claude's thinking is on: it narrows what else may be sent."""
    wanted = request.reasoning
    if wanted is None:
        return False
    quirks = model.quirks
    if quirks.is_claude or quirks.reasoning_field == "thinking":
        thinks, effort = thinking.decide(
            request, model, max_tokens, losses, off_because=off_because
        )
        if thinks is not None:
            extra_fields["thinking"] = thinks
        if effort is not None:
            output_config["effort"] = effort
        return thinks is not None and thinks.get("type") != "disabled"
    level = levels.requested_level(wanted)
    if not model.reasoning or quirks.reasoning_field is None:
        if level != "off":
            losses.append(
                Loss("reasoning", LossCode.DROPPED, "this model takes no wish about reasoning")
            )
        return False
    clamped = levels.clamp(level, model)
    if clamped is None or (clamped == "off" and "off" not in model.levels):
        losses.append(
            Loss("reasoning.level", LossCode.CLAMPED, "this model's reasoning has no off switch")
        )
        return False
    if clamped != level:
        losses.append(Loss("reasoning.level", LossCode.CLAMPED, f"{level} is sent as {clamped}"))
    if wanted.budget_tokens is not None:
        losses.append(
            Loss("reasoning.budget_tokens", LossCode.EMULATED, "a budget is sent as a level")
        )
    word = levels.word(clamped, model)
    if quirks.reasoning_field == "reasoning":
        extra_fields["reasoning"] = {"effort": word}
    else:
        extra_fields["reasoning_effort"] = word
    return False


def _cannot_think(
    messages: list[JSONDict], tool_config: JSONDict | None, model: ModelSpec
) -> str | None:
    """As on Anthropic's own wire; None when thinking may be on."""
    if not thinking.can_be_off(model):
        return None
    choice = (tool_config or {}).get("toolChoice", {})
    if "any" in choice or "tool" in choice:
        return "a forced tool call and thinking exclude each other"
    if model.quirks.force_adaptive_thinking or len(messages) < 2:
        return None
    last, before = messages[-1], messages[-2]
    if "toolResult" in last["content"][0] and "reasoningContent" not in before["content"][0]:
        return "the client did not return the thinking that belongs to its tool calls"
    return None


def _mend_for_thinking(
    body: JSONDict,
    extra_fields: JSONDict,
    tool_config: JSONDict | None,
    losses: list[Loss],
) -> None:
    """Claude refuses these while it thinks (traps 59, 112)."""
    config = body.get("inferenceConfig", {})
    if config.get("temperature", 1) != 1:
        del config["temperature"]
        losses.append(Loss("sampling.temperature", LossCode.DROPPED, "refused while Claude thinks"))
    if config.get("topP", 1) < 0.95:
        del config["topP"]
        losses.append(Loss("sampling.top_p", LossCode.DROPPED, "refused while Claude thinks"))
    if extra_fields.pop("top_k", None) is not None:
        losses.append(Loss("sampling.top_k", LossCode.DROPPED, "refused while Claude thinks"))
    if body.get("inferenceConfig") == {}:
        del body["inferenceConfig"]
    if tool_config is not None and "auto" not in tool_config.get("toolChoice", {"auto": {}}):
        del tool_config["toolChoice"]
        losses.append(
            Loss("tool_choice", LossCode.DROPPED, "this model always thinks: no forced tool")
        )


def _end_with_user(
    messages: list[JSONDict], model: ModelSpec, losses: list[Loss], *, is_thinking: bool
) -> None:
    if messages[-1]["role"] != "assistant":
        return
    if model.quirks.supports_prefill and not is_thinking:
        last = messages[-1]["content"][-1]
        text = last.get("text")
        if isinstance(text, str) and text != text.rstrip():
            last["text"] = text.rstrip()
            losses.append(
                Loss("messages", LossCode.CLAMPED, "a prefill must not end with white space")
            )
        return
    messages.append({"role": "user", "content": [{"text": FILLER}]})
    losses.append(
        Loss("messages", LossCode.EMULATED, "no prefill here: a user turn asks to continue")
    )


_Marked = list[tuple[list[JSONDict], JSONDict, CacheMark]]


def _system(
    request: Request, model: ModelSpec, losses: list[Loss], output_config: JSONDict
) -> tuple[list[JSONDict], _Marked]:
    blocks: list[JSONDict] = []
    marked: _Marked = []
    for entry in request.system:
        if not entry.text.strip():
            continue
        block: JSONDict = {"text": entry.text}
        blocks.append(block)
        if entry.cache is not None:
            marked.append((blocks, block, entry.cache))
    wanted = request.response_format
    if wanted is None:
        return blocks, marked
    if wanted.kind == "json_schema" and wanted.schema and model.quirks.supports_output_format:
        schema: JSONDict = {"schema": dumps_str(wanted.schema)}
        if wanted.name:
            schema["name"] = wanted.name
        if wanted.description:
            schema["description"] = wanted.description
        output_config["textFormat"] = {
            "type": "json_schema",
            "structure": {"jsonSchema": schema},
        }
        return blocks, marked
    instruction = format_instruction(wanted)
    if instruction:
        blocks.append({"text": instruction})
        losses.append(Loss("response_format", LossCode.EMULATED, "asked for in the system prompt"))
    return blocks, marked


def _labels(request: Request, body: JSONDict, losses: list[Loss]) -> None:
    metadata: dict[str, str] = {}
    if request.end_user_id is not None:
        metadata["user_id"] = digest(request.end_user_id, 64)
        losses.append(Loss("end_user_id", LossCode.RENAMED, "sent as a hash"))
    for key, value in request.metadata.items():
        is_valid = _METADATA.match(key) and (not value or _METADATA.match(value))
        if is_valid and key not in metadata and len(metadata) < _MAX_METADATA:
            metadata[key] = value
        else:
            losses.append(
                Loss(f"metadata.{key}", LossCode.DROPPED, "not what request metadata may hold")
            )
    if metadata:
        body["requestMetadata"] = metadata
    tier = request.service_tier
    if tier in _TIERS:
        body["serviceTier"] = {"type": tier}
    elif tier not in (None, "auto"):
        losses.append(Loss("service_tier", LossCode.DROPPED, f"no tier {tier!r} here"))
    report_labels(request, losses)
    report_extra(request, losses)
    if request.caching.key is not None:
        losses.append(Loss("caching.key", LossCode.DROPPED, "caches here have no key"))


def _cache_points(
    request: Request, model: ModelSpec, body: JSONDict, marked: _Marked, losses: list[Loss]
) -> None:
    """Puts cache points behind their blocks. Models without them answer 400 (trap 166)."""
    retention = request.caching.retention
    if retention == "none":
        return
    if not model.quirks.supports_cache_points:
        if marked or retention is not None:
            losses.append(Loss("caching", LossCode.DROPPED, "this model has no cache points"))
        return
    if not marked and retention is not None:
        mark = CacheMark(ttl="1h" if retention == "long" else None)
        tools = body.get("toolConfig", {}).get("tools")
        lists = [tools, body.get("system")]
        lists += [m["content"] for m in body["messages"] if m["role"] == "user"][-1:]
        marked = [(blocks, blocks[-1], mark) for blocks in lists if blocks]
    if len(marked) > _MAX_CACHE_POINTS:
        losses.append(
            Loss("caching", LossCode.CLAMPED, f"{len(marked)} cache marks, 4 are allowed")
        )
        marked = [marked[0], *marked[1 - _MAX_CACHE_POINTS :]]
    seen_short = False
    for blocks, block, mark in marked:
        point: JSONDict = {"type": "default"}
        if mark.ttl == "1h":
            if model.quirks.supports_long_cache_retention and not seen_short:
                point["ttl"] = "1h"
            else:
                losses.append(Loss("caching", LossCode.CLAMPED, "one hour is not possible here"))
        elif mark.ttl is not None:
            point["ttl"] = mark.ttl
        seen_short = seen_short or point.get("ttl") != "1h"
        position = next(i for i, candidate in enumerate(blocks) if candidate is block)
        blocks.insert(position + 1, {"cachePoint": point})
