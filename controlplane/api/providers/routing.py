"""How requests are routed: policies, what a provider's errors mean, and what rests now."""

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
from controlplane.api.providers.warnings import Warnings, warned
from controlplane.api.versioning import ETAG, IF_MATCH, etag, seen_version
from controlplane.api.view import ControlView
from providers.access import access_provider, scope_of
from providers.bundle.ownership import warnings_of_fields
from providers.catalog.models import Provider
from providers.routing import table
from providers.routing.error_rules import set_error_rules
from providers.routing.models import ErrorRule, Resting, RoutingPolicy, Strategy
from providers.routing.policy import own_policy, set_policy
from providers.routing.sharing import end_rests
from tenants import scope
from tenants.access import Role, access_tenant


class RestSerializer(serializers.Serializer[Resting]):
    id = serializers.UUIDField()
    credential_id = serializers.CharField(help_text="Empty: all credentials.")
    model = serializers.CharField(help_text="Empty: all models.")
    outcome = serializers.CharField(help_text="What it rests for, such as rate or overload.")
    since = serializers.DateTimeField()
    until = serializers.DateTimeField(help_text="Then one request tries it again.")
    times = serializers.IntegerField(help_text="How often in a row it had to.")


class EndedSerializer(serializers.Serializer[Any]):
    ended = serializers.IntegerField()


@extend_schema(tags=["routing"])
class RestsView(ControlView):
    is_list = True
    queryset = Resting.objects.all()

    @extend_schema(
        operation_id="list_provider_rests",
        summary="What rests of a registration",
        responses=RestSerializer(many=True),
    )
    def get(self, request: Request, provider_id: str) -> Response:
        provider = access_provider(self.caller, provider_id, write=False)
        with scope_of(provider):
            return self.page(Resting.objects.filter(provider=provider), RestSerializer)


@extend_schema(tags=["routing"])
class EndRestsView(ControlView):
    queryset = Resting.objects.all()

    @extend_schema(
        operation_id="end_provider_rests",
        summary="Use a registration again at once (admins)",
        request=None,
        responses=EndedSerializer,
    )
    def post(self, request: Request, provider_id: str) -> Response:
        provider = access_provider(self.caller, provider_id, write=True)
        with scope_of(provider):
            return Response({"ended": end_rests(provider)})


class RuleSerializer(serializers.Serializer[Any]):
    status = serializers.IntegerField(help_text="HTTP status of the provider's answer; 0: any.")
    contains = serializers.CharField(help_text="In its code or message, without case; empty: any.")
    action = serializers.ChoiceField(ErrorRule.Action.choices)


class NewRuleSerializer(StrictSerializer):
    status = serializers.IntegerField(default=0, min_value=0, max_value=599)
    contains = serializers.CharField(default="", max_length=200, allow_blank=True)
    action = serializers.ChoiceField(ErrorRule.Action.choices)


class RulesSerializer(serializers.Serializer[Any]):
    rules = RuleSerializer(many=True)
    warnings = Warnings()


class NewRulesSerializer(StrictSerializer):
    rules = NewRuleSerializer(many=True, help_text="All of them; the first that fits counts.")


@extend_schema(tags=["routing"])
class ErrorRulesView(ControlView):
    """Part of the registration: its version is theirs."""

    queryset = ErrorRule.objects.all()

    @extend_schema(
        operation_id="read_provider_error_rules",
        summary="What a provider's error answers mean",
        responses=RulesSerializer,
        parameters=[ETAG],
    )
    def get(self, request: Request, provider_id: str) -> Response:
        provider = access_provider(self.caller, provider_id, write=False)
        with scope_of(provider):
            return _rules(provider)

    @extend_schema(
        operation_id="set_provider_error_rules",
        summary="Say what a provider's error answers mean (admins)",
        request=NewRulesSerializer,
        responses=RulesSerializer,
        parameters=[IF_MATCH, ETAG],
    )
    def put(self, request: Request, provider_id: str) -> Response:
        provider = access_provider(self.caller, provider_id, write=True)
        version = seen_version(request, provider)
        given = self.validated(NewRulesSerializer)["rules"]
        rules = [table.ErrorRule(**rule) for rule in given]
        with scope_of(provider):
            sentences = warnings_of_fields(provider, ["error_rules"])
            set_error_rules(provider, rules, expected_version=version)
            return warned(_rules(provider), sentences)


