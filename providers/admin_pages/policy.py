"""What holds for all registrations of a tenant, or of everybody, in the console."""

from __future__ import annotations

from typing import Any, Final

from django import forms
from django.contrib import admin
from django.core.exceptions import ValidationError
from django.http import HttpRequest

from controlplane.console.filters import TenantFilter
from controlplane.console.forms import VersionedForm
from controlplane.console.pages import Page, adopt, moment
from providers.catalog.models import RegistryPolicy
from providers.catalog.policy import EDITABLE, Policy, own_policy, set_policy
from providers.routing import expectations

_EVERYBODY: Final = "all tenants"
_NOT_SAID: Final = ("unknown", "Not said here")


class RegistryPolicyForm(VersionedForm):
    class Meta:
        model = RegistryPolicy
        fields = ("tenant", *EDITABLE)
        labels = {
            "force_model_prefix": "Only prefixed names",
            "shows_prices": "Tenants read prices",
            "allows_own_keys": "Requests may bring a key",
        }
        help_texts = {
            "tenant": "Empty: for every tenant that says nothing itself.",
            "force_model_prefix": "Where a registration has a prefix, its models answer to "
            "prefix/model and slug/model, no longer to their bare names.",
            "shows_prices": "Of the platform's registrations: in lists of models and in "
            "explanations of routes.",
            "allows_own_keys": "The provider's own, in the header x-provider-key. It is used for "
            "one request, kept nowhere, and billed by the vendor.",
        }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name in EDITABLE:
            choice = self.fields[name].widget
            assert isinstance(choice, forms.NullBooleanSelect)
            choice.choices = [_NOT_SAID, *list(choice.choices)[1:]]

    def clean_tenant(self) -> Any:
        tenant = self.cleaned_data["tenant"]
        known = own_policy(tenant.pk if tenant is not None else None)
        if self.instance._state.adding and not known._state.adding:
            raise ValidationError("There is a policy for it already: change that one.")
        return tenant


@admin.register(RegistryPolicy)
class RegistryPolicyPage(Page):
    nav_group = "Providers"
    nav_title = "Registry policies"
    nav_icon = "rule"
    nav_order = 50
    empty_title = "Nothing is said yet"
    empty_text = (
        "Without a policy, models answer to their bare names too, tenants read prices, and "
        "requests bring no keys of their own."
    )
    empty_label = "Set a policy"

    form = RegistryPolicyForm
    list_display = ("title", "names", "prices", "own_keys", "changed")
    list_filter = (TenantFilter,)
    list_select_related = ("tenant",)
    ordering = ("tenant__slug",)
    autocomplete_fields = ("tenant",)

    def get_readonly_fields(self, request: HttpRequest, obj: RegistryPolicy | None = None) -> Any:
        return () if obj is None else ("tenant",)

    def get_fieldsets(self, request: HttpRequest, obj: RegistryPolicy | None = None) -> Any:
        fields = ["tenant", *EDITABLE]
        return ((None, {"fields": fields if obj is None else [*fields, "seen_version"]}),)

    @admin.display(description="for", ordering="tenant__slug")
    def title(self, row: RegistryPolicy) -> str:
        return row.tenant.slug if row.tenant is not None else _EVERYBODY

    @admin.display(description="only prefixed names")
    def names(self, row: RegistryPolicy) -> str:
        return _told(row, "force_model_prefix")

    @admin.display(description="tenants read prices")
    def prices(self, row: RegistryPolicy) -> str:
        return _told(row, "shows_prices")

    @admin.display(description="requests may bring a key")
    def own_keys(self, row: RegistryPolicy) -> str:
        return _told(row, "allows_own_keys")

    @admin.display(description="changed", ordering="updated_at")
    def changed(self, row: RegistryPolicy) -> str:
        return moment(row.updated_at)

    def save_model(
        self, request: HttpRequest, obj: RegistryPolicy, form: Any, change: bool
    ) -> None:
        data = form.cleaned_data
        row = own_policy(obj.tenant_id)
        version = data["seen_version"] if change else None
        values = {name: data[name] for name in EDITABLE}
        with expectations.guarded():
            adopt(obj, set_policy(row, expected_version=version, **values))


def _told(row: RegistryPolicy, name: str) -> str:
    """Its word; where it says nothing, whose word holds instead."""
    value = getattr(row, name)
    if value is None and row.tenant_id is not None:
        return "as for all tenants"
    return "yes" if (getattr(Policy(), name) if value is None else value) else "no"
