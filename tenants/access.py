"""A view's only way to a row: "not yours" and "not there" are decided here, once, alike.

Each function looks in the platform scope, because who asks decides the scope and not the other
way round, and returns the row. What the view does next it does in the row's scope:

    key = access_key(request.user, key_id, write=True)
    with scope.tenant(key.tenant_id):
        revoke_key(key=key)

Who may what (platform staff may everything, in every tenant):

    viewer   reads the tenant, its members and keys
    member   also makes keys for themselves, and changes those
    admin    also changes every key, the tenant's own settings, and members below owner; reads
             the audit log
    owner    also owners

The members of a tenant that is not active read, and change nothing. A key asks as a KeyCaller,
which has a role in its own tenant and none anywhere else.
"""

from __future__ import annotations

import uuid
from typing import Any, Final, TypeVar

from django.contrib.auth.models import AnonymousUser
from django.db.models import Q, QuerySet

from tenants import scope
from tenants.audit.models import AuditEvent
from tenants.errors import KeyForbidden, NotFound, RoleForbidden, TenantSuspended
from tenants.keys.caller import KeyCaller
from tenants.keys.models import ApiKey
from tenants.members.models import Invitation, Membership, Tenant, User
from tenants.scope import TenantOwned

Role = Membership.Role
Caller = User | AnonymousUser | KeyCaller

_ORDER: Final = [Role.VIEWER, Role.MEMBER, Role.ADMIN, Role.OWNER]
_NOT_FOUND: Final = "There is nothing here under this id."

T = TypeVar("T", bound=TenantOwned)


def is_staff(user: Caller) -> bool:
    return bool(user.is_active and user.is_staff)


def role_in(user: Caller, tenant_id: uuid.UUID) -> Role | None:
    """What the user is in the tenant; staff count as owners everywhere. None = nothing."""
    if isinstance(user, KeyCaller):
        return user.role if user.tenant_id == tenant_id else None
    if not isinstance(user, User) or not user.is_active:
        return None
    if is_staff(user):
        return Role.OWNER
    membership = membership_of(user, tenant_id)
    return Role(membership.role) if membership is not None else None


def membership_of(user: User, tenant_id: uuid.UUID) -> Membership | None:
    with scope.platform("role of a user"):
        found: Membership | None = Membership.objects.filter(tenant_id=tenant_id, user=user).first()
        return found


def tenants_of(user: Caller) -> QuerySet[Tenant]:
    """The tenants a user may see. Safe to filter and page further in any scope."""
    if isinstance(user, KeyCaller):
        return Tenant.objects.filter(pk=user.tenant_id)
    if not isinstance(user, User) or not user.is_active:
        return Tenant.objects.none()
    if is_staff(user):
        return Tenant.objects.all()
    with scope.platform("tenants of a user"):
        ids = list(Membership.objects.filter(user=user).values_list("tenant_id", flat=True))
    return Tenant.objects.filter(pk__in=ids)


def grantable_roles(user: Caller, tenant_id: uuid.UUID) -> frozenset[Role]:
    """The roles this user may give, take and invite to."""
    role = role_in(user, tenant_id)
    if role is Role.OWNER:
        return frozenset(Role)
    if role is Role.ADMIN:
        return frozenset(Role) - {Role.OWNER}
    return frozenset()


def access_tenant(user: Caller, tenant_id: Any, *, at_least: Role = Role.VIEWER) -> Tenant:
    """The tenant, for a user whose role is `at_least` this. Above viewer it is meant for a
    change. Raises NotFound, RoleForbidden, TenantSuspended."""
    wanted = _uuid(tenant_id)
    role = role_in(user, wanted)
    tenant = Tenant.objects.filter(pk=wanted).first() if role is not None else None
    if tenant is None or role is None:
        raise NotFound(_NOT_FOUND)
    if at_least is not Role.VIEWER:
        _allow_change(user, tenant)
    if _ORDER.index(role) < _ORDER.index(at_least):
        raise RoleForbidden(f"This takes the role {at_least.label.lower()} or above.")
    return tenant


