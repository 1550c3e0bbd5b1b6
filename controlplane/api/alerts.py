"""Alerts, and who receives them: of a tenant, and the platform's own."""

from __future__ import annotations

import uuid
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import Any

from django.db.models import QuerySet
from django.urls import reverse
from django_filters import ChoiceFilter, FilterSet
from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework import serializers
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response

from controlplane.api.fields import StrictSerializer
from controlplane.api.idempotency import IDEMPOTENCY_KEY, Created, create_once
from controlplane.api.permissions import IsPlatformStaff
from controlplane.api.versioning import ETAG, IF_MATCH, seen_version
from controlplane.api.view import ControlView
from controlplane.kit.secret import Secret
from tenants import scope
from tenants.access import access_tenant
from tenants.alerts import receivers
from tenants.alerts.access import access_platform_receiver, access_receiver, access_receivers
from tenants.alerts.kinds import CHOICES, AlertKind
from tenants.alerts.models import Alert, AlertDelivery, AlertReceiver, Channel
from tenants.members.models import Tenant

_KINDS = "The kinds it hears of; empty: all."
_ADDRESS = (
    "The URL of a webhook. For e-mail an address; empty: the tenant's admins and owners, or the "
    "platform's staff."
)


class DeliverySerializer(serializers.Serializer[AlertDelivery]):
    id = serializers.UUIDField(help_text="What a webhook gets as `webhook-id`, at each attempt.")
    receiver_id = serializers.UUIDField(
        allow_null=True, help_text="null: the letter to the admins and owners, or to the staff."
    )
    channel = serializers.ChoiceField(Channel.choices)
    state = serializers.ChoiceField(AlertDelivery.State.choices)
    attempts = serializers.IntegerField()
    due_at = serializers.DateTimeField(help_text="The next attempt, while it is on its way.")
    sent_at = serializers.DateTimeField(allow_null=True)
    last_error = serializers.CharField()


class AlertSerializer(serializers.Serializer[Alert]):
    id = serializers.UUIDField()
    tenant_id = serializers.UUIDField(allow_null=True, help_text="null: the platform's own.")
    kind = serializers.ChoiceField(AlertKind.choices)
    title = serializers.CharField()
    text = serializers.CharField()
    facts = serializers.DictField()
    created_at = serializers.DateTimeField()
    deliveries = DeliverySerializer(many=True)


class ReceiverSerializer(serializers.Serializer[AlertReceiver]):
    id = serializers.UUIDField()
    tenant_id = serializers.UUIDField(allow_null=True, help_text="null: the platform's own.")
    label = serializers.CharField()  # type: ignore[assignment]  # the base uses the name for itself
    channel = serializers.ChoiceField(Channel.choices)
    address = serializers.CharField(help_text=_ADDRESS)
    kinds = serializers.ListField(child=serializers.ChoiceField(CHOICES), help_text=_KINDS)
    is_on = serializers.BooleanField()
    off_reason = serializers.CharField(help_text="Why it was switched off by itself; else empty.")
    failing_since = serializers.DateTimeField(
        allow_null=True, help_text="null: the last delivery arrived."
    )
    last_error = serializers.CharField()
    last_sent_at = serializers.DateTimeField(allow_null=True)
    fingerprint = serializers.CharField(help_text="Tells signing secrets apart.")
    previous_until = serializers.DateTimeField(
        allow_null=True, help_text="Until then the secret before signs as well."
    )
    created_at = serializers.DateTimeField()
    updated_at = serializers.DateTimeField()
    version = serializers.IntegerField(help_text="The ETag is this number in quotes.")


class ReceiverMadeSerializer(ReceiverSerializer):
    secret = serializers.CharField(
        allow_null=True, help_text="What a webhook signs with. Shown only here; null for e-mail."
    )


def _kinds(**options: Any) -> serializers.ListField:
    return serializers.ListField(
        child=serializers.ChoiceField(CHOICES), max_length=len(CHOICES), help_text=_KINDS, **options
    )


