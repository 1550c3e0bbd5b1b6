"""Limits: how much a tenant, its members, keys and models may use; and how requests reserve."""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec
from django.db.models import QuerySet
from django.urls import reverse
from django_filters import ChoiceFilter, FilterSet
from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework import serializers
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response

from controlplane.api.fields import Moment, StrictSerializer
from controlplane.api.idempotency import IDEMPOTENCY_KEY, Created, create_once
from controlplane.api.permissions import IsPlatformStaff
from controlplane.api.versioning import ETAG, IF_MATCH, seen_version
from controlplane.api.view import ControlView
from providers.catalog.reading import read_price
from providers.catalog.schema import CatalogError
from tenants import scope
from tenants.access import access_tenant, is_staff
from tenants.errors import RoleForbidden
from tenants.members.models import Membership, Tenant
from tenants.quotas.access import access_limit, access_platform_limit
from tenants.quotas.models import Limit, UsagePolicy
from tenants.quotas.policy import MOST
from tenants.quotas.services import (
    change_policy,
    create_limit,
    policy_of,
    remove_limit,
    update_limit,
)

Role = Membership.Role
MOST_LISTED: Final = 100
_PATTERN: Final = re.compile(r"[^\s?\[\]\x00-\x1f]+")
_AMOUNT = "How much. 0 lets nothing through. Money in nano-dollars: 1 dollar is 1000000000."


class LimitSerializer(serializers.Serializer[Limit]):
    id = serializers.UUIDField()
    tenant_id = serializers.UUIDField(allow_null=True, help_text="null: the platform's own.")
    scope_kind = serializers.ChoiceField(Limit.ScopeKind.choices)
    scope_value = serializers.CharField()
    kind = serializers.ChoiceField(Limit.Kind.choices)
    period = serializers.ChoiceField(Limit.Period.choices)
    window = serializers.ChoiceField(Limit.Window.choices)
    fiscal_day = serializers.IntegerField()
    amount = serializers.IntegerField(help_text=_AMOUNT)
    mode = serializers.ChoiceField(Limit.Mode.choices)
    is_platform_set = serializers.BooleanField(help_text="Only platform staff may change it.")
    created_at = serializers.DateTimeField()
    updated_at = serializers.DateTimeField()
    version = serializers.IntegerField(help_text="The ETag is this number in quotes.")


class NewLimitSerializer(StrictSerializer):
    scope_kind = serializers.ChoiceField(Limit.ScopeKind.choices)
    scope_value = serializers.CharField(
        max_length=200,
        allow_blank=True,
        default="",
        help_text="The id of the key, member or credential, or the name of the model or provider. "
        "`*` gives each of them this much.",
    )
    kind = serializers.ChoiceField(Limit.Kind.choices)
    period = serializers.ChoiceField(Limit.Period.choices, default=Limit.Period.NONE)
    window = serializers.ChoiceField(
        Limit.Window.choices,
        default=Limit.Window.CALENDAR,
        help_text="Calendar periods begin in the tenant's time zone.",
    )
    fiscal_day = serializers.IntegerField(min_value=1, max_value=28, default=1)
    amount = serializers.IntegerField(min_value=0, max_value=MOST, help_text=_AMOUNT)
    mode = serializers.ChoiceField(
        Limit.Mode.choices,
        default=Limit.Mode.ENFORCE,
        help_text="`shadow` counts and tells what it would have refused, and refuses nothing.",
    )


class LimitChangesSerializer(StrictSerializer):
    amount = serializers.IntegerField(
        min_value=0, max_value=MOST, required=False, help_text=_AMOUNT
    )
    mode = serializers.ChoiceField(Limit.Mode.choices, required=False)


