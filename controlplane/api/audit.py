"""Reading and checking the audit log: a tenant's for its admins, everything for platform staff."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from django_filters import CharFilter, ChoiceFilter, FilterSet, UUIDFilter
from drf_spectacular.utils import OpenApiResponse, extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response

from controlplane.api.errors import TooManyEvents
from controlplane.api.fields import Moment, MomentFilter, StrictSerializer
from controlplane.api.permissions import IsPlatformStaff
from controlplane.api.view import ControlView
from controlplane.kit import clock
from tenants import scope
from tenants.access import access_audit, access_audit_event, within
from tenants.audit.chain import chain_of
from tenants.audit.models import AuditEvent
from tenants.audit.verify import Head, Report, stored_heads, verify

# Reading a chain takes some 0.1 ms per event; longer ones are a job for the command line.
MOST_EVENTS: Final = 100_000
_HEADS_FORMAT: Final = 1


class AuditTenantSerializer(serializers.Serializer[AuditEvent]):
    id = serializers.UUIDField(source="tenant_id", allow_null=True)
    slug = serializers.CharField(source="tenant_slug", help_text="As it was at that time.")


class AuditActorSerializer(serializers.Serializer[AuditEvent]):
    kind = serializers.ChoiceField(AuditEvent.ActorKind.choices, source="actor_kind")
    id = serializers.CharField(source="actor_id")
    label = serializers.CharField(source="actor_label")  # type: ignore[assignment]  # the base uses the name for itself
    address = serializers.CharField()


class AuditTargetSerializer(serializers.Serializer[AuditEvent]):
    model = serializers.CharField(source="target_model")
    id = serializers.CharField(source="target_id")
    label = serializers.CharField(source="target_label")  # type: ignore[assignment]  # the base uses the name for itself


class AuditEventSerializer(serializers.Serializer[AuditEvent]):
    id = serializers.UUIDField()
    chain = serializers.CharField(help_text="A tenant's id, or `platform`.")
    sequence = serializers.IntegerField(help_text="The place in the chain, from 1 without gaps.")
    at = serializers.DateTimeField(source="created_at")
    tenant = AuditTenantSerializer(source="*")
    actor = AuditActorSerializer(source="*")
    action = serializers.CharField()
    target = AuditTargetSerializer(source="*")
    before = serializers.SerializerMethodField()
    after = serializers.SerializerMethodField()
    previous_hash = serializers.CharField()
    hash = serializers.CharField()

    @extend_schema_field({"type": "object", "nullable": True, "additionalProperties": {}})
    def get_before(self, event: AuditEvent) -> dict[str, Any] | None:
        return event.before

    @extend_schema_field({"type": "object", "nullable": True, "additionalProperties": {}})
    def get_after(self, event: AuditEvent) -> dict[str, Any] | None:
        return event.after


class AuditHeadSerializer(StrictSerializer):
    sequence = serializers.IntegerField(min_value=0, max_value=2**63 - 1)
    hash = serializers.RegexField(r"^[0-9a-f]{64}\Z")


class AuditHeadsSerializer(StrictSerializer):
    """Also the file that `manage.py audit export-head` writes and `audit verify` reads."""

    format = serializers.ChoiceField([_HEADS_FORMAT])
    exported_at = Moment()
    chains = serializers.DictField(child=AuditHeadSerializer())


class VerificationSerializer(StrictSerializer):
    heads = AuditHeadsSerializer(
        required=False,
        allow_null=True,
        help_text="Heads exported earlier and kept elsewhere: they show what was cut off or "
        "rewritten since.",
    )


class FindingSerializer(serializers.Serializer[Any]):
    chain = serializers.CharField()
    sequence = serializers.IntegerField()
    what = serializers.CharField()


class ReportSerializer(serializers.Serializer[Any]):
    is_intact = serializers.BooleanField()
    events = serializers.IntegerField()
    chains = serializers.IntegerField()
    findings = FindingSerializer(many=True)
    has_more = serializers.BooleanField(help_text="There are more findings than are listed.")


class AuditEventFilters(FilterSet):  # type: ignore[misc]  # untyped
    action = CharFilter(label="Such as `key.revoked`.")
    actor_kind = ChoiceFilter(choices=AuditEvent.ActorKind.choices)
    actor_id = CharFilter()
    target_model = CharFilter(label="Such as `tenants.apikey`.")
    target_id = CharFilter()
    since = MomentFilter(field_name="created_at", lookup_expr="gte")
    until = MomentFilter(field_name="created_at", lookup_expr="lt")

    class Meta:
        model = AuditEvent
        fields: tuple[str, ...] = ("action", "actor_kind", "actor_id", "target_model", "target_id")


class AllAuditEventFilters(AuditEventFilters):
    tenant_id = UUIDFilter(field_name="tenant_id")

    class Meta(AuditEventFilters.Meta):
        fields = (*AuditEventFilters.Meta.fields, "tenant_id")


@extend_schema(tags=["audit"])
class TenantEventsView(ControlView):
    is_list = True
    # Events get their id before their place in the chain: only the place is exact.
    position = "sequence"
    queryset = AuditEvent.objects.all()
    filterset_class = AuditEventFilters

    @extend_schema(
        operation_id="list_audit_events",
        summary="What happened in a tenant (admins)",
        responses=AuditEventSerializer(many=True),
    )
    def get(self, request: Request, tenant_id: str) -> Response:
        tenant = access_audit(self.caller, tenant_id)
        with scope.tenant(tenant.id):
            rows = AuditEvent.objects.filter(chain=chain_of(tenant.id))
            return self.page(rows, AuditEventSerializer)


@extend_schema(tags=["audit"])
class TenantEventView(ControlView):
    queryset = AuditEvent.objects.all()

    @extend_schema(
        operation_id="read_audit_event",
        summary="One event",
        responses=AuditEventSerializer,
    )
    def get(self, request: Request, tenant_id: str, event_id: str) -> Response:
        event = within(access_audit_event(self.caller, event_id), tenant_id)
        return self.one(event, AuditEventSerializer)


@extend_schema(tags=["audit"])
class TenantHeadView(ControlView):
    queryset = AuditEvent.objects.all()

    @extend_schema(
        operation_id="export_audit_head",
        summary="Where a tenant's chain ends (admins)",
        description="Keep it elsewhere: a verification that is given it notices a chain that was "
        "cut or rewritten.",
        responses=AuditHeadsSerializer,
    )
    def get(self, request: Request, tenant_id: str) -> Response:
        tenant = access_audit(self.caller, tenant_id)
        return Response(_exported(stored_heads(chain_of(tenant.id))))


@extend_schema(tags=["audit"])
class VerifyTenantView(ControlView):
    queryset = AuditEvent.objects.all()

    @extend_schema(
        operation_id="verify_audit_chain",
        summary="Check a tenant's chain from its first event to its head (admins)",
        request=VerificationSerializer,
        responses={
            200: ReportSerializer,
            422: OpenApiResponse(description="Too many events for one request."),
        },
    )
    def post(self, request: Request, tenant_id: str) -> Response:
        tenant = access_audit(self.caller, tenant_id)
        heads = self.validated(VerificationSerializer).get("heads")
        return _report(chain_of(tenant.id), heads)


@extend_schema(tags=["audit"])
class EventsView(ControlView):
    is_list = True
    queryset = AuditEvent.objects.all()
    filterset_class = AllAuditEventFilters
    permission_classes = (IsAuthenticated, IsPlatformStaff)

    @extend_schema(
        operation_id="list_all_audit_events",
        summary="What happened everywhere (platform staff)",
        responses=AuditEventSerializer(many=True),
    )
    def get(self, request: Request) -> Response:
        with scope.platform("audit log for staff"):
            return self.page(AuditEvent.objects.all(), AuditEventSerializer)


@extend_schema(tags=["audit"])
class HeadsView(ControlView):
    queryset = AuditEvent.objects.all()
    permission_classes = (IsAuthenticated, IsPlatformStaff)

    @extend_schema(
        operation_id="export_audit_heads",
        summary="Where every chain ends (platform staff)",
        responses=AuditHeadsSerializer,
    )
    def get(self, request: Request) -> Response:
        return Response(_exported(stored_heads()))


@extend_schema(tags=["audit"])
class VerifyView(ControlView):
    queryset = AuditEvent.objects.all()
    permission_classes = (IsAuthenticated, IsPlatformStaff)

    @extend_schema(
        operation_id="verify_audit_chains",
        summary="Check every chain (platform staff)",
        request=VerificationSerializer,
        responses={
            200: ReportSerializer,
            422: OpenApiResponse(description="Too many events for one request."),
        },
    )
    def post(self, request: Request) -> Response:
        return _report(None, self.validated(VerificationSerializer).get("heads"))


def _exported(heads: Mapping[str, Head]) -> dict[str, Any]:
    return {
        "format": _HEADS_FORMAT,
        "exported_at": clock.now().isoformat(),
        "chains": {
            chain: {"sequence": head.sequence, "hash": head.hash} for chain, head in heads.items()
        },
    }


def _report(chain: str | None, document: Mapping[str, Any] | None) -> Response:
    events = sum(head.sequence for head in stored_heads(chain).values())
    if events > MOST_EVENTS:
        raise TooManyEvents(
            f"There are {events:,} events, and one request checks at most {MOST_EVENTS:,}: run "
            "manage.py audit verify instead."
        )
    # Other chains' heads in the document are none of this caller's business.
    exported = {
        name: Head(head["sequence"], head["hash"])
        for name, head in (document or {}).get("chains", {}).items()
        if chain in {None, name}
    }
    return Response(_shown(verify(chain=chain, exported=exported)))


def _shown(report: Report) -> dict[str, Any]:
    return {
        "is_intact": not report.findings,
        "events": report.events,
        "chains": report.chains,
        "findings": [
            {"chain": finding.chain, "sequence": finding.sequence, "what": finding.what}
            for finding in report.findings
        ],
        "has_more": report.has_more,
    }
