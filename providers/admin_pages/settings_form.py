"""What a registration itself says, as a form. Empty = as the catalog says; only what was changed is
saved."""

from __future__ import annotations

import uuid
from typing import Any, Final

from django import forms
from django.core.exceptions import ValidationError

from controlplane.console.forms import LinesField, PageForm, Section
from controlplane.console.secrets import SecretField
from controlplane.kit.errors import GatewayError
from controlplane.kit.secret import Secret
from providers.admin_pages.fields import (
    HeadersField,
    auth_choices,
    identifier_field,
    protocol_choices,
)
from providers.admin_pages.new import ENDPOINT
from providers.catalog.destinations import SecretNeededAgain
from providers.catalog.loader import catalog
from providers.catalog.models import SLUG, Provider
from providers.catalog.schema import ProviderFile
from providers.catalog.services import change_registration
from providers.catalog.settings_shown import limits_of
from providers.catalog.validators import FEATURES, LIMITS
from providers.credentials.models import Credential
from providers.routing import expectations

_LIMIT: Final = "limit_"
_FEATURE: Final = "feature_"
_AGAIN: Final = "secret_"
_BIG: Final = 2_147_483_647
_YES_NO: Final = {"yes": True, "no": False}
# Fields of the form that are columns of the row, as they are.
_PLAIN: Final = (
    *("name", "protocol", "base_url", "auth_type", "headers", "prefix", "priority", "weight"),
    *("excluded_models", "passes_unknown_models", "store_responses", "default_context_window"),
    *("default_max_output_tokens", "cooldown_seconds", "quirks", "proxy_url", "ca_certificate"),
    *("connect_timeout_seconds", "first_byte_timeout_seconds", "idle_timeout_seconds"),
    *("total_timeout_seconds", "fallback_notes"),
)


def _number(label: str, *, least: int = 0, most: int = _BIG, **more: Any) -> forms.IntegerField:
    return forms.IntegerField(label=label, min_value=least, max_value=most, **more)


def _seconds(label: str) -> forms.FloatField:
    return forms.FloatField(
        label=label, min_value=0.1, max_value=3600, required=False, help_text="In seconds."
    )