class ListedPriceSerializer(StrictSerializer):
    model = serializers.CharField(
        max_length=200, help_text="As callers name it; * stands for any part: gpt-*."
    )
    effective_from = Moment(help_text="Requests that begin from then on are charged by it.")
    price = serializers.DictField(
        help_text="As in the catalog: input and output, and whatever else differs, in dollars per "
        "million tokens, as text."
    )

    def validate_model(self, value: str) -> str:
        if not _PATTERN.fullmatch(value):
            raise serializers.ValidationError("Only * has a meaning here, and no space.")
        return value

    def validate_price(self, value: dict[str, Any]) -> dict[str, Any]:
        try:
            price = read_price(value, "price")
        except CatalogError as error:
            raise serializers.ValidationError(str(error)) from None
        written = msgspec.to_builtins(price)
        return {name: amount for name, amount in written.items() if amount}


class UsagePolicySerializer(serializers.Serializer[UsagePolicy]):
    tenant_id = serializers.UUIDField(
        allow_null=True, help_text="null: of every tenant without a policy of its own."
    )
    reservation = serializers.ChoiceField(UsagePolicy.Reservation.choices)
    durability = serializers.ChoiceField(UsagePolicy.Durability.choices)
    unpriced = serializers.ChoiceField(UsagePolicy.Unpriced.choices)
    mark_up = serializers.IntegerField(
        help_text="On top of the provider's price, in hundredths of a per cent."
    )
    price_list = ListedPriceSerializer(
        many=True, help_text="Prices that hold in place of the provider's with the mark-up."
    )
    version = serializers.IntegerField(help_text="The ETag is this number in quotes.")


