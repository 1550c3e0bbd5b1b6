"""The pages of logins; `legacy` are addresses that people know from other gateways."""

from __future__ import annotations

from django.urls import URLPattern, path

from controlplane.logins import terms, views

_LOGIN = "login/<str:provider>/<uuid:login_id>/"

urlpatterns: list[URLPattern] = [
    path("login/", views.index, name="login-index"),
    path("login/<str:provider>/", views.start, name="login-start"),
    path("login/<str:provider>/callback", views.callback, name="login-callback"),
    path("login/<str:provider>/switch-on", views.switch_on_logins, name="login-switch-on"),
    path(
        "login/<str:provider>/connected/<uuid:credential_id>/disconnect",
        views.disconnect,
        name="login-disconnect",
    ),
    path(
        "login/<str:provider>/connected/<uuid:credential_id>/models",
        terms.models,
        name="login-models",
    ),
    path(
        "login/<str:provider>/connected/<uuid:credential_id>/models/accept",
        terms.accept,
        name="login-models-accept",
    ),
    path(_LOGIN, views.wait, name="login-page"),
    path(f"{_LOGIN}status", views.status, name="login-status"),
    path(f"{_LOGIN}paste", views.paste, name="login-paste"),
    path(f"{_LOGIN}cancel", views.cancel, name="login-cancel"),
    path(f"{_LOGIN}confirm", views.confirm, name="login-confirm"),
    path(f"{_LOGIN}again", views.again, name="login-again"),
    path("v0/oauth/kiro", views.start, {"provider": "kiro"}, name="login-kiro"),
    path("v0/oauth/copilot", views.start, {"provider": "github-copilot"}, name="login-copilot"),
]
