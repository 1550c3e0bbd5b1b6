"""What the server in toolkit_server.py consists of: the toolkit's URLs, and a person.

Imported by it once Django is set up.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.contrib.auth import get_user_model
from django.http import HttpRequest, HttpResponse
from django.test import Client
from django.urls import include, path
from oauth2_provider.models import DeviceGrant
from oauth2_provider.oauth2_backends import OAuthLibCore
from oauth2_provider.oauth2_validators import OAuth2Validator

# oauthlib 4 asks two things of a device grant that django-oauth-toolkit 3.4 (made for oauthlib
# 3.3) does not know yet. What is added here says nothing of its own: the toolkit's view has
# answered pending, denied and expired before.


class Backend(OAuthLibCore):
    def create_device_authorization_response(self, request: HttpRequest) -> Any:
        headers, body, status = super().create_device_authorization_response(request)
        if isinstance(body, dict):
            body.pop("scope", None)
        return headers, body, status


class Validator(OAuth2Validator):
    def validate_device_code(
        self, client_id: str, code: str, request: Any, *args: Any, **kwargs: Any
    ) -> str | None:
        grant = DeviceGrant.objects.filter(client_id=client_id, device_code=code).first()
        if grant is None or grant.status != DeviceGrant.AUTHORIZED:
            return None
        request.user, request.scopes = grant.user, grant.scope.split()
        return "authorized"


def person(request: HttpRequest, decision: str, user_code: str) -> HttpResponse:
    """Approve or deny on the toolkit's pages; or a day passes, which nobody here can wait for."""
    grant = DeviceGrant.objects.get(user_code=user_code)
    if decision == "expire":
        grant.expires -= timedelta(days=1)
        grant.save(update_fields=["expires"])
        assert grant.is_expired()
        return HttpResponse("expired")
    browser = Client()
    browser.force_login(get_user_model().objects.get(username="ada"))
    confirm = browser.post("/o/device/", {"user_code": user_code})
    assert confirm.status_code == 302, confirm.content
    action = "accept" if decision == "approve" else "deny"
    done = browser.post(confirm["Location"], {"action": action})
    assert done.status_code == 302, done.content
    return HttpResponse(decision)


urlpatterns = [
    path("o/", include("oauth2_provider.urls", namespace="oauth2_provider")),
    path("person/<str:decision>/<str:user_code>", person),
]
