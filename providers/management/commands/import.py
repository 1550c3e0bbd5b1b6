"""`manage.py import`: registrations and keys from other programs. Only looks, unless told to
apply."""
# ruff: noqa: N999  (the module's name is the command's)

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from providers.bundle import apply as bundles
from providers.errors import ProviderError
from providers.imports import cliproxy, environment, pi
from providers.imports.found import Imported
from providers.management.commands.registry import apply_and_show, content_of, login, show
from tenants.audit.actor import Kind, acting_as


class Command(BaseCommand):
    help = "Take over registrations and keys of other programs; only shows what, without --apply."

    def add_arguments(self, parser: CommandParser) -> None:
        formats = parser.add_subparsers(dest="origin", required=True, metavar="FROM")
        one = formats.add_parser("cliproxy", help="config.yaml of CLIProxyAPI or cliproxyapi++")
        one.add_argument("file", help="- = standard input")
        two = formats.add_parser("pi", help="pi's auth.json and models.json")
        two.add_argument("--auth", default="", metavar="FILE", help="auth.json")
        two.add_argument("--models", default="", metavar="FILE", help="models.json")
        three = formats.add_parser(
            "environment", help="variables such as OPENAI_API_KEY, from a .env file or from `env`"
        )
        three.add_argument("file", help="- = standard input: env | manage.py import environment -")
        for each in (one, two, three):
            each.add_argument("--apply", action="store_true", help="write it; secrets are sealed")
            each.add_argument(
                "--tenant", default="", metavar="SLUG", help="into this tenant, not the platform"
            )

    def handle(self, *args: Any, apply: bool, **options: Any) -> None:
        try:
            found = self._read(**options)
            with acting_as(Kind.COMMAND, None, f"manage.py import by {login()}"):
                if apply:
                    self._ignored(found)
                    apply_and_show(self, found.bundle, found.secrets)
                    return
                planned = bundles.plan(found.bundle, secrets=found.secrets)
        except ProviderError as error:
            raise CommandError(str(error)) from None
        self._ignored(found)
        show(self, planned)
        if planned.problems:
            raise CommandError("This cannot be applied.")
        if planned.steps:
            self.stdout.write("Nothing was written: add --apply to do it.")

    def _read(self, *, origin: str, tenant: str, **options: Any) -> Imported:
        match origin:
            case "cliproxy":
                return cliproxy.read(content_of(options["file"]), tenant=tenant)
            case "environment":
                return environment.read(content_of(options["file"]), tenant=tenant)
        auth, models = options["auth"], options["models"]
        if not auth and not models:
            raise CommandError("Name pi's files with --auth and --models.")
        return pi.read(
            auth=content_of(auth) if auth else None,
            models=content_of(models) if models else None,
            tenant=tenant,
        )

    def _ignored(self, found: Imported) -> None:
        for entry in found.ignored:
            self.stdout.write(self.style.WARNING(f"ignored {entry}"))
