"""Registrations in the console: how each fares, what it offers, and what may be done with it."""

from __future__ import annotations

from typing import Any, Final

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from controlplane.console.actions import bulk_action
from controlplane.console.form_pages import form_page
from controlplane.console.pages import NavEntry, Page, detail_page, list_page, moment, sentence
from controlplane.kit.errors import GatewayError
from providers.admin_pages import capabilities, changes, detail, listing
from providers.admin_pages.belonging import tell_check
from providers.admin_pages.new import NewProviderForm, free_slug, register_from
from providers.admin_pages.picker import shelf
from providers.admin_pages.settings_form import SettingsForm, save_settings
from providers.admin_pages.sharing import SharingForm, save_sharing
from providers.catalog import services
from providers.catalog.loader import catalog
from providers.catalog.model_services import add_default_mappings
from providers.catalog.models import Provider
from providers.health.models import Finding
from providers.health.services import check_provider
from providers.inventory.services import refresh_provider
from providers.routing import expectations

CUSTOM: Final = "custom"


@admin.register(Provider)
class ProviderPage(Page):
    nav_group = "Providers"
    nav_title = "Providers"
    nav_icon = "dns"
    nav_order = 10
    nav_more = (NavEntry("Capabilities", "grid_on", "capabilities", 40),)
    empty_title = "No providers yet"
    empty_text = (
        "A provider is where requests go: a vendor, a cloud, or a server of your own. Pick one "
        "from the catalog and paste its key."
    )
    empty_label = "Add the first provider"

    list_display = ("title", "state", "health", "traffic", "models", "owner")
    list_filter = (listing.StandingFilter, "kind", listing.OwnerFilter)
    search_fields = ("slug", "name", "catalog_id", "base_url", "tenant__slug")
    search_help_text = "Name, address or tenant"
    ordering = ("slug",)
    actions = ("enable_many", "disable_many")
    actions_list = ("capabilities",)
    actions_list_hide_default = False
    actions_detail = (
        *("settings", "sharing", "test", "refresh", "enable", "disable", "remove"),
        *("switch_models", "default_mappings"),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Provider]:
        rows: QuerySet[Provider] = super().get_queryset(request)
        return listing.checked(rows)

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        changes = super().get_changelist_instance(request)
        # Looked up for the rows of this page only.
        changes.result_list = list(changes.result_list.prefetch_related("models"))
        facts = listing.facts_of(changes.result_list)
        for row in changes.result_list:
            row.facts = facts[row.pk]
        return changes

    # --- The list's columns

    @admin.display(description="provider", ordering="slug")
    def title(self, row: Provider) -> SafeString:
        return format_html(
            '<span class="cell-main">{}</span> <span class="cell-sub">{} · {}</span>',
            row.name or row.slug,
            row.slug,
            row.get_kind_display(),
        )

    @admin.display(description="state")
    def state(self, row: Any) -> SafeString:
        standing = row.facts.standing
        return format_html('<span title="{}">{}</span>', row.facts.problem, standing.badge.html())

    @admin.display(description="last check")
    def health(self, row: Any) -> SafeString | str:
        if row.facts.problem:
            return format_html('<span class="cell-sub">{}</span>', row.facts.problem)
        if row.health_finding is None:
            return "never"
        return format_html(
            '<span class="cell-clip" title="{}">{}</span> <span class="cell-sub">{}</span>',
            row.health_sentence,
            Finding.of(row.health_finding).label,
            moment(row.health_at),
        )

    @admin.display(description="last hour")
    def traffic(self, row: Any) -> SafeString | str:
        facts = row.facts
        if not facts.requests:
            return "–"
        failed = facts.requests - facts.answered
        note = f"{failed:,} failed" if failed else "all answered"
        return format_html(
            '{} <span class="cell-sub">{}</span>', f"{facts.requests:,} requests", note
        )

    @admin.display(description="models")
    def models(self, row: Any) -> str:
        return f"{row.facts.models:,}"

    @admin.display(description="owner", ordering="tenant__slug")
    def owner(self, row: Any) -> SafeString | str:
        return detail.owner_text(row, shares=row.facts.shares)

    # --- One registration

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        if request.method == "POST":
            return HttpResponseNotAllowed(("GET", "HEAD"))
        provider = self.row(request, object_id, to_change=False)
        context = detail.context_of(provider, request.GET)
        return TemplateResponse(
            request,
            "console/providers/provider.html",
            self.context(
                request,
                provider.slug,
                original=provider,
                can_change=self.has_change_permission(request, provider),
                **context,
            ),
        )

    def add_view(
        self, request: HttpRequest, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        if not self.has_add_permission(request):
            raise PermissionDenied
        chosen = request.GET.get("type", "")
        file = catalog().get(chosen)
        if file is None and chosen != CUSTOM:
            search = request.GET.get("find", "")[:100]
            return TemplateResponse(
                request,
                "console/providers/pick.html",
                self.context(
                    request,
                    "New provider",
                    groups=shelf(search),
                    search=search,
                    unknown=chosen[:100],
                    back_url=self.url_of("changelist"),
                ),
            )
        initial = {"slug": free_slug(file.id)} if file is not None else {}
        form = NewProviderForm(request.POST or None, file=file, initial=initial)

        def save(data: dict[str, Any]) -> HttpResponse:
            provider = register_from(form, data)
            messages.success(
                request, f"{provider.name or provider.slug} is registered. Test the connection now."
            )
            return self.back_to(provider)

        return form_page(
            self,
            request,
            form,
            title=f"New provider: {file.name}" if file is not None else "New provider of your own",
            button="Register",
            back_url=self.url_of("add"),
            do=save,
            template="console/providers/new.html",
            file=file,
        )

    @detail_page(label="Settings", path="settings", icon="tune")
    def settings(self, request: HttpRequest, object_id: str) -> HttpResponse:
        provider = self.row(request, object_id)
        form = SettingsForm(request.POST or None, provider=provider)

        def save(_: dict[str, Any]) -> HttpResponse:
            if save_settings(form):
                messages.success(request, f"The settings of {provider.slug} are saved.")
            else:
                messages.info(request, "Nothing was changed.")
            return self.back_to(provider)

        return form_page(
            self,
            request,
            form,
            title=f"Settings of {provider.slug}",
            intro="What is left empty is the catalog's to say."
            if form.file is not None
            else "A provider of your own: everything said of it is said here.",
            button="Save",
            back_url=self.url_of("change", provider.pk),
            do=save,
            original=provider,
        )

    @detail_page(label="Sharing", path="sharing", icon="group")
    def sharing(self, request: HttpRequest, object_id: str) -> HttpResponse:
        provider = self.row(request, object_id)
        if provider.tenant_id is not None:
            messages.info(request, "It belongs to one tenant; only the platform's are shared.")
            return self.back_to(provider)
        form = SharingForm(request.POST or None, provider=provider)

        def save(_: dict[str, Any]) -> HttpResponse:
            messages.success(request, save_sharing(form))
            return self.back_to(provider)

        return form_page(
            self,
            request,
            form,
            title=f"Who may use {provider.slug}",
            button="Save",
            back_url=self.url_of("change", provider.pk),
            do=save,
            original=provider,
        )

    @detail_page(label="Test connection", path="test", icon="cable")
    def test(self, request: HttpRequest, object_id: str) -> HttpResponse:
        provider = self.row(request, object_id)
        if request.method == "POST":
            tell_check(request, *check_provider(provider))
        return self.back_to(provider)

    @detail_page(label="Refresh models", path="refresh", icon="sync")
    def refresh(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Asks and shows what would change; a second POST, with yes, writes it."""
        provider = self.row(request, object_id)
        if request.method != "POST":
            return self.back_to(provider)
        is_applied = request.POST.get("confirmed") == "yes"
        done = refresh_provider(provider, write=is_applied)
        if done.problem:
            messages.error(request, done.problem)
            return self.back_to(provider)
        if not done.sources:
            messages.info(request, "This provider has no list of models to ask for.")
            return self.back_to(provider)
        if is_applied:
            messages.success(request, changes.told(done))
            return self.back_to(provider)
        if done.difference.is_empty:
            messages.info(request, "The provider's list says nothing new.")
            return self.back_to(provider)
        return TemplateResponse(
            request,
            "console/providers/refresh.html",
            self.context(
                request,
                f"Models of {provider.slug}",
                original=provider,
                back_url=self.url_of("change", provider.pk),
                **changes.context_of(provider, done),
            ),
        )

    @detail_page(label="Enable", path="enable", icon="play_arrow")
    def enable(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self._switch(request, object_id, is_enabled=True)

    @detail_page(label="Disable now", path="disable", icon="block")
    def disable(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self._switch(request, object_id, is_enabled=False)

    def _switch(self, request: HttpRequest, object_id: str, *, is_enabled: bool) -> HttpResponse:
        provider = self.row(request, object_id)
        if request.method == "POST":
            word = "on" if is_enabled else "off"
            if services.set_enabled(provider, is_enabled=is_enabled):
                effect = "Requests may use it" if is_enabled else "No request uses it"
                messages.success(request, f"{provider.slug} is {word}. {effect} from now on.")
            else:
                messages.info(request, f"{provider.slug} was {word} before.")
        return self.back_to(provider)

    @detail_page(label="Remove", path="remove", icon="delete")
    def remove(self, request: HttpRequest, object_id: str) -> HttpResponse:
        provider = self.row(request, object_id)
        if request.method == "POST" and request.POST.get("confirmed") == "yes":
            services.remove(provider)
            messages.success(request, f"{provider.slug} is removed, with all that belonged to it.")
            return HttpResponseRedirect(self.url_of("changelist"))
        return TemplateResponse(
            request,
            "console/providers/remove.html",
            self.context(
                request,
                f"Remove {provider.slug}?",
                original=provider,
                depends=detail.dependents(provider),
                back_url=self.url_of("change", provider.pk),
            ),
        )

    @detail_page(label="Switch models", path="models", icon="toggle_on")
    def switch_models(self, request: HttpRequest, object_id: str) -> HttpResponse:
        provider = self.row(request, object_id)
        if request.method == "POST":
            is_on = request.POST.get("to") == "on"
            chosen = [name for name in request.POST.getlist("model") if name.isprintable()][:1000]
            try:
                with expectations.guarded():
                    count = changes.switch_models(provider, chosen, is_enabled=is_on)
            except GatewayError as error:
                messages.error(request, sentence(error))
            else:
                models = "1 model" if count == 1 else f"{count} models"
                tell = messages.success if count else messages.info
                tell(request, f"{models} switched {'on' if is_on else 'off'}.")
        query = detail.list_query(request.POST)
        return HttpResponseRedirect(f"{self.url_of('change', provider.pk)}{query}#models")

    @detail_page(label="Add the usual mappings", path="default-mappings", icon="alt_route")
    def default_mappings(self, request: HttpRequest, object_id: str) -> HttpResponse:
        provider = self.row(request, object_id)
        if request.method == "POST":
            count = add_default_mappings(provider)
            messages.success(request, f"{count} mapping{'' if count == 1 else 's'} added.")
        return HttpResponseRedirect(f"{self.url_of('change', provider.pk)}#mappings")

    # --- Across registrations

    @list_page(label="Capabilities", path="capabilities", icon="grid_on")
    def capabilities(self, request: HttpRequest) -> HttpResponse:
        if not self.has_view_permission(request):
            raise PermissionDenied
        return TemplateResponse(
            request,
            "console/providers/capabilities.html",
            self.context(
                request,
                "Capabilities",
                is_fullwidth="1",
                **capabilities.context_of(request.GET),
            ),
        )

    @bulk_action(label="Enable", done="switched on", already="on before")
    def enable_many(self, request: HttpRequest, row: Provider) -> bool:
        return services.set_enabled(row, is_enabled=True)

    @bulk_action(
        label="Disable now", done="switched off; no request uses them now", already="off before"
    )
    def disable_many(self, request: HttpRequest, row: Provider) -> bool:
        return services.set_enabled(row, is_enabled=False)
