"""What a tenant is charged, set in the console."""

from __future__ import annotations

import pytest
from django.test import Client
from django.urls import reverse

from tenants import scope
from tenants.audit.actor import acting_as
from tenants.audit.models import AuditEvent
from tenants.members.models import Tenant, User
from tenants.quotas.models import UsagePolicy
from tenants.quotas.services import change_policy

pytestmark = pytest.mark.django_db

ADD = "admin:tenants_usagepolicy_add"
CHANGE = "admin:tenants_usagepolicy_change"
WANTED = {"reservation": "learned", "durability": "relaxed", "unpriced": "refuse"}


@pytest.fixture
def client(staff: User) -> Client:
    client = Client()
    client.force_login(staff)
    return client


def policies() -> list[UsagePolicy]:
    with scope.platform("tests"):
        return list(UsagePolicy.objects.all())


def test_a_policy_is_made_and_changed_in_per_cent(client: Client, tenant: Tenant) -> None:
    wanted = {**WANTED, "tenant": str(tenant.pk), "per_cent": "12.5"}
    assert client.post(reverse(ADD), wanted).status_code == 302
    (made,) = policies()
    assert (made.mark_up, made.reservation, made.durability, made.unpriced) == (
        *(1250, "learned", "relaxed", "refuse"),
    )
    where = reverse(CHANGE, args=[made.pk])
    assert b"12.5" in client.get(where).content
    assert (
        b"the provider&#x27;s price +12.5 %"
        in client.get(reverse("admin:tenants_usagepolicy_changelist")).content
    )
    changed = {**WANTED, "per_cent": "-10", "seen_version": str(made.version)}
    assert client.post(where, changed).status_code == 302
    (now,) = policies()
    assert (now.mark_up, now.version) == (-1000, made.version + 1)
    # Somebody else was first.
    assert "load" in client.post(where, changed, follow=True).content.decode()
    (still,) = policies()
    assert still.version == now.version
    with scope.platform("tests"):
        assert AuditEvent.objects.filter(action="usage_policy.changed").count() == 2


@pytest.mark.parametrize("per_cent", ["", "-101", "1001", "1.234", "much"])
def test_a_mark_up_that_makes_no_sense_is_refused(
    client: Client, tenant: Tenant, per_cent: str
) -> None:
    wanted = {**WANTED, "tenant": str(tenant.pk), "per_cent": per_cent}
    assert client.post(reverse(ADD), wanted).status_code == 200
    assert policies() == []


def test_a_second_policy_is_refused_and_the_price_list_is_shown(
    client: Client, tenant: Tenant
) -> None:
    price = {
        "model": "gpt-*",
        "effective_from": "2026-01-01T00:00:00+00:00",
        "price": {"input": "1", "output": "2"},
    }
    with scope.platform("tests"), acting_as("command", None, "tests"):
        made = change_policy(tenant=tenant, version=1, price_list=[price])
    answer = client.post(reverse(ADD), {**WANTED, "tenant": str(tenant.pk), "per_cent": "0"})
    assert b"There is a policy for it already" in answer.content
    page = client.get(reverse(CHANGE, args=[made.pk])).content
    assert b"gpt-* from 2026-01-01" in page
    # What the form does not show stays.
    wanted = {**WANTED, "per_cent": "5", "seen_version": str(made.version)}
    assert client.post(reverse(CHANGE, args=[made.pk]), wanted).status_code == 302
    assert policies()[0].price_list == [price]
