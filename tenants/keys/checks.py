"""Settings of keys that would fail later and worse: said at start, in one sentence each."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core import checks
from django.core.exceptions import ImproperlyConfigured

from tenants.keys import peppers
from tenants.keys.address import trusted_proxies


@checks.register(checks.Tags.security)
def key_settings(**_: Any) -> list[checks.CheckMessage]:
    messages: list[checks.CheckMessage] = []
    try:
        peppers.ring()
    except ImproperlyConfigured as error:
        messages.append(checks.Error(str(error), id="tenants.E001"))
    try:
        trusted_proxies(settings.TRUSTED_PROXIES)
    except ValueError as error:
        messages.append(checks.Error(str(error), id="tenants.E002"))
    return messages
