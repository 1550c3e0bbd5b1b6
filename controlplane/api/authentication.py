"""Who calls: a key of a tenant's, or a person who is signed in. A key, once sent, decides alone."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest
from rest_framework.authentication import BaseAuthentication
from rest_framework.authentication import SessionAuthentication as FrameworkSession
from rest_framework.exceptions import PermissionDenied
from rest_framework.request import Request

from controlplane.api.errors import CsrfFailed
from controlplane.console.sign_in.caller import caller_address
from controlplane.kit import clock
from tenants.audit.actor import Kind
from tenants.keys.caller import CONTROL, KeyCaller, caller_of
from tenants.keys.presented import carries_key, presented_key
from tenants.members.models import User


class KeyAuthentication(BaseAuthentication):
    # Which of a key's scopes let it in.
    opened_by = CONTROL

    def authenticate(self, request: Request) -> tuple[KeyCaller, None] | None:
        """None when no key is sent. Raises InvalidKey, KeyForbidden, TenantSuspended."""
        headers = _headers(request._request)
        if not carries_key(headers):
            return None
        token = presented_key(headers, b"", allow_query=False)
        address = caller_address(request._request)
        now = clock.now()
        return caller_of(token, address=address, now=now, opened_by=self.opened_by), None

    def authenticate_header(self, request: Request) -> str:
        return "Bearer"


class SessionAuthentication(FrameworkSession):
    """As the framework's, with an error that says what to send."""

    def enforce_csrf(self, request: Any) -> None:
        try:
            super().enforce_csrf(request)
        except PermissionDenied:
            raise CsrfFailed(
                "Requests of a session that change something need the header X-CSRFToken, and "
                "have to come from a page of this service. Programs send an API key instead."
            ) from None


def actor_of(caller: User | KeyCaller) -> tuple[Kind, str, str]:
    """What the audit log calls the caller: kind, id, label."""
    if isinstance(caller, KeyCaller):
        return Kind.KEY, str(caller.key_id), caller.label
    return Kind.USER, str(caller.pk), caller.email


def _headers(request: HttpRequest) -> list[tuple[bytes, bytes]]:
    scope = getattr(request, "scope", None)
    if scope is not None:
        # As sent: Django's META cannot tell X-Api-Key from X_Api_Key.
        return list(scope["headers"])
    return [
        (name.lower().encode("latin-1", "replace"), value.encode("latin-1", "replace"))
        for name, value in request.headers.items()
    ]
