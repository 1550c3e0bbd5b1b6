"""What may be done with registrations. Each action is whole, audited, and seen by every
gateway within a second."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Mapping
from typing import Any, Final

from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.db.models import F

from controlplane.kit import clock, json
from controlplane.kit.errors import FaultKind
from controlplane.kit.secret import Secret
from providers.catalog.destinations import (
    SecretNeededAgain,
    destinations,
    require_secrets_again,
)
from providers.catalog.effective import Effective, ProviderRegistrationError, effective
from providers.catalog.loader import catalog
from providers.catalog.model_services import add_model
from providers.catalog.models import Provider, ProviderShare
from providers.catalog.registrations import registration_of
from providers.catalog.schema import AuthType, ProviderFile
from providers.catalog.validators import check_shapes, valid_secret_headers
from providers.errors import ProviderError
from providers.protocols import registry
from tenants import scope
from tenants.audit.services import record
from tenants.errors import StaleVersion
from tenants.members.models import Tenant
from tenants.revisions.services import bump
from tenants.vault import services as vault

__all__ = [
    "EDITABLE",
    "SecretNeededAgain",
    "UnknownProvider",
    "VersionConflict",
    "add_model",
    "change_registration",
    "check_registration",
    "note_probe",
    "register",
    "remove",
    "replace_registration",
    "set_enabled",
    "share",
    "shown",
]

# What a registration says by itself; slug and owner never change. Shown in the audit log.
EDITABLE: Final = (
    "catalog_id",
    "name",
    "is_enabled",
    "is_shared_with_all",
    "protocol",
    "base_url",
    "auth_type",
    "endpoint",
    "headers",
    "prefix",
    "force_model_prefix",
    "priority",
    "weight",
    "cooldown_seconds",
    "features",
    "quirks",
    "limits",
    "excluded_models",
    "default_context_window",
    "default_max_output_tokens",
    "store_responses",
    "passes_unknown_models",
    "proxy_url",
    "ca_certificate",
    "connect_timeout_seconds",
    "first_byte_timeout_seconds",
    "idle_timeout_seconds",
    "total_timeout_seconds",
    "fallback_notes",
)
_SHOWN: Final = ("slug", "kind", *EDITABLE)
AUTH_TYPES: Final[tuple[str, ...]] = AuthType.__args__  # type: ignore[attr-defined]  # a Literal's
# Set in the same statement, and not by the caller.
_FOLLOWS: Final = ("kind", "owned_fields", "owned_by")


class VersionConflict(StaleVersion):
    """Somebody else saved in between."""


class UnknownProvider(ProviderError):
    """Not there, or not visible: the same answer."""

    kind = FaultKind.NOT_FOUND
    code = "provider_not_found"


class SlugTaken(ProviderError):
    kind = FaultKind.CONFLICT
    code = "slug_taken"


def shown(provider: Provider, names: Collection[str] = _SHOWN) -> dict[str, Any]:
    """A registration for the audit log."""
    return {name: getattr(provider, name) for name in names}


@transaction.atomic
def register(
    *,
    slug: str,
    tenant_id: uuid.UUID | None = None,
    secret_headers: Mapping[str, Secret] | None = None,
    **values: Any,
) -> Provider:
    """A new registration. Raises ProviderRegistrationError, IdentifierError or BadAddress when it
    could not work, SlugTaken, ValidationError for a field of the wrong form."""
    provider = Provider(slug=slug, tenant_id=tenant_id, **_known(values))
    file = _file_of(provider)
    if file is not None:
        provider.name = provider.name or file.name
    check_registration(provider)
    if secret_headers:
        _seal_headers(provider, secret_headers)
    if Provider.objects.filter(tenant_id=tenant_id, slug=slug).exists():
        raise SlugTaken(f"There is a registration {slug!r} already.", param="slug")
    try:
        with transaction.atomic():
            provider.save(force_insert=True)
    except IntegrityError:
        raise SlugTaken(f"There is a registration {slug!r} already.", param="slug") from None
    record(
        tenant_id=tenant_id,
        action="provider.registered",
        target=provider,
        after={**shown(provider), "secret_headers": provider.sealed_header_names},
    )
    bump("registrations")
    return provider


def check_registration(provider: Provider) -> Effective:
    """The effective settings of what is not saved yet; `kind` follows the catalog. Raises as
    `register` does."""
    file = _file_of(provider)
    provider.kind = file.kind if file is not None else Provider.Kind.CUSTOM
    provider.base_url = provider.base_url.rstrip("/")
    check_shapes(provider)
    # What the constraints want, the merge and the callers say in better sentences.
    provider.full_clean(
        exclude=["tenant", "owned_fields"], validate_unique=False, validate_constraints=False
    )
    _check_vocabulary(provider, file)
    is_saved = not provider._state.adding
    settings = effective(registration_of(provider, is_saved=is_saved), file)
    destinations(provider, effective=settings)
    return settings


@transaction.atomic
def change_registration(
    provider: Provider,
    *,
    expected_version: int | None = None,
    secrets: Mapping[uuid.UUID, Secret] | None = None,
    secret_headers: Mapping[str, Secret] | None = None,
    **values: Any,
) -> Provider:
    """Changes fields of a registration. `expected_version` refuses a lost update. When scheme,
    host or port change while secrets are stored, `secrets` must bring each of them again.
    `secret_headers` replaces all secret headers (empty = takes them away); None keeps them."""
    # The row is held until the end, so that no secret is stored for the old host meanwhile.
    current = Provider.objects.select_for_update().get(pk=provider.pk)
    version = provider.version if expected_version is None else expected_version
    if current.version != version:
        raise VersionConflict("Somebody else changed this registration: load it again.")
    before = destinations(current)
    before_values = shown(current)
    values = _known(values)
    changed = Provider.objects.get(pk=provider.pk)
    for name, value in values.items():
        setattr(changed, name, value)
    settings = check_registration(changed)
    if destinations(changed, effective=settings).reach_beyond(before):
        require_secrets_again(current, secrets or {}, has_secret_headers=secret_headers is not None)
    if secret_headers is not None:
        _seal_headers(changed, secret_headers)
    written = [*values, "base_url", *_FOLLOWS, "sealed_headers", "sealed_header_names"]
    moved = Provider.objects.filter(pk=provider.pk, version=version).update(
        **{name: getattr(changed, name) for name in dict.fromkeys(written)},
        version=F("version") + 1,
        updated_at=clock.now(),
    )
    if not moved:
        raise VersionConflict("Somebody else changed this registration: load it again.")
    after_values = shown(changed)
    differs = [name for name in _SHOWN if before_values[name] != after_values[name]]
    after: dict[str, Any] = {name: after_values[name] for name in differs}
    if secret_headers is not None:
        after["secret_headers"] = changed.sealed_header_names
    record(
        tenant_id=provider.tenant_id,
        action="provider.changed",
        target=provider,
        before={name: before_values[name] for name in differs},
        after=after,
    )
    bump("registrations")
    for field in Provider._meta.concrete_fields:
        setattr(provider, field.attname, getattr(changed, field.attname))
    provider.version = version + 1
    return provider


def replace_registration(
    provider: Provider,
    *,
    expected_version: int | None = None,
    secrets: Mapping[uuid.UUID, Secret] | None = None,
    secret_headers: Mapping[str, Secret] | None = None,
    **values: Any,
) -> Provider:
    """The registration becomes exactly this: what is not given goes back to its default, nothing
    of the one before is left. Secret headers too go, unless given again."""
    columns = {field.name: field for field in Provider._meta.concrete_fields}
    defaults = {name: columns[name].get_default() for name in EDITABLE}
    return change_registration(
        provider,
        expected_version=expected_version,
        secrets=secrets,
        secret_headers=secret_headers if secret_headers is not None else {},
        **{**defaults, **_known(values)},
    )


def set_enabled(provider: Provider, *, is_enabled: bool) -> bool:
    """Switches a registration on or off for everybody who uses it. False: it was so already."""
    with transaction.atomic():
        moved = Provider.objects.filter(pk=provider.pk, is_enabled=not is_enabled).update(
            is_enabled=is_enabled, version=F("version") + 1, updated_at=clock.now()
        )
        if moved:
            record(
                tenant_id=provider.tenant_id,
                action="provider.enabled" if is_enabled else "provider.disabled",
                target=provider,
                before={"is_enabled": not is_enabled},
                after={"is_enabled": is_enabled},
            )
            bump("registrations")
    provider.refresh_from_db(fields=["is_enabled", "version", "updated_at"])
    return bool(moved)


@transaction.atomic
def share(provider: Provider, *, with_all: bool, tenants: Collection[Tenant] = ()) -> None:
    """Whose requests may use a registration of the platform: everybody's, or these tenants'. In
    the platform's scope."""
    if provider.tenant_id is not None:
        raise ProviderRegistrationError(
            "This registration belongs to one tenant, and only the platform's are shared.",
            param="tenants",
        )
    wanted = {tenant.pk: tenant for tenant in tenants}
    current = {row.tenant_id: row for row in provider.shares.all()}
    before = {"with_all": provider.is_shared_with_all, "tenants": sorted(map(str, current))}
    for tenant_id in current.keys() - wanted.keys():
        current[tenant_id].delete()
    ProviderShare.objects.bulk_create(
        ProviderShare(provider=provider, tenant=wanted[tenant_id])
        for tenant_id in wanted.keys() - current.keys()
    )
    Provider.objects.filter(pk=provider.pk).update(
        is_shared_with_all=with_all, version=F("version") + 1, updated_at=clock.now()
    )
    record(
        tenant_id=None,
        action="provider.shared",
        target=provider,
        before=before,
        after={"with_all": with_all, "tenants": sorted(map(str, wanted))},
    )
    bump("registrations")
    provider.refresh_from_db(fields=["is_shared_with_all", "version", "updated_at"])


