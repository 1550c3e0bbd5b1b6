"""The address a web request came from, for lock-outs and the audit trail."""

from __future__ import annotations

from django.conf import settings
from django.http import HttpRequest

from controlplane.kit.addresses import client_address
from tenants.keys import address


def caller_address(request: HttpRequest) -> str:
    peer = request.META.get("REMOTE_ADDR") or ""
    scope = getattr(request, "scope", None)
    if scope is not None:
        # As sent: Django's META cannot tell X-Forwarded-For from X_Forwarded_For.
        return address.caller_address(peer, scope["headers"], settings.TRUSTED_PROXIES)
    forwarded_for = request.META.get("HTTP_X_FORWARDED_FOR") or ""
    return client_address(peer, forwarded_for, settings.TRUSTED_PROXIES)
