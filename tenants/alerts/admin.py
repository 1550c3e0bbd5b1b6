"""Alerts in the console: what was told, to whom, how that went; and who shall hear of what."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.db.models import Count, Q, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from controlplane.console import dashboard
from controlplane.console.actions import Confirm, confirm_one
from controlplane.console.filters import TenantFilter
from controlplane.console.form_pages import form_page
from controlplane.console.forms import PageForm, VersionedForm
from controlplane.console.pages import Page, ReadOnlyPage, adopt, detail_page, moment, sentence
from controlplane.console.secrets import Shown, show_once
from controlplane.kit import clock
from controlplane.kit.badges import Badge, Tone
from controlplane.kit.errors import GatewayError
from controlplane.kit.json import dumps_str
from tenants.alerts import receivers
from tenants.alerts.kinds import CHOICES, AlertKind
from tenants.alerts.models import Alert, AlertDelivery, AlertReceiver, Channel

State = AlertDelivery.State
RECENT: Final = timedelta(days=1)
_SHOWN_DELIVERIES: Final = 20
_OVERLAPS: Final = (("0", "not at all"), ("1", "1 hour"), ("24", "1 day"), ("168", "7 days"))


class DeliveryFilter(admin.SimpleListFilter):
    title = "delivery"
    parameter_name = "delivery"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("given_up", "Given up"), ("waiting", "On its way")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        if self.value() not in (State.GIVEN_UP, State.WAITING):
            return queryset
        rows = AlertDelivery.objects.filter(state=self.value())
        return queryset.filter(pk__in=rows.values("alert"))


@admin.register(Alert)
class AlertPage(ReadOnlyPage):
    nav_group = "Records"
    nav_title = "Alerts"
    nav_icon = "notifications"
    nav_order = 20
    empty_title = "No alerts yet"
    empty_text = (
        "Limits at 50, 80 and 100 %, budgets that run short, credentials that need somebody, "
        "providers that stop working and differences in the ledger appear here, each once."
    )

    list_display = ("what", "tenant_slug", "told", "when")
    list_filter = ("kind", DeliveryFilter, TenantFilter)
    list_select_related = ("tenant",)
    search_fields = ("title", "tenant__slug")
    search_help_text = "Words of the alert, or a tenant"
    ordering = ("-created_at", "-pk")
    sortable_by = ("when",)
    fieldsets = (
        (None, {"fields": ("what", "tenant_slug", "when", "words")}),
        ("Deliveries", {"fields": ("deliveries",)}),
        ("For programs", {"fields": ("data",)}),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Alert]:
        found: QuerySet[Alert] = super().get_queryset(request)
        return found.select_related("tenant").annotate(
            sent=Count("deliveries", filter=Q(deliveries__state=State.SENT)),
            waiting=Count("deliveries", filter=Q(deliveries__state=State.WAITING)),
            given_up=Count("deliveries", filter=Q(deliveries__state=State.GIVEN_UP)),
        )

    @admin.display(description="alert")
    def what(self, row: Alert) -> SafeString:
        kind = AlertKind.of(row.kind)
        return format_html('{} <span class="cell-main">{}</span>', kind.badge.html(), row.title)

    @admin.display(description="tenant", ordering="tenant__slug")
    def tenant_slug(self, row: Alert) -> str:
        return row.tenant.slug if row.tenant is not None else "platform"

    @admin.display(description="when", ordering="created_at")
    def when(self, row: Alert) -> str:
        return moment(row.created_at)

    @admin.display(description="told")
    def told(self, row: Any) -> SafeString | str:
        """Counted by the list's own query."""
        badges = [
            Badge(f"{count} {word}", tone).html()
            for count, word, tone in (
                (row.sent, "delivered", Tone.GOOD),
                (row.waiting, "on its way", Tone.INFO),
                (row.given_up, "given up", Tone.BAD),
            )
            if count
        ]
        return format_html_join(" ", "{}", ((badge,) for badge in badges)) or "nobody"

    @admin.display(description="text")
    def words(self, row: Alert) -> SafeString:
        return format_html('<span class="cell-wrap">{}</span>', row.text)

    @admin.display(description="deliveries")
    def deliveries(self, row: Alert) -> SafeString | str:
        rows = row.deliveries.select_related("receiver").order_by("created_at", "pk")
        return _lines(rows, lambda one: _receiver_of(one))

    @admin.display(description="facts")
    def data(self, row: Alert) -> SafeString:
        return format_html('<span class="cell-code">{}</span>', dumps_str(row.facts))


