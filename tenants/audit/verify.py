"""Reads chains from their first event to their head and says what does not fit."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from django.db.models import QuerySet

from controlplane.kit import json
from controlplane.kit.errors import FaultKind
from tenants import scope
from tenants.audit.chain import Content, digest, genesis, spell
from tenants.audit.models import AuditEvent, AuditHead
from tenants.errors import TenantError

_CHUNK: Final = 2_000
# Enough to see what happened; one deleted row in a broken chain must not print a million lines.
MOST_FINDINGS: Final = 100

_COLUMNS: Final = (
    *("format", "chain", "sequence", "id", "created_at", "tenant_id", "tenant_slug"),
    *("actor_kind", "actor_id", "actor_label", "address", "action"),
    *("target_model", "target_id", "target_label", "before_json", "after_json"),
    *("previous_hash", "hash"),
)


class UnreadableHeads(TenantError):
    """The file is not what `audit export-head` writes."""

    kind = FaultKind.BAD_REQUEST
    code = "audit_heads_unreadable"


@dataclass(frozen=True, slots=True)
class Head:
    sequence: int
    hash: str


@dataclass(frozen=True, slots=True)
class Finding:
    """One place where a chain does not fit."""

    chain: str
    sequence: int
    what: str

    def __str__(self) -> str:
        return f"{self.chain} #{self.sequence}: {self.what}"


@dataclass(slots=True)
class Report:
    events: int = 0
    chains: int = 0
    findings: list[Finding] = field(default_factory=list)
    has_more: bool = False

    def add(self, chain: str, sequence: int, what: str) -> None:
        if len(self.findings) < MOST_FINDINGS:
            self.findings.append(Finding(chain, sequence, what))
        else:
            self.has_more = True


@dataclass(slots=True)
class _Walk:
    """Where the reading of one chain has come to."""

    chain: str
    sequence: int
    hash: str
    # Heads that this chain must pass through: the stored one and the exported one.
    stored: Head | None
    exported: Head | None


def verify(
    *,
    chain: str | None = None,
    exported: Mapping[str, Head] | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> Report:
    """Checks one chain, or all of them. May run while events are being written.

    Without `exported` heads, whoever can write to the database past its triggers may cut a
    chain's end and move its head back, or rewrite it whole, unseen: so export heads regularly
    and keep them elsewhere.
    """
    with scope.platform("audit verification"):
        return _verify(chain, exported or {}, on_progress)


def _verify(
    only: str | None, exported: Mapping[str, Head], on_progress: Callable[[int], None] | None
) -> Report:
    report = Report()
    # Heads first: what is written while we read lies behind them.
    heads = stored_heads(only)
    walk: _Walk | None = None
    seen: dict[str, int] = {}
    for row in _rows(only):
        chain = row[1]
        if walk is None or walk.chain != chain:
            _end(walk, report)
            walk = _Walk(chain, 0, genesis(chain), heads.get(chain), exported.get(chain))
            report.chains += 1
        _step(walk, row, report)
        seen[chain] = walk.sequence
        report.events += 1
        if on_progress is not None:
            on_progress(1)
    _end(walk, report)
    for chain, head in {**heads, **exported}.items():
        if chain not in seen and head.sequence > 0 and only in {None, chain}:
            report.add(chain, 1, f"all {head.sequence:,} events of this chain are missing")
    # Heads again: an event past them is one that no record() wrote.
    for chain, head in stored_heads(only).items():
        if seen.get(chain, 0) > head.sequence:
            report.add(
                chain,
                head.sequence + 1,
                f"events up to #{seen[chain]} follow the chain's head: they were inserted, "
                "or the head was moved back",
            )
    return report


def _step(walk: _Walk, row: tuple[Any, ...], report: Report) -> None:
    *covered, previous_hash, stored_hash = row
    content = _content(covered)
    chain, sequence = walk.chain, content.sequence
    if sequence != walk.sequence + 1:
        count = sequence - walk.sequence - 1
        report.add(
            chain,
            walk.sequence + 1,
            f"{count:,} event{'s are' if count != 1 else ' is'} missing before #{sequence}"
            if count > 0
            else f"#{sequence} stands out of order",
        )
    elif previous_hash != walk.hash:
        report.add(
            chain,
            sequence,
            "does not follow the event before it: one of the two was replaced, inserted or moved",
        )
    if digest(previous_hash, content) != stored_hash:
        report.add(chain, sequence, f"was edited ({content.action}, event {content.id})")
    walk.sequence, walk.hash = sequence, stored_hash
    for head, name in ((walk.stored, "stored"), (walk.exported, "exported")):
        if head is not None and head.sequence == sequence and head.hash != stored_hash:
            report.add(chain, sequence, f"is not the event that the {name} head names")


def _end(walk: _Walk | None, report: Report) -> None:
    if walk is None:
        return
    if walk.stored is None:
        report.add(walk.chain, walk.sequence, "the chain's head is missing")
    elif walk.stored.sequence > walk.sequence:
        report.add(
            walk.chain,
            walk.sequence + 1,
            f"the end is cut off: the stored head is at #{walk.stored.sequence}",
        )
    if walk.exported is not None and walk.exported.sequence > walk.sequence:
        report.add(
            walk.chain,
            walk.sequence + 1,
            f"the end is cut off: the exported head is at #{walk.exported.sequence}",
        )


def stored_heads(chain: str | None = None) -> dict[str, Head]:
    heads = AuditHead.objects.all() if chain is None else AuditHead.objects.filter(chain=chain)
    return {
        name: Head(sequence, hash_)
        for name, sequence, hash_ in heads.order_by("chain").values_list(
            "chain", "sequence", "hash"
        )
    }


def export_heads(now: datetime) -> bytes:
    """A small JSON document to be kept where the database's owner cannot reach it."""
    return json.dumps(
        {
            "format": 1,
            "exported_at": now.isoformat(),
            "chains": {
                chain: {"sequence": head.sequence, "hash": head.hash}
                for chain, head in stored_heads().items()
            },
        }
    )


