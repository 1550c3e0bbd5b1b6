"""Accounts that are connected: how each fares, its timeline and quota, and the way out."""

from __future__ import annotations

from typing import Any

from django.db.models import Q
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from controlplane.api.providers.credentials import CredentialEventSerializer
from controlplane.api.view import ControlView
from controlplane.kit import clock
from providers.credentials import timeline
from providers.credentials.models import Credential
from providers.oauth import quota, services
from providers.oauth.access import (
    access_login_credential,
    connected_by,
    person_of,
    scope_of,
)
from providers.oauth.models import QuotaSnapshot
from providers.oauth.quota_chart import Point
from providers.oauth.states import next_action, shown_state
from tenants import scope
from tenants.access import Role, is_staff, role_in, tenants_of


class QuotaSerializer(serializers.Serializer[QuotaSnapshot]):
    name = serializers.CharField()
    covers = serializers.CharField(help_text="account, model or family.")
    unit = serializers.ChoiceField(QuotaSnapshot.Unit.choices)
    used = serializers.FloatField(allow_null=True, help_text="null: the vendor did not say.")
    limit = serializers.FloatField(allow_null=True)
    remaining = serializers.FloatField(allow_null=True)
    percent_used = serializers.FloatField(allow_null=True)
    is_unlimited = serializers.BooleanField()
    allows_overage = serializers.BooleanField()
    resets_at = serializers.DateTimeField(allow_null=True)
    fetched_at = serializers.DateTimeField()


class QuotaPointSerializer(serializers.Serializer[Point]):
    at = serializers.DateTimeField()
    percent_used = serializers.FloatField()


class QuotaHistorySerializer(serializers.Serializer[Any]):
    name = serializers.CharField()
    points = QuotaPointSerializer(many=True)


class ConnectionSerializer(serializers.Serializer[Credential]):
    id = serializers.UUIDField()
    provider = serializers.CharField(source="provider.slug")
    account_label = serializers.CharField()
    plan = serializers.CharField()
    login = serializers.CharField()
    is_personal = serializers.BooleanField()
    state = serializers.SerializerMethodField()
    state_reason = serializers.CharField()
    state_since = serializers.DateTimeField(allow_null=True)
    next_action = serializers.SerializerMethodField(help_text="What to do; empty: nothing.")
    expires_at = serializers.DateTimeField(allow_null=True, help_text="Of the access token.")
    refresh_at = serializers.DateTimeField(
        allow_null=True, help_text="When it is renewed by itself; null: it is not."
    )
    refreshed_at = serializers.DateTimeField(allow_null=True)
    created_at = serializers.DateTimeField()

    def get_state(self, row: Credential) -> str:
        return str(shown_state(row, clock.now()))

    def get_next_action(self, row: Credential) -> str:
        return next_action(row, clock.now())


class ConnectionHealthSerializer(ConnectionSerializer):
    timeline = CredentialEventSerializer(many=True, help_text="What happened, oldest first.")
    quotas = QuotaSerializer(many=True, help_text="The latest of each window.")
    quota_history = QuotaHistorySerializer(
        many=True, help_text="Of each window, oldest first, for 14 days, thinned out."
    )


@extend_schema(tags=["logins"])
class ConnectionsView(ControlView):
    is_list = True
    queryset = Credential.objects.none()

    @extend_schema(
        operation_id="list_connections",
        summary="Connected accounts: one's own, and for admins their tenants'",
        responses=ConnectionSerializer(many=True),
    )
    def get(self, request: Request) -> Response:
        caller = self.caller
        with scope.platform("a caller's connections"):
            rows = Credential.objects.filter(kind=Credential.Kind.OAUTH).defer("sealed")
            if not is_staff(caller):
                ids = list(tenants_of(caller).values_list("pk", flat=True))
                ruled = [i for i in ids if role_in(caller, i) in {Role.ADMIN, Role.OWNER}]
                mine = Q(tenant_id__in=ids, owner_id=caller.pk) if caller.pk else Q(pk=None)
                rows = rows.filter(Q(tenant_id__in=ruled) | mine)
            return self.page(rows.select_related("provider"), ConnectionSerializer)


@extend_schema(tags=["logins"])
class ConnectionView(ControlView):
    queryset = Credential.objects.none()

    @extend_schema(
        operation_id="read_connection",
        summary="How a connected account fares: state, next step, timeline, quota",
        responses=ConnectionHealthSerializer,
    )
    def get(self, request: Request, connection_id: str) -> Response:
        row: Any = access_login_credential(self.caller, connection_id)
        with scope_of(row):
            row.timeline = timeline.events_of(row)
            row.quotas_ = quota.latest(row)
            history = quota.history(row, now=clock.now())
        shown = self.shown(row, ConnectionSerializer)
        return Response(
            {
                **shown,
                "timeline": CredentialEventSerializer(row.timeline, many=True).data,
                "quotas": QuotaSerializer(row.quotas_, many=True).data,
                "quota_history": QuotaHistorySerializer(
                    [{"name": name, "points": points} for name, points in history.items()],
                    many=True,
                ).data,
            }
        )


@extend_schema(tags=["logins"])
class DisconnectView(ControlView):
    queryset = Credential.objects.none()

    @extend_schema(
        operation_id="disconnect_account",
        summary="Forget a login; requests no longer use it",
        request=None,
        responses={204: None},
    )
    def post(self, request: Request, connection_id: str) -> Response:
        return self.disconnected(connection_id)

    def disconnected(self, connection_id: object) -> Response:
        person_of(self.caller)
        row = access_login_credential(self.caller, connection_id)
        with scope_of(row):
            services.disconnect(row)
        return Response(status=204)


@extend_schema(tags=["logins"])
class DisconnectLoginView(DisconnectView):
    @extend_schema(
        operation_id="disconnect_login",
        summary="Forget what a sign-in of one's own connected",
        request=None,
        responses={204: None},
    )
    def post(self, request: Request, login_id: str) -> Response:
        person_of(self.caller)
        return self.disconnected(connected_by(self.caller, login_id))
