"""Background work in the console: what waits, what runs, what was given up and why. Read-only:
jobs are made and ended by those whose work they are."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final

from django.contrib import admin
from django.db.models import Count, Max, Q, QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.timesince import timesince

from controlplane.console import dashboard
from controlplane.console.pages import ReadOnlyPage, moment
from controlplane.kit import clock
from controlplane.kit.badges import Badge, Tone
from controlplane.kit.jobs import registry
from controlplane.kit.jobs.models import Heartbeat, Job

# A worker takes what is due within seconds; later than this, none is working or all are busy.
LATE: Final = timedelta(minutes=5)
RECENT: Final = timedelta(days=1)


def _late() -> Q:
    return Q(state=Job.State.WAITING, due_at__lt=clock.now() - LATE)


def _given_up_lately() -> Q:
    return Q(state=Job.State.GIVEN_UP, finished_at__gte=clock.now() - RECENT)


class JobStateFilter(admin.SimpleListFilter):
    title = "state"
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [
            ("given-up", "Given up"),
            ("late", "Late: due for five minutes"),
            ("failing", "Failed, will be tried again"),
            ("running", "Running"),
            ("waiting", "Waiting"),
            ("done", "Done"),
        ]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        match self.value():
            case "given-up":
                return queryset.filter(state=Job.State.GIVEN_UP)
            case "late":
                return queryset.filter(_late())
            case "failing":
                return queryset.filter(finished_at=None, attempts__gt=0).exclude(last_error="")
            case "running":
                return queryset.filter(state=Job.State.RUNNING)
            case "waiting":
                return queryset.filter(state=Job.State.WAITING)
            case "done":
                return queryset.filter(state=Job.State.DONE)
            case _:
                return queryset


class KindFilter(admin.SimpleListFilter):
    """Offers what the code knows: no big table is read to draw a filter."""

    title = "kind"
    parameter_name = "kind"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(kind, kind) for kind in sorted(registry.loaded())]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        kind = self.value()
        if kind is None:
            return queryset
        return queryset.filter(kind=kind) if kind in registry.loaded() else queryset.none()


@admin.register(Job)
class JobPage(ReadOnlyPage):
    nav_group = "Records"
    nav_title = "Background work"
    nav_icon = "schedule"
    nav_order = 80
    empty_title = "No work yet"
    empty_text = "Checks, refreshes and clean-ups appear here once a worker has started."

    list_display = ("what", "state_badge", "due", "tries", "reason")
    list_filter = (JobStateFilter, KindFilter)
    search_fields = ("=key", "kind", "last_error")
    search_help_text = "A kind, a whole key or words of an error"
    ordering = ("-due_at", "-pk")
    sortable_by = ("due",)
    fieldsets = (
        (None, {"fields": ("what", "state_badge", "whole_reason")}),
        ("When", {"fields": ("due", "made", "ended", "tries", "leased")}),
        ("About", {"fields": ("key", "arguments")}),
    )

    @admin.display(description="what")
    def what(self, row: Job) -> SafeString:
        return format_html(
            '<span class="cell-main">{}</span> <span class="cell-sub cell-code">{}</span>',
            row.kind,
            row.key,
        )

    @admin.display(description="state")
    def state_badge(self, row: Job) -> SafeString:
        return badge_of(row).html()

    @admin.display(description="due", ordering="due_at")
    def due(self, row: Job) -> str:
        return moment(row.due_at, has_seconds=True)

    @admin.display(description="tries")
    def tries(self, row: Job) -> str:
        return f"{row.attempts} of {row.max_attempts}"

    @admin.display(description="error")
    def reason(self, row: Job) -> SafeString | str:
        return format_html('<span class="cell-wrap">{}</span>', row.last_error or "–")

    @admin.display(description="error")
    def whole_reason(self, row: Job) -> str:
        return row.last_error or "none"

    @admin.display(description="made")
    def made(self, row: Job) -> str:
        return moment(row.created_at, has_seconds=True)

    @admin.display(description="ended")
    def ended(self, row: Job) -> str:
        return moment(row.finished_at, has_seconds=True)

    @admin.display(description="held by")
    def leased(self, row: Job) -> str:
        if not row.lease_owner:
            return "nobody"
        return f"{row.lease_owner} until {moment(row.lease_until, has_seconds=True)}"

    @admin.display(description="arguments")
    def arguments(self, row: Job) -> SafeString:
        words = ", ".join(f"{name} {value}" for name, value in row.args.items())
        return format_html('<span class="cell-code">{}</span>', words or "none")


def badge_of(job: Job) -> Badge:
    state = Job.State.of(job.state)
    if state is Job.State.WAITING and job.due_at < clock.now() - LATE:
        return Badge("Late", Tone.WARN, f"Due for {timesince(job.due_at, clock.now())}")
    if state is Job.State.WAITING and job.last_error:
        return Badge("Trying again", Tone.WARN, job.last_error)
    return state.badge


@dashboard.card(order=80)
def jobs_card(_request: HttpRequest) -> dashboard.Card:
    counts = Job.objects.filter(Q(finished_at=None) | _given_up_lately()).aggregate(
        open=Count("pk", filter=Q(finished_at=None)),
        late=Count("pk", filter=_late()),
        given_up=Count("pk", filter=_given_up_lately()),
    )
    last_beat = Heartbeat.objects.aggregate(last=Max("beat_at"))["last"]
    path = reverse("admin:jobs_job_changelist")
    badges = []
    if counts["given_up"]:
        badges.append(Badge(f"{counts['given_up']} given up today", Tone.BAD))
        path += "?state=given-up"
    elif counts["late"]:
        path += "?state=late"
    if counts["late"]:
        badges.append(Badge(f"{counts['late']} late", Tone.WARN))
    if last_beat is None or last_beat < clock.now() - LATE:
        badges.append(Badge("No worker seen lately", Tone.WARN))
    return dashboard.Card(
        title="Background work",
        figure=str(counts["open"]),
        note="waiting or running",
        url=path,
        icon="schedule",
        badges=tuple(badges),
    )
