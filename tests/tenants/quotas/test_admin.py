"""Limits in the console: made in dollars, raised, removed."""

from __future__ import annotations

import pytest
from django.test import Client
from django.urls import reverse

from tenants import scope
from tenants.audit.actor import acting_as
from tenants.audit.models import AuditEvent
from tenants.keys.services import create_key
from tenants.members.models import Tenant, User
from tenants.quotas.models import Limit
from tests.ledger import spend

pytestmark = pytest.mark.django_db


@pytest.fixture
def client(staff: User) -> Client:
    client = Client()
    client.force_login(staff)
    return client


def limits() -> list[Limit]:
    with scope.platform("tests"):
        return list(Limit.objects.all())


def test_a_limit_is_made_in_dollars_changed_and_removed(client: Client, tenant: Tenant) -> None:
    wanted = {
        "tenant": str(tenant.pk),
        "scope_kind": "tenant",
        "scope_value": "",
        "kind": "money",
        "period": "month",
        "window": "calendar",
        "fiscal_day": "1",
        "how_much": "12.5",
        "mode": "shadow",
    }
    answer = client.post(reverse("admin:tenants_limit_add"), wanted)
    assert answer.status_code == 302
    (limit,) = limits()
    assert (limit.amount, limit.mode, limit.is_platform_set) == (12_500_000_000, "shadow", True)

    where = reverse("admin:tenants_limit_change", args=[limit.pk])
    assert b"12.5" in client.get(where).content
    answer = client.post(where, {"how_much": "20", "mode": "enforce", "seen_version": "1"})
    assert answer.status_code == 302
    (limit,) = limits()
    assert (limit.amount, limit.mode, limit.version) == (20_000_000_000, "enforce", 2)

    remove = reverse("admin:tenants_limit_remove", args=[limit.pk])
    assert client.get(remove).status_code == 200
    assert client.post(remove, {"confirmed": "yes"}).status_code == 302
    assert limits() == []
    with scope.platform("tests"):
        actions = AuditEvent.objects.filter(action__startswith="limit.")
        assert sorted(actions.values_list("action", flat=True)) == [
            "limit.changed",
            "limit.created",
            "limit.removed",
        ]


@pytest.mark.parametrize("written", ["Build server", "pcp_live_{0.public_id}_…", "{0.pk}"])
def test_a_key_may_be_named_as_people_call_it(
    client: Client, tenant: Tenant, other_tenant: Tenant, written: str
) -> None:
    with acting_as("command", None, "tests"), scope.platform("tests"):
        key, _ = create_key(tenant=tenant, label="Build server")
        create_key(tenant=other_tenant, label="Build server")
        theirs, _ = create_key(tenant=other_tenant, label="Theirs")
    wanted = {
        "tenant": str(tenant.pk),
        "scope_kind": "key",
        "scope_value": written.format(key),
        "kind": "requests",
        "period": "day",
        "window": "calendar",
        "fiscal_day": "1",
        "how_much": "5",
        "mode": "enforce",
    }
    where = reverse("admin:tenants_limit_add")
    assert client.post(where, wanted).status_code == 302
    assert limits()[0].scope_value == str(key.pk)
    for nobody in ("Theirs", theirs.display, str(theirs.pk)):
        refused = client.post(where, {**wanted, "scope_value": nobody}, follow=True)
        assert "There is no such key here" in refused.content.decode()
    with acting_as("command", None, "tests"), scope.platform("tests"):
        create_key(tenant=tenant, label="Build server")
    refused = client.post(where, {**wanted, "scope_value": "Build server"}, follow=True)
    assert "Several keys are called that" in refused.content.decode()
    assert len(limits()) == 1


@pytest.mark.parametrize(
    ("field", "value"),
    [("how_much", "1.5"), ("how_much", "-1"), ("period", "none"), ("scope_value", "x")],
)
def test_what_means_nothing_is_not_made(
    client: Client, tenant: Tenant, field: str, value: str
) -> None:
    wanted = {
        "tenant": str(tenant.pk),
        "scope_kind": "tenant",
        "kind": "requests",
        "period": "day",
        "window": "calendar",
        "fiscal_day": "1",
        "how_much": "5",
        "mode": "enforce",
        field: value,
    }
    client.post(reverse("admin:tenants_limit_add"), wanted)
    assert limits() == []


def test_the_ledger_shows_what_was_spent(client: Client, tenant: Tenant) -> None:
    spend(tenant, 2_500_000_000, None)
    page = client.get(reverse("admin:tenants_usageevent_changelist")).content.decode()
    assert "$2.50" in page
    assert "<rect" in page
    assert "unknown" in page
