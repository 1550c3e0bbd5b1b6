"""A new registration: the form, pre-filled from the catalog, and what it does when it is sent."""

from __future__ import annotations

from typing import Any, Final

from django import forms

from controlplane.console.forms import PageForm, Section
from controlplane.console.secrets import SecretField
from controlplane.console.tenant_fields import TenantField
from providers.admin_pages.fields import (
    PASTED,
    auth_choices,
    identifier_field,
    protocol_choices,
)
from providers.catalog.models import SLUG, Provider
from providers.catalog.schema import ProviderFile
from providers.catalog.services import register
from providers.credentials.services import add_credential
from providers.routing import expectations

ENDPOINT: Final = "endpoint_"


class NewProviderForm(PageForm):
    """`file` None = a provider of one's own, which gives protocol and base URL itself."""

    slug = forms.CharField(
        label="Short name",
        max_length=63,
        validators=[SLUG],
        help_text="Part of model names such as openai/gpt-5. It stays for ever.",
        widget=forms.TextInput(attrs={"spellcheck": "false", "autocapitalize": "none"}),
    )
    name = forms.CharField(
        label="Name", max_length=120, required=False, help_text="What people call it."
    )
    protocol = forms.ChoiceField(label="Protocol", help_text="How the provider is spoken to.")
    base_url = forms.CharField(
        label="Base URL",
        max_length=500,
        widget=forms.URLInput(attrs={"spellcheck": "false"}),
        help_text="Up to and with the version, such as https://models.example.com/v1.",
    )
    auth_type = forms.ChoiceField(label="How it is signed in to", required=False)
    secret = SecretField(label="API key")

    def __init__(self, *args: Any, file: ProviderFile | None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.file = file
        self.fields["owner"] = TenantField(
            label="Belongs to",
            help_text="A tenant's short name: only that tenant uses it, and its admins manage it. "
            "Empty: the platform's, for every tenant.",
        )
        identifiers = file.auth.identifiers if file is not None else {}
        for name, known in identifiers.items():
            self.fields[ENDPOINT + name] = identifier_field(name, known, is_new=True)
        if file is None:
            self._shape_custom()
        else:
            self._shape_known(file)
        self.dress()

    def _shape_custom(self) -> None:
        self._choose("protocol", protocol_choices(None), is_required=True)
        self._choose("auth_type", auth_choices(None), is_required=True)
        self.initial.setdefault("auth_type", "api_key")
        self.fields["name"].required = False
        self.sections = (
            Section("The server", "", ("protocol", "base_url")),
            Section("Credential", "", ("auth_type", "secret")),
            Section("Whose it is", "", ("owner",)),
        )

    def _shape_known(self, file: ProviderFile) -> None:
        self.initial.setdefault("slug", file.id)
        self.initial.setdefault("name", file.name)
        self._choose("protocol", protocol_choices(file))
        self._choose("auth_type", auth_choices(file))
        self.fields["base_url"].required = False
        self.fields["base_url"].widget.attrs["placeholder"] = file.base_url
        self.fields["base_url"].help_text = "Only if yours differs from the catalog's."
        if len(self.fields["protocol"].choices) <= 2:  # type: ignore[attr-defined]  # a ChoiceField
            del self.fields["protocol"]
        if not file.auth.alternatives:
            del self.fields["auth_type"]
        if not {file.auth.type, *file.auth.alternatives} & PASTED:
            del self.fields["secret"]
        identifiers = tuple(name for name in self.fields if name.startswith(ENDPOINT))
        address = ("base_url", "protocol")
        others = (
            Section("Your account", "", identifiers),
            Section("Credential", "", ("auth_type", "secret")),
            Section("Whose it is", "", ("owner",)),
        )
        if file.kind == "custom":
            # A server of one's own is seldom where the catalog supposes it.
            self.fields["base_url"].help_text = f"Empty: {file.base_url}."
            self.sections = (Section("The server", "", address), *others)
            return
        text = "What the catalog says of it holds unless you say otherwise here."
        self.sections = (*others, Section("Another address", text, address, is_folded=True))

    def _choose(
        self, name: str, choices: list[tuple[str, str]], *, is_required: bool = False
    ) -> None:
        field = self.fields[name]
        assert isinstance(field, forms.ChoiceField)
        field.choices = choices
        field.required = is_required

    def clean(self) -> dict[str, Any]:
        data = super().clean() or self.cleaned_data
        usual = self.file.auth.type if self.file is not None else ""
        if data.get("secret") and (data.get("auth_type") or usual) == "none":
            # It would be stored and never sent.
            self.add_error(
                "auth_type", "Choose how the key is used, or leave it out: now none would be sent."
            )
        return data

    def place_of(self, parameter: str) -> str:
        return ENDPOINT + parameter if ENDPOINT + parameter in self.fields else parameter


def register_from(form: NewProviderForm, data: dict[str, Any]) -> Provider:
    """The registration and, where one was given, its first credential: both or neither."""
    endpoint = {
        name.removeprefix(ENDPOINT): value
        for name, value in data.items()
        if name.startswith(ENDPOINT) and value
    }
    owner = data["owner"]
    with expectations.guarded():
        provider = register(
            slug=data["slug"],
            tenant_id=owner.pk if owner is not None else None,
            catalog_id=form.file.id if form.file is not None else "",
            name=data["name"],
            protocol=data.get("protocol", ""),
            base_url=data.get("base_url", ""),
            auth_type=data.get("auth_type", ""),
            endpoint=endpoint,
        )
        if data.get("secret"):
            add_credential(provider=provider, label="default", secret=data["secret"])
    return provider


def free_slug(wanted: str) -> str:
    """`openai`, or `openai-2` where the platform has that already."""
    taken = set(
        Provider.objects.filter(tenant=None, slug__startswith=wanted).values_list("slug", flat=True)
    )
    numbered = (f"{wanted[:60]}-{number}" for number in range(2, 10_000))
    return wanted if wanted not in taken else next(s for s in numbered if s not in taken)
