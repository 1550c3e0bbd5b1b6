"""Credentials of a registration: written, switched and taken away by admins, never read."""

from __future__ import annotations

from typing import Any

from django.urls import reverse
from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from controlplane.api.fields import StrictSerializer
from controlplane.api.idempotency import IDEMPOTENCY_KEY, Created, create_once
from controlplane.api.providers.fields import SecretText, Texts
from controlplane.api.versioning import ETAG, IF_MATCH, seen_version
from controlplane.api.view import ControlView
from providers.access import access_credential, access_credentials, scope_of
from providers.credentials import services, timeline
from providers.credentials.events import CredentialEvent
from providers.credentials.models import Credential

_BIG = 2_147_483_647


class CredentialSerializer(serializers.Serializer[Credential]):
    id = serializers.UUIDField()
    provider_id = serializers.UUIDField()
    label = serializers.CharField()  # type: ignore[assignment]  # the base uses the name for itself
    kind = serializers.ChoiceField(Credential.Kind.choices)
    source = serializers.ChoiceField(Credential.Source.choices)  # type: ignore[assignment]  # likewise
    reference = serializers.CharField(help_text="Where a secret is that is not stored here.")
    fingerprint = serializers.CharField(
        help_text="Tells two secrets apart and gives neither away; empty: none is stored."
    )
    endpoint = Texts(help_text="Identifiers that belong to this credential.")
    proxy_url = serializers.CharField(
        help_text="Its own way out; empty: the registration's; `direct`: none."
    )
    state = serializers.ChoiceField(Credential.State.choices)
    state_reason = serializers.CharField()
    state_since = serializers.DateTimeField(allow_null=True)
    expires_at = serializers.DateTimeField(allow_null=True)
    priority = serializers.IntegerField()
    weight = serializers.IntegerField()
    created_at = serializers.DateTimeField()
    updated_at = serializers.DateTimeField()
    version = serializers.IntegerField(help_text="The ETag is this number in quotes.")


class CredentialChangesSerializer(StrictSerializer):
    label = serializers.CharField(max_length=120, required=False)  # type: ignore[assignment]  # the base uses the name for itself
    secret = SecretText(required=False)
    reference = serializers.CharField(max_length=500, allow_blank=True, required=False)
    endpoint = Texts(required=False)
    proxy_url = serializers.CharField(
        max_length=500,
        allow_blank=True,
        required=False,
        help_text="Its own way out; empty: the registration's; `direct`: none. Another one than "
        "before needs the secret again in the same request.",
    )
    priority = serializers.IntegerField(min_value=-_BIG, max_value=_BIG, required=False)
    weight = serializers.IntegerField(min_value=0, max_value=1_000_000, required=False)


class NewCredentialSerializer(CredentialChangesSerializer):
    label = serializers.CharField(max_length=120)
    source = serializers.ChoiceField(  # type: ignore[assignment]  # the base uses the name for itself
        Credential.Source.choices,
        default=Credential.Source.STORED.value,
        help_text="All but `stored` are for the platform's registrations: `reference` then says "
        "where the secret is, among what the operator has listed.",
    )


@extend_schema(tags=["credentials"])
class CredentialsView(ControlView):
    is_list = True
    queryset = Credential.objects.all()

    @extend_schema(
        operation_id="list_credentials",
        summary="The credentials of a registration, without their secrets (admins)",
        responses=CredentialSerializer(many=True),
    )
    def get(self, request: Request, provider_id: str) -> Response:
        provider = access_credentials(self.caller, provider_id, write=False)
        with scope_of(provider):
            rows = Credential.objects.filter(provider=provider).defer("sealed")
            return self.page(rows, CredentialSerializer)

    @extend_schema(
        operation_id="store_credential",
        summary="Store a credential (admins)",
        request=NewCredentialSerializer,
        responses={
            201: CredentialSerializer,
            409: OpenApiResponse(description="The label is taken."),
        },
        parameters=[IDEMPOTENCY_KEY, ETAG],
    )
    def post(self, request: Request, provider_id: str) -> Response:
        provider = access_credentials(self.caller, provider_id, write=True)
        wanted = self.validated(NewCredentialSerializer)

        def create() -> Created:
            made = services.add_credential(provider=provider, **wanted)
            location = reverse("api-provider-credential", args=[provider.id, made.id])
            return Created(self.shown(made, CredentialSerializer), location, made)

        with scope_of(provider):
            return create_once(self, tenant_id=provider.tenant_id, create=create)


