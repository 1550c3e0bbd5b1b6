"""The canonical request as a Kiro conversation state."""

from __future__ import annotations

import hashlib
from typing import Final

from controlplane.kit.json import JSONDict
from providers.protocols import levels
from providers.protocols.alternation import Turn, alternating
from providers.protocols.canonical import ModelSpec, Request, Text
from providers.protocols.codec import UpstreamCall
from providers.protocols.kiro_generate_assistant.content import EntryWriter
from providers.protocols.kiro_generate_assistant.names import SLUG, KiroNames
from providers.protocols.kiro_generate_assistant.tools import ToolWriter
from providers.protocols.losses import Loss, LossCode
from providers.protocols.missing_knobs import (
    UNKNOWN_SAMPLING,
    refuse_state,
    report_extra,
    report_labels,
    report_sampling,
)
from providers.protocols.response_formats import format_instruction

# Seen with the vendor's own client, 2026: larger figures are refused.
MAX_TOKENS: Final = 32_000
_MIN_BUDGET: Final = 1024


def encode_request(request: Request, model: ModelSpec, *, request_id: str) -> UpstreamCall:
    losses: list[Loss] = []
    refuse_state(request, SLUG)
    names = KiroNames(request.tools)
    # Thinking has no place in the history; as text, models would imitate it (trap 20).
    turns = alternating(request, losses, keeps_thinking=lambda _: False)
    if turns[-1].role == "assistant":
        # The last entry is the current message, and that is always the user's.
        turns.append(Turn("user", []))
        losses.append(
            Loss("messages", LossCode.EMULATED, "no prefill here: a user turn asks to continue")
        )
    writer = EntryWriter(request, model, names, losses)
    entries = writer.entries(turns)
    tools = ToolWriter(request, names, losses)
    declared = tools.declared(writer.used_tools)
    current = entries[-1]["userInputMessage"]
    if declared:
        current.setdefault("userInputMessageContext", {})["tools"] = declared
    prefix = _prefix(request, model, tools, losses)
    if prefix:
        first = entries[0]["userInputMessage"]
        first["content"] = f"{prefix}\n\n{first['content']}"
    state: JSONDict = {
        "chatTriggerType": "MANUAL",
        "agentTaskType": "vibe",
        "conversationId": _conversation_id(request, turns),
        "currentMessage": entries[-1],
        "history": entries[:-1],
    }
    body: JSONDict = {"conversationState": state}
    # Social logins bring one and need it; Builder ID has none and is refused with one.
    profile = model.endpoint.get("profile_arn")
    if profile:
        body["profileArn"] = profile
    inference = _inference(request, model, losses)
    if inference:
        body["inferenceConfig"] = inference
    _labels(request, losses)
    names.report(losses)
    headers = {
        "x-amzn-kiro-agent-mode": "vibe",
        "x-amzn-codewhisperer-optout": "true",
        "amz-sdk-request": "attempt=1; max=1",
        "amz-sdk-invocation-id": _uuid(request_id),
    }
    target = model.endpoint.get("amz_target")
    if target:
        headers["x-amz-target"] = target
    return UpstreamCall(
        path="/generateAssistantResponse",
        body=body,
        headers=headers,
        # There is no other way to be answered: whole answers are collected (trap 141).
        stream=True,
        restore=names.restore(),
        losses=tuple(losses),
    )


def _uuid(text: str) -> str:
    """A version 4 UUID from the text; written out, since uuid.UUID costs as much as the rest."""
    digits = hashlib.sha256(text.encode()).hexdigest()
    variant = "89ab"[int(digits[16], 16) & 3]
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:32]}"


def _conversation_id(request: Request, turns: list[Turn]) -> str:
    """The same for every turn of a conversation: from the client's key, or from how it began."""
    if request.caching.key:
        return _uuid(f"{request.end_user_id or ''}\n{request.caching.key}")
    opening = [part.text for part in turns[0].parts if isinstance(part, Text)]
    system = [entry.text for entry in request.system]
    return _uuid("\n".join((request.end_user_id or "", *system, *opening)))


def _prefix(request: Request, model: ModelSpec, tools: ToolWriter, losses: list[Loss]) -> str:
    """All that has no field of its own, in front of the first user message."""
    pieces = [_thinking_tags(request, model, losses)]
    system = [entry.text for entry in request.system if entry.text.strip()]
    if system:
        pieces.extend(system)
        losses.append(Loss("system", LossCode.MOVED, "in front of the first user message"))
    pieces.extend(tools.long_descriptions)
    pieces.append(tools.hint())
    if request.response_format is not None:
        instruction = format_instruction(request.response_format)
        if instruction:
            pieces.append(instruction)
            losses.append(Loss("response_format", LossCode.EMULATED, "asked for in the prompt"))
    return "\n\n".join(piece for piece in pieces if piece)


def _thinking_tags(request: Request, model: ModelSpec, losses: list[Loss]) -> str:
    wanted = request.reasoning
    if wanted is None or levels.requested_level(wanted) == "off":
        return ""
    if not model.reasoning:
        losses.append(Loss("reasoning", LossCode.DROPPED, "this model does not reason"))
        return ""
    budget = wanted.budget_tokens
    if budget is None:
        level = levels.requested_level(wanted)
        clamped = levels.clamp(level, model) or "high"
        if clamped != level:
            losses.append(
                Loss("reasoning.level", LossCode.CLAMPED, f"{level} is sent as {clamped}")
            )
        budget = levels.budget_of_level(clamped, model)
    fitting = max(_MIN_BUDGET, min(budget, MAX_TOKENS))
    if fitting != budget:
        losses.append(
            Loss("reasoning.budget_tokens", LossCode.CLAMPED, f"{budget} is sent as {fitting}")
        )
    return (
        "<thinking_mode>enabled</thinking_mode>"
        f"<max_thinking_length>{fitting}</max_thinking_length>"
    )


def _inference(request: Request, model: ModelSpec, losses: list[Loss]) -> JSONDict:
    sampling = request.sampling
    config: JSONDict = {}
    wanted = sampling.max_output_tokens
    if wanted is not None:
        limit = min(model.max_output_tokens or MAX_TOKENS, MAX_TOKENS)
        allowed = max(1, min(wanted, limit))
        if allowed != wanted:
            losses.append(
                Loss("sampling.max_output_tokens", LossCode.CLAMPED, f"{wanted} as {allowed}")
            )
        config["maxTokens"] = allowed
    for name, key in (("temperature", "temperature"), ("top_p", "topP")):
        value = getattr(sampling, name)
        if value is None:
            continue
        if value > 1:
            losses.append(Loss(f"sampling.{name}", LossCode.CLAMPED, f"{value:g} is sent as 1"))
            value = 1.0
        config[key] = value
    report_sampling(request, losses, (*UNKNOWN_SAMPLING, "top_k", "stop"))
    return config


def _labels(request: Request, losses: list[Loss]) -> None:
    for name in ("service_tier", "end_user_id"):
        if getattr(request, name) not in (None, "auto"):
            losses.append(Loss(name, LossCode.DROPPED, "unknown to this protocol"))
    for key in request.metadata:
        losses.append(Loss(f"metadata.{key}", LossCode.DROPPED, "unknown to this protocol"))
    caching = request.caching
    has_marks = any(entry.cache for entry in request.system) or any(
        getattr(part, "cache", None) for message in request.messages for part in message.parts
    )
    if caching.retention in ("short", "long") or has_marks:
        losses.append(Loss("caching", LossCode.DROPPED, "this protocol has no cache marks"))
    report_labels(request, losses)
    report_extra(request, losses)
