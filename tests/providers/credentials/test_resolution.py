"""Whose key a request shows: the order of sources, and what each kind of registration has."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from controlplane.kit.secret import Secret
from providers.catalog.models import Provider
from providers.catalog.policy import own_policy, set_policy
from providers.catalog.services import add_model, change_registration, register
from providers.credentials.models import Credential
from providers.credentials.resolution import HEADERS, header_of, in_order, source_of, takes_own_key
from providers.credentials.services import add_credential, disable_credential, store_key
from providers.routing.loader import load_table
from providers.routing.table import CredentialRef, RouteTable
from providers.signing.schemes import AuthScheme
from tenants import scope
from tenants.audit.actor import acting_as
from tenants.members.models import Tenant

STORED = CredentialRef(id="1", label="b")
DEAREST = CredentialRef(id="2", label="a", priority=9)
VAULT = CredentialRef(id="3", label="v", source="vault_kv")
LISTED = CredentialRef(id="4", label="e", source="environment", priority=99)
VARIABLE = CredentialRef(id="5", label="ACME_API_KEY", source="environment")


def ids(*found: CredentialRef) -> list[str]:
    return [ref.id for ref in found]


def test_what_is_stored_comes_before_the_environment_whatever_their_priorities() -> None:
    found = in_order([LISTED, STORED, VAULT, DEAREST])
    assert ids(*found) == ["2", "1", "3", "4"]
    # Only equals take turns.
    assert [ref.step for ref in found] == [1, 1, 1, 2]


def test_a_variable_and_a_header_serve_only_where_nobody_added_a_credential() -> None:
    assert ids(*in_order([STORED], variable=VARIABLE, headers=HEADERS)) == ["1"]
    assert in_order([], is_held=True, variable=VARIABLE, headers=HEADERS) == ()
    found = in_order([], variable=VARIABLE, headers=HEADERS)
    assert [source_of(ref) for ref in found] == ["environment", "registration"]
    assert source_of(None) == "none"
    assert in_order([]) == ()


@pytest.mark.parametrize(
    ("auth_type", "scheme", "expected"),
    [
        ("api_key", AuthScheme(), True),
        ("api_key_plus", AuthScheme(scheme="header", header="api-key"), True),
        ("bearer_token", AuthScheme(), True),
        ("oauth_device_flow", AuthScheme(), False),
        ("aws", AuthScheme(scheme="sigv4"), False),
        ("gcp_adc", AuthScheme(scheme="google"), False),
        ("none", AuthScheme(scheme="none"), False),
    ],
)
def test_only_plain_keys_can_be_brought(auth_type: str, scheme: AuthScheme, expected: bool) -> None:
    assert takes_own_key(auth_type, scheme) is expected


def test_the_header_that_holds_a_key() -> None:
    assert header_of(AuthScheme()) == "authorization"
    assert header_of(AuthScheme(scheme="header", header="X-Api-Key")) == "x-api-key"
    assert header_of(AuthScheme(scheme="sigv4")) == ""


# --- What a tenant's table holds -----------------------------------------------------------------


@pytest.fixture
def operator(db: None) -> Iterator[None]:
    with acting_as("command", None, "tests"), scope.platform("tests"):
        yield


def refs(tenant: Tenant, name: str) -> list[tuple[str, str]] | None:
    """Source and label, best first; None = nobody has the model."""
    table: RouteTable = load_table(tenant.id)
    found = table.targets.get(name)
    if found is None:
        return None
    return [(ref.source, ref.label) for ref in found[0].endpoint.credentials]


def openai(**options: Any) -> Provider:
    return register(slug="openai", catalog_id="openai", **options)


@pytest.mark.django_db
def test_a_variable_of_the_catalog_serves_until_a_key_is_stored(
    operator: None, tenant: Tenant, settings: Any
) -> None:
    settings.SECRET_VALUES = {"OPENAI_API_KEY": Secret("from-the-environment")}
    settings.SECRET_VARIABLES = ["OPENAI_API_KEY"]
    provider = openai()
    name = next(iter(load_table(tenant.id).targets))
    assert refs(tenant, name) == [("environment", "OPENAI_API_KEY")]
    first = load_table(tenant.id).targets[name][0].endpoint.credentials[0]
    assert first.id == load_table(tenant.id).targets[name][0].endpoint.credentials[0].id
    stored = store_key(provider=provider, label="mine", secret=Secret("sk-stored-1234567890"))
    assert refs(tenant, name) == [("stored", "mine")]
    # It owns the registration: switched off, nothing steps in for it.
    disable_credential(stored)
    assert refs(tenant, name) == []


@pytest.mark.django_db
@pytest.mark.parametrize("why", ["another address", "a tenant's", "not listed"])
def test_a_variable_goes_nowhere_else(
    operator: None, tenant: Tenant, settings: Any, why: str
) -> None:
    listed = {} if why == "not listed" else {"OPENAI_API_KEY": Secret("from-the-environment")}
    settings.SECRET_VALUES = listed
    options: dict[str, Any] = {}
    if why == "another address":
        options["base_url"] = "https://elsewhere.example/v1"
    if why == "a tenant's":
        options["tenant_id"] = tenant.id
    openai(**options)
    assert load_table(tenant.id).targets == {}


@pytest.mark.django_db
def test_a_listed_credential_stands_behind_a_stored_one(operator: None, tenant: Tenant) -> None:
    provider = openai()
    add_credential(
        provider=provider,
        label="env",
        source=Credential.Source.ENVIRONMENT,
        reference="ACME_KEY",
        priority=50,
    )
    store_key(provider=provider, label="kept", secret=Secret("sk-stored-1234567890"))
    name = next(iter(load_table(tenant.id).targets))
    assert refs(tenant, name) == [("stored", "kept"), ("environment", "env")]


@pytest.mark.django_db
def test_the_registrations_own_header_comes_last(operator: None, tenant: Tenant) -> None:
    provider = register(
        slug="own", protocol="openai-completions", base_url="https://own.example/v1"
    )
    add_model(provider=provider, upstream_id="m")
    assert refs(tenant, "m") is None
    change_registration(provider, secret_headers={"Authorization": Secret("Bearer own-secret")})
    assert refs(tenant, "m") == [("registration", HEADERS.label)]
    store_key(provider=provider, label="kept", secret=Secret("a-stored-key-123456"))
    assert refs(tenant, "m") == [("stored", "kept")]


@pytest.mark.django_db
def test_without_a_key_of_ours_it_is_there_for_callers_who_bring_one(
    operator: None, tenant: Tenant, other_tenant: Tenant
) -> None:
    openai()
    assert load_table(tenant.id).targets == {}
    set_policy(own_policy(tenant.id), allows_own_keys=True)
    table = load_table(tenant.id)
    assert table.policy.allows_own_keys
    assert table.targets
    assert all(t.endpoint.is_locked_out for found in table.targets.values() for t in found)
    assert load_table(other_tenant.id).targets == {}
