"""The registry as a bundle: rows in, a document without secrets out."""

from __future__ import annotations

from typing import Any

from django.db.models import Prefetch

from providers.bundle.document import (
    AliasEntry,
    Bundle,
    CredentialEntry,
    ModelEntry,
    PolicyEntry,
    ProviderEntry,
    TargetEntry,
)
from providers.bundle.rules import entry_of
from providers.catalog.model_services import MODEL_FIELDS
from providers.catalog.models import Provider, ProviderModel, RegistryPolicy
from providers.catalog.policy import EDITABLE as EDITABLE_POLICY
from providers.catalog.services import EDITABLE
from providers.credentials.models import Credential
from providers.routing.models import Alias, AliasTarget, RoutingPolicy
from providers.routing.rules import EDITABLE as EDITABLE_ROUTING
from tenants import scope
from tenants.members.models import Tenant

DEFAULT_NAME = "registry"


def export(*, name: str = DEFAULT_NAME) -> Bundle:
    """Everything people said of the registry. Left out: secrets, what probes and refreshes have
    found, and where requests rest just now: those come back by themselves."""
    with scope.platform("export the registry"):
        tenants = {tenant.pk: tenant for tenant in Tenant.objects.all()}
        slugs: dict[Any, str] = {key: tenant.slug for key, tenant in tenants.items()}
        slugs[None] = ""
        providers = list(
            Provider.objects.order_by("slug").prefetch_related(
                *("shares", "models", "mappings", "error_rules"),
                Prefetch("credentials", _without_secrets()),
            )
        )
        aliases = list(
            Alias.objects.order_by("name").prefetch_related(
                Prefetch(
                    "targets",
                    AliasTarget.objects.select_related("provider").order_by("position", "pk"),
                )
            )
        )
        policies = {row.tenant_id: row for row in RegistryPolicy.objects.all()}
        routing = {row.tenant_id: row for row in RoutingPolicy.objects.all()}
    own = {(row.tenant_id, row.slug) for row in providers}
    entries = [_provider(row, slugs) for row in providers]
    alias_entries = [_alias(row, slugs, own) for row in aliases]
    policy_entries = [
        PolicyEntry(tenant=slugs[owner], **said)
        for owner in policies.keys() | routing.keys()
        if (
            said := _said(policies.get(owner), EDITABLE_POLICY)
            | _said(routing.get(owner), EDITABLE_ROUTING)
        )
    ]
    named = {entry.tenant for entry in entries}
    named |= {entry.tenant for entry in alias_entries}
    named |= {entry.tenant for entry in policy_entries}
    named |= {slug for entry in entries for slug in entry.shared_with or ()}
    return Bundle(
        name=name,
        tenants={
            tenant.slug: tenant.name
            for tenant in sorted(tenants.values(), key=lambda tenant: tenant.slug)
            if tenant.slug in named
        },
        policies=sorted(policy_entries, key=lambda entry: entry.tenant),
        providers=sorted(entries, key=lambda entry: (entry.tenant, entry.slug)),
        aliases=sorted(alias_entries, key=lambda entry: (entry.tenant, entry.name)),
    )


def _said(row: RegistryPolicy | RoutingPolicy | None, names: tuple[str, ...]) -> dict[str, Any]:
    found = {name: getattr(row, name, None) for name in names}
    return {name: value for name, value in found.items() if value not in (None, "")}


def _without_secrets() -> Any:
    return Credential.objects.defer("sealed").order_by("label")


def _provider(row: Provider, slugs: dict[Any, str]) -> ProviderEntry:
    columns = {field.name: field for field in Provider._meta.concrete_fields}
    values: dict[str, Any] = {
        field: value
        for field in EDITABLE
        if (value := getattr(row, field)) != columns[field].get_default()
    }
    shared_with = sorted(slugs[share.tenant_id] for share in row.shares.all())
    if shared_with:
        values["shared_with"] = shared_with
    rules = [entry_of(rule) for rule in sorted(row.error_rules.all(), key=lambda one: one.position)]
    if rules:
        values["error_rules"] = rules
    return ProviderEntry(
        slug=row.slug,
        tenant=slugs[row.tenant_id],
        secret_headers=list(row.sealed_header_names),
        credentials=[_credential(credential) for credential in row.credentials.all()],
        models=[
            ModelEntry(**{field: getattr(model, field) for field in MODEL_FIELDS})
            for model in sorted(
                row.models.all(), key=lambda model: (model.upstream_id, model.alias)
            )
            # What a refresh has found, the next one finds again.
            if model.origin == ProviderModel.Origin.MANUAL
        ],
        mappings={
            mapping.client_model: mapping.upstream_model
            for mapping in sorted(row.mappings.all(), key=lambda mapping: mapping.client_model)
        },
        **values,
    )


def _credential(row: Credential) -> CredentialEntry:
    return CredentialEntry(
        label=row.label,
        kind=row.kind,
        source=row.source,
        reference=row.reference,
        endpoint=row.endpoint,
        proxy_url=row.proxy_url,
        priority=row.priority,
        weight=row.weight,
    )


def _alias(row: Alias, slugs: dict[Any, str], own: set[tuple[Any, str]]) -> AliasEntry:
    return AliasEntry(
        name=row.name,
        tenant=slugs[row.tenant_id],
        is_enabled=row.is_enabled,
        strategy=row.strategy,
        is_reported_as_alias=row.is_reported_as_alias,
        total_timeout_seconds=row.total_timeout_seconds,
        targets=[_target(target, row, own) for target in row.targets.all()],
    )


def _target(target: AliasTarget, alias: Alias, own: set[tuple[Any, str]]) -> TargetEntry:
    provider = target.provider
    if provider is None:
        return TargetEntry(model=target.model)
    is_hidden = provider.tenant_id is None and (alias.tenant_id, provider.slug) in own
    return TargetEntry(
        model=target.model,
        provider=provider.slug,
        owner="platform" if is_hidden and alias.tenant_id is not None else "",
    )
