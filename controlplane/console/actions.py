"""Actions on several rows: they ask first when something would be lost, call the service for each
row, and answer in one sentence with a count."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any

from django.contrib import messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils.text import capfirst

from controlplane.console.pages import Page, sentence
from controlplane.kit.errors import GatewayError

# True: changed. False: it was so already.
OnOne = Callable[[Any, HttpRequest, Any], bool]
OnMany = Callable[[Any, HttpRequest, QuerySet[Any]], HttpResponse | None]


@dataclass(frozen=True, slots=True)
class Confirm:
    """What is asked before. `consequence` says what will stop working, in plain words."""

    question: str
    consequence: str
    button: str


def bulk_action(
    *, label: str, done: str, already: str, confirm: Confirm | None = None
) -> Callable[[OnOne], OnMany]:
    """`done` and `already` are past participles: "suspended", "suspended before"."""

    def decorate(act_on_one: OnOne) -> OnMany:
        @wraps(act_on_one)
        def act(page: Page, request: HttpRequest, rows: QuerySet[Any]) -> HttpResponse | None:
            if confirm is not None and request.POST.get("confirmed") != "yes":
                return _ask(page, request, rows, confirm, act_on_one.__name__)
            changed = unchanged = 0
            for row in rows:
                try:
                    if act_on_one(page, request, row):
                        changed += 1
                    else:
                        unchanged += 1
                except GatewayError as error:
                    messages.error(request, f"{row}: {sentence(error)}")
            tell(page, request, changed, unchanged, done=done, already=already)
            return None

        act.short_description = label  # type: ignore[attr-defined]  # how Django's admin reads it
        act.allowed_permissions = ("change",)  # type: ignore[attr-defined]  # likewise
        return act

    return decorate


def tell(
    page: Page, request: HttpRequest, changed: int, unchanged: int, *, done: str, already: str
) -> None:
    parts = []
    if changed:
        parts.append(f"{counted(page, changed)} {done}.")
    if unchanged:
        verb = "was" if unchanged == 1 else "were"
        parts.append(f"{counted(page, unchanged)} {verb} {already}.")
    if parts:
        messages.success(request, " ".join(parts)) if changed else messages.info(
            request, " ".join(parts)
        )


def counted(page: Page, count: int) -> str:
    options = page.model._meta
    name = options.verbose_name if count == 1 else options.verbose_name_plural
    return capfirst(f"{count} {name}")


def _ask(
    page: Page, request: HttpRequest, rows: QuerySet[Any], confirm: Confirm, action: str
) -> HttpResponse:
    return TemplateResponse(
        request,
        "console/confirm.html",
        page.context(
            request,
            confirm.question,
            confirm=confirm,
            rows=list(rows),
            hidden=[
                ("action", action),
                ("confirmed", "yes"),
                *((ACTION_CHECKBOX_NAME, str(row.pk)) for row in rows),
            ],
            back_url=page.url_of("changelist"),
        ),
    )


def confirm_one(
    page: Page, request: HttpRequest, row: Any, confirm: Confirm
) -> TemplateResponse | None:
    """For a page of its own: the question, or None when it has been answered with yes."""
    if request.method == "POST" and request.POST.get("confirmed") == "yes":
        return None
    return TemplateResponse(
        request,
        "console/confirm.html",
        page.context(
            request,
            confirm.question,
            confirm=confirm,
            rows=[row],
            original=row,
            hidden=[("confirmed", "yes")],
            back_url=page.url_of("change", row.pk),
        ),
    )
