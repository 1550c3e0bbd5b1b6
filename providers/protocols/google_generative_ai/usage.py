"""Token counts, Google's way and ours.

Google's prompt count includes cached tokens and excludes those that its own tools added; its
candidate count excludes thoughts (traps 149, 150).
"""

from __future__ import annotations

from typing import Any

import msgspec

from controlplane.kit.json import JSONDict
from providers.protocols.canonical import Usage
from providers.protocols.numbers import MAX_COUNT, count


class UsageMetadata(msgspec.Struct, rename="camel"):
    """Numbers are checked one by one: an upstream may send anything."""

    prompt_token_count: Any = 0
    cached_content_token_count: Any = 0
    candidates_token_count: Any = 0
    thoughts_token_count: Any = 0
    tool_use_prompt_token_count: Any = 0
    prompt_tokens_details: Any = None
    candidates_tokens_details: Any = None
    service_tier: Any = None


def usage_of(meta: UsageMetadata) -> Usage:
    prompt = count(meta.prompt_token_count)
    cached = min(count(meta.cached_content_token_count), prompt)
    thoughts = count(meta.thoughts_token_count)
    tier = meta.service_tier
    if meta.prompt_tokens_details is None and meta.candidates_tokens_details is None:
        audio_input = image_input = audio_output = image_output = 0
    else:
        audio_input, image_input = _media(meta.prompt_tokens_details)
        audio_output, image_output = _media(meta.candidates_tokens_details)
    return Usage(
        input=min(prompt - cached + count(meta.tool_use_prompt_token_count), MAX_COUNT),
        cache_read=cached,
        output=min(count(meta.candidates_token_count) + thoughts, MAX_COUNT),
        reasoning=thoughts,
        audio_input=audio_input,
        audio_output=audio_output,
        image_input=image_input,
        image_output=image_output,
        service_tier=tier.lower()[:64] if isinstance(tier, str) and tier else None,
    )


def _media(details: Any) -> tuple[int, int]:
    """Audio and image tokens of a list of `{modality, tokenCount}`."""
    if not isinstance(details, list):
        return 0, 0
    audio = image = 0
    for detail in details:
        # On every chunk, and mostly nothing but text.
        modality = detail.get("modality") if isinstance(detail, dict) else None
        if modality == "AUDIO":
            audio += count(detail.get("tokenCount"))
        elif modality == "IMAGE":
            image += count(detail.get("tokenCount"))
    return min(audio, MAX_COUNT), min(image, MAX_COUNT)


def metadata_of(usage: Usage) -> JSONDict:
    """For a client. Zeros are said where the vendor always says them, other fields only when
    there is something to say."""
    out: JSONDict = {
        "promptTokenCount": usage.prompt,
        "candidatesTokenCount": max(usage.output - usage.reasoning, 0),
        "totalTokenCount": usage.total,
    }
    if usage.cache_read:
        out["cachedContentTokenCount"] = usage.cache_read
    if usage.reasoning:
        out["thoughtsTokenCount"] = usage.reasoning
    if usage.audio_input or usage.image_input:
        out["promptTokensDetails"] = _details(usage.prompt, usage.audio_input, usage.image_input)
    if usage.audio_output or usage.image_output:
        out["candidatesTokensDetails"] = _details(
            usage.output - usage.reasoning, usage.audio_output, usage.image_output
        )
    return out


def _details(total: int, audio: int, image: int) -> list[JSONDict]:
    counts = {"TEXT": max(total - audio - image, 0), "AUDIO": audio, "IMAGE": image}
    return [
        {"modality": modality, "tokenCount": tokens}
        for modality, tokens in counts.items()
        if tokens
    ]
