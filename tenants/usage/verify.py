"""Does everything that was counted follow from what was written?

Chains, heads, postings and counters move in one transaction each; so a moment at which nobody
writes shows them all as they belong together. That moment is noted first, quickly; the long walk
over the events then runs beside the traffic and is held against the note.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from django.db import transaction
from django.db.models import Count, Sum

from controlplane.kit import json
from tenants import scope
from tenants.quotas.models import Counter, CounterState
from tenants.usage.chain import genesis
from tenants.usage.models import (
    Hold,
    LedgerCheckpoint,
    LedgerHead,
    Posting,
    Rollup,
    RollupMark,
    UsageEvent,
)
from tenants.usage.retention import digest_of, sealed_digest
from tenants.usage.writing import read_held

MOST_FINDINGS: Final = 100
_CHUNK: Final = 2_000
_TRIES: Final = 3
# Hours are dropped after a while: what is left of them equals nothing.
_WHOLE_HISTORY: Final = ("day", "day_sum")


@dataclass(frozen=True, slots=True)
class Finding:
    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


@dataclass(slots=True)
class Report:
    events: int = 0
    chains: int = 0
    counters: int = 0
    findings: list[Finding] = field(default_factory=list)
    has_more: bool = False

    def add(self, where: str, what: str) -> None:
        if len(self.findings) < MOST_FINDINGS:
            self.findings.append(Finding(where, what))
        else:
            self.has_more = True

    def take(self, other: Report) -> None:
        """What was found of one tenant, whose events were counted on from ours."""
        self.events = other.events
        self.chains += other.chains
        for finding in other.findings:
            self.add(finding.where, finding.what)
        self.has_more = self.has_more or other.has_more


@dataclass(slots=True)
class _Note:
    """How things stood at one moment."""

    heads: dict[uuid.UUID, tuple[int, str]]
    counters: dict[str, tuple[int, int]]
    reserved: dict[str, int]
    is_cache: bool


def verify(
    *, tenant_id: uuid.UUID | None = None, on_progress: Callable[[int], None] | None = None
) -> Report:
    """Checks one tenant's chain and postings, or everything there is. May run beside traffic."""
    report = Report()
    with scope.platform("verification of the ledger"):
        note = _note()
        counted: dict[str, int] = dict.fromkeys(note.counters, 0)
        for owner, head in sorted(note.heads.items()):
            if tenant_id is None or owner == tenant_id:
                _check_owner(owner, head, counted, report, on_progress)
        if tenant_id is None:
            _check_headless(note, report)
            _check_counters(note, counted, report)
    return report


def _check_owner(
    owner: uuid.UUID,
    head: tuple[int, str],
    counted: dict[str, int],
    report: Report,
    on_progress: Callable[[int], None] | None,
) -> None:
    """Again, where old events were dropped meanwhile."""
    for tries_left in reversed(range(_TRIES)):
        own, sums = Report(events=report.events), dict.fromkeys(counted, 0)
        point = _checkpoint(owner)
        _check_seal(point, own)
        _walk(point, head, sums, own, on_progress)
        _check_postings(owner, head[0], own)
        _check_rollups(point, own)
        if not tries_left or _checkpoint(owner).sequence == point.sequence:
            report.take(own)
            for key, amount in sums.items():
                counted[key] += amount
            return


def _checkpoint(owner: uuid.UUID) -> LedgerCheckpoint:
    """Where the chain goes on; its beginning, where nothing was ever dropped."""
    found: LedgerCheckpoint | None = LedgerCheckpoint.objects.filter(tenant_id=owner).first()
    return found or LedgerCheckpoint(tenant_id=owner, sequence=0, hash=genesis(owner))


def _check_seal(point: LedgerCheckpoint, report: Report) -> None:
    is_beginning = point.sequence == 0 and point.hash == genesis(point.tenant_id)
    if not is_beginning and sealed_digest(point.tenant_id) != digest_of(point):
        report.add(
            str(point.tenant_id), "Its checkpoint is not the one that the audit log tells of."
        )


@transaction.atomic
def _note() -> _Note:
    # Whoever meters holds this row shared until it commits: nobody is in between.
    state = CounterState.objects.select_for_update().filter(pk=1).first()
    reserved: dict[str, int] = {}
    for facts in Hold.objects.values_list("facts", flat=True):
        for take in read_held(facts).takes:
            reserved[take.key] = reserved.get(take.key, 0) + take.reserved
    return _Note(
        heads={head.tenant_id: (head.sequence, head.hash) for head in LedgerHead.objects.all()},
        counters={one.key: (one.settled, one.reserved) for one in Counter.objects.all()},
        reserved=reserved,
        is_cache=bool(state and state.is_shared_cache),
    )


