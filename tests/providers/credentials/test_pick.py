"""Which credentials a caller may use, and what one changes about its target."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from providers.catalog.models import Provider
from providers.catalog.services import register
from providers.credentials.models import Credential
from providers.credentials.pick import applied, for_member
from providers.protocols.canonical import ModelSpec
from providers.routing.loader import load_table
from providers.routing.table import CredentialRef, Endpoint, RouteTable, Target
from tenants import scope
from tenants.audit.actor import acting_as
from tenants.members.models import Membership, Tenant, User

ADA, BEN = uuid.uuid4(), uuid.uuid4()


def target(*credentials: CredentialRef, **endpoint: Any) -> Target:
    return Target(
        name="m",
        endpoint=Endpoint(
            provider_id="p",
            slug="p",
            base_url="https://a.test",
            credentials=credentials,
            **endpoint,
        ),
        spec=ModelSpec(id="m", protocol="x", provider="p", endpoint={"region": "r"}),
    )


SHARED = CredentialRef(id="shared")
ADAS = CredentialRef(id="ada", only_for=str(ADA))
BENS = CredentialRef(id="ben", only_for=str(BEN))


@pytest.mark.parametrize(
    ("member", "expected"),
    [(ADA, ["ada", "shared"]), (BEN, ["shared", "ben"]), (None, ["shared"]),
     (uuid.uuid4(), ["shared"])],
    ids=["ada", "ben", "no member", "stranger"],
)  # fmt: skip
def test_each_member_has_its_own_and_the_shared(
    member: uuid.UUID | None, expected: list[str]
) -> None:
    [found] = for_member((target(ADAS, SHARED, BENS),), member)
    assert [ref.id for ref in found.endpoint.credentials] == expected


def test_a_target_with_nothing_left_is_gone_and_one_that_needs_nothing_stays() -> None:
    needs_none = target()
    assert for_member((target(ADAS), needs_none), BEN) == (needs_none,)
    targets = (target(SHARED), needs_none)
    # Where nobody has a login of their own, nothing is copied.
    assert for_member(targets, ADA) is targets


def test_a_credential_brings_its_own_host_and_identifiers() -> None:
    own = CredentialRef(
        id="c", endpoint={"project": "p"}, base_urls={"https://a.test": "https://b.test"}
    )
    found = applied(target(own), own)
    assert found.endpoint.base_url == "https://b.test"
    assert found.spec.endpoint == {"region": "r", "project": "p"}
    plain = target(SHARED)
    assert applied(plain, SHARED) is plain
    assert applied(plain, None) is plain


# --- from rows ------------------------------------------------------------------------------------


@pytest.fixture
def copilot(db: None) -> Provider:
    with acting_as("command", None, "tests"), scope.platform("tests"):
        return register(slug="github-copilot", catalog_id="github-copilot")


def connected(provider: Provider, tenant: Tenant | None, **values: Any) -> Credential:
    with scope.platform("tests"):
        row: Credential = Credential.objects.create(
            provider=provider,
            tenant=tenant,
            label=uuid.uuid4().hex,
            kind=Credential.Kind.OAUTH,
            **values,
        )
    return row


def credentials_in(table: RouteTable) -> dict[str, CredentialRef]:
    return {
        ref.id: ref
        for targets in table.targets.values()
        for target_ in targets
        for ref in target_.endpoint.credentials
    }


def test_another_tenants_login_at_a_shared_registration_is_not_in_the_table(
    copilot: Provider, tenant: Tenant, other_tenant: Tenant
) -> None:
    mine = connected(copilot, tenant)
    theirs = connected(copilot, other_tenant)
    platforms = connected(copilot, None)
    assert set(credentials_in(load_table(tenant.pk))) == {str(mine.pk), str(platforms.pk)}
    assert set(credentials_in(load_table(other_tenant.pk))) == {str(theirs.pk), str(platforms.pk)}


def test_a_personal_login_names_its_owners_membership_and_ends_with_it(
    copilot: Provider, tenant: Tenant, other_tenant: Tenant, user: User
) -> None:
    row = connected(copilot, tenant, owner=user, is_personal=True)
    with scope.platform("tests"):
        member = Membership.objects.get(user=user, tenant=tenant)
    assert credentials_in(load_table(tenant.pk))[str(row.pk)].only_for == str(member.pk)
    with scope.platform("tests"):
        member.delete()
    assert credentials_in(load_table(tenant.pk)) == {}
    # Whoever is gone altogether leaves a login that nobody may use.
    with scope.platform("tests"):
        user.delete()
    assert credentials_in(load_table(tenant.pk)) == {}


def test_copilots_host_comes_with_the_login(copilot: Provider, tenant: Tenant) -> None:
    row = connected(copilot, tenant, endpoint={"api_host": "api.business.githubcopilot.com"})
    table = load_table(tenant.pk)
    ref = credentials_in(table)[str(row.pk)]
    assert ref.base_urls == {
        "https://api.individual.githubcopilot.com": "https://api.business.githubcopilot.com"
    }
    [first, *_] = next(iter(table.targets.values()))
    assert applied(first, ref).endpoint.base_url == "https://api.business.githubcopilot.com"
    assert applied(first, None).endpoint.base_url == "https://api.individual.githubcopilot.com"


@pytest.mark.parametrize(
    "host", ["evil.test", "api.githubcopilot.com.evil.test", "api.githubcopilot.com/x", "a@b"]
)
def test_a_host_that_is_not_copilots_changes_nothing(
    copilot: Provider, tenant: Tenant, host: str
) -> None:
    row = connected(copilot, tenant, endpoint={"api_host": host})
    assert credentials_in(load_table(tenant.pk))[str(row.pk)].base_urls == {}


@pytest.mark.parametrize(
    "state",
    [state for state in Credential.State if state.value in
     ("needs_login", "no_entitlement", "suspended", "disabled")],
    ids=str,
)  # fmt: skip
def test_logins_that_cannot_serve_are_left_out(
    copilot: Provider, tenant: Tenant, state: str
) -> None:
    connected(copilot, tenant, state=state)
    assert credentials_in(load_table(tenant.pk)) == {}
