"""What one process saw of one model in one minute: the sum of these rows is what all saw."""

from __future__ import annotations

from datetime import datetime

from django.db import models

from tenants.scope import TenantOwned, TenantOwnedManager, TenantOwnedQuerySet


class TrafficMinuteQuerySet(TenantOwnedQuerySet["TrafficMinute"]):
    def since(self, moment: datetime) -> TrafficMinuteQuerySet:
        return self.filter(minute__gte=moment)


class TrafficMinute(TenantOwned):
    """Kept for two hours. Names, not keys: history outlives a registration."""

    process = models.CharField(max_length=80)
    minute = models.DateTimeField()
    provider = models.CharField(max_length=63)
    model = models.CharField(max_length=255)
    requests = models.PositiveIntegerField(default=0)
    succeeded = models.PositiveIntegerField(default=0)
    # Outcome (outcomes.py) -> how often.
    failures = models.JSONField(default=dict)
    # Counts by the bounds of figures.py.
    latencies = models.JSONField(default=list)
    first_tokens = models.JSONField(default=list)
    input_tokens = models.BigIntegerField(default=0)
    output_tokens = models.BigIntegerField(default=0)
    cost_nanos = models.BigIntegerField(default=0)

    objects = TenantOwnedManager.from_queryset(TrafficMinuteQuerySet)()

    class Meta(TenantOwned.Meta):
        verbose_name = "minute of traffic"
        verbose_name_plural = "traffic"
        constraints = [
            models.UniqueConstraint(
                fields=["process", "minute", "tenant", "provider", "model"],
                name="traffic_minute_unique",
            )
        ]
        indexes = [models.Index(fields=["tenant", "minute"], name="traffic_minute_tenant")]

    def __str__(self) -> str:
        return f"{self.provider}/{self.model} at {self.minute:%H:%M}"
