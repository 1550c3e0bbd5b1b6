"""Tenants with their members, and people, in the console."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import Count, QuerySet
from django.forms import BaseModelFormSet
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from controlplane.console import dashboard
from controlplane.console.actions import Confirm, bulk_action, confirm_one
from controlplane.console.forms import RowForm, ShownField, VersionedForm
from controlplane.console.pages import Inline, Page, adopt, detail_page, moment
from controlplane.console.secrets import Shown, show_once
from controlplane.kit import clock
from controlplane.kit.badges import Badge, Tone
from controlplane.kit.secret import Secret
from tenants.keys.models import ApiKey
from tenants.members import people, services
from tenants.members.models import Membership, Tenant, User, canonical_email


class TenantForm(VersionedForm):
    class Meta:
        model = Tenant
        fields = ("slug", "name", "plan_notes", "time_zone")
        help_texts = {
            "slug": "Short name in addresses and logs. It never changes.",
            "name": "What people call it.",
            "plan_notes": "For platform staff: contract, contact, agreements.",
        }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["plan_notes"].widget.attrs["rows"] = 4


class MembershipForm(RowForm):
    class Meta:
        model = Membership
        fields = ("user", "role")
        labels = {"user": "Person"}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not self.instance._state.adding:
            # Who it is stays; somebody else is another membership.
            self.initial["user"] = self.instance.user
            self.fields["user"] = ShownField(str(self.instance.user), label="Person")


class MembershipInline(Inline):
    model = Membership
    form = MembershipForm
    verbose_name = "member"
    verbose_name_plural = "Members"
    autocomplete_fields = ("user",)
    ordering = ("user__email",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Membership]:
        found: QuerySet[Membership] = super().get_queryset(request)
        return found.select_related("user")


@admin.register(Tenant)
class TenantPage(Page):
    nav_group = "Access"
    nav_icon = "apartment"
    nav_order = 10
    empty_title = "No tenants yet"
    empty_text = (
        "A tenant is a team or a customer. Its members, keys, credentials and limits are its own."
    )
    empty_label = "Create the first tenant"

    form = TenantForm
    inlines = (MembershipInline,)
    list_display = ("title", "state", "members", "keys", "created")
    list_filter = ("status",)
    search_fields = ("slug", "name")
    ordering = ("slug",)
    actions = ("suspend", "resume", "close")

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        changes = super().get_changelist_instance(request)
        # Counted for the rows of this page only.
        changes.result_list = list(_with_counts(changes.result_list))
        return changes

    def get_readonly_fields(self, request: HttpRequest, obj: Tenant | None = None) -> Any:
        return () if obj is None else ("slug", "state", "keys_of", "created")

    def get_fieldsets(self, request: HttpRequest, obj: Tenant | None = None) -> Any:
        fields: tuple[Any, ...] = ("slug", "name", "time_zone", "plan_notes")
        if obj is not None:
            fields = ("state", "keys_of", "created", *fields, "seen_version")
        return ((None, {"fields": fields}),)

    @admin.display(description="tenant", ordering="slug")
    def title(self, row: Tenant) -> SafeString:
        return format_html(
            '<span class="cell-main">{}</span> <span class="cell-sub">{}</span>', row.slug, row.name
        )

    @admin.display(description="state", ordering="status")
    def state(self, row: Tenant) -> SafeString:
        return Tenant.Status.of(row.status).badge.html()

    @admin.display(description="members")
    def members(self, row: Any) -> int:
        return int(row.member_count)

    @admin.display(description="working keys")
    def keys(self, row: Any) -> int:
        return int(row.key_count)

    @admin.display(description="created", ordering="created_at")
    def created(self, row: Tenant) -> str:
        return moment(row.created_at)

    @admin.display(description="keys")
    def keys_of(self, row: Tenant) -> SafeString:
        count = ApiKey.objects.filter(tenant=row).usable(now=clock.now()).count()
        return format_html(
            '{} working · <a class="link" href="{}?tenant={}">Show</a> · '
            '<a class="link" href="{}?tenant={}">Create a key</a>',
            count,
            reverse("admin:tenants_apikey_changelist"),
            row.slug,
            reverse("admin:tenants_apikey_add"),
            row.pk,
        )

    def save_model(self, request: HttpRequest, obj: Tenant, form: Any, change: bool) -> None:
        data = form.cleaned_data
        if not change:
            made = services.create_tenant(
                slug=data["slug"],
                name=data["name"],
                plan_notes=data["plan_notes"],
                time_zone=data["time_zone"],
            )
            adopt(obj, made)
            return
        changed = {name: data[name] for name in services.EDITABLE if name in form.changed_data}
        if changed:
            adopt(obj, services.update_tenant(tenant=obj, version=data["seen_version"], **changed))

    def save_formset(
        self, request: HttpRequest, form: Any, formset: BaseModelFormSet[Any, Any], change: bool
    ) -> None:
        formset.save(commit=False)
        for membership in formset.deleted_objects:
            services.remove_member(membership=Membership.objects.get(pk=membership.pk))
        for membership, _ in formset.changed_objects:
            services.change_role(
                membership=Membership.objects.select_related("user").get(pk=membership.pk),
                role=membership.role,
            )
        for membership in formset.new_objects:
            services.add_member(tenant=form.instance, user=membership.user, role=membership.role)

    @bulk_action(
        label="Suspend",
        done="suspended; their keys are refused from now on",
        already="suspended before",
        confirm=Confirm(
            "Suspend these tenants?",
            "Within a second every one of their keys is refused. Nothing is deleted: you can "
            "resume them at any time.",
            "Suspend",
        ),
    )
    def suspend(self, request: HttpRequest, row: Tenant) -> bool:
        return _set_status(row, Tenant.Status.SUSPENDED)

    @bulk_action(label="Resume", done="active again", already="active before")
    def resume(self, request: HttpRequest, row: Tenant) -> bool:
        return _set_status(row, Tenant.Status.ACTIVE)

    @bulk_action(
        label="Mark as closing",
        done="marked as closing; their keys are refused from now on",
        already="closing before",
        confirm=Confirm(
            "Mark these tenants as closing?",
            "Their keys are refused within a second. Their records stay until their secrets are "
            "shredded from the command line.",
            "Mark as closing",
        ),
    )
    def close(self, request: HttpRequest, row: Tenant) -> bool:
        return _set_status(row, Tenant.Status.CLOSING)


def _set_status(row: Tenant, status: Tenant.Status) -> bool:
    if row.status == status:
        return False
    services.change_status(tenant=row, status=status)
    return True


def _with_counts(rows: Any) -> list[Any]:
    found = list(rows)
    ids = [row.pk for row in found]
    members = dict(
        Membership.objects.filter(tenant__in=ids)
        .values_list("tenant")
        .annotate(count=Count("pk"))
        .order_by()
    )
    keys = dict(
        ApiKey.objects.usable(now=clock.now())
        .filter(tenant__in=ids)
        .values_list("tenant")
        .annotate(count=Count("pk"))
        .order_by()
    )
    for row in found:
        row.member_count = members.get(row.pk, 0)
        row.key_count = keys.get(row.pk, 0)
    return found


class PersonForm(RowForm):
    class Meta:
        model = User
        fields = ("email", "name", "is_staff")
        help_texts = {
            "is_staff": "Opens this console, with every tenant in it. What people may do in a "
            "tenant is set on the tenant.",
        }

    def clean_email(self) -> str:
        return canonical_email(self.cleaned_data["email"])


@admin.register(User)
class PersonPage(Page):
    nav_group = "Access"
    nav_title = "People"
    nav_icon = "group"
    nav_order = 20
    empty_title = "Nobody here"
    empty_text = "Add people, then make them members of tenants."
    empty_label = "Add a person"

    form = PersonForm
    list_display = ("person", "state", "belongs_to", "signed_in")
    list_filter = ("is_active", "is_staff", "must_change_password")
    search_fields = ("email", "name")
    ordering = ("email",)
    actions = ("deactivate", "reactivate")
    actions_detail = ("one_time_password",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[User]:
        found: QuerySet[User] = super().get_queryset(request)
        return found.defer("password").prefetch_related("memberships__tenant")

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        # Staff who could reset an administrator's password would be administrators.
        if isinstance(obj, User) and obj.is_staff and not request.user.is_superuser:
            return False
        return bool(super().has_change_permission(request, obj))

    def get_readonly_fields(self, request: HttpRequest, obj: User | None = None) -> Any:
        fields: tuple[str, ...] = () if request.user.is_superuser else ("is_staff",)
        return (
            fields if obj is None else (*fields, "email", "state", "belongs_to_links", "signed_in")
        )

    def get_fieldsets(self, request: HttpRequest, obj: User | None = None) -> Any:
        fields: tuple[Any, ...] = ("email", "name", "is_staff")
        if obj is not None:
            fields = ("state", *fields, "belongs_to_links", "signed_in")
        return ((None, {"fields": fields}),)

    @admin.display(description="person", ordering="email")
    def person(self, row: User) -> SafeString:
        return format_html(
            '<span class="cell-main">{}</span> <span class="cell-sub">{}</span>',
            row.email,
            row.name,
        )

    @admin.display(description="state")
    def state(self, row: User) -> SafeString:
        badges = [_state_of(row)]
        if row.is_superuser:
            badges.append(Badge("Administrator", Tone.INFO))
        elif row.is_staff:
            badges.append(Badge("Platform staff", Tone.INFO))
        return format_html_join(" ", "{}", ((badge.html(),) for badge in badges))

    @admin.display(description="last sign-in", ordering="last_login")
    def signed_in(self, row: User) -> str:
        return moment(row.last_login, empty="never")

    @admin.display(description="tenants")
    def belongs_to(self, row: User) -> str:
        slugs = sorted(membership.tenant.slug for membership in row.memberships.all())
        shown = ", ".join(slugs[:3])
        return f"{shown} and {len(slugs) - 3} more" if len(slugs) > 3 else shown or "–"

    @admin.display(description="tenants")
    def belongs_to_links(self, row: User) -> SafeString | str:
        memberships = sorted(row.memberships.all(), key=lambda one: one.tenant.slug)
        return (
            format_html_join(
                ", ",
                '<a class="link" href="{}">{}</a> as {}',
                (
                    (
                        reverse("admin:tenants_tenant_change", args=[one.tenant_id]),
                        one.tenant.slug,
                        one.get_role_display().lower(),
                    )
                    for one in memberships
                ),
            )
            or "none: open a tenant to make this person a member"
        )

    def save_model(self, request: HttpRequest, obj: User, form: Any, change: bool) -> None:
        data = form.cleaned_data
        if change:
            is_staff = data.get("is_staff", obj.is_staff)
            adopt(obj, people.change_person(user=obj, name=data["name"], is_staff=is_staff))
            return
        is_staff = bool(data.get("is_staff")) and request.user.is_superuser
        made, password = people.add_person(
            email=data["email"], name=data["name"], is_staff=is_staff
        )
        adopt(obj, made)
        request.one_time_password = password  # type: ignore[attr-defined]  # for response_add

    def response_add(
        self, request: HttpRequest, obj: User, post_url_continue: str | None = None
    ) -> HttpResponse:
        password: Secret = request.one_time_password  # type: ignore[attr-defined]  # save_model
        return show_once(self, request, _password_shown(self, obj, password))

    @detail_page(label="New one-time password", path="one-time-password", icon="key")
    def one_time_password(self, request: HttpRequest, object_id: str) -> HttpResponse:
        user = self.row(request, object_id)
        question = confirm_one(
            self,
            request,
            user,
            Confirm(
                "Give a new one-time password?",
                "The present password stops working and all sessions end. The person chooses "
                "their own password when they sign in with the new one.",
                "Make a one-time password",
            ),
        )
        if question is not None:
            return question
        password = people.give_one_time_password(user=user)
        return show_once(self, request, _password_shown(self, user, password))

    @bulk_action(
        label="Deactivate",
        done="deactivated and signed out",
        already="inactive before",
        confirm=Confirm(
            "Deactivate these people?",
            "They are signed out and cannot sign in. What they did stays on record.",
            "Deactivate",
        ),
    )
    def deactivate(self, request: HttpRequest, row: User) -> bool:
        return self.has_change_permission(request, row) and people.deactivate(user=row)

    @bulk_action(label="Reactivate", done="can sign in again", already="active before")
    def reactivate(self, request: HttpRequest, row: User) -> bool:
        return self.has_change_permission(request, row) and people.reactivate(user=row)


def _state_of(user: User) -> Badge:
    if not user.is_active:
        return Badge("Deactivated", Tone.QUIET)
    if user.must_change_password:
        return Badge("One-time password", Tone.WARN, "Has not chosen a password yet")
    return Badge("Active", Tone.GOOD)


def _password_shown(page: Page, user: User, password: Secret) -> Shown:
    return Shown(
        title="One-time password",
        text=f"For {user.email}. Hand it over on a way you trust; it must be replaced at the "
        "first sign-in.",
        secret=password,
        done_url=page.url_of("change", user.pk),
    )


@dashboard.card(order=10)
def tenants_card(_request: HttpRequest) -> dashboard.Card:
    counts = dict(Tenant.objects.values_list("status").annotate(count=Count("pk")).order_by())
    stopped = sum(count for status, count in counts.items() if status != Tenant.Status.ACTIVE)
    return dashboard.Card(
        title="Tenants",
        figure=str(sum(counts.values())),
        note=f"{counts.get(Tenant.Status.ACTIVE, 0)} active",
        url=reverse("admin:tenants_tenant_changelist"),
        icon="apartment",
        badges=(Badge(f"{stopped} stopped", Tone.WARN),) if stopped else (),
    )


@dashboard.card(order=20)
def people_card(_request: HttpRequest) -> dashboard.Card:
    active = User.objects.filter(is_active=True)
    waiting = active.filter(must_change_password=True).count()
    return dashboard.Card(
        title="People",
        figure=str(active.count()),
        note="can sign in",
        url=reverse("admin:tenants_user_changelist"),
        icon="group",
        badges=(Badge(f"{waiting} with one-time password", Tone.WARN),) if waiting else (),
    )


@dashboard.step(order=10)
def first_tenant(_request: HttpRequest) -> dashboard.Step:
    return dashboard.Step(
        title="Create a tenant",
        text="A team or a customer, with its own members, keys and limits.",
        url=reverse("admin:tenants_tenant_add"),
        label="Create a tenant",
        is_done=Tenant.objects.exists(),
    )
