"""Limits in the console: set, raised, watched before they are enforced."""

from __future__ import annotations

import time
from decimal import Decimal
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.utils.html import format_html
from django.utils.safestring import SafeString

from controlplane.console.actions import Confirm, confirm_one
from controlplane.console.filters import TenantFilter
from controlplane.console.forms import VersionedForm
from controlplane.console.pages import Page, adopt, detail_page, moment
from tenants.quotas import services
from tenants.quotas.models import NANOS_PER_DOLLAR, Counter, Limit, shown
from tenants.quotas.policy import IN_NANOS, MOST, PER_REQUEST
from tenants.quotas.snapshot import rule_of

_REMOVE = Confirm(
    "Remove this limit?",
    "Within a second nothing is held against it any more. What was used stays in the ledger.",
    "Remove",
)


class LimitForm(VersionedForm):
    how_much = forms.DecimalField(
        label="How much",
        min_value=0,
        max_digits=20,
        decimal_places=9,
        help_text="Dollars for money, otherwise a count. 0 lets nothing through.",
    )

    class Meta:
        model = Limit
        fields = (
            *("tenant", "scope_kind", "scope_value", "kind", "period", "window", "fiscal_day"),
            "mode",
        )
        help_texts = {
            "tenant": "Empty: a limit of the platform, over all tenants.",
            "scope_value": "A key's label or beginning, a member's e-mail address, the name of a "
            "model or provider, the id of a credential; * gives each of them this much.",
            "mode": "A limit that is only watched counts and tells, and refuses nothing.",
        }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not self.instance._state.adding:
            amount = Decimal(self.instance.amount)
            if self.instance.kind in IN_NANOS:
                amount /= NANOS_PER_DOLLAR
            self.initial["how_much"] = f"{amount:f}"

    def clean(self) -> dict[str, Any] | None:
        cleaned = super().clean()
        how_much = self.cleaned_data.get("how_much")
        if how_much is not None:
            kind = self.cleaned_data.get("kind") or self.instance.kind
            amount = how_much * NANOS_PER_DOLLAR if kind in IN_NANOS else how_much
            if amount != int(amount) or amount > MOST:
                self.add_error("how_much", "Give a whole number that is not beyond all bounds.")
            else:
                self.cleaned_data["amount"] = int(amount)
        return cleaned


@admin.register(Limit)
class LimitPage(Page):
    nav_group = "Usage"
    nav_title = "Limits"
    nav_icon = "speed"
    nav_order = 10
    empty_title = "No limits yet"
    empty_text = (
        "Without a limit everything is allowed. Start with money per month for a tenant: set it "
        "to be watched only, look at what it would refuse, then enforce it."
    )
    empty_label = "Set a limit"

    form = LimitForm
    list_display = ("title", "state", "tenant_slug", "allowed", "updated")
    list_filter = ("mode", "scope_kind", "kind", TenantFilter)
    list_select_related = ("tenant",)
    search_fields = ("scope_value", "tenant__slug")
    ordering = ("-created_at",)
    autocomplete_fields = ("tenant",)
    actions_detail = ("remove",)

    def get_readonly_fields(self, request: HttpRequest, obj: Limit | None = None) -> Any:
        if obj is None:
            return ()
        return (
            *("tenant", "scope_kind", "scope_value", "kind", "period", "window", "fiscal_day"),
            "standing",
        )

    def get_fieldsets(self, request: HttpRequest, obj: Limit | None = None) -> Any:
        whose = ("tenant", "scope_kind", "scope_value")
        what = ("kind", "period", "window", "fiscal_day")
        if obj is None:
            return (
                ("Whose requests", {"fields": whose}),
                ("What is counted", {"fields": what}),
                ("How much", {"fields": ("how_much", "mode")}),
            )
        return (
            ("How much", {"fields": ("how_much", "mode", "standing", "seen_version")}),
            ("Whose requests", {"fields": whose}),
            ("What is counted", {"fields": what}),
        )

    @admin.display(description="limit")
    def title(self, row: Limit) -> SafeString:
        return format_html('<span class="cell-main">{}</span>', row.title)

    @admin.display(description="mode", ordering="mode")
    def state(self, row: Limit) -> SafeString:
        return Limit.Mode.of(row.mode).badge.html()

    @admin.display(description="tenant", ordering="tenant__slug")
    def tenant_slug(self, row: Limit) -> str:
        return row.tenant.slug if row.tenant is not None else "platform"

    @admin.display(description="allowed")
    def allowed(self, row: Limit) -> str:
        return row.shown_amount

    @admin.display(description="used in this period")
    def standing(self, row: Limit) -> str:
        """By the fullest of its counters, where each has its own."""
        if row.kind in PER_REQUEST:
            return "each request by itself"
        used = _used(row)
        percent = f" ({used * 100 // row.amount} %)" if row.amount else ""
        return f"{shown(row.kind, used)}{percent}"

    @admin.display(description="changed", ordering="updated_at")
    def updated(self, row: Limit) -> str:
        return moment(row.updated_at)

    def save_model(self, request: HttpRequest, obj: Limit, form: Any, change: bool) -> None:
        data = form.cleaned_data
        if change:
            changes = {"amount": data["amount"], "mode": data["mode"]}
            adopt(obj, services.update_limit(limit=obj, version=data["seen_version"], **changes))
            return
        fields = {name: data[name] for name in LimitForm.Meta.fields if name != "tenant"}
        made = services.create_limit(
            tenant=data["tenant"], is_platform_set=True, amount=data["amount"], **fields
        )
        adopt(obj, made)

    @detail_page(label="Remove", path="remove", icon="delete")
    def remove(self, request: HttpRequest, object_id: str) -> HttpResponse:
        limit = self.row(request, object_id)
        question = confirm_one(self, request, limit, _REMOVE)
        if question is not None:
            return question
        title = limit.title
        services.remove_limit(limit=limit, version=limit.version)
        messages.success(request, f"“{title}” is removed.")
        return HttpResponseRedirect(self.url_of("changelist"))


def _used(limit: Limit) -> int:
    rule = rule_of(limit, limit.tenant.time_zone if limit.tenant is not None else "UTC")
    buckets = set(rule.slot(time.time()).buckets)
    sums: dict[str, int] = {}
    for counter in Counter.objects.filter(key__startswith=f"{rule.id}:"):
        subject, _, bucket = counter.key.removeprefix(f"{rule.id}:").rpartition(":")
        if bucket in buckets:
            sums[subject] = sums.get(subject, 0) + counter.used
    return max(sums.values(), default=0)
