"""A key as a caller of the control API: whom it stands for, and when it is refused."""

from __future__ import annotations

from datetime import timedelta

import pytest

from controlplane.kit import clock
from tenants import access, scope
from tenants.audit.actor import acting_as
from tenants.errors import InvalidKey, KeyForbidden, NotFound, RoleForbidden, TenantSuspended
from tenants.keys.caller import KeyCaller, caller_of
from tenants.keys.models import ApiKey
from tenants.keys.services import create_key, revoke_key
from tenants.members.models import Membership, Tenant, User
from tenants.members.services import change_status

pytestmark = [pytest.mark.storage, pytest.mark.django_db]
Role = Membership.Role


def make(
    tenant: Tenant, scopes: list[str], member: Membership | None = None, **limits: object
) -> tuple[ApiKey, str]:
    with acting_as("command", None, "tests"), scope.tenant(tenant.id):
        key, secret = create_key(
            tenant=tenant,
            label="k",
            scopes=scopes,
            member=member,
            **limits,  # type: ignore[arg-type]
        )
    return key, secret.reveal()


def member_of(tenant: Tenant, role: Role) -> Membership:
    user = User.objects.create_user(f"{role}@acme.test")
    with scope.tenant(tenant.id):
        found: Membership = Membership.objects.create(tenant=tenant, user=user, role=role)
    return found


def ask(token: str, address: str = "127.0.0.1") -> KeyCaller:
    return caller_of(token, address=address, now=clock.now())


@pytest.mark.parametrize(
    ("scopes", "is_read_only"),
    [(["read"], True), (["manage"], False), (["read", "manage", "proxy"], False)],
)
def test_a_tenants_own_key_is_an_admin(
    tenant: Tenant, scopes: list[str], is_read_only: bool
) -> None:
    key, token = make(tenant, scopes)
    caller = ask(token)
    assert (caller.key_id, caller.tenant_id, caller.role) == (key.id, tenant.id, Role.ADMIN)
    assert caller.is_read_only is is_read_only
    assert caller.pk is None
    assert scope.current() is None


@pytest.mark.parametrize("role", list(Role))
def test_a_members_key_is_that_member_but_never_an_owner(tenant: Tenant, role: Role) -> None:
    member = member_of(tenant, role)
    _, token = make(tenant, ["manage"], member)
    caller = ask(token)
    assert caller.role == (Role.ADMIN if role is Role.OWNER else role)
    assert caller.pk == member.user_id


def test_what_is_refused(tenant: Tenant) -> None:
    key, token = make(tenant, ["manage"])
    expired, expired_token = make(tenant, ["manage"], expires_at=clock.now() + timedelta(hours=1))
    for text in ("", "x", token[:-1], token + "0", token.swapcase()):
        with pytest.raises(InvalidKey):
            ask(text)
    with pytest.raises(InvalidKey):
        caller_of(
            expired_token, address="127.0.0.1", now=clock.now() + timedelta(hours=1, seconds=1)
        )
    assert ask(expired_token).key_id == expired.id
    with acting_as("command", None, "tests"), scope.tenant(tenant.id):
        revoke_key(key=key)
    with pytest.raises(InvalidKey):
        ask(token)


def test_limits_of_scope_address_tenant_and_person(tenant: Tenant) -> None:
    with pytest.raises(KeyForbidden, match="scope"):
        ask(make(tenant, ["proxy"])[1])
    _, inside = make(tenant, ["read"], allowed_networks=["10.0.0.0/8", "2001:db8::/32"])
    for address in ("10.1.2.3", "::ffff:10.1.2.3", "2001:db8::1"):
        assert ask(inside, address)
    for address in ("11.1.2.3", "", "10.1.2.3.4", "::1"):
        with pytest.raises(KeyForbidden, match="address"):
            ask(inside, address)
    member = member_of(tenant, Role.ADMIN)
    _, theirs = make(tenant, ["read"], member)
    User.objects.filter(pk=member.user_id).update(is_active=False)
    with pytest.raises(InvalidKey):
        ask(theirs)
    with acting_as("command", None, "tests"), scope.tenant(tenant.id):
        change_status(tenant=tenant, status=Tenant.Status.SUSPENDED)
    with pytest.raises(TenantSuspended):
        ask(inside, "10.1.2.3")


def test_access_of_keys(tenant: Tenant, other_tenant: Tenant) -> None:
    key, token = make(tenant, ["manage"])
    reader = ask(make(tenant, ["read"])[1])
    foreign = ask(make(other_tenant, ["manage"])[1])
    manager = ask(token)
    assert access.access_key(manager, key.id, write=True) == key
    assert access.access_key(reader, key.id, write=False) == key
    with pytest.raises(KeyForbidden, match="manage"):
        access.access_key(reader, key.id, write=True)
    with pytest.raises(NotFound):
        access.access_key(foreign, key.id, write=False)
    with pytest.raises(NotFound):
        access.access_tenant(foreign, tenant.id)
    with pytest.raises(RoleForbidden):
        access.access_tenant(manager, tenant.id, at_least=Role.OWNER)
    assert list(access.tenants_of(manager)) == [tenant]
    assert access.grantable_roles(manager, tenant.id) == {Role.ADMIN, Role.MEMBER, Role.VIEWER}
    assert not access.is_staff(manager)
    assert access.access_audit(reader, tenant.id) == tenant
    with scope.platform("test"):
        assert set(access.visible(foreign, ApiKey.objects.all())) == {
            ApiKey.objects.get(pk=foreign.key_id)
        }
