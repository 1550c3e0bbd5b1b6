"""Who belongs to a tenant, and asking somebody in."""

from __future__ import annotations

import uuid
from typing import Any

from django.db.models import QuerySet
from django.urls import reverse
from django_filters import BooleanFilter, CharFilter, ChoiceFilter, FilterSet
from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from controlplane.api.errors import PeopleOnly
from controlplane.api.fields import StrictSerializer
from controlplane.api.idempotency import IDEMPOTENCY_KEY, Created, create_once
from controlplane.api.versioning import ETAG, IF_MATCH, seen_version
from controlplane.api.view import ControlView
from controlplane.kit import clock
from tenants import scope
from tenants.access import (
    Caller,
    access_invitation,
    access_member,
    access_tenant,
    grantable_roles,
    within,
)
from tenants.errors import RoleForbidden
from tenants.members.invitations import accept, invite, withdraw
from tenants.members.models import Invitation, Membership, User, canonical_email
from tenants.members.services import change_role, remove_member

Role = Membership.Role


class PersonSerializer(serializers.Serializer[User]):
    id = serializers.UUIDField()
    email = serializers.EmailField()
    name = serializers.CharField()


class MemberSerializer(serializers.Serializer[Membership]):
    id = serializers.UUIDField()
    tenant_id = serializers.UUIDField()
    user = PersonSerializer()
    role = serializers.ChoiceField(Role.choices)
    created_at = serializers.DateTimeField()
    updated_at = serializers.DateTimeField()
    version = serializers.IntegerField(help_text="The ETag is this number in quotes.")


class MemberChangesSerializer(StrictSerializer):
    role = serializers.ChoiceField(Role.choices, required=False)


class InvitationSerializer(serializers.Serializer[Invitation]):
    id = serializers.UUIDField()
    tenant_id = serializers.UUIDField()
    email = serializers.EmailField()
    role = serializers.ChoiceField(Role.choices)
    is_open = serializers.SerializerMethodField()
    created_at = serializers.DateTimeField()
    expires_at = serializers.DateTimeField()
    closed_at = serializers.DateTimeField(
        allow_null=True, help_text="When it was accepted, withdrawn or replaced."
    )

    def get_is_open(self, invitation: Invitation) -> bool:
        return invitation.closed_at is None and invitation.expires_at > clock.now()


class InvitationMadeSerializer(InvitationSerializer):
    token = serializers.CharField(
        help_text="Shown only here. Hand it to the person: signed in under this address, they "
        "accept with it."
    )


class NewInvitationSerializer(StrictSerializer):
    email = serializers.EmailField(max_length=254)
    role = serializers.ChoiceField(Role.choices)


class AcceptedInvitationSerializer(StrictSerializer):
    token = serializers.CharField(max_length=200)


class MemberFilters(FilterSet):  # type: ignore[misc]  # untyped
    role = ChoiceFilter(choices=Role.choices)
    email = CharFilter(method="of_email", label="The person's address, whole.")

    class Meta:
        model = Membership
        fields = ("role",)

    def of_email(self, rows: QuerySet[Any], name: str, value: str) -> QuerySet[Any]:
        return rows.filter(user__email=canonical_email(value))


class InvitationFilters(FilterSet):  # type: ignore[misc]  # untyped
    is_open = BooleanFilter(method="by_state", label="Neither used, withdrawn nor expired.")
    email = CharFilter(method="of_email", label="The invited address, whole.")

    class Meta:
        model = Invitation
        fields = ()

    def by_state(self, rows: QuerySet[Any], name: str, value: bool) -> QuerySet[Any]:
        still_open = Invitation.objects.open(now=clock.now()).values("pk")
        return rows.filter(pk__in=still_open) if value else rows.exclude(pk__in=still_open)

    def of_email(self, rows: QuerySet[Any], name: str, value: str) -> QuerySet[Any]:
        return rows.filter(email=canonical_email(value))


@extend_schema(tags=["members"])
class MembersView(ControlView):
    is_list = True
    queryset = Membership.objects.all()
    filterset_class = MemberFilters

    @extend_schema(
        operation_id="list_members",
        summary="Who belongs to a tenant",
        responses=MemberSerializer(many=True),
    )
    def get(self, request: Request, tenant_id: str) -> Response:
        tenant = access_tenant(self.caller, tenant_id)
        with scope.tenant(tenant.id):
            return self.page(Membership.objects.select_related("user"), MemberSerializer)


