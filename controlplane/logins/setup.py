"""What the operator still has to do before people can sign in at a provider of the catalog."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from django.db import transaction

from providers.catalog import services as registrations
from providers.catalog.loader import catalog
from providers.catalog.models import Provider
from providers.catalog.schema import Subscription
from providers.oauth.models import LoginSettings
from providers.oauth.switch import set_logins
from tenants import scope


@dataclass(frozen=True, slots=True)
class Setup:
    """A provider with logins that are off, or that the platform has not registered."""

    catalog_id: str
    name: str
    position: Subscription | None
    provider: Provider | None
    settings: LoginSettings | None


def setup_of(name: str) -> Setup | None:
    """None: the catalog knows no logins of that name, or people can sign in there already."""
    file = catalog().named(name)
    if file is None or not file.oauth:
        return None
    with scope.platform("set a login up"):
        found = Provider.objects.filter(tenant=None, catalog_id=file.id).order_by("created_at")
        provider = found.filter(is_enabled=True).first() or found.first()
        settings = LoginSettings.objects.filter(catalog_id=file.id).first()
    is_on = settings is not None and settings.is_on
    if provider is not None and provider.is_enabled and is_on:
        return None
    return Setup(file.id, file.name, file.subscription, provider, settings)


def setups() -> list[Setup]:
    """Everything that staff could switch on."""
    found = (setup_of(name) for name in catalog())
    return sorted((one for one in found if one is not None), key=lambda one: one.name)


@transaction.atomic
def switch_on(setup: Setup, now: datetime) -> Provider:
    """Registers what is missing and switches its logins on. In the platform's scope. Raises
    ProviderError: this one needs more than a click, the console's form asks for it."""
    provider = setup.provider
    if provider is None:
        provider = registrations.register(slug=setup.catalog_id, catalog_id=setup.catalog_id)
    elif not provider.is_enabled:
        registrations.set_enabled(provider, is_enabled=True)
    settings = setup.settings
    if settings is None:
        set_logins(catalog_id=setup.catalog_id, is_on=True, now=now)
    elif not settings.is_on:
        set_logins(
            settings, is_on=True, sharing=settings.sharing, permission=settings.permission, now=now
        )
    return provider
