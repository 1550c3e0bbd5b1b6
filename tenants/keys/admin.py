"""API keys in the console: made and replaced with one showing, ended with a question."""

from __future__ import annotations

import contextlib
import uuid
from datetime import timedelta
from typing import Any, Final

from django import forms
from django.conf import settings
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.timesince import timeuntil

from controlplane.console import dashboard
from controlplane.console.actions import Confirm, bulk_action, confirm_one
from controlplane.console.filters import TenantFilter
from controlplane.console.forms import LinesField, PageForm, VersionedForm
from controlplane.console.pages import Page, adopt, detail_page, moment, sentence
from controlplane.console.secrets import Shown, show_once
from controlplane.kit import clock
from controlplane.kit.badges import Badge, Tone
from controlplane.kit.errors import GatewayError
from controlplane.kit.secret import Secret
from tenants.keys import services
from tenants.keys.models import ApiKey, KeyScope

SOON: Final = timedelta(days=7)
_OVERLAPS: Final = (
    ("0", "None: the old key ends now"),
    ("1", "1 hour"),
    ("24", "1 day"),
    ("168", "7 days"),
    ("720", "30 days"),
)


class KeyStateFilter(admin.SimpleListFilter):
    title = "state"
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [
            ("working", "Working"),
            ("expiring", "Expiring within 7 days"),
            ("replaced", "Replaced, still working"),
            ("unused", "Working, never used"),
            ("ended", "Expired or revoked"),
        ]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        now = clock.now()
        usable = ApiKey.objects.usable(now=now).values("pk")
        match self.value():
            case "working":
                return queryset.filter(pk__in=usable)
            case "expiring":
                return queryset.filter(
                    pk__in=ApiKey.objects.expiring(now=now, within=SOON).values("pk")
                )
            case "replaced":
                return queryset.filter(pk__in=usable, rotated_at__isnull=False)
            case "unused":
                return queryset.filter(pk__in=usable, last_used_at=None)
            case "ended":
                return queryset.exclude(pk__in=usable)
            case _:
                return queryset


class KeyForm(VersionedForm):
    scopes = forms.MultipleChoiceField(
        choices=KeyScope.choices,
        widget=forms.CheckboxSelectMultiple,
        initial=[KeyScope.PROXY],
        label="May",
    )
    allowed_models = LinesField(
        label="Only these models",
        help_text="Names or globs such as gpt-*, one per line. Empty: every model the tenant has.",
    )
    allowed_networks = LinesField(
        label="Only from these addresses",
        help_text="Addresses or ranges such as 203.0.113.0/24, one per line. Empty: anywhere.",
    )

    class Meta:
        model = ApiKey
        fields = ("tenant", "label", "scopes", "allowed_models", "allowed_networks", "expires_at")
        help_texts = {
            "label": "Where the key is used: a person or a program.",
            "expires_at": "In UTC. Empty: the key has no end.",
        }


class RotateForm(PageForm):
    overlap_hours = forms.ChoiceField(
        label="How long both keys work",
        choices=_OVERLAPS,
        initial="24",
        help_text="Long enough to bring the new key to every place that uses the old one.",
    )


