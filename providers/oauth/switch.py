"""The operator's word on a provider's logins: on or off, shared or not, and what differs from the
catalogue. Each change is checked whole and audited."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Any, Final

from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import F, Q

from controlplane.kit.secret import Secret
from providers.catalog.loader import catalog
from providers.catalog.models import Provider
from providers.credentials.models import Credential
from providers.oauth.flows.login import BadLoginSettings, merged
from providers.oauth.models import LoginSettings
from providers.oauth.refresh import USABLE
from tenants.audit.services import record
from tenants.errors import StaleVersion
from tenants.revisions.services import bump
from tenants.vault import services as vault

SWITCHED_OFF: Final = "The operator switched the logins of this provider off."
NOT_SHARED: Final = "The operator no longer permits sharing the logins of this provider."


@transaction.atomic
def set_logins(
    row: LoginSettings | None = None,
    *,
    catalog_id: str = "",
    provider_id: uuid.UUID | None = None,
    is_on: bool,
    sharing: str = LoginSettings.Sharing.OWNER,
    permission: str = "",
    overrides: dict[str, Any] | None = None,
    client_secret: Secret | None = None,
    expected_version: int | None = None,
    now: datetime,
) -> LoginSettings:
    """A new row, or `row` changed; `client_secret` None keeps what is stored. In the platform's
    scope. Raises BadLoginSettings, StaleVersion, ValidationError."""
    is_new = row is None
    before = {} if row is None else shown(row)
    changed = row or LoginSettings(catalog_id=catalog_id, provider_id=provider_id)
    changed.is_on = is_on
    changed.sharing = sharing
    changed.permission = permission.strip()
    if overrides is not None:
        changed.overrides = overrides
    _check(changed)
    if client_secret:
        vault.seal_into(changed, "sealed_client_secret", client_secret)
    if is_new:
        changed.save(force_insert=True)
    else:
        version = changed.version if expected_version is None else expected_version
        moved = LoginSettings.objects.filter(pk=changed.pk, version=version).update(
            is_on=changed.is_on,
            sharing=changed.sharing,
            permission=changed.permission,
            overrides=changed.overrides,
            sealed_client_secret=changed.sealed_client_secret,
            version=F("version") + 1,
            updated_at=now,
        )
        if not moved:
            raise StaleVersion("Somebody else changed these settings: load them again.")
        changed.refresh_from_db()
    _follow(changed, now)
    record(
        tenant_id=None,
        action="login_settings.made" if is_new else "login_settings.changed",
        target=changed,
        before=before,
        after={**shown(changed), **({"client_secret": client_secret} if client_secret else {})},
    )
    return changed


def _follow(row: LoginSettings, now: datetime) -> None:
    """Connected accounts stop with the switch, and shared ones with the permission; they serve
    again with it."""
    logins = Credential.objects.filter(kind=Credential.Kind.OAUTH)
    if row.catalog_id:
        logins = logins.filter(provider__catalog_id=row.catalog_id)
    else:
        logins = logins.filter(provider_id=row.provider_id)
    permitted = Q(is_personal=True)
    if row.permits(is_personal=False, is_platforms=False):
        permitted |= Q(tenant__isnull=False)
    if row.permits(is_personal=False, is_platforms=True):
        permitted |= Q(tenant__isnull=True)
    off = Credential.State.DISABLED
    if row.is_on:
        stopped = logins.filter(permitted, state=off, state_reason__in=(SWITCHED_OFF, NOT_SHARED))
        moved = stopped.update(state=Credential.State.ACTIVE, state_reason="", state_since=now)
        served = Q(state__in=USABLE) | Q(state=off, state_reason=SWITCHED_OFF)
        moved += logins.filter(served, ~permitted).update(
            state=off, state_reason=NOT_SHARED, state_since=now
        )
    else:
        moved = logins.filter(state__in=USABLE).update(
            state=off, state_reason=SWITCHED_OFF, state_since=now
        )
    if moved:
        bump("registrations")


def shown(row: LoginSettings) -> dict[str, Any]:
    """For the audit log."""
    return {
        "catalog_id": row.catalog_id,
        "provider": row.provider_id,
        "is_on": row.is_on,
        "sharing": row.sharing,
        "permission": row.permission,
        "overrides": row.overrides,
    }


def _check(row: LoginSettings) -> None:
    if bool(row.catalog_id) == (row.provider_id is not None):
        raise BadLoginSettings("Name a provider of the catalog or one registration, not both.")
    known = {}
    if row.catalog_id:
        file = catalog().get(row.catalog_id)
        if file is None:
            raise BadLoginSettings(
                f"There is no provider {row.catalog_id!r} in the catalog.", param="catalog_id"
            )
        known = dict(file.oauth)
    else:
        provider = Provider.objects.filter(pk=row.provider_id).first()
        if provider is None or provider.tenant_id is not None:
            raise BadLoginSettings("Logins of its own has a registration of the platform only.")
    if row.sharing != LoginSettings.Sharing.OWNER and not row.permission:
        raise ValidationError(
            {"permission": "Write down where the vendor permits more than one person's use."}
        )
    if not isinstance(row.overrides, dict):
        raise BadLoginSettings("Overrides are an object: a login's name, then its fields.")
    for name, fields in row.overrides.items():
        if not isinstance(fields, dict):
            raise BadLoginSettings(f"The overrides of {name!r} are an object of fields.")
        if "request_headers" in fields:
            raise BadLoginSettings(
                "Headers of requests are set on the registration, where they win over the "
                "catalog's: take request_headers out of the overrides."
            )
        way = merged(known.get(name), fields)
        if not way.allowed_hosts:
            raise BadLoginSettings(
                f"The login {name!r} needs allowed_hosts: where its links and addresses may lead."
            )
        known[name] = way
    if row.is_on and not known:
        raise BadLoginSettings("There is no login to switch on: describe one in the overrides.")
