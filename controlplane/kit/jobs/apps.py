"""The Django app that holds the job and heartbeat tables."""

from __future__ import annotations

from django.apps import AppConfig


class JobsConfig(AppConfig):
    name = "controlplane.kit.jobs"
    label = "jobs"
    verbose_name = "Background jobs"
