"""How a tenant's requests reserve and are charged, in the console."""

from __future__ import annotations

from contextlib import AbstractContextManager
from decimal import Decimal
from typing import Any, Final

from django import forms
from django.contrib import admin
from django.core.exceptions import ValidationError
from django.http import HttpRequest

from controlplane.console.filters import TenantFilter
from controlplane.console.forms import VersionedForm
from controlplane.console.pages import Page, adopt, moment
from controlplane.console.price_list_field import PriceListField
from tenants import scope
from tenants.members.models import Tenant
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
        help_text="On top of what providers charge; -10 is a discount. Listed prices go before it.",
    )
    prices = PriceListField()

    class Meta:
        model = UsagePolicy
        fields = ("tenant", *_CHOICES)
        help_texts = {
            "tenant": "Empty: every tenant without a policy of its own. That price list also "
            "stands behind each tenant's own.",
            "reservation": "What a request holds of its budgets until its usage is known.",
            "durability": "When the ledger's rows are on disk.",
            "unpriced": "What happens to a request for a model whose price nobody knows.",
        }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.initial["prices"] = self.instance.price_list
        self.initial["per_cent"] = f"{Decimal(self.instance.mark_up) / _PER_CENT:f}"

    def clean_tenant(self) -> Any:
        tenant = self.cleaned_data["tenant"]
        with _scope_of(tenant):
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
        "price are served and marked. Other terms, for a tenant or for all, are a policy here."
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
        return () if obj is None else ("owner",)

    def get_fieldsets(self, request: HttpRequest, obj: UsagePolicy | None = None) -> Any:
        fields = ("per_cent", "prices", *_CHOICES)
        whose = ("tenant", *fields) if obj is None else ("owner", *fields, "seen_version")
        return ((None, {"fields": whose}),)

    @admin.display(description="tenant")
    def owner(self, row: UsagePolicy) -> str:
        return self.title(row)

    @admin.display(description="tenant", ordering="tenant__slug")
    def title(self, row: UsagePolicy) -> str:
        return "everybody else" if row.tenant is None else row.tenant.slug

    @admin.display(description="charged")
    def charged(self, row: UsagePolicy) -> str:
        agreed = len(row.price_list)
        basis = f"{agreed} agreed price{'' if agreed == 1 else 's'}, else " if agreed else ""
        mark_up = Decimal(row.mark_up) / _PER_CENT
        return f"{basis}the provider's price{f' {mark_up:+f} %' if mark_up else ''}"

    @admin.display(description="changed", ordering="updated_at")
    def changed(self, row: UsagePolicy) -> str:
        return moment(row.updated_at)

    def save_model(self, request: HttpRequest, obj: UsagePolicy, form: Any, change: bool) -> None:
        data = form.cleaned_data
        values = {name: data[name] for name in _CHOICES}
        with _scope_of(obj.tenant):
            version = data["seen_version"] if change else policy_of(obj.tenant).version
            changed = change_policy(
                tenant=obj.tenant,
                version=version,
                mark_up=int(data["per_cent"] * _PER_CENT),
                price_list=data["prices"],
                **values,
            )
        adopt(obj, changed)


def _scope_of(tenant: Tenant | None) -> AbstractContextManager[None]:
    if tenant is None:
        return scope.platform("how the platform charges")
    return scope.tenant(tenant.pk)
