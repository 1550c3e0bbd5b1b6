"""Names that clients use instead of a provider's own, and the pools behind them."""

from __future__ import annotations

import uuid
from typing import Any

from django.urls import reverse
from django_filters import BooleanFilter, CharFilter, FilterSet
from drf_spectacular.utils import OpenApiResponse, extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.permissions import BasePermission, IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response

from controlplane.api.fields import StrictSerializer
from controlplane.api.idempotency import IDEMPOTENCY_KEY, Created, create_once
from controlplane.api.permissions import IsPlatformStaff
from controlplane.api.providers.warnings import WARNING, Warnings, warned
from controlplane.api.versioning import ETAG, IF_MATCH, seen_version
from controlplane.api.view import ControlView
from providers.access import access_alias, manageable, scope_of, usable
from providers.bundle.ownership import warnings_of_change, warnings_of_removal
from providers.catalog.models import Provider
from providers.routing import aliases as services
from providers.routing.aliases import PoolEntry
from providers.routing.models import Alias, Strategy
from tenants import scope
from tenants.access import Role, access_tenant


class TargetSerializer(serializers.Serializer[Any]):
    provider = serializers.CharField(
        allow_null=True, help_text="Slug of a registration; null: any that has the model."
    )
    model = serializers.CharField()


class AliasSerializer(serializers.Serializer[Alias]):
    id = serializers.UUIDField()
    tenant_id = serializers.UUIDField(allow_null=True, help_text="null: offered to all tenants.")
    name = serializers.CharField()
    is_enabled = serializers.BooleanField()
    strategy = serializers.CharField(
        help_text="How its pool is chosen from; empty: as the tenant or the platform says."
    )
    is_reported_as_alias = serializers.BooleanField(
        help_text="Answers name the alias instead of the model that served."
    )
    total_timeout_seconds = serializers.FloatField(
        allow_null=True, help_text="Of a request with all its attempts; null: as for others."
    )
    targets = serializers.SerializerMethodField()
    owned_by = serializers.CharField(help_text="The bundle that made it; empty: a person.")
    created_at = serializers.DateTimeField()
    updated_at = serializers.DateTimeField()
    version = serializers.IntegerField(help_text="The ETag is this number in quotes.")
    warnings = Warnings()

    @extend_schema_field(TargetSerializer(many=True))
    def get_targets(self, alias: Alias) -> list[dict[str, Any]]:
        rows = sorted(alias.targets.all(), key=lambda row: (row.position, row.pk))
        return [
            {"provider": row.provider.slug if row.provider else None, "model": row.model}
            for row in rows
        ]


class NewTargetSerializer(StrictSerializer):
    provider = serializers.CharField(max_length=63, allow_null=True, default=None)
    model = serializers.CharField(max_length=255)


class AliasChangesSerializer(StrictSerializer):
    name = serializers.CharField(max_length=255, required=False)
    is_enabled = serializers.BooleanField(required=False)
    strategy = serializers.ChoiceField(
        [("", "Not said here"), *Strategy.choices], required=False, allow_blank=True
    )
    is_reported_as_alias = serializers.BooleanField(required=False)
    total_timeout_seconds = serializers.FloatField(
        min_value=0.1, max_value=3600, allow_null=True, required=False
    )
    targets = NewTargetSerializer(
        many=True, required=False, help_text="The whole pool, in the order of trying."
    )


class NewAliasSerializer(AliasChangesSerializer):
    name = serializers.CharField(max_length=255)
    targets = NewTargetSerializer(many=True, help_text="The pool, in the order of trying.")


class AliasFilters(FilterSet):  # type: ignore[misc]  # untyped
    name = CharFilter()
    is_enabled = BooleanFilter()

    class Meta:
        model = Alias
        fields = ("name", "is_enabled")


@extend_schema(tags=["aliases"])
class AliasesView(ControlView):
    is_list = True
    queryset = Alias.objects.all()
    filterset_class = AliasFilters

    def get_permissions(self) -> list[BasePermission]:
        found: list[BasePermission] = [IsAuthenticated()]
        # Asked without a request while the schema is made.
        if getattr(self.request, "method", None) == "POST":
            found.append(IsPlatformStaff())
        return found

    @extend_schema(
        operation_id="list_aliases",
        summary="The aliases you may manage or look at",
        responses=AliasSerializer(many=True),
    )
    def get(self, request: Request) -> Response:
        with scope.platform("aliases of a caller"):
            rows = manageable(self.caller, Alias.objects.all())
            return self.page(rows.prefetch_related("targets__provider"), AliasSerializer)

    @extend_schema(
        operation_id="create_platform_alias",
        summary="Create an alias for all tenants (platform staff)",
        request=NewAliasSerializer,
        responses={
            201: AliasSerializer,
            409: OpenApiResponse(description="The name is taken."),
        },
        parameters=[IDEMPOTENCY_KEY, ETAG],
    )
    def post(self, request: Request) -> Response:
        with scope.platform("an alias of the platform"):
            return _created(self, None)


