"""Form fields that name tenants: by short name, so that they work without a script and with any
number of tenants."""

from __future__ import annotations

import re
from typing import Any, Final

from django import forms
from django.core.exceptions import ValidationError
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from controlplane.console.forms import dress
from tenants.members.models import Tenant

_SUGGESTED: Final = 200


class SuggestingInput(forms.TextInput):
    """A text input that offers what it has seen: a plain list of the browser's, no script."""

    def __init__(self, suggestions: list[str], attrs: dict[str, Any] | None = None) -> None:
        super().__init__(attrs={"autocomplete": "off", **(attrs or {})})
        self.suggestions = suggestions

    def render(self, name: str, value: Any, attrs: Any = None, renderer: Any = None) -> SafeString:
        list_id = f"suggested_{name}"
        options = format_html_join("", '<option value="{}">', ((one,) for one in self.suggestions))
        field = super().render(name, value, {**(attrs or {}), "list": list_id}, renderer)
        return format_html('{}<datalist id="{}">{}</datalist>', field, list_id, options)


def tenant_slugs() -> list[str]:
    return list(Tenant.objects.order_by("slug").values_list("slug", flat=True)[:_SUGGESTED])


class TenantField(forms.CharField):
    """One tenant by its short name; left empty, it cleans to None. Make it with the form, not with
    the class: it offers the tenants there are."""

    def __init__(self, *, required: bool = False, **kwargs: Any) -> None:
        super().__init__(required=required, widget=SuggestingInput(tenant_slugs()), **kwargs)

    def clean(self, value: Any) -> Tenant | None:
        text = super().clean(value)
        if not text:
            return None
        found: Tenant | None = Tenant.objects.filter(slug=text.lower()).first()
        if found is None:
            raise ValidationError(f"There is no tenant {text[:100]!r}: write its short name.")
        return found


class TenantsField(forms.CharField):
    """Tenants by their short names, one per line."""

    def __init__(self, **kwargs: Any) -> None:
        widget = forms.Textarea(attrs={"rows": 5, "spellcheck": "false"})
        dress(widget)
        super().__init__(required=False, widget=widget, **kwargs)

    def clean(self, value: Any) -> list[Tenant]:
        wanted = list(dict.fromkeys(re.split(r"[\s,]+", super().clean(value).lower().strip())))
        wanted = [slug for slug in wanted if slug]
        found = {row.slug: row for row in Tenant.objects.filter(slug__in=wanted)}
        missing = [slug for slug in wanted if slug not in found]
        if missing:
            raise ValidationError(
                f"There is no tenant called {', '.join(missing)[:200]}: write short names, "
                "one per line."
            )
        return [found[slug] for slug in wanted]
