"""`manage.py catalog`: look at the provider files, compare them with the world, take over what
changed."""

from __future__ import annotations

import getpass
from typing import Any, Final, TextIO, cast

from django.core.management.base import BaseCommand, CommandError, CommandParser

from controlplane.kit.progress import Progress
from providers.catalog.diff import Difference, FieldChange, difference
from providers.catalog.listings import UnreadableListing
from providers.catalog.loader import DATA, catalog, problems
from providers.catalog.refresh import Facts, Refreshed, registered
from providers.catalog.schema import ProviderFile
from providers.catalog.sync import sync_registrations
from providers.errors import ProviderError
from providers.inventory import services
from providers.inventory.ask import facts_from
from tenants import scope
from tenants.audit.actor import Kind, acting_as

_SHOWN: Final = 40


class Command(BaseCommand):
    help = "Check the provider files, compare them with the world, take over what changed."
    # `check` says what the start check would, for every file at once.
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        todo = parser.add_subparsers(dest="todo", required=True, metavar="COMMAND")
        todo.add_parser("check", help="read every provider file; says each one's first mistake")
        listing = todo.add_parser("list", help="the providers of the catalog, or one's models")
        listing.add_argument("provider", nargs="?", help="show the models of this one")
        todo.add_parser("sync", help="bring registrations in line with the files of a new release")
        for name, words in (
            (
                "diff",
                "what facts and live listings say that the registrations do not; writes nothing",
            ),
            ("refresh", "the same, written to the database as overrides"),
        ):
            one = todo.add_parser(name, help=words)
            one.add_argument(
                "--facts",
                default="",
                metavar="FILE_OR_URL",
                help="a models.dev-shaped JSON file, such as https://models.dev/api.json",
            )
            one.add_argument(
                "--no-listings", action="store_true", help="do not ask the providers themselves"
            )
            one.add_argument(
                "--provider", action="append", default=[], metavar="SLUG", help="only this one"
            )
            if name == "diff":
                one.add_argument(
                    "--shipped",
                    action="store_true",
                    help="compare --facts with the provider files instead of the registrations",
                )

    def handle(self, *args: Any, todo: str, **options: Any) -> None:
        try:
            with acting_as(Kind.COMMAND, None, f"manage.py catalog by {_login()}"):
                getattr(self, f"_{todo}")(**options)
        except (ProviderError, UnreadableListing) as error:
            raise CommandError(str(error)) from None
        except OSError as error:
            if error.filename is None:
                raise
            raise CommandError(f"{error.filename}: {error.strerror}.") from None

    # --- files -------------------------------------------------------------------------------

    def _check(self, **options: Any) -> None:
        found = problems(DATA)
        for problem in found:
            self.stderr.write(self.style.ERROR(problem))
        if found:
            raise CommandError(f"{_count(len(found), 'provider file')} cannot be used.")
        models = sum(len(file.models) for file in catalog().values())
        self.stdout.write(
            self.style.SUCCESS(f"{len(catalog())} provider files with {models:,} models are good.")
        )

    def _list(self, *, provider: str | None, **options: Any) -> None:
        if provider is None:
            rows: list[tuple[str, ...]] = [("id", "kind", "auth", "models", "protocols")]
            for file in catalog().values():
                protocols = dict.fromkeys((file.protocol, *file.protocols))
                rows.append(
                    (file.id, file.kind, file.auth.type, str(_live(file)), ", ".join(protocols))
                )
            self._table(rows)
            return
        named = catalog().named(provider)
        if named is None:
            raise CommandError(
                f"The catalog has no {provider!r}. `manage.py catalog list` shows all."
            )
        models: list[tuple[str, ...]] = [
            ("id", "protocol", "context", "output", "input $/M", "output $/M")
        ]
        for model in named.models:
            price = model.price
            models.append(
                (
                    model.id + (" (retired)" if model.is_retired else ""),
                    model.protocol or named.protocol,
                    f"{model.context_window:,}" if model.context_window else "?",
                    f"{model.max_output_tokens:,}" if model.max_output_tokens else "?",
                    price.input if price else "?",
                    price.output if price else "?",
                )
            )
        self._table(models)

    def _sync(self, **options: Any) -> None:
        changed = 0
        for entry in sync_registrations():
            for sentence in entry.done:
                self.stdout.write(f"{entry.provider}: {sentence}")
            changed += bool(entry.done)
            if entry.problem:
                self.stderr.write(self.style.WARNING(f"{entry.provider}: {entry.problem}"))
        self.stdout.write(f"{_count(changed, 'registration')} changed.")

    # --- the world -----------------------------------------------------------------------------

    def _diff(self, *, shipped: bool, facts: str, provider: list[str], **options: Any) -> None:
        if not shipped:
            self._compare(facts=facts, provider=provider, write=False, **options)
            return
        if not facts:
            raise CommandError("--shipped compares with a facts file: name it with --facts.")
        self._diff_shipped(facts_from(facts), provider)

    def _refresh(self, **options: Any) -> None:
        self._compare(write=True, **options)

    def _compare(
        self,
        *,
        facts: str,
        no_listings: bool,
        provider: list[str],
        write: bool,
        **options: Any,
    ) -> None:
        if no_listings and not facts:
            raise CommandError("Nothing to compare with: name --facts, or allow the listings.")
        with scope.platform("which registrations a refresh looks at"):
            slugs = {row.slug for row in registered(provider)}
        if unknown := sorted(set(provider) - slugs):
            raise CommandError(f"There is no enabled registration called {', '.join(unknown)}.")
        if not slugs:
            self.stdout.write("No provider is registered and enabled yet: nothing to compare.")
            return
        with Progress("Refreshing" if write else "Comparing", len(slugs), self._err) as progress:
            done = services.refresh_registered(
                facts_source=facts,
                with_listings=not no_listings,
                slugs=provider,
                write=write,
                on_done=lambda _: progress(1),
            )
        for one in done:
            self._show(one)
        written = sum(one.written for one in done)
        failed = sum(bool(one.problem) for one in done)
        self.stdout.write(
            f"{_count(len(done), 'registration')} compared, {failed} without their listing, "
            + (f"{_count(written, 'override')} written." if write else "nothing written.")
        )

    def _show(self, one: Refreshed) -> None:
        self.stdout.write(self.style.MIGRATE_HEADING(one.provider))
        if one.problem:
            self.stdout.write(self.style.WARNING(f"  no listing: {one.problem}"))
        if not one.sources:
            if not one.problem:
                self.stdout.write("  has no listing, and the facts do not know it")
            return
        self._show_difference(one.difference)
        if one.kept:
            self.stdout.write(f"  kept as entered by hand: {_some(list(one.kept))}")

    def _show_difference(self, changes: Difference) -> None:
        if changes.is_empty:
            self.stdout.write("  no difference")
        if changes.added:
            self.stdout.write(f"  new: {_some([model.id for model in changes.added])}")
        for change in changes.changed[:_SHOWN]:
            self.stdout.write(f"  {change.model}: {_sentence(change)}")
        if len(changes.changed) > _SHOWN:
            self.stdout.write(f"  … and {len(changes.changed) - _SHOWN} more changes")
        if changes.gone:
            self.stdout.write(f"  not named there: {_some(list(changes.gone))}")

    def _diff_shipped(self, facts: Facts, only: list[str]) -> None:
        chosen = [file for file in catalog().values() if not only or file.id in only]
        with Progress("Comparing", len(chosen), self._err) as progress:
            found: list[tuple[ProviderFile, Difference]] = []
            for file in chosen:
                name = next((n for n in (file.id, *file.known_as) if n in facts), None)
                if name is not None:
                    known = {model.id: model for model in file.models}
                    found.append((file, difference(known, facts[name])))
                progress(1)
        for file, changes in found:
            self.stdout.write(self.style.MIGRATE_HEADING(file.id))
            self._show_difference(changes)
        self.stdout.write(f"{_count(len(found), 'provider file')} compared, nothing written.")

    # --- words -------------------------------------------------------------------------------

    @property
    def _err(self) -> TextIO:
        return cast(TextIO, self.stderr._out)

    def _table(self, rows: list[tuple[str, ...]]) -> None:
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        for row in rows:
            cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            self.stdout.write("  ".join(cells).rstrip())


def _live(file: ProviderFile) -> int:
    return sum(not model.is_retired for model in file.models)


def _sentence(change: FieldChange) -> str:
    if change.field == "price":
        return f"price {_price(change.before)} → {_price(change.after)}"
    return f"{change.field} {_value(change.before)} → {_value(change.after)}"


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}" if value else "unknown"
    return ", ".join(value) if isinstance(value, list) else str(value)


def _price(price: dict[str, Any] | None) -> str:
    if price is None:
        return "unknown"
    return " ".join(
        f"{name} {value}" for name, value in price.items() if isinstance(value, str) and value
    ) + (" with tiers" if price.get("tiers") else "")


def _some(names: list[str]) -> str:
    more = f" … and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"


def _login() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "somebody"