class NewReceiverSerializer(StrictSerializer):
    label = serializers.CharField(max_length=120)  # type: ignore[assignment]  # the base uses the name for itself
    channel = serializers.ChoiceField(Channel.choices)
    address = serializers.CharField(
        max_length=500, allow_blank=True, default="", help_text=_ADDRESS
    )
    kinds = _kinds(default=list)
    is_on = serializers.BooleanField(default=True)


class ReceiverChangesSerializer(StrictSerializer):
    label = serializers.CharField(max_length=120, required=False)  # type: ignore[assignment]  # the base uses the name for itself
    address = serializers.CharField(
        max_length=500, allow_blank=True, required=False, help_text=_ADDRESS
    )
    kinds = _kinds(required=False)
    is_on = serializers.BooleanField(
        required=False, help_text="To switch it on again forgets its failures."
    )


class SecretRotationSerializer(StrictSerializer):
    overlap_seconds = serializers.IntegerField(
        min_value=0,
        max_value=int(receivers.LONGEST_OVERLAP.total_seconds()),
        help_text="How long the old secret signs beside the new one.",
    )


class AlertFilters(FilterSet):  # type: ignore[misc]  # untyped
    kind = ChoiceFilter(choices=AlertKind.choices)

    class Meta:
        model = Alert
        fields = ("kind",)


class ReceiverFilters(FilterSet):  # type: ignore[misc]  # untyped
    channel = ChoiceFilter(choices=Channel.choices)

    class Meta:
        model = AlertReceiver
        fields = ("channel",)


class _Alerts(ControlView):
    is_list = True
    queryset = Alert.objects.none()
    filterset_class = AlertFilters

    def listed(self, tenant: Tenant | None) -> Response:
        with _scope(tenant):
            rows = Alert.objects.filter(tenant=tenant).prefetch_related("deliveries")
            return self.page(rows, AlertSerializer)


@extend_schema(tags=["alerts"])
class AlertsView(_Alerts):
    @extend_schema(
        operation_id="list_alerts",
        summary="What a tenant was told, and how each delivery went",
        responses=AlertSerializer(many=True),
    )
    def get(self, request: Request, tenant_id: str) -> Response:
        return self.listed(access_tenant(self.caller, tenant_id))


@extend_schema(tags=["alerts"])
class PlatformAlertsView(_Alerts):
    permission_classes = (IsAuthenticated, IsPlatformStaff)

    @extend_schema(
        operation_id="list_platform_alerts",
        summary="The platform's own alerts (platform staff)",
        responses=AlertSerializer(many=True),
    )
    def get(self, request: Request) -> Response:
        return self.listed(None)


class _Receivers(ControlView):
    is_list = True
    queryset = AlertReceiver.objects.none()
    filterset_class = ReceiverFilters

    def listed(self, tenant: Tenant | None) -> Response:
        with _scope(tenant):
            rows: QuerySet[Any] = AlertReceiver.objects.filter(tenant=tenant)
            return self.page(rows.defer("sealed_secret", "sealed_previous"), ReceiverSerializer)

    def made(self, tenant: Tenant | None) -> Response:
        wanted = self.validated(NewReceiverSerializer)

        def create() -> Created:
            return _made(self, *receivers.create_receiver(tenant=tenant, **wanted))

        with _scope(tenant):
            return create_once(self, tenant_id=_id(tenant), create=create)


