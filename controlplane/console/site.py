"""The admin site: platform staff only, every view inside a scope, signing in done elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import wraps
from typing import Any, Final

from django.contrib.admin import ModelAdmin
from django.contrib.auth import REDIRECT_FIELD_NAME, logout
from django.core.exceptions import PermissionDenied
from django.db.models import Model
from django.http import (
    Http404,
    HttpRequest,
    HttpResponse,
    HttpResponseNotAllowed,
    HttpResponseRedirect,
)
from django.http.response import HttpResponseBase
from django.template.response import SimpleTemplateResponse
from django.urls import reverse
from django.utils.decorators import method_decorator
from django.utils.http import urlencode
from django.views.decorators.http import require_POST
from unfold.sites import UnfoldAdminSite

from controlplane.console import dashboard
from controlplane.console.pages import Page
from controlplane.console.sign_in import steps as steps  # the overview shows them
from controlplane.console.sign_in.caller import caller_address
from tenants import scope
from tenants.audit.actor import acting_as

View = Callable[..., HttpResponseBase]
_METHODS: Final = ("GET", "HEAD", "POST")


class ConsoleSite(UnfoldAdminSite):  # type: ignore[misc]  # the theme is untyped
    index_title = "Overview"
    index_template = "console/overview.html"

    def register(
        self,
        model_or_iterable: type[Model] | Iterable[type[Model]],
        admin_class: type[ModelAdmin[Any]] | None = None,
        **options: Any,
    ) -> None:
        """Other apps bring admin pages for tables that people here never edit (groups, sign-in
        records): the console shows only pages built on its own base."""
        if admin_class is None or not issubclass(admin_class, Page):
            return
        super().register(model_or_iterable, admin_class, **options)

    def has_permission(self, request: HttpRequest) -> bool:
        user = request.user
        return bool(user.is_active and getattr(user, "is_staff", False))

    def admin_view(self, view: View, cacheable: bool = False) -> View:
        """Every view of every page comes through here: permission, then scope and actor."""

        @wraps(view)
        def scoped(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
            # Django's admin would answer any other method as if it were a GET.
            if request.method not in _METHODS:
                return HttpResponseNotAllowed(_METHODS)
            user = request.user
            with (
                scope.platform("console"),
                acting_as("user", user.pk, user.get_username(), caller_address(request)),
            ):
                response = view(request, *args, **kwargs)
                # Templates ask the database too: render before the scope closes.
                if isinstance(response, SimpleTemplateResponse):
                    response.render()
            return response

        guarded = super().admin_view(scoped, cacheable)

        @wraps(view)
        def checked(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
            # Signed in, but not for here: sending them to sign in again would loop.
            if request.user.is_authenticated and not self.has_permission(request):
                raise PermissionDenied("This console is for platform staff.")
            answer: HttpResponseBase = guarded(request, *args, **kwargs)
            return answer

        return checked

    def autocomplete_view(self, request: HttpRequest) -> HttpResponse:
        """Only for fields that some form completes; Django would answer for every relation."""
        names = ("app_label", "model_name", "field_name")
        asked = [request.GET.get(name, "") for name in names]
        if tuple(asked) not in set(self._completed_fields()):
            raise PermissionDenied
        answer: HttpResponse = super().autocomplete_view(request)
        return answer

    def _completed_fields(self) -> Iterator[tuple[str, str, str]]:
        for page in self._registry.values():
            for form in (page, *page.inlines):
                options = form.model._meta
                for field in form.autocomplete_fields:
                    yield options.app_label, options.model_name, field

    def search(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        # The theme's search answers from a cache that outlives a change of rights. Its templates
        # name the path, so it stays, and finds nothing.
        raise Http404

    def login(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        target = request.GET.get(REDIRECT_FIELD_NAME, reverse("admin:index"))
        if request.user.is_authenticated:
            raise PermissionDenied("This console is for platform staff.")
        query = urlencode({REDIRECT_FIELD_NAME: target})
        return HttpResponseRedirect(f"{reverse('account_login')}?{query}")

    @method_decorator(require_POST)
    def logout(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        logout(request)
        return HttpResponseRedirect(reverse("account_login"))

    def password_change(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        return HttpResponseRedirect(reverse("account_change_password"))

    def password_change_done(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        return HttpResponseRedirect(reverse("mfa_index"))

    def app_index(
        self, request: HttpRequest, app_label: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        # The navigation groups pages by what they are for, not by Django app.
        if app_label not in {model._meta.app_label for model in self._registry}:
            raise Http404
        return HttpResponseRedirect(reverse("admin:index"))

    def index(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        overview = dashboard.overview(request)
        answer: HttpResponse = super().index(
            request, {"overview": overview, **(extra_context or {})}
        )
        return answer
