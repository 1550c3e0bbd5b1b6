from __future__ import annotations

import json
import stat
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from controlplane.kit import clock
from tenants import scope
from tenants.audit.chain import genesis
from tenants.audit.models import AuditEvent, AuditHead
from tenants.audit.services import record
from tenants.audit.verify import Report, UnreadableHeads, export_heads, read_heads, verify
from tenants.members.models import Tenant
from tests.audit_log import changes_allowed
from tests.patience import allowed

pytestmark = pytest.mark.storage

EVENTS = 10_000


def write_chain(tenant_id: uuid.UUID | None, count: int) -> str:
    """A chain of `count` events, as record() writes them, in one insert."""
    chain = "platform" if tenant_id is None else str(tenant_id)
    previous, events = genesis(chain), []
    for sequence in range(1, count + 1):
        event = AuditEvent(
            tenant_id=tenant_id,
            tenant_slug="" if tenant_id is None else "acme",
            chain=chain,
            sequence=sequence,
            created_at=clock.now(),
            actor_kind="user",
            actor_id="7",
            actor_label="ada@acme.test",
            address="192.0.2.7",
            action="key.created",
            target_model="tenants.apikey",
            target_id=str(sequence),
            after_json=f'{{"label":"key {sequence}","scopes":["chat"]}}',
            previous_hash=previous,
        )
        event.hash = previous = event.expected_hash()
        events.append(event)
    with scope.platform("tests"):
        AuditEvent.objects.bulk_create(events, batch_size=500)
        AuditHead.objects.create(chain=chain, sequence=count, hash=previous)
    return chain


@contextmanager
def tampering() -> Iterator[Callable[..., None]]:
    """Somebody with the database's password, who knows how to switch the triggers off."""

    def run(statement: str, *values: object) -> None:
        with connection.cursor() as cursor:
            cursor.execute(statement, values)

    with scope.platform("tests"), changes_allowed(connection):
        yield run


def findings(report: Report) -> list[tuple[int, str]]:
    return [(finding.sequence, finding.what) for finding in report.findings]


def rehash(first: int, last: int) -> None:
    """Makes events fit together again, as far as their hashes go."""
    events = AuditEvent.objects.filter(sequence__gte=first, sequence__lte=last)
    previous = AuditEvent.objects.filter(sequence=first - 1).values_list("hash", flat=True).first()
    for event in events.order_by("sequence"):
        event.previous_hash = previous or genesis(event.chain)
        event.hash = previous = event.expected_hash()
        with connection.cursor() as cursor:
            cursor.execute(
                "UPDATE tenants_auditevent SET previous_hash = %s, hash = %s WHERE sequence = %s",
                [event.previous_hash, event.hash, event.sequence],
            )


@pytest.mark.timed
def test_one_edit_in_ten_thousand_events_is_found_in_time(tenant: Tenant) -> None:
    """Bar A1, at its size; the other ways to tamper follow on shorter chains."""
    write_chain(tenant.pk, EVENTS)
    began_at = time.perf_counter()
    report = verify()
    seconds = time.perf_counter() - began_at
    print(f"A1: {EVENTS:,} events verified in {seconds:.2f} s")
    assert (report.events, report.chains, report.findings) == (EVENTS, 1, [])
    assert seconds < allowed(10)
    with tampering() as run:
        run("UPDATE tenants_auditevent SET actor_label = 'eve' WHERE sequence = 6789")
    ((found, what),) = findings(verify())
    assert found == 6789
    assert "was edited" in what


@pytest.mark.parametrize("sequence", [1, 2, 99, 100])
def test_an_edit_at_either_end_is_found(tenant: Tenant, sequence: int) -> None:
    write_chain(tenant.pk, 100)
    with tampering() as run:
        run("UPDATE tenants_auditevent SET actor_label = 'eve' WHERE sequence = %s", sequence)
    assert [found for found, _ in findings(verify())] == [sequence]


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("tenant_slug", "other"),
        ("actor_kind", "system"),
        ("actor_id", "8"),
        ("actor_label", "eve"),
        ("address", "192.0.2.8"),
        ("action", "key.deleted"),
        ("target_model", "tenants.tenant"),
        ("target_id", "x"),
        ("target_label", "x"),
        ("before_json", "{}"),
        ("after_json", '{"label":"key 3","scopes":["chat"] }'),
        ("format", 2),
        ("created_at", "2026-01-01 00:00:00+00:00"),
        ("hash", "0" * 64),
        ("previous_hash", "0" * 64),
        ("tenant_id", None),
        ("id", uuid.UUID(int=9)),
    ],
)
def test_every_column_is_covered(tenant: Tenant, column: str, value: object) -> None:
    write_chain(tenant.pk, 5)
    if isinstance(value, uuid.UUID):
        value = AuditEvent._meta.pk.get_db_prep_value(value, connection)
    with tampering() as run:
        run(f"UPDATE tenants_auditevent SET {column} = %s WHERE sequence = 3", value)
    assert 3 in [sequence for sequence, _ in findings(verify())]


