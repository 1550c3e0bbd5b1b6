"""The canonical request as a Messages API call."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from controlplane.kit.json import JSONDict
from providers.protocols.alternation import alternating
from providers.protocols.anthropic_messages import caching, thinking, tools
from providers.protocols.anthropic_messages.carried import SLUG
from providers.protocols.anthropic_messages.content import (
    MessageWriter,
    end_with_user,
    keeps_thinking,
)
from providers.protocols.canonical import CacheMark, ModelSpec, Request, ResponseFormat
from providers.protocols.codec import UpstreamCall
from providers.protocols.losses import Loss, LossCode
from providers.protocols.missing_knobs import (
    UNKNOWN_SAMPLING,
    refuse_state,
    report_extra,
    report_labels,
    report_sampling,
)
from providers.protocols.names import digest
from providers.protocols.response_formats import format_instruction
from providers.protocols.tool_calls import WireNames

VERSION: Final = "2023-06-01"
# When neither client nor catalog says how long an answer may be; the field is required.
DEFAULT_MAX_TOKENS: Final = 32_000

_EAGER_BETA: Final = "fine-grained-tool-streaming-2025-05-14"
_FALLBACK_BETA: Final = "server-side-fallback-2026-07-01"

_TIERS: Final = {"auto": "auto", "default": "standard_only", "standard_only": "standard_only"}
# Extra entries of our own decoder, handled where they belong.
_OURS: Final = frozenset(
    {
        "betas", "tool_callers", "unread_fields", "thinking", "effort",
        "output_config",
    }
)  # fmt: skip


def encode_request(request: Request, model: ModelSpec) -> UpstreamCall:
    losses: list[Loss] = []
    refuse_state(request, SLUG)
    names = WireNames(request.tools)
    turns = alternating(
        request,
        losses,
        keeps_thinking=lambda part: keeps_thinking(part, model),
        keeps_system=model.quirks.supports_mid_conversation_system,
        id_limit=model.quirks.max_tool_call_id_length or 64,
    )
    writer = MessageWriter(request, model, names, losses)
    messages = writer.messages(turns)
    declared, tool_marks, wants_eager = tools.declarations(request, model, names, losses)
    choice = tools.choice(request, names, losses, has_tools=bool(declared))
    max_tokens = _max_tokens(request, model, losses)
    thinks, effort = thinking.decide(
        request, model, max_tokens, losses, off_because=_cannot_think(messages, choice, model)
    )
    if choice is not None and choice["type"] in ("any", "tool") and _is_on(thinks):
        # Thinking that cannot be switched off allows only auto and none (trap 59).
        losses.append(
            Loss("tool_choice", LossCode.DROPPED, "this model always thinks: no forced tool")
        )
        choice = {key: value for key, value in choice.items() if key not in ("type", "name")}
        choice = {"type": "auto", **choice}
    end_with_user(
        messages,
        keeps_prefill=model.quirks.supports_prefill and not _is_on(thinks),
        losses=losses,
    )
    body: JSONDict = {"model": model.id, "max_tokens": max_tokens, "messages": messages}
    system, system_marks = _system(request, model, losses)
    if system:
        body["system"] = system
    if declared:
        body["tools"] = declared
    elif _has_tool_blocks(messages) and model.quirks.requires_tools_with_tool_history:
        body["tools"] = []
    if choice is not None:
        body["tool_choice"] = choice
    if thinks is not None:
        body["thinking"] = thinks
    _output_config(request, model, effort, body)
    _sampling(request, model, body, is_thinking=_is_on(thinks), losses=losses)
    _labels(request, body, losses)
    if request.stream:
        body["stream"] = True
    headers = _headers(request, model, body, losses, wants_eager=wants_eager)
    caching.place(
        request,
        model,
        system=system_marks,
        tools=tool_marks,
        messages=writer.marked,
        body=body,
        losses=losses,
    )
    names.report(losses)
    return UpstreamCall(
        path="/v1/messages",
        body=body,
        headers=headers,
        stream=request.stream,
        restore=names.restore(),
        losses=tuple(losses),
    )


_COUNTED: Final = (
    "model", "messages", "system", "tools", "tool_choice", "thinking", "output_config", "speed",
)  # fmt: skip


def encode_count_request(request: Request, model: ModelSpec) -> UpstreamCall:
    """The same request for count_tokens, which takes what fills the prompt and nothing else."""
    # The limit only has to leave room for thinking, or the count would miss it.
    roomy = msgspec.structs.replace(
        request,
        stream=False,
        sampling=msgspec.structs.replace(request.sampling, max_output_tokens=None),
    )
    call = encode_request(roomy, model)
    body = {key: call.body[key] for key in _COUNTED if key in call.body}
    return msgspec.structs.replace(call, path="/v1/messages/count_tokens", body=body)


def _max_tokens(request: Request, model: ModelSpec, losses: list[Loss]) -> int:
    wanted = request.sampling.max_output_tokens
    limit = model.max_output_tokens
    if wanted is None:
        return limit or DEFAULT_MAX_TOKENS
    if limit and wanted > limit:
        losses.append(
            Loss(
                "sampling.max_output_tokens",
                LossCode.CLAMPED,
                f"{wanted} is sent as the model's limit, {limit}",
            )
        )
        return limit
    return wanted


def _is_on(thinks: JSONDict | None) -> bool:
    return thinks is not None and thinks.get("type") != "disabled"


def _cannot_think(
    messages: list[JSONDict], choice: JSONDict | None, model: ModelSpec
) -> str | None:
    """Why thinking must be off although the client asked for it; None when it may be on."""
    if not thinking.can_be_off(model):
        return None
    if choice is not None and choice["type"] in ("any", "tool"):
        # The forced call is what the client builds on, thinking is how well it is made (59).
        return "a forced tool call and thinking exclude each other"
    if model.quirks.force_adaptive_thinking or len(messages) < 2:
        return None
    last, before = messages[-1], messages[-2]
    if (
        last["role"] == "user"
        and last["content"][0]["type"] == "tool_result"
        and before["role"] == "assistant"
        and before["content"][0]["type"] not in ("thinking", "redacted_thinking")
    ):
        # With a budget, the turn whose calls are answered must begin with its thinking.
        return "the client did not return the thinking that belongs to its tool calls"
    return None


def _has_tool_blocks(messages: list[JSONDict]) -> bool:
    return any(
        block["type"] in ("tool_use", "tool_result")
        for message in messages
        for block in message["content"]
    )


def _system(
    request: Request, model: ModelSpec, losses: list[Loss]
) -> tuple[list[JSONDict], list[tuple[JSONDict, CacheMark]]]:
    blocks: list[JSONDict] = []
    marked: list[tuple[JSONDict, CacheMark]] = []
    for entry in request.system:
        if not entry.text.strip():
            continue
        block: JSONDict = {"type": "text", "text": entry.text}
        blocks.append(block)
        if entry.cache is not None:
            marked.append((block, entry.cache))
    wanted = request.response_format
    if wanted is not None and not _is_native_format(wanted, model):
        instruction = format_instruction(wanted)
        if instruction:
            blocks.append({"type": "text", "text": instruction})
            losses.append(
                Loss("response_format", LossCode.EMULATED, "asked for in the system prompt")
            )
    return blocks, marked


def _is_native_format(wanted: ResponseFormat, model: ModelSpec) -> bool:
    return (
        wanted.kind == "json_schema"
        and wanted.schema is not None
        and model.quirks.supports_output_format
    )


def _output_config(request: Request, model: ModelSpec, effort: str | None, body: JSONDict) -> None:
    config: JSONDict = {}
    if request.dialect == SLUG:
        config.update(request.extra.get("output_config", {}))
    if effort is not None:
        config["effort"] = effort
    wanted = request.response_format
    if wanted is not None and _is_native_format(wanted, model):
        config["format"] = {"type": "json_schema", "schema": wanted.schema}
    if config:
        body["output_config"] = config


def _sampling(
    request: Request,
    model: ModelSpec,
    body: JSONDict,
    *,
    is_thinking: bool,
    losses: list[Loss],
) -> None:
    sampling = request.sampling

    def lose(name: str, why: str, code: LossCode = LossCode.DROPPED) -> None:
        losses.append(Loss(f"sampling.{name}", code, why))

    for name in ("temperature", "top_p", "top_k"):
        value = getattr(sampling, name)
        if value is None:
            continue
        problem = _refused(name, value, body, model, is_thinking=is_thinking)
        if problem is not None:
            lose(name, problem)
            continue
        if name == "temperature" and value > 1:
            lose(name, f"{value:g} is sent as 1, the highest here", LossCode.CLAMPED)
            value = 1.0
        body[name] = value
    stop = [text for text in sampling.stop if text.strip()]
    if len(stop) != len(sampling.stop):
        lose("stop", "stop sequences of white space only are refused")
    if stop:
        body["stop_sequences"] = stop
    report_sampling(request, losses, UNKNOWN_SAMPLING)


def _refused(
    name: str, value: float, body: JSONDict, model: ModelSpec, *, is_thinking: bool
) -> str | None:
    if not model.quirks.supports_temperature:
        return "this model takes no sampling parameters"
    if is_thinking:
        if name == "temperature" and value != 1:
            return "temperature must be 1 while the model thinks"
        if name == "top_k":
            return "refused while the model thinks"
        if name == "top_p" and value < 0.95:
            return "top_p below 0.95 is refused while the model thinks"
    if (
        name == "top_p"
        and "temperature" in body
        and not model.quirks.supports_top_p_with_temperature
    ):
        return "this model takes temperature or top_p, not both"
    return None


def _labels(request: Request, body: JSONDict, losses: list[Loss]) -> None:
    if request.end_user_id is not None:
        user_id = request.end_user_id
        if request.dialect != SLUG:
            # Stable per user, and tells the vendor nothing about them (trap 181).
            user_id = digest(user_id, 64)
            losses.append(Loss("end_user_id", LossCode.RENAMED, "sent as a hash"))
        body["metadata"] = {"user_id": user_id}
    for key in request.metadata:
        losses.append(Loss(f"metadata.{key}", LossCode.DROPPED, "only user_id is known here"))
    if request.service_tier is not None:
        tier = _TIERS.get(request.service_tier)
        if tier is None:
            losses.append(
                Loss("service_tier", LossCode.DROPPED, f"no tier {request.service_tier!r} here")
            )
        else:
            body["service_tier"] = tier
    report_labels(request, losses)


def _headers(
    request: Request,
    model: ModelSpec,
    body: JSONDict,
    losses: list[Loss],
    *,
    wants_eager: bool,
) -> dict[str, str]:
    """Protocol headers; puts the client's own fields into the body on the way."""
    headers = {"anthropic-version": VERSION}
    betas: list[str] = []
    if request.dialect == SLUG:
        betas.extend(request.extra.get("betas", ()))
        _extras(request, model, body, losses)
    else:
        report_extra(request, losses)
    if wants_eager:
        betas.append(_EAGER_BETA)
    if "fallbacks" in body:
        betas.append(_FALLBACK_BETA)
    if betas:
        headers["anthropic-beta"] = ",".join(dict.fromkeys(betas))
    cache_key = request.caching.key
    if cache_key is not None:
        if not model.quirks.send_session_affinity:
            losses.append(Loss("caching.key", LossCode.DROPPED, "caches here have no key"))
        elif model.quirks.session_affinity_format == "openrouter":
            headers["x-session-id"] = _affinity(cache_key)
        else:
            headers["x-session-affinity"] = _affinity(cache_key)
    return headers


