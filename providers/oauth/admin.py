"""The operator's switchboard of logins in the console: what is on, for whom, and why."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString

from controlplane.console.forms import VersionedForm
from controlplane.console.pages import Page, adopt, moment
from controlplane.console.secrets import SecretField
from controlplane.kit import clock
from controlplane.kit.badges import Badge, Tone
from providers.catalog.loader import catalog
from providers.catalog.models import Provider
from providers.oauth.models import LoginSettings
from providers.oauth.switch import set_logins


class LoginSettingsForm(VersionedForm):
    client_secret = SecretField(label="Client secret")

    class Meta:
        model = LoginSettings
        fields = ("catalog_id", "provider", "is_on", "sharing", "permission", "overrides")
        help_texts = {
            "catalog_id": "A provider of the catalog, such as github-copilot.",
            "provider": "Or one registration of the platform that is not in the catalog.",
            "is_on": "Read what the vendor says about it first: it is shown before each login.",
            "sharing": "Whether administrators may sign in for all of their tenant, and staff for "
            "every tenant.",
            "permission": "Where and when the vendor permitted more than one person's use.",
            "overrides": 'What differs from the catalog: {"device": {"client_id": "…"}}.',
        }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "provider" in self.fields:
            choices: Any = self.fields["provider"]
            choices.queryset = Provider.objects.filter(tenant=None, catalog_id="")
        if self.instance.sealed_client_secret:
            secret: Any = self.fields["client_secret"]
            secret.keep("••••")


@admin.register(LoginSettings)
class LoginSettingsPage(Page):
    nav_group = "Providers"
    nav_title = "Login settings"
    nav_icon = "login"
    nav_order = 60
    empty_title = "No logins are switched on"
    empty_text = (
        "People can connect accounts of their own (Copilot, Kiro, ChatGPT …) at providers that "
        "you switch on here."
    )
    empty_label = "Switch one on"

    form = LoginSettingsForm
    list_display = ("title", "state", "shared", "position", "changed")
    list_filter = ("is_on", "sharing")
    search_fields = ("catalog_id",)
    ordering = ("catalog_id",)
    list_select_related = ("provider",)

    def get_readonly_fields(self, request: HttpRequest, obj: LoginSettings | None = None) -> Any:
        return () if obj is None else ("catalog_id", "provider", "position")

    def get_fieldsets(self, request: HttpRequest, obj: LoginSettings | None = None) -> Any:
        about = ["catalog_id", "provider"]
        if obj is not None:
            about.append("position")
        rest = ["is_on", "sharing", "permission", "overrides", "client_secret"]
        if obj is not None:
            rest.append("seen_version")
        return ((None, {"fields": [*about, *rest]}),)

    @admin.display(description="provider", ordering="catalog_id")
    def title(self, row: LoginSettings) -> SafeString:
        name = row.provider.slug if row.provider is not None else row.catalog_id
        return format_html('<span class="cell-main">{}</span>', name)

    @admin.display(description="state", ordering="is_on")
    def state(self, row: LoginSettings) -> SafeString:
        return Badge("On" if row.is_on else "Off", Tone.GOOD if row.is_on else Tone.QUIET).html()

    @admin.display(description="shared", ordering="sharing")
    def shared(self, row: LoginSettings) -> str:
        return row.get_sharing_display()

    @admin.display(description="the vendor's position")
    def position(self, row: LoginSettings) -> str:
        file = catalog().get(row.catalog_id) if row.catalog_id else None
        if file is None or file.subscription is None:
            return "none known"
        return file.subscription.position

    @admin.display(description="changed", ordering="updated_at")
    def changed(self, row: LoginSettings) -> str:
        return moment(row.updated_at)

    def save_model(self, request: HttpRequest, obj: LoginSettings, form: Any, change: bool) -> None:
        data = form.cleaned_data
        values = {
            "is_on": data["is_on"],
            "sharing": data["sharing"],
            "permission": data["permission"],
            "overrides": data["overrides"] or {},
            "client_secret": data["client_secret"],
            "now": clock.now(),
        }
        if change:
            row = LoginSettings.objects.get(pk=obj.pk)
            adopt(obj, set_logins(row, expected_version=data["seen_version"], **values))
            return
        provider = data["provider"]
        adopt(
            obj,
            set_logins(
                catalog_id=data["catalog_id"],
                provider_id=provider.pk if provider is not None else None,
                **values,
            ),
        )
