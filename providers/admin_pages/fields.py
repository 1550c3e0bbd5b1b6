"""Form fields and choices that the forms of a registration share."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from django import forms
from django.core.exceptions import ValidationError

from controlplane.console.forms import dress
from controlplane.kit.secret import Secret
from providers.catalog.schema import Identifier, ProviderFile
from providers.protocols import registry

AUTH_LABELS: Final[Mapping[str, str]] = {
    "api_key": "API key",
    "api_key_plus": "API key and identifiers",
    "bearer_token": "Bearer token",
    "oauth_pkce": "Login in the browser",
    "oauth_device_flow": "Login with a code",
    "aws": "AWS credentials",
    "gcp_adc": "Google Cloud credentials",
    "token_file": "Token file",
    "binding": "Binding",
    "none": "No credential needed",
}
# What takes a secret that a person can paste.
PASTED: Final = frozenset({"api_key", "api_key_plus", "bearer_token", "aws", "gcp_adc"})
# A provider of one's own: a key in the usual header, or none.
CUSTOM_AUTH: Final = (("api_key", AUTH_LABELS["api_key"]), ("none", AUTH_LABELS["none"]))


def protocol_choices(file: ProviderFile | None) -> list[tuple[str, str]]:
    """Where the catalog has addresses for several protocols, those; the empty choice follows it."""
    if file is None:
        return [("", "Choose …"), *((slug, slug) for slug in registry.slugs())]
    offered = sorted({file.protocol, *file.protocols} - {""})
    return [("", f"As the catalog says ({file.protocol})"), *((slug, slug) for slug in offered)]


def auth_choices(file: ProviderFile | None) -> list[tuple[str, str]]:
    if file is None:
        return list(CUSTOM_AUTH)
    return [
        ("", f"As the catalog says ({AUTH_LABELS[file.auth.type].lower()})"),
        *((name, AUTH_LABELS[name]) for name in (file.auth.type, *file.auth.alternatives)),
    ]


class HeadersField(forms.CharField):
    """`Name: value`, one per line, as a mapping. With `is_secret` the values are Secrets, nothing
    is ever shown again, and None = left empty."""

    def __init__(self, *, is_secret: bool = False, **kwargs: Any) -> None:
        hints = {"rows": 3, "spellcheck": "false", "autocomplete": "off", "class": "cell-code"}
        widget: forms.Widget = forms.Textarea(attrs=hints)
        dress(widget)
        super().__init__(required=False, widget=widget, **kwargs)
        self.is_secret = is_secret

    def clean(self, value: Any) -> Any:
        found: dict[str, str] = {}
        for line in super().clean(value).splitlines():
            if not line.strip():
                continue
            name, colon, text = line.partition(":")
            if not colon or not name.strip():
                raise ValidationError("Write each header as Name: value, one per line.")
            if name.strip() in found:
                raise ValidationError(f"{name.strip()[:100]!r} stands twice.")
            found[name.strip()] = text.strip()
        if not self.is_secret:
            return found
        return {name: Secret(text) for name, text in found.items()} or None

    def prepare_value(self, value: Any) -> Any:
        if self.is_secret:
            return ""
        if isinstance(value, dict):
            return "\n".join(f"{name}: {text}" for name, text in value.items())
        return value

    def has_changed(self, initial: Any, data: Any) -> bool:
        return bool(data) if self.is_secret else super().has_changed(initial, data)


def identifier_field(name: str, known: Identifier, *, is_new: bool) -> forms.CharField:
    """What the URL of this provider needs, held against the catalog's pattern."""

    def fits(value: str) -> None:
        if not re.fullmatch(known.pattern, value):
            raise ValidationError(f"This provider writes it another way: {known.description}.")

    return forms.CharField(
        label=name.replace("_", " ").capitalize(),
        required=known.required and not known.default and is_new,
        max_length=500,
        help_text=f"{known.description}.",
        validators=[fits],
        widget=forms.TextInput(attrs={"placeholder": known.default, "spellcheck": "false"}),
    )
