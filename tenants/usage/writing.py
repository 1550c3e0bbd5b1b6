"""What the hot path writes, for a group of requests in one transaction, with SQL of its own.

Each function runs inside the caller's transaction and in the platform scope. Locks are taken in
one order everywhere: the counters' state, holds, heads of chains by tenant, counters by key.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final

import msgspec

from controlplane.kit.ids import uuid7
from tenants.direct_sql import DirectSQL
from tenants.quotas.policy import PLACES, Amounts
from tenants.quotas.store import Change
from tenants.usage.chain import FORMAT, HASHED, digest, genesis
from tenants.usage.models import Hold, Posting, UsageEvent
from tenants.usage.outcome import (
    Held,
    HeldTake,
    Outcome,
    Settled,
    TargetFacts,
    milliseconds,
    settled,
)

_COLUMNS: Final = (*HASHED, "previous_hash", "hash")
_INSERT_EVENTS: Final = f"INSERT INTO tenants_usageevent ({', '.join(_COLUMNS)}) VALUES {{rows}}"  # noqa: S608  (our own columns)
_INSERT_POSTINGS: Final = (
    "INSERT INTO tenants_posting (id, created_at, tenant_id, event_id, account, party,"
    " amount_nanos) VALUES {rows}"
)
_INSERT_HOLDS: Final = (
    "INSERT INTO tenants_hold (id, created_at, tenant_id, process_id, facts) VALUES {rows}"
)
_REPLACE_FACTS: Final = "UPDATE tenants_hold SET facts = %s WHERE id = %s"
_FIND_HOLDS: Final = "SELECT id FROM tenants_hold WHERE id {names} ORDER BY id"
_COUNT_HOLDS: Final = "SELECT count(*) FROM tenants_hold WHERE id {names}"
_DELETE_HOLDS: Final = "DELETE FROM tenants_hold WHERE id {names}"
_MAKE_HEADS: Final = (
    "INSERT INTO tenants_ledgerhead (id, created_at, tenant_id, sequence, hash)"
    " VALUES {rows} ON CONFLICT (tenant_id) DO NOTHING"
)
_READ_HEADS: Final = (
    "SELECT tenant_id, sequence, hash FROM tenants_ledgerhead WHERE tenant_id {names}"
    " ORDER BY tenant_id"
)
_MOVE_HEADS: Final = (
    "UPDATE tenants_ledgerhead SET sequence = column2, hash = column3"
    " FROM (VALUES {rows}) AS moves WHERE tenant_id = column1 AND sequence = column4"
)
_SEQUENCE: Final = HASHED.index("sequence")
_ID: Final = HASHED.index("id")
_TENANT_ID: Final = HASHED.index("tenant_id")
_CREATED_AT: Final = HASHED.index("created_at")
_SETTLED_AT: Final = HASHED.index("settled_at")
_OPTIONAL_IDS: Final = (HASHED.index("key_id"), HASHED.index("member_id"))
_NOWHERE: Final = ("", "", "", "", "", "")
_SPEND: Final = Posting.Account.SPEND.value
_PROVIDER: Final = Posting.Account.PROVIDER.value
_MARGIN: Final = Posting.Account.MARGIN.value
_encoder: Final = msgspec.json.Encoder()
_held_decoder: Final = msgspec.json.Decoder(Held)


class ForkedChain(AssertionError):
    """A chain's head moved under our lock: our bug. The transaction must not be committed."""


@dataclass(slots=True)
class Part:
    """One event to be: an outcome, the target it came from, and the takes it settles."""

    outcome: Outcome
    target: TargetFacts | None
    takes: Sequence[HeldTake]
    part: int = 0
    entry: str = UsageEvent.Entry.USAGE.value
    reason: str = ""
    author: str = ""
    was_sent: bool = True


@dataclass(slots=True)
class Entry:
    """An event whose place in its chain is still open, with its postings and changes."""

    tenant_id: uuid.UUID
    values: list[Any]
    postings: list[tuple[str, str, int]]
    changes: list[Change]


def insert_holds(
    sql: DirectSQL, holds: Iterable[tuple[uuid.UUID, Held]], process_id: uuid.UUID
) -> None:
    process = sql.spell_id(process_id)
    sql.change_many(
        _INSERT_HOLDS,
        [
            (
                sql.spell_id(hold_id),
                sql.spell_moment(datetime.fromtimestamp(held.taken_at, UTC)),
                sql.spell_id(held.tenant_id),
                process,
                _encoder.encode(held).decode(),
            )
            for hold_id, held in holds
        ],
    )


