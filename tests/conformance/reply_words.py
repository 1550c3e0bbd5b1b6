"""The dialects' words for why an answer ended (wire-protocols 14.10), written down by hand."""

from __future__ import annotations

from typing import Final

STOPS: Final[dict[str, dict[str, str]]] = {
    "openai-completions": {
        "stop": "stop",
        "stop_sequence": "stop",
        "length": "length",
        "tool_use": "tool_calls",
        "content_filter": "content_filter",
        "refusal": "content_filter",
    },
    # As `sdks` reads status, reason and items together.
    "openai-responses": {
        "stop": "stop",
        "stop_sequence": "stop",
        "length": "max_output_tokens",
        "tool_use": "tool_use",
        "content_filter": "content_filter",
        "refusal": "stop",
    },
    "anthropic-messages": {
        "stop": "end_turn",
        "stop_sequence": "stop_sequence",
        "length": "max_tokens",
        "tool_use": "tool_use",
        "content_filter": "refusal",
        "refusal": "refusal",
    },
    "google-generative-ai": {
        "stop": "STOP",
        "stop_sequence": "STOP",
        "length": "MAX_TOKENS",
        "tool_use": "STOP",
        "content_filter": "SAFETY",
        "refusal": "SAFETY",
        "error": "OTHER",
    },
}
