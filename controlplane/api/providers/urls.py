"""Every path of the registry below /api/v1/. Each has a row in the matrix of the control API."""

from __future__ import annotations

from django.urls import URLPattern, path

from controlplane.api.providers import (
    aliases,
    checks,
    credentials,
    models,
    policy,
    registrations,
    routing,
)
from controlplane.api.registry import bundles, imports

_ONE = "providers/<row_id:provider_id>"
_CREDENTIAL = f"{_ONE}/credentials/<row_id:credential_id>"

urlpatterns: list[URLPattern] = [
    path("providers", registrations.ProvidersView.as_view(), name="api-providers"),
    path(
        "tenants/<row_id:tenant_id>/providers",
        registrations.TenantProvidersView.as_view(),
        name="api-tenant-providers",
    ),
    path(_ONE, registrations.ProviderView.as_view(), name="api-provider"),
    path(
        f"{_ONE}/enable",
        registrations.EnableProviderView.as_view(),
        name="api-provider-enable",
    ),
    path(
        f"{_ONE}/disable",
        registrations.DisableProviderView.as_view(),
        name="api-provider-disable",
    ),
    path(
        f"{_ONE}/effective",
        registrations.EffectiveView.as_view(),
        name="api-provider-effective",
    ),
    path(f"{_ONE}/sharing", registrations.SharingView.as_view(), name="api-provider-sharing"),
    path(f"{_ONE}/probe", checks.ProbeView.as_view(), name="api-provider-probe"),
    path(f"{_ONE}/checks", checks.ChecksView.as_view(), name="api-provider-checks"),
    path(f"{_ONE}/refresh", checks.RefreshView.as_view(), name="api-provider-refresh"),
    path(f"{_ONE}/models", models.ModelsView.as_view(), name="api-provider-models"),
    path(f"{_ONE}/models/<row_id:model_id>", models.ModelView.as_view(), name="api-provider-model"),
    path(f"{_ONE}/mappings", models.MappingsView.as_view(), name="api-provider-mappings"),
    path(
        f"{_ONE}/mappings/defaults",
        models.DefaultMappingsView.as_view(),
        name="api-provider-default-mappings",
    ),
    path(
        f"{_ONE}/mappings/<row_id:mapping_id>",
        models.MappingView.as_view(),
        name="api-provider-mapping",
    ),
    path(
        f"{_ONE}/credentials",
        credentials.CredentialsView.as_view(),
        name="api-provider-credentials",
    ),
    path(_CREDENTIAL, credentials.CredentialView.as_view(), name="api-provider-credential"),
    path(
        f"{_CREDENTIAL}/timeline",
        credentials.CredentialTimelineView.as_view(),
        name="api-provider-credential-timeline",
    ),
    path(
        f"{_CREDENTIAL}/enable",
        credentials.EnableCredentialView.as_view(),
        name="api-provider-credential-enable",
    ),
    path(
        f"{_CREDENTIAL}/disable",
        credentials.DisableCredentialView.as_view(),
        name="api-provider-credential-disable",
    ),
    path("aliases", aliases.AliasesView.as_view(), name="api-aliases"),
    path(
        "tenants/<row_id:tenant_id>/aliases",
        aliases.TenantAliasesView.as_view(),
        name="api-tenant-aliases",
    ),
    path("aliases/<row_id:alias_id>", aliases.AliasView.as_view(), name="api-alias"),
    path(f"{_ONE}/rests", routing.RestsView.as_view(), name="api-provider-rests"),
    path(
        f"{_ONE}/rests/end",
        routing.EndRestsView.as_view(),
        name="api-provider-rests-end",
    ),
    path(
        f"{_ONE}/error-rules",
        routing.ErrorRulesView.as_view(),
        name="api-provider-error-rules",
    ),
    path("routing-policy", routing.RoutingPolicyView.as_view(), name="api-routing-policy"),
    path(
        "tenants/<row_id:tenant_id>/routing-policy",
        routing.TenantRoutingPolicyView.as_view(),
        name="api-tenant-routing-policy",
    ),
    path("registry-policy", policy.PolicyView.as_view(), name="api-registry-policy"),
    path(
        "tenants/<row_id:tenant_id>/registry-policy",
        policy.TenantPolicyView.as_view(),
        name="api-tenant-registry-policy",
    ),
    path("registry/export", bundles.ExportView.as_view(), name="api-registry-export"),
    path("registry/plan", bundles.PlanView.as_view(), name="api-registry-plan"),
    path("registry/apply", bundles.ApplyView.as_view(), name="api-registry-apply"),
    path("registry/import", imports.ImportView.as_view(), name="api-registry-import"),
]
