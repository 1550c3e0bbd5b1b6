from __future__ import annotations

import threading
import uuid
from datetime import UTC, datetime
from typing import Any

import pytest
from django.db import DatabaseError, connection, transaction

from controlplane.kit.secret import Secret
from tenants import scope
from tenants.audit import services
from tenants.audit.actor import Kind, NoActor, acting_as, current_actor
from tenants.audit.errors import ChainBusy, NoTransaction
from tenants.audit.models import AppendOnly, AuditEvent, AuditHead
from tenants.audit.services import record
from tenants.audit.verify import verify
from tenants.errors import NoScope
from tenants.members.models import Tenant
from tenants.vault.fingerprints import fingerprint
from tests.patience import LONG_SECONDS

pytestmark = pytest.mark.storage


def test_an_event_says_who_did_what_to_what(tenant: Tenant) -> None:
    with acting_as(Kind.KEY, uuid.UUID(int=5), "ci key", "192.0.2.1"):
        event = record(
            tenant_id=tenant.pk,
            action="tenant.renamed",
            target=tenant,
            before={"name": "Old", "same": 1},
            after={"name": "Acme", "same": 1},
        )
    with scope.tenant(tenant.pk):
        stored = AuditEvent.objects.about(tenant).get()
    assert stored.pk == event.pk
    assert (stored.chain, stored.sequence, stored.tenant_slug) == (str(tenant.pk), 1, "acme")
    assert (stored.actor_kind, stored.actor_id) == ("key", str(uuid.UUID(int=5)))
    assert (stored.actor_label, stored.address) == ("ci key", "192.0.2.1")
    assert (stored.target_model, stored.target_id) == ("tenants.tenant", str(tenant.pk))
    assert stored.target_label == "acme"
    assert [(c.name, c.before, c.after) for c in stored.changes] == [("name", "Old", "Acme")]
    assert stored.hash == stored.expected_hash()


def test_chains_are_apart_and_each_follows_itself(tenant: Tenant, other_tenant: Tenant) -> None:
    owners = [tenant.pk, other_tenant.pk, None]
    for owner in owners * 3:
        record(tenant_id=owner, action="a.b", target=None)
    with scope.platform("tests"):
        for owner in owners:
            events = list(AuditEvent.objects.filter(tenant_id=owner).order_by("sequence"))
            assert [event.sequence for event in events] == [1, 2, 3]
            assert events[1].previous_hash == events[0].hash
    assert verify().findings == []


def test_a_tenant_sees_its_own_events_only(tenant: Tenant, other_tenant: Tenant) -> None:
    for owner in (tenant.pk, other_tenant.pk, None):
        record(tenant_id=owner, action="a.b", target=None)
    with scope.tenant(tenant.pk):
        assert [event.tenant_id for event in AuditEvent.objects.all()] == [tenant.pk]
    with pytest.raises(NoScope):
        AuditEvent.objects.count()


def test_in_one_tenants_scope_nothing_is_recorded_for_another(
    tenant: Tenant, other_tenant: Tenant
) -> None:
    with scope.tenant(tenant.pk):
        record(tenant_id=None, action="platform.event", target=None)
        with pytest.raises(NoScope):
            record(tenant_id=other_tenant.pk, action="a.b", target=None)


@pytest.mark.django_db(transaction=True)
def test_outside_a_transaction_nothing_is_recorded() -> None:
    with pytest.raises(NoTransaction, match=r"a\.b was recorded outside a transaction"):
        record(tenant_id=None, action="a.b", target=None)
    assert not AuditHead.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_an_event_lives_and_dies_with_its_change(tenant: Tenant) -> None:
    """Bar A2, both ways."""

    def rename(name: str) -> None:
        with transaction.atomic():
            Tenant.objects.filter(pk=tenant.pk).update(name=name)
            record(tenant_id=tenant.pk, action="tenant.renamed", target=tenant)
            if name == "fails":
                raise RuntimeError

    rename("works")
    with pytest.raises(RuntimeError):
        rename("fails")
    tenant.refresh_from_db()
    assert tenant.name == "works"
    with scope.tenant(tenant.pk):
        assert AuditEvent.objects.count() == 1
    assert verify().findings == []


@pytest.mark.usefixtures("nobody")
def test_nobody_can_do_nothing(tenant: Tenant) -> None:
    with pytest.raises(NoActor, match="acting_as"):
        current_actor()
    with pytest.raises(NoActor):
        record(tenant_id=tenant.pk, action="a.b", target=None)
    with pytest.raises(ValueError, match="is not a valid Kind"):
        acting_as("god", None, "x").__enter__()


def test_actors_nest_and_come_back() -> None:
    with acting_as("system", None, "sweeper") as inner:
        assert current_actor() == inner
        assert (inner.id, inner.address) == ("", "")
    assert current_actor().label == "ada@acme.test"


# --- before and after ----------------------------------------------------------------------------


def test_secrets_become_fingerprints(tenant: Tenant) -> None:
    secret = Secret("sk-canary-0123456789")
    event = record(
        tenant_id=tenant.pk,
        action="credential.stored",
        target=None,
        before={"api_key": "sk-canary-plain", "max_tokens": "5", "list": [secret]},
        after={"secret": secret, "nested": {"refresh_token": "sk-canary-nested"}},
    )
    kept = event.before_json + event.after_json
    assert "canary" not in kept
    assert event.after == {
        "nested": {"refresh_token": {"fingerprint": fingerprint(Secret("sk-canary-nested"))}},
        "secret": {"fingerprint": fingerprint(secret)},
    }
    assert event.before is not None
    assert event.before["max_tokens"] == "5"