def access_key(user: Caller, key_id: Any, *, write: bool) -> ApiKey:
    """A key of a tenant of the user's. Members change only the keys made for them."""
    key = _find(ApiKey, key_id, "tenant", "member")
    role = _role_or_not_found(user, key)
    if write:
        _allow_change(user, key.tenant)
        is_own = key.member is not None and key.member.user_id == user.pk
        if role not in {Role.OWNER, Role.ADMIN} and not (role is Role.MEMBER and is_own):
            raise RoleForbidden("This takes the role admin, or a key of your own.")
    return key


def access_member(user: Caller, membership_id: Any, *, write: bool) -> Membership:
    """A membership in a tenant of the user's. Owners are changed by owners."""
    membership = _find(Membership, membership_id, "tenant", "user")
    _role_or_not_found(user, membership)
    if write:
        _allow_change(user, membership.tenant)
        if membership.role not in grantable_roles(user, membership.tenant_id):
            raise RoleForbidden("This takes the role admin, or owner where an owner is changed.")
    return membership


def access_invitation(user: Caller, invitation_id: Any, *, write: bool) -> Invitation:
    invitation = _find(Invitation, invitation_id, "tenant")
    _role_or_not_found(user, invitation)
    if write:
        _allow_change(user, invitation.tenant)
        if invitation.role not in grantable_roles(user, invitation.tenant_id):
            raise RoleForbidden("This takes the role admin, or owner where an owner is invited.")
    return invitation


def access_audit(user: Caller, tenant_id: Any) -> Tenant:
    """The tenant, for a user who may read its audit log: it shows who did what from where."""
    tenant = access_tenant(user, tenant_id)
    _allow_audit(user, tenant.id)
    return tenant


def access_audit_event(user: Caller, event_id: Any) -> AuditEvent:
    """An event of a tenant of the user's; the platform's own are for staff."""
    with scope.platform("access"):
        event: AuditEvent | None = AuditEvent.objects.filter(pk=_uuid(event_id)).first()
    if event is None or (event.tenant_id is None and not is_staff(user)):
        raise NotFound(_NOT_FOUND)
    if event.tenant_id is not None:
        _role_or_not_found(user, event)
        _allow_audit(user, event.tenant_id)
    return event


def within(row: T, tenant_id: Any) -> T:
    """The row, if it is that tenant's: an address names both, and both have to be right."""
    if row.tenant_id != _uuid(tenant_id):
        raise NotFound(_NOT_FOUND)
    return row


def visible(user: Caller, queryset: QuerySet[T]) -> QuerySet[T]:
    """The rows of the user's tenants among `queryset`, for lists that span tenants. Evaluate it
    in the platform scope; inside one tenant's scope no list needs it."""
    if is_staff(user):
        return queryset
    ids = tenants_of(user).values_list("pk", flat=True)
    return queryset.filter(Q(tenant_id__in=list(ids)))


def _find(model: type[T], row_id: Any, *related: str) -> T:
    with scope.platform("access"):
        found: T | None = model.objects.filter(pk=_uuid(row_id)).select_related(*related).first()
    if found is None:
        raise NotFound(_NOT_FOUND)
    return found


def _role_or_not_found(user: Caller, row: TenantOwned) -> Role:
    role = role_in(user, row.tenant_id)
    if role is None:
        raise NotFound(_NOT_FOUND)
    return role


def _allow_audit(user: Caller, tenant_id: uuid.UUID) -> None:
    if role_in(user, tenant_id) not in {Role.ADMIN, Role.OWNER}:
        raise RoleForbidden("The audit log takes the role admin or above.")


def _allow_change(user: Caller, tenant: Tenant) -> None:
    if isinstance(user, KeyCaller) and user.is_read_only:
        raise KeyForbidden("This API key lacks the scope 'manage': it may read, not change.")
    if tenant.status != Tenant.Status.ACTIVE and not is_staff(user):
        raise TenantSuspended(f"This tenant is {tenant.status}: nothing can be changed in it.")


def _uuid(value: Any) -> uuid.UUID:
    """An id from a URL. One that is none is simply not there."""
    if isinstance(value, uuid.UUID):
        return value
    try:
        return uuid.UUID(str(value))
    except ValueError:
        raise NotFound(_NOT_FOUND) from None