class UsagePolicyChangesSerializer(StrictSerializer):
    reservation = serializers.ChoiceField(
        UsagePolicy.Reservation.choices,
        required=False,
        help_text="What is held for a request until its usage is known.",
    )
    durability = serializers.ChoiceField(UsagePolicy.Durability.choices, required=False)
    unpriced = serializers.ChoiceField(UsagePolicy.Unpriced.choices, required=False)
    mark_up = serializers.IntegerField(
        min_value=-10_000,
        max_value=UsagePolicy.MOST_MARK_UP,
        required=False,
        help_text="Platform staff only.",
    )
    price_list = ListedPriceSerializer(
        many=True,
        required=False,
        help_text="Platform staff only. The whole list: what is left out ends at once.",
    )

    def validate_price_list(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        if len(rows) > MOST_LISTED:
            raise serializers.ValidationError(f"A price list has at most {MOST_LISTED} prices.")
        if len({(row["model"], row["effective_from"]) for row in rows}) < len(rows):
            raise serializers.ValidationError("Two prices of one model begin at the same moment.")
        return [{**row, "effective_from": row["effective_from"].isoformat()} for row in rows]


class LimitFilters(FilterSet):  # type: ignore[misc]  # untyped
    scope_kind = ChoiceFilter(choices=Limit.ScopeKind.choices)
    kind = ChoiceFilter(choices=Limit.Kind.choices)
    mode = ChoiceFilter(choices=Limit.Mode.choices)

    class Meta:
        model = Limit
        fields = ("scope_kind", "kind", "mode")


@extend_schema(tags=["limits"])
class LimitsView(ControlView):
    is_list = True
    queryset = Limit.objects.all()
    filterset_class = LimitFilters

    @extend_schema(
        operation_id="list_limits",
        summary="A tenant's limits",
        responses=LimitSerializer(many=True),
    )
    def get(self, request: Request, tenant_id: str) -> Response:
        tenant = access_tenant(self.caller, tenant_id)
        with scope.tenant(tenant.id):
            return self.page(Limit.objects.all(), LimitSerializer)

    @extend_schema(
        operation_id="create_limit",
        summary="Set a limit (admins)",
        description="In force in every process within a second. What platform staff set, the "
        "tenant's own people see and cannot change.",
        request=NewLimitSerializer,
        responses={
            201: LimitSerializer,
            409: OpenApiResponse(description="There is such a limit already."),
        },
        parameters=[IDEMPOTENCY_KEY, ETAG],
    )
    def post(self, request: Request, tenant_id: str) -> Response:
        tenant = access_tenant(self.caller, tenant_id, at_least=Role.ADMIN)
        wanted = self.validated(NewLimitSerializer)

        def create() -> Created:
            limit = create_limit(tenant=tenant, is_platform_set=is_staff(self.caller), **wanted)
            where = reverse("api-limit", args=[tenant.id, limit.id])
            return Created(self.shown(limit, LimitSerializer), where, limit)

        with scope.tenant(tenant.id):
            return create_once(self, tenant_id=tenant.id, create=create)


@extend_schema(tags=["limits"])
class LimitView(ControlView):
    queryset = Limit.objects.all()

    @extend_schema(
        operation_id="read_limit", summary="One limit", responses=LimitSerializer, parameters=[ETAG]
    )
    def get(self, request: Request, tenant_id: str, limit_id: str) -> Response:
        return self.one(
            access_limit(self.caller, tenant_id, limit_id, write=False), LimitSerializer
        )

    @extend_schema(
        operation_id="change_limit",
        summary="Change how much, or whether it is enforced (admins)",
        description="What it counts, and for whom, stays: remove it and set another.",
        request=LimitChangesSerializer,
        responses=LimitSerializer,
        parameters=[IF_MATCH, ETAG],
    )
    def patch(self, request: Request, tenant_id: str, limit_id: str) -> Response:
        tenant = access_tenant(self.caller, tenant_id)
        limit = access_limit(self.caller, tenant_id, limit_id, write=True)
        changes = self.validated(LimitChangesSerializer)
        version = seen_version(request, limit)
        if changes:
            with scope.tenant(tenant.id):
                limit = update_limit(limit=limit, version=version, **changes)
        return self.one(limit, LimitSerializer)

    @extend_schema(
        operation_id="remove_limit",
        summary="Remove a limit (admins)",
        responses={204: None},
        parameters=[IF_MATCH],
    )
    def delete(self, request: Request, tenant_id: str, limit_id: str) -> Response:
        tenant = access_tenant(self.caller, tenant_id)
        limit = access_limit(self.caller, tenant_id, limit_id, write=True)
        version = seen_version(request, limit)
        with scope.tenant(tenant.id):
            remove_limit(limit=limit, version=version)
        return Response(status=204)


@extend_schema(tags=["limits"])
class UsagePolicyView(ControlView):
    queryset = UsagePolicy.objects.all()

    @extend_schema(
        operation_id="read_usage_policy",
        summary="How a tenant's requests reserve and are charged",
        responses=UsagePolicySerializer,
        parameters=[ETAG],
    )
    def get(self, request: Request, tenant_id: str) -> Response:
        return self.one(_policy(access_tenant(self.caller, tenant_id)), UsagePolicySerializer)

    @extend_schema(
        operation_id="change_usage_policy",
        summary="Change it (admins; mark-up and price list: platform staff)",
        request=UsagePolicyChangesSerializer,
        responses=UsagePolicySerializer,
        parameters=[IF_MATCH, ETAG],
    )
    def patch(self, request: Request, tenant_id: str) -> Response:
        tenant = access_tenant(self.caller, tenant_id, at_least=Role.ADMIN)
        changes = self.validated(UsagePolicyChangesSerializer)
        for name, what in (("mark_up", "the mark-up"), ("price_list", "a price list")):
            if name in changes and not is_staff(self.caller):
                raise RoleForbidden(f"Only platform staff set {what}.", param=name)
        policy = _policy(tenant)
        version = seen_version(request, policy)
        if changes:
            with scope.tenant(tenant.id):
                policy = change_policy(tenant=tenant, version=version, **changes)
        return self.one(policy, UsagePolicySerializer)


@extend_schema(tags=["limits"])
class PlatformUsagePolicyView(ControlView):
    queryset = UsagePolicy.objects.all()
    permission_classes = (IsAuthenticated, IsPlatformStaff)

    @extend_schema(
        operation_id="read_platform_usage_policy",
        summary="How tenants without a policy reserve and are charged (platform staff)",
        responses=UsagePolicySerializer,
        parameters=[ETAG],
    )
    def get(self, request: Request) -> Response:
        with scope.platform("how the platform charges"):
            return self.one(policy_of(None), UsagePolicySerializer)

    @extend_schema(
        operation_id="change_platform_usage_policy",
        summary="Change it (platform staff)",
        description="Its price list stands behind each tenant's own: a price that a tenant has for "
        "a model goes first.",
        request=UsagePolicyChangesSerializer,
        responses=UsagePolicySerializer,
        parameters=[IF_MATCH, ETAG],
    )
    def patch(self, request: Request) -> Response:
        changes = self.validated(UsagePolicyChangesSerializer)
        with scope.platform("how the platform charges"):
            policy = policy_of(None)
            version = seen_version(request, policy)
            if changes:
                policy = change_policy(tenant=None, version=version, **changes)
        return self.one(policy, UsagePolicySerializer)


@extend_schema(tags=["limits"])
class PlatformLimitsView(ControlView):
    is_list = True
    queryset = Limit.objects.all()
    filterset_class = LimitFilters
    permission_classes = (IsAuthenticated, IsPlatformStaff)

    @extend_schema(
        operation_id="list_platform_limits",
        summary="The platform's own limits (platform staff)",
        description="They count every tenant's requests together, or give each tenant, key or "
        "model this much (`*`).",
        responses=LimitSerializer(many=True),
    )
    def get(self, request: Request) -> Response:
        with scope.platform("the platform's limits"):
            rows: QuerySet[Any] = Limit.objects.filter(tenant=None)
            return self.page(rows, LimitSerializer)

    @extend_schema(
        operation_id="create_platform_limit",
        summary="Set a limit of the platform (platform staff)",
        request=NewLimitSerializer,
        responses={
            201: LimitSerializer,
            409: OpenApiResponse(description="There is such a limit already."),
        },
        parameters=[IDEMPOTENCY_KEY, ETAG],
    )
    def post(self, request: Request) -> Response:
        wanted = self.validated(NewLimitSerializer)

        def create() -> Created:
            limit = create_limit(tenant=None, is_platform_set=True, **wanted)
            where = reverse("api-platform-limit", args=[limit.id])
            return Created(self.shown(limit, LimitSerializer), where, limit)

        with scope.platform("a limit of the platform"):
            return create_once(self, tenant_id=None, create=create)


@extend_schema(tags=["limits"])
class PlatformLimitView(ControlView):
    queryset = Limit.objects.all()
    permission_classes = (IsAuthenticated, IsPlatformStaff)

    @extend_schema(
        operation_id="read_platform_limit",
        summary="One limit of the platform (platform staff)",
        responses=LimitSerializer,
        parameters=[ETAG],
    )
    def get(self, request: Request, platform_limit_id: str) -> Response:
        with scope.platform("the platform's limits"):
            return self.one(access_platform_limit(self.caller, platform_limit_id), LimitSerializer)

    @extend_schema(
        operation_id="change_platform_limit",
        summary="Change it (platform staff)",
        request=LimitChangesSerializer,
        responses=LimitSerializer,
        parameters=[IF_MATCH, ETAG],
    )
    def patch(self, request: Request, platform_limit_id: str) -> Response:
        limit = access_platform_limit(self.caller, platform_limit_id)
        changes = self.validated(LimitChangesSerializer)
        version = seen_version(request, limit)
        with scope.platform("a limit of the platform"):
            if changes:
                limit = update_limit(limit=limit, version=version, **changes)
            return self.one(limit, LimitSerializer)

    @extend_schema(
        operation_id="remove_platform_limit",
        summary="Remove it (platform staff)",
        responses={204: None},
        parameters=[IF_MATCH],
    )
    def delete(self, request: Request, platform_limit_id: str) -> Response:
        limit = access_platform_limit(self.caller, platform_limit_id)
        version = seen_version(request, limit)
        with scope.platform("a limit of the platform"):
            remove_limit(limit=limit, version=version)
        return Response(status=204)


def _policy(tenant: Tenant) -> UsagePolicy:
    with scope.tenant(tenant.id):
        return policy_of(tenant)