class _Receiver(ControlView):
    """One receiver, whoever's it is."""

    queryset = AlertReceiver.objects.none()

    def changed(self, row: AlertReceiver) -> Response:
        changes = self.validated(ReceiverChangesSerializer)
        version = seen_version(self.request, row)
        with _scope(row.tenant):
            if changes:
                row = receivers.update_receiver(receiver=row, version=version, **changes)
            return self.one(row, ReceiverSerializer)

    def removed(self, row: AlertReceiver) -> Response:
        version = seen_version(self.request, row)
        with _scope(row.tenant):
            receivers.remove_receiver(receiver=row, version=version)
        return Response(status=204)

    def tested(self, row: AlertReceiver) -> Response:
        with _scope(row.tenant):
            delivery = receivers.send_test(receiver=row)
        return Response(self.shown(delivery, DeliverySerializer), status=202)

    def rotated(self, row: AlertReceiver) -> Response:
        overlap = timedelta(seconds=self.validated(SecretRotationSerializer)["overlap_seconds"])

        def create() -> Created:
            return _made(
                self,
                *receivers.rotate_secret(receiver=row, version=row.version, overlap=overlap),
            )

        with _scope(row.tenant):
            return create_once(self, tenant_id=row.tenant_id, create=create)


_MADE = {
    201: ReceiverMadeSerializer,
    409: OpenApiResponse(description="There is one of that name, or there are too many."),
}
_ROTATED = {
    201: ReceiverMadeSerializer,
    409: OpenApiResponse(description="It is no webhook."),
}
_TESTED = {
    202: DeliverySerializer,
    409: OpenApiResponse(description="A test was sent just now."),
}


@extend_schema(tags=["alerts"])
class ReceiversView(_Receivers):
    @extend_schema(
        operation_id="list_alert_receivers",
        summary="Where a tenant's alerts go (admins)",
        description="Without an e-mail receiver, admins and owners get every alert as a letter.",
        responses=ReceiverSerializer(many=True),
    )
    def get(self, request: Request, tenant_id: str) -> Response:
        return self.listed(access_receivers(self.caller, tenant_id, write=False))

    @extend_schema(
        operation_id="create_alert_receiver",
        summary="Add a webhook or an address (admins)",
        request=NewReceiverSerializer,
        responses=_MADE,
        parameters=[IDEMPOTENCY_KEY, ETAG],
    )
    def post(self, request: Request, tenant_id: str) -> Response:
        return self.made(access_receivers(self.caller, tenant_id, write=True))


@extend_schema(tags=["alerts"])
class ReceiverView(_Receiver):
    @extend_schema(
        operation_id="read_alert_receiver",
        summary="One receiver (admins)",
        responses=ReceiverSerializer,
        parameters=[ETAG],
    )
    def get(self, request: Request, tenant_id: str, receiver_id: str) -> Response:
        row = access_receiver(self.caller, tenant_id, receiver_id, write=False)
        return self.one(row, ReceiverSerializer)

    @extend_schema(
        operation_id="change_alert_receiver",
        summary="Change it, switch it off or on again (admins)",
        request=ReceiverChangesSerializer,
        responses=ReceiverSerializer,
        parameters=[IF_MATCH, ETAG],
    )
    def patch(self, request: Request, tenant_id: str, receiver_id: str) -> Response:
        return self.changed(access_receiver(self.caller, tenant_id, receiver_id, write=True))

    @extend_schema(
        operation_id="remove_alert_receiver",
        summary="Remove it (admins)",
        responses={204: None},
        parameters=[IF_MATCH],
    )
    def delete(self, request: Request, tenant_id: str, receiver_id: str) -> Response:
        return self.removed(access_receiver(self.caller, tenant_id, receiver_id, write=True))


@extend_schema(tags=["alerts"])
class TestReceiverView(_Receiver):
    @extend_schema(
        operation_id="test_alert_receiver",
        summary="Send it a test alert (admins)",
        description="Sent once, in the background: the list of alerts says how it went.",
        request=None,
        responses=_TESTED,
    )
    def post(self, request: Request, tenant_id: str, receiver_id: str) -> Response:
        return self.tested(access_receiver(self.caller, tenant_id, receiver_id, write=True))


@extend_schema(tags=["alerts"])
class ReceiverSecretView(_Receiver):
    @extend_schema(
        operation_id="replace_alert_secret",
        summary="Replace what a webhook signs with (admins)",
        request=SecretRotationSerializer,
        responses=_ROTATED,
        parameters=[IDEMPOTENCY_KEY, ETAG],
    )
    def post(self, request: Request, tenant_id: str, receiver_id: str) -> Response:
        return self.rotated(access_receiver(self.caller, tenant_id, receiver_id, write=True))


