"""Secrets go in by form and never come out."""

from __future__ import annotations

from django import forms

from controlplane.console.forms import LinesField
from controlplane.console.secrets import SecretField
from controlplane.kit.secret import Secret

CANARY = "sk-canary-4f1d2b"


class Form(forms.Form):
    label = forms.CharField()
    secret = SecretField(required=True)


class StoredForm(forms.Form):
    label = forms.CharField()
    secret = SecretField(fingerprint="3f9a1c")


def test_a_secret_becomes_a_secret_at_once() -> None:
    form = Form({"label": "x", "secret": f"{CANARY}\n"})
    assert form.is_valid()
    assert form.cleaned_data["secret"] == Secret(CANARY)
    assert CANARY not in repr(form.cleaned_data)


def test_a_posted_secret_is_not_rendered_again_beside_a_mistake_elsewhere() -> None:
    form = Form({"label": "", "secret": CANARY})
    assert not form.is_valid()
    assert CANARY not in form.as_p()


def test_an_initial_value_is_never_rendered() -> None:
    assert CANARY not in Form(initial={"secret": CANARY}).as_p()


def test_empty_keeps_what_is_stored_and_says_which_that_is() -> None:
    form = StoredForm({"label": "x", "secret": ""})
    assert form.is_valid()
    assert form.cleaned_data["secret"] is None
    assert "secret" not in form.changed_data
    page = StoredForm().as_p()
    assert "3f9a1c" in page
    assert "Leave empty to keep it" in page
    assert "secret" in StoredForm({"label": "x", "secret": CANARY}).changed_data


def test_a_required_secret_is_asked_for() -> None:
    assert Form({"label": "x", "secret": ""}).errors["secret"] == ["This field is required."]


def test_lines_become_words_without_repeats() -> None:
    field = LinesField()
    assert field.clean(" gpt-*\n\nclaude-*, gpt-* ,\n") == ["gpt-*", "claude-*"]
    assert field.clean("") == []
    assert field.prepare_value(["a", "b"]) == "a\nb"