def replace_facts(sql: DirectSQL, hold_id: uuid.UUID, held: Held) -> None:
    """The hold now covers more: a target's own limits."""
    sql.change(_REPLACE_FACTS, [_encoder.encode(held).decode(), sql.spell_id(hold_id)])


def read_held(facts: str) -> Held:
    return _held_decoder.decode(facts)


def find_holds(hold_ids: Collection[uuid.UUID]) -> set[uuid.UUID]:
    """Those of them that are there."""
    return set(Hold.objects.filter(pk__in=list(hold_ids)).values_list("pk", flat=True))


def remove_holds(sql: DirectSQL, hold_ids: Collection[uuid.UUID]) -> set[uuid.UUID]:
    """Takes the holds away; those that were there. Whoever takes one away settles it."""
    if not hold_ids:
        return set()
    named = {sql.spell_id(hold_id): hold_id for hold_id in hold_ids}
    wanted = sorted(named)
    if not sql.is_postgresql:
        # Nearly always all are there: one row says so, where each row read costs a wait for the
        # interpreter.
        there = sum(row[0] for row in sql.rows_of(_COUNT_HOLDS, wanted))
        if there == len(wanted):
            sql.change_of(_DELETE_HOLDS, wanted)
            return set(hold_ids)
    found = [row[0] for row in sql.rows_of(_FIND_HOLDS, wanted, is_locked=True)]
    if found:
        sql.change_of(_DELETE_HOLDS, found)
    return {named[one] for one in found}


def entries_of(held: Held, parts: Sequence[Part], would_refuse: str, now: datetime) -> list[Entry]:
    """One entry per part. The last is the request's outcome: what attempts before it used counts
    with it towards the limits of tenant, member and key, which hold the request as a whole."""
    entries = []
    before: Amounts | None = None
    for part in parts:
        sane = settled(part.outcome, held, was_sent=part.was_sent)
        is_last = part is parts[-1]
        amounts = sane.amounts if before is None or not is_last else before.plus(sane.amounts)
        spread = amounts.spread()
        changes = [
            Change(take.key, take.reserved, spread[PLACES[take.kind, take.scope]], take.ends_at)
            for take in part.takes
        ]
        if not is_last:
            before = (before or Amounts()).plus(sane.amounts, requests=False)
        entries.append(
            make_entry(
                held,
                part,
                sane,
                changes=changes,
                would_refuse=would_refuse if is_last else "",
                now=now,
            )
        )
    return entries


def make_entry(
    held: Held,
    part: Part,
    sane: Settled,
    *,
    changes: list[Change],
    would_refuse: str = "",
    now: datetime,
) -> Entry:
    outcome, target = part.outcome, part.target
    counted = [(change.key, change.settled) for change in changes if change.settled]
    provider, credential_id, credential_label, served, upstream_protocol, price_version = (
        _NOWHERE
        if target is None
        else _target_texts(
            target.provider,
            target.credential_id,
            target.credential_label,
            target.model,
            target.upstream_protocol,
            target.price_version,
        )
    )
    first_byte_ms = outcome.first_byte_ms
    values = [
        FORMAT,
        uuid7(),
        datetime.fromtimestamp(held.taken_at, UTC),
        held.tenant_id,
        0,
        part.entry,
        held.request_id[:64],
        part.part,
        now,
        held.key_id,
        held.member_id,
        _text(held.operation, 40),
        provider,
        credential_id,
        credential_label,
        _text(held.model, 200),
        served,
        _text(held.client_protocol, 40),
        upstream_protocol,
        *sane.counts,
        "reported" if sane.is_reported else "estimated",
        sane.estimated_input,
        sane.estimated_output,
        _text(outcome.price_basis, 16),
        price_version,
        sane.cost_nanos,
        sane.charge_nanos,
        sane.estimated_nanos,
        _text(outcome.currency_note, 80),
        milliseconds(outcome.latency_ms) or 0,
        None if first_byte_ms is None else milliseconds(first_byte_ms),
        min(max(int(outcome.status), 0), 999),
        _text(outcome.error_code, 64),
        _text(outcome.finish_reason, 40),
        held.is_stream,
        bool(outcome.is_interrupted),
        held.trace_id[:64],
        _encoder.encode(counted).decode() if counted else "",
        would_refuse[:400],
        part.reason and _text(part.reason, 300),
        part.author and _text(part.author, 200),
    ]
    return Entry(held.tenant_id, values, _postings(sane, provider), changes)


