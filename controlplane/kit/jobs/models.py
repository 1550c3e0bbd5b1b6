"""The job row and the heartbeat row. Every change of a job is one conditional UPDATE."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from uuid import UUID

from django.db import models
from django.db.models import F, Q

from controlplane.kit.badges import StateChoices, Tone
from controlplane.kit.models import Row


class JobQuerySet(models.QuerySet["Job"]):
    def unfinished(self) -> JobQuerySet:
        return self.filter(finished_at=None)

    def claimable(self, now: datetime) -> JobQuerySet:
        """Due, or taken by somebody who did not come back within the lease."""
        due = Q(state=Job.State.WAITING, due_at__lte=now)
        expired = Q(state=Job.State.RUNNING, lease_until__lte=now, attempts__lt=F("max_attempts"))
        # unfinished() is implied; saying it lets the database use the small partial index.
        return self.unfinished().filter(due | expired)

    def exhausted(self, now: datetime) -> JobQuerySet:
        """Its last allowed attempt never came back: it may be what kills us."""
        return self.unfinished().filter(
            state=Job.State.RUNNING, lease_until__lte=now, attempts__gte=F("max_attempts")
        )

    def next_ids(self, *, now: datetime, kinds: Collection[str], limit: int) -> list[UUID]:
        """Ids worth trying to claim, the longest due first. Somebody else may be faster."""
        rows = self.claimable(now).filter(kind__in=kinds).order_by("due_at", "id")
        return list(rows.values_list("pk", flat=True)[:limit])

    def held_by(self, owner: str) -> JobQuerySet:
        """The fence: nothing once the lease went to another owner."""
        return self.filter(state=Job.State.RUNNING, lease_owner=owner)


class Job(Row):
    class State(StateChoices):
        WAITING = "waiting", Tone.QUIET, "Waiting"
        RUNNING = "running", Tone.INFO, "Running"
        DONE = "done", Tone.GOOD, "Done"
        GIVEN_UP = "given_up", Tone.BAD, "Given up"

    kind = models.CharField(max_length=100)
    key = models.CharField(
        max_length=200, help_text="What it is about. One unfinished job per kind and key."
    )
    args = models.JSONField(default=dict, blank=True, help_text="Identifiers only.")
    state = models.CharField(max_length=10, choices=State.choices, default=State.WAITING)
    due_at = models.DateTimeField()
    attempts = models.PositiveIntegerField(
        default=0, help_text="Started since it was made or last went well."
    )
    max_attempts = models.PositiveIntegerField()
    lease_owner = models.CharField(max_length=120, blank=True, default="")
    lease_until = models.DateTimeField(null=True, blank=True)
    last_error = models.CharField(max_length=300, blank=True, default="")
    finished_at = models.DateTimeField(null=True, blank=True)

    objects = JobQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["kind", "key"],
                condition=Q(finished_at=None),
                name="job_one_unfinished_per_key",
            ),
            models.CheckConstraint(
                condition=Q(state__in=["waiting", "running"], finished_at=None)
                | Q(state__in=["done", "given_up"], finished_at__isnull=False),
                name="job_finished_has_time",
            ),
            models.CheckConstraint(
                condition=Q(state="running", lease_until__isnull=False) & ~Q(lease_owner="")
                | ~Q(state="running") & Q(lease_until=None, lease_owner=""),
                name="job_only_running_is_leased",
            ),
        ]
        indexes = [
            models.Index(
                fields=["due_at", "id"], condition=Q(finished_at=None), name="job_unfinished_due"
            ),
            models.Index(
                fields=["finished_at"],
                condition=Q(finished_at__isnull=False),
                name="job_finished_at",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.key} ({self.id})"


class Heartbeat(models.Model):
    """When a part of the system last proved that it works. One row per part."""

    name = models.CharField(max_length=100, primary_key=True)
    beat_at = models.DateTimeField()
    process = models.CharField(max_length=120, help_text="Host and process id of the last beat.")

    def __str__(self) -> str:
        return f"{self.name} at {self.beat_at:%Y-%m-%d %H:%M:%S}"
