"""Signing in and one's own account. Nobody signs up, and no password is reset by e-mail:
people are added by an administrator, who can hand out a new one-time password."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from allauth.account import views as account
from allauth.mfa import urls as factors
from django.conf import settings
from django.db import transaction
from django.urls import URLPattern, URLResolver, include, path

from controlplane.console.sign_in.invitation import invitation


def in_one_transaction(
    patterns: Iterable[URLPattern | URLResolver],
) -> Iterator[URLPattern | URLResolver]:
    """The same paths, so that a factor, its sealed secret and its audit event are one write."""
    for pattern in patterns:
        if isinstance(pattern, URLResolver):
            inner = list(in_one_transaction(pattern.url_patterns))
            yield URLResolver(pattern.pattern, inner, pattern.default_kwargs)
        else:
            view = transaction.atomic(pattern.callback)
            yield URLPattern(pattern.pattern, view, pattern.default_args, pattern.name)


urlpatterns: list[URLPattern | URLResolver] = [
    path("login/", account.login, name="account_login"),
    path("logout/", account.logout, name="account_logout"),
    path("inactive/", account.account_inactive, name="account_inactive"),
    path("reauthenticate/", account.reauthenticate, name="account_reauthenticate"),
    path("password/change/", account.password_change, name="account_change_password"),
    path("password/set/", account.password_set, name="account_set_password"),
    path("invitation/", invitation, name="account_invitation"),
    path("security/", include(list(in_one_transaction(factors.urlpatterns)))),
]
if settings.OIDC_SERVER_URL:
    urlpatterns += [
        path("", include("allauth.socialaccount.providers.openid_connect.urls")),
        path("sso/", include("allauth.socialaccount.urls")),
    ]