def test_values_take_their_plain_form(tenant: Tenant) -> None:
    event = record(
        tenant_id=None,
        action="a.b",
        target=None,
        after={
            "uuid": uuid.UUID(int=1),
            "at": datetime(2026, 1, 1, tzinfo=UTC),
            "status": Tenant.Status.ACTIVE,
            "set": {"b", "a"},
            "row": tenant,
            "none": None,
            "long": "x" * 5_000,
            "odd": "a\x00b\ud800c",
            "list": list(range(500)),
        },
    )
    after: Any = event.after
    assert after["uuid"] == str(uuid.UUID(int=1))
    assert after["at"] == "2026-01-01T00:00:00+00:00"
    assert after["status"] == "active"
    assert after["set"] == ["a", "b"]
    assert after["row"] == {"id": str(tenant.pk), "label": "acme"}
    assert after["long"].endswith("… (5000 characters)")
    assert after["odd"] == "a\x00b\ufffdc"
    assert after["list"][-1] == "… (500 items)"
    assert verify().findings == []


@pytest.mark.django_db
def test_what_has_no_plain_form_is_refused() -> None:
    with pytest.raises(TypeError, match="bytes has no plain form"):
        record(tenant_id=None, action="a.b", target=None, after={"sealed": b"\x01"})
    with pytest.raises(ValueError, match="record counts or ids instead"):
        record(
            tenant_id=None, action="a.b", target=None, after={str(n): "x" * 2000 for n in range(50)}
        )


@pytest.mark.parametrize("odd", ["a\nb", "a\x1b[31mb", "a\x00b", "a\u2028b", "a\ud800b", "x" * 999])
def test_labels_stay_one_line(tenant: Tenant, odd: str) -> None:
    tenant.slug = odd
    with acting_as("user", odd, odd, odd):
        event = record(tenant_id=None, action="a.b", target=tenant)
    for text in (event.actor_label, event.actor_id, event.address, event.target_label):
        assert text.isprintable()
        assert len(text) <= 200
    assert verify().findings == []


# --- never changed -------------------------------------------------------------------------------


def test_code_cannot_change_or_delete_an_event(tenant: Tenant) -> None:
    event = record(tenant_id=tenant.pk, action="a.b", target=None)
    with scope.tenant(tenant.pk):
        for change in (
            event.save,
            event.delete,
            AuditEvent.objects.all().delete,
            lambda: AuditEvent.objects.update(action="c.d"),
        ):
            with pytest.raises(AppendOnly):
                change()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE tenants_auditevent SET action = 'c.d'",
        "UPDATE tenants_auditevent SET action = action",
        "DELETE FROM tenants_auditevent",
        "each database's own",
    ],
)
def test_the_database_refuses_it_too(tenant: Tenant, statement: str) -> None:
    if statement == "each database's own":
        statement = {
            "sqlite": "INSERT OR REPLACE INTO tenants_auditevent SELECT * FROM tenants_auditevent",
            "postgresql": "TRUNCATE tenants_auditevent",
        }[connection.vendor]
    event = record(tenant_id=tenant.pk, action="a.b", target=None)
    with scope.platform("tests"):
        with (
            pytest.raises(DatabaseError, match="audit events are never"),
            transaction.atomic(),
            connection.cursor() as cursor,
        ):
            cursor.execute(statement)
        assert AuditEvent.objects.get().hash == event.hash


def test_events_outlive_their_tenant(tenant: Tenant) -> None:
    record(tenant_id=tenant.pk, action="tenant.closed", target=tenant)
    tenant_id = tenant.pk
    with scope.platform("tests"):
        tenant.delete()
        event = AuditEvent.objects.get()
        assert (event.tenant_id, event.tenant_slug) == (tenant_id, "acme")
    assert verify().findings == []


# --- many at once --------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_writers_at_once_never_fork_a_chain(tenant: Tenant) -> None:
    barrier = threading.Barrier(8)
    problems: list[str] = []

    def work(number: int) -> None:
        barrier.wait(LONG_SECONDS)
        try:
            with acting_as("system", None, f"writer {number}"):
                for _ in range(10):
                    with transaction.atomic():
                        record(tenant_id=tenant.pk, action="a.b", target=None)
                        record(tenant_id=None, action="c.d", target=None)
        except Exception as error:  # noqa: BLE001  (a thread's error must reach the test)
            problems.append(repr(error))
        finally:
            connection.close()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert problems == []
    report = verify()
    assert (report.events, report.chains, report.findings) == (160, 2, [])


def test_a_head_that_keeps_moving_ends_in_an_error_and_writes_nothing(
    tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if another writer won every single time."""
    record(tenant_id=tenant.pk, action="a.b", target=None)
    stale = AuditHead(chain=str(tenant.pk), sequence=0, hash="0" * 64)
    monkeypatch.setattr(
        "django.db.models.query.QuerySet.first",
        lambda self: stale if self.model is AuditHead else None,
    )
    with pytest.raises(ChainBusy, match="too busy"):
        services.record(tenant_id=tenant.pk, action="a.b", target=None)
    monkeypatch.undo()
    with scope.tenant(tenant.pk):
        assert AuditEvent.objects.count() == 1