def _affinity(key: str) -> str:
    # A client's text in a header: only what a header may hold, and not too long (trap 161).
    is_plain = len(key) <= 64 and key.isascii() and key.isprintable()
    return key if is_plain else digest(key, 32)


def _extras(request: Request, model: ModelSpec, body: JSONDict, losses: list[Loss]) -> None:
    for key, value in request.extra.items():
        if key in _OURS:
            continue
        if key == "fallbacks":
            allowed = _allowed_fallbacks(value, model, losses)
            if allowed:
                body[key] = allowed
        elif key == "thread" and not model.quirks.supports_message_threads:
            losses.append(Loss("extra.thread", LossCode.DROPPED, "no message threads here"))
        else:
            body[key] = value
    for path in request.extra.get("unread_fields", ()):
        losses.append(Loss(path, LossCode.DROPPED, "this field has no meaning we know"))


def _allowed_fallbacks(value: Any, model: ModelSpec, losses: list[Loss]) -> list[Any]:
    """Fallback models cost money: only those that the catalog allows for this model."""
    entries = value if isinstance(value, list) else []
    allowed = [
        entry
        for entry in entries
        if isinstance(entry, dict) and entry.get("model") in model.quirks.allowed_fallback_models
    ]
    if len(allowed) != len(entries) or not isinstance(value, list):
        losses.append(
            Loss("extra.fallbacks", LossCode.DROPPED, "a fallback model that is not allowed here")
        )
    return allowed[:3]
