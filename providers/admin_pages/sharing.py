"""Who may use a registration of the platform: every tenant, or those that are named."""

from __future__ import annotations

from typing import Any

from django import forms

from controlplane.console.forms import PageForm
from controlplane.console.tenant_fields import TenantsField, tenant_slugs
from providers.catalog.models import Provider
from providers.catalog.services import share
from providers.routing import expectations

_NAMED = 30


class SharingForm(PageForm):
    with_whom = forms.ChoiceField(
        label="May use it",
        choices=(("all", "Every tenant"), ("chosen", "Only the tenants named below")),
        widget=forms.RadioSelect,
    )

    def __init__(self, *args: Any, provider: Provider, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.provider = provider
        slugs = tenant_slugs()
        known = ", ".join(slugs[:_NAMED]) + (" …" if len(slugs) > _NAMED else "")
        self.fields["tenants"] = TenantsField(
            label="Tenants",
            help_text=f"Short names, one per line. There are: {known}."
            if slugs
            else "There is no tenant yet.",
        )
        chosen = provider.shares.select_related("tenant").order_by("tenant__slug")
        self.initial = {
            "with_whom": "all" if provider.is_shared_with_all else "chosen",
            "tenants": "\n".join(row.tenant.slug for row in chosen),
        }
        self.dress()


def save_sharing(form: SharingForm) -> str:
    """In one sentence, what holds now."""
    data = form.cleaned_data
    with_all = data["with_whom"] == "all"
    with expectations.guarded():
        share(form.provider, with_all=with_all, tenants=data["tenants"])
    if with_all:
        return "Every tenant may use it."
    names = ", ".join(tenant.slug for tenant in data["tenants"])
    return f"Only these tenants may use it: {names}." if names else "No tenant may use it now."
