"""Forms of the console's own pages, dressed in the theme's clothes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from django import forms
from django.core.exceptions import NON_FIELD_ERRORS, ValidationError
from django.forms.widgets import Input
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.widgets import (
    CHECKBOX_CLASSES,
    INPUT_CLASSES,
    SELECT_CLASSES,
    TEXTAREA_CLASSES,
)

from controlplane.kit.errors import GatewayError

_CLASSES: Final[tuple[tuple[type[forms.Widget], list[str]], ...]] = (
    (forms.CheckboxSelectMultiple, []),
    (forms.CheckboxInput, CHECKBOX_CLASSES),
    (forms.Select, SELECT_CLASSES),
    (forms.Textarea, TEXTAREA_CLASSES),
    (Input, INPUT_CLASSES),
)


@dataclass(frozen=True, slots=True)
class Section:
    """Fields of a form that belong together. One that `is_folded` opens on request, and by itself
    when something in it is wrong."""

    title: str = ""
    text: str = ""
    names: tuple[str, ...] = ()
    is_folded: bool = False
    is_grid: bool = False


@dataclass(frozen=True, slots=True)
class ShownSection:
    section: Section
    fields: tuple[forms.BoundField, ...]

    @property
    def is_open(self) -> bool:
        return not self.section.is_folded or any(field.errors for field in self.fields)


class PageForm(forms.Form):
    """A form of a page below a list. Write plain fields; they come out looking like the rest."""

    # No sections = one, without a title.
    sections: tuple[Section, ...] = ()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.dress()

    def dress(self) -> None:
        """Again, for fields that were added later."""
        for field in self.fields.values():
            dress(field.widget)

    def shown_sections(self) -> Iterator[ShownSection]:
        """Every visible field, those that no section names first."""
        named = {name for section in self.sections for name in section.names}
        rest = tuple(field for field in self.visible_fields() if field.name not in named)
        if rest:
            yield ShownSection(Section(), rest)
        for section in self.sections:
            fields = tuple(self[name] for name in section.names if name in self.fields)
            if fields:
                yield ShownSection(section, fields)

    def place_of(self, parameter: str) -> str:
        """The field that stands for a service's parameter."""
        return parameter

    def blame(self, error: GatewayError | ValidationError) -> None:
        """Puts what a service refused at the field that it is about, else above the form."""
        if isinstance(error, GatewayError):
            found = {error.param or "": [error.message or "That did not work."]}
        elif hasattr(error, "error_dict"):
            found = error.message_dict
        else:
            found = {"": error.messages}
        for parameter, sentences in found.items():
            name = "" if parameter == NON_FIELD_ERRORS else self.place_of(parameter)
            for sentence in sentences:
                self.add_error(name if name in self.fields else None, sentence)


def dress(widget: forms.Widget) -> None:
    for kind, classes in _CLASSES:
        if isinstance(widget, kind):
            present = widget.attrs.get("class", "").split()
            widget.attrs["class"] = " ".join(dict.fromkeys([*present, *classes]))
            return


class RowForm(forms.ModelForm):  # type: ignore[type-arg]  # generic in the stubs only
    """A form of one row on its page."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # The theme dresses what comes from the model; these it never sees.
        for name in self.declared_fields.keys() & self.fields.keys():
            dress(self.fields[name].widget)


class VersionedForm(RowForm):
    """Refuses to overwrite what somebody else saved meanwhile. For models with a `version`,
    whose page lists `seen_version` in its fieldsets for existing rows."""

    seen_version = forms.IntegerField(widget=forms.HiddenInput, required=False)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.initial["seen_version"] = self.instance.version

    def clean(self) -> dict[str, Any] | None:
        cleaned = super().clean()
        is_new = self.instance._state.adding
        if not is_new and self.cleaned_data.get("seen_version") != self.instance.version:
            name = self.instance._meta.verbose_name
            raise forms.ValidationError(
                f"Somebody else changed this {name} meanwhile. Copy what you wrote, reload the "
                "page and change it again."
            )
        return cleaned


class _Shown(forms.Widget):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text

    def render(self, name: str, value: Any, attrs: Any = None, renderer: Any = None) -> SafeString:
        return format_html('<span class="shown">{}</span>', self.text)


class ShownField(forms.Field):
    """A field that is settled: shown as text, never read from the request. It keeps the form's
    initial value."""

    def __init__(self, text: str, **kwargs: Any) -> None:
        super().__init__(widget=_Shown(text), disabled=True, required=False, **kwargs)


class LinesField(forms.CharField):
    """A list of words, one per line or separated by commas. Cleans to a list without repeats."""

    def __init__(self, **kwargs: Any) -> None:
        widget = forms.Textarea(attrs={"rows": 3, "spellcheck": "false"})
        dress(widget)
        super().__init__(required=kwargs.pop("required", False), widget=widget, **kwargs)

    def clean(self, value: Any) -> list[str]:
        text = super().clean(value)
        words = [word.strip() for line in text.splitlines() for word in line.split(",")]
        return list(dict.fromkeys(word for word in words if word))

    def prepare_value(self, value: Any) -> Any:
        return "\n".join(value) if isinstance(value, list) else value
