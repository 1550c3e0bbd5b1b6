"""Chat Completions on both sides: the client's bytes, with only the fields changed that the
vendor needs otherwise."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, cast

from controlplane.kit.json import JSONDict, dumps
from providers.protocols import signatures
from providers.protocols.canonical import ModelSpec, Reasoning
from providers.protocols.codec import UpstreamCall
from providers.protocols.losses import Loss, LossCode
from providers.protocols.members import Members
from providers.protocols.openai_completions import reading
from providers.protocols.openai_completions.caching import affinity_headers
from providers.protocols.openai_completions.details import carried, entries_of
from providers.protocols.openai_completions.request import PATH, vendor_fields
from providers.protocols.openai_completions.splice import Object, applied, elements
from providers.protocols.openai_completions.thinking import thinking_fields

_LIMITS: Final = ("max_completion_tokens", "max_tokens")
_REASONING: Final = ("reasoning_content", "reasoning", "reasoning_text")
# How base64 of our own mark begins: nothing to look for where it does not occur.
_MARK: Final = b"cGNwMQ"


def relay_request(
    raw: bytes, body: Mapping[str, Any], model: ModelSpec, *, stream: bool
) -> tuple[UpstreamCall, bytes]:
    losses: list[Loss] = []
    patch = Object(raw, body=body)
    patch.set("model", dumps(model.id))
    _patch_stream(patch, body, model, stream, losses)
    _patch_store(patch, body, model, losses)
    _patch_limit(patch, model)
    _patch_thinking(patch, body, model, losses)
    if "prompt_cache_retention" in patch and not model.quirks.supports_long_cache_retention:
        patch.drop("prompt_cache_retention")
        losses.append(
            Loss("caching.retention", LossCode.DROPPED, "the vendor has no long cache lifetime")
        )
    _patch_array(patch, "messages", body, _message_patcher(raw, body, model, losses))
    if (
        not model.quirks.supports_strict_tools
        and "tools" in patch
        and b'"strict"' in patch.value("tools")
    ):
        _patch_array(
            patch, "tools", body, lambda tool, bytes_, path: _loose(tool, bytes_, path, losses)
        )
    for name, value in vendor_fields(
        model,
        has_tools=model.quirks.zai_tool_stream and bool(body.get("tools")),
        stream=stream,
        body=body,
    ).items():
        patch.set(name, dumps(value))
    key = body.get("prompt_cache_key")
    call = UpstreamCall(
        path=PATH,
        body={},
        headers=affinity_headers(key if type(key) is str else None, model),
        stream=stream,
        losses=tuple(losses),
    )
    return call, patch.render()


def _patch_stream(
    patch: Object, body: Mapping[str, Any], model: ModelSpec, stream: bool, losses: list[Loss]
) -> None:
    if bool(body.get("stream")) is not stream:
        patch.set("stream", b"true" if stream else b"false")
    has_options = "stream_options" in patch and body["stream_options"] is not None
    if not stream:
        if has_options:
            # Only allowed together with `stream`.
            patch.drop("stream_options")
        return
    if not model.quirks.supports_usage_in_streaming:
        if has_options:
            patch.drop("stream_options")
            losses.append(
                Loss("stream_options", LossCode.DROPPED, "the vendor refuses stream options")
            )
        return
    if not has_options:
        patch.set("stream_options", b'{"include_usage":true}')
        return
    options = Object(patch.value("stream_options"), "stream_options")
    options.set("include_usage", b"true")
    patch.set("stream_options", options.render())


def _patch_store(
    patch: Object, body: Mapping[str, Any], model: ModelSpec, losses: list[Loss]
) -> None:
    wish = body.get("store")
    if wish and not (model.store and model.quirks.supports_store):
        losses.append(Loss("store", LossCode.DROPPED, "answers are not kept at the vendor"))
    if not model.quirks.supports_store:
        if "store" in patch:
            patch.drop("store")
    elif not model.store or wish is None:
        patch.set("store", b"false")


def _patch_limit(patch: Object, model: ModelSpec) -> None:
    """One name for the limit, the one that this vendor knows (trap 169)."""
    wanted = model.quirks.max_tokens_field
    other = _LIMITS[1] if wanted == _LIMITS[0] else _LIMITS[0]
    if other not in patch:
        return
    if wanted in patch:
        if other == "max_completion_tokens":
            # The newer name counts when a client sends both.
            patch.set(wanted, patch.value(other))
        patch.drop(other)
    else:
        patch.rename(other, wanted)


def _patch_thinking(
    patch: Object, body: Mapping[str, Any], model: ModelSpec, losses: list[Loss]
) -> None:
    """OpenAI's effort in the vendor's own words; what is in its words already stays."""
    effort = body.get("reasoning_effort")
    if effort is None or not model.reasoning:
        return
    level = reading.level(effort, "reasoning_effort")
    if level == "off" and "off" not in model.levels and model.quirks.thinking_format == "openai":
        # Nobody said whether this model knows the word: the vendor judges.
        return
    reasoning = Reasoning(level=level)
    fields = thinking_fields(reasoning, model, losses)
    if "reasoning_effort" not in fields:
        patch.drop("reasoning_effort")
    for name, value in fields.items():
        if name == "reasoning_effort" or name not in patch:
            patch.set(name, dumps(value))


Patcher = Callable[[JSONDict, bytes, str], bytes | None]


def _patch_array(patch: Object, key: str, body: Mapping[str, Any], patcher: Patcher | None) -> None:
    """Elements are rewritten one by one; the others stay as they are."""
    if patcher is None or key not in patch:
        # Nothing is decoded that nobody may want to change.
        return
    values = body.get(key)
    if type(values) is not list:
        return
    raw = patch.value(key)
    edits: list[tuple[int, int, bytes]] = []
    for index, (start, end) in enumerate(elements(raw)):
        value = values[index]
        if type(value) is dict:
            changed = patcher(value, raw[start:end], f"{key}[{index}]")
            if changed is not None:
                edits.append((start, end, changed))
    if edits:
        patch.set(key, applied(raw, edits))


def _loose(tool: JSONDict, raw: bytes, path: str, losses: list[Loss]) -> bytes | None:
    inner = tool.get("function")
    if type(inner) is not dict or "strict" not in inner:
        return None
    outer = Object(raw, path)
    function = Object(outer.value("function"), f"{path}.function")
    function.drop("strict")
    outer.set("function", function.render())
    if inner["strict"]:
        losses.append(Loss(f"{path}.strict", LossCode.DROPPED, "the vendor has no strict tools"))
    return outer.render()


def _may_have_details(body: Mapping[str, Any]) -> bool:
    """Looking through the whole text for marks costs more than looking who could have one."""
    entries = body.entries("messages") if isinstance(body, Members) else None
    return entries is None or any("reasoning_details" in entry for entry in entries)


def _message_patcher(
    raw: bytes, body: Mapping[str, Any], model: ModelSpec, losses: list[Loss]
) -> Patcher | None:
    """None when no message can need a change: then the array is not even looked at."""
    quirks = model.quirks
    has_marks = _may_have_details(body) and _MARK in raw
    has_developer = not quirks.supports_developer_role and b"developer" in raw
    if not (
        has_marks
        or has_developer
        or quirks.requires_reasoning_content
        or quirks.requires_non_null_assistant_content
        or quirks.requires_tool_result_name
        or quirks.reasoning_replay_field
    ):
        return None
    names = _names_of_calls(body) if quirks.requires_tool_result_name else {}

    def patched(message: JSONDict, own: bytes, path: str) -> bytes | None:
        patch = Object(own, path)
        role = message.get("role")
        if role == "developer" and has_developer:
            patch.set("role", b'"system"')
        elif role == "assistant":
            if has_marks and type(message.get("reasoning_details")) is list:
                _patch_details(patch, message["reasoning_details"], model, path, losses)
            _patch_reasoning(patch, message, model)
            if quirks.requires_non_null_assistant_content and message.get("content") is None:
                patch.set("content", b'""')
        elif role == "tool" and quirks.requires_tool_result_name and not message.get("name"):
            name = names.get(cast("str", message.get("tool_call_id")))
            if name is not None:
                patch.set("name", dumps(name))
        changed = patch.render()
        return changed if changed != own else None

    return patched


def _patch_reasoning(patch: Object, message: JSONDict, model: ModelSpec) -> None:
    quirks = model.quirks
    wanted = quirks.reasoning_replay_field
    if wanted is not None and wanted not in patch:
        for name in _REASONING:
            if message.get(name) and type(message[name]) is str:
                patch.rename(name, wanted)
                break
    if (
        quirks.requires_reasoning_content
        and "reasoning_content" not in patch
        and not (wanted == "reasoning_content" and any(message.get(n) for n in _REASONING))
    ):
        patch.set("reasoning_content", b'""')


def _patch_details(
    patch: Object, details: list[object], model: ModelSpec, path: str, losses: list[Loss]
) -> None:
    """Proofs that we marked go home unwrapped, or not at all (trap 94)."""
    kept: list[object] = []
    for entry in details:
        proof = carried(entry) if type(entry) is dict else None
        if proof is None:
            kept.append(entry)
        elif signatures.belongs_to(proof, model):
            kept.extend(entries_of(proof))
        else:
            losses.append(
                Loss(
                    f"{path}.reasoning_details",
                    LossCode.SIGNATURE_DROPPED,
                    "the proof of another vendor or model",
                )
            )
    if kept == details:
        return
    if kept:
        patch.set("reasoning_details", dumps(kept))
    else:
        patch.drop("reasoning_details")


def _names_of_calls(body: Mapping[str, Any]) -> dict[str, str]:
    names: dict[str, str] = {}
    messages = body.get("messages")
    for message in messages if type(messages) is list else ():
        calls = message.get("tool_calls") if type(message) is dict else None
        for call in calls if type(calls) is list else ():
            inner = call.get("function") if type(call) is dict else None
            if type(inner) is dict and type(inner.get("name")) is str:
                names[str(call.get("id"))] = inner["name"]
    return names
