"""Tenants: made, suspended and described by platform staff; their own people see them, and admins
change their name and time zone."""

from __future__ import annotations

from typing import Any

from django.urls import reverse
from django_filters import CharFilter, ChoiceFilter, FilterSet
from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework import serializers
from rest_framework.permissions import BasePermission, IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response

from controlplane.api.fields import StrictSerializer, TimeZone
from controlplane.api.idempotency import IDEMPOTENCY_KEY, Created, create_once
from controlplane.api.permissions import IsPlatformStaff
from controlplane.api.versioning import ETAG, IF_MATCH, seen_version
from controlplane.api.view import ControlView
from tenants import scope
from tenants.access import access_tenant, is_staff, tenants_of
from tenants.errors import RoleForbidden
from tenants.members.models import Membership, Tenant
from tenants.members.services import change_status, create_tenant, update_tenant

Role = Membership.Role


class TenantSerializer(serializers.Serializer[Tenant]):
    id = serializers.UUIDField()
    slug = serializers.CharField()
    name = serializers.CharField()
    status = serializers.ChoiceField(Tenant.Status.choices)
    time_zone = serializers.CharField()
    plan_notes = serializers.SerializerMethodField(
        help_text="The operator's notes: null for everybody but platform staff."
    )
    created_at = serializers.DateTimeField()
    updated_at = serializers.DateTimeField()
    version = serializers.IntegerField(help_text="The ETag is this number in quotes.")

    def get_plan_notes(self, tenant: Tenant) -> str | None:
        return tenant.plan_notes if is_staff(self.context["caller"]) else None


class NewTenantSerializer(StrictSerializer):
    slug = serializers.RegexField(
        r"^[a-z][a-z0-9-]{1,38}[a-z0-9]\Z",
        help_text="3 to 40 lower-case letters, digits and hyphens, starting with a letter. It "
        "stays for ever.",
        error_messages={
            "invalid": "Use 3 to 40 lower-case letters, digits and hyphens, starting with a letter."
        },
    )
    name = serializers.CharField(max_length=120)
    time_zone = TimeZone(default="UTC")
    plan_notes = serializers.CharField(max_length=10_000, allow_blank=True, default="")


class TenantChangesSerializer(StrictSerializer):
    name = serializers.CharField(max_length=120, required=False)
    time_zone = TimeZone(required=False)
    plan_notes = serializers.CharField(
        max_length=10_000, allow_blank=True, required=False, help_text="Platform staff only."
    )


class TenantStatusSerializer(StrictSerializer):
    status = serializers.ChoiceField(Tenant.Status.choices)


class TenantFilters(FilterSet):  # type: ignore[misc]  # untyped
    status = ChoiceFilter(choices=Tenant.Status.choices)
    slug = CharFilter()

    class Meta:
        model = Tenant
        fields = ("status", "slug")


@extend_schema(tags=["tenants"])
class TenantsView(ControlView):
    is_list = True
    queryset = Tenant.objects.all()
    filterset_class = TenantFilters

    def get_permissions(self) -> list[BasePermission]:
        found: list[BasePermission] = [IsAuthenticated()]
        # Asked without a request while the schema is made.
        if getattr(self.request, "method", None) == "POST":
            found.append(IsPlatformStaff())
        return found

    @extend_schema(
        operation_id="list_tenants",
        summary="The tenants you may see",
        responses=TenantSerializer(many=True),
    )
    def get(self, request: Request) -> Response:
        return self.page(tenants_of(self.caller), TenantSerializer)

    @extend_schema(
        operation_id="create_tenant",
        summary="Create a tenant (platform staff)",
        request=NewTenantSerializer,
        responses={201: TenantSerializer},
        parameters=[IDEMPOTENCY_KEY, ETAG],
    )
    def post(self, request: Request) -> Response:
        wanted = self.validated(NewTenantSerializer)

        def create() -> Created:
            tenant = create_tenant(**wanted)
            location = reverse("api-tenant", args=[tenant.id])
            return Created(self.shown(tenant, TenantSerializer), location, tenant)

        with scope.platform("a new tenant"):
            return create_once(self, tenant_id=None, create=create)


@extend_schema(tags=["tenants"])
class TenantView(ControlView):
    queryset = Tenant.objects.all()

    @extend_schema(
        operation_id="read_tenant",
        summary="One tenant",
        responses=TenantSerializer,
        parameters=[ETAG],
    )
    def get(self, request: Request, tenant_id: str) -> Response:
        return self.one(access_tenant(self.caller, tenant_id), TenantSerializer)

    @extend_schema(
        operation_id="change_tenant",
        summary="Change a tenant's name, time zone or notes (admins; notes: platform staff)",
        request=TenantChangesSerializer,
        responses=TenantSerializer,
        parameters=[IF_MATCH, ETAG],
    )
    def patch(self, request: Request, tenant_id: str) -> Response:
        tenant = access_tenant(self.caller, tenant_id, at_least=Role.ADMIN)
        changes: dict[str, Any] = self.validated(TenantChangesSerializer)
        if "plan_notes" in changes and not is_staff(self.caller):
            raise RoleForbidden("Only platform staff write the notes.", param="plan_notes")
        version = seen_version(request, tenant)
        if changes:
            with scope.tenant(tenant.id):
                tenant = update_tenant(tenant=tenant, version=version, **changes)
        return self.one(tenant, TenantSerializer)


@extend_schema(tags=["tenants"])
class TenantStatusView(ControlView):
    queryset = Tenant.objects.all()
    permission_classes = (IsAuthenticated, IsPlatformStaff)

    @extend_schema(
        operation_id="change_tenant_status",
        summary="Suspend, close or bring back a tenant (platform staff)",
        description="Within a second, every key of a tenant that is not active is refused.",
        request=TenantStatusSerializer,
        responses={
            200: TenantSerializer,
            409: OpenApiResponse(description="It has this status already, or somebody was first."),
        },
        parameters=[ETAG],
    )
    def post(self, request: Request, tenant_id: str) -> Response:
        tenant = access_tenant(self.caller, tenant_id, at_least=Role.OWNER)
        status = self.validated(TenantStatusSerializer)["status"]
        with scope.tenant(tenant.id):
            tenant = change_status(tenant=tenant, status=status)
        return self.one(tenant, TenantSerializer)
