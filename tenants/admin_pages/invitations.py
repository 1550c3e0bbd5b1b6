"""Invitations in the console: made with one showing of the token, withdrawn with a question."""

from __future__ import annotations

import contextlib
import uuid
from typing import Any, Final

from django import forms
from django.conf import settings
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from controlplane.console.actions import Confirm, confirm_one
from controlplane.console.filters import TenantFilter
from controlplane.console.form_pages import form_page
from controlplane.console.forms import PageForm
from controlplane.console.pages import Page, detail_page, moment
from controlplane.console.secrets import Shown, show_once
from controlplane.console.tenant_fields import TenantField
from controlplane.kit import clock
from controlplane.kit.badges import Badge, Tone
from tenants import scope
from tenants.members.invitations import VALID_FOR, invite, withdraw
from tenants.members.models import Invitation, Membership, Tenant


class OpenFilter(admin.SimpleListFilter):
    title = "state"
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [
            ("open", "Open"),
            ("expired", "Expired unused"),
            ("closed", "Accepted or withdrawn"),
        ]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        now = clock.now()
        match self.value():
            case "open":
                return queryset.filter(closed_at=None, expires_at__gt=now)
            case "expired":
                return queryset.filter(closed_at=None, expires_at__lte=now)
            case "closed":
                return queryset.exclude(closed_at=None)
            case _:
                return queryset


class InvitationForm(PageForm):
    email = forms.EmailField(
        label="E-mail", help_text="Only the person who signs in with it can accept."
    )
    role = forms.ChoiceField(
        label="Role", choices=Membership.Role.choices, initial=Membership.Role.MEMBER
    )

    field_order = ("tenant", "email", "role")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["tenant"] = TenantField(
            label="Tenant", required=True, help_text="Its short name."
        )
        self.order_fields(self.field_order)
        self.dress()


@admin.register(Invitation)
class InvitationPage(Page):
    nav_group = "Access"
    nav_title = "Invitations"
    nav_icon = "mail"
    nav_order = 25
    empty_title = "No invitations yet"
    empty_text = "Ask somebody into a tenant: they accept when they have signed in."
    empty_label = "Invite somebody"

    list_display = ("title", "state", "role", "tenant_slug", "ends")
    list_filter = (OpenFilter, TenantFilter)
    list_select_related = ("tenant",)
    search_fields = ("email", "tenant__slug")
    ordering = ("-created_at",)
    fields = ("title", "state", "role", "tenant_slug", "made", "ends", "closed")
    readonly_fields = fields
    actions_detail = ("withdraw",)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        # Somebody holds its token: another role is another invitation.
        return False

    def get_queryset(self, request: HttpRequest) -> QuerySet[Invitation]:
        found: QuerySet[Invitation] = super().get_queryset(request)
        return found.select_related("tenant").defer("digest")

    def get_actions_detail(self, request: HttpRequest, object_id: Any) -> list[Any]:
        row = self.get_object(request, str(object_id))
        is_open = isinstance(row, Invitation) and row.closed_at is None
        return list(super().get_actions_detail(request, object_id)) if is_open else []

    @admin.display(description="invited", ordering="email")
    def title(self, row: Invitation) -> SafeString:
        return format_html('<span class="cell-main">{}</span>', row.email)

    @admin.display(description="state")
    def state(self, row: Invitation) -> SafeString:
        if row.closed_at is not None:
            return Badge("Accepted or withdrawn", Tone.QUIET).html()
        is_over = row.expires_at <= clock.now()
        return (Badge("Expired", Tone.WARN) if is_over else Badge("Open", Tone.GOOD)).html()

    @admin.display(description="tenant", ordering="tenant__slug")
    def tenant_slug(self, row: Invitation) -> str:
        return row.tenant.slug

    @admin.display(description="made", ordering="created_at")
    def made(self, row: Invitation) -> str:
        return moment(row.created_at)

    @admin.display(description="ends", ordering="expires_at")
    def ends(self, row: Invitation) -> str:
        return moment(row.expires_at)

    @admin.display(description="accepted or withdrawn")
    def closed(self, row: Invitation) -> str:
        return moment(row.closed_at, empty="not yet")

    def add_view(
        self, request: HttpRequest, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        if not self.has_add_permission(request):
            raise PermissionDenied
        form = InvitationForm(request.POST or None, initial=_named_tenant(request))

        def save(data: dict[str, Any]) -> HttpResponse:
            tenant = data["tenant"]
            with scope.tenant(tenant.pk):
                made, token = invite(tenant=tenant, email=data["email"], role=data["role"])
            base = (settings.PUBLIC_URL or request.build_absolute_uri("/")).rstrip("/")
            return show_once(
                self,
                request,
                Shown(
                    title="The invitation",
                    text=f"For {made.email}, into {tenant.name}. Hand it over on a way you trust.",
                    secret=token,
                    note=f"They sign in and paste it at {base}{reverse('account_invitation')}. "
                    f"It works once, within {VALID_FOR.days} days.",
                    done_url=self.url_of("changelist"),
                    done_label="Done, I have handed it over",
                ),
            )

        return form_page(
            self,
            request,
            form,
            title="Invite somebody",
            intro="They need an account with this address, or single sign-on. A newer invitation "
            "takes the place of the older one.",
            button="Make the invitation",
            back_url=self.url_of("changelist"),
            do=save,
        )

    @detail_page(label="Withdraw", path="withdraw", icon="block")
    def withdraw(self, request: HttpRequest, object_id: str) -> HttpResponse:
        row = self.row(request, object_id, to_change=False)
        if row.closed_at is not None:
            messages.info(request, "This invitation is closed already.")
            return self.back_to(row)
        question = confirm_one(self, request, row, _WITHDRAW)
        if question is not None:
            return question
        withdraw(invitation=row)
        messages.success(request, f"The invitation of {row.email} is withdrawn.")
        return self.back_to(row)


def _named_tenant(request: HttpRequest) -> dict[str, str]:
    """`?tenant=` as the tenant's page links here; an address that somebody typed chooses none."""
    with contextlib.suppress(ValueError):
        tenant = Tenant.objects.filter(pk=uuid.UUID(request.GET.get("tenant", ""))).first()
        if tenant is not None:
            return {"tenant": tenant.slug}
    return {}


_WITHDRAW: Final = Confirm(
    "Withdraw this invitation?", "Its token is refused from now on.", "Withdraw"
)
