"""Checks of registrations: made, kept for some days, and read as a timeline."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Final

from django.conf import settings
from django.db.models import OuterRef, QuerySet, Subquery

from controlplane.kit import clock
from providers.catalog.models import Provider
from providers.credentials.models import Credential
from providers.health.models import FINE, Finding, ProviderCheck, Standing
from providers.health.probe import Verdict, probe
from tenants import scope

PRUNE_BATCH: Final = 1_000


def check_provider(
    provider: Provider, *, credential: Credential | None = None
) -> tuple[ProviderCheck, Verdict]:
    """Asks now and keeps what was found. In the scope of the registration; waits."""
    verdict = probe(provider, credential=credential)
    row = ProviderCheck.objects.create(
        provider=provider,
        at=clock.now(),
        is_ok=verdict.is_ok,
        finding=verdict.finding,
        sentence=verdict.sentence,
        milliseconds=verdict.milliseconds,
    )
    return row, verdict


def with_latest_check(providers: QuerySet[Any]) -> QuerySet[Any]:
    """Each with `health_finding`, `health_sentence` and `health_at` of its latest check. None =
    never checked."""
    latest = ProviderCheck.objects.filter(provider=OuterRef("pk")).order_by("-at", "-pk")
    found: QuerySet[Any] = providers.annotate(
        health_finding=Subquery(latest.values("finding")[:1]),
        health_sentence=Subquery(latest.values("sentence")[:1]),
        health_at=Subquery(latest.values("at")[:1]),
    )
    return found


def standing_of(provider: Provider, *, is_broken: bool) -> Standing:
    """Of a row that was read `with_latest_check`. `is_broken` = its settings do not merge."""
    if not provider.is_enabled:
        return Standing.OFF
    if is_broken:
        return Standing.CANNOT_WORK
    finding = getattr(provider, "health_finding", None)
    if finding is None:
        return Standing.UNCHECKED
    if finding == Finding.NO_CREDENTIAL:
        return Standing.NO_CREDENTIAL
    return Standing.WORKING if finding in FINE else Standing.FAILING


def timeline(provider: Provider, *, limit: int = 60) -> list[ProviderCheck]:
    """The latest checks, oldest first."""
    return list(provider.checks.order_by("-at", "-pk")[:limit])[::-1]


def prune_checks(*, now: datetime) -> int:
    """Forgets what is older than the operator keeps, at most one batch. Returns how many."""
    before = now - timedelta(days=settings.PROVIDER_HEALTH_KEEP_DAYS)
    with scope.platform("checks that grew old"):
        ids = list(ProviderCheck.objects.before(before).values_list("pk", flat=True)[:PRUNE_BATCH])
        return ProviderCheck.objects.filter(pk__in=ids).delete()[0]
