"""Models that an account may use only after somebody accepted their maker's terms: read by whoever
may see the account, accepted by who signed in."""

from __future__ import annotations

import uuid

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_POST, require_safe

from controlplane.kit.errors import GatewayError
from controlplane.logins.views import page, user_of
from providers.credentials.models import Credential
from providers.oauth import model_terms
from providers.oauth.access import (
    access_login_credential,
    access_own_login_credential,
    is_own,
    scope_of,
)
from providers.oauth.model_terms import ModelTerms, NoModelTerms
from tenants.errors import NotFound


@page
@require_safe
def models(request: HttpRequest, provider: str, credential_id: uuid.UUID) -> HttpResponse:
    credential = access_login_credential(user_of(request), credential_id)
    _of_this_address(credential, provider)
    found: list[ModelTerms] = []
    error, status = "", 200
    try:
        with scope_of(credential):
            found = model_terms.terms_of(credential)
    except NoModelTerms as none:
        raise NotFound(none.message) from None
    except GatewayError as failed:
        error, status = failed.message, failed.fault().http_status
    shown = {
        "credential": credential,
        "models": sorted(found, key=lambda each: (each.is_enabled, each.name)),
        "is_own": is_own(user_of(request), credential),
        "error": error,
    }
    return render(request, "login/models.html", shown, status=status)


@page
@require_POST
def accept(request: HttpRequest, provider: str, credential_id: uuid.UUID) -> HttpResponse:
    """One model at a time: nobody agrees to a list unread."""
    credential = access_own_login_credential(user_of(request), credential_id)
    _of_this_address(credential, provider)
    model = request.POST.get("model", "")[:255]
    try:
        with scope_of(credential):
            is_new = model_terms.accept(credential, model)
    except GatewayError as error:
        messages.error(request, error.message)
    else:
        when = "are accepted" if is_new else "had been accepted before"
        messages.success(request, f"The terms of {model} {when} for {credential.account_label}.")
    return redirect("login-models", provider=provider, credential_id=credential.pk)


def _of_this_address(credential: Credential, provider: str) -> None:
    if credential.provider.slug != provider:
        raise NotFound("There is nothing here under this id.")
