"""Loads Celery and the system checks; `controlplane/__init__.py` stays empty."""

from django.apps import AppConfig


class ControlPlaneConfig(AppConfig):
    name = "controlplane"
    verbose_name = "Control plane"

    def ready(self) -> None:
        from controlplane import celery, checks  # noqa: F401  (registers tasks and checks)