def read_heads(document: bytes) -> dict[str, Head]:
    """What export_heads wrote. Raises UnreadableHeads."""
    try:
        content = json.loads_dict(document)
        if content["format"] != 1:
            raise UnreadableHeads(f"This is format {content['format']}, this version reads 1.")
        heads = {
            str(chain): Head(int(head["sequence"]), str(head["hash"]))
            for chain, head in content["chains"].items()
        }
    except (json.InvalidJSON, KeyError, TypeError, ValueError, AttributeError):
        raise UnreadableHeads(
            "This is not a file that `manage.py audit export-head` wrote."
        ) from None
    return heads


def export_events(chain: str | None = None, since: datetime | None = None) -> Iterator[bytes]:
    """Events as JSON, one a line, chain by chain, with their hashes. Call it in the scope that
    says whose events; hold that scope while reading."""
    for row in _rows(chain, since):
        *covered, previous_hash, stored_hash = row
        content = _content(covered)
        yield json.dumps(
            {
                "chain": content.chain,
                "sequence": content.sequence,
                "id": content.id,
                "at": content.at,
                "tenant": {"id": content.tenant_id, "slug": content.tenant_slug},
                "actor": {
                    "kind": content.actor_kind,
                    "id": content.actor_id,
                    "label": content.actor_label,
                    "address": content.address,
                },
                "action": content.action,
                "target": {
                    "model": content.target_model,
                    "id": content.target_id,
                    "label": content.target_label,
                },
                "before": json.loads(content.before) if content.before else None,
                "after": json.loads(content.after) if content.after else None,
                "format": content.format,
                "previous_hash": previous_hash,
                "hash": stored_hash,
            }
        )


def _rows(chain: str | None, since: datetime | None = None) -> Iterator[tuple[Any, ...]]:
    events: QuerySet[AuditEvent] = AuditEvent.objects.all()
    if chain is not None:
        events = events.filter(chain=chain)
    if since is not None:
        events = events.filter(created_at__gte=since)
    return events.order_by("chain", "sequence").values_list(*_COLUMNS).iterator(chunk_size=_CHUNK)


def _content(covered: list[Any]) -> Content:
    format_, chain, sequence, event_id, at, tenant_id, *rest = covered
    return Content(
        format_,
        chain,
        sequence,
        _uuid_text(event_id),
        spell(at),
        _uuid_text(tenant_id),
        *rest,
    )


def _uuid_text(value: uuid.UUID | None) -> str:
    return "" if value is None else str(value)
