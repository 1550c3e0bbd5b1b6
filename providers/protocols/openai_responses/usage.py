"""Token counts of Responses: both directions."""

from __future__ import annotations

from controlplane.kit.json import JSONDict
from providers.protocols.canonical import Usage
from providers.protocols.numbers import count
from providers.protocols.openai_completions.usage import details_of


def decode_usage(usage: JSONDict, response: JSONDict | None = None) -> Usage:
    """`response` also knows the tier that served and the searches that were made."""
    prompt = count(usage.get("input_tokens"))
    before = details_of(usage, "input_tokens_details")
    after = details_of(usage, "output_tokens_details")
    read = min(count(before.get("cached_tokens")), prompt)
    written = min(count(before.get("cache_write_tokens")), prompt - read)
    lifetimes = details_of(before, "cache_write_tokens_details")
    tier = response.get("service_tier") if response else None
    tools = details_of(response, "tool_usage") if response else {}
    searches = details_of(tools, "web_search")
    return Usage(
        input=prompt - read - written,
        cache_read=read,
        cache_write=written,
        # The longer of the vendor's two lifetimes.
        cache_write_1h=min(count(lifetimes.get("ttl_12h_tokens")), written),
        output=count(usage.get("output_tokens")),
        reasoning=count(after.get("reasoning_tokens")),
        audio_input=count(before.get("audio_tokens")),
        audio_output=count(after.get("audio_tokens")),
        image_input=count(before.get("image_tokens")),
        web_searches=count(searches.get("num_requests")),
        service_tier=tier if type(tier) is str else None,
    )


def encode_usage(usage: Usage) -> JSONDict:
    """Both details are required fields of typed clients (trap 159)."""
    return {
        "input_tokens": usage.prompt,
        "input_tokens_details": {
            "cached_tokens": usage.cache_read,
            "cache_write_tokens": usage.cache_write,
        },
        "output_tokens": usage.output,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning},
        "total_tokens": usage.total,
    }
