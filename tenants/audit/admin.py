"""The audit trail in the console: who changed what, read-only."""

from __future__ import annotations

import json
from typing import Any, Final

from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from controlplane.console import dashboard
from controlplane.console.filters import TenantFilter
from controlplane.console.pages import ReadOnlyPage, moment
from tenants.audit.models import AuditEvent

_LINES: Final = 8
# The first word of an action is what it is about.
_AREAS: Final = (
    ("tenant", "Tenants"),
    ("member", "Members"),
    ("invitation", "Invitations"),
    ("key", "API keys"),
    ("provider", "Providers"),
    ("credential", "Credentials"),
    ("model", "Models"),
    ("mapping", "Model mappings"),
    ("alias", "Aliases"),
    ("user", "People and sign-in"),
    ("vault", "Vault"),
)


class AreaFilter(admin.SimpleListFilter):
    title = "about"
    parameter_name = "about"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return list(_AREAS)

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        area = self.value()
        return queryset if area is None else queryset.filter(action__startswith=f"{area}.")


class EventTenantFilter(TenantFilter):
    """By the name at that time: events outlive their tenant."""

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[Any, str]]:
        return [("-", "Platform"), *super().lookups(request, model_admin)]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        slug = self.value()
        if slug is None:
            return queryset
        return queryset.filter(Q(tenant_id=None) if slug == "-" else Q(tenant_slug=slug))


@admin.register(AuditEvent)
class AuditPage(ReadOnlyPage):
    nav_group = "Records"
    nav_title = "Audit trail"
    nav_icon = "history"
    nav_order = 90
    empty_title = "Nothing recorded yet"
    empty_text = "Every change of tenants, people, keys and credentials appears here by itself."

    list_display = ("what", "target", "who", "of_tenant", "when")
    list_filter = (AreaFilter, EventTenantFilter, "actor_kind", "created_at")
    search_fields = ("=target_id", "=actor_id", "target_label", "actor_label", "=address")
    search_help_text = "A name, an id or an address, in full or in part"
    ordering = ("-created_at", "-sequence")
    sortable_by = ("when",)
    fieldsets = (
        (None, {"fields": ("what", "target", "when", "of_tenant")}),
        ("Who", {"fields": ("who", "actor_kind", "address")}),
        ("What changed", {"fields": ("changed",)}),
        ("Proof", {"fields": ("chain", "sequence", "previous_hash", "hash")}),
    )

    @admin.display(description="what")
    def what(self, row: AuditEvent) -> SafeString:
        return format_html('<span class="cell-main">{}</span>', in_words(row.action))

    @admin.display(description="to")
    def target(self, row: AuditEvent) -> str:
        return about(row) or "–"

    @admin.display(description="by")
    def who(self, row: AuditEvent) -> SafeString:
        return format_html(
            '{} <span class="cell-sub">{}</span>',
            row.actor_label or row.get_actor_kind_display(),
            row.address,
        )

    @admin.display(description="tenant")
    def of_tenant(self, row: AuditEvent) -> str:
        return row.tenant_slug or "platform"

    @admin.display(description="when", ordering="created_at")
    def when(self, row: AuditEvent) -> str:
        return moment(row.created_at, has_seconds=True)

    @admin.display(description="before and after")
    def changed(self, row: AuditEvent) -> SafeString | str:
        rows = format_html_join(
            "",
            "<tr><th>{}</th><td>{}</td><td>{}</td></tr>",
            ((_words(one.name), _value(one.before), _value(one.after)) for one in row.changes),
        )
        if not rows:
            return "nothing besides the fact itself"
        return format_html(
            '<table class="changes"><thead><tr><th></th><th>Before</th><th>After</th></tr></thead>'
            "<tbody>{}</tbody></table>",
            rows,
        )


def about(event: AuditEvent) -> str:
    """What people would call the thing an event is about."""
    if event.target_model == "tenants.membership":
        # A membership is called by the person; the row itself knows only ids.
        return str((event.after or event.before or {}).get("user") or event.target_label)
    return event.target_label or event.target_model


def in_words(action: str) -> str:
    """`key.revoked` as people say it: Key revoked."""
    return _words(action.replace(".", " "))


def _words(name: str) -> str:
    text = name.replace("_", " ")
    return text[:1].upper() + text[1:]


def _value(value: Any) -> str:
    if value is None or value == "":
        return "–"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


@dashboard.feed(order=90)
def latest(_request: HttpRequest) -> dashboard.Feed:
    events = AuditEvent.objects.order_by("-created_at", "-sequence")[:_LINES]
    return dashboard.Feed(
        title="Latest changes",
        lines=tuple(
            dashboard.Line(
                when=event.created_at,
                what=f"{in_words(event.action)}: {about(event)}".rstrip(": "),
                who=event.actor_label or event.get_actor_kind_display(),
                url=reverse("admin:tenants_auditevent_change", args=[event.pk]),
            )
            for event in events
        ),
        empty="Nothing has been changed yet.",
        url=reverse("admin:tenants_auditevent_changelist"),
    )
