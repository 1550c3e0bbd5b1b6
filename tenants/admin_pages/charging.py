"""How a tenant's requests reserve and are charged, in the console."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Final

from django import forms
from django.contrib import admin
from django.core.exceptions import ValidationError
from django.http import HttpRequest

from controlplane.console.filters import TenantFilter
from controlplane.console.forms import VersionedForm
from controlplane.console.pages import Page, adopt, moment
from tenants import scope
from tenants.quotas.models import UsagePolicy
from tenants.quotas.services import change_policy, policy_of

# The column counts hundredths of a per cent.
_PER_CENT: Final = 100
_CHOICES: Final = ("reservation", "durability", "unpriced")


class UsagePolicyForm(VersionedForm):
    per_cent = forms.DecimalField(
        label="Mark-up in per cent",
        min_value=-100,
        max_value=UsagePolicy.MOST_MARK_UP // _PER_CENT,
        decimal_places=2,
        help_text="On top of what providers charge; -10 is a discount. A price list of the "
        "tenant's own, set over the API, goes before it.",
    )

    class Meta:
        model = UsagePolicy
        fields = ("tenant", *_CHOICES)
        help_texts = {
            "reservation": "What a request holds of its budgets until its usage is known.",
            "durability": "When the ledger's rows are on disk.",
            "unpriced": "What happens to a request for a model whose price nobody knows.",
        }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.initial["per_cent"] = f"{Decimal(self.instance.mark_up) / _PER_CENT:f}"

    def clean_tenant(self) -> Any:
        tenant = self.cleaned_data["tenant"]
        with scope.tenant(tenant.pk):
            if self.instance._state.adding and not policy_of(tenant)._state.adding:
                raise ValidationError("There is a policy for it already: change that one.")
        return tenant


@admin.register(UsagePolicy)
class UsagePolicyPage(Page):
    nav_group = "Usage"
    nav_title = "Charging"
    nav_icon = "sell"
    nav_order = 15
    empty_title = "Every tenant pays what providers charge"
    empty_text = (
        "Requests hold the most they may cost until their usage is known, and models without a "
        "price are served and marked. A tenant with other terms gets a policy here."
    )
    empty_label = "Set a policy"

    form = UsagePolicyForm
    list_display = ("title", "charged", "reservation", "durability", "unpriced", "changed")
    list_filter = (TenantFilter,)
    list_select_related = ("tenant",)
    search_fields = ("tenant__slug",)
    ordering = ("tenant__slug",)
    autocomplete_fields = ("tenant",)

    def get_readonly_fields(self, request: HttpRequest, obj: UsagePolicy | None = None) -> Any:
        return () if obj is None else ("tenant", "listed")

    def get_fieldsets(self, request: HttpRequest, obj: UsagePolicy | None = None) -> Any:
        fields = ("tenant", "per_cent", *_CHOICES)
        return ((None, {"fields": fields if obj is None else (*fields, "listed", "seen_version")}),)

    @admin.display(description="tenant", ordering="tenant__slug")
    def title(self, row: UsagePolicy) -> str:
        return row.tenant.slug

    @admin.display(description="charged")
    def charged(self, row: UsagePolicy) -> str:
        agreed = len(row.price_list)
        basis = f"{agreed} agreed price{'' if agreed == 1 else 's'}, else " if agreed else ""
        mark_up = Decimal(row.mark_up) / _PER_CENT
        return f"{basis}the provider's price{f' {mark_up:+f} %' if mark_up else ''}"

    @admin.display(description="price list")
    def listed(self, row: UsagePolicy) -> str:
        if not row.price_list:
            return "none"
        return "; ".join(f"{one['model']} from {one['effective_from']}" for one in row.price_list)

    @admin.display(description="changed", ordering="updated_at")
    def changed(self, row: UsagePolicy) -> str:
        return moment(row.updated_at)

    def save_model(self, request: HttpRequest, obj: UsagePolicy, form: Any, change: bool) -> None:
        data = form.cleaned_data
        values = {name: data[name] for name in _CHOICES}
        with scope.tenant(obj.tenant_id):
            version = data["seen_version"] if change else policy_of(obj.tenant).version
            changed = change_policy(
                tenant=obj.tenant,
                version=version,
                mark_up=int(data["per_cent"] * _PER_CENT),
                **values,
            )
        adopt(obj, changed)
