"""Responses on both sides: the client's bytes, with only the fields changed that the vendor
needs otherwise."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from controlplane.kit.json import dumps
from providers.protocols import levels, signatures
from providers.protocols.canonical import ModelSpec
from providers.protocols.codec import UpstreamCall
from providers.protocols.losses import Loss, LossCode
from providers.protocols.openai_completions import reading
from providers.protocols.openai_completions.caching import affinity_headers
from providers.protocols.openai_completions.splice import Object, applied, elements
from providers.protocols.openai_responses import carriers
from providers.protocols.openai_responses.client_request import ENCRYPTED
from providers.protocols.openai_responses.request import PATH

# How base64 of our own mark begins: nothing to look for where it does not occur.
_MARK: Final = b"cGNwMQ"


def relay_request(
    raw: bytes, body: Mapping[str, Any], model: ModelSpec, *, stream: bool
) -> tuple[UpstreamCall, bytes]:
    patch, losses = patched(raw, body, model, stream=stream)
    return relayed(patch, body, model, losses, stream=stream)


def relayed(
    patch: Object,
    body: Mapping[str, Any],
    model: ModelSpec,
    losses: list[Loss],
    *,
    stream: bool,
    query: dict[str, str] | None = None,
) -> tuple[UpstreamCall, bytes]:
    key = body.get("prompt_cache_key")
    call = UpstreamCall(
        path=PATH,
        body={},
        query=query or {},
        headers=affinity_headers(key if type(key) is str else None, model),
        stream=stream,
        losses=tuple(losses),
    )
    return call, patch.render()


def patched(
    raw: bytes, body: Mapping[str, Any], model: ModelSpec, *, stream: bool
) -> tuple[Object, list[Loss]]:
    losses: list[Loss] = []
    patch = Object(raw, body=body)
    patch.set("model", dumps(model.id))
    if bool(body.get("stream")) is not stream:
        patch.set("stream", b"true" if stream else b"false")
    if not stream and body.get("stream_options") is not None:
        patch.drop("stream_options")
    _patch_store(patch, body, model, losses)
    quirks = model.quirks
    if not quirks.supports_max_output_tokens and "max_output_tokens" in patch:
        patch.drop("max_output_tokens")
        losses.append(
            Loss("sampling.max_output_tokens", LossCode.DROPPED, "the vendor sets its own")
        )
    if not quirks.supports_long_cache_retention and "prompt_cache_retention" in patch:
        patch.drop("prompt_cache_retention")
        losses.append(
            Loss("caching.retention", LossCode.DROPPED, "the vendor has no long cache lifetime")
        )
    _patch_effort(patch, body, model, losses)
    if _MARK in raw:
        _patch_proofs(patch, body, model, losses)
    return patch, losses


def _patch_store(
    patch: Object, body: Mapping[str, Any], model: ModelSpec, losses: list[Loss]
) -> None:
    if model.store:
        return
    if body.get("store") is False:
        return
    if body.get("store"):
        losses.append(Loss("store", LossCode.DROPPED, "answers are not kept at the vendor"))
    # Left out it would mean true.
    patch.set("store", b"false")
    include = body.get("include")
    if not model.reasoning or not (include is None or type(include) is list):
        return
    # The client counted on the store; this keeps its reasoning over turns all the same.
    if ENCRYPTED not in (include or ()):
        patch.set("include", dumps([*(include or ()), ENCRYPTED]))


def _patch_effort(
    patch: Object, body: Mapping[str, Any], model: ModelSpec, losses: list[Loss]
) -> None:
    wish = body.get("reasoning")
    effort = wish.get("effort") if type(wish) is dict else None
    if effort is None or not model.reasoning:
        return
    level = reading.level(effort, "reasoning.effort")
    wanted = levels.clamp(level, model)
    if level == "off" or wanted is None:
        word = model.levels.get("off")
        if word is None:
            # The vendor judges: nothing says how this model is kept from thinking.
            return
    else:
        word = levels.word(wanted, model)
        if wanted != level:
            losses.append(
                Loss("reasoning.level", LossCode.CLAMPED, f"{level!r} is sent as {wanted!r}")
            )
    inner = Object(patch.value("reasoning"), "reasoning")
    inner.set("effort", dumps(word))
    patch.set("reasoning", inner.render())


def _patch_proofs(
    patch: Object, body: Mapping[str, Any], model: ModelSpec, losses: list[Loss]
) -> None:
    """Reasoning of other vendors is no business of this one; its own goes home unwrapped."""
    items = body.get("input")
    if type(items) is not list:
        return
    raw = patch.value("input")
    kept: list[bytes] = []
    edits: list[tuple[int, int, bytes]] = []
    is_dropped = False
    for index, (start, end) in enumerate(elements(raw)):
        item = items[index]
        own = raw[start:end]
        encrypted = item.get("encrypted_content") if type(item) is dict else None
        if type(encrypted) is str and encrypted.startswith(_MARK.decode()):
            proof = carriers.read(encrypted)
            if proof.of != "thinking" or not signatures.belongs_to(proof.signature, model):
                is_dropped = True
                losses.append(
                    Loss(
                        f"input[{index}]",
                        LossCode.SIGNATURE_DROPPED,
                        "the reasoning of another vendor or model",
                    )
                )
                continue
            inner = Object(own, f"input[{index}]")
            inner.set("encrypted_content", dumps(proof.signature.value))
            own = inner.render()
            edits.append((start, end, own))
        kept.append(own)
    if is_dropped:
        patch.set("input", b"[" + b",".join(kept) + b"]")
    elif edits:
        patch.set("input", applied(raw, edits))
