"""A page with one form: shown, checked, done by a service, and shown again with what the service
refused at the field that it is about."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import Model
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse

from controlplane.console.forms import PageForm
from controlplane.console.pages import Page
from controlplane.kit.errors import GatewayError


def form_page(
    page: Page,
    request: HttpRequest,
    form: PageForm,
    *,
    title: str,
    button: str,
    back_url: str,
    do: Callable[[dict[str, Any]], HttpResponse],
    intro: str = "",
    original: Model | None = None,
    template: str = "console/form.html",
    **more: Any,
) -> HttpResponse:
    """`do` gets the cleaned data and answers; whatever it wrote is undone when it raises a
    GatewayError or a ValidationError."""
    if request.method == "POST" and form.is_valid():
        try:
            with transaction.atomic():
                return do(form.cleaned_data)
        except (GatewayError, ValidationError) as error:
            form.blame(error)
    context = page.context(
        request, title, form=form, intro=intro, button=button, back_url=back_url, **more
    )
    if original is not None:
        context["original"] = original
    return TemplateResponse(request, template, context)
