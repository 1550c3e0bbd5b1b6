"""manage.py vault: look at the stored secrets' keys, renew them, destroy a tenant's."""

from __future__ import annotations

import getpass
import uuid
from collections import Counter
from collections.abc import Sized
from typing import Any, Final

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import connection
from django.template.defaultfilters import pluralize

from controlplane.kit.progress import Progress
from tenants import scope
from tenants.audit.actor import Kind, acting_as
from tenants.members.models import Tenant
from tenants.vault import data_keys, ring, rotation, services
from tenants.vault.errors import VaultError
from tenants.vault.models import DataKey, KeyRotation
from tenants.vault.wrapping.choose import local_key_file, wrapping_provider
from tenants.vault.wrapping.key_file import SCHEME as FILE_SCHEME

_LISTED: Final = 50


class Command(BaseCommand):
    help = "Look at the keys of stored secrets, renew them, destroy a tenant's."
    # These commands mend what the start check refuses.
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        todo = parser.add_subparsers(dest="todo", required=True, metavar="COMMAND")
        todo.add_parser("status", help="keys, what they seal, and every secret nobody can open")
        todo.add_parser("init", help="make the key file of a new installation")
        rotate = todo.add_parser("rotate", help="new data keys; every secret is sealed again")
        rotate.add_argument("tenant", nargs="?", help="only this tenant (slug)")
        rewrap = todo.add_parser("rewrap", help="wrap every data key with the current vault key")
        rewrap.add_argument(
            "--new-key", action="store_true", help="first add a new key to the local key file"
        )
        todo.add_parser("prune", help="remove old keys that nothing uses any more")
        shred = todo.add_parser("shred", help="destroy a tenant's data keys: no way back")
        shred.add_argument("tenant", help="the tenant's slug")
        shred.add_argument("--yes", action="store_true", help="do not ask")

    def handle(self, *args: Any, todo: str, **options: Any) -> None:
        try:
            with acting_as(Kind.COMMAND, None, f"manage.py vault by {_login()}"):
                getattr(self, f"_{todo}")(**options)
        except VaultError as error:
            raise CommandError(str(error)) from None

    # --- status ------------------------------------------------------------------------------

    def _status(self, **options: Any) -> None:
        problem = self._show_ring()
        with Progress("Opening", rotation.count_rows(), self._err) as progress:
            found = rotation.inspect(progress)
        self._show_data_keys(found)
        readable = sum(found.readable.values())
        self._line("Secrets", f"{readable:,} readable, {len(found.unreadable):,} not")
        for column, count in sorted(found.readable.items()):
            self._line("", f"{count:,} in {column}")
        unfinished = KeyRotation.objects.filter(finished_at=None).count()
        if unfinished:
            self._line("Rotation", "unfinished: run `manage.py vault rotate` to go on")
        self._list(found.unreadable)
        damaged = [each for each in found.unreadable if each.why != rotation.SHREDDED]
        if problem or damaged:
            raise CommandError(
                problem or f"{_count(damaged, 'secret')} cannot be opened: see the list above."
            )

    def _show_ring(self) -> str:
        problem = ""
        self._line("Key provider", ring.wrapping_scheme())
        if ring.wrapping_scheme() == FILE_SCHEME:
            self._line("Key file", local_key_file().source)
        try:
            self._line("Current key", wrapping_provider().current())
        except VaultError as error:
            problem = str(error)
            self._line("Current key", f"NONE: {problem}")
        with scope.platform("vault status"):
            for use in ring.ring_uses():
                self._line("", f"{_count(use.data_keys, 'data key')} wrapped by {use.wrapped_by}")
                if use.problem:
                    problem = problem or use.problem
                    self._line("", f"  PROBLEM: {use.problem}")
        return problem

    def _show_data_keys(self, found: rotation.Inspection) -> None:
        states: Counter[str] = Counter()
        with scope.platform("vault status"):
            for key in DataKey.objects.all():
                if key.shredded_at is not None:
                    states["shredded"] += 1
                elif key.retired_at is None:
                    states["current"] += 1
                elif found.by_key[key.pk]:
                    states["retired and still in use"] += 1
                else:
                    states["retired and unused"] += 1
        text = ", ".join(f"{count:,} {state}" for state, count in sorted(states.items()))
        self._line("Data keys", text or "none yet")

    # --- changes -----------------------------------------------------------------------------

    def _init(self, **options: Any) -> None:
        key_id = services.initialise()
        if key_id is None:
            self.stdout.write("There is a usable vault key already: nothing was changed.")
            return
        self.stdout.write(
            f"Made {local_key_file().path} with vault key {key_id}. Copy it to a safe place: "
            "without it no stored secret can be read."
        )

    def _rotate(self, tenant: str | None = None, **options: Any) -> None:
        tenant_id = None if tenant is None else _tenant(tenant).pk
        services.verify_key_ring()
        work, is_resumed = rotation.begin(tenant_id)
        if is_resumed:
            self.stdout.write(f"Going on with the rotation begun {work.created_at:%Y-%m-%d %H:%M}.")
        with Progress("Sealing", rotation.count_rows(tenant_id), self._err) as progress:
            outcome = rotation.run(work, progress)
        self._list(outcome.unreadable)
        self.stdout.write(f"{_count(outcome.resealed, 'secret')} sealed with new data keys.")
        if outcome.left:
            raise CommandError(
                f"{_count(outcome.left, 'secret')} changed at each try: run it again."
            )
        self.stdout.write(
            "The old data keys still open what is in flight; "
            f"`manage.py vault prune` removes them from {_minutes()} minutes on."
        )
        damaged = [each for each in outcome.unreadable if each.why != rotation.SHREDDED]
        if damaged:
            raise CommandError(
                f"{_count(damaged, 'secret')} cannot be opened, left as before: see the list above."
            )

    def _rewrap(self, new_key: bool = False, **options: Any) -> None:
        if new_key:
            self.stdout.write(f"Added vault key {ring.add_key()} to {local_key_file().path}.")
        services.verify_key_ring()
        done = ring.rewrap_all(lambda total: Progress("Wrapping", total, self._err))
        self.stdout.write(
            f"{_count(done, 'data key')} wrapped with {wrapping_provider().current()}. "
            "No secret had to be touched."
        )

    def _prune(self, **options: Any) -> None:
        services.verify_key_ring()
        with Progress("Looking", rotation.count_rows(), self._err) as progress:
            removed = rotation.prune(progress)
        dropped = ring.drop_unused_keys()
        self.stdout.write(
            f"{_count(removed, 'old data key')} and {_count(dropped, 'old vault key')} removed."
        )
        if dropped:
            self.stdout.write(
                f"Backups made until today need the vault keys {', '.join(dropped)}: "
                "keep the copy of the key file that belongs to them."
            )
        self.stdout.write(f"Keys retired less than {_minutes()} minutes ago are kept.")

    def _shred(self, tenant: str, yes: bool = False, **options: Any) -> None:
        row = _tenant(tenant)
        if not yes:
            self.stdout.write(
                f"Every secret stored for {row.slug} ({row.name}) becomes unreadable for good: "
                "provider credentials, logins, everything sealed."
            )
            if input(f"Type {row.slug} to go on: ") != row.slug:
                raise CommandError("Nothing was changed.")
        count = services.shred(tenant_id=row.pk)
        _wipe_traces()
        self.stdout.write(
            f"{_count(count, 'data key')} of {row.slug} destroyed. Running processes forget them "
            f"within {data_keys.CONFIRM_SECONDS:.0f} seconds. Backups still hold them, wrapped: "
            "delete those, or remove the vault keys that they need."
        )

    # --- showing -----------------------------------------------------------------------------

    @property
    def _err(self) -> Any:
        # Below Django's wrapper, which colours and breaks lines; tests pass their own stream.
        return self.stderr._out

    def _line(self, name: str, text: str) -> None:
        self.stdout.write(f"{name:<14}{text}")

    def _list(self, unreadable: list[rotation.Unreadable]) -> None:
        for each in unreadable[:_LISTED]:
            self.stdout.write(f"  unreadable: {each}")
        if len(unreadable) > _LISTED:
            self.stdout.write(f"  … and {len(unreadable) - _LISTED:,} more")


def _tenant(slug: str) -> Tenant:
    try:
        by_id = uuid.UUID(slug)
    except ValueError:
        tenant = Tenant.objects.filter(slug=slug).first()
    else:
        tenant = Tenant.objects.filter(pk=by_id).first()
    if tenant is None:
        raise CommandError(f"There is no tenant {slug!r}. Name one by its slug.")
    return tenant


def _wipe_traces() -> None:
    """Overwrites what the database file still holds of the destroyed keys."""
    with scope.platform("overwrite destroyed keys"), connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            cursor.execute("VACUUM")
            cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        else:
            cursor.execute(f"VACUUM {connection.ops.quote_name(DataKey._meta.db_table)}")


def _count(things: int | Sized, name: str) -> str:
    count = things if isinstance(things, int) else len(things)
    return f"{count:,} {name}{pluralize(count)}"


def _minutes() -> int:
    return int(ring.SETTLED_AFTER.total_seconds() // 60)


def _login() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "an unnamed user"
