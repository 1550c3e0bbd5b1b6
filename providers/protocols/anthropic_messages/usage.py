"""Token counts, from and to the Messages API."""

from __future__ import annotations

from typing import Any

from controlplane.kit.json import JSONDict
from providers.protocols import numbers
from providers.protocols.canonical import Usage


class UsageReader:
    """Puts the counts of message_start and message_delta together.

    Counts are cumulative; null, absent and (for the prompt) zero keep what was known, unless
    the update brings a whole new prompt breakdown (trap 129).
    """

    __slots__ = ("_known", "is_seen")

    def __init__(self) -> None:
        self._known: JSONDict = {}
        self.is_seen = False

    def update(self, value: Any) -> bool:
        """Whether anything was learnt."""
        if not isinstance(value, dict) or not value:
            return False
        self.is_seen = True
        known = self._known
        prompt = {
            key: numbers.count(value.get(key))
            for key in ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")
        }
        is_breakdown = sum(prompt.values()) > 0 and all(
            value.get(key) is not None for key in prompt
        )
        for key, count in prompt.items():
            if count or is_breakdown:
                known[key] = count
        output = numbers.count(value.get("output_tokens"))
        if output:
            known["output_tokens"] = output
        for key in ("cache_creation", "output_tokens_details", "server_tool_use"):
            details = value.get(key)
            if isinstance(details, dict):
                known[key] = details
        if isinstance(value.get("service_tier"), str):
            known["service_tier"] = value["service_tier"]
        return True

    @property
    def usage(self) -> Usage:
        known = self._known
        creation = known.get("cache_creation", {})
        long = numbers.count(creation.get("ephemeral_1h_input_tokens"))
        short = numbers.count(creation.get("ephemeral_5m_input_tokens"))
        write = known.get("cache_creation_input_tokens", 0) or long + short
        output = known.get("output_tokens", 0)
        details = known.get("output_tokens_details", {})
        return Usage(
            input=known.get("input_tokens", 0),
            cache_read=known.get("cache_read_input_tokens", 0),
            cache_write=write,
            cache_write_1h=min(long, write),
            output=output,
            reasoning=min(numbers.count(details.get("thinking_tokens")), output),
            web_searches=numbers.count(known.get("server_tool_use", {}).get("web_search_requests")),
            service_tier=known.get("service_tier"),
        )


def of_value(value: Any) -> Usage | None:
    reader = UsageReader()
    return reader.usage if reader.update(value) else None


def delta_body(usage: Usage) -> JSONDict:
    """What message_delta carries."""
    body: JSONDict = {
        "input_tokens": usage.input,
        "cache_creation_input_tokens": usage.cache_write,
        "cache_read_input_tokens": usage.cache_read,
        "output_tokens": usage.output,
    }
    if usage.reasoning:
        body["output_tokens_details"] = {"thinking_tokens": usage.reasoning}
    if usage.web_searches:
        body["server_tool_use"] = {
            "web_search_requests": usage.web_searches,
            "web_fetch_requests": 0,
        }
    return body


def message_body(usage: Usage) -> JSONDict:
    """What a whole message carries."""
    body = delta_body(usage)
    body["cache_creation"] = {
        "ephemeral_5m_input_tokens": usage.cache_write - usage.cache_write_1h,
        "ephemeral_1h_input_tokens": usage.cache_write_1h,
    }
    if usage.service_tier in ("standard", "priority", "batch"):
        body["service_tier"] = usage.service_tier
    return body
