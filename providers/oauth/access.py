"""A view's only way to a login: "not yours" and "not there" are decided here, once, alike.

Who may what:

    member   signs in for themselves; the credential serves their own keys
    admin    also signs in for all of the tenant, where the operator recorded that it is permitted
    staff    also for the platform

A login on its way is seen by nobody but who started it (bar W4).
"""

from __future__ import annotations

import uuid
from contextlib import AbstractContextManager
from typing import Any, Final

from providers.access import usable
from providers.catalog.models import Provider
from providers.credentials.models import Credential
from providers.oauth.errors import LoginClosed
from providers.oauth.models import DeviceLogin
from tenants import scope
from tenants.access import Caller, Role, access_tenant, is_staff, role_in
from tenants.errors import KeyForbidden, NotFound, RoleForbidden
from tenants.keys.caller import KeyCaller
from tenants.members.models import User

_NOT_FOUND: Final = "There is nothing here under this id."


def person_of(caller: Caller) -> User:
    """Whose login it will be. A key signs in for the member it was made for, or not at all."""
    if isinstance(caller, User) and caller.is_active:
        return caller
    if isinstance(caller, KeyCaller) and caller.user_id is not None:
        if caller.is_read_only:
            raise KeyForbidden("This API key lacks the scope 'manage': it may not sign in.")
        found = User.objects.filter(pk=caller.user_id, is_active=True).first()
        if found is not None:
            return found
    raise KeyForbidden("A login belongs to a person: use a key that was made for a member.")


def access_login_target(
    caller: Caller, tenant_id: Any, provider: Any, *, is_personal: bool
) -> Provider:
    """The registration (by id, or by slug or catalogue id) at which the caller may sign in for
    this tenant; None = for the platform. Raises NotFound, RoleForbidden, TenantSuspended."""
    if tenant_id is None:
        if not is_staff(caller):
            raise NotFound(_NOT_FOUND)
        with scope.platform("access"):
            rows = Provider.objects.filter(tenant=None, is_enabled=True)
            return _named(rows, provider)
    # Who is no member at all is told the same as about a tenant that is not there.
    tenant = access_tenant(caller, tenant_id, at_least=Role.MEMBER)
    if not is_personal and role_in(caller, tenant.id) not in {Role.ADMIN, Role.OWNER}:
        raise RoleForbidden("Signing in for the whole tenant takes the role admin or above.")
    with scope.platform("access"):
        return _named(usable(tenant.id).filter(is_enabled=True), provider)


def _named(rows: Any, wanted: Any) -> Provider:
    if isinstance(wanted, uuid.UUID):
        found = rows.filter(pk=wanted).first()
    else:
        text = str(wanted)[:63]
        try:
            found = rows.filter(pk=uuid.UUID(text)).first()
        except ValueError:
            # A tenant's own registration comes before the platform's of the same name.
            named = [*rows.filter(slug=text), *rows.filter(catalog_id=text)]
            found = next((row for row in named if row.tenant_id is not None), None) or next(
                iter(named), None
            )
    if found is None:
        raise NotFound(_NOT_FOUND)
    provider: Provider = found
    return provider


def access_login(caller: Caller, login_id: Any) -> DeviceLogin:
    """A login of the caller's own. Raises NotFound."""
    person_id = caller.pk
    try:
        wanted = login_id if isinstance(login_id, uuid.UUID) else uuid.UUID(str(login_id))
    except ValueError:
        raise NotFound(_NOT_FOUND) from None
    with scope.platform("access"):
        found = (
            DeviceLogin.objects.select_related("provider", "tenant", "started_by")
            .filter(pk=wanted, started_by_id=person_id)
            .first()
            if person_id is not None
            else None
        )
    if found is None or (isinstance(caller, KeyCaller) and found.tenant_id != caller.tenant_id):
        raise NotFound(_NOT_FOUND)
    _still_belongs(caller, found)
    return found


def _still_belongs(caller: Caller, login: DeviceLogin) -> None:
    """Who left the tenant meanwhile has nothing to see there any more."""
    if login.tenant_id is None:
        if not is_staff(caller):
            raise NotFound(_NOT_FOUND)
    elif role_in(caller, login.tenant_id) not in {Role.MEMBER, Role.ADMIN, Role.OWNER}:
        raise NotFound(_NOT_FOUND)


def access_login_credential(caller: Caller, credential_id: Any) -> Credential:
    """A credential that a login made, for who signed in or administers its tenant."""
    try:
        wanted = (
            credential_id if isinstance(credential_id, uuid.UUID) else uuid.UUID(str(credential_id))
        )
    except ValueError:
        raise NotFound(_NOT_FOUND) from None
    with scope.platform("access"):
        found: Credential | None = (
            Credential.objects.select_related("provider")
            .filter(pk=wanted, kind=Credential.Kind.OAUTH)
            .first()
        )
    if found is None:
        raise NotFound(_NOT_FOUND)
    if found.tenant_id is None:
        if is_staff(caller):
            return found
        raise NotFound(_NOT_FOUND)
    role = role_in(caller, found.tenant_id)
    if role in {Role.ADMIN, Role.OWNER} or (is_own(caller, found) and role is Role.MEMBER):
        return found
    raise NotFound(_NOT_FOUND)


def is_own(caller: Caller, credential: Credential) -> bool:
    """Whether it was this very person who signed in."""
    return credential.owner_id is not None and credential.owner_id == caller.pk


def connected_by(caller: Caller, login_id: Any) -> uuid.UUID:
    """What a sign-in of the caller's own connected. Raises NotFound, LoginClosed."""
    login = access_login(caller, login_id)
    if login.credential_id is None:
        raise LoginClosed("This sign-in connected nothing, or it was disconnected since.")
    found: uuid.UUID = login.credential_id
    return found


def access_own_login_credential(caller: Caller, credential_id: Any) -> Credential:
    """For what is done in the name of whoever signed in: an administrator's role is not enough."""
    found = access_login_credential(caller, credential_id)
    if not is_own(caller, found):
        raise RoleForbidden("This is done in the account's own name: only who signed in may do it.")
    return found


def scope_of(row: DeviceLogin | Credential) -> AbstractContextManager[None]:
    """Where a row that was accessed is worked on. Registrations of the platform are read too, so
    the platform's scope it is where the tenant's would hide them."""
    if row.tenant_id is None:
        return scope.platform("login")
    return scope.tenant(row.tenant_id)
