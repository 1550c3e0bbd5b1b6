"""A counter per topic: what a process compares to know that its snapshot is old."""

from __future__ import annotations

from django.db import models

from controlplane.kit import clock


class Revision(models.Model):
    topic = models.CharField(max_length=32, primary_key=True)
    value = models.BigIntegerField(default=0)
    changed_at = models.DateTimeField(default=clock.now)

    def __str__(self) -> str:
        return f"{self.topic} {self.value}"
