"""`manage.py registry`: the registry as one file, out and in."""

from __future__ import annotations

import getpass
import sys
from pathlib import Path
from typing import Any, Final

from django.core.management.base import BaseCommand, CommandError, CommandParser

from controlplane.kit.secret import Secret
from providers.bundle import apply as bundles
from providers.bundle import secrets as bundle_secrets
from providers.bundle import words
from providers.bundle.document import Bundle, read, write
from providers.bundle.export import DEFAULT_NAME, export
from providers.bundle.plan import BundleRefused, Plan
from providers.errors import ProviderError
from tenants.audit.actor import Kind, acting_as

STANDARD: Final = "-"
_MOST_BYTES: Final = 1024 * 1024


class Command(BaseCommand):
    help = "Write the registry to a file without secrets, or bring it in line with one."

    def add_arguments(self, parser: CommandParser) -> None:
        todo = parser.add_subparsers(dest="todo", required=True, metavar="COMMAND")
        out = todo.add_parser("export", help="write the registry as YAML; holds no secrets")
        out.add_argument("file", nargs="?", default=STANDARD, help="- = standard output")
        out.add_argument(
            "--name", default=DEFAULT_NAME, help="what rows made from it are marked as"
        )
        for name, words_ in (
            ("plan", "what apply would do; writes nothing"),
            ("apply", "make the registry as the file says: all of it or nothing"),
        ):
            one = todo.add_parser(name, help=words_)
            one.add_argument("file", help="- = standard input")
            one.add_argument(
                "--secrets",
                default="",
                metavar="FILE",
                help="a YAML file with the tables `secrets` (registration/label: secret) and "
                "`secret_headers`; - = standard input",
            )

    def handle(self, *args: Any, todo: str, **options: Any) -> None:
        try:
            with acting_as(Kind.COMMAND, None, f"manage.py registry by {login()}"):
                getattr(self, f"_{todo}")(**options)
        except ProviderError as error:
            raise CommandError(str(error)) from None

    def _export(self, *, file: str, name: str, **options: Any) -> None:
        content = write(export(name=name))
        if file == STANDARD:
            self.stdout.write(content, ending="")
            return
        try:
            Path(file).write_text(content, encoding="utf-8")
        except OSError as error:
            raise CommandError(f"{file}: {error.strerror}.") from None

    def _plan(self, *, file: str, secrets: str, **options: Any) -> None:
        bundle, given = self._read(file, secrets)
        planned = bundles.plan(bundle, secrets=given)
        show(self, planned)
        if planned.problems:
            raise CommandError("This cannot be applied.")

    def _apply(self, *, file: str, secrets: str, **options: Any) -> None:
        bundle, given = self._read(file, secrets)
        apply_and_show(self, bundle, given)

    def _read(self, file: str, secrets: str) -> tuple[Bundle, bundle_secrets.Secrets]:
        if file == secrets == STANDARD:
            raise CommandError("Only one of the two can come from standard input.")
        bundle = read(content_of(file).reveal())
        return bundle, bundle_secrets.read(content_of(secrets)) if secrets else bundle_secrets.NONE


def apply_and_show(command: BaseCommand, bundle: Bundle, secrets: bundle_secrets.Secrets) -> None:
    """The plan is on the screen before anything is written."""
    show(command, bundles.plan(bundle, secrets=secrets))
    try:
        done = bundles.apply(bundle, secrets=secrets)
    except BundleRefused as refused:
        raise CommandError("Nothing was changed.") from refused
    command.stdout.write(
        command.style.SUCCESS("Applied." if done.steps else "The registry is so already.")
    )


def show(command: BaseCommand, plan: Plan) -> None:
    for line in words.lines(plan):
        command.stdout.write(line)
    command.stdout.write(words.count(plan))
    for problem in plan.problems:
        command.stderr.write(command.style.ERROR(str(problem)))


def content_of(file: str) -> Secret:
    """A file's text, of which nobody knows yet whether there are secrets in it."""
    try:
        if file == STANDARD:
            raw = sys.stdin.buffer.read(_MOST_BYTES + 1)
        else:
            with Path(file).open("rb") as opened:
                raw = opened.read(_MOST_BYTES + 1)
        if len(raw) > _MOST_BYTES:
            raise CommandError(f"{file}: a file may hold at most {_MOST_BYTES:,} bytes.")
        return Secret(raw.decode("utf-8-sig"))
    except OSError as error:
        raise CommandError(f"{file}: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise CommandError(f"{file}: this is no text in UTF-8.") from None


def login() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "somebody"
