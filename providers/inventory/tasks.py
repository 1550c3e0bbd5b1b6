"""The jobs that keep models up to date, where the operator switched that on."""

from __future__ import annotations

import functools
import logging
import random
from datetime import datetime, timedelta
from typing import Final

from django.conf import settings
from django.db import transaction

from controlplane.kit import clock
from controlplane.kit.jobs.registry import handler
from controlplane.kit.jobs.services import enqueue
from providers.catalog.listings import UnreadableListing
from providers.catalog.models import Provider
from providers.catalog.refresh import Facts
from providers.errors import ProviderError
from providers.inventory.ask import facts_from
from providers.inventory.services import refresh_provider
from tenants import scope
from tenants.audit.actor import Kind, acting_as

log = logging.getLogger(__name__)

# While refreshing is switched off: how soon the switch is noticed.
_IDLE: Final = timedelta(minutes=5)
# A listing may have fifty pages, and each may take its time.
_LEASE: Final = timedelta(minutes=30)


@handler("catalog.refresh", every=timedelta(hours=24))
def refresh(**_: object) -> datetime:
    """Writes one job per registration, spread over the time until the next round, so that neither
    we nor a vendor sees them all at once."""
    now = clock.now()
    hours = settings.CATALOG_REFRESH_HOURS
    if not hours:
        return now + _IDLE
    pace = timedelta(hours=hours)
    with scope.platform("refresh models of registrations"), transaction.atomic():
        enabled = Provider.objects.filter(is_enabled=True).order_by("pk")
        for provider_id in enabled.values_list("pk", flat=True):
            spread = random.random()  # noqa: S311  (a spread, not a secret)
            enqueue(
                kind="catalog.refresh.one",
                key=str(provider_id),
                args={"provider_id": provider_id},
                due_at=now + pace * spread,
            )
    return now + pace


@handler("catalog.refresh.one", lease=_LEASE, max_attempts=2)
def refresh_one(*, provider_id: str, **_: object) -> None:
    with (
        acting_as(Kind.SYSTEM, None, "catalog refresh"),
        scope.platform("refresh models of a registration"),
    ):
        provider = Provider.objects.filter(pk=provider_id, is_enabled=True).first()
        # Taken away or switched off since the job was written.
        if provider is None:
            return
        done = refresh_provider(provider, facts=_facts_now())
        if done.problem:
            log.warning("models of %s were not listed: %s", provider.slug, done.problem)


def _facts_now() -> Facts | None:
    """The operator's facts file. None: there is none, or it cannot be had now; what it said
    before stays."""
    source = settings.CATALOG_FACTS_SOURCE
    if not source:
        return None
    try:
        return _facts(source, clock.now().strftime("%Y-%m-%dT%H"))
    except (ProviderError, UnreadableListing, OSError) as error:
        log.warning("the facts file %s was not read: %s", source, error)
        return None


@functools.lru_cache(maxsize=1)
def _facts(source: str, hour: str) -> Facts:  # noqa: ARG001  (read once an hour)
    """Shared by the jobs of a round: it is some megabytes, and the same for all of them."""
    return facts_from(source)