def _postings(sane: Settled, provider: str) -> list[tuple[str, str, int]]:
    """Spend goes up by what the tenant is charged; against it stand what the provider is owed
    and what is left. The sum is 0."""
    cost, charge = sane.cost_nanos or 0, sane.charge_nanos or 0
    sides = []
    if charge:
        sides.append((_SPEND, "", charge))
    if cost:
        sides.append((_PROVIDER, provider, -cost))
    if cost != charge:
        sides.append((_MARGIN, "", cost - charge))
    return sides


def append(sql: DirectSQL, entries: Sequence[Entry]) -> None:
    """Gives each entry its place in its tenant's chain, and writes it with its postings."""
    if not entries:
        return
    heads = _lock_heads(sql, {entry.tenant_id for entry in entries})
    before = {tenant_id: sequence for tenant_id, (sequence, _) in heads.items()}
    named = {tenant_id: sql.spell_id(tenant_id) for tenant_id in heads}
    rows: list[Sequence[Any]] = []
    postings: list[Sequence[Any]] = []
    for entry in entries:
        values, tenant = entry.values, named[entry.tenant_id]
        sequence, previous = heads[entry.tenant_id]
        values[_SEQUENCE] = sequence = sequence + 1
        made = digest(previous, values)
        heads[entry.tenant_id] = (sequence, made)
        event_id: uuid.UUID = values[_ID]
        event, created_at = sql.spell_id(event_id), sql.spell_moment(values[_CREATED_AT])
        row = [*values, previous, made]
        row[_ID], row[_TENANT_ID], row[_CREATED_AT] = event, tenant, created_at
        row[_SETTLED_AT] = sql.spell_moment(values[_SETTLED_AT])
        for index in _OPTIONAL_IDS:
            if row[index] is not None:
                row[index] = sql.spell_id(row[index])
        rows.append(row)
        number = event_id.int
        for account, party, amount in entry.postings:
            # Close to the event's own id, and as unique: its low bits are random.
            number += 1
            posting_id = sql.spell_number(number)
            postings.append((posting_id, created_at, tenant, event, account, party, amount))
    moves = [
        (named[tenant_id], sequence, made, before[tenant_id])
        for tenant_id, (sequence, made) in sorted(heads.items())
    ]
    sql.change_many(_INSERT_EVENTS, rows)
    sql.change_many(_INSERT_POSTINGS, postings)
    moved = sql.change_many(_MOVE_HEADS, moves)
    if moved != len(moves):
        raise ForkedChain(f"{len(moves) - moved} chains of the ledger moved.")


def _lock_heads(
    sql: DirectSQL, tenant_ids: Collection[uuid.UUID]
) -> dict[uuid.UUID, tuple[int, str]]:
    named = {sql.spell_id(tenant_id): tenant_id for tenant_id in tenant_ids}
    found = _read_heads(sql, named)
    missing = sorted(tenant_id for tenant_id in tenant_ids if tenant_id not in found)
    if missing:
        now = sql.spell_moment(datetime.now(UTC))
        sql.change_many(
            _MAKE_HEADS,
            [(sql.spell_id(uuid7()), now, sql.spell_id(one), 0, genesis(one)) for one in missing],
        )
        found = _read_heads(sql, named)
    return found


def _read_heads(sql: DirectSQL, named: Mapping[Any, uuid.UUID]) -> dict[uuid.UUID, tuple[int, str]]:
    rows = sql.rows_of(_READ_HEADS, sorted(named), is_locked=True)
    return {named[tenant]: (sequence, made) for tenant, sequence, made in rows}


@lru_cache(maxsize=4096)
def _target_texts(
    provider: str,
    credential_id: str,
    credential_label: str,
    model: str,
    upstream_protocol: str,
    price_version: str,
) -> tuple[str, str, str, str, str, str]:
    return (
        _text(provider, 80),
        _text(credential_id, 40),
        _text(credential_label, 120),
        _text(model, 200),
        _text(upstream_protocol, 40),
        _text(price_version, 64),
    )


@lru_cache(maxsize=4096)
def _text(value: str, most: int) -> str:
    """What a database takes: bounded, and without the NUL that PostgreSQL refuses. Names come
    again and again; what is new each time is bounded where it is made."""
    if value.isascii() and "\0" not in value:
        return value[:most]
    cleaned = value.encode("utf-8", "replace").decode().replace("\0", "")
    return cleaned[:most]
