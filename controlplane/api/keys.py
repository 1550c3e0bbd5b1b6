"""A tenant's API keys: shown once, replaced with an overlap, ended for good."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Any, Final

from django.db.models import Q, QuerySet
from django.urls import reverse
from django_filters import CharFilter, ChoiceFilter, FilterSet, UUIDFilter
from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from controlplane.api.fields import Moment, StrictSerializer
from controlplane.api.idempotency import IDEMPOTENCY_KEY, Created, create_once
from controlplane.api.versioning import ETAG, IF_MATCH, seen_version
from controlplane.api.view import ControlView
from controlplane.kit import clock
from controlplane.kit.secret import Secret
from tenants import scope
from tenants.access import (
    Caller,
    access_key,
    access_member,
    access_tenant,
    membership_of,
    role_in,
    within,
)
from tenants.errors import NotFound, RoleForbidden
from tenants.keys.caller import KeyCaller
from tenants.keys.models import ApiKey, KeyScope
from tenants.keys.services import (
    LONGEST_OVERLAP,
    create_key,
    revoke_key,
    rotate_key,
    update_key,
)
from tenants.members.models import Membership, Tenant, User

Role = Membership.Role
_MOST_ENTRIES: Final = 100


def _scopes(**options: Any) -> serializers.ListField:
    return serializers.ListField(
        child=serializers.ChoiceField(KeyScope.choices),
        min_length=1,
        max_length=len(KeyScope.choices),
        help_text="`proxy` calls models; `read` and `manage` open this API.",
        **options,
    )


def _models(**options: Any) -> serializers.ListField:
    return serializers.ListField(
        child=serializers.CharField(max_length=200),
        max_length=_MOST_ENTRIES,
        help_text="Names or globs such as `gpt-*`. Empty: every model the tenant has.",
        **options,
    )


def _networks(**options: Any) -> serializers.ListField:
    return serializers.ListField(
        child=serializers.CharField(max_length=64),
        max_length=_MOST_ENTRIES,
        help_text="Addresses or CIDR ranges the key may be used from. Empty: anywhere.",
        **options,
    )


class KeySerializer(serializers.Serializer[ApiKey]):
    id = serializers.UUIDField()
    tenant_id = serializers.UUIDField()
    label = serializers.CharField()  # type: ignore[assignment]  # the base uses the name for itself
    display = serializers.CharField(help_text="Enough to recognise the key, nothing of its secret.")
    state = serializers.SerializerMethodField()
    scopes = serializers.ListField(child=serializers.ChoiceField(KeyScope.choices))
    allowed_models = serializers.ListField(child=serializers.CharField())
    allowed_networks = serializers.ListField(child=serializers.CharField())
    member_id = serializers.UUIDField(
        allow_null=True, help_text="Whom it was made for; it ends when they leave."
    )
    expires_at = serializers.DateTimeField(allow_null=True)
    last_used_at = serializers.DateTimeField(
        allow_null=True, help_text="Up to a minute late. Does not move the version."
    )
    revoked_at = serializers.DateTimeField(allow_null=True)
    rotated_at = serializers.DateTimeField(allow_null=True)
    rotated_from_id = serializers.UUIDField(allow_null=True, help_text="The key it replaces.")
    created_at = serializers.DateTimeField()
    updated_at = serializers.DateTimeField()
    version = serializers.IntegerField(help_text="The ETag is this number in quotes.")

    def get_state(self, key: ApiKey) -> ApiKey.State:
        return key.state(now=clock.now())


class KeyMadeSerializer(KeySerializer):
    secret = serializers.CharField(help_text="The key itself. Shown only here.")


class NewKeySerializer(StrictSerializer):
    label = serializers.CharField(max_length=120)  # type: ignore[assignment]  # the base uses the name for itself
    scopes = _scopes(default=[KeyScope.PROXY.value])
    allowed_models = _models(default=[])
    allowed_networks = _networks(default=[])
    expires_at = Moment(allow_null=True, default=None)
    member_id = serializers.UUIDField(
        allow_null=True,
        default=None,
        help_text="Whom it is for. Admins choose, or leave it to the tenant; the keys that members "
        "make are their own.",
    )


class KeyChangesSerializer(StrictSerializer):
    label = serializers.CharField(max_length=120, required=False)  # type: ignore[assignment]  # the base uses the name for itself
    scopes = _scopes(required=False)
    allowed_models = _models(required=False)
    allowed_networks = _networks(required=False)
    expires_at = Moment(allow_null=True, required=False)


class RotationSerializer(StrictSerializer):
    overlap_seconds = serializers.IntegerField(
        min_value=0,
        max_value=int(LONGEST_OVERLAP.total_seconds()),
        help_text="How long the old key goes on working. 0 ends it now.",
    )


class KeyFilters(FilterSet):  # type: ignore[misc]  # untyped
    state = ChoiceFilter(choices=ApiKey.State.choices, method="by_state")
    label = CharFilter(lookup_expr="icontains", label="Part of the label.")
    member_id = UUIDFilter(field_name="member_id")

    class Meta:
        model = ApiKey
        fields = ("state", "label", "member_id")

    def by_state(self, rows: QuerySet[Any], name: str, value: str) -> QuerySet[Any]:
        now = clock.now()
        alive = Q(revoked_at=None) & (Q(expires_at=None) | Q(expires_at__gt=now))
        return {
            "active": rows.filter(alive, rotated_at=None),
            "rotated": rows.filter(alive, rotated_at__isnull=False),
            "expired": rows.filter(revoked_at=None, expires_at__lte=now),
            "revoked": rows.filter(revoked_at__isnull=False),
        }[value]


@extend_schema(tags=["keys"])
class KeysView(ControlView):
    is_list = True
    queryset = ApiKey.objects.all()
    filterset_class = KeyFilters

    @extend_schema(
        operation_id="list_keys", summary="A tenant's keys", responses=KeySerializer(many=True)
    )
    def get(self, request: Request, tenant_id: str) -> Response:
        tenant = access_tenant(self.caller, tenant_id)
        with scope.tenant(tenant.id):
            return self.page(ApiKey.objects.defer("digest"), KeySerializer)

    @extend_schema(
        operation_id="create_key",
        summary="Create a key",
        description="Members make keys for themselves, admins for anybody and for the tenant.",
        request=NewKeySerializer,
        responses={201: KeyMadeSerializer},
        parameters=[IDEMPOTENCY_KEY, ETAG],
    )
    def post(self, request: Request, tenant_id: str) -> Response:
        tenant = access_tenant(self.caller, tenant_id, at_least=Role.MEMBER)
        wanted = self.validated(NewKeySerializer)
        member = _made_for(self.caller, tenant, wanted.pop("member_id"))

        def create() -> Created:
            key, secret = create_key(tenant=tenant, member=member, **wanted)
            return _made(self, key, secret)

        with scope.tenant(tenant.id):
            return create_once(self, tenant_id=tenant.id, create=create)


@extend_schema(tags=["keys"])
class KeyView(ControlView):
    queryset = ApiKey.objects.all()

    @extend_schema(
        operation_id="read_key", summary="One key", responses=KeySerializer, parameters=[ETAG]
    )
    def get(self, request: Request, tenant_id: str, key_id: str) -> Response:
        key = within(access_key(self.caller, key_id, write=False), tenant_id)
        return self.one(key, KeySerializer)

    @extend_schema(
        operation_id="change_key",
        summary="Change what a key is called and what it may do",
        request=KeyChangesSerializer,
        responses={
            200: KeySerializer,
            409: OpenApiResponse(description="The key is revoked or was replaced."),
        },
        parameters=[IF_MATCH, ETAG],
    )
    def patch(self, request: Request, tenant_id: str, key_id: str) -> Response:
        key = _changeable(self.caller, tenant_id, key_id)
        changes = self.validated(KeyChangesSerializer)
        version = seen_version(request, key)
        if changes:
            with scope.tenant(key.tenant_id):
                key = update_key(key=key, version=version, **changes)
        return self.one(key, KeySerializer)


@extend_schema(tags=["keys"])
class RotateKeyView(ControlView):
    queryset = ApiKey.objects.all()

    @extend_schema(
        operation_id="rotate_key",
        summary="Replace a key by a new one with the same limits",
        description="Answers with the new key. The old one goes on working for the overlap, or "
        "until its own end if that comes first.",
        request=RotationSerializer,
        responses={
            201: KeyMadeSerializer,
            409: OpenApiResponse(description="The key no longer works or was replaced already."),
        },
        parameters=[IDEMPOTENCY_KEY, ETAG],
    )
    def post(self, request: Request, tenant_id: str, key_id: str) -> Response:
        key = _changeable(self.caller, tenant_id, key_id)
        overlap = timedelta(seconds=self.validated(RotationSerializer)["overlap_seconds"])

        def create() -> Created:
            now = clock.now()
            return _made(self, *rotate_key(key=key, overlap_until=now + overlap, now=now))

        with scope.tenant(key.tenant_id):
            return create_once(self, tenant_id=key.tenant_id, create=create)


@extend_schema(tags=["keys"])
class RevokeKeyView(ControlView):
    queryset = ApiKey.objects.all()

    @extend_schema(
        operation_id="revoke_key",
        summary="End a key for good",
        description="Every process refuses it within a second. Revoking it again changes nothing.",
        request=None,
        responses=KeySerializer,
        parameters=[ETAG],
    )
    def post(self, request: Request, tenant_id: str, key_id: str) -> Response:
        key = _changeable(self.caller, tenant_id, key_id)
        with scope.tenant(key.tenant_id):
            revoke_key(key=key)
            return self.one(key, KeySerializer)


def _changeable(caller: Caller, tenant_id: str, key_id: str) -> ApiKey:
    found = within(access_key(caller, key_id, write=False), tenant_id)
    return access_key(caller, found.id, write=True)


def _made(view: ControlView, key: ApiKey, secret: Secret) -> Created:
    # The one moment at which a person is shown it.
    return Created(
        {**view.shown(key, KeySerializer), "secret": secret.reveal()},
        reverse("api-key", args=[key.tenant_id, key.id]),
        key,
    )


def _made_for(
    caller: User | KeyCaller, tenant: Tenant, member_id: uuid.UUID | None
) -> Membership | None:
    if role_in(caller, tenant.id) is Role.MEMBER:
        own: Membership | None
        if isinstance(caller, KeyCaller):
            own = access_member(caller, caller.member_id, write=False)
        else:
            own = membership_of(caller, tenant.id)
        if own is None or member_id not in {None, own.id}:
            raise RoleForbidden("As a member you make keys for yourself.", param="member_id")
        return own
    if member_id is None:
        return None
    try:
        return within(access_member(caller, member_id, write=False), tenant.id)
    except NotFound:
        raise NotFound("This tenant has no such member.", param="member_id") from None