@extend_schema(tags=["members"])
class MemberView(ControlView):
    queryset = Membership.objects.all()

    @extend_schema(
        operation_id="read_member",
        summary="One member",
        responses=MemberSerializer,
        parameters=[ETAG],
    )
    def get(self, request: Request, tenant_id: str, member_id: str) -> Response:
        member = within(access_member(self.caller, member_id, write=False), tenant_id)
        with scope.tenant(member.tenant_id):
            return self.one(member, MemberSerializer)

    @extend_schema(
        operation_id="change_member",
        summary="Give a member another role (admins; owners are made and changed by owners)",
        request=MemberChangesSerializer,
        responses={
            200: MemberSerializer,
            409: OpenApiResponse(description="The last owner stays one."),
        },
        parameters=[IF_MATCH, ETAG],
    )
    def patch(self, request: Request, tenant_id: str, member_id: str) -> Response:
        found = within(access_member(self.caller, member_id, write=False), tenant_id)
        member = access_member(self.caller, found.id, write=True)
        role = self.validated(MemberChangesSerializer).get("role", member.role)
        _may_give(self.caller, member.tenant_id, role)
        version = seen_version(request, member)
        with scope.tenant(member.tenant_id):
            member = change_role(membership=member, role=role, version=version)
            return self.one(member, MemberSerializer)

    @extend_schema(
        operation_id="remove_member",
        summary="Take a member out, and revoke the keys made for them",
        request=None,
        responses={
            204: None,
            409: OpenApiResponse(description="The last owner stays."),
        },
        parameters=[IF_MATCH],
    )
    def delete(self, request: Request, tenant_id: str, member_id: str) -> Response:
        found = within(access_member(self.caller, member_id, write=False), tenant_id)
        member = access_member(self.caller, found.id, write=True)
        version = seen_version(request, member)
        with scope.tenant(member.tenant_id):
            remove_member(membership=member, version=version)
        return Response(status=204)


@extend_schema(tags=["members"])
class InvitationsView(ControlView):
    is_list = True
    queryset = Invitation.objects.all()
    filterset_class = InvitationFilters

    @extend_schema(
        operation_id="list_invitations",
        summary="Who was invited to a tenant",
        responses=InvitationSerializer(many=True),
    )
    def get(self, request: Request, tenant_id: str) -> Response:
        tenant = access_tenant(self.caller, tenant_id)
        with scope.tenant(tenant.id):
            return self.page(Invitation.objects.all(), InvitationSerializer)

    @extend_schema(
        operation_id="invite_member",
        summary="Invite somebody (admins; owners are invited by owners)",
        description="A newer invitation for the same address replaces the older one.",
        request=NewInvitationSerializer,
        responses={
            201: InvitationMadeSerializer,
            409: OpenApiResponse(description="They are a member already."),
        },
        parameters=[IDEMPOTENCY_KEY],
    )
    def post(self, request: Request, tenant_id: str) -> Response:
        tenant = access_tenant(self.caller, tenant_id, at_least=Role.ADMIN)
        wanted = self.validated(NewInvitationSerializer)
        _may_give(self.caller, tenant.id, wanted["role"])

        def create() -> Created:
            made, token = invite(tenant=tenant, **wanted)
            shown = self.shown(made, InvitationSerializer)
            # The one moment at which a person is shown it.
            return Created(
                {**shown, "token": token.reveal()},
                reverse("api-invitation", args=[tenant.id, made.id]),
            )

        with scope.tenant(tenant.id):
            return create_once(self, tenant_id=tenant.id, create=create)


@extend_schema(tags=["members"])
class InvitationView(ControlView):
    queryset = Invitation.objects.all()

    @extend_schema(
        operation_id="read_invitation", summary="One invitation", responses=InvitationSerializer
    )
    def get(self, request: Request, tenant_id: str, invitation_id: str) -> Response:
        invitation = within(access_invitation(self.caller, invitation_id, write=False), tenant_id)
        return self.one(invitation, InvitationSerializer)


@extend_schema(tags=["members"])
class WithdrawInvitationView(ControlView):
    queryset = Invitation.objects.all()

    @extend_schema(
        operation_id="withdraw_invitation",
        summary="Withdraw an open invitation",
        request=None,
        responses={
            200: InvitationSerializer,
            409: OpenApiResponse(description="It is closed already."),
        },
    )
    def post(self, request: Request, tenant_id: str, invitation_id: str) -> Response:
        found = within(access_invitation(self.caller, invitation_id, write=False), tenant_id)
        invitation = access_invitation(self.caller, found.id, write=True)
        with scope.tenant(invitation.tenant_id):
            withdraw(invitation=invitation)
            invitation.refresh_from_db()
            return self.one(invitation, InvitationSerializer)


@extend_schema(tags=["members"])
class AcceptInvitationView(ControlView):
    queryset = Membership.objects.all()

    @extend_schema(
        operation_id="accept_invitation",
        summary="Join the tenant that a token invites you to",
        description="For the signed-in person whose address the invitation names.",
        request=AcceptedInvitationSerializer,
        responses={
            201: MemberSerializer,
            404: OpenApiResponse(description="The token is wrong, used, expired or not for you."),
            409: OpenApiResponse(description="You are a member already."),
        },
    )
    def post(self, request: Request) -> Response:
        caller = self.caller
        if not isinstance(caller, User):
            raise PeopleOnly("An invitation is accepted by a person, signed in as themselves.")
        token = self.validated(AcceptedInvitationSerializer)["token"]
        member = accept(token=token, user=caller)
        with scope.tenant(member.tenant_id):
            return self.one(member, MemberSerializer, status=201)


def _may_give(caller: Caller, tenant_id: uuid.UUID, role: str) -> None:
    if role not in grantable_roles(caller, tenant_id):
        raise RoleForbidden("Only an owner makes owners.", param="role")
