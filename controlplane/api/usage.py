"""The ledger's rows: listed, exported, stated, checked, corrected."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import datetime
from typing import Any, Final
from zoneinfo import ZoneInfo

from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpResponse, StreamingHttpResponse
from django.urls import reverse
from django_filters import CharFilter, ChoiceFilter, FilterSet, UUIDFilter
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework import serializers
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response

from controlplane.api.errors import InvalidParameter, TooManyEvents
from controlplane.api.fields import MomentFilter, StrictSerializer
from controlplane.api.idempotency import IDEMPOTENCY_KEY, Created, create_once
from controlplane.api.permissions import IsPlatformStaff
from controlplane.api.usage_reports import (
    SINCE,
    UNTIL,
    FiguresSerializer,
    ReportRowSerializer,
    day_range,
    parameter,
)
from controlplane.api.view import ControlView
from controlplane.kit import clock, json
from controlplane.kit.csv_rows import csv_rows, plain
from tenants import scope
from tenants.access import access_tenant
from tenants.members.models import Tenant
from tenants.usage import reports
from tenants.usage.corrections import correct
from tenants.usage.models import LedgerHead, UsageEvent
from tenants.usage.outcome import MOST_NANOS
from tenants.usage.statements import statement, statement_lines
from tenants.usage.verify import verify

# Longer chains are a job for the command line.
MOST_EVENTS: Final = 100_000
_MONTH: Final = re.compile(r"(\d{4})-(\d{2})")
_MONTH_PARAMETER: Final = parameter("month", "Such as `2026-11`; without it, this month.")


class UsageEventSerializer(serializers.ModelSerializer[UsageEvent]):
    tenant_id = serializers.UUIDField()

    class Meta:
        model = UsageEvent
        fields = ("id", "tenant_id", *reports.EXPORTED, "previous_hash")


class ReceiptSerializer(serializers.Serializer[Any]):
    sequence = serializers.IntegerField()
    hash = serializers.CharField(help_text="Of the last event the statement covers.")


class StatementSerializer(serializers.Serializer[Any]):
    tenant = serializers.CharField()
    month = serializers.CharField()
    since = serializers.DateTimeField()
    until = serializers.DateTimeField()
    totals = FiguresSerializer()
    models = ReportRowSerializer(many=True)
    receipt = ReceiptSerializer(allow_null=True)


class LedgerFindingSerializer(serializers.Serializer[Any]):
    where = serializers.CharField()
    what = serializers.CharField()


class LedgerReportSerializer(serializers.Serializer[Any]):
    is_intact = serializers.BooleanField()
    events = serializers.IntegerField()
    findings = LedgerFindingSerializer(many=True)
    has_more = serializers.BooleanField()


class CorrectionSerializer(StrictSerializer):
    request_id = serializers.CharField(max_length=64)
    charge_nanos = serializers.IntegerField(
        min_value=-MOST_NANOS,
        max_value=MOST_NANOS,
        help_text="Added to what the tenant was charged; a refund is negative.",
    )
    reason = serializers.CharField(max_length=300)


class UsageEventFilters(FilterSet):  # type: ignore[misc]  # untyped
    request_id = CharFilter()
    key_id = UUIDFilter()
    member_id = UUIDFilter()
    model = CharFilter(field_name="model_asked")
    provider = CharFilter()
    entry = ChoiceFilter(choices=UsageEvent.Entry.choices)
    since = MomentFilter(field_name="created_at", lookup_expr="gte")
    until = MomentFilter(field_name="created_at", lookup_expr="lt")

    class Meta:
        model = UsageEvent
        fields = ("request_id", "key_id", "member_id", "provider", "entry")


@extend_schema(tags=["usage"])
class UsageEventsView(ControlView):
    is_list = True
    position = "sequence"
    queryset = UsageEvent.objects.all()
    filterset_class = UsageEventFilters

    @extend_schema(
        operation_id="list_usage_events",
        summary="A tenant's ledger, newest first",
        responses=UsageEventSerializer(many=True),
    )
    def get(self, request: Request, tenant_id: str) -> Response:
        tenant = access_tenant(self.caller, tenant_id)
        with scope.tenant(tenant.id):
            return self.page(UsageEvent.objects.all(), UsageEventSerializer)


@extend_schema(tags=["usage"])
class UsageExportView(ControlView):
    queryset = UsageEvent.objects.all()
    parameters = frozenset({"form", "since", "until"})

    @extend_schema(
        operation_id="export_usage",
        summary="The ledger's rows as CSV or JSON lines, streamed",
        description="`X-Total-Rows` tells how many rows there were when it began.",
        responses={
            (200, "text/csv"): OpenApiTypes.STR,
            (200, "application/x-ndjson"): OpenApiTypes.STR,
        },
        parameters=[
            OpenApiParameter("form", OpenApiTypes.STR, enum=["csv", "json"]),
            SINCE,
            UNTIL,
        ],
    )
    def get(self, request: Request, tenant_id: str) -> StreamingHttpResponse:
        tenant = access_tenant(self.caller, tenant_id)
        form = request.query_params.get("form", "csv")
        if form not in ("csv", "json"):
            raise InvalidParameter("Choose csv or json.", param="form")
        since, until = day_range(request, tenant)
        with scope.tenant(tenant.id):
            total = UsageEvent.objects.filter(created_at__gte=since, created_at__lt=until).count()
        pieces = _Export(tenant, since, until, form)
        is_async = isinstance(request._request, ASGIRequest)
        answer = StreamingHttpResponse(
            pieces.later() if is_async else pieces.now(),
            content_type="text/csv; charset=utf-8" if form == "csv" else "application/x-ndjson",
        )
        answer["Content-Disposition"] = f'attachment; filename="usage-{tenant.slug}.{form}"'
        answer["X-Total-Rows"] = str(total)
        return answer


class _Export:
    def __init__(self, tenant: Tenant, since: datetime, until: datetime, form: str) -> None:
        self._tenant, self._since, self._until = tenant, since, until
        self._is_csv = form == "csv"
        self._after = 0

    def now(self) -> Iterator[bytes]:
        yield from self._head()
        while rows := self._rows():
            yield self._spelled(rows)

    async def later(self) -> AsyncIterator[bytes]:
        for line in self._head():
            yield line
        while rows := await sync_to_async(self._rows)():
            yield self._spelled(rows)

    def _head(self) -> list[bytes]:
        return [csv_rows([reports.EXPORTED])] if self._is_csv else []

    def _rows(self) -> Sequence[tuple[Any, ...]]:
        rows = reports.export_chunk(
            self._tenant.id, since=self._since, until=self._until, after=self._after
        )
        if rows:
            self._after = rows[-1][0]
        return rows

    def _spelled(self, rows: Sequence[tuple[Any, ...]]) -> bytes:
        if self._is_csv:
            return csv_rows(rows)
        names = reports.EXPORTED
        return b"".join(
            json.dumps({name: plain(value) for name, value in zip(names, row, strict=True)}) + b"\n"
            for row in rows
        )


@extend_schema(tags=["usage"])
class StatementView(ControlView):
    queryset = UsageEvent.objects.all()
    parameters = frozenset({"month", "form"})

    @extend_schema(
        operation_id="read_statement",
        summary="A month's statement, with a receipt that the ledger can be checked against",
        responses={200: StatementSerializer, (200, "text/csv"): OpenApiTypes.STR},
        parameters=[
            _MONTH_PARAMETER,
            OpenApiParameter("form", OpenApiTypes.STR, enum=["json", "csv"]),
        ],
    )
    def get(self, request: Request, tenant_id: str) -> Response | HttpResponse:
        tenant = access_tenant(self.caller, tenant_id)
        form = request.query_params.get("form", "json")
        if form not in ("csv", "json"):
            raise InvalidParameter("Choose json or csv.", param="form")
        found = statement(tenant, *_month(request, tenant))
        if form == "json":
            return Response(self.shown(found, StatementSerializer))
        answer = HttpResponse(
            csv_rows(statement_lines(found)), content_type="text/csv; charset=utf-8"
        )
        name = f"statement-{tenant.slug}-{found['month']}.csv"
        answer["Content-Disposition"] = f'attachment; filename="{name}"'
        return answer


@extend_schema(tags=["usage"])
class VerifyLedgerView(ControlView):
    queryset = UsageEvent.objects.all()

    @extend_schema(
        operation_id="verify_usage_chain",
        summary="Check a tenant's ledger from its first event to its head",
        request=None,
        responses={
            200: LedgerReportSerializer,
            422: OpenApiResponse(description="Too many events for one request."),
        },
    )
    def post(self, request: Request, tenant_id: str) -> Response:
        tenant = access_tenant(self.caller, tenant_id)
        with scope.tenant(tenant.id):
            head = LedgerHead.objects.first()
        if head is not None and head.sequence > MOST_EVENTS:
            raise TooManyEvents(
                f"There are {head.sequence:,} events, and one request checks at most "
                f"{MOST_EVENTS:,}: run manage.py ledger verify instead."
            )
        report = verify(tenant_id=tenant.id)
        return Response(
            {
                "is_intact": not report.findings,
                "events": report.events,
                "findings": [
                    {"where": finding.where, "what": finding.what} for finding in report.findings
                ],
                "has_more": report.has_more,
            }
        )


@extend_schema(tags=["usage"])
class CorrectionsView(ControlView):
    queryset = UsageEvent.objects.all()
    permission_classes = (IsAuthenticated, IsPlatformStaff)

    @extend_schema(
        operation_id="correct_usage",
        summary="Refund or charge for one request (platform staff)",
        description="A new entry with its reason and author: history itself is never changed.",
        request=CorrectionSerializer,
        responses={201: UsageEventSerializer},
        parameters=[IDEMPOTENCY_KEY],
    )
    def post(self, request: Request, tenant_id: str) -> Response:
        tenant = access_tenant(self.caller, tenant_id)
        wanted = self.validated(CorrectionSerializer)

        def create() -> Created:
            entry = correct(tenant=tenant, **wanted)
            where = reverse("api-usage-events", args=[tenant.id])
            return Created(
                self.shown(entry, UsageEventSerializer), f"{where}?request_id={entry.request_id}"
            )

        with scope.tenant(tenant.id):
            return create_once(self, tenant_id=tenant.id, create=create)


def _month(request: Request, tenant: Tenant) -> tuple[int, int]:
    text = request.query_params.get("month")
    if text is None:
        now = clock.now().astimezone(ZoneInfo(tenant.time_zone))
        return now.year, now.month
    found = _MONTH.fullmatch(text)
    if found is None or not 1 <= int(found[2]) <= 12 or not 2000 <= int(found[1]) < 9000:
        raise InvalidParameter("Give a month such as 2026-11.", param="month")
    return int(found[1]), int(found[2])
