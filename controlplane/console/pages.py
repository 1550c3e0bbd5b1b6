"""The bases of every page of the console. A concept's admin.py builds on these and on nothing
of the theme's, so that the theme stays replaceable."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, ClassVar, TypeVar

from django.contrib import messages
from django.contrib.admin.widgets import RelatedFieldWidgetWrapper
from django.core.exceptions import FieldDoesNotExist, PermissionDenied, ValidationError
from django.core.paginator import Paginator
from django.db.models import Model, QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.functional import cached_property
from django.utils.text import capfirst
from unfold.admin import ModelAdmin as ThemeModelAdmin
from unfold.admin import TabularInline as ThemeTabularInline
from unfold.decorators import action as theme_action
from unfold.views import ChangeList as ThemeChangeList

from controlplane.kit.errors import GatewayError
from tenants.vault.fields import SealedField

# Never asked for, listed, filtered, sorted or searched by, under any name the URL may try.
_SECRET_NAMES = frozenset({"password", "digest", "sealed", "secret", "token"})


def is_secret(model: type[Model], lookup: str) -> bool:
    """Whether a lookup path (`tenant__user__password__startswith`) touches a secret column."""
    options = model._meta
    for part in lookup.split("__"):
        if part in _SECRET_NAMES:
            return True
        try:
            field = options.get_field(part)
        except FieldDoesNotExist:
            return False
        if isinstance(field, SealedField):
            return True
        related = field.related_model
        if not isinstance(related, type):
            return False
        options = related._meta
    return False


class NoFullCount(Paginator):  # type: ignore[type-arg]  # generic in the stubs only
    """Counts at most MAX rows: a big table is never counted to draw a page of it."""

    MAX = 10_000

    @cached_property
    def count(self) -> int:
        rows = self.object_list
        if isinstance(rows, QuerySet):
            return rows.order_by()[: self.MAX].count()
        return len(rows)


class _PlainRelations:
    """No pop-up windows beside a relation: rows are made on their own pages."""

    def formfield_for_dbfield(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        field = super().formfield_for_dbfield(  # type: ignore[misc]  # mixed into an admin
            db_field, request, **kwargs
        )
        if field is not None and isinstance(field.widget, RelatedFieldWidgetWrapper):
            field.widget = field.widget.widget
        return field


@dataclass(frozen=True, slots=True)
class NavEntry:
    """A page below a list that has its own place in the sidebar. `view` as in `url_of`."""

    title: str
    icon: str
    view: str
    order: int


class Page(_PlainRelations, ThemeModelAdmin):  # type: ignore[misc]  # the theme is untyped
    """A list and a form of one model, for platform staff.

    State changes go through the concept's services: a page says which, `save_model` and actions
    call them. Nothing is deleted here unless a page says so.
    """

    # Where the sidebar shows it; no group = not shown.
    nav_group: ClassVar[str] = ""
    nav_title: ClassVar[str] = ""
    nav_icon: ClassVar[str] = "circle"
    nav_order: ClassVar[int] = 50
    nav_more: ClassVar[tuple[NavEntry, ...]] = ()

    # What an empty list says, and what its button leads to ("" = the page's own add form).
    empty_title: ClassVar[str] = "Nothing here yet"
    empty_text: ClassVar[str] = ""
    empty_url_name: ClassVar[str] = ""
    empty_label: ClassVar[str] = ""

    # Every filter a list offers is listed; anything else in the query string is refused.
    show_full_result_count = False
    paginator = NoFullCount
    list_per_page = 50
    list_max_show_all = 0
    list_filter_submit = False
    actions_on_bottom = False
    compressed_fields = True
    warn_unsaved_form = True
    change_form_show_cancel_button = True
    view_on_site = False
    save_as = False
    delete_confirmation_max_display = 20

    is_deletable: ClassVar[bool] = False

    @property
    def list_title(self) -> str:
        return self.nav_title or capfirst(str(self.model._meta.verbose_name_plural))

    def has_module_permission(self, request: HttpRequest) -> bool:
        return self.admin_site.has_permission(request)  # type: ignore[no-any-return]  # untyped

    def has_view_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return self.has_module_permission(request)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return self.has_module_permission(request)

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return self.has_module_permission(request)

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return self.is_deletable and self.has_module_permission(request)

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        actions: dict[str, Any] = super().get_actions(request)
        if not self.is_deletable:
            actions.pop("delete_selected", None)
        return actions

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest) -> bool:
        """Django lets any local column be asked for in the query string; we do not (T4)."""
        if is_secret(self.model, lookup):
            return False
        fields, parameters = self._offered(request)
        if lookup in parameters:
            return True
        if lookup not in fields and lookup.split("__")[0] not in fields:
            return False
        return super().lookup_allowed(lookup, value, request)  # type: ignore[no-any-return]

    def _offered(self, request: HttpRequest) -> tuple[set[str], set[str]]:
        """What the list's filters ask about: columns, and parameters of filters of our own."""
        fields, parameters = {self.date_hierarchy or ""}, set()
        for entry in self.get_list_filter(request):
            name = entry[0] if isinstance(entry, list | tuple) else entry
            if isinstance(name, str):
                fields.add(name)
            else:
                parameters.add(str(getattr(name, "parameter_name", "")))
        return fields, parameters

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        # Django would fill in any field from the query string: a page says which it takes.
        return {}

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[PageList]:
        return PageList

    def get_object(
        self, request: HttpRequest, object_id: str, from_field: str | None = None
    ) -> Model | None:
        # `?_to_field=` would look rows up by any column that something refers to.
        found: Model | None = super().get_object(request, object_id, None)
        return found

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> Any:
        """Services may refuse what a form could not know (somebody else was first): the whole
        save is undone, and the reason is shown on the same page."""
        # One way to save is enough.
        buttons = {"show_save_and_add_another": False, "show_save_and_continue": False}
        context = {**buttons, **(extra_context or {})}
        try:
            return super().changeform_view(request, object_id, form_url, context)
        except GatewayError as error:
            messages.error(request, sentence(error))
        except ValidationError as error:
            messages.error(request, " ".join(error.messages))
        return HttpResponseRedirect(request.get_full_path())

    def history_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """The audit trail is the history: Django's own log of the admin is not kept."""
        found = self.row(request, object_id, to_change=False)
        return HttpResponseRedirect(
            f"{reverse('admin:tenants_auditevent_changelist')}?q={found.pk}"
        )

    def log_addition(self, request: HttpRequest, obj: Model, message: Any) -> None:
        return None

    def log_change(self, request: HttpRequest, obj: Model, message: Any) -> None:
        return None

    def log_deletions(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        return None

    def row(self, request: HttpRequest, object_id: str, *, to_change: bool = True) -> Any:
        """The row of a page of its own below the list. Raises Http404, PermissionDenied."""
        found = self.get_object(request, object_id)
        if found is None:
            raise Http404
        if to_change and not self.has_change_permission(request, found):
            raise PermissionDenied
        return found

    def back_to(self, row: Model) -> HttpResponseRedirect:
        return HttpResponseRedirect(self.url_of("change", row.pk))

    def url_of(self, view: str, *args: Any) -> str:
        options = self.opts
        return reverse(f"admin:{options.app_label}_{options.model_name}_{view}", args=args)

    def context(self, request: HttpRequest, title: str, **extra: Any) -> dict[str, Any]:
        """What every template of a page of its own needs."""
        return {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": title,
            "media": self.media,
            **extra,
        }


class PageList(ThemeChangeList):  # type: ignore[misc]  # the theme is untyped
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # The name of the browser's tab: what the page is, not what one might do on it.
        self.title = self.model_admin.list_title

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        # How many there would be without the filters is never counted, so never shown.
        self.full_result_count = self.result_count


class ReadOnlyPage(Page):
    """For ledgers and trails: rows are looked at, never added, changed or deleted."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        return {}


class Inline(_PlainRelations, ThemeTabularInline):  # type: ignore[misc]  # the theme is untyped
    """Rows edited together with their parent."""

    extra = 0
    show_change_link = False
    # The columns say what a row is; the theme would repeat it above them.
    hide_title = True

    def has_view_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return self.admin_site.has_permission(request)  # type: ignore[no-any-return]  # untyped

    def has_add_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return self.has_view_permission(request, obj)

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return self.has_view_permission(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return self.has_view_permission(request, obj)


class ReadOnlyInline(Inline):
    """Rows shown with their parent, edited on pages of their own."""

    def has_add_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False


View = TypeVar("View", bound=Callable[..., Any])


def detail_page(*, label: str, path: str, icon: str = "") -> Callable[[View], View]:
    """Makes a method of a Page a page below one row, with a button on the row's form. The button
    is a link: a GET must only ask, the POST does. Name the method in `actions_detail`."""

    def decorate(view: View) -> View:
        made: View = theme_action(description=label, url_path=path, icon=icon or None)(view)
        return made

    return decorate


def list_page(*, label: str, path: str, icon: str = "") -> Callable[[View], View]:
    """Makes a method of a Page a page below its list, with a button there. Name the method in
    `actions_list`."""
    return detail_page(label=label, path=path, icon=icon)


def adopt(row: Model, saved: Model) -> None:
    """Lets the form's own object be the row that a service saved."""
    for field in saved._meta.concrete_fields:
        setattr(row, field.attname, getattr(saved, field.attname))
    row._state.adding = False


def moment(value: datetime | None, *, empty: str = "–", has_seconds: bool = False) -> str:
    """A time as every page writes it, in UTC."""
    if value is None:
        return empty
    return value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S" if has_seconds else "%Y-%m-%d %H:%M")


def sentence(error: GatewayError) -> str:
    """What a person reads when a service refused."""
    return error.message or str(error) or "That did not work."
