"""The ledger in the console, read-only, with the spend of the last days as a chart."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Final

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db.models import Sum
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.html import format_html
from django.utils.http import urlencode
from django.utils.safestring import SafeString

from controlplane.console import dashboard
from controlplane.console.filters import TenantFilter
from controlplane.console.pages import NavEntry, ReadOnlyPage, list_page, moment
from controlplane.kit import clock
from tenants.members.models import Tenant
from tenants.usage import spending, statement_page
from tenants.usage.charts import Chart, chart_of, money
from tenants.usage.models import Rollup, UsageEvent

_DAYS: Final = 30
# As many tenants as a browser offers while one types.
_LISTED: Final = 500


def spend_chart() -> Chart:
    """What tenants were charged, day by day, over all that the scope shows."""
    today = clock.now().date()
    first = today - timedelta(days=_DAYS - 1)
    # By the column itself: its date would be worked out for every row there is.
    since = datetime(first.year, first.month, first.day, tzinfo=UTC)
    rows = (
        Rollup.objects.filter(grain="day_sum", starts_at__gte=since)
        .order_by()
        .values_list("starts_at__date")
        .annotate(total=Sum("charge_nanos"))
    )
    by_day = dict(rows)
    amounts = [by_day.get(first + timedelta(days=number), 0) for number in range(_DAYS)]
    return chart_of(first, amounts)


@admin.register(UsageEvent)
class UsagePage(ReadOnlyPage):
    nav_group = "Usage"
    nav_title = "Usage ledger"
    nav_icon = "receipt_long"
    nav_order = 20
    empty_title = "Nothing used yet"
    empty_text = "Every request to a model appears here by itself, with its tokens and its cost."
    list_before_template = "console/usage_chart.html"
    actions_list = ("spending", "statement")
    nav_more = (NavEntry("Spending", "monitoring", "spending", 5),)

    list_display = ("asked", "state", "tenant_slug", "served", "tokens", "charged", "when")
    list_filter = ("entry", TenantFilter, "is_interrupted", "usage_source", "created_at")
    list_select_related = ("tenant",)
    search_fields = ("=request_id", "=trace_id", "=model_asked", "=provider")
    search_help_text = "A request id, a model or a provider, in full"
    sortable_by = ()
    fieldsets = (
        (None, {"fields": ("asked", "state", "tenant_slug", "when", "settled_at")}),
        ("Where it went", {"fields": ("served", "model_asked", "protocols", "credential_label")}),
        (
            "What it used",
            {
                "fields": (
                    *("input", "cache_read", "cache_write", "output", "reasoning"),
                    *("usage_source", "estimated_input", "estimated_output"),
                )
            },
        ),
        (
            "What it cost",
            {"fields": ("charged", "cost", "price_basis", "price_version", "estimated")},
        ),
        (
            "How it ended",
            {
                "fields": (
                    *("status", "error_code", "finish_reason", "manner", "times"),
                    *("would_refuse", "trace_id"),
                )
            },
        ),
        ("Why", {"fields": ("reason", "author")}),
        ("Proof", {"fields": ("sequence", "previous_hash", "hash")}),
    )

    def get_ordering(self, request: HttpRequest) -> tuple[str, ...]:
        """Newest first, by an index: ids grow with time, and one tenant's rows have an index of
        their own."""
        is_of_one = TenantFilter.parameter_name in request.GET
        return ("-created_at", "-pk") if is_of_one else ("-pk",)

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        context = {"chart": spend_chart(), **(extra_context or {})}
        found: HttpResponse = super().changelist_view(request, context)
        return found

    @list_page(label="Spending", path="spending", icon="monitoring")
    def spending(self, request: HttpRequest) -> HttpResponse:
        """By whom and on what, what moved, how long budgets last; `form=csv` is the table alone."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        shown: dict[str, Any] = {
            "slug": request.GET.get("tenant", ""),
            "tenants": Tenant.objects.order_by("slug").values_list("slug", flat=True)[:_LISTED],
            "periods": spending.PERIODS,
            "groups": spending.GROUPS,
        }
        try:
            asked = spending.asked_of(request.GET)
        except spending.NoSuchTenant:
            shown["problem"] = "There is no such tenant: give its short name, as in its address."
        else:
            if request.GET.get("form") == "csv":
                answer = HttpResponse(
                    spending.as_csv(asked), content_type="text/csv; charset=utf-8"
                )
                answer["Content-Disposition"] = 'attachment; filename="spending.csv"'
                return answer
            shown |= spending.context_of(asked)
            chosen = {"tenant": shown["slug"], "by": asked.by, "period": asked.period}
            shown["csv_query"] = urlencode({**chosen, "form": "csv"})
            if asked.tenant is not None:
                days = {"since": f"{asked.since:%Y-%m-%d}", "until": f"{asked.until:%Y-%m-%d}"}
                export = reverse("api-usage-export", args=[asked.tenant.pk])
                shown["export_url"] = f"{export}?{urlencode(days)}"
        return TemplateResponse(
            request, "console/spending.html", self.context(request, "Spending", **shown)
        )

    @list_page(label="Monthly statement", path="statement", icon="print")
    def statement(self, request: HttpRequest) -> HttpResponse:
        if not self.has_view_permission(request):
            raise PermissionDenied
        shown_page = statement_page.context_of(request.GET)
        return TemplateResponse(
            request,
            "console/statement.html",
            self.context(request, "Monthly statement", **shown_page),
        )

    @admin.display(description="request")
    def asked(self, row: UsageEvent) -> SafeString:
        return format_html(
            '<span class="cell-main">{}</span> <span class="cell-sub cell-code">{}</span>',
            row.model_asked or row.operation,
            row.request_id[:20],
        )

    @admin.display(description="entry", ordering="entry")
    def state(self, row: UsageEvent) -> SafeString:
        return UsageEvent.Entry.of(row.entry).badge.html()

    @admin.display(description="tenant")
    def tenant_slug(self, row: UsageEvent) -> str:
        return row.tenant.slug

    @admin.display(description="served by")
    def served(self, row: UsageEvent) -> str:
        return f"{row.provider}/{row.model_served}" if row.provider else "–"

    @admin.display(description="protocols")
    def protocols(self, row: UsageEvent) -> str:
        return f"{row.client_protocol} → {row.upstream_protocol or '–'}"

    @admin.display(description="tokens in / out")
    def tokens(self, row: UsageEvent) -> str:
        if row.usage_source == UsageEvent.Source.ESTIMATED:
            return f"about {row.estimated_input:,} / {row.estimated_output:,}"
        prompt = (row.input or 0) + (row.cache_read or 0) + (row.cache_write or 0)
        return f"{prompt:,} / {row.output or 0:,}"

    @admin.display(description="charged", ordering="charge_nanos")
    def charged(self, row: UsageEvent) -> str:
        return money(row.charge_nanos)

    @admin.display(description="the provider's price")
    def cost(self, row: UsageEvent) -> str:
        return money(row.cost_nanos)

    @admin.display(description="estimate")
    def estimated(self, row: UsageEvent) -> str:
        return money(row.estimated_nanos) if row.estimated_nanos else "–"

    @admin.display(description="answer")
    def manner(self, row: UsageEvent) -> str:
        how = "streamed" if row.is_stream else "whole"
        return f"{how}, interrupted" if row.is_interrupted else how

    @admin.display(description="the provider took")
    def times(self, row: UsageEvent) -> str:
        if row.first_byte_ms is None:
            return f"{row.latency_ms:,} ms"
        return f"{row.latency_ms:,} ms, the first content after {row.first_byte_ms:,} ms"

    @admin.display(description="when", ordering="created_at")
    def when(self, row: UsageEvent) -> str:
        return moment(row.created_at, has_seconds=True)


@dashboard.card(order=40)
def spend(_request: HttpRequest) -> dashboard.Card:
    chart = spend_chart()
    return dashboard.Card(
        title="Spend",
        figure=chart.total,
        note=f"in the last {_DAYS} days",
        url=reverse("admin:tenants_usageevent_changelist"),
        icon="receipt_long",
    )
