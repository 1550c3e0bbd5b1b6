"""A price list as lines of text, checked by the rules of the API."""

from __future__ import annotations

from typing import Any, Final

from django import forms
from django.core.exceptions import ValidationError

from tenants.quotas.price_lists import UnreadableLine, from_text, to_text

_HELP: Final = (
    "One price per line: a name that callers use (* for any part of it), the day it begins, and "
    "dollars per million tokens. gpt-* 2026-01-01 input=2 output=8"
)


class PriceListField(forms.CharField):
    widget = forms.Textarea(attrs={"rows": 6, "spellcheck": "false"})

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{"label": "Price list", "required": False, "help_text": _HELP, **kwargs})

    def prepare_value(self, value: Any) -> Any:
        return to_text(value) if isinstance(value, list) else value

    def clean(self, value: Any) -> list[dict[str, Any]]:
        # Here, not above: pages are loaded before the API can be.
        from controlplane.api.quotas import UsagePolicyChangesSerializer

        try:
            rows = from_text(super().clean(value))
        except UnreadableLine as error:
            raise ValidationError(str(error)) from None
        checked = UsagePolicyChangesSerializer(data={"price_list": rows})
        if not checked.is_valid():
            raise ValidationError(_sentences(checked.errors["price_list"], rows))
        found: list[dict[str, Any]] = checked.validated_data["price_list"]
        return found


def _sentences(errors: Any, rows: list[dict[str, Any]]) -> list[str]:
    """The API's errors: of single prices by their place, or of the list."""
    if isinstance(errors, dict):
        return [
            f"{rows[place]['model']}: {text}"
            for place, fields in errors.items()
            for texts in fields.values()
            for text in texts
        ]
    return [str(one) for one in errors]
