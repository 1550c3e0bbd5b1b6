"""Signing in at a provider from a program: start, look, hand in a code, confirm, cancel.

A login belongs to who started it and is seen by nobody else. Starting one answers 202: the person
still has to approve it at the provider and to confirm the account here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.urls import reverse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiResponse, extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from controlplane.api.fields import StrictSerializer
from controlplane.api.providers.fields import Texts
from controlplane.api.view import ControlView
from controlplane.console.sign_in.caller import caller_address
from controlplane.kit import clock
from providers.oauth import services
from providers.oauth.access import (
    access_login,
    access_login_target,
    person_of,
    scope_of,
)
from providers.oauth.models import DeviceLogin
from providers.oauth.words import hint_for, words_for
from tenants import scope
from tenants.access import tenants_of
from tenants.errors import NotFound
from tenants.keys.caller import KeyCaller
from tenants.members.models import Tenant

Status = DeviceLogin.Status


class LoginSerializer(serializers.Serializer[DeviceLogin]):
    id = serializers.UUIDField()
    provider = serializers.CharField(source="provider.slug")
    tenant = serializers.CharField(
        source="tenant.slug", allow_null=True, default=None, help_text="null: the platform's."
    )
    login = serializers.CharField(help_text="Which of the provider's ways to sign in.")
    is_personal = serializers.BooleanField(help_text="Only its owner's keys will use it.")
    status = serializers.ChoiceField(Status.choices)
    user_code = serializers.CharField(help_text="To be typed at the provider; empty: over.")
    verification_uri = serializers.CharField(help_text="Where to type it.")
    verification_uri_complete = serializers.CharField(
        help_text="The same with the code in it. Check that the page shows the code."
    )
    authorize_url = serializers.SerializerMethodField(
        help_text="Where to sign in, for logins that end in a code to hand in; empty otherwise."
    )
    expires_at = serializers.DateTimeField()
    account_label = serializers.CharField(help_text="Whose account it is: confirm that.")
    plan = serializers.CharField()
    hint = serializers.SerializerMethodField(
        help_text="While it waits: what is in the way and what to do; empty: nothing is."
    )
    error_code = serializers.CharField()
    error = serializers.SerializerMethodField(help_text="What happened and what to do.")
    error_detail = serializers.CharField(help_text="The provider's own words.")
    credential_id = serializers.UUIDField(allow_null=True)
    created_at = serializers.DateTimeField()
    finished_at = serializers.DateTimeField(allow_null=True)

    @extend_schema_field(OpenApiTypes.STR)
    def get_authorize_url(self, row: DeviceLogin) -> str:
        with scope_of(row):
            return services.authorize_url(row)

    @extend_schema_field(OpenApiTypes.STR)
    def get_hint(self, row: DeviceLogin) -> str:
        return hint_for(row)

    @extend_schema_field(OpenApiTypes.STR)
    def get_error(self, row: DeviceLogin) -> str:
        if row.is_open or row.status == Status.COMPLETED:
            return ""
        words = words_for(row)
        return f"{words.title}. {words.advice}"


class NewLoginSerializer(StrictSerializer):
    provider = serializers.CharField(
        max_length=63, help_text="A registration's slug, or the provider's name in the catalog."
    )
    tenant = serializers.CharField(
        max_length=63,
        required=False,
        allow_null=True,
        default=None,
        help_text="Slug of the tenant it is for; null: the platform (staff). A key's own.",
    )
    login = serializers.CharField(
        max_length=40, help_text="Such as `device`, `builder_id`, `paste`: see the provider."
    )
    inputs = Texts(required=False, help_text="What the login asks for: `domain`, `start_url` …")
    is_personal = serializers.BooleanField(
        default=True, help_text="false: all of the tenant, where the operator permits it (admins)."
    )


class CodeSerializer(StrictSerializer):
    code = serializers.CharField(
        max_length=4096,
        trim_whitespace=True,
        help_text="`CODE#STATE`, or the whole address of the last page.",
    )


class ConnectedSerializer(serializers.Serializer[Any]):
    credential_id = serializers.UUIDField()


@extend_schema(tags=["logins"])
class LoginsView(ControlView):
    is_list = True
    queryset = DeviceLogin.objects.none()

    @extend_schema(
        operation_id="list_logins",
        summary="One's own sign-ins, also those that ended lately",
        responses=LoginSerializer(many=True),
    )
    def get(self, request: Request) -> Response:
        with scope.platform("a caller's own logins"):
            rows = DeviceLogin.objects.filter(started_by_id=self.caller.pk)
            return self.page(rows.select_related("provider", "tenant"), LoginSerializer)

    @extend_schema(
        operation_id="start_login",
        summary="Start to sign in at a provider",
        description="The provider is asked for a code at once. Then look at the login every few "
        "seconds until its status is `confirm`, and confirm the account.",
        request=NewLoginSerializer,
        responses={
            202: LoginSerializer,
            403: OpenApiResponse(description="Switched off by the operator, or not permitted."),
        },
    )
    def post(self, request: Request) -> Response:
        wanted = self.validated(NewLoginSerializer)
        person = person_of(self.caller)
        tenant = self._tenant(wanted["tenant"])
        provider = access_login_target(
            self.caller,
            tenant.pk if tenant is not None else None,
            wanted["provider"],
            is_personal=wanted["is_personal"],
        )
        with scope.tenant(tenant.pk) if tenant is not None else scope.platform("login"):
            login = services.begin(
                user=person,
                tenant=tenant,
                provider=provider,
                way=wanted["login"],
                inputs=wanted.get("inputs") or {},
                is_personal=wanted["is_personal"],
                address=caller_address(request._request),
                callback_url=request.build_absolute_uri(
                    reverse("login-callback", args=[provider.slug])
                ),
                now=clock.now(),
            )
        return _shown(self, access_login(self.caller, login.pk), status=202)

    def _tenant(self, slug: str | None) -> Tenant | None:
        rows = tenants_of(self.caller)
        if isinstance(self.caller, KeyCaller):
            found = rows.first()
        elif slug is None:
            return None
        else:
            found = rows.filter(slug=slug).first()
        if found is None or (slug is not None and found.slug != slug):
            raise NotFound("There is nothing here under this id.")
        return found


def _shown(view: ControlView, login: DeviceLogin, *, status: int = 200) -> Response:
    return Response(view.shown(login, LoginSerializer), status=status)


@extend_schema(tags=["logins"])
class LoginView(ControlView):
    queryset = DeviceLogin.objects.none()

    @extend_schema(
        operation_id="read_login",
        summary="How a sign-in of one's own stands",
        description="Reads what is known here and asks no provider: look as often as you like.",
        responses=LoginSerializer,
    )
    def get(self, request: Request, login_id: str) -> Response:
        return _shown(self, access_login(self.caller, login_id))


class _Act(ControlView):
    """Something done to a login of one's own."""

    queryset = DeviceLogin.objects.none()

    def done(self, login_id: str, act: Callable[[DeviceLogin], object]) -> Response:
        person_of(self.caller)
        login = access_login(self.caller, login_id)
        with scope_of(login):
            act(login)
        return _shown(self, access_login(self.caller, login_id))


