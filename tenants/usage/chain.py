"""The hash of one usage event: what it covers, and in which spelling. Pure.

Never change the spelling of a format: make a new one with the next number, and keep this.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Sequence
from typing import Any, Final

import msgspec

FORMAT: Final = 1
Content = Sequence[Any]
# The columns that the hash covers, in its order.
HASHED: Final = (
    *("format", "id", "created_at", "tenant_id", "sequence", "entry", "request_id", "part"),
    *("settled_at", "key_id", "member_id", "operation"),
    *("provider", "credential_id", "credential_label", "model_asked", "model_served"),
    *("client_protocol", "upstream_protocol"),
    *("input", "cache_read", "cache_write", "output", "reasoning"),
    *("audio_input", "audio_output", "image_input", "image_output"),
    *("usage_source", "estimated_input", "estimated_output", "price_basis", "price_version"),
    *("cost_nanos", "charge_nanos", "estimated_nanos", "currency_note"),
    *("latency_ms", "first_byte_ms", "status", "error_code", "finish_reason"),
    *("is_stream", "is_interrupted", "trace_id", "counted", "would_refuse", "reason", "author"),
)

_encoder: Final = msgspec.json.Encoder()


def genesis(tenant_id: uuid.UUID) -> str:
    """What the first event of a chain follows: no chain's events fit into another."""
    return hashlib.sha256(b"pcp.usage\n" + str(tenant_id).encode()).hexdigest()


def digest(previous_hash: str, content: Content) -> str:
    # A JSON array spells every boundary, so no two contents have the same bytes. Times are
    # spelled as ISO 8601 in UTC and ids with hyphens, whatever the database made of them.
    spelled = (previous_hash, *content)
    return hashlib.sha256(_encoder.encode(spelled)).hexdigest()