@admin.register(ApiKey)
class KeyPage(Page):
    nav_group = "Access"
    nav_title = "API keys"
    nav_icon = "key"
    nav_order = 30
    empty_title = "No keys yet"
    empty_text = (
        "With a key a tenant calls every model through one address. It is shown once, when it "
        "is made."
    )
    empty_label = "Create a key"

    form = KeyForm
    list_display = ("title", "state", "tenant_slug", "used", "ends", "created")
    list_filter = (KeyStateFilter, TenantFilter)
    list_select_related = ("tenant",)
    search_fields = ("label", "public_id", "tenant__slug")
    ordering = ("-created_at",)
    autocomplete_fields = ("tenant",)
    actions = ("revoke",)
    actions_detail = ("rotate", "revoke_one")

    def get_queryset(self, request: HttpRequest) -> QuerySet[ApiKey]:
        found: QuerySet[ApiKey] = super().get_queryset(request)
        return found.defer("digest", "pepper_name")

    def get_readonly_fields(self, request: HttpRequest, obj: ApiKey | None = None) -> Any:
        if obj is None:
            return ()
        settled = ("tenant", "state", "shown", "used", "created", "replaces")
        return settled if obj.rotated_at is None else (*settled, "expires_at")

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        # A revoked key is history.
        if isinstance(obj, ApiKey) and obj.revoked_at is not None:
            return False
        return bool(super().has_change_permission(request, obj))

    def get_fieldsets(self, request: HttpRequest, obj: ApiKey | None = None) -> Any:
        limits = {"fields": ("scopes", "allowed_models", "allowed_networks", "expires_at")}
        if obj is None:
            return ((None, {"fields": ("tenant", "label")}), ("What it may do", limits))
        about = ["tenant", "state", "shown", "used", "created", "replaces", "label"]
        if obj.revoked_at is None:
            about.append("seen_version")
        return ((None, {"fields": about}), ("What it may do", limits))

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        initial: dict[str, Any] = {"scopes": [KeyScope.PROXY]}
        with contextlib.suppress(ValueError):  # an address somebody typed: no tenant is chosen
            initial["tenant"] = uuid.UUID(request.GET.get("tenant", ""))
        return initial

    @admin.display(description="key", ordering="label")
    def title(self, row: ApiKey) -> SafeString:
        return format_html(
            '<span class="cell-main">{}</span> <span class="cell-sub cell-code">{}</span>',
            row.label,
            row.display,
        )

    @admin.display(description="state")
    def state(self, row: ApiKey) -> SafeString:
        return _state_of(row).html()

    @admin.display(description="tenant", ordering="tenant__slug")
    def tenant_slug(self, row: ApiKey) -> str:
        return row.tenant.slug

    @admin.display(description="starts with")
    def shown(self, row: ApiKey) -> SafeString:
        return format_html('<span class="cell-code">{}</span>', row.display)

    @admin.display(description="last used", ordering="last_used_at")
    def used(self, row: ApiKey) -> str:
        return moment(row.last_used_at, empty="never")

    @admin.display(description="ends", ordering="expires_at")
    def ends(self, row: ApiKey) -> str:
        return moment(row.revoked_at or row.expires_at, empty="never")

    @admin.display(description="created", ordering="created_at")
    def created(self, row: ApiKey) -> str:
        return moment(row.created_at)

    @admin.display(description="rotation")
    def replaces(self, row: ApiKey) -> SafeString | str:
        parts = []
        if row.rotated_from is not None:
            parts.append(("Replaces", row.rotated_from))
        if row.rotated_at is not None:
            new = ApiKey.objects.filter(rotated_from=row).first()
            if new is not None:
                parts.append(("Replaced by", new))
        if not parts:
            return "never rotated"
        return format_html(
            " · ".join(['{} <a class="link" href="{}">{}</a>'] * len(parts)),
            *(
                value
                for word, key in parts
                for value in (word, self.url_of("change", key.pk), key.display)
            ),
        )

    def save_model(self, request: HttpRequest, obj: ApiKey, form: Any, change: bool) -> None:
        data = form.cleaned_data
        if change:
            changed = {name: data[name] for name in services.EDITABLE if name in form.changed_data}
            if changed:
                adopt(obj, services.update_key(key=obj, version=data["seen_version"], **changed))
            return
        made, token = services.create_key(
            tenant=data["tenant"],
            label=data["label"],
            scopes=data["scopes"],
            allowed_models=data["allowed_models"],
            allowed_networks=data["allowed_networks"],
            expires_at=data["expires_at"],
        )
        adopt(obj, made)
        request.new_token = token  # type: ignore[attr-defined]  # for response_add

    def response_add(
        self, request: HttpRequest, obj: ApiKey, post_url_continue: str | None = None
    ) -> HttpResponse:
        return show_once(self, request, self._shown(request, obj, request.new_token))  # type: ignore[attr-defined]  # set in save_model

    def _shown(self, request: HttpRequest, key: ApiKey, token: Secret) -> Shown:
        base = (settings.PUBLIC_URL or request.build_absolute_uri("/")).rstrip("/")
        return Shown(
            title="The new key",
            text=f"For “{key.label}” of {key.tenant.name}.",
            secret=token,
            note="Use it as the API key of any OpenAI, Anthropic or Gemini client, with this "
            "service as the base address.",
            example=f'curl {base}/v1/models -H "Authorization: Bearer {{secret}}"',
            done_url=self.url_of("change", key.pk),
        )

    @detail_page(label="Rotate", path="rotate", icon="autorenew")
    def rotate(self, request: HttpRequest, object_id: str) -> HttpResponse:
        key = self.row(request, object_id)
        if _state_now(key) is not ApiKey.State.ACTIVE:
            messages.info(request, "Only a working key that was not replaced yet can be rotated.")
            return self.back_to(key)
        form = RotateForm(request.POST or None)
        if request.method == "POST" and form.is_valid():
            hours = int(form.cleaned_data["overlap_hours"])
            now = clock.now()
            try:
                new, token = services.rotate_key(
                    key=key, overlap_until=now + timedelta(hours=hours), now=now
                )
            except GatewayError as error:
                messages.error(request, sentence(error))
                return self.back_to(key)
            except ValidationError as error:
                form.add_error(None, error.messages)
            else:
                return show_once(self, request, self._shown(request, new, token))
        return TemplateResponse(
            request,
            "console/form.html",
            self.context(
                request,
                f"Rotate {key.label}",
                original=key,
                form=form,
                intro="Makes a new key with the same limits and shows it once. The old one keeps "
                "working for as long as you choose here, then ends by itself.",
                button="Make the new key",
                back_url=self.url_of("change", key.pk),
            ),
        )

    @detail_page(label="Revoke", path="revoke", icon="block")
    def revoke_one(self, request: HttpRequest, object_id: str) -> HttpResponse:
        key = self.row(request, object_id)
        question = confirm_one(self, request, key, _REVOKE)
        if question is not None:
            return question
        if services.revoke_key(key=key):
            messages.success(request, f"“{key.label}” is revoked. It is refused from now on.")
        else:
            messages.info(request, f"“{key.label}” was revoked before.")
        return self.back_to(key)

    @bulk_action(
        label="Revoke",
        done="revoked",
        already="revoked before",
        confirm=Confirm(
            "Revoke these keys?",
            "Within a second they are refused, for good. A revoked key cannot be brought back.",
            "Revoke",
        ),
    )
    def revoke(self, request: HttpRequest, row: ApiKey) -> bool:
        return services.revoke_key(key=row)


