"""A body pasted by an operator, explained as the gateway would: who would be asked, and who not."""

from __future__ import annotations

from typing import Any, Final

from django import forms
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse

from controlplane.console.form_pages import form_page
from controlplane.console.forms import PageForm
from controlplane.console.pages import Page
from controlplane.console.tenant_fields import TenantField
from controlplane.kit import json
from controlplane.proxy import explain

TEMPLATE: Final = "console/routing/explain.html"
_MOST_CHARACTERS: Final = 1_000_000
_PATHS: Final = (
    ("/v1/chat/completions", "Chat Completions"),
    ("/v1/responses", "Responses"),
    ("/v1/messages", "Messages"),
    ("", "Gemini: the model is named below"),
)
_STRATEGIES: Final = ("", "as the policies say")
_EXAMPLE: Final = """{
  "model": "",
  "messages": [{"role": "user", "content": "Hello"}]
}"""


class ExplainForm(PageForm):
    path = forms.ChoiceField(label="Path", choices=_PATHS, required=False)
    gemini_model = forms.CharField(
        label="Model in the path", required=False, max_length=255, help_text="For Gemini only."
    )
    strategy = forms.ChoiceField(label="Way of choosing", required=False)
    body = forms.CharField(
        label="Body",
        strip=False,
        max_length=_MOST_CHARACTERS,
        initial=_EXAMPLE,
        widget=forms.Textarea(attrs={"rows": 12, "spellcheck": "false", "class": "cell-code"}),
        help_text="The JSON that a client sends. It is read, not kept, and sent to nobody.",
    )

    def __init__(self, *args: Any, strategies: tuple[str, ...], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        tenant = TenantField(label="Tenant", required=True)
        self.fields = {"tenant": tenant, **self.fields}
        choice = self.fields["strategy"]
        assert isinstance(choice, forms.ChoiceField)
        choice.choices = [_STRATEGIES, *((name, name) for name in strategies)]
        self.dress()

    def clean_body(self) -> json.JSONDict:
        data = self.cleaned_data["body"].encode("utf-8", "surrogatepass")
        if json.depth_exceeds(data):
            raise ValidationError(f"It nests deeper than {json.MAX_DEPTH} levels.")
        try:
            return json.loads_dict(data)
        except json.InvalidJSON as error:
            raise ValidationError(f"This is not a JSON object: {error}.") from None

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        if not cleaned.get("path") and not cleaned.get("gemini_model"):
            self.add_error("gemini_model", "Name the model: Gemini has it in the path.")
        return cleaned

    def place_of(self, parameter: str) -> str:
        return {"x-route-strategy": "strategy", "model": "body"}.get(parameter, parameter)


def explain_page(
    page: Page, request: HttpRequest, *, strategies: tuple[str, ...], back_url: str
) -> HttpResponse:
    form = ExplainForm(request.POST or None, strategies=strategies)
    shown: dict[str, Any] = {
        "title": "Explain a request",
        "button": "Explain",
        "intro": "Where a request of this tenant would go now, and why not elsewhere.",
        "back_url": back_url,
    }

    def do(values: dict[str, Any]) -> HttpResponse:
        path = values["path"] or f"/v1beta/models/{values['gemini_model']}:generateContent"
        found = explain.for_staff(
            tenant_id=values["tenant"].pk,
            path=path,
            body=values["body"],
            strategy=values["strategy"],
        )
        title = str(shown["title"])
        rest = {name: value for name, value in shown.items() if name != "title"}
        context = page.context(request, title, form=form, found=found, **rest)
        return TemplateResponse(request, TEMPLATE, context)

    return form_page(page, request, form, do=do, template=TEMPLATE, **shown)
