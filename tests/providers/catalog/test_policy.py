"""Forced prefixes: the registration's word, else the tenant's, else the platform's."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from providers.catalog.models import RegistryPolicy
from providers.catalog.policy import own_policy, policy_of, set_policy
from providers.catalog.services import add_model, change_registration, register
from providers.routing.loader import load_table
from tenants import scope
from tenants.audit.actor import acting_as
from tenants.audit.models import AuditEvent
from tenants.errors import StaleVersion
from tenants.members.models import Tenant

pytestmark = [pytest.mark.storage, pytest.mark.django_db]


@pytest.fixture(autouse=True)
def operator(db: None) -> Iterator[None]:
    with acting_as("command", None, "tests"), scope.platform("tests"):
        yield


def test_the_nearest_word_counts(tenant: Tenant, other_tenant: Tenant) -> None:
    provider = register(
        slug="p",
        protocol="openai-completions",
        base_url="http://127.0.0.1:1",
        auth_type="none",
        prefix="team",
    )
    add_model(provider=provider, upstream_id="m")

    def names(owner: Tenant) -> set[str]:
        return set(load_table(owner.id).targets)

    bare = {"m", "p/m", "team/m"}
    forced = {"p/m", "team/m"}
    assert (names(tenant), names(other_tenant)) == (bare, bare)
    set_policy(own_policy(None), force_model_prefix=True)
    assert (names(tenant), names(other_tenant)) == (forced, forced)
    set_policy(own_policy(tenant.id), force_model_prefix=False)
    assert (names(tenant), names(other_tenant)) == (bare, forced)
    change_registration(provider, force_model_prefix=True)
    assert (names(tenant), names(other_tenant)) == (forced, forced)
    change_registration(provider, force_model_prefix=None)
    set_policy(own_policy(tenant.id), force_model_prefix=None)
    assert names(tenant) == forced


def test_a_policy_is_recorded_once_and_never_lost(tenant: Tenant) -> None:
    assert policy_of(tenant.id).shows_prices
    first, second = own_policy(tenant.id), own_policy(tenant.id)
    set_policy(first, shows_prices=False)
    with pytest.raises(StaleVersion):
        set_policy(second, shows_prices=True)
    assert RegistryPolicy.objects.count() == 1
    assert not policy_of(tenant.id).shows_prices
    assert AuditEvent.objects.get().action == "registry.policy_changed"
    with pytest.raises(TypeError):
        set_policy(first, tenant=None)