@transaction.atomic
def remove(provider: Provider) -> None:
    """Takes a registration away, with its models, mappings and credentials."""
    record(
        tenant_id=provider.tenant_id,
        action="provider.removed",
        target=provider,
        before=shown(provider),
    )
    provider.delete()
    bump("registrations")


@transaction.atomic
def note_probe(*, slug: str, features: Mapping[str, bool]) -> Provider:
    """Keeps what was shown about a registration of the platform. Raises UnknownProvider."""
    with scope.platform("note what a probe has shown"):
        provider: Provider | None = Provider.objects.filter(tenant__isnull=True, slug=slug).first()
        if provider is None:
            raise UnknownProvider(f"The platform has registered no provider {slug!r}.")
        before = provider.probed_features
        Provider.objects.filter(pk=provider.pk).update(
            probed_features={**before, **features}, probed_at=clock.now()
        )
        record(
            tenant_id=None,
            action="provider.probed",
            target=provider,
            before={"probed_features": before},
            after={"probed_features": {**before, **features}},
        )
    bump("registrations")
    return provider


def _seal_headers(provider: Provider, headers: Mapping[str, Secret]) -> None:
    opened = {name: secret.reveal() for name, secret in headers.items()}
    try:
        valid_secret_headers(opened)
    except ValidationError as error:
        raise ValidationError({"secret_headers": error.messages}) from None
    provider.sealed_header_names = sorted(opened, key=str.lower)
    if opened:
        vault.seal_into(provider, "sealed_headers", Secret(json.dumps_str(opened)))
    else:
        provider.sealed_headers = None