@extend_schema(tags=["credentials"])
class CredentialView(ControlView):
    queryset = Credential.objects.all()

    @extend_schema(
        operation_id="read_credential",
        summary="One credential, without its secret (admins)",
        responses=CredentialSerializer,
        parameters=[ETAG],
    )
    def get(self, request: Request, provider_id: str, credential_id: str) -> Response:
        found = access_credential(self.caller, provider_id, credential_id, write=False)
        return self.one(found, CredentialSerializer)

    @extend_schema(
        operation_id="change_credential",
        summary="Change a credential, or put another secret in its place (admins)",
        request=CredentialChangesSerializer,
        responses=CredentialSerializer,
        parameters=[IF_MATCH, ETAG],
    )
    def patch(self, request: Request, provider_id: str, credential_id: str) -> Response:
        found = access_credential(self.caller, provider_id, credential_id, write=True)
        values = self.validated(CredentialChangesSerializer)
        version = seen_version(request, found)
        if values:
            with scope_of(found):
                services.change_credential(found, expected_version=version, **values)
        return self.one(found, CredentialSerializer)

    @extend_schema(
        operation_id="remove_credential",
        summary="Take a credential away; its secret is gone (admins)",
        responses={204: None},
        parameters=[IF_MATCH],
    )
    def delete(self, request: Request, provider_id: str, credential_id: str) -> Response:
        found = access_credential(self.caller, provider_id, credential_id, write=True)
        seen_version(request, found)
        with scope_of(found):
            services.remove_credential(found)
        return Response(status=204)


class CredentialEventSerializer(serializers.Serializer[CredentialEvent]):
    at = serializers.DateTimeField()
    kind = serializers.ChoiceField(CredentialEvent.Kind.choices)
    state = serializers.CharField(help_text="The state it was in afterwards.")
    sentence = serializers.CharField()


class TimelineSerializer(serializers.Serializer[Credential]):
    state = serializers.ChoiceField(Credential.State.choices)
    state_reason = serializers.CharField()
    state_since = serializers.DateTimeField(allow_null=True)
    refresh_at = serializers.DateTimeField(
        allow_null=True, help_text="When it is renewed by itself; null: it is not."
    )
    expires_at = serializers.DateTimeField(allow_null=True, help_text="null: no end is known.")
    events = CredentialEventSerializer(
        many=True, source="events_", help_text="What happened lately, oldest first."
    )


@extend_schema(tags=["credentials"])
class CredentialTimelineView(ControlView):
    queryset = Credential.objects.all()

    @extend_schema(
        operation_id="read_credential_timeline",
        summary="What happened to a credential, and when it ends (admins)",
        responses=TimelineSerializer,
    )
    def get(self, request: Request, provider_id: str, credential_id: str) -> Response:
        found: Any = access_credential(self.caller, provider_id, credential_id, write=False)
        with scope_of(found):
            found.events_ = timeline.events_of(found)
        return Response(self.shown(found, TimelineSerializer))


@extend_schema(tags=["credentials"])
class EnableCredentialView(ControlView):
    queryset = Credential.objects.all()

    @extend_schema(
        operation_id="enable_credential",
        summary="Let requests use a credential again (admins)",
        request=None,
        responses=CredentialSerializer,
        parameters=[ETAG],
    )
    def post(self, request: Request, provider_id: str, credential_id: str) -> Response:
        found = access_credential(self.caller, provider_id, credential_id, write=True)
        with scope_of(found):
            services.enable_credential(found)
        return self.one(found, CredentialSerializer)


@extend_schema(tags=["credentials"])
class DisableCredentialView(ControlView):
    queryset = Credential.objects.all()

    @extend_schema(
        operation_id="disable_credential",
        summary="Let no request use a credential (admins)",
        request=None,
        responses=CredentialSerializer,
        parameters=[ETAG],
    )
    def post(self, request: Request, provider_id: str, credential_id: str) -> Response:
        found = access_credential(self.caller, provider_id, credential_id, write=True)
        with scope_of(found):
            services.disable_credential(found)
        return self.one(found, CredentialSerializer)
