"""A view's only way to a registration and what hangs on it: "not yours" and "not there" are decided
here, once, alike.

Each function looks in the platform scope, because who asks decides the scope and not the other
way round. What the view does next it does in the row's scope (`scope_of`):

    provider = access_provider(request.user, provider_id, write=True)
    with scope_of(provider):
        set_enabled(provider, is_enabled=False)

Who may what (platform staff may everything):

    viewer   reads the tenant's registrations, models, mappings, aliases and checks
    admin    also changes them, and reads and writes their credentials

Registrations of the platform are managed by platform staff alone; what a tenant may use of them
it reads under /v1/providers.
"""

from __future__ import annotations

import uuid
from contextlib import AbstractContextManager
from typing import Any, Final, TypeVar

from django.db.models import Model, Q, QuerySet

from providers.catalog.models import ModelMapping, Provider, ProviderModel
from providers.credentials.models import Credential
from providers.routing.models import Alias
from tenants import scope
from tenants.access import Caller, Role, access_tenant, is_staff, role_in, tenants_of
from tenants.errors import NotFound, RoleForbidden

_NOT_FOUND: Final = "There is nothing here under this id."

M = TypeVar("M", bound=Model)


def access_provider(user: Caller, provider_id: Any, *, write: bool) -> Provider:
    """A registration of a tenant of the user's, or any for staff. Raises NotFound, RoleForbidden,
    TenantSuspended, KeyForbidden."""
    with scope.platform("access"):
        found: Provider | None = Provider.objects.filter(pk=_uuid(provider_id)).first()
    _allow(user, found.tenant_id if found is not None else None, found, write=write)
    assert found is not None
    return found


def access_model(user: Caller, provider_id: Any, model_id: Any, *, write: bool) -> ProviderModel:
    provider = access_provider(user, provider_id, write=write)
    return _below(ProviderModel, provider, model_id)


def access_mapping(user: Caller, provider_id: Any, mapping_id: Any, *, write: bool) -> ModelMapping:
    provider = access_provider(user, provider_id, write=write)
    return _below(ModelMapping, provider, mapping_id)


def access_credentials(user: Caller, provider_id: Any, *, write: bool) -> Provider:
    """The registration, for a user who may see its credentials: admins."""
    provider = access_provider(user, provider_id, write=write)
    # Not by access_tenant: suspended tenants too are read by their people.
    role = Role.OWNER if provider.tenant_id is None else role_in(user, provider.tenant_id)
    if role not in {Role.ADMIN, Role.OWNER}:
        raise RoleForbidden("Credentials take the role admin or above.")
    return provider


def access_credential(
    user: Caller, provider_id: Any, credential_id: Any, *, write: bool
) -> Credential:
    provider = access_credentials(user, provider_id, write=write)
    return _below(Credential, provider, credential_id)


def access_alias(user: Caller, alias_id: Any, *, write: bool) -> Alias:
    with scope.platform("access"):
        found: Alias | None = (
            Alias.objects.filter(pk=_uuid(alias_id)).prefetch_related("targets__provider").first()
        )
    _allow(user, found.tenant_id if found is not None else None, found, write=write)
    assert found is not None
    return found


def manageable(user: Caller, rows: QuerySet[Any]) -> QuerySet[Any]:
    """The rows (registrations, aliases) that the user may see as an administrator of theirs.
    Evaluate it in the platform scope."""
    if is_staff(user):
        return rows
    return rows.filter(tenant_id__in=list(tenants_of(user).values_list("pk", flat=True)))


def usable(tenant_id: uuid.UUID) -> QuerySet[Provider]:
    """What a tenant may use: its own registrations, switched off ones too, and those of the
    platform that are on and shared with it. Its own come first. In the platform scope."""
    shared = Q(tenant=None, is_enabled=True) & (
        Q(is_shared_with_all=True) | Q(shares__tenant_id=tenant_id)
    )
    found: QuerySet[Provider] = Provider.objects.filter(Q(tenant_id=tenant_id) | shared).distinct()
    return found


def scope_of(row: Any) -> AbstractContextManager[None]:
    """Where a row that was accessed is worked on: its tenant's scope, or the platform's."""
    tenant_id = row.tenant_id
    return scope.tenant(tenant_id) if tenant_id is not None else scope.platform("access")


def _allow(user: Caller, tenant_id: uuid.UUID | None, found: Any, *, write: bool) -> None:
    if found is None:
        raise NotFound(_NOT_FOUND)
    if tenant_id is not None:
        access_tenant(user, tenant_id, at_least=Role.ADMIN if write else Role.VIEWER)
    elif not is_staff(user):
        raise NotFound(_NOT_FOUND)


def _below(model: type[M], provider: Provider, row_id: Any) -> M:
    with scope.platform("access"):
        rows: QuerySet[M] = model._default_manager.all()
        found = rows.filter(provider_id=provider.pk, pk=_uuid(row_id)).first()
    if found is None:
        raise NotFound(_NOT_FOUND)
    found.provider = provider  # type: ignore[attr-defined]  # each of these has one
    return found


def _uuid(value: Any) -> uuid.UUID:
    """An id from a URL. One that is none is simply not there."""
    if isinstance(value, uuid.UUID):
        return value
    try:
        return uuid.UUID(str(value))
    except ValueError:
        raise NotFound(_NOT_FOUND) from None
