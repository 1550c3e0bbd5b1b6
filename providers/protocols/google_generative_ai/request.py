"""A canonical request as Google's body. Vertex and Code Assist differ in the few ways that
`Differences` names."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from controlplane.kit.json import JSONDict
from providers.protocols import levels
from providers.protocols.canonical import LEVELS, Level, ModelSpec, Reasoning, Request
from providers.protocols.codec import Restore
from providers.protocols.errors import UnsupportedParameter
from providers.protocols.google_generative_ai.contents import EncodedContents
from providers.protocols.google_generative_ai.family import FAMILY
from providers.protocols.google_generative_ai.tools import encode_tools, wire_names
from providers.protocols.google_schema import to_openapi, without_const
from providers.protocols.losses import Loss, LossCode
from providers.protocols.temperature import temperature_and_top_p

# Clients of these say so when they want to see thoughts; those of others expect to, unless they
# say no.
_ASKS_TO_SEE: Final = FAMILY | {"openai-responses"}
_TIERS: Final = {
    "flex": "flex",
    "default": "standard",
    "standard": "standard",
    "standard_only": "standard",
    "priority": "priority",
}


class Differences(msgspec.Struct, frozen=True, kw_only=True):
    has_labels: bool = False
    has_service_tier: bool = True


class EncodedBody(msgspec.Struct, frozen=True):
    body: JSONDict
    restore: Restore
    losses: list[Loss]


def encode_body(request: Request, model: ModelSpec, differences: Differences) -> EncodedBody:
    losses: list[Loss] = []
    _refuse_state(request)
    names = wire_names(request)
    contents = EncodedContents(request, model, names, losses)
    body: JSONDict = {"contents": contents.contents}
    if request.system:
        body["systemInstruction"] = {
            "parts": [{"text": text.text} for text in request.system if text.text]
        }
        if not body["systemInstruction"]["parts"]:
            del body["systemInstruction"]
        for index, text in enumerate(request.system):
            if text.cache is not None:
                losses.append(
                    Loss(f"system[{index}].cache", LossCode.DROPPED, "Google caches by itself")
                )
    encoded = encode_tools(request, model, names, losses)
    if encoded.tools:
        body["tools"] = encoded.tools
    if encoded.config:
        body["toolConfig"] = {"functionCallingConfig": encoded.config}
    generation = _sampling(request, model, losses)
    _format(request, model, generation, losses)
    thinking = _thinking(request, model, losses)
    if thinking:
        generation["thinkingConfig"] = thinking
    if generation:
        body["generationConfig"] = generation
    _metadata(request, differences, body, losses)
    _tier(request, differences, body, losses)
    _others(request, losses)
    _extra(request, body, losses)
    names.report(losses)
    restore = names.restore()
    if contents.call_ids:
        restore = msgspec.structs.replace(restore, call_ids=contents.call_ids)
    return EncodedBody(body, restore, losses)


def _refuse_state(request: Request) -> None:
    for field in ("previous_response_id", "conversation"):
        if getattr(request, field) is not None:
            raise UnsupportedParameter(
                "Google keeps no conversations. Send the whole conversation instead.", param=field
            )


# --- sampling and format -----------------------------------------------------------------


def _sampling(request: Request, model: ModelSpec, losses: list[Loss]) -> JSONDict:
    wish = request.sampling
    out: JSONDict = {}
    temperature, top_p = temperature_and_top_p(wish, model, losses)
    for key, value in (
        ("maxOutputTokens", wish.max_output_tokens),
        ("temperature", temperature),
        ("topP", top_p),
        ("topK", wish.top_k),
        ("seed", wish.seed),
        ("presencePenalty", wish.presence_penalty),
        ("frequencyPenalty", wish.frequency_penalty),
        ("responseLogprobs", wish.logprobs),
        ("logprobs", wish.top_logprobs),
        ("candidateCount", wish.n),
    ):
        if value is not None:
            out[key] = value
    if wish.stop:
        out["stopSequences"] = list(wish.stop)
    for field in ("min_p", "repetition_penalty", "logit_bias"):
        if getattr(wish, field) is not None:
            losses.append(Loss(f"sampling.{field}", LossCode.DROPPED, "Google has no such knob"))
    return out


def _format(request: Request, model: ModelSpec, generation: JSONDict, losses: list[Loss]) -> None:
    wish = request.response_format
    if wish is None:
        return
    if wish.kind == "text":
        generation["responseMimeType"] = "text/plain"
        return
    generation["responseMimeType"] = "application/json"
    if wish.kind == "json_object" or wish.schema is None:
        return
    schema = dict(wish.schema)
    # The caller's name and description of the format, where JSON Schema has a place for them.
    if wish.name and "title" not in schema:
        schema["title"] = wish.name
    if wish.description and "description" not in schema:
        schema["description"] = wish.description
    if model.quirks.schema_dialect == "json-schema":
        generation["responseJsonSchema"] = without_const(schema)
        return
    converted = to_openapi(schema, path="response_format.schema")
    if converted.schema is not None:
        generation["responseSchema"] = converted.schema
    if converted.changed:
        losses.append(
            Loss(
                "response_format.schema",
                LossCode.EMULATED,
                "said in the description instead: " + ", ".join(converted.changed),
            )
        )


# --- reasoning ---------------------------------------------------------------------------


def _thinking(request: Request, model: ModelSpec, losses: list[Loss]) -> JSONDict:
    reasoning = request.reasoning
    if reasoning is None:
        return {}
    wants_off = reasoning.level == "off" or (
        reasoning.level is None and reasoning.budget_tokens == 0
    )
    if not model.reasoning:
        if not wants_off:
            losses.append(Loss("reasoning", LossCode.DROPPED, "this model does not reason"))
        return {}
    out: JSONDict = {}
    if model.quirks.thinking_control == "level":
        _by_level(reasoning, wants_off, model, out, losses)
    else:
        _by_budget(reasoning, wants_off, model, out, losses)
    show = reasoning.show
    if show is None and reasoning.summary not in (None, "off"):
        show = True
        if reasoning.summary in ("concise", "detailed"):
            losses.append(
                Loss("reasoning.summary", LossCode.CLAMPED, "thoughts come in one length only")
            )
    if show is None and not wants_off and request.dialect not in _ASKS_TO_SEE:
        show = True
    if show is not None:
        out["includeThoughts"] = show
    return out


def _by_level(
    reasoning: Reasoning, wants_off: bool, model: ModelSpec, out: JSONDict, losses: list[Loss]
) -> None:
    if wants_off:
        word = model.levels.get("off")
        if word:
            out["thinkingLevel"] = word.upper()
            return
        # These models always think: the least is the nearest to nothing (trap 108).
        lowest = _lowest(model)
        if lowest is not None:
            out["thinkingLevel"] = levels.word(lowest, model).upper()
            losses.append(
                Loss("reasoning.level", LossCode.CLAMPED, f"this model always thinks: {lowest}")
            )
        return
    if reasoning.level is None and reasoning.budget_tokens is None:
        return
    _put_level(levels.requested_level(reasoning), model, out, losses)
    if reasoning.budget_tokens is not None and reasoning.level is None:
        losses.append(
            Loss("reasoning.budget_tokens", LossCode.EMULATED, "this model knows levels only")
        )


def _put_level(level: Level, model: ModelSpec, out: JSONDict, losses: list[Loss]) -> None:
    nearest = levels.clamp(level, model)
    if nearest is None:
        losses.append(Loss("reasoning.level", LossCode.DROPPED, "this model knows no levels"))
        return
    out["thinkingLevel"] = levels.word(nearest, model).upper()
    if nearest != level:
        losses.append(Loss("reasoning.level", LossCode.CLAMPED, f"{level} is sent as {nearest}"))


def _by_budget(
    reasoning: Reasoning, wants_off: bool, model: ModelSpec, out: JSONDict, losses: list[Loss]
) -> None:
    if wants_off:
        # An explicit 0: leaving it out would mean thinking as much as it likes (trap 106).
        if levels.is_supported("off", model):
            out["thinkingBudget"] = levels.budget_of_level("off", model)
            return
        lowest = _lowest(model)
        if lowest is not None:
            out["thinkingBudget"] = levels.budget_of_level(lowest, model)
            losses.append(
                Loss("reasoning.level", LossCode.CLAMPED, f"this model always thinks: {lowest}")
            )
        return
    if reasoning.budget_tokens is not None and reasoning.budget_tokens >= 0:
        out["thinkingBudget"] = reasoning.budget_tokens
        return
    if reasoning.level is None:
        if reasoning.adaptive:
            out["thinkingBudget"] = -1
        return
    nearest = levels.clamp(reasoning.level, model)
    if nearest is None:
        losses.append(Loss("reasoning.level", LossCode.DROPPED, "this model knows no levels"))
        return
    out["thinkingBudget"] = levels.budget_of_level(nearest, model)
    if nearest != reasoning.level:
        losses.append(
            Loss("reasoning.level", LossCode.CLAMPED, f"{reasoning.level} is sent as {nearest}")
        )


def _lowest(model: ModelSpec) -> Level | None:
    return next((level for level in LEVELS[1:] if levels.is_supported(level, model)), None)


# --- the rest ----------------------------------------------------------------------------


def _metadata(
    request: Request, differences: Differences, body: JSONDict, losses: list[Loss]
) -> None:
    if not request.metadata:
        return
    if differences.has_labels:
        body["labels"] = dict(request.metadata)
    else:
        losses.append(Loss("metadata", LossCode.DROPPED, "only Vertex takes labels"))


def _tier(request: Request, differences: Differences, body: JSONDict, losses: list[Loss]) -> None:
    tier = request.service_tier
    if tier is None or tier == "auto":
        return
    word = _TIERS.get(tier) if differences.has_service_tier else None
    if word is None:
        losses.append(
            Loss("service_tier", LossCode.DROPPED, f"there is no tier {tier[:50]!r} here")
        )
    else:
        body["serviceTier"] = word


def _others(request: Request, losses: list[Loss]) -> None:
    for path, value in (
        ("verbosity", request.verbosity),
        ("caching.key", request.caching.key),
        ("caching.retention", request.caching.retention),
        ("end_user_id", request.end_user_id),
        ("store", request.store or None),
    ):
        if value is not None:
            losses.append(Loss(path, LossCode.DROPPED, "Google has no such knob"))


def _extra(request: Request, body: JSONDict, losses: list[Loss]) -> None:
    """Fields that only one dialect knows: Google's own go on, others are reported."""
    is_family = request.dialect in FAMILY
    for key, value in request.extra.items():
        if is_family and not key.startswith("contents["):
            if key in ("generationConfig", "toolConfig") and isinstance(value, dict):
                _merge(body, key, value, losses)
            else:
                body[key] = value
        else:
            losses.append(Loss(f"extra.{key}", LossCode.DROPPED, "this protocol has no such field"))


def _merge(body: JSONDict, key: str, fields: JSONDict, losses: list[Loss]) -> None:
    target = body.setdefault(key, {})
    for name, value in fields.items():
        if name != "functionCallingConfig":
            target.setdefault(name, value)
            continue
        calling: JSONDict = dict(value) if isinstance(value, dict) else {}
        if calling.pop("streamFunctionCallArguments", None):
            losses.append(
                Loss(
                    "extra.toolConfig.functionCallingConfig.streamFunctionCallArguments",
                    LossCode.DROPPED,
                    "calls arrive whole",
                )
            )
        own: Any = target.setdefault(name, {})
        own.update(calling)
        if not own:
            del target[name]
    if not target:
        del body[key]