@extend_schema(tags=["logins"])
class CancelLoginView(_Act):
    @extend_schema(
        operation_id="cancel_login",
        summary="End a sign-in; a token that comes later is forgotten",
        request=None,
        responses=LoginSerializer,
    )
    def post(self, request: Request, login_id: str) -> Response:
        return self.done(login_id, lambda login: services.cancel(login, now=clock.now()))


@extend_schema(tags=["logins"])
class ConfirmLoginView(_Act):
    @extend_schema(
        operation_id="confirm_login",
        summary="Say that the account is the right one: its credential serves from now on",
        request=None,
        responses=LoginSerializer,
    )
    def post(self, request: Request, login_id: str) -> Response:
        return self.done(login_id, lambda login: services.confirm(login, now=clock.now()))


@extend_schema(tags=["logins"])
class HandInCodeView(_Act):
    @extend_schema(
        operation_id="hand_in_code",
        summary="Hand in the code that the provider's last page showed",
        request=CodeSerializer,
        responses=LoginSerializer,
    )
    def post(self, request: Request, login_id: str) -> Response:
        def hand_in(login: DeviceLogin) -> None:
            code = self.validated(CodeSerializer)["code"]
            services.hand_in(login, code, now=clock.now())

        return self.done(login_id, hand_in)
