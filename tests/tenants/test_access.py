"""Who may see and change what: every role against every kind of row (part of bar T1)."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from django.contrib.auth.models import AnonymousUser

from tenants import access
from tenants import scope as scopes
from tenants.audit.actor import acting_as
from tenants.errors import NotFound, RoleForbidden, TenantSuspended
from tenants.keys.models import ApiKey
from tenants.keys.services import create_key
from tenants.members.invitations import invite
from tenants.members.models import Invitation, Membership, Tenant, User
from tenants.members.services import add_member, change_status

pytestmark = [pytest.mark.storage, pytest.mark.django_db]
Role = Membership.Role


@dataclass
class World:
    tenant: Tenant
    members: dict[str, Membership]
    key: ApiKey
    own_key: ApiKey
    invitation: Invitation
    owner_invitation: Invitation


@pytest.fixture(autouse=True)
def _acting() -> Iterator[None]:
    with acting_as("command", None, "tests"):
        yield


@pytest.fixture
def world(tenant: Tenant) -> World:
    with scopes.tenant(tenant.id):
        members = {
            role.value: add_member(
                tenant=tenant, user=User.objects.create_user(f"{role}@acme.test"), role=role
            )
            for role in Role
        }
        return World(
            tenant=tenant,
            members=members,
            key=create_key(tenant=tenant, label="shared")[0],
            own_key=create_key(tenant=tenant, label="own", member=members["member"])[0],
            invitation=invite(tenant=tenant, email="new@acme.test", role=Role.VIEWER)[0],
            owner_invitation=invite(tenant=tenant, email="boss@acme.test", role=Role.OWNER)[0],
        )


Act = Callable[[World, Any, Any], Any]
# What is asked: the row's id, then the question. `id` replaces the row's own where given.
ACTS: dict[str, Act] = {
    "read tenant": lambda w, u, i: access.access_tenant(u, i or w.tenant.id),
    "make a key": lambda w, u, i: access.access_tenant(u, i or w.tenant.id, at_least=Role.MEMBER),
    "change tenant": lambda w, u, i: access.access_tenant(u, i or w.tenant.id, at_least=Role.ADMIN),
    "close tenant": lambda w, u, i: access.access_tenant(u, i or w.tenant.id, at_least=Role.OWNER),
    "read key": lambda w, u, i: access.access_key(u, i or w.key.id, write=False),
    "change key": lambda w, u, i: access.access_key(u, i or w.key.id, write=True),
    "change member's key": lambda w, u, i: access.access_key(u, i or w.own_key.id, write=True),
    "read member": lambda w, u, i: access.access_member(
        u, i or w.members["viewer"].id, write=False
    ),
    "change viewer": lambda w, u, i: access.access_member(
        u, i or w.members["viewer"].id, write=True
    ),
    "change owner": lambda w, u, i: access.access_member(u, i or w.members["owner"].id, write=True),
    "read invitation": lambda w, u, i: access.access_invitation(
        u, i or w.invitation.id, write=False
    ),
    "withdraw invitation": lambda w, u, i: access.access_invitation(
        u, i or w.invitation.id, write=True
    ),
    "withdraw owner's": lambda w, u, i: access.access_invitation(
        u, i or w.owner_invitation.id, write=True
    ),
}
READS = {"read tenant", "read key", "read member", "read invitation"}
ALLOWED: dict[str, set[str]] = {
    "viewer": READS,
    "member": READS | {"make a key", "change member's key"},
    "admin": set(ACTS) - {"close tenant", "change owner", "withdraw owner's"},
    "owner": set(ACTS),
}


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("role", ALLOWED)
def test_roles(world: World, role: str, act: str) -> None:
    user = world.members[role].user
    if act in ALLOWED[role]:
        row = ACTS[act](world, user, None)
        assert getattr(row, "tenant_id", row.pk) == world.tenant.id
    else:
        with pytest.raises(RoleForbidden, match="takes the role"):
            ACTS[act](world, user, None)
    assert scopes.current() is None


@pytest.mark.parametrize("act", ACTS)
def test_staff_reach_everything_in_every_tenant(world: World, staff: User, act: str) -> None:
    assert ACTS[act](world, staff, None)


@pytest.fixture
def strangers(world: World, other_tenant: Tenant) -> dict[str, Any]:
    with scopes.tenant(other_tenant.id):
        found: dict[str, Any] = {
            f"other tenant's {role}": add_member(
                tenant=other_tenant, user=User.objects.create_user(f"{role}@globex.test"), role=role
            ).user
            for role in Role
        }
    found["anonymous"] = AnonymousUser()
    found["member of nothing"] = User.objects.create_user("nobody@test.test")
    found["owner who left the company"] = world.members["owner"].user
    found["owner who left the company"].is_active = False
    found["staff who left"] = User.objects.create_user(
        "left@platform.test", is_staff=True, is_superuser=True, is_active=False
    )
    return found


@pytest.mark.parametrize("act", ACTS)
def test_not_yours_and_not_there_are_one_answer(
    world: World, strangers: dict[str, Any], staff: User, act: str
) -> None:
    said = set()
    for user in strangers.values():
        for row_id in (None, uuid.uuid4(), "not-an-id", "", "0" * 32 + "\0"):
            with pytest.raises(NotFound) as refused:
                ACTS[act](world, user, row_id)
            said.add((type(refused.value), str(refused.value)))
    for row_id in (uuid.uuid4(), "not-an-id"):
        with pytest.raises(NotFound) as refused:
            ACTS[act](world, staff, row_id)
        said.add((type(refused.value), str(refused.value)))
    assert len(said) == 1


@pytest.mark.parametrize("act", ACTS)
def test_members_of_a_suspended_tenant_read_and_change_nothing(
    world: World, staff: User, act: str
) -> None:
    with scopes.tenant(world.tenant.id):
        change_status(tenant=world.tenant, status=Tenant.Status.SUSPENDED)
    owner = world.members["owner"].user
    if act in READS:
        assert ACTS[act](world, owner, None)
    else:
        with pytest.raises(TenantSuspended):
            ACTS[act](world, owner, None)
    assert ACTS[act](world, staff, None)


def test_lists_hold_ones_own_tenants(
    world: World, other_tenant: Tenant, staff: User, strangers: dict[str, Any]
) -> None:
    viewer = world.members["viewer"].user
    assert set(access.tenants_of(viewer)) == {world.tenant}
    assert set(access.tenants_of(strangers["other tenant's owner"])) == {other_tenant}
    assert set(access.tenants_of(staff)) == {world.tenant, other_tenant}
    for name in ("anonymous", "member of nothing", "staff who left"):
        assert not access.tenants_of(strangers[name]).exists()
    with scopes.platform("test"):
        assert access.visible(viewer, ApiKey.objects.all()).count() == 2
        assert access.visible(staff, ApiKey.objects.all()).count() == 2
        assert not access.visible(strangers["other tenant's owner"], ApiKey.objects.all()).exists()
        assert not access.visible(strangers["anonymous"], ApiKey.objects.all()).exists()


def test_who_may_give_which_role(world: World, staff: User, strangers: dict[str, Any]) -> None:
    def roles(user: Any) -> set[str]:
        return set(access.grantable_roles(user, world.tenant.id))

    assert roles(world.members["admin"].user) == {"admin", "member", "viewer"}
    assert roles(staff) == {"owner", "admin", "member", "viewer"}
    assert roles(world.members["member"].user) == roles(strangers["anonymous"]) == set()