def test_every_column_of_the_model_is_tried_above() -> None:
    tried = {
        mark.args[1][n][0]
        for mark in test_every_column_is_covered.pytestmark  # type: ignore[attr-defined]
        for n in range(len(mark.args[1]))
    }
    columns = {field.column for field in AuditEvent._meta.concrete_fields}
    # Those two place an event: tried by moving, deleting and inserting.
    assert tried == columns - {"chain", "sequence"}


@pytest.mark.parametrize(
    ("sequence", "sentence"),
    [(1, "1 event is missing before #2"), (50, "1 event is missing before #51")],
)
def test_a_deleted_event_is_found(tenant: Tenant, sequence: int, sentence: str) -> None:
    write_chain(tenant.pk, 100)
    with tampering() as run:
        run("DELETE FROM tenants_auditevent WHERE sequence = %s", sequence)
    assert findings(verify()) == [(sequence, sentence)]


def test_a_deleted_event_is_found_when_the_rest_moved_up(tenant: Tenant) -> None:
    write_chain(tenant.pk, 100)
    with tampering() as run:
        run("DELETE FROM tenants_auditevent WHERE sequence = 50")
        for sequence in range(51, 101):
            run(
                "UPDATE tenants_auditevent SET sequence = %s WHERE sequence = %s",
                sequence - 1,
                sequence,
            )
    assert findings(verify())[0][0] == 50


def test_an_edit_with_its_hash_made_anew_is_found(tenant: Tenant) -> None:
    write_chain(tenant.pk, 100)
    with tampering() as run:
        run("UPDATE tenants_auditevent SET actor_label = 'eve' WHERE sequence = 50")
        rehash(50, 50)
    ((found, what),) = findings(verify())
    assert found == 51
    assert "does not follow" in what


def test_swapped_events_are_found(tenant: Tenant) -> None:
    write_chain(tenant.pk, 100)
    with tampering() as run:
        for new, old in ((-1, 20), (20, 70), (70, -1)):
            run("UPDATE tenants_auditevent SET sequence = %s WHERE sequence = %s", new, old)
    assert {20, 21, 70, 71} <= {sequence for sequence, _ in findings(verify())}


def test_an_inserted_event_is_found(tenant: Tenant) -> None:
    chain = write_chain(tenant.pk, 100)
    with scope.platform("tests"):
        last = AuditEvent.objects.get(sequence=100)
        forged = AuditEvent(
            tenant_id=tenant.pk,
            chain=chain,
            sequence=101,
            action="key.created",
            actor_kind="user",
            previous_hash=last.hash,
        )
        forged.hash = forged.expected_hash()
        forged.save()
    ((found, what),) = findings(verify())
    assert found == 101
    assert "inserted" in what


def test_an_event_moved_to_another_chain_is_found(tenant: Tenant, other_tenant: Tenant) -> None:
    write_chain(tenant.pk, 10)
    with tampering() as run:
        run("UPDATE tenants_auditevent SET chain = %s WHERE sequence = 10", str(other_tenant.pk))
    found = {(f.chain, f.sequence) for f in verify().findings}
    assert (str(tenant.pk), 10) in found
    assert any(chain == str(other_tenant.pk) for chain, _ in found)


# --- the end cut off -----------------------------------------------------------------------------


def cut(chain: str, at: int, *, with_head: bool) -> None:
    with tampering() as run:
        last = AuditEvent.objects.get(chain=chain, sequence=at)
        run("DELETE FROM tenants_auditevent WHERE sequence > %s", at)
        if with_head:
            run("UPDATE tenants_audithead SET sequence = %s, hash = %s", at, last.hash)


def test_a_cut_off_end_is_found_by_the_stored_head(tenant: Tenant) -> None:
    cut(write_chain(tenant.pk, 100), 90, with_head=False)
    assert findings(verify()) == [(91, "the end is cut off: the stored head is at #100")]


def test_a_cut_off_end_and_head_are_found_by_an_exported_head(tenant: Tenant) -> None:
    chain = write_chain(tenant.pk, 100)
    exported = read_heads(export_heads(clock.now()))
    cut(chain, 90, with_head=True)
    assert findings(verify()) == []  # why heads are exported
    assert findings(verify(exported=exported)) == [
        (91, "the end is cut off: the exported head is at #100")
    ]


def test_a_chain_written_anew_is_found_by_an_exported_head(tenant: Tenant) -> None:
    write_chain(tenant.pk, 20)
    exported = read_heads(export_heads(clock.now()))
    with tampering() as run:
        run("UPDATE tenants_auditevent SET actor_label = 'eve' WHERE sequence = 5")
        rehash(5, 20)
        last = AuditEvent.objects.get(sequence=20)
        run("UPDATE tenants_audithead SET hash = %s", last.hash)
    assert findings(verify()) == []
    assert findings(verify(exported=exported)) == [
        (20, "is not the event that the exported head names")
    ]


