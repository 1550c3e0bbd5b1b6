"""Accounts of people: added by platform staff, never by themselves. Every change is audited in
the same transaction, on the platform's chain.

Nobody knows anybody else's password: an account starts, and starts again, with a one-time one.
"""

from __future__ import annotations

import secrets
from typing import Any, Final

from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.db import transaction

from controlplane.kit.secret import Secret
from tenants.audit.services import record
from tenants.errors import StateConflict
from tenants.members.models import User, canonical_email
from tenants.revisions.services import bump

# No letters and digits that are read for each other. 20 of 31 signs: 99 bits.
_SIGNS: Final = "23456789abcdefghjkmnpqrstuvwxyz"
_GROUPS: Final = 4
_GROUP_LENGTH: Final = 5


def one_time_password() -> Secret:
    groups = ("".join(secrets.choice(_SIGNS) for _ in range(_GROUP_LENGTH)) for _ in range(_GROUPS))
    return Secret("-".join(groups))


@transaction.atomic
def add_person(*, email: str, name: str = "", is_staff: bool = False) -> tuple[User, Secret]:
    """The account and its one-time password, which exists only now. Raises ValidationError, by
    field."""
    email = canonical_email(email)
    try:
        validate_email(email)
    except ValidationError as error:
        raise ValidationError({"email": error.messages}) from None
    if User.objects.filter(email=email).exists():
        raise ValidationError({"email": "There is an account with this address already."})
    password = one_time_password()
    user = User(email=email, name=name.strip(), is_staff=is_staff, must_change_password=True)
    user.set_password(password.reveal())
    user.clean_fields()
    user.save(force_insert=True)
    record(tenant_id=None, action="user.added", target=user, after=_facts(user))
    return user, password


@transaction.atomic
def change_person(*, user: User, name: str, is_staff: bool) -> User:
    """Raises StateConflict when it would leave the platform without an administrator."""
    current = User.objects.select_for_update().get(pk=user.pk)
    before = _facts(current)
    current.name, current.is_staff = name.strip(), is_staff
    current.clean_fields()
    if current.is_superuser and not is_staff:
        _keep_an_administrator(current)
    if _facts(current) == before:
        return current
    current.save(update_fields=["name", "is_staff"])
    record(
        tenant_id=None, action="user.changed", target=current, before=before, after=_facts(current)
    )
    return current


@transaction.atomic
def deactivate(*, user: User) -> bool:
    """Closes the account; its sessions end with their next request. False if it was closed
    before. Raises StateConflict for the last administrator."""
    if user.is_superuser:
        _keep_an_administrator(user)
    return _set_active(user, False, "user.deactivated")


@transaction.atomic
def reactivate(*, user: User) -> bool:
    """False if the account was open already."""
    return _set_active(user, True, "user.reactivated")


@transaction.atomic
def give_one_time_password(*, user: User) -> Secret:
    """Replaces the password and ends all sessions. The new one must be changed at sign-in."""
    password = one_time_password()
    current = User.objects.select_for_update().get(pk=user.pk)
    current.set_password(password.reveal())
    current.must_change_password = True
    current.save(update_fields=["password", "must_change_password"])
    record(tenant_id=None, action="user.password_given", target=current)
    return password


def _set_active(user: User, is_active: bool, action: str) -> bool:
    if not User.objects.filter(pk=user.pk, is_active=not is_active).update(is_active=is_active):
        return False
    user.is_active = is_active
    record(
        tenant_id=None,
        action=action,
        target=user,
        before={"is_active": not is_active},
        after={"is_active": is_active},
    )
    # Their own keys stop and start with them, in every process.
    bump("keys")
    return True


def _keep_an_administrator(leaving: User) -> None:
    """Two administrators leaving at once must not both find the other: their rows are the lock
    (on SQLite, the transaction itself)."""
    working = User.objects.filter(is_superuser=True, is_staff=True, is_active=True)
    others = list(working.order_by("pk").select_for_update())
    if not any(other.pk != leaving.pk for other in others):
        raise StateConflict("This is the last administrator: make somebody else one first.")


def _facts(user: User) -> dict[str, Any]:
    return {"email": user.email, "name": user.name, "is_staff": user.is_staff}
