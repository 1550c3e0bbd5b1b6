"""Which credentials of a registration a tenant's requests may use, as the hot path sees them."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping

import msgspec
from django.conf import settings as django_settings

from providers.catalog.effective import Effective
from providers.catalog.loader import catalog
from providers.catalog.models import Provider
from providers.catalog.urls import IdentifierError, endpoint_of, fill, fill_headers
from providers.credentials.models import Credential
from providers.credentials.resolution import (
    ENVIRONMENT,
    HEADERS,
    header_of,
    in_order,
    takes_own_key,
)
from providers.routing.table import CredentialRef, ModelQuota
from tenants.members.models import Membership

UNUSABLE = frozenset(
    {
        Credential.State.NEEDS_LOGIN,
        Credential.State.NO_ENTITLEMENT,
        Credential.State.SUSPENDED,
        Credential.State.DISABLED,
    }
)


def members_of(tenant_id: uuid.UUID, providers: Iterable[Provider]) -> dict[uuid.UUID, uuid.UUID]:
    """Owners of personal logins, and their membership in this tenant: one query, and none where
    there is no such login. In the platform's scope."""
    owners = {
        row.owner_id
        for provider in providers
        for row in provider.credentials.all()
        if row.is_personal and row.owner_id is not None
    }
    if not owners:
        return {}
    rows = Membership.objects.filter(tenant_id=tenant_id, user_id__in=owners)
    return dict(rows.values_list("user_id", "pk"))


def references(
    provider: Provider,
    settings: Effective,
    tenant_id: uuid.UUID | None,
    members: Mapping[uuid.UUID, uuid.UUID],
) -> tuple[CredentialRef, ...]:
    """In the order of resolution.py. A login at a registration of the platform belongs to the
    tenant for which somebody signed in: no other tenant's request gets to see it."""
    rows = [row for row in provider.credentials.all() if _is_for(row, tenant_id, members)]
    found = []
    for row in rows:
        if row.state in UNUSABLE:
            continue
        member = members[row.owner_id] if row.is_personal and row.owner_id is not None else None
        only_for = str(member) if member is not None else ""
        found.append(reference_of(provider, settings, row, only_for=only_for))
    return in_order(
        found,
        is_held=bool(rows),
        variable=_variable(provider, settings),
        headers=_own_headers(provider, settings),
    )


def reference_of(
    provider: Provider, settings: Effective, row: Credential, *, only_for: str = ""
) -> CredentialRef:
    return CredentialRef(
        id=str(row.pk),
        label=row.label,
        priority=row.priority,
        weight=row.weight,
        endpoint=row.endpoint,
        version=row.version,
        kind=row.kind,
        source=row.source,
        quota_share=row.quota_share,
        quota_used_up_until=(
            row.quota_used_up_until.timestamp() if row.quota_used_up_until else 0.0
        ),
        model_quotas=msgspec.convert(row.model_quotas, tuple[ModelQuota, ...]),
        only_for=only_for,
        proxy_url=row.proxy_url,
        headers=own_headers(provider, row.login, row.endpoint),
        base_urls=_base_urls(provider, settings, row),
    )


def _variable(provider: Provider, settings: Effective) -> CredentialRef | None:
    """A variable of the catalog's that the operator has listed and set. Only for the platform's
    registrations at the catalog's own address: nobody else shall see its value."""
    if provider.tenant_id is not None or provider.base_url or not provider.catalog_id:
        return None
    file = catalog().get(provider.catalog_id)
    if file is None or file.subscription is not None:
        return None
    if not takes_own_key(settings.auth_type, settings.scheme):
        return None
    name = next((name for name in settings.env if name in django_settings.SECRET_VALUES), "")
    if not name:
        return None
    # An id as rows have one: what is remembered of a credential goes by it.
    made = str(uuid.uuid5(provider.pk, name))
    return CredentialRef(
        id=made,
        label=name,
        source=ENVIRONMENT,
        variable=name,
        headers=own_headers(provider, "", {}),
    )


def _own_headers(provider: Provider, settings: Effective) -> CredentialRef | None:
    names = {str(name).lower() for name in provider.sealed_header_names}
    return HEADERS if header_of(settings.scheme) in names else None


def is_held(
    provider: Provider, tenant_id: uuid.UUID | None, members: Mapping[uuid.UUID, uuid.UUID]
) -> bool:
    """Whether there is a credential for this tenant, be it one that does not work now."""
    return any(_is_for(row, tenant_id, members) for row in provider.credentials.all())


def _is_for(
    row: Credential, tenant_id: uuid.UUID | None, members: Mapping[uuid.UUID, uuid.UUID]
) -> bool:
    if row.tenant_id not in (None, tenant_id):
        return False
    return not row.is_personal or row.owner_id in members


def own_headers(provider: Provider, way: str, endpoint: Mapping[str, str]) -> dict[str, str]:
    """What a credential adds to each request beside its secret: headers of the way in which
    somebody signed in, and those made of its own identifiers. What the registration itself sets
    stays."""
    file = catalog().get(provider.catalog_id) if provider.catalog_id else None
    if file is None:
        return {}
    login = file.oauth.get(way)
    set_here = {str(name).lower() for name in provider.headers}
    found = {
        name: value
        for name, value in (login.request_headers if login is not None else {}).items()
        if name.lower() not in set_here
    }
    if not file.auth.headers:
        return found
    known = file.auth.identifiers
    try:
        filled = endpoint_of(known, file.endpoint, provider.endpoint, endpoint)
        return {**found, **fill_headers(file.auth.headers, known, filled)}
    except IdentifierError:
        # The registration and the credential contradict the file: the request will say so.
        return found


def _base_urls(provider: Provider, settings: Effective, row: Credential) -> dict[str, str]:
    file = catalog().get(provider.catalog_id) if provider.catalog_id else None
    if file is None or not row.endpoint:
        return {}
    found: dict[str, str] = {}
    for model in settings.models:
        if "{" not in model.url_template:
            continue
        try:
            own = fill(
                model.url_template,
                file.auth.identifiers,
                endpoint_of(file.auth.identifiers, model.spec.endpoint, row.endpoint),
            )
        except IdentifierError:
            continue
        if own != model.base_url:
            found[model.base_url] = own
    return found
