"""`manage.py backup FILE`: the database as one file, while everything runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.template.defaultfilters import filesizeformat

from controlplane.backup.errors import BackupFailed
from controlplane.backup.services import back_up


class Command(BaseCommand):
    help = (
        "Writes one moment of the database to a file, while everything runs. The secrets that "
        "open it are not in the file: keep those elsewhere."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", type=Path, help="A new file; none is ever written over.")

    def handle(self, *args: Any, file: Path, **options: Any) -> None:
        try:
            size = back_up(file)
        except BackupFailed as error:
            raise CommandError(str(error)) from None
        self.stdout.write(f"{file}: {filesizeformat(size)}. Try it now and then with `restore`.")
