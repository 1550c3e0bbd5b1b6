"""What was spent, by whom and on what; what moved, what failed, how long budgets last."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response

from controlplane.api.errors import InvalidParameter
from controlplane.api.permissions import IsPlatformStaff
from controlplane.api.quotas import LimitSerializer
from controlplane.api.view import ControlView
from controlplane.kit import clock
from tenants import scope
from tenants.access import access_tenant
from tenants.members.models import Tenant
from tenants.usage import reports
from tenants.usage.models import UsageEvent

_LONGEST: Final = timedelta(days=800)
_DATE: Final = re.compile(r"\d{4}-\d{2}-\d{2}")
_BY_ALL: Final = tuple(reports.DIMENSIONS)
_BY: Final = tuple(name for name in _BY_ALL if name != "tenant")
_BY_NAME: Final = tuple(name for name in _BY if name not in ("day", "hour"))


def parameter(name: str, what: str, **options: Any) -> OpenApiParameter:
    return OpenApiParameter(name, OpenApiTypes.STR, description=what, **options)


SINCE: Final = parameter("since", "The first day, in the tenant's time zone: `2026-11-01`.")
UNTIL: Final = parameter("until", "The day after the last one. Without both: 30 days.")


class FiguresSerializer(serializers.Serializer[Any]):
    requests = serializers.IntegerField()
    errors = serializers.IntegerField()  # type: ignore[assignment]  # the base uses the name for itself
    unknown = serializers.IntegerField(help_text="Requests whose cost nobody knows.")
    input_tokens = serializers.IntegerField()
    output_tokens = serializers.IntegerField()
    cost_nanos = serializers.IntegerField(help_text="What providers charge.")
    charge_nanos = serializers.IntegerField(help_text="What the tenant is charged.")
    estimated_nanos = serializers.IntegerField(help_text="Estimates where the cost is unknown.")


class ReportRowSerializer(FiguresSerializer):
    group = serializers.CharField(
        allow_null=True, help_text="The key, member, model, provider, day or hour."
    )


class UsageReportSerializer(serializers.Serializer[Any]):
    since = serializers.DateTimeField()
    until = serializers.DateTimeField()
    by = serializers.ChoiceField(_BY)
    totals = FiguresSerializer()
    rows = ReportRowSerializer(many=True)


class PlatformReportSerializer(UsageReportSerializer):
    by = serializers.ChoiceField(_BY_ALL)


class MoverSerializer(serializers.Serializer[Any]):
    group = serializers.CharField(allow_null=True, help_text="The key, member, model or provider.")
    before_nanos = serializers.IntegerField()
    after_nanos = serializers.IntegerField()


class MoversSerializer(serializers.Serializer[Any]):
    since = serializers.DateTimeField()
    until = serializers.DateTimeField()
    by = serializers.ChoiceField(_BY_NAME)
    items = MoverSerializer(many=True)


class UsageErrorSerializer(serializers.Serializer[Any]):
    provider = serializers.CharField()
    status = serializers.IntegerField(allow_null=True)
    error_code = serializers.CharField()
    count = serializers.IntegerField()


class UsageErrorsSerializer(serializers.Serializer[Any]):
    since = serializers.DateTimeField()
    until = serializers.DateTimeField()
    items = UsageErrorSerializer(many=True)


class BudgetSerializer(serializers.Serializer[Any]):
    limit = LimitSerializer()
    subject = serializers.CharField(help_text="Whose part, where each has its own.")
    used = serializers.IntegerField()
    left = serializers.IntegerField()
    percent = serializers.FloatField()
    starts_at = serializers.DateTimeField(allow_null=True)
    resets_at = serializers.DateTimeField(allow_null=True)
    lasts_until = serializers.DateTimeField(
        allow_null=True, help_text="When it is used up at this pace; null: not in this period."
    )


class BudgetsSerializer(serializers.Serializer[Any]):
    items = BudgetSerializer(many=True)


@extend_schema(tags=["usage"])
class UsageReportView(ControlView):
    queryset = UsageEvent.objects.all()
    parameters = frozenset({"by", "since", "until"})

    @extend_schema(
        operation_id="report_usage",
        summary="Spend and tokens by key, member, model, provider, day or hour",
        responses=UsageReportSerializer,
        parameters=[
            OpenApiParameter("by", OpenApiTypes.STR, enum=list(_BY), description="Default: day."),
            SINCE,
            UNTIL,
        ],
    )
    def get(self, request: Request, tenant_id: str) -> Response:
        tenant = access_tenant(self.caller, tenant_id)
        by = _chosen(request, _BY, "day")
        since, until = day_range(request, tenant)
        with scope.tenant(tenant.id):
            return Response(self.shown(_report(by, since, until), UsageReportSerializer))


@extend_schema(tags=["usage"])
class PlatformReportView(ControlView):
    queryset = UsageEvent.objects.all()
    permission_classes = (IsAuthenticated, IsPlatformStaff)
    parameters = frozenset({"by", "since", "until"})

    @extend_schema(
        operation_id="report_platform_usage",
        summary="Spend and tokens of all tenants together (platform staff)",
        responses=PlatformReportSerializer,
        parameters=[
            OpenApiParameter(
                "by", OpenApiTypes.STR, enum=list(_BY_ALL), description="Default: tenant."
            ),
            parameter("since", "The first day, in UTC: `2026-11-01`."),
            UNTIL,
        ],
    )
    def get(self, request: Request) -> Response:
        by = _chosen(request, _BY_ALL, "tenant")
        since, until = day_range(request, None)
        with scope.platform("usage report"):
            return Response(self.shown(_report(by, since, until), PlatformReportSerializer))


@extend_schema(tags=["usage"])
class MoversView(ControlView):
    queryset = UsageEvent.objects.all()
    parameters = frozenset({"by", "since", "until"})

    @extend_schema(
        operation_id="list_usage_movers",
        summary="What costs more, or less, than in the same number of days before",
        responses=MoversSerializer,
        parameters=[
            OpenApiParameter(
                "by", OpenApiTypes.STR, enum=list(_BY_NAME), description="Default: model."
            ),
            SINCE,
            UNTIL,
        ],
    )
    def get(self, request: Request, tenant_id: str) -> Response:
        tenant = access_tenant(self.caller, tenant_id)
        by = _chosen(request, _BY_NAME, "model")
        since, until = day_range(request, tenant)
        with scope.tenant(tenant.id):
            rows = reports.movers(by=by, since=since, until=until)
        items = [{**row, "group": _group(row[by])} for row in rows]
        shown = {"since": since, "until": until, "by": by, "items": items}
        return Response(self.shown(shown, MoversSerializer))


@extend_schema(tags=["usage"])
class UsageErrorsView(ControlView):
    queryset = UsageEvent.objects.all()
    parameters = frozenset({"since", "until"})

    @extend_schema(
        operation_id="list_usage_errors",
        summary="What went wrong how often, by provider and code",
        responses=UsageErrorsSerializer,
        parameters=[SINCE, UNTIL],
    )
    def get(self, request: Request, tenant_id: str) -> Response:
        tenant = access_tenant(self.caller, tenant_id)
        since, until = day_range(request, tenant)
        with scope.tenant(tenant.id):
            found = reports.errors(since=since, until=until)
        shown = {"since": since, "until": until, "items": found}
        return Response(self.shown(shown, UsageErrorsSerializer))


@extend_schema(tags=["usage"])
class BudgetsView(ControlView):
    queryset = UsageEvent.objects.all()

    @extend_schema(
        operation_id="list_budgets",
        summary="How the limits stand, and how long they last",
        responses=BudgetsSerializer,
    )
    def get(self, request: Request, tenant_id: str) -> Response:
        tenant = access_tenant(self.caller, tenant_id)
        with scope.tenant(tenant.id):
            found = reports.budgets(tenant)
            return Response(self.shown({"items": found}, BudgetsSerializer))


def _chosen(request: Request, choices: Sequence[str], default: str) -> str:
    by = request.query_params.get("by", default)
    if by not in choices:
        raise InvalidParameter(f"Choose one of {', '.join(choices)}.", param="by")
    return by


def _report(by: str, since: datetime, until: datetime) -> dict[str, Any]:
    """Over what the scope shows."""
    rows = reports.report(by=by, since=since, until=until)
    return {
        "since": since,
        "until": until,
        "by": by,
        "totals": reports.totals(since=since, until=until),
        "rows": [{**row, "group": _group(row[by])} for row in rows],
    }


def day_range(request: Request, tenant: Tenant | None) -> tuple[datetime, datetime]:
    """Whole days in the tenant's time zone; in UTC for all tenants together."""
    zone = ZoneInfo(tenant.time_zone if tenant is not None else "UTC")
    today = clock.now().astimezone(zone).date()
    until = _day(request, "until") or today + timedelta(days=1)
    since = _day(request, "since") or until - timedelta(days=30)
    if not since < until:
        raise InvalidParameter("It has to end after it begins.", param="until")
    if until - since > _LONGEST:
        raise InvalidParameter(f"Ask for at most {_LONGEST.days} days at once.", param="since")
    return _midnight(since, zone), _midnight(until, zone)


def _day(request: Request, name: str) -> date | None:
    text = request.query_params.get(name)
    if text is None:
        return None
    try:
        found = date.fromisoformat(text) if _DATE.fullmatch(text) else None
    except ValueError:
        found = None
    # Far from the ends of what a calendar holds, so that time zones have room.
    if found is None or not 2000 <= found.year < 9000:
        raise InvalidParameter("Give a day such as 2026-11-01.", param=name)
    return found


def _midnight(day: date, zone: ZoneInfo) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=zone).astimezone(UTC)


def _group(value: Any) -> str | None:
    if isinstance(value, datetime):
        return value.isoformat()
    return None if value is None else str(value)
