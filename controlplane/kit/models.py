"""Base models: an id known before the insert, dates, a version that refuses lost updates."""

from __future__ import annotations

from django.db import models

from controlplane.kit import clock
from controlplane.kit.ids import uuid7


class Row(models.Model):
    """Sealed fields bind the primary key, so it must exist before the row does."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    created_at = models.DateTimeField(default=clock.now, editable=False)

    class Meta:
        abstract = True


class Versioned(models.Model):
    """For rows that people edit: an update names the version it saw (see the control API)."""

    version = models.PositiveIntegerField(default=1, editable=False)
    updated_at = models.DateTimeField(default=clock.now, editable=False)

    class Meta:
        abstract = True