class SettingsForm(PageForm):
    seen_version = forms.IntegerField(widget=forms.HiddenInput)
    name = forms.CharField(label="Name", max_length=120, required=False)
    protocol = forms.ChoiceField(label="Protocol", required=False)
    base_url = forms.CharField(
        label="Base URL",
        max_length=500,
        required=False,
        widget=forms.URLInput(attrs={"spellcheck": "false"}),
    )
    auth_type = forms.ChoiceField(label="How it is signed in to", required=False)
    headers = HeadersField(
        label="Headers", help_text="Sent with every request, one Name: value per line. No secrets."
    )
    secret_headers = HeadersField(is_secret=True, label="Secret headers")
    removes_secret_headers = forms.BooleanField(
        label="Take the stored secret headers away", required=False
    )
    prefix = forms.CharField(  # type: ignore[assignment]  # fields are taken off the class
        label="Prefix",
        max_length=63,
        required=False,
        validators=[SLUG],
        help_text="Clients may ask for prefix/model.",
    )
    force_model_prefix = forms.ChoiceField(
        label="Only with the prefix",
        required=False,
        choices=(("", "As the tenant's policy says"), ("yes", "Yes"), ("no", "No")),
    )
    priority = _number("Priority", least=-_BIG, help_text="Higher is tried first.")
    weight = _number("Weight", most=1_000_000, help_text="Share of requests at equal priority.")
    excluded_models = LinesField(
        label="Hidden models", help_text="Names or globs such as *-preview, one per line."
    )
    passes_unknown_models = forms.BooleanField(
        label="Offer every model that the provider lists, also those nobody has looked at",
        required=False,
    )
    store_responses = forms.BooleanField(
        label="Let the provider keep answers (store: true)", required=False
    )
    default_context_window = _number(
        "Context window where none is known", help_text="Tokens; 0 = unknown."
    )
    default_max_output_tokens = _number(
        "Longest answer where none is known", help_text="Tokens; 0 = unknown."
    )
    cooldown_seconds = _number(
        "Rest after failures", most=86_400, required=False, help_text="In seconds."
    )
    quirks = forms.JSONField(
        label="Quirks",
        required=False,
        initial=dict,
        widget=forms.Textarea(attrs={"rows": 3, "spellcheck": "false", "class": "cell-code"}),
        help_text="As JSON. How the provider differs from its protocol: docs/providers.md.",
    )
    proxy_url = forms.CharField(
        label="Proxy",
        max_length=500,
        required=False,
        widget=forms.URLInput(attrs={"spellcheck": "false"}),
    )
    ca_certificate = forms.CharField(
        label="Certificate authority of its own",
        required=False,
        max_length=65_536,
        widget=forms.Textarea(attrs={"rows": 4, "spellcheck": "false", "class": "cell-code"}),
        help_text="PEM, from BEGIN CERTIFICATE to END CERTIFICATE. Empty: the public ones.",
    )
    connect_timeout_seconds = _seconds("Longest wait for a connection")
    first_byte_timeout_seconds = _seconds("Longest wait for the first byte")
    idle_timeout_seconds = _seconds("Longest silence in the middle")
    total_timeout_seconds = _seconds("Longest answer, from question to end")
    fallback_notes = forms.CharField(
        label="Notes",
        required=False,
        max_length=10_000,
        widget=forms.Textarea(attrs={"rows": 4}),
        help_text="For colleagues: contract, contact, what to do when it is away.",
    )

    def __init__(self, *args: Any, provider: Provider, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.provider = provider
        self.file: ProviderFile | None = catalog().get(provider.catalog_id)
        self.stored = list(
            provider.credentials.exclude(sealed=None)
            .exclude(kind=Credential.Kind.OAUTH)
            .only("pk", "label", "fingerprint", "tenant_id", "provider_id")
            .order_by("label")
        )
        self._start(provider)
        self._follow_catalog()
        self._add_identifiers()
        self._add_limits_and_features()
        self._add_secrets_again()
        self._say_who_owns()
        self.sections = self._sections()
        self.dress()

    def _start(self, provider: Provider) -> None:
        forced = provider.force_model_prefix
        self.initial = {
            **{name: getattr(provider, name) for name in _PLAIN},
            "seen_version": provider.version,
            "force_model_prefix": "" if forced is None else ("yes" if forced else "no"),
            **{ENDPOINT + name: value for name, value in provider.endpoint.items()},
            **{_LIMIT + name: value for name, value in provider.limits.items()},
            **{_FEATURE + name: "yes" if on else "no" for name, on in provider.features.items()},
        }

    def _follow_catalog(self) -> None:
        for name, choices in (
            ("protocol", protocol_choices(self.file)),
            ("auth_type", auth_choices(self.file)),
        ):
            field = self.fields[name]
            assert isinstance(field, forms.ChoiceField)
            own = self.initial[name]
            # Set by the API or a bundle: kept, though the form would not offer it.
            extra = [(own, own)] if own and own not in dict(choices) else []
            field.choices = [*choices, *extra]
        if self.file is None:
            self.fields["protocol"].required = True
            self.fields["base_url"].required = True
        else:
            self.fields["base_url"].widget.attrs["placeholder"] = self.file.base_url
            self.fields["base_url"].help_text = "Empty: as the catalog says."
            self.fields["cooldown_seconds"].widget.attrs["placeholder"] = str(
                self.file.cooldown_seconds
            )
        names = self.provider.sealed_header_names
        stored = f" Stored now: {', '.join(names)}. Empty keeps them." if names else ""
        self.fields["secret_headers"].help_text = (
            "One Name: value per line, stored sealed; takes the place of all that are stored."
            + stored
        )
        if not names:
            del self.fields["removes_secret_headers"]

    def _add_identifiers(self) -> None:
        declared = self.file.auth.identifiers if self.file is not None else {}
        for name, known in declared.items():
            self.fields[ENDPOINT + name] = identifier_field(name, known, is_new=False)

    def _add_limits_and_features(self) -> None:
        below = limits_of(Provider(limits={}), self.file)
        for name in LIMITS:
            field = _number(name.replace("_", " ").capitalize(), required=False)
            field.widget.attrs["placeholder"] = str(below.get(name, "none"))
            self.fields[_LIMIT + name] = field
        said = self.file.features if self.file is not None else ()
        for name in FEATURES:
            label = "yes" if name in said else "unknown"
            self.fields[_FEATURE + name] = forms.ChoiceField(
                label=name.replace("_", " ").capitalize(),
                required=False,
                choices=(("", f"As the catalog says: {label}"), ("yes", "Yes"), ("no", "No")),
            )

    def _add_secrets_again(self) -> None:
        for row in self.stored:
            self.fields[_AGAIN + row.pk.hex] = SecretField(
                label=f"Secret of “{row.label}”", help_text=f"Stored: {row.fingerprint}."
            )

    def _say_who_owns(self) -> None:
        """An edit that the next apply of a bundle would undo says so."""
        for column, bundle in self.provider.owned_fields.items():
            prefix = {"endpoint": ENDPOINT, "limits": _LIMIT, "features": _FEATURE}.get(column)
            for name, field in self.fields.items():
                if name == column or (prefix is not None and name.startswith(prefix)):
                    field.help_text = (
                        f"{field.help_text} Set by the bundle {bundle!r}: its next apply undoes "
                        "a change made here."
                    ).strip()

    def _sections(self) -> tuple[Section, ...]:
        def some(prefix: str) -> tuple[str, ...]:
            return tuple(name for name in self.fields if name.startswith(prefix))

        return (
            Section("", "", ("name",)),
            Section("Connection", "", ("base_url", "protocol", "auth_type", *some(ENDPOINT))),
            Section(
                "Stored secrets, again",
                "Needed only when the scheme, host or port changes, or a proxy or certificate "
                "authority is set: whoever sends a secret to another place has to know it.",
                some(_AGAIN),
                is_folded=True,
            ),
            Section(
                "Names and order", "", ("prefix", "force_model_prefix", "priority", "weight"),
                is_grid=True,
            ),
            Section(
                "Models",
                "",
                ("excluded_models", "passes_unknown_models", "store_responses"),
            ),
            Section(
                "Where facts are missing",
                "",
                ("default_context_window", "default_max_output_tokens"),
                is_folded=True,
                is_grid=True,
            ),
            Section(
                "Limits",
                "0 = none. Empty: as the catalog says.",
                (*some(_LIMIT), "cooldown_seconds"),
                is_folded=True,
                is_grid=True,
            ),
            Section(
                "Headers",
                "",
                ("headers", "secret_headers", "removes_secret_headers"),
                is_folded=True,
            ),
            Section(
                "Network",
                "",
                (
                    *("proxy_url", "ca_certificate", "connect_timeout_seconds"),
                    *("first_byte_timeout_seconds", "idle_timeout_seconds"),
                    "total_timeout_seconds",
                ),
                is_folded=True,
            ),
            Section("Features", "", some(_FEATURE), is_folded=True, is_grid=True),
            Section("Quirks and notes", "", ("quirks", "fallback_notes"), is_folded=True),
        )  # fmt: skip

    def place_of(self, parameter: str) -> str:
        if ENDPOINT + parameter in self.fields:
            return ENDPOINT + parameter
        return parameter

    def blame(self, error: GatewayError | ValidationError) -> None:
        missing = [row for row in self.stored if not self.cleaned_data.get(_AGAIN + row.pk.hex)]
        if not isinstance(error, SecretNeededAgain) or error.param != "secrets" or not missing:
            super().blame(error)
            return
        # The service names the first; a person wants to see all of them at once.
        self.add_error(None, "The address changes: give the stored secrets again, below.")
        for row in missing:
            self.add_error(_AGAIN + row.pk.hex, "Give this secret again.")

    def changes(self) -> dict[str, Any]:
        """What the form says and the row does not, as the service takes it."""
        data, provider = self.cleaned_data, self.provider
        said: dict[str, Any] = {name: data[name] for name in _PLAIN}
        said["quirks"] = said["quirks"] or {}
        for name in ("ca_certificate", "fallback_notes"):
            # Browsers end the lines of a text area in their own way.
            said[name] = said[name].replace("\r\n", "\n")
        said["force_model_prefix"] = _YES_NO.get(data["force_model_prefix"])
        said["endpoint"] = self._table(ENDPOINT, provider.endpoint)
        said["limits"] = self._table(_LIMIT, provider.limits)
        said["features"] = {name: _YES_NO[text] for name, text in self._table(_FEATURE, {}).items()}
        return {name: value for name, value in said.items() if value != getattr(provider, name)}

    def _table(self, prefix: str, before: dict[str, Any]) -> dict[str, Any]:
        """The fields of a prefix by their own names, and what the form does not show as it was."""
        shown = {name.removeprefix(prefix) for name in self.fields if name.startswith(prefix)}
        kept = {name: value for name, value in before.items() if name not in shown}
        given = {name: self.cleaned_data[prefix + name] for name in sorted(shown)}
        return {**kept, **{k: v for k, v in given.items() if v not in (None, "")}}

    def secrets_again(self) -> dict[uuid.UUID, Secret]:
        found = ((row.pk, self.cleaned_data[_AGAIN + row.pk.hex]) for row in self.stored)
        return {pk: secret for pk, secret in found if secret is not None}


def save_settings(form: SettingsForm) -> bool:
    """False: nothing was changed. Raises what `change_registration` raises."""
    data = form.cleaned_data
    headers = data["secret_headers"]
    if headers is None and data.get("removes_secret_headers"):
        headers = {}
    changes = form.changes()
    if not changes and headers is None:
        return False
    with expectations.guarded():
        change_registration(
            form.provider,
            expected_version=data["seen_version"],
            secrets=form.secrets_again(),
            secret_headers=headers,
            **changes,
        )
    return True
