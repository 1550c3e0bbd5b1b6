"""`manage.py first_run`: prepares what is missing, and with --serve runs the system."""

from __future__ import annotations

import argparse
from typing import Any, TextIO, cast

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError

from controlplane.first_run import obstacles, screen, steps
from controlplane.first_run.errors import CannotStart
from controlplane.first_run.progress import Progress


class Command(BaseCommand):
    help = (
        "Makes what a new installation needs: secrets, database, vault key, first admin, a demo "
        "tenant with a key. Does nothing where that was done. With --serve it then runs the system."
    )
    # They would stop at what this command is about to make; `serve` runs them.
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--serve", action="store_true", help="Then run the system.")
        parser.add_argument(
            "--new-key", action="store_true", help="Only make one more key for the demo tenant."
        )
        parser.add_argument("--host", default="127.0.0.1", help="Address to listen on.")
        parser.add_argument("--port", type=int, default=8000, help="0 takes a free port.")

    def handle(self, *args: Any, **options: Any) -> None:
        host, port = options["host"], options["port"]
        try:
            if options["new_key"]:
                self.stdout.write(screen.credentials(steps.one_more_key()))
                return
            obstacles.check(host=host, port=port)
            made = steps.prepare(Progress(cast(TextIO, self.stdout._out)))
        except CannotStart as error:
            raise CommandError(str(error)) from None
        if not options["serve"]:
            self.stdout.write(screen.credentials(made))
            return
        shown = False

        def when_ready(base_url: str) -> None:
            nonlocal shown
            if settings.SIMULATOR:
                steps.offer_simulator(base_url, is_new=made.demo_key is not None)
            self.stdout.write(screen.text(base_url, made))
            self.stdout.flush()
            shown = True

        try:
            call_command("serve", host=host, port=port, when_ready=when_ready)
        finally:
            if not shown and (made.admin_password or made.demo_key):
                # Made and saved, but the system did not come up: they will not be shown again.
                self.stdout.write(screen.credentials(made))