_REVOKE: Final = Confirm(
    "Revoke this key?",
    "Within a second it is refused, for good. A revoked key cannot be brought back.",
    "Revoke",
)


def _state_now(key: ApiKey) -> ApiKey.State:
    return key.state(now=clock.now())


def _state_of(key: ApiKey) -> Badge:
    now = clock.now()
    state = key.state(now=now)
    if key.expires_at is not None and state in {ApiKey.State.ACTIVE, ApiKey.State.ROTATED}:
        left = timeuntil(key.expires_at, now)
        if state is ApiKey.State.ROTATED:
            return Badge(state.label, state.tone, f"Ends in {left}")
        if key.expires_at - now <= SOON:
            return Badge("Expires soon", Tone.WARN, f"Ends in {left}")
    return state.badge


@dashboard.card(order=30)
def keys_card(_request: HttpRequest) -> dashboard.Card:
    now = clock.now()
    expiring = ApiKey.objects.expiring(now=now, within=SOON).count()
    return dashboard.Card(
        title="API keys",
        figure=str(ApiKey.objects.usable(now=now).count()),
        note="working",
        url=reverse("admin:tenants_apikey_changelist") + "?state=working",
        icon="key",
        badges=(Badge(f"{expiring} ending within 7 days", Tone.WARN),) if expiring else (),
    )


@dashboard.step(order=20)
def first_key(_request: HttpRequest) -> dashboard.Step:
    return dashboard.Step(
        title="Create an API key",
        text="Shown once, then used in any OpenAI, Anthropic or Gemini client.",
        url=reverse("admin:tenants_apikey_add"),
        label="Create a key",
        is_done=ApiKey.objects.exists(),
    )
