"""What holds for all registrations of a tenant, or of everybody."""

from __future__ import annotations

import uuid
from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response

from controlplane.api.fields import StrictSerializer
from controlplane.api.permissions import IsPlatformStaff
from controlplane.api.versioning import ETAG, IF_MATCH, seen_version
from controlplane.api.view import ControlView
from providers.catalog.models import RegistryPolicy
from providers.catalog.policy import own_policy, set_policy
from providers.routing import expectations
from tenants import scope
from tenants.access import Role, access_tenant, is_staff
from tenants.errors import RoleForbidden


class PolicySerializer(serializers.Serializer[RegistryPolicy]):
    tenant_id = serializers.UUIDField(allow_null=True)
    force_model_prefix = serializers.BooleanField(
        allow_null=True,
        help_text="Models of a registration with a prefix answer to prefixed names only; null: "
        "not said here.",
    )
    shows_prices = serializers.BooleanField(
        allow_null=True,
        help_text="Tenants read prices of the platform's registrations; null: not said here.",
    )
    allows_own_keys = serializers.BooleanField(
        allow_null=True,
        help_text="Requests may bring the provider's key in x-provider-key; null: not said here.",
    )
    version = serializers.IntegerField(help_text="The ETag is this number in quotes.")


class PolicyChangesSerializer(StrictSerializer):
    force_model_prefix = serializers.BooleanField(allow_null=True, required=False)
    shows_prices = serializers.BooleanField(
        allow_null=True, required=False, help_text="Platform staff only."
    )
    allows_own_keys = serializers.BooleanField(allow_null=True, required=False)


@extend_schema(tags=["providers"])
class PolicyView(ControlView):
    queryset = RegistryPolicy.objects.all()
    permission_classes = (IsAuthenticated, IsPlatformStaff)

    @extend_schema(
        operation_id="read_registry_policy",
        summary="What holds for all tenants (platform staff)",
        responses=PolicySerializer,
        parameters=[ETAG],
    )
    def get(self, request: Request) -> Response:
        with scope.platform("registry policy of the platform"):
            return self.one(own_policy(None), PolicySerializer)

    @extend_schema(
        operation_id="change_registry_policy",
        summary="Change what holds for all tenants (platform staff)",
        request=PolicyChangesSerializer,
        responses=PolicySerializer,
        parameters=[IF_MATCH, ETAG],
    )
    def patch(self, request: Request) -> Response:
        with scope.platform("registry policy of the platform"):
            return _changed(self, None, self.validated(PolicyChangesSerializer))


@extend_schema(tags=["providers"])
class TenantPolicyView(ControlView):
    queryset = RegistryPolicy.objects.all()

    @extend_schema(
        operation_id="read_tenant_registry_policy",
        summary="What holds for a tenant",
        responses=PolicySerializer,
        parameters=[ETAG],
    )
    def get(self, request: Request, tenant_id: str) -> Response:
        tenant = access_tenant(self.caller, tenant_id)
        with scope.tenant(tenant.id):
            return self.one(own_policy(tenant.id), PolicySerializer)

    @extend_schema(
        operation_id="change_tenant_registry_policy",
        summary="Change what holds for a tenant (admins; prices: platform staff)",
        request=PolicyChangesSerializer,
        responses=PolicySerializer,
        parameters=[IF_MATCH, ETAG],
    )
    def patch(self, request: Request, tenant_id: str) -> Response:
        tenant = access_tenant(self.caller, tenant_id, at_least=Role.ADMIN)
        values = self.validated(PolicyChangesSerializer)
        if "shows_prices" in values and not is_staff(self.caller):
            raise RoleForbidden(
                "Only platform staff decide who reads prices.", param="shows_prices"
            )
        with scope.tenant(tenant.id):
            return _changed(self, tenant.id, values)


def _changed(view: ControlView, tenant_id: uuid.UUID | None, values: dict[str, Any]) -> Response:
    policy = own_policy(tenant_id)
    version = seen_version(view.request, policy)
    if values:
        with expectations.guarded():
            set_policy(policy, expected_version=version, **values)
    return view.one(policy, PolicySerializer)