class ReceiverForm(VersionedForm):
    kinds = forms.MultipleChoiceField(
        choices=CHOICES,
        widget=forms.CheckboxSelectMultiple,
        required=False,
        label="Only these",
        help_text="None ticked: every kind.",
    )

    class Meta:
        model = AlertReceiver
        fields = ("tenant", "label", "channel", "address", "kinds", "is_on")
        help_texts = {
            "tenant": "Whose alerts. Empty: the platform's own.",
            "channel": "Webhooks are signed; the secret is shown once.",
            "address": "A URL for a webhook. For e-mail an address; empty: the tenant's admins "
            "and owners, or the platform's staff.",
        }


class RotateForm(PageForm):
    overlap_hours = forms.ChoiceField(
        label="How long the old secret signs too",
        choices=_OVERLAPS,
        initial="24",
        help_text="Long enough to bring the new one to the receiver.",
    )


@admin.register(AlertReceiver)
class ReceiverPage(Page):
    nav_group = "Records"
    nav_title = "Alert receivers"
    nav_icon = "forward_to_inbox"
    nav_order = 30
    empty_title = "Alerts go out as letters"
    empty_text = (
        "Without a receiver, a tenant's admins and owners, and staff for the platform, get every "
        "alert by e-mail. Add a webhook, or choose who hears of what."
    )
    empty_label = "Add a receiver"

    form = ReceiverForm
    list_display = ("title", "state", "tenant_slug", "hears", "last")
    list_filter = ("channel", "is_on", TenantFilter)
    list_select_related = ("tenant",)
    search_fields = ("label", "tenant__slug")
    ordering = ("label", "pk")
    autocomplete_fields = ("tenant",)
    actions_detail = ("test", "rotate", "remove")

    def get_queryset(self, request: HttpRequest) -> QuerySet[AlertReceiver]:
        found: QuerySet[AlertReceiver] = super().get_queryset(request)
        return found.defer("sealed_secret", "sealed_previous")

    def get_readonly_fields(self, request: HttpRequest, obj: AlertReceiver | None = None) -> Any:
        return () if obj is None else ("tenant", "channel", "state", "secret", "recent")

    def get_fieldsets(self, request: HttpRequest, obj: AlertReceiver | None = None) -> Any:
        if obj is None:
            new = ("tenant", "label", "channel", "address", "is_on")
            return ((None, {"fields": new}), ("What it hears of", {"fields": ("kinds",)}))
        about = ("state", "tenant", "channel", "secret", "label", "address", "is_on")
        return (
            (None, {"fields": (*about, "seen_version")}),
            ("What it hears of", {"fields": ("kinds",)}),
            ("Latest deliveries", {"fields": ("recent",)}),
        )

    @admin.display(description="receiver", ordering="label")
    def title(self, row: AlertReceiver) -> SafeString:
        return format_html(
            '<span class="cell-main">{}</span> <span class="cell-sub">{} · {}</span>',
            row.label,
            row.get_channel_display(),
            row.shown_address,
        )

    @admin.display(description="state", ordering="is_on")
    def state(self, row: AlertReceiver) -> SafeString:
        return _state_of(row).html()

    @admin.display(description="tenant", ordering="tenant__slug")
    def tenant_slug(self, row: AlertReceiver) -> str:
        return row.tenant.slug if row.tenant is not None else "platform"

    @admin.display(description="hears of")
    def hears(self, row: AlertReceiver) -> str:
        return f"{len(row.kinds)} kinds" if row.kinds else "everything"

    @admin.display(description="last delivered", ordering="last_sent_at")
    def last(self, row: AlertReceiver) -> str:
        return moment(row.last_sent_at, empty="never")

    @admin.display(description="signs with")
    def secret(self, row: AlertReceiver) -> str:
        if row.channel != Channel.WEBHOOK:
            return "letters are not signed"
        until = row.previous_until
        if until is not None and until > clock.now():
            return f"{row.fingerprint}; the secret before it too, until {moment(until)}"
        return row.fingerprint

    @admin.display(description="deliveries")
    def recent(self, row: AlertReceiver) -> SafeString | str:
        rows = row.deliveries.select_related("alert").order_by("-created_at", "-pk")
        return _lines(rows[:_SHOWN_DELIVERIES], lambda one: one.alert.title)

    def save_model(self, request: HttpRequest, obj: AlertReceiver, form: Any, change: bool) -> None:
        data = form.cleaned_data
        if change:
            changed = {name: data[name] for name in receivers.EDITABLE if name in form.changed_data}
            if changed:
                adopt(
                    obj,
                    receivers.update_receiver(
                        receiver=obj, version=data["seen_version"], **changed
                    ),
                )
            return
        made, secret = receivers.create_receiver(
            tenant=data["tenant"],
            label=data["label"],
            channel=data["channel"],
            address=data["address"],
            kinds=data["kinds"],
            is_on=data["is_on"],
        )
        adopt(obj, made)
        request.new_secret = secret  # type: ignore[attr-defined]  # for response_add

    def response_add(
        self, request: HttpRequest, obj: AlertReceiver, post_url_continue: str | None = None
    ) -> HttpResponse:
        secret = request.new_secret  # type: ignore[attr-defined]  # set in save_model
        if secret is None:
            messages.success(request, f"“{obj.label}” is added. Send it a test now.")
            return self.back_to(obj)
        return show_once(self, request, self._shown(obj, secret))

    def _shown(self, row: AlertReceiver, secret: Any) -> Shown:
        return Shown(
            title="The signing secret",
            text=f"For the webhook “{row.label}”.",
            secret=secret,
            note="Give it to the receiver: with it, it checks that a message is ours "
            "(docs/alerts.md).",
            done_url=self.url_of("change", row.pk),
        )

    @detail_page(label="Send a test", path="test", icon="send")
    def test(self, request: HttpRequest, object_id: str) -> HttpResponse:
        row = self.row(request, object_id)
        question = confirm_one(self, request, row, _TEST)
        if question is not None:
            return question
        try:
            receivers.send_test(receiver=row)
        except GatewayError as error:
            messages.error(request, sentence(error))
        else:
            messages.success(request, "A test is on its way. How it went shows below in seconds.")
        return self.back_to(row)

    @detail_page(label="Replace the secret", path="rotate", icon="autorenew")
    def rotate(self, request: HttpRequest, object_id: str) -> HttpResponse:
        row = self.row(request, object_id)
        if row.channel != Channel.WEBHOOK:
            messages.info(request, "Letters are not signed: there is no secret to replace.")
            return self.back_to(row)

        def replace(data: dict[str, Any]) -> HttpResponse:
            changed, secret = receivers.rotate_secret(
                receiver=row,
                version=row.version,
                overlap=timedelta(hours=int(data["overlap_hours"])),
            )
            return show_once(self, request, self._shown(changed, secret))

        return form_page(
            self,
            request,
            RotateForm(request.POST or None),
            title=f"Replace the secret of {row.label}",
            intro="Makes a new secret and shows it once. For as long as you choose here, messages "
            "carry a signature by each of the two.",
            button="Make the new secret",
            back_url=self.url_of("change", row.pk),
            do=replace,
            original=row,
        )

    @detail_page(label="Remove", path="remove", icon="delete")
    def remove(self, request: HttpRequest, object_id: str) -> HttpResponse:
        row = self.row(request, object_id)
        question = confirm_one(self, request, row, _REMOVE)
        if question is not None:
            return question
        label = row.label
        try:
            receivers.remove_receiver(receiver=row, version=row.version)
        except (GatewayError, ValidationError) as error:
            messages.error(request, str(error))
            return self.back_to(row)
        messages.success(request, f"“{label}” is removed.")
        return HttpResponseRedirect(self.url_of("changelist"))