def test_a_chain_that_vanished_is_found(tenant: Tenant) -> None:
    write_chain(tenant.pk, 3)
    exported = read_heads(export_heads(clock.now()))
    with tampering() as run:
        run("DELETE FROM tenants_auditevent")
        assert findings(verify()) == [(1, "all 3 events of this chain are missing")]
        run("DELETE FROM tenants_audithead")
    assert findings(verify()) == []
    assert findings(verify(exported=exported)) == [(1, "all 3 events of this chain are missing")]


def test_a_deleted_head_is_found(tenant: Tenant) -> None:
    write_chain(tenant.pk, 3)
    with tampering() as run:
        run("DELETE FROM tenants_audithead")
    assert (3, "the chain's head is missing") in findings(verify())


def test_an_older_export_still_fits_a_longer_chain(tenant: Tenant) -> None:
    write_chain(tenant.pk, 3)
    exported = read_heads(export_heads(clock.now()))
    record(tenant_id=tenant.pk, action="a.b", target=None)
    assert verify(exported=exported).findings == []


def test_one_chain_alone(tenant: Tenant) -> None:
    chain = write_chain(tenant.pk, 3)
    write_chain(None, 2)
    report = verify(chain=chain)
    assert (report.events, report.chains, report.findings) == (3, 1, [])


def test_findings_are_bounded(tenant: Tenant) -> None:
    write_chain(tenant.pk, 300)
    with tampering() as run:
        run("UPDATE tenants_auditevent SET actor_label = 'eve'")
    report = verify()
    assert len(report.findings) == 100
    assert report.has_more


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"[]",
        b"{}",
        b'{"format":1}',
        b'{"format":1,"chains":[]}',
        b'{"format":1,"chains":{"a":5}}',
    ],
)
def test_what_is_no_export_is_named(document: bytes) -> None:
    with pytest.raises(UnreadableHeads, match="is not a file that"):
        read_heads(document)


# --- the command ---------------------------------------------------------------------------------


def audit(*words: str) -> str:
    out = StringIO()
    call_command("audit", *words, stdout=out, stderr=StringIO())
    return out.getvalue()


def test_command_verify(tenant: Tenant, tmp_path: Path) -> None:
    chain = write_chain(tenant.pk, 30)
    assert "30 events in 1 chain, whole and in order" in audit("verify")
    head = tmp_path / "head.json"
    audit("export-head", "--output", str(head))
    assert stat.S_IMODE(head.stat().st_mode) == 0o600
    assert audit("verify", "--head", str(head), "--chain", "acme").startswith("30 events")
    cut(chain, 20, with_head=True)
    out = StringIO()
    with pytest.raises(CommandError, match="tampered with or damaged"):
        call_command("audit", "verify", "--head", str(head), stdout=out, stderr=StringIO())
    assert f"{chain} #21: the end is cut off" in out.getvalue()


def test_command_export(tenant: Tenant, tmp_path: Path) -> None:
    record(tenant_id=tenant.pk, action="tenant.renamed", target=tenant, after={"name": "x"})
    record(tenant_id=None, action="a.b", target=None)
    lines = [json.loads(line) for line in audit("export").splitlines()]
    assert [line["action"] for line in lines] == ["tenant.renamed", "a.b"]
    assert lines[0]["actor"] == {
        "kind": "user",
        "id": "7",
        "label": "ada@acme.test",
        "address": "192.0.2.7",
    }
    assert lines[0]["after"] == {"name": "x"}
    file = tmp_path / "events.jsonl"
    assert "1 event written" in audit("export", "--chain", "platform", "--output", str(file))
    assert len(file.read_bytes().splitlines()) == 1
    with pytest.raises(CommandError, match="File exists"):
        audit("export", "--output", str(file))
    assert audit("export", "--since", "2999-01-01") == ""


def test_command_finds_a_deleted_tenant_by_its_old_slug(tenant: Tenant) -> None:
    record(tenant_id=tenant.pk, action="tenant.closed", target=tenant)
    with scope.platform("tests"):
        tenant.delete()
    assert audit("verify", "--chain", "acme").startswith("1 event ")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["verify", "--chain", "nobody"], "There is no tenant 'nobody'"),
        (["verify", "--head", "/nowhere/head.json"], "/nowhere/head.json: No such file"),
        (["export", "--since", "yesterday"], "invalid"),
        ([], "required"),
    ],
)
def test_command_says_what_is_wrong(words: list[str], sentence: str, db: Any) -> None:
    with pytest.raises(CommandError, match=sentence):
        audit(*words)
