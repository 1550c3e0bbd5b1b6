"""A key as somebody who calls the control API.

Its scopes say whether it may change anything; how far it reaches is a role. A key made for a
member acts as that member, a key of the tenant's own as an admin; neither ever as an owner.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import ClassVar, Final

from tenants import scope
from tenants.errors import InvalidKey, KeyForbidden, TenantSuspended
from tenants.keys import peppers, rules
from tenants.keys.last_used import LastUsed
from tenants.keys.lookup import digests, parse
from tenants.keys.models import ApiKey, KeyScope
from tenants.members.models import Membership, Tenant

Role = Membership.Role

_REFUSED: Final = "This API key is not valid: it is unknown, revoked or expired."
# `last_used_at` is that exact here: not every request writes.
_LAST_USED_STEP: Final = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class KeyCaller:
    """Stands where a User stands in tenants/access.py and in requests."""

    key_id: uuid.UUID
    label: str
    tenant_id: uuid.UUID
    role: Role
    is_read_only: bool
    member_id: uuid.UUID | None
    # Whose key it is, so that "a key of one's own" is the same question for both.
    user_id: uuid.UUID | None
    # Names or globs; empty = every model of the tenant.
    allowed_models: tuple[str, ...] = ()

    is_authenticated: ClassVar[bool] = True
    is_anonymous: ClassVar[bool] = False
    is_active: ClassVar[bool] = True
    is_staff: ClassVar[bool] = False

    @property
    def pk(self) -> uuid.UUID | None:
        return self.user_id


# Which scopes open the control API.
CONTROL: Final = frozenset({KeyScope.READ, KeyScope.MANAGE})


def caller_of(
    token: str, *, address: str, now: datetime, opened_by: frozenset[KeyScope] = CONTROL
) -> KeyCaller:
    """One query; none for a text that is no key. Asks the database and no snapshot, so a revoked
    key is refused at once. Raises InvalidKey, KeyForbidden, TenantSuspended."""
    if parse(token) is None:
        raise InvalidKey(_REFUSED)
    with scope.platform("who is this key"):
        key: ApiKey | None = (
            ApiKey.objects.usable(now=now)
            .filter(digest__in=digests(token, peppers.ring()))
            .select_related("tenant", "member__user")
            .first()
        )
        if key is None or (key.member is not None and not key.member.user.is_active):
            raise InvalidKey(_REFUSED)
        if not rules.permits(key.allowed_networks, address):
            raise KeyForbidden("This API key may not be used from this address.")
        if key.tenant.status != Tenant.Status.ACTIVE:
            raise TenantSuspended(
                f"The tenant of this API key is {key.tenant.status}: ask its operator."
            )
        if not opened_by & set(key.scopes):
            names = " or ".join(repr(scope_.value) for scope_ in KeyScope if scope_ in opened_by)
            raise KeyForbidden(f"This API key lacks the scope {names}: use one that has it.")
        if key.last_used_at is None or now - key.last_used_at >= _LAST_USED_STEP:
            used = LastUsed()
            used.note(key.id, now)
            used.flush()
    return KeyCaller(
        key_id=key.id,
        label=str(key),
        tenant_id=key.tenant_id,
        role=_role_of(key.member),
        is_read_only=KeyScope.MANAGE not in key.scopes,
        member_id=key.member_id,
        user_id=key.member.user_id if key.member is not None else None,
        allowed_models=tuple(key.allowed_models),
    )


def _role_of(member: Membership | None) -> Role:
    if member is None or member.role == Role.OWNER:
        return Role.ADMIN
    return Role(member.role)
