"""Filters that ask the operator's questions, and stay cheap when there are many tenants."""

from __future__ import annotations

from typing import Any

from django.contrib.admin import ModelAdmin, SimpleListFilter
from django.db.models import QuerySet
from django.http import HttpRequest

from tenants.members.models import Tenant

_LISTED = 30


class TenantFilter(SimpleListFilter):
    """The first tenants by name; any other is found by typing its name into the search box."""

    title = "tenant"
    parameter_name = "tenant"

    def lookups(self, request: HttpRequest, model_admin: ModelAdmin[Any]) -> list[tuple[Any, str]]:
        chosen = self.used_parameters.get(self.parameter_name)
        slugs = list(Tenant.objects.order_by("slug").values_list("slug", flat=True)[:_LISTED])
        if isinstance(chosen, str) and chosen not in slugs:
            slugs.append(chosen)
        return [(slug, slug) for slug in slugs]

    def value(self) -> str | None:
        # PostgreSQL takes no NUL in a text: whoever types one finds nothing, as with any other.
        typed = super().value()
        return None if typed is None else str(typed).replace("\0", "\N{REPLACEMENT CHARACTER}")

    def has_output(self) -> bool:
        return bool(self.lookup_choices)

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        slug = self.value()
        if slug is None:
            return queryset
        # By its id, not by a join: an index of the list's own table then gives the order too.
        tenant_id = Tenant.objects.filter(slug=slug).values_list("pk", flat=True).first()
        return queryset.none() if tenant_id is None else queryset.filter(tenant_id=tenant_id)
