"""Tenants and who belongs to them. Every change is audited in the same transaction.

`create_tenant` opens the new tenant's scope itself, the others run in the caller's. Who may
call them is decided in tenants/access.py.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import F, QuerySet

from controlplane.kit import clock
from tenants import scope
from tenants.audit.services import record
from tenants.errors import StaleVersion, StateConflict
from tenants.keys.models import ApiKey
from tenants.keys.services import revoke_key
from tenants.members.models import Membership, Tenant, User
from tenants.revisions.services import bump

# What `update_tenant` may change. The slug is in addresses and logs for ever.
EDITABLE: Final = ("name", "plan_notes", "time_zone")


@transaction.atomic
def create_tenant(
    *,
    slug: str,
    name: str,
    owner: User | None = None,
    plan_notes: str = "",
    time_zone: str = "UTC",
) -> Tenant:
    """Raises ValidationError, by field. Without an owner, platform staff invite one later."""
    tenant = Tenant(slug=slug, name=name.strip(), plan_notes=plan_notes, time_zone=time_zone)
    tenant.full_clean()
    tenant.save(force_insert=True)
    with scope.tenant(tenant.id):
        record(
            tenant_id=tenant.id, action="tenant.created", target=tenant, after=_tenant_facts(tenant)
        )
        if owner is not None:
            add_member(tenant=tenant, user=owner, role=Membership.Role.OWNER)
    bump("tenants")
    return tenant


@transaction.atomic
def update_tenant(
    *, tenant: Tenant, version: int, now: datetime | None = None, **changes: Any
) -> Tenant:
    """Changes any of EDITABLE. `version` is the one the caller saw: StaleVersion if it moved."""
    unknown = set(changes) - set(EDITABLE)
    if unknown:
        raise TypeError(f"A tenant's {', '.join(sorted(unknown))} cannot be changed here.")
    current = Tenant.objects.get(pk=tenant.pk)
    before = _tenant_facts(current)
    for field, value in changes.items():
        setattr(current, field, value)
    current.clean_fields()
    if not Tenant.objects.filter(pk=tenant.pk, version=version).update(
        **changes, version=F("version") + 1, updated_at=now or clock.now()
    ):
        raise StaleVersion("Somebody else changed this tenant meanwhile: read it again.")
    current.refresh_from_db()
    record(
        tenant_id=current.id,
        action="tenant.changed",
        target=current,
        before=before,
        after=_tenant_facts(current),
    )
    bump("tenants")
    return current


@transaction.atomic
def change_status(*, tenant: Tenant, status: str, now: datetime | None = None) -> Tenant:
    """Suspend, close or bring back. The keys of a tenant that is not active are refused within
    a second. Raises StateConflict if somebody changed the status meanwhile."""
    if status not in Tenant.Status.values:
        raise ValidationError({"status": f"Choose one of {', '.join(Tenant.Status.values)}."})
    seen = tenant.status
    if seen == status:
        raise StateConflict(f"This tenant is {status} already.")
    if not Tenant.objects.filter(pk=tenant.pk, status=seen).update(
        status=status, version=F("version") + 1, updated_at=now or clock.now()
    ):
        raise StateConflict("Somebody else changed this tenant's status: read it again.")
    tenant.refresh_from_db()
    record(
        tenant_id=tenant.id,
        action="tenant.status_changed",
        target=tenant,
        before={"status": seen},
        after={"status": status},
    )
    bump("tenants")
    return tenant


@transaction.atomic
def add_member(*, tenant: Tenant, user: User, role: str) -> Membership:
    """Raises StateConflict if the user belongs to the tenant already."""
    _check_role(role)
    membership: Membership
    membership, is_new = Membership.objects.get_or_create(
        tenant=tenant, user=user, defaults={"role": role}
    )
    if not is_new:
        raise StateConflict(f"{user.email} is a member already: change the role instead.")
    record(
        tenant_id=tenant.id,
        action="member.added",
        target=membership,
        after={"user": user.email, "role": role},
    )
    return membership


@transaction.atomic
def change_role(
    *, membership: Membership, role: str, version: int | None = None, now: datetime | None = None
) -> Membership:
    """Raises StateConflict for the last owner, and if the role moved meanwhile. With `version`,
    the one the caller saw, a member who moved is StaleVersion."""
    _check_role(role)
    seen = membership.role
    if seen == role:
        return membership
    if seen == Membership.Role.OWNER:
        _keep_an_owner(membership)
    if not _as_seen(membership, version).update(
        role=role, version=F("version") + 1, updated_at=now or clock.now()
    ):
        raise _moved(version)
    membership.refresh_from_db()
    record(
        tenant_id=membership.tenant_id,
        action="member.role_changed",
        target=membership,
        before={"user": membership.user.email, "role": seen},
        after={"user": membership.user.email, "role": role},
    )
    return membership


@transaction.atomic
def remove_member(
    *, membership: Membership, version: int | None = None, now: datetime | None = None
) -> None:
    """Takes the person out and revokes the keys made for them. Raises StateConflict for the
    last owner, and if the person was removed meanwhile; `version` as in change_role."""
    now = now or clock.now()
    if membership.role == Membership.Role.OWNER:
        _keep_an_owner(membership)
    # Before the keys and the audit chain, as every other change of a member locks it.
    if not _as_seen(membership, version).select_for_update().exists():
        raise _moved(version)
    for key in ApiKey.objects.filter(member=membership, revoked_at=None).order_by("pk"):
        revoke_key(key=key, now=now)
    record(
        tenant_id=membership.tenant_id,
        action="member.removed",
        target=membership,
        before={"user": membership.user.email, "role": membership.role},
    )
    deleted = _as_seen(membership, version).delete()
    if not deleted[1].get(Membership._meta.label):
        raise _moved(version)


def _as_seen(membership: Membership, version: int | None) -> QuerySet[Membership]:
    """The role in the condition: an owner made meanwhile must pass the check for the last one."""
    found = Membership.objects.filter(pk=membership.pk, role=membership.role)
    return found if version is None else found.filter(version=version)


def _moved(version: int | None) -> StateConflict | StaleVersion:
    text = "Somebody else changed this member meanwhile: read it again."
    return StateConflict(text) if version is None else StaleVersion(text)


def _keep_an_owner(leaving: Membership) -> None:
    """Two owners leaving at once must not both find the other: the tenant's row is the lock
    (on SQLite, the transaction itself)."""
    Tenant.objects.select_for_update().get(pk=leaving.tenant_id)
    others = Membership.objects.filter(tenant_id=leaving.tenant_id, role=Membership.Role.OWNER)
    if not others.exclude(pk=leaving.pk).exists():
        raise StateConflict("This is the tenant's last owner: make somebody else an owner first.")


def _check_role(role: str) -> None:
    if role not in Membership.Role.values:
        raise ValidationError({"role": f"Choose one of {', '.join(Membership.Role.values)}."})


def _tenant_facts(tenant: Tenant) -> dict[str, Any]:
    return {
        "slug": tenant.slug,
        "name": tenant.name,
        "status": tenant.status,
        "plan_notes": tenant.plan_notes,
        "time_zone": tenant.time_zone,
    }