def _rules(provider: Provider) -> Response:
    rows = ErrorRule.objects.filter(provider=provider).order_by("position")
    return Response(RulesSerializer({"rules": rows}).data, headers={"ETag": etag(provider)})


class RoutingPolicySerializer(serializers.Serializer[RoutingPolicy]):
    tenant_id = serializers.UUIDField(allow_null=True)
    strategy = serializers.CharField(help_text="Empty: not said here.")
    allowed_strategies = serializers.ListField(
        child=serializers.CharField(),
        allow_null=True,
        help_text="What the header x-route-strategy may ask for; empty: anything, null: not said.",
    )
    is_sticky = serializers.BooleanField(
        allow_null=True, help_text="Conversations keep their target; null: not said here."
    )
    shows_route = serializers.BooleanField(
        allow_null=True, help_text="Answers name provider and model; null: not said here."
    )
    version = serializers.IntegerField(help_text="The ETag is this number in quotes.")


class RoutingPolicyChangesSerializer(StrictSerializer):
    strategy = serializers.ChoiceField(
        [("", "Not said here"), *Strategy.choices], required=False, allow_blank=True
    )
    allowed_strategies = serializers.ListField(
        child=serializers.ChoiceField(Strategy.choices),
        allow_null=True,
        required=False,
        max_length=20,
    )
    is_sticky = serializers.BooleanField(allow_null=True, required=False)
    shows_route = serializers.BooleanField(allow_null=True, required=False)


@extend_schema(tags=["routing"])
class RoutingPolicyView(ControlView):
    queryset = RoutingPolicy.objects.all()
    permission_classes = (IsAuthenticated, IsPlatformStaff)

    @extend_schema(
        operation_id="read_routing_policy",
        summary="How all tenants are routed (platform staff)",
        responses=RoutingPolicySerializer,
        parameters=[ETAG],
    )
    def get(self, request: Request) -> Response:
        with scope.platform("routing policy of the platform"):
            return self.one(own_policy(None), RoutingPolicySerializer)

    @extend_schema(
        operation_id="change_routing_policy",
        summary="Change how all tenants are routed (platform staff)",
        request=RoutingPolicyChangesSerializer,
        responses=RoutingPolicySerializer,
        parameters=[IF_MATCH, ETAG],
    )
    def patch(self, request: Request) -> Response:
        with scope.platform("routing policy of the platform"):
            return _changed(self, None)


@extend_schema(tags=["routing"])
class TenantRoutingPolicyView(ControlView):
    queryset = RoutingPolicy.objects.all()

    @extend_schema(
        operation_id="read_tenant_routing_policy",
        summary="How a tenant is routed",
        responses=RoutingPolicySerializer,
        parameters=[ETAG],
    )
    def get(self, request: Request, tenant_id: str) -> Response:
        tenant = access_tenant(self.caller, tenant_id)
        with scope.tenant(tenant.id):
            return self.one(own_policy(tenant.id), RoutingPolicySerializer)

    @extend_schema(
        operation_id="change_tenant_routing_policy",
        summary="Change how a tenant is routed (admins)",
        request=RoutingPolicyChangesSerializer,
        responses=RoutingPolicySerializer,
        parameters=[IF_MATCH, ETAG],
    )
    def patch(self, request: Request, tenant_id: str) -> Response:
        tenant = access_tenant(self.caller, tenant_id, at_least=Role.ADMIN)
        with scope.tenant(tenant.id):
            return _changed(self, tenant.id)


def _changed(view: ControlView, tenant_id: uuid.UUID | None) -> Response:
    values = view.validated(RoutingPolicyChangesSerializer)
    policy = own_policy(tenant_id)
    version = seen_version(view.request, policy)
    if values:
        set_policy(policy, expected_version=version, **values)
    return view.one(policy, RoutingPolicySerializer)
