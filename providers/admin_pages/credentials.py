"""Credentials in the console: a secret goes in and never comes out; what shows is a fingerprint,
a state and dates."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Any, Final

from django import forms
from django.conf import settings
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from controlplane.console.actions import Confirm, bulk_action, confirm_one
from controlplane.console.form_pages import form_page
from controlplane.console.forms import PageForm, Section
from controlplane.console.pages import Page, detail_page, moment
from controlplane.console.secrets import SecretField
from controlplane.kit import clock
from providers.admin_pages.belonging import back_to_provider, given_provider, tell_check
from providers.admin_pages.detail import credential_badge, credential_holds
from providers.admin_pages.fields import identifier_field
from providers.admin_pages.listing import NEEDS_SOMEBODY, OwnerFilter
from providers.admin_pages.new import ENDPOINT
from providers.catalog.loader import catalog
from providers.catalog.models import Provider
from providers.credentials import services, timeline
from providers.credentials.elsewhere import problem_of
from providers.credentials.models import Credential
from providers.credentials.strip import strip_of
from providers.health.services import check_provider

SOON: Final = timedelta(days=7)
_BIG: Final = 2_147_483_647


class CredentialStateFilter(admin.SimpleListFilter):
    title = "state"
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [
            ("attention", "Needs somebody"),
            ("expiring", "Ends within 7 days"),
            ("resting", "Resting after failures"),
            ("usable", "Usable"),
            ("disabled", "Disabled"),
        ]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        states = Credential.State
        match self.value():
            case "attention":
                return queryset.filter(provider__is_enabled=True, state__in=NEEDS_SOMEBODY)
            case "expiring":
                ends = Q(expires_at__lte=clock.now() + SOON) | Q(state=states.EXPIRING)
                return queryset.filter(ends)
            case "resting":
                return queryset.filter(state=states.COOLING)
            case "usable":
                usable = (states.ACTIVE, states.EXPIRING, states.REFRESHING, states.COOLING)
                return queryset.filter(state__in=usable)
            case "disabled":
                return queryset.filter(state=states.DISABLED)
            case _:
                return queryset


class CredentialForm(PageForm):
    """`row` None = a new one. Its secret is only ever written."""

    label = forms.CharField(
        label="Name", max_length=120, help_text="Tells the keys of one provider apart."
    )
    source = forms.ChoiceField(
        label="Where the secret is", choices=Credential.Source.choices, initial="stored"
    )
    secret = SecretField(label="Secret")
    reference = forms.CharField(label="Its name there", max_length=500, required=False)
    priority = forms.IntegerField(
        label="Priority", min_value=-_BIG, max_value=_BIG, initial=0, help_text="Higher first."
    )
    weight = forms.IntegerField(
        label="Weight",
        min_value=0,
        max_value=1_000_000,
        initial=1,
        help_text="Share of requests at equal priority.",
    )
    proxy_url = forms.CharField(
        label="Proxy",
        max_length=500,
        required=False,
        widget=forms.TextInput(attrs={"spellcheck": "false"}),
        help_text="http://… or socks5://…, for this credential alone. Empty: the provider's; "
        "“direct”: none. Another one than before needs the secret again.",
    )
    sections: tuple[Section, ...] = ()

    def __init__(
        self, *args: Any, provider: Provider, row: Credential | None, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self.provider, self.row = provider, row
        file = catalog().get(provider.catalog_id)
        declared = file.auth.identifiers if file is not None else {}
        for name, known in declared.items():
            self.fields[ENDPOINT + name] = identifier_field(name, known, is_new=False)
        if row is not None:
            self._show(row)
        self._offer_sources()
        self.sections = (
            Section("", "", ("label", "source", "secret", "reference")),
            Section("Which one is used", "", ("priority", "weight"), is_grid=True),
            Section("Its way out", "", ("proxy_url",), is_folded=True),
            Section(
                "Identifiers of this account",
                "Only where they differ from the provider's.",
                tuple(name for name in self.fields if name.startswith(ENDPOINT)),
                is_folded=True,
            ),
        )
        self.dress()

    def _show(self, row: Credential) -> None:
        self.fields["seen_version"] = forms.IntegerField(widget=forms.HiddenInput)
        self.initial = {
            "seen_version": row.version,
            "label": row.label,
            "priority": row.priority,
            "weight": row.weight,
            "source": row.source,
            "reference": row.reference,
            "proxy_url": row.proxy_url,
            **{ENDPOINT + name: value for name, value in row.endpoint.items()},
        }
        secret = self.fields["secret"]
        assert isinstance(secret, SecretField)
        secret.label = "Another secret in its place"
        if row.fingerprint:
            secret.keep(row.fingerprint)
        if row.kind == Credential.Kind.OAUTH:
            # A login renews itself, or somebody signs in again: nothing to paste.
            del self.fields["secret"]

    def _offer_sources(self) -> None:
        """A tenant's secrets are stored here; the platform's may be where the operator keeps
        them."""
        if self.provider.tenant_id is not None or "secret" not in self.fields:
            del self.fields["source"], self.fields["reference"]
            if self.row is None:
                self.fields["secret"].required = True
            return
        self.fields["reference"].help_text = " ".join(
            (
                "For every other place than here:",
                f"a variable ({_listed(settings.SECRET_VARIABLES)} in SECRET_VARIABLES),",
                f"a file below {_listed(settings.SECRET_FOLDERS)} (SECRET_FOLDERS),",
                f"a command ({_listed(settings.SECRET_COMMANDS)} in SECRET_COMMANDS),",
                "mount/path#field in Vault, or a name or ARN with #field at AWS.",
            )
        )

    def clean(self) -> dict[str, Any]:
        data = super().clean() or self.cleaned_data
        if "source" not in self.fields or "source" not in data:
            return data
        source, secret, reference = data["source"], data.get("secret"), data.get("reference", "")
        if source == Credential.Source.STORED:
            data["reference"] = ""
            was_here = self.row is not None and self.row.source == source
            if not secret and not was_here and "secret" not in self.errors:
                self.add_error("secret", "Give the secret to store.")
        elif secret:
            self.add_error("secret", "Leave it empty: this credential's secret is kept elsewhere.")
        elif not reference:
            self.add_error("reference", "Say where the secret is kept.")
        elif problem := problem_of(source, reference):
            self.add_error("reference", problem)
        return data

    def place_of(self, parameter: str) -> str:
        return ENDPOINT + parameter if ENDPOINT + parameter in self.fields else parameter

    def endpoint(self) -> dict[str, str]:
        """What is given here, and what the form does not show as it was."""
        before = dict(self.row.endpoint) if self.row is not None else {}
        shown = {name for name in self.fields if name.startswith(ENDPOINT)}
        kept = {name: value for name, value in before.items() if ENDPOINT + name not in shown}
        given = {name.removeprefix(ENDPOINT): self.cleaned_data[name] for name in sorted(shown)}
        return {**kept, **{name: value for name, value in given.items() if value}}


@admin.register(Credential)
class CredentialPage(Page):
    nav_group = "Providers"
    nav_title = "Credentials"
    nav_icon = "vpn_key"
    nav_order = 20
    empty_title = "No credentials yet"
    empty_text = "Keys and logins belong to a provider: open one and add its key there."
    empty_url_name = "admin:providers_provider_changelist"
    empty_label = "Show providers"

    list_display = ("title", "state", "holds", "owner", "since", "ends")
    list_filter = (CredentialStateFilter, "kind", OwnerFilter)
    list_select_related = ("provider", "tenant")
    search_fields = ("label", "provider__slug", "provider__name", "fingerprint", "reference")
    search_help_text = "Name, provider or fingerprint"
    ordering = ("provider__slug", "label")
    actions = ("enable_many", "disable_many")
    actions_detail = ("test", "enable", "disable", "remove")

    def has_add_permission(self, request: HttpRequest) -> bool:
        # Made below a provider: the list itself offers no button for it.
        is_below = bool(request.GET.get("provider"))
        return is_below and bool(super().has_add_permission(request))

    def get_queryset(self, request: HttpRequest) -> QuerySet[Credential]:
        found: QuerySet[Credential] = super().get_queryset(request)
        return found.select_related("provider", "tenant").defer("sealed")

    @admin.display(description="credential", ordering="label")
    def title(self, row: Credential) -> SafeString:
        return format_html(
            '<span class="cell-main">{}</span> <span class="cell-sub">{} · {}</span>',
            row.label,
            row.provider.slug,
            row.get_kind_display(),
        )

    @admin.display(description="state", ordering="state")
    def state(self, row: Credential) -> SafeString:
        return credential_badge(row).html()

    @admin.display(description="holds")
    def holds(self, row: Credential) -> SafeString:
        return format_html('<span class="cell-code">{}</span>', credential_holds(row))

    @admin.display(description="owner", ordering="tenant__slug")
    def owner(self, row: Credential) -> str:
        return row.tenant.slug if row.tenant is not None else "Platform"

    @admin.display(description="since", ordering="state_since")
    def since(self, row: Credential) -> str:
        return moment(row.state_since or row.created_at)

    @admin.display(description="ends", ordering="expires_at")
    def ends(self, row: Credential) -> str:
        return moment(row.expires_at)

    def add_view(
        self, request: HttpRequest, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        provider = given_provider(self, request)
        if provider is None:
            return HttpResponseRedirect(reverse("admin:providers_provider_changelist"))
        if not self.has_add_permission(request):
            raise PermissionDenied
        initial = {} if provider.credentials.exists() else {"label": "default"}
        form = CredentialForm(request.POST or None, provider=provider, row=None, initial=initial)

        def save(data: dict[str, Any]) -> HttpResponse:
            services.add_credential(
                provider=provider,
                label=data["label"],
                secret=data["secret"],
                source=data.get("source", Credential.Source.STORED),
                reference=data.get("reference", ""),
                priority=data["priority"],
                weight=data["weight"],
                endpoint=form.endpoint(),
                proxy_url=data["proxy_url"],
            )
            messages.success(request, f"“{data['label']}” is stored. Test the connection now.")
            return back_to_provider(provider)

        return form_page(
            self,
            request,
            form,
            title=f"New key for {provider.slug}",
            button="Store",
            back_url=reverse("admin:providers_provider_change", args=[provider.pk]),
            do=save,
        )

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        row = self.row(request, object_id, to_change=False)
        can_change = self.has_change_permission(request, row)
        if request.method == "POST" and not can_change:
            raise PermissionDenied
        form = CredentialForm(request.POST or None, provider=row.provider, row=row)

        def save(data: dict[str, Any]) -> HttpResponse:
            services.change_credential(
                row,
                expected_version=data["seen_version"],
                secret=data.get("secret"),
                label=data["label"],
                priority=data["priority"],
                weight=data["weight"],
                endpoint=form.endpoint(),
                proxy_url=data["proxy_url"],
                **{name: data[name] for name in ("source", "reference") if name in data},
            )
            messages.success(request, f"“{row.label}” is saved.")
            return back_to_provider(row.provider)

        return form_page(
            self,
            request,
            form,
            title=row.label,
            button="Save",
            back_url=reverse("admin:providers_provider_change", args=[row.provider_id]),
            do=save,
            original=row,
            template="console/providers/credential.html",
            can_change=can_change,
            badge=credential_badge(row),
            holds=credential_holds(row),
            since=moment(row.state_since or row.created_at),
            ends=moment(row.expires_at, empty=""),
            made=moment(row.created_at),
            strip=strip_of(row, timeline.events_of(row), now=clock.now()),
            is_disabled=row.state == Credential.State.DISABLED,
            is_usable=row.state not in {Credential.State.DISABLED, *NEEDS_SOMEBODY},
        )

    @detail_page(label="Test connection", path="test", icon="cable")
    def test(self, request: HttpRequest, object_id: str) -> HttpResponse:
        row = self.row(request, object_id)
        if request.method == "POST":
            tell_check(request, *check_provider(row.provider, credential=row))
        return self.back_to(row)

    @detail_page(label="Enable", path="enable", icon="play_arrow")
    def enable(self, request: HttpRequest, object_id: str) -> HttpResponse:
        row = self.row(request, object_id)
        if request.method == "POST":
            if services.enable_credential(row):
                messages.success(request, f"Requests may use “{row.label}” again.")
            else:
                messages.info(request, f"“{row.label}” was active before.")
        return self.back_to(row)

    @detail_page(label="Disable now", path="disable", icon="block")
    def disable(self, request: HttpRequest, object_id: str) -> HttpResponse:
        row = self.row(request, object_id)
        if request.method == "POST":
            if services.disable_credential(row):
                messages.success(request, f"No request uses “{row.label}” from now on.")
            else:
                messages.info(request, f"“{row.label}” was disabled before.")
        return self.back_to(row)

    @detail_page(label="Remove", path="remove", icon="delete")
    def remove(self, request: HttpRequest, object_id: str) -> TemplateResponse | HttpResponse:
        row = self.row(request, object_id)
        question = confirm_one(self, request, row, _REMOVE)
        if question is not None:
            return question
        provider, label = row.provider, row.label
        services.remove_credential(row)
        messages.success(request, f"“{label}” is removed, and the secret with it.")
        return back_to_provider(provider)

    @bulk_action(label="Enable", done="enabled", already="active before")
    def enable_many(self, request: HttpRequest, row: Credential) -> bool:
        return services.enable_credential(row)

    @bulk_action(
        label="Disable now", done="disabled; no request uses them now", already="disabled before"
    )
    def disable_many(self, request: HttpRequest, row: Credential) -> bool:
        return services.disable_credential(row)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "none listed"


_REMOVE: Final = Confirm(
    "Remove this credential?",
    "Its secret is gone for good, and within a second no request uses it.",
    "Remove",
)