def _known(values: Mapping[str, Any]) -> dict[str, Any]:
    unknown = sorted(values.keys() - {*EDITABLE, "kind", "owned_fields", "owned_by"})
    if unknown:
        raise TypeError(f"A registration has no {', '.join(unknown)}.")
    return dict(values)


def _file_of(provider: Provider) -> ProviderFile | None:
    """The catalog's file by id or by a name that others use; the row then holds the id."""
    if not provider.catalog_id:
        return None
    file = catalog().named(provider.catalog_id)
    if file is None:
        raise ProviderRegistrationError(
            f"The catalog has no {provider.catalog_id!r}. Leave catalog_id empty for a provider "
            "of your own and give protocol and base_url.",
            param="catalog_id",
        )
    provider.catalog_id = file.id
    return file


def _check_vocabulary(provider: Provider, file: ProviderFile | None) -> None:
    """Words that must be known, and identifiers that the catalog declares."""
    if provider.protocol and provider.protocol not in registry.slugs():
        raise ProviderRegistrationError(
            f"There is no protocol {provider.protocol!r}; there are {', '.join(registry.slugs())}.",
            param="protocol",
        )
    offered = AUTH_TYPES if file is None else (file.auth.type, *file.auth.alternatives)
    if provider.auth_type and provider.auth_type not in offered:
        raise ProviderRegistrationError(
            f"{provider.slug!r} has no auth type {provider.auth_type!r}; there are "
            f"{', '.join(offered)}.",
            param="auth_type",
        )
    if file is not None:
        declared = {*file.auth.identifiers, *file.endpoint}
        for name in provider.endpoint:
            if name not in declared:
                known = ", ".join(sorted(declared)) or "none"
                raise ProviderRegistrationError(
                    f"{file.id!r} has no identifier {name!r}; there are: {known}.",
                    param="endpoint",
                )
