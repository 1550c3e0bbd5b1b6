"""Does a statement's receipt still hold? It names an event by place and hash: the chain passes
through it, or somebody rewrote what the statement covered."""

from __future__ import annotations

import re
import uuid
from typing import Final

from tenants import scope
from tenants.usage.models import LedgerHead, UsageEvent

_HASH: Final = re.compile(r"[0-9a-f]{64}\Z")
_PLACE: Final = re.compile(r"[1-9][0-9]{0,17}\Z")


def read_receipt(text: str) -> tuple[int, str] | None:
    """`12 3f…` or `12:3f…`, as statements print it; None for what is no receipt."""
    place, _, digest = text.strip().lower().replace(":", " ").partition(" ")
    if not _PLACE.match(place) or not _HASH.match(digest.strip()):
        return None
    return int(place), digest.strip()


def broken_receipt(*, tenant_id: uuid.UUID, sequence: int, digest: str) -> str:
    """What is wrong with it, as a sentence; empty when the event is where it was, as it was. That
    all events before it are untouched too is what `verify` shows."""
    with scope.tenant(tenant_id):
        head = LedgerHead.objects.first()
        event = UsageEvent.objects.filter(sequence=sequence).first()
    if head is None or head.sequence < sequence:
        return f"The ledger ends before event {sequence:,}: the receipt is of another ledger."
    if event is None:
        return f"Event {sequence:,} is missing."
    if event.hash != digest:
        return f"Event {sequence:,} has another hash: what the receipt covers was rewritten."
    if event.expected_hash() != event.hash:
        return f"Event {sequence:,} was changed: it does not match its own hash."
    return ""
