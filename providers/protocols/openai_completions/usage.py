"""Token counts of Chat Completions, with every vendor's spelling of the cached ones."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import Any, Final

from controlplane.kit.json import JSONDict
from providers.protocols.canonical import Usage
from providers.protocols.numbers import count

_NOTHING: Final[JSONDict] = {}
_MAX_COST: Final = Decimal(1_000_000)


def details_of(usage: JSONDict, *keys: str) -> JSONDict:
    for key in keys:
        value = usage.get(key)
        if type(value) is dict:
            return value
    return _NOTHING


def decode_usage(usage: JSONDict, service_tier: str | None = None) -> Usage:
    prompt = count(usage.get("prompt_tokens"))
    output = count(usage.get("completion_tokens"))
    before = details_of(usage, "prompt_tokens_details", "prompt_token_details")
    after = details_of(usage, "completion_tokens_details")
    # OpenAI | DeepSeek | Kimi | Mistral (trap 151).
    read = (
        count(before.get("cached_tokens"))
        or count(usage.get("prompt_cache_hit_tokens"))
        or count(usage.get("cached_tokens"))
        or count(usage.get("num_cached_tokens"))
    )
    read = min(read, prompt)
    written = min(count(before.get("cache_write_tokens")), prompt - read)
    reasoning = count(after.get("reasoning_tokens"))
    if reasoning and (
        reasoning > output or count(usage.get("total_tokens")) == prompt + output + reasoning
    ):
        # Some vendors count reasoning beside the completion; the total tells.
        output += reasoning
    searches = details_of(usage, "server_tool_use")
    return Usage(
        input=prompt - read - written,
        cache_read=read,
        cache_write=written,
        output=output,
        reasoning=reasoning,
        audio_input=count(before.get("audio_tokens")),
        audio_output=count(after.get("audio_tokens")),
        image_input=count(before.get("image_tokens")),
        image_output=count(after.get("image_tokens")),
        web_searches=count(searches.get("web_search_requests")),
        cost_usd=_cost(usage),
        service_tier=service_tier,
    )


def _cost(usage: JSONDict) -> str | None:
    """OpenRouter's own figure; with a key of one's own the vendor's bill comes on top."""
    cost = _money(usage.get("cost"))
    if cost is None:
        return None
    if usage.get("is_byok") is True:
        details = details_of(usage, "cost_details")
        cost += _money(details.get("upstream_inference_cost")) or 0
    return format(cost, "f")


def _money(value: Any) -> Decimal | None:
    if type(value) not in (int, float, str):
        return None
    try:
        text = str(value)
        money = Decimal(text) if len(text) <= 40 else None
    except (InvalidOperation, ValueError):
        return None
    if money is None or not money.is_finite() or not 0 <= money <= _MAX_COST:
        return None
    # Below a trillionth of a dollar is nothing, and "1e-9999999" is an attack on our formatting.
    return money if money.adjusted() >= -12 else Decimal(0)


def encode_usage(usage: Usage) -> JSONDict:
    """Zeros are written: typed clients expect the details (traps 159, 160)."""
    return {
        "prompt_tokens": usage.prompt,
        "completion_tokens": usage.output,
        "total_tokens": usage.total,
        "prompt_tokens_details": {
            "cached_tokens": usage.cache_read,
            "cache_write_tokens": usage.cache_write,
            "audio_tokens": usage.audio_input,
        },
        "completion_tokens_details": {
            "reasoning_tokens": usage.reasoning,
            "audio_tokens": usage.audio_output,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }
