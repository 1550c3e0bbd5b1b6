"""What holds for all registrations of a tenant, or of everybody, set in the console."""

from __future__ import annotations

import uuid

import pytest
from django.test import Client
from django.urls import reverse

from providers.catalog.models import RegistryPolicy
from providers.catalog.policy import policy_of
from tenants import scope
from tenants.audit.models import AuditEvent
from tenants.members.models import Tenant, User

pytestmark = [pytest.mark.storage, pytest.mark.django_db]

LIST, ADD, CHANGE = (
    f"admin:providers_registrypolicy_{view}" for view in ("changelist", "add", "change")
)
SILENT = dict.fromkeys(("force_model_prefix", "shows_prices", "allows_own_keys"), "unknown")


@pytest.fixture
def console(staff: User) -> Client:
    client = Client()
    client.force_login(staff)
    return client


def policy() -> RegistryPolicy:
    with scope.platform("tests"):
        return RegistryPolicy.objects.get()


def test_a_tenants_word_comes_before_that_for_all(console: Client, tenant: Tenant) -> None:
    assert "Nothing is said yet" in console.get(reverse(LIST)).content.decode()
    page = console.get(reverse(ADD)).content.decode()
    assert "Not said here" in page
    assert "x-provider-key" in page
    everybody = {**SILENT, "shows_prices": "false", "allows_own_keys": "true"}
    assert console.post(reverse(ADD), everybody).status_code == 302
    mine = {**SILENT, "tenant": str(tenant.pk), "allows_own_keys": "false"}
    assert console.post(reverse(ADD), mine).status_code == 302
    with scope.platform("tests"):
        told, other = policy_of(tenant.pk), policy_of(uuid.uuid4())
        actions = list(AuditEvent.objects.values_list("action", flat=True))
    assert (told.shows_prices, told.allows_own_keys, told.force_model_prefix) == (
        *(False, False, False),
    )
    assert other.allows_own_keys
    assert actions.count("registry.policy_changed") == 2
    shown = console.get(reverse(LIST)).content.decode()
    assert "as for all tenants" in shown
    assert "all tenants</" in shown
    for again in (everybody, mine):
        assert (
            "There is a policy for it already" in console.post(reverse(ADD), again).content.decode()
        )


def test_a_change_takes_the_word_back_and_none_is_lost(console: Client, tenant: Tenant) -> None:
    mine = {**SILENT, "tenant": str(tenant.pk), "force_model_prefix": "true"}
    console.post(reverse(ADD), mine)
    made = policy()
    assert made.force_model_prefix
    where, seen = reverse(CHANGE, args=[made.pk]), {"seen_version": str(made.version)}
    assert console.post(where, {**SILENT, **seen}).status_code == 302
    assert policy().force_model_prefix is None
    stale = console.post(where, {**SILENT, **seen, "shows_prices": "true"}, follow=True)
    assert "Somebody else changed this" in stale.content.decode()
    assert policy().shows_prices is None
