"""Django's `migrate` in the platform scope: a data migration reads every tenant's rows, and
under forced row-level security it would otherwise see none and change none, silently."""

from __future__ import annotations

from typing import Any

from django.core.management.commands import migrate

from tenants import scope


class Command(migrate.Command):
    def handle(self, *args: Any, **options: Any) -> None:
        with scope.platform("migrate"):
            super().handle(*args, **options)
