"""The list of registrations: its filters, and what is looked up for the rows of one page."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from django.contrib import admin
from django.db.models import Count, Exists, OuterRef, Q, QuerySet, Sum
from django.http import HttpRequest

from controlplane.console.filters import TenantFilter
from controlplane.kit import clock
from providers.catalog.models import Provider, ProviderShare
from providers.credentials.models import Credential
from providers.health.models import FINE, Finding, Standing
from providers.health.services import standing_of, with_latest_check
from providers.metrics.models import TrafficMinute
from providers.routing.view import settings_or_problem

FAILING: Final = tuple(
    finding.value
    for finding in Finding
    if finding not in FINE and finding is not Finding.NO_CREDENTIAL
)
# Somebody has to do something before requests can use it.
NEEDS_SOMEBODY: Final = (
    Credential.State.NEEDS_LOGIN,
    Credential.State.NO_ENTITLEMENT,
    Credential.State.SUSPENDED,
)


@dataclass(frozen=True, slots=True)
class RowFacts:
    """`problem` = why its settings do not merge; "" = they do."""

    standing: Standing
    models: int
    problem: str
    shares: int
    # In the last hour.
    requests: int
    answered: int


def checked(rows: QuerySet[Any]) -> QuerySet[Any]:
    """With the latest check and the owner: what filters and badges ask for."""
    return with_latest_check(rows).select_related("tenant")


def facts_of(providers: Iterable[Provider]) -> dict[uuid.UUID, RowFacts]:
    """Three queries: shares and traffic. The models were prefetched with the rows."""
    found = list(providers)
    traffic = _traffic(found)
    shares = dict(
        ProviderShare.objects.filter(provider__in=[row.pk for row in found])
        .values_list("provider")
        .annotate(count=Count("pk"))
        .order_by()
    )
    out = {}
    for provider in found:
        settings, problem = settings_or_problem(provider)
        out[provider.pk] = RowFacts(
            standing=standing_of(provider, is_broken=settings is None),
            models=len(settings.models) if settings is not None else 0,
            problem=problem,
            shares=shares.get(provider.pk, 0),
            requests=traffic[provider.pk][0],
            answered=traffic[provider.pk][1],
        )
    return out


def _traffic(providers: list[Provider]) -> dict[uuid.UUID, tuple[int, int]]:
    """Requests and answers of the last hour. Traffic knows names: where a tenant has a registration
    of the same name as the platform's, what that tenant did is its own's."""
    slugs = [provider.slug for provider in providers]
    owned = set(
        Provider.objects.filter(slug__in=slugs, tenant__isnull=False).values_list(
            "tenant_id", "slug"
        )
    )
    found: Counter[tuple[uuid.UUID | None, str]] = Counter()
    answered: Counter[tuple[uuid.UUID | None, str]] = Counter()
    rows = TrafficMinute.objects.since(clock.now() - timedelta(hours=1)).filter(provider__in=slugs)
    for tenant_id, slug, requests, succeeded in (
        rows.values_list("tenant_id", "provider")
        .annotate(all=Sum("requests"), well=Sum("succeeded"))
        .order_by()
    ):
        place = (tenant_id if (tenant_id, slug) in owned else None, slug)
        found[place] += requests
        answered[place] += succeeded
    return {
        provider.pk: (
            found[provider.tenant_id, provider.slug],
            answered[provider.tenant_id, provider.slug],
        )
        for provider in providers
    }


class StandingFilter(admin.SimpleListFilter):
    title = "state"
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [
            ("failing", "Failing now"),
            ("no-credential", "No usable credential"),
            ("attention", "A credential needs somebody"),
            ("working", "Working"),
            ("unchecked", "Not checked yet"),
            ("off", "Off"),
        ]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        match self.value():
            case "failing":
                return queryset.filter(is_enabled=True, health_finding__in=FAILING)
            case "no-credential":
                return queryset.filter(is_enabled=True, health_finding=Finding.NO_CREDENTIAL)
            case "attention":
                stuck = Credential.objects.filter(provider=OuterRef("pk"), state__in=NEEDS_SOMEBODY)
                return queryset.filter(Exists(stuck))
            case "working":
                return queryset.filter(is_enabled=True, health_finding__in=[*FINE])
            case "unchecked":
                return queryset.filter(is_enabled=True, health_finding=None)
            case "off":
                return queryset.filter(is_enabled=False)
            case _:
                return queryset


class OwnerFilter(TenantFilter):
    title = "owner"
    parameter_name = "owner"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[Any, str]]:
        return [("-", "Platform"), *super().lookups(request, model_admin)]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        slug = self.value()
        if slug is None:
            return queryset
        return queryset.filter(Q(tenant=None) if slug == "-" else Q(tenant__slug=slug))
