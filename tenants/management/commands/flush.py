"""Django's `flush` in the platform scope: it empties every tenant's tables."""

from __future__ import annotations

from typing import Any

from django.core.management.commands import flush

from tenants import scope


class Command(flush.Command):
    def handle(self, *args: Any, **options: Any) -> None:
        with scope.platform("flush"):
            super().handle(*args, **options)