_TEST: Final = Confirm(
    "Send a test to this receiver?", "It gets one alert that says that it is a test.", "Send"
)
_REMOVE: Final = Confirm(
    "Remove this receiver?",
    "No alert goes there any more, and the record of its deliveries goes too.",
    "Remove",
)


def _state_of(row: AlertReceiver) -> Badge:
    if not row.is_on:
        return Badge("Off", Tone.QUIET, row.off_reason)
    if row.failing_since is not None:
        since = f"Since {moment(row.failing_since)}: {row.last_error}"
        return Badge("Failing", Tone.BAD, since)
    return Badge("On", Tone.GOOD)


def _receiver_of(delivery: AlertDelivery) -> str:
    if delivery.receiver is None:
        return "Letter to the admins and owners" if delivery.tenant_id else "Letter to the staff"
    return str(delivery.receiver.label)


def _lines(rows: Any, named: Any) -> SafeString | str:
    """One line for each delivery: how it stands, what or who, when, why not."""
    lines = (
        (
            State.of(one.state).badge.html(),
            named(one),
            moment(one.sent_at or one.created_at, has_seconds=True),
            f"{one.attempts} tries" if one.attempts > 1 else "",
            one.last_error,
        )
        for one in rows
    )
    found = format_html_join("", '<li>{} {} <span class="cell-sub">{} {} {}</span></li>', lines)
    return format_html('<ul class="cell-wrap">{}</ul>', found) if found else "none"


@dashboard.card(order=75)
def alerts_card(_request: HttpRequest) -> dashboard.Card:
    since = clock.now() - RECENT
    counts = Alert.objects.exclude(kind=AlertKind.TEST).filter(created_at__gte=since).count()
    failing = AlertReceiver.objects.filter(
        Q(failing_since__isnull=False) | ~Q(off_reason="")
    ).count()
    return dashboard.Card(
        title="Alerts",
        figure=str(counts),
        note="in the last day",
        url=reverse("admin:tenants_alert_changelist"),
        icon="notifications",
        badges=(Badge(f"{failing} receivers do not answer", Tone.BAD),) if failing else (),
    )
