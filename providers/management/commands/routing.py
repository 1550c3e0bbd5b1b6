"""`manage.py routing`: ask the routes what must hold of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from providers.routing.expectations import BadExpectations, broken, read


class Command(BaseCommand):
    help = "Hold the routes against routing tests (docs/routing.md)."

    def add_arguments(self, parser: CommandParser) -> None:
        todo = parser.add_subparsers(dest="todo", required=True, metavar="COMMAND")
        test = todo.add_parser("test", help="run the routing tests of a YAML file")
        test.add_argument("file", type=Path, metavar="FILE.yaml")

    def handle(self, *_: Any, **options: Any) -> None:
        try:
            tests = read(options["file"])
        except BadExpectations as error:
            raise CommandError(error.message) from None
        wrong = broken(tests)
        for sentence in wrong:
            self.stdout.write(self.style.ERROR(sentence))
        if wrong:
            raise CommandError(f"{len(wrong)} of {len(tests)} routing tests do not hold.")
        self.stdout.write(self.style.SUCCESS(f"All {len(tests)} routing tests hold."))
