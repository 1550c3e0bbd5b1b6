"""Secrets go in by form and never come out: what is shown is a fingerprint, or dots.

A new key is shown once, in the answer to the very request that made it: it is kept nowhere, not
in the session, not in a message, and a reload cannot bring it back.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django import forms
from django.http import HttpRequest
from django.template.response import TemplateResponse
from unfold.widgets import UnfoldAdminPasswordWidget

from controlplane.console.pages import Page
from controlplane.kit.secret import Secret


class SecretInput(UnfoldAdminPasswordWidget):  # type: ignore[misc]  # the theme is untyped
    """Never renders a value, not even the one just posted with a mistake elsewhere."""

    def __init__(self, attrs: dict[str, Any] | None = None) -> None:
        hints = {"autocomplete": "new-password", "spellcheck": "false", "data-1p-ignore": "true"}
        super().__init__(attrs={**hints, **(attrs or {})})
        self.render_value = False


class SecretField(forms.CharField):
    """Cleans to a Secret, or to None when left empty: None means "keep what is stored"."""

    widget = SecretInput

    def __init__(self, *, fingerprint: str = "", required: bool = False, **kwargs: Any) -> None:
        kwargs.setdefault("help_text", "Stored sealed; nobody can read it here again.")
        # What people paste ends in a line break as often as not; inside, every byte counts.
        super().__init__(required=required, strip=True, **kwargs)
        if fingerprint:
            self.keep(fingerprint)

    def keep(self, fingerprint: str) -> None:
        """There is a secret already: say which, and that an empty field keeps it."""
        self.required = False
        self.widget.attrs["placeholder"] = f"stored: {fingerprint}"
        self.help_text = f"A secret is stored ({fingerprint}). Leave empty to keep it."

    def clean(self, value: Any) -> Secret | None:
        text = super().clean(value)
        return Secret(text) if text else None

    def has_changed(self, initial: Any, data: Any) -> bool:
        return bool(data)


@dataclass(frozen=True, slots=True)
class Shown:
    """One secret to show, once. `example` is a command that uses it, with {secret} in it."""

    title: str
    text: str
    secret: Secret
    note: str = ""
    example: str = ""
    done_url: str = ""
    done_label: str = "Done, I have stored it"


def show_once(page: Page, request: HttpRequest, shown: Shown) -> TemplateResponse:
    response = TemplateResponse(
        request,
        "console/shown_once.html",
        page.context(
            request,
            shown.title,
            shown=shown,
            # The one place where the console opens a secret, for the one page that shows it.
            value=shown.secret.reveal(),
            example=shown.example.replace("{secret}", shown.secret.reveal()),
        ),
    )
    response.headers["Cache-Control"] = "no-store"
    return response
