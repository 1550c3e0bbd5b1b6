"""What browsers are told to refuse. Strict everywhere; looser only where the admin theme needs it.

The theme (Alpine.js) evaluates expressions in attributes and writes style elements, so its path
gets 'unsafe-eval' for scripts and 'unsafe-inline' for styles. Inline scripts run nowhere: a
script of ours is a file, or carries the nonce of its response (`{{ request.csp_nonce }}`).
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable
from typing import cast

from asgiref.sync import iscoroutinefunction
from django.conf import settings
from django.contrib.auth import SESSION_KEY
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.urls import reverse
from django.utils.decorators import sync_and_async_middleware

_PERMISSIONS = (
    "camera=(), geolocation=(), microphone=(), payment=(), usb=(), "
    "publickey-credentials-create=(self), publickey-credentials-get=(self)"
)

Sync = Callable[[HttpRequest], HttpResponseBase]
Async = Callable[[HttpRequest], Awaitable[HttpResponseBase]]


@sync_and_async_middleware
def security_headers(get_response: Sync | Async) -> Sync | Async:
    if iscoroutinefunction(get_response):

        async def protect_async(request: HttpRequest) -> HttpResponseBase:
            _prepare(request)
            return _protect(request, await cast(Async, get_response)(request))

        return protect_async

    def protect(request: HttpRequest) -> HttpResponseBase:
        _prepare(request)
        return _protect(request, cast(Sync, get_response)(request))

    return protect


def _prepare(request: HttpRequest) -> None:
    request.csp_nonce = secrets.token_urlsafe(16)  # type: ignore[attr-defined]  # ours to add


def _protect(request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
    response.headers["Content-Security-Policy"] = policy(
        nonce=request.csp_nonce,  # type: ignore[attr-defined]  # set in _prepare
        is_admin_theme=request.path.startswith(reverse("admin:index")),
    )
    response.headers.setdefault("X-Frame-Options", "DENY")
    response.headers.setdefault("X-Content-Type-Options", "nosniff")
    # Under `no-referrer` browsers send forms with `Origin: null`, which the CSRF check refuses.
    # `same-origin` tells other sites exactly as little.
    is_page = response.headers.get("Content-Type", "").startswith("text/html")
    response.headers["Referrer-Policy"] = "same-origin" if is_page else "no-referrer"
    response.headers.setdefault("Permissions-Policy", _PERMISSIONS)
    if _is_signed_in(request) and not _is_stored_nowhere(response):
        # A shared computer's back button must not show what somebody else saw.
        response.headers["Cache-Control"] = "no-store"
    return response


def policy(*, nonce: str, is_admin_theme: bool) -> str:
    scripts, styles = f"'self' 'nonce-{nonce}'", f"'self' 'nonce-{nonce}'"
    if is_admin_theme:
        scripts += " 'unsafe-eval'"
        # A nonce would switch 'unsafe-inline' off again.
        styles = "'self' 'unsafe-inline'"
    actions = " ".join(["'self'", *settings.CONTENT_SECURITY_FORM_ACTIONS])
    return "; ".join(
        [
            "default-src 'none'",
            f"script-src {scripts}",
            f"style-src {styles}",
            "img-src 'self' data:",
            "font-src 'self'",
            "connect-src 'self'",
            f"form-action {actions}",
            "base-uri 'none'",
            "frame-ancestors 'none'",
            "object-src 'none'",
        ]
    )


def _is_signed_in(request: HttpRequest) -> bool:
    session = getattr(request, "session", None)  # absent on static files
    return session is not None and SESSION_KEY in session


def _is_stored_nowhere(response: HttpResponseBase) -> bool:
    return "no-store" in response.headers.get("Cache-Control", "")
