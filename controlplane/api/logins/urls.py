"""The paths of logins below /api/v1/. Each has a row in the matrix of the control API."""

from __future__ import annotations

from django.urls import URLPattern, path

from controlplane.api.logins import connections, logins, models

_LOGIN = "logins/<row_id:login_id>"
_CONNECTION = "connections/<row_id:connection_id>"

urlpatterns: list[URLPattern] = [
    path("logins", logins.LoginsView.as_view(), name="api-logins"),
    path(_LOGIN, logins.LoginView.as_view(), name="api-login"),
    path(f"{_LOGIN}/cancel", logins.CancelLoginView.as_view(), name="api-login-cancel"),
    path(f"{_LOGIN}/confirm", logins.ConfirmLoginView.as_view(), name="api-login-confirm"),
    path(
        f"{_LOGIN}/disconnect",
        connections.DisconnectLoginView.as_view(),
        name="api-login-disconnect",
    ),
    path(f"{_LOGIN}/code", logins.HandInCodeView.as_view(), name="api-login-code"),
    path("connections", connections.ConnectionsView.as_view(), name="api-connections"),
    path(_CONNECTION, connections.ConnectionView.as_view(), name="api-connection"),
    path(
        f"{_CONNECTION}/disconnect",
        connections.DisconnectView.as_view(),
        name="api-connection-disconnect",
    ),
    path(
        f"{_CONNECTION}/models",
        models.ConnectionModelsView.as_view(),
        name="api-connection-models",
    ),
    path(
        f"{_CONNECTION}/models/accept",
        models.AcceptTermsView.as_view(),
        name="api-connection-models-accept",
    ),
]
