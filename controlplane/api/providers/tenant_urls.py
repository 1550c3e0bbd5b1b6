"""What a tenant's programs read of the registry, below /v1/. Mounted before the proxy's paths."""

from __future__ import annotations

from django.urls import URLPattern, path

from controlplane.api.providers import tenant

_ONE = "providers/<str:name>"

urlpatterns: list[URLPattern] = [
    path("providers", tenant.ProvidersView.as_view(), name="v1-providers"),
    path(_ONE, tenant.ProviderView.as_view(), name="v1-provider"),
    path(f"{_ONE}/enabled", tenant.EnabledView.as_view(), name="v1-provider-enabled"),
    path(f"{_ONE}/models", tenant.ModelsView.as_view(), name="v1-provider-models"),
    path(
        f"{_ONE}/capabilities",
        tenant.CapabilitiesOfProviderView.as_view(),
        name="v1-provider-capabilities",
    ),
    path(f"{_ONE}/status", tenant.StatusView.as_view(), name="v1-provider-status"),
    path("capabilities", tenant.CapabilitiesView.as_view(), name="v1-capabilities"),
]
