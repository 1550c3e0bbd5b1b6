"""`manage.py restore FILE`: puts a backup where there is no database yet."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from controlplane.backup.errors import BackupFailed
from controlplane.backup.services import restore


class Command(BaseCommand):
    help = (
        "Puts a backup where the settings say the database is, which must be empty or not there. "
        "Opens every secret, verifies the audit log and the ledger; leaves nothing where one fails."
    )
    # They ask the database, which is not there yet.
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", type=Path, help="What `backup` wrote.")

    def handle(self, *args: Any, file: Path, **options: Any) -> None:
        try:
            proof = restore(file)
        except BackupFailed as error:
            raise CommandError(str(error)) from None
        self.stdout.write(
            f"Restored. {proof.secrets:,} secrets open, {proof.audit_events:,} audit events and "
            f"{proof.ledger_events:,} ledger entries verify."
        )
