"""The jobs that keep an eye on registrations."""

from __future__ import annotations

import random
from datetime import datetime, timedelta
from typing import Final

from django.conf import settings
from django.db import transaction

from controlplane.kit import clock
from controlplane.kit.jobs.registry import handler
from controlplane.kit.jobs.services import enqueue
from providers.catalog.models import Provider
from providers.health.alerts import tell_if_down
from providers.health.probe import LONGEST_SECONDS
from providers.health.services import PRUNE_BATCH, check_provider, prune_checks
from tenants import scope

# While checks are switched off: how soon the switch is noticed.
_IDLE: Final = timedelta(minutes=5)


@handler("provider.health", every=timedelta(minutes=15))
def health(**_: object) -> datetime:
    """Writes one job per registration, spread over the time until the next round, so that neither
    we nor a vendor sees them all at once."""
    now = clock.now()
    minutes = settings.PROVIDER_HEALTH_MINUTES
    if not minutes:
        return now + _IDLE
    pace = timedelta(minutes=minutes)
    with scope.platform("check registrations"), transaction.atomic():
        enabled = Provider.objects.filter(is_enabled=True).order_by("pk")
        for provider_id in enabled.values_list("pk", flat=True):
            spread = random.random()  # noqa: S311  (a spread, not a secret)
            enqueue(
                kind="provider.health.check",
                key=str(provider_id),
                args={"provider_id": provider_id},
                due_at=now + pace * spread,
            )
    return now + pace


@handler("provider.health.check", lease=timedelta(seconds=2 * LONGEST_SECONDS + 30), max_attempts=2)
def check(*, provider_id: str, **_: object) -> None:
    with scope.platform("check a registration"):
        provider = Provider.objects.filter(pk=provider_id, is_enabled=True).first()
        # Taken away or switched off since the job was written.
        if provider is not None:
            check_provider(provider)
            tell_if_down(provider, now=clock.now())


@handler("provider.health.prune", every=timedelta(hours=6))
def prune(**_: object) -> datetime | None:
    now = clock.now()
    # A full batch: there is more, and other jobs come in between.
    return now if prune_checks(now=now) >= PRUNE_BATCH else None
