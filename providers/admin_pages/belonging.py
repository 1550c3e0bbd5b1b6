"""Pages of what belongs to a registration: they are reached from its page, and lead back there."""

from __future__ import annotations

import uuid

from django.contrib import messages
from django.http import HttpRequest, HttpResponseRedirect
from django.urls import reverse

from controlplane.console.pages import Page
from providers.catalog.models import Provider
from providers.health.models import Finding, ProviderCheck
from providers.health.probe import Verdict


def given_provider(page: Page, request: HttpRequest) -> Provider | None:
    """The one that `?provider=` names. None = none, and the person was told what to do."""
    try:
        wanted = uuid.UUID(request.GET.get("provider", ""))
    except ValueError:
        wanted = None
    found: Provider | None = (
        Provider.objects.select_related("tenant").filter(pk=wanted).first() if wanted else None
    )
    if found is None:
        name = page.model._meta.verbose_name
        messages.info(request, f"A {name} belongs to a provider: open that first.")
    return found


def tell_check(request: HttpRequest, check: ProviderCheck, verdict: Verdict) -> None:
    """What a test of the connection found, in one sentence."""
    tell = messages.success if verdict.is_ok else messages.error
    took = f" ({check.milliseconds} ms)" if check.milliseconds is not None else ""
    tell(request, f"{Finding.of(check.finding).label}: {verdict.sentence}{took}")


def provider_url(provider: Provider) -> str:
    return reverse("admin:providers_provider_change", args=[provider.pk])


def back_to_provider(provider: Provider, part: str = "") -> HttpResponseRedirect:
    return HttpResponseRedirect(provider_url(provider) + part)
