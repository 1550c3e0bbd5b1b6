"""Every public path, in one file."""

from __future__ import annotations

from django.contrib import admin
from django.urls import include, path

from controlplane import health
from controlplane.proxy import lane_drf, metrics_page

handler400 = "controlplane.api.handlers.bad_request"
handler500 = "controlplane.api.handlers.server_error"

urlpatterns = [
    path("health", health.health),
    path("ready", health.ready),
    path("metrics", metrics_page.prometheus),
    path("accounts/", include("controlplane.console.sign_in.urls")),
    path("admin/", admin.site.urls),
    path("api/", include("controlplane.api.urls")),
    path("", include("controlplane.logins.urls")),
    # Beside the proxy, and not of it: the proxy passes these on to Django.
    path("v1/", include("controlplane.api.providers.tenant_urls")),
    # Last: under our ASGI application these are answered before Django is asked.
    *lane_drf.urlpatterns,
]
