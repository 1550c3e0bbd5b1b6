"""What is written in a journal: requests that were let in, how requests ended, and which of them
went back to the database. One record for each group of them."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

import msgspec

from tenants.quotas.policy import Decision
from tenants.usage.group import Begin, Settle
from tenants.usage.outcome import (
    COUNTS,
    MOST_NANOS,
    Held,
    HeldTake,
    Outcome,
    TargetFacts,
    count,
    milliseconds,
)
from tenants.usage.writing import Part


class Begun(msgspec.Struct, tag="begun"):
    """Let in while the database was away."""

    hold_id: uuid.UUID
    held: Held


class Ended(msgspec.Struct, tag="ended"):
    """How a request ended. Without parts it never happened."""

    hold_id: uuid.UUID
    held: Held
    parts: list[Part]
    would_refuse: str
    # Granted without anybody hearing of it: given back.
    unsure: list[HeldTake]
    # False: it was let in without a row, and nothing names it but this.
    has_row: bool


class Returned(msgspec.Struct, tag="returned"):
    """These are held in the database now: what becomes of them is written there."""

    hold_ids: list[uuid.UUID]


Line = Begun | Ended | Returned
_decoder: Final = msgspec.json.Decoder(list[Line])
_encoder: Final = msgspec.json.Encoder()


def encode(lines: Sequence[Line]) -> bytes:
    return _encoder.encode(lines)


def decode(record: bytes) -> list[Line]:
    return _decoder.decode(record)


def ended(settle: Settle) -> Ended:
    """Raises ValueError and TypeError for what no settlement can be made of."""
    held = settle.held
    unsure: Sequence[HeldTake] = ()
    if settle.unsure is not None:
        begin, asked = settle.unsure
        if begin.decision is not None and begin.decision.refused is None:
            unsure = asked
        else:
            held = msgspec.structs.replace(held, takes=held.takes[: len(held.takes) - len(asked)])
    return Ended(
        settle.hold_id,
        held,
        [replace(part, outcome=_sane(part.outcome), target=_bare(part)) for part in settle.parts],
        settle.would_refuse,
        list(unsure),
        settle.has_row,
    )


def begin_of(line: Begun | Ended) -> Begin:
    return Begin(line.hold_id, line.held, ())


def settle_of(line: Ended) -> Settle:
    unsure = None
    if line.unsure:
        granted = Begin(line.hold_id, line.held, (), decision=Decision(()))
        unsure = (granted, line.unsure)
    return Settle(line.hold_id, line.held, line.parts, unsure, line.would_refuse)


def _bare(part: Part) -> TargetFacts | None:
    """A settlement asks no limit any more."""
    return None if part.target is None else replace(part.target, own_rules=())


def _sane(outcome: Outcome) -> Outcome:
    """What the ledger would make of it: JSON knows no infinity, and no number without bounds."""
    first_byte_ms = outcome.first_byte_ms
    counts: dict[str, Any] = {name: count(getattr(outcome, name)) for name in COUNTS}
    return replace(
        outcome,
        status=int(outcome.status),
        cost_nanos=count(outcome.cost_nanos, MOST_NANOS),
        charge_nanos=count(outcome.charge_nanos, MOST_NANOS),
        first_byte_ms=None if first_byte_ms is None else milliseconds(first_byte_ms),
        latency_ms=milliseconds(outcome.latency_ms) or 0,
        **counts,
    )
