"""The hash of one event: what it covers, and in which spelling. Pure.

Never change the spelling of a format: make a new one with the next number, and keep this.
"""

from __future__ import annotations

import hashlib
import uuid
from dataclasses import astuple, dataclass
from datetime import UTC, datetime
from typing import Final

from controlplane.kit import json

FORMAT: Final = 1
PLATFORM: Final = "platform"


@dataclass(frozen=True, slots=True)
class Content:
    """Everything the hash covers, in the order it covers it. Text as stored, dates as UTC."""

    format: int
    chain: str
    sequence: int
    id: str
    at: str
    tenant_id: str
    tenant_slug: str
    actor_kind: str
    actor_id: str
    actor_label: str
    address: str
    action: str
    target_model: str
    target_id: str
    target_label: str
    before: str
    after: str


def chain_of(tenant_id: uuid.UUID | None) -> str:
    return PLATFORM if tenant_id is None else str(tenant_id)


def genesis(chain: str) -> str:
    """What the first event of a chain follows: no chain's events fit into another."""
    return hashlib.sha256(b"pcp.audit\n" + chain.encode()).hexdigest()


def digest(previous_hash: str, content: Content) -> str:
    # A JSON array spells every boundary, so no two contents have the same bytes.
    return hashlib.sha256(json.dumps([previous_hash, *astuple(content)])).hexdigest()


def spell(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="microseconds")
