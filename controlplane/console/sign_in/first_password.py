"""A one-time password opens one door: the page that replaces it."""

from __future__ import annotations

from allauth.account.internal.flows.login import get_authentication_records
from django.contrib.auth import SESSION_KEY
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import Resolver404, resolve, reverse
from django.utils.deprecation import MiddlewareMixin

from controlplane.api.errors import bare_response
from controlplane.kit.errors import Fault, FaultKind

_ALLOWED = frozenset({"account_change_password", "account_logout"})


class FirstPasswordMiddleware(MiddlewareMixin):
    """Keeps people with `must_change_password` on the page where they choose their own."""

    async_capable = False

    def process_request(self, request: HttpRequest) -> HttpResponse | None:
        # Without a session there is nobody to ask for, and no query to make.
        if SESSION_KEY not in request.session:
            return None
        if not getattr(request.user, "must_change_password", False):
            return None
        if _came_without_password(request):
            return None
        try:
            name = resolve(request.path_info).url_name
        except Resolver404:
            name = None
        if name in _ALLOWED:
            return None
        if "text/html" in request.headers.get("Accept", ""):
            return HttpResponseRedirect(reverse("account_change_password"))
        return bare_response(
            Fault(
                kind=FaultKind.FORBIDDEN,
                code="password_change_required",
                message="Sign in to the console and replace your one-time password first.",
            )
        )


def _came_without_password(request: HttpRequest) -> bool:
    """By single sign-on or passkey: such people may never have seen their one-time password."""
    methods = {record.get("method") for record in get_authentication_records(request, request.user)}
    return bool(methods) and "password" not in methods
