"""Tenants and their members: what a change does, refuses, records and announces."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.db import connection

from tenants import scope as scopes
from tenants.audit.actor import acting_as
from tenants.audit.models import AuditEvent
from tenants.errors import NoScope, StaleVersion, StateConflict
from tenants.keys.models import ApiKey
from tenants.keys.services import create_key
from tenants.members.models import Membership, Tenant, User
from tenants.members.services import (
    add_member,
    change_role,
    change_status,
    create_tenant,
    remove_member,
    update_tenant,
)
from tenants.revisions.services import current
from tests.patience import LONG_SECONDS

pytestmark = [pytest.mark.storage, pytest.mark.django_db]
Role = Membership.Role


@pytest.fixture(autouse=True)
def _acting() -> Iterator[None]:
    with acting_as("command", None, "tests"):
        yield


@pytest.fixture
def inside(tenant: Tenant) -> Iterator[Tenant]:
    with scopes.tenant(tenant.id):
        yield tenant


def person(name: str) -> User:
    return User.objects.create_user(f"{name}@acme.test")


def events(tenant: Tenant) -> list[str]:
    with scopes.tenant(tenant.id):
        return list(AuditEvent.objects.order_by("sequence").values_list("action", flat=True))


# --- Tenants -------------------------------------------------------------------------------------


def test_a_new_tenant_has_its_owner_and_its_history() -> None:
    before = current()["tenants"]
    owner = person("ada")
    tenant = create_tenant(slug="initech", name=" Initech ", owner=owner)
    assert scopes.current() is None
    assert (tenant.name, tenant.status, tenant.version) == ("Initech", "active", 1)
    with scopes.tenant(tenant.id):
        assert Membership.objects.get().role == Role.OWNER
    assert events(tenant) == ["tenant.created", "member.added"]
    assert current()["tenants"] == before + 1


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"slug": "No"}, "slug"),
        ({"slug": "a"}, "slug"),
        ({"slug": "-abc"}, "slug"),
        ({"slug": "abc\n"}, "slug"),
        ({"slug": "acme"}, "slug"),
        ({"name": "  "}, "name"),
    ],
)
def test_a_bad_tenant_is_refused_by_field(
    tenant: Tenant, fields: dict[str, Any], field: str
) -> None:
    with pytest.raises(ValidationError) as refused:
        create_tenant(**{"slug": "initech", "name": "Initech", **fields})
    assert list(refused.value.message_dict) == [field]
    assert Tenant.objects.count() == 1


def test_changing_a_tenant_names_the_version(inside: Tenant) -> None:
    changed = update_tenant(tenant=inside, version=1, name="Acme Inc", time_zone="Europe/Berlin")
    assert (changed.name, changed.version) == ("Acme Inc", 2)
    with pytest.raises(StaleVersion):
        update_tenant(tenant=inside, version=1, name="lost update")
    with pytest.raises(TypeError, match="slug"):
        update_tenant(tenant=inside, version=2, slug="other")
    assert events(inside) == ["tenant.changed"]


def test_status_changes_once(inside: Tenant) -> None:
    stale = Tenant.objects.get(pk=inside.pk)
    change_status(tenant=inside, status=Tenant.Status.SUSPENDED)
    with pytest.raises(StateConflict, match="already"):
        change_status(tenant=inside, status=Tenant.Status.SUSPENDED)
    with pytest.raises(StateConflict, match="Somebody else"):
        change_status(tenant=stale, status=Tenant.Status.CLOSING)
    with pytest.raises(ValidationError):
        change_status(tenant=inside, status="gone")
    assert Tenant.objects.get(pk=inside.pk).status == "suspended"
    assert events(inside) == ["tenant.status_changed"]


# --- Members -------------------------------------------------------------------------------------


def test_adding_happens_once_and_in_scope(inside: Tenant, other_tenant: Tenant) -> None:
    ada = person("ada")
    membership = add_member(tenant=inside, user=ada, role=Role.ADMIN)
    assert (membership.role, membership.tenant) == ("admin", inside)
    with pytest.raises(StateConflict, match="already"):
        add_member(tenant=inside, user=ada, role=Role.OWNER)
    with pytest.raises(ValidationError):
        add_member(tenant=inside, user=person("bob"), role="king")
    with pytest.raises(NoScope):
        add_member(tenant=other_tenant, user=ada, role=Role.OWNER)
    assert Membership.objects.get().role == Role.ADMIN


def test_the_last_owner_stays_and_stays_owner(inside: Tenant) -> None:
    ada = add_member(tenant=inside, user=person("ada"), role=Role.OWNER)
    bob = add_member(tenant=inside, user=person("bob"), role=Role.ADMIN)
    for refuse in (
        lambda: remove_member(membership=ada),
        lambda: change_role(membership=ada, role=Role.ADMIN),
    ):
        with pytest.raises(StateConflict, match="last owner"):
            refuse()
    change_role(membership=bob, role=Role.OWNER)
    change_role(membership=ada, role=Role.VIEWER)
    remove_member(membership=ada)
    assert Membership.objects.get().user == bob.user
    assert events(inside)[2:] == ["member.role_changed", "member.role_changed", "member.removed"]


def test_an_owner_of_another_tenant_does_not_count(inside: Tenant, other_tenant: Tenant) -> None:
    ada = add_member(tenant=inside, user=person("ada"), role=Role.OWNER)
    with scopes.platform("test"):
        add_member(tenant=other_tenant, user=person("bob"), role=Role.OWNER)
        with pytest.raises(StateConflict, match="last owner"):
            remove_member(membership=ada)


def test_a_role_that_moved_meanwhile_is_not_overwritten(inside: Tenant) -> None:
    add_member(tenant=inside, user=person("ada"), role=Role.OWNER)
    bob = add_member(tenant=inside, user=person("bob"), role=Role.MEMBER)
    stale = Membership.objects.get(pk=bob.pk)
    change_role(membership=bob, role=Role.ADMIN)
    with pytest.raises(StateConflict, match="read it again"):
        change_role(membership=stale, role=Role.VIEWER)
    with pytest.raises(StateConflict, match="read it again"):
        remove_member(membership=stale)
    assert Membership.objects.get(pk=bob.pk).role == Role.ADMIN


def test_who_leaves_takes_their_keys_with_them(inside: Tenant) -> None:
    add_member(tenant=inside, user=person("ada"), role=Role.OWNER)
    bob = add_member(tenant=inside, user=person("bob"), role=Role.MEMBER)
    own, _ = create_key(tenant=inside, label="bob's", member=bob)
    shared, _ = create_key(tenant=inside, label="shared")
    remove_member(membership=bob)
    own.refresh_from_db()
    assert own.revoked_at is not None
    assert own.member is None
    assert ApiKey.objects.get(pk=shared.pk).revoked_at is None
    assert events(inside)[-2:] == ["key.revoked", "member.removed"]


@pytest.mark.django_db(transaction=True)
def test_two_owners_cannot_both_leave_at_once(tenant: Tenant) -> None:
    with scopes.tenant(tenant.id):
        owners = [
            add_member(tenant=tenant, user=person(name), role=Role.OWNER) for name in ("ada", "bob")
        ]
    start = threading.Barrier(2, timeout=20)
    refused: list[str] = []

    def leave(membership: Membership) -> None:
        try:
            with scopes.tenant(tenant.id), acting_as("command", None, "tests"):
                start.wait()
                remove_member(membership=membership)
        except StateConflict as error:
            refused.append(str(error))
        finally:
            connection.close()

    threads = [threading.Thread(target=leave, args=[owner]) for owner in owners]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LONG_SECONDS)
    with scopes.tenant(tenant.id):
        assert Membership.objects.filter(role=Role.OWNER).count() == 1
    assert len(refused) == 1
    assert "last owner" in refused[0]
