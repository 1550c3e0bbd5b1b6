"""Models of a registration and its mappings, as pages of their own below it."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar, Final

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from controlplane.console.actions import Confirm, confirm_one
from controlplane.console.form_pages import form_page
from controlplane.console.forms import PageForm, Section
from controlplane.console.pages import Page, detail_page, sentence
from controlplane.kit.badges import Badge, Tone
from controlplane.kit.errors import GatewayError
from providers.admin_pages.belonging import back_to_provider, given_provider, provider_url
from providers.admin_pages.fields import protocol_choices
from providers.catalog import model_services as services
from providers.catalog.loader import catalog
from providers.catalog.models import ModelMapping, Provider, ProviderModel
from providers.protocols import registry
from providers.routing import expectations

_YES_NO: Final = {"": None, "yes": True, "no": False}
_AS_KNOWN: Final = (("", "As the catalog says"), ("yes", "Yes"), ("no", "No"))


class ModelForm(PageForm):
    upstream_id = forms.CharField(
        label="The provider's name for it",
        max_length=255,
        widget=forms.TextInput(attrs={"spellcheck": "false"}),
    )
    alias = forms.CharField(
        label="Clients may also say",
        max_length=255,
        required=False,
        widget=forms.TextInput(attrs={"spellcheck": "false"}),
    )
    is_enabled = forms.BooleanField(label="On: clients may use it", required=False, initial=True)
    display_name = forms.CharField(label="Name on screens", max_length=255, required=False)
    protocol = forms.ChoiceField(label="Protocol", required=False)
    context_window = forms.IntegerField(
        label="Context window", min_value=0, max_value=2_147_483_647, required=False
    )
    max_output_tokens = forms.IntegerField(
        label="Longest answer", min_value=0, max_value=2_147_483_647, required=False
    )
    supports_functions = forms.ChoiceField(
        label="Calls functions", required=False, choices=_AS_KNOWN
    )
    supports_streaming = forms.ChoiceField(label="Streams", required=False, choices=_AS_KNOWN)
    facts = forms.JSONField(
        label="Further facts",
        required=False,
        initial=dict,
        widget=forms.Textarea(attrs={"rows": 4, "spellcheck": "false", "class": "cell-code"}),
        help_text='As JSON, such as {"price": {"input": "0.50", "output": "1.50"}}: US dollars '
        "per million tokens.",
    )
    sections: tuple[Section, ...] = (
        Section("", "", ("upstream_id", "alias", "is_enabled")),
        Section(
            "What is known of it",
            "Empty: as the catalog says, then as the provider's defaults say.",
            ("context_window", "max_output_tokens", "supports_functions", "supports_streaming"),
            is_grid=True,
        ),
        Section("More", "", ("display_name", "protocol", "facts"), is_folded=True),
    )

    def __init__(
        self, *args: Any, provider: Provider, row: ProviderModel | None, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        protocol = self.fields["protocol"]
        assert isinstance(protocol, forms.ChoiceField)
        protocol.choices = self._protocols(provider, row)
        if row is not None:
            self.fields["seen_version"] = forms.IntegerField(widget=forms.HiddenInput)
            self.initial = {
                "seen_version": row.version,
                **{name: getattr(row, name) for name in services.MODEL_FIELDS},
                **{
                    name: {None: "", True: "yes", False: "no"}[getattr(row, name)]
                    for name in ("supports_functions", "supports_streaming")
                },
            }

    def _protocols(self, provider: Provider, row: ProviderModel | None) -> list[tuple[str, str]]:
        file = catalog().get(provider.catalog_id)
        if file is None or provider.base_url:
            choices = [("", "As the provider's"), *((slug, slug) for slug in registry.slugs())]
        else:
            choices = protocol_choices(file)
        own = row.protocol if row is not None else ""
        return choices if own in dict(choices) else [*choices, (own, own)]

    def values(self) -> dict[str, Any]:
        data = self.cleaned_data
        return {
            **{name: data[name] for name in services.MODEL_FIELDS},
            "supports_functions": _YES_NO[data["supports_functions"]],
            "supports_streaming": _YES_NO[data["supports_streaming"]],
            "facts": data["facts"] or {},
        }


class MappingForm(PageForm):
    client_model = forms.CharField(
        label="When a client asks for",
        max_length=255,
        widget=forms.TextInput(attrs={"spellcheck": "false"}),
    )
    upstream_model = forms.CharField(
        label="this provider is asked for",
        max_length=255,
        widget=forms.TextInput(attrs={"spellcheck": "false"}),
    )

    def __init__(self, *args: Any, row: ModelMapping | None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if row is not None:
            self.fields["seen_version"] = forms.IntegerField(widget=forms.HiddenInput)
            self.initial = {
                "seen_version": row.version,
                "client_model": row.client_model,
                "upstream_model": row.upstream_model,
            }


class _Below(Page):
    """A page of something that one provider has. Its list is no entry of the sidebar."""

    empty_url_name = "admin:providers_provider_changelist"
    empty_label = "Show providers"
    list_select_related = ("provider",)
    list_filter: ClassVar[tuple[Any, ...]] = ()
    actions_detail = ("remove",)
    # Where on the provider's page it is.
    part: ClassVar[str] = ""

    def has_add_permission(self, request: HttpRequest) -> bool:
        is_below = bool(request.GET.get("provider"))
        return is_below and bool(super().has_add_permission(request))

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        found: QuerySet[Any] = super().get_queryset(request)
        return found.select_related("provider")

    @admin.display(description="provider", ordering="provider__slug")
    def of_provider(self, row: Any) -> SafeString:
        return format_html(
            '<a class="link" href="{}">{}</a>', provider_url(row.provider), row.provider.slug
        )

    @abstractmethod
    def form_for(self, request: HttpRequest, provider: Provider, row: Any) -> PageForm: ...

    @abstractmethod
    def create(self, provider: Provider, form: Any) -> None: ...

    @abstractmethod
    def change(self, row: Any, form: Any) -> None: ...

    @abstractmethod
    def take_away(self, row: Any) -> None: ...

    def add_view(
        self, request: HttpRequest, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        provider = given_provider(self, request)
        if provider is None:
            return HttpResponseRedirect(reverse("admin:providers_provider_changelist"))
        if not self.has_add_permission(request):
            raise PermissionDenied
        form = self.form_for(request, provider, None)

        def save(_: dict[str, Any]) -> HttpResponse:
            self.create(provider, form)
            messages.success(request, "Saved.")
            return back_to_provider(provider, self.part)

        return form_page(
            self,
            request,
            form,
            title=f"New {self.opts.verbose_name} of {provider.slug}",
            button="Save",
            back_url=provider_url(provider) + self.part,
            do=save,
        )

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        row = self.row(request, object_id)
        form = self.form_for(request, row.provider, row)

        def save(_: dict[str, Any]) -> HttpResponse:
            self.change(row, form)
            messages.success(request, "Saved.")
            return back_to_provider(row.provider, self.part)

        return form_page(
            self,
            request,
            form,
            title=f"{row} of {row.provider.slug}",
            button="Save",
            back_url=provider_url(row.provider) + self.part,
            do=save,
            original=row,
            remove_url=self.url_of("remove", row.pk),
        )

    @detail_page(label="Remove", path="remove", icon="delete")
    def remove(self, request: HttpRequest, object_id: str) -> HttpResponse:
        row = self.row(request, object_id)
        question = confirm_one(self, request, row, self.question)
        if question is not None:
            return question
        provider, name = row.provider, str(row)
        try:
            self.take_away(row)
        except GatewayError as error:
            messages.error(request, sentence(error))
        else:
            messages.success(request, f"{name} is removed.")
        return back_to_provider(provider, self.part)

    question: ClassVar[Confirm]


@admin.register(ProviderModel)
class ModelPage(_Below):
    part = "#models"
    empty_title = "No changed models"
    empty_text = "What is said here of single models, beside the catalog. Open a provider first."
    list_display = ("title", "of_provider", "state", "from_where")
    list_filter = ("origin", "is_enabled")
    search_fields = ("upstream_id", "alias", "display_name", "provider__slug")
    ordering = ("provider__slug", "upstream_id", "alias")
    question = Confirm(
        "Take this back?",
        "What was said here of the model is gone; the catalog's own word counts again. A model "
        "that the catalog does not know is then not offered.",
        "Take it back",
    )

    @admin.display(description="model", ordering="upstream_id")
    def title(self, row: ProviderModel) -> SafeString:
        return format_html(
            '<span class="cell-main">{}</span> <span class="cell-sub">{}</span>',
            row.upstream_id,
            row.alias,
        )

    @admin.display(description="state", ordering="is_enabled")
    def state(self, row: ProviderModel) -> SafeString:
        badge = Badge("On", Tone.GOOD) if row.is_enabled else Badge("Off", Tone.QUIET)
        return badge.html()

    @admin.display(description="from", ordering="origin")
    def from_where(self, row: ProviderModel) -> str:
        return row.get_origin_display()

    def form_for(self, request: HttpRequest, provider: Provider, row: Any) -> PageForm:
        initial = {"upstream_id": request.GET.get("model", "")[:255]}
        return ModelForm(request.POST or None, provider=provider, row=row, initial=initial)

    def create(self, provider: Provider, form: Any) -> None:
        with expectations.guarded():
            services.add_model(provider=provider, **form.values())

    def change(self, row: Any, form: Any) -> None:
        with expectations.guarded():
            services.change_model(
                row, expected_version=form.cleaned_data["seen_version"], **form.values()
            )

    def take_away(self, row: Any) -> None:
        with expectations.guarded():
            services.remove_model(row)


@admin.register(ModelMapping)
class MappingPage(_Below):
    part = "#mappings"
    empty_title = "No mappings"
    empty_text = "When a client asks for one model, a provider is asked for another."
    list_display = ("title", "upstream_model", "of_provider")
    search_fields = ("client_model", "upstream_model", "provider__slug")
    ordering = ("provider__slug", "client_model")
    question = Confirm(
        "Remove this mapping?", "Clients that use this name are told that there is none.", "Remove"
    )

    @admin.display(description="client asks for", ordering="client_model")
    def title(self, row: ModelMapping) -> SafeString:
        return format_html('<span class="cell-main">{}</span>', row.client_model)

    def form_for(self, request: HttpRequest, provider: Provider, row: Any) -> PageForm:
        return MappingForm(request.POST or None, row=row)

    def create(self, provider: Provider, form: Any) -> None:
        data = form.cleaned_data
        with expectations.guarded():
            services.add_mapping(
                provider, client_model=data["client_model"], upstream_model=data["upstream_model"]
            )

    def change(self, row: Any, form: Any) -> None:
        data = form.cleaned_data
        with expectations.guarded():
            services.change_mapping(
                row,
                expected_version=data["seen_version"],
                client_model=data["client_model"],
                upstream_model=data["upstream_model"],
            )

    def take_away(self, row: Any) -> None:
        with expectations.guarded():
            services.remove_mapping(row)