@extend_schema(tags=["alerts"])
class PlatformReceiversView(_Receivers):
    permission_classes = (IsAuthenticated, IsPlatformStaff)

    @extend_schema(
        operation_id="list_platform_alert_receivers",
        summary="Where the platform's alerts go (platform staff)",
        responses=ReceiverSerializer(many=True),
    )
    def get(self, request: Request) -> Response:
        return self.listed(None)

    @extend_schema(
        operation_id="create_platform_alert_receiver",
        summary="Add a webhook or an address of the platform (platform staff)",
        request=NewReceiverSerializer,
        responses=_MADE,
        parameters=[IDEMPOTENCY_KEY, ETAG],
    )
    def post(self, request: Request) -> Response:
        return self.made(None)


@extend_schema(tags=["alerts"])
class PlatformReceiverView(_Receiver):
    permission_classes = (IsAuthenticated, IsPlatformStaff)

    @extend_schema(
        operation_id="read_platform_alert_receiver",
        summary="One receiver of the platform (platform staff)",
        responses=ReceiverSerializer,
        parameters=[ETAG],
    )
    def get(self, request: Request, platform_receiver_id: str) -> Response:
        row = access_platform_receiver(self.caller, platform_receiver_id)
        return self.one(row, ReceiverSerializer)

    @extend_schema(
        operation_id="change_platform_alert_receiver",
        summary="Change it (platform staff)",
        request=ReceiverChangesSerializer,
        responses=ReceiverSerializer,
        parameters=[IF_MATCH, ETAG],
    )
    def patch(self, request: Request, platform_receiver_id: str) -> Response:
        return self.changed(access_platform_receiver(self.caller, platform_receiver_id))

    @extend_schema(
        operation_id="remove_platform_alert_receiver",
        summary="Remove it (platform staff)",
        responses={204: None},
        parameters=[IF_MATCH],
    )
    def delete(self, request: Request, platform_receiver_id: str) -> Response:
        return self.removed(access_platform_receiver(self.caller, platform_receiver_id))


@extend_schema(tags=["alerts"])
class TestPlatformReceiverView(_Receiver):
    permission_classes = (IsAuthenticated, IsPlatformStaff)

    @extend_schema(
        operation_id="test_platform_alert_receiver",
        summary="Send it a test alert (platform staff)",
        request=None,
        responses=_TESTED,
    )
    def post(self, request: Request, platform_receiver_id: str) -> Response:
        return self.tested(access_platform_receiver(self.caller, platform_receiver_id))


@extend_schema(tags=["alerts"])
class PlatformReceiverSecretView(_Receiver):
    permission_classes = (IsAuthenticated, IsPlatformStaff)

    @extend_schema(
        operation_id="replace_platform_alert_secret",
        summary="Replace what it signs with (platform staff)",
        request=SecretRotationSerializer,
        responses=_ROTATED,
        parameters=[IDEMPOTENCY_KEY, ETAG],
    )
    def post(self, request: Request, platform_receiver_id: str) -> Response:
        return self.rotated(access_platform_receiver(self.caller, platform_receiver_id))


def _made(view: ControlView, row: AlertReceiver, secret: Secret | None) -> Created:
    where = (
        reverse("api-alert-receiver", args=[row.tenant_id, row.id])
        if row.tenant_id is not None
        else reverse("api-platform-alert-receiver", args=[row.id])
    )
    # The one moment at which a person is shown it.
    shown = secret.reveal() if secret is not None else None
    return Created({**view.shown(row, ReceiverSerializer), "secret": shown}, where, row)


def _scope(tenant: Tenant | None) -> AbstractContextManager[None]:
    if tenant is None:
        return scope.platform("the platform's alerts")
    return scope.tenant(tenant.id)


def _id(tenant: Tenant | None) -> uuid.UUID | None:
    return tenant.id if tenant is not None else None