@extend_schema(tags=["aliases"])
class TenantAliasesView(ControlView):
    is_list = True
    queryset = Alias.objects.all()
    filterset_class = AliasFilters

    @extend_schema(
        operation_id="list_tenant_aliases",
        summary="A tenant's own aliases",
        responses=AliasSerializer(many=True),
    )
    def get(self, request: Request, tenant_id: str) -> Response:
        tenant = access_tenant(self.caller, tenant_id)
        with scope.tenant(tenant.id):
            rows = Alias.objects.filter(tenant_id=tenant.id)
            return self.page(rows.prefetch_related("targets__provider"), AliasSerializer)

    @extend_schema(
        operation_id="create_tenant_alias",
        summary="Create an alias for a tenant (admins)",
        request=NewAliasSerializer,
        responses={
            201: AliasSerializer,
            409: OpenApiResponse(description="The name is taken."),
        },
        parameters=[IDEMPOTENCY_KEY, ETAG],
    )
    def post(self, request: Request, tenant_id: str) -> Response:
        tenant = access_tenant(self.caller, tenant_id, at_least=Role.ADMIN)
        with scope.tenant(tenant.id):
            return _created(self, tenant.id)


@extend_schema(tags=["aliases"])
class AliasView(ControlView):
    queryset = Alias.objects.all()

    @extend_schema(
        operation_id="read_alias",
        summary="One alias",
        responses=AliasSerializer,
        parameters=[ETAG],
    )
    def get(self, request: Request, alias_id: str) -> Response:
        alias = access_alias(self.caller, alias_id, write=False)
        with scope_of(alias):
            return self.one(alias, AliasSerializer)

    @extend_schema(
        operation_id="change_alias",
        summary="Change an alias (admins)",
        request=AliasChangesSerializer,
        responses=AliasSerializer,
        parameters=[IF_MATCH, ETAG],
    )
    def patch(self, request: Request, alias_id: str) -> Response:
        alias = access_alias(self.caller, alias_id, write=True)
        values = self.validated(AliasChangesSerializer)
        version = seen_version(request, alias)
        given = values.pop("targets", None)
        targets = None if given is None else _pool(given, alias.tenant_id)
        with scope_of(alias):
            if values or targets is not None:
                services.change_alias(alias, expected_version=version, targets=targets, **values)
            fresh = access_alias(self.caller, alias_id, write=False)
            return warned(self.one(fresh, AliasSerializer), warnings_of_change(fresh))

    @extend_schema(
        operation_id="remove_alias",
        summary="Take an alias away (admins)",
        responses={204: None},
        parameters=[IF_MATCH, WARNING],
    )
    def delete(self, request: Request, alias_id: str) -> Response:
        alias = access_alias(self.caller, alias_id, write=True)
        seen_version(request, alias)
        with scope_of(alias):
            services.remove_alias(alias)
        return warned(Response(status=204), warnings_of_removal(alias))


def _created(view: ControlView, tenant_id: uuid.UUID | None) -> Response:
    wanted = view.validated(NewAliasSerializer)
    targets = _pool(wanted.pop("targets"), tenant_id)

    def create() -> Created:
        alias = services.create_alias(tenant_id=tenant_id, targets=targets, **wanted)
        location = reverse("api-alias", args=[alias.id])
        fresh = Alias.objects.prefetch_related("targets__provider").get(pk=alias.pk)
        return Created(view.shown(fresh, AliasSerializer), location, alias)

    return create_once(view, tenant_id=tenant_id, create=create)


def _pool(given: list[dict[str, Any]], tenant_id: uuid.UUID | None) -> list[PoolEntry]:
    """Slugs as registrations: the tenant's own before the platform's of the same slug."""
    slugs = {entry["provider"] for entry in given if entry["provider"] is not None}
    with scope.platform("registrations of a pool"):
        rows = Provider.objects.filter(tenant=None) if tenant_id is None else usable(tenant_id)
        named = list(rows.filter(slug__in=slugs))
    found = {row.slug: row for row in named if row.tenant_id is None}
    found.update({row.slug: row for row in named if row.tenant_id is not None})
    for position, entry in enumerate(given):
        slug = entry["provider"]
        if slug is not None and slug not in found:
            raise serializers.ValidationError(
                {"targets": {str(position): {"provider": [f"There is no registration {slug!r}."]}}}
            )
    return [
        PoolEntry(entry["model"], found[entry["provider"]] if entry["provider"] else None)
        for entry in given
    ]