def _walk(
    point: LedgerCheckpoint,
    head: tuple[int, str],
    counted: dict[str, int],
    report: Report,
    on_progress: Callable[[int], None] | None,
) -> None:
    report.chains += 1
    tenant_id = point.tenant_id
    sequence, previous = point.sequence, point.hash
    where = str(tenant_id)
    for key, amount in json.loads_dict(point.counted or "{}").items():
        if key in counted:
            counted[key] += amount
    events = UsageEvent.objects.filter(tenant_id=tenant_id)
    while sequence < head[0]:
        rows = list(
            events.filter(sequence__gt=sequence, sequence__lte=head[0]).order_by("sequence")[
                :_CHUNK
            ]
        )
        if not rows:
            break
        for event in rows:
            at = f"{where} #{event.sequence}"
            if event.sequence != sequence + 1:
                report.add(at, f"{event.sequence - sequence - 1} events before it are missing.")
            elif event.previous_hash != previous:
                report.add(at, "It does not follow the event before it.")
            if event.hash != event.expected_hash():
                report.add(at, "Its content does not match its hash.")
            _count(event, counted, at, report)
            sequence, previous = event.sequence, event.hash
            report.events += 1
        if on_progress is not None:
            on_progress(report.events)
    if sequence != head[0]:
        report.add(where, f"The chain ends at {sequence}; its head says {head[0]}.")
    elif previous != head[1]:
        report.add(where, "The last event is not the one that the head names.")


def _count(event: UsageEvent, counted: dict[str, int], at: str, report: Report) -> None:
    if not event.counted:
        return
    try:
        pairs = json.loads(event.counted)
    except json.InvalidJSON:
        report.add(at, "What it counted cannot be read.")
        return
    for key, amount in pairs:
        if key in counted:
            counted[key] += amount


def _check_postings(tenant_id: uuid.UUID, last: int, report: Report) -> None:
    postings = Posting.objects.filter(tenant_id=tenant_id, event__sequence__lte=last)
    unbalanced = (
        postings.values("event_id", "event__sequence")
        .annotate(total=Sum("amount_nanos"), sides=Count("id"))
        .exclude(total=0)
    )
    for row in unbalanced[:MOST_FINDINGS]:
        report.add(
            f"{tenant_id} #{row['event__sequence']}",
            f"Its {row['sides']} postings add up to {row['total']}, not 0.",
        )
    spend = postings.filter(account=Posting.Account.SPEND).aggregate(x=Sum("amount_nanos"))["x"]
    events = UsageEvent.objects.filter(tenant_id=tenant_id, sequence__lte=last)
    charged = events.aggregate(x=Sum("charge_nanos"))["x"]
    if (spend or 0) != (charged or 0):
        report.add(
            str(tenant_id), f"Postings say {spend or 0} nano-dollars spent, events {charged or 0}."
        )


def _check_rollups(point: LedgerCheckpoint, report: Report) -> None:
    tenant_id = point.tenant_id
    with transaction.atomic():
        mark = RollupMark.objects.select_for_update().filter(tenant_id=tenant_id).first()
        if mark is None:
            return
        rollups = Rollup.objects.filter(tenant_id=tenant_id, grain__in=_WHOLE_HISTORY)
        rolled = dict(rollups.order_by().values_list("grain").annotate(total=Sum("charge_nanos")))
        charged = UsageEvent.objects.filter(
            tenant_id=tenant_id, sequence__lte=mark.sequence
        ).aggregate(x=Sum("charge_nanos"))["x"]
    charged = (charged or 0) + point.charge_nanos
    for grain in _WHOLE_HISTORY:
        if rolled.get(grain, 0) != charged:
            report.add(
                str(tenant_id),
                f"Rollups by {grain} say {rolled.get(grain, 0)} nano-dollars, events {charged}.",
            )


def _check_headless(note: _Note, report: Report) -> None:
    owners = UsageEvent.objects.order_by().values_list("tenant_id", flat=True).distinct()
    for owner in owners:
        if owner not in note.heads:
            report.add(str(owner), "There are events, and no head.")


def _check_counters(note: _Note, counted: Mapping[str, int], report: Report) -> None:
    for key, (settled, reserved) in sorted(note.counters.items()):
        report.counters += 1
        if settled != counted[key]:
            report.add(f"counter {key}", f"It holds {settled}; the ledger says {counted[key]}.")
        # While Redis counts, reservations are there and in the holds.
        expected = 0 if note.is_cache else note.reserved.get(key, 0)
        if reserved != expected:
            report.add(f"counter {key}", f"{reserved} are reserved; open holds say {expected}.")
