"""What must be right before anything starts. Looks only; changes nothing."""

from __future__ import annotations

import os
import shutil
import sys
import traceback
from pathlib import Path
from typing import Final

from django.conf import settings
from django.core import checks
from django.core.exceptions import ImproperlyConfigured
from django.db import DEFAULT_DB_ALIAS, DatabaseError, connections
from django.db.migrations.exceptions import InconsistentMigrationHistory
from django.db.migrations.executor import MigrationExecutor

from controlplane.kit.errors import GatewayError

# Below this the database's journal cannot grow, and the first write would fail.
FREE_BYTES: Final = 32 * 1024 * 1024


class NotReady(Exception):
    """One sentence that says what is wrong and what to do."""


def check() -> None:
    """Raises NotReady for the first thing that is wrong, in the order in which one mends it."""
    _check_disk()
    _check_database()
    _check_migrations()
    _check_system()
    _check_key_ring()


def problem() -> str | None:
    """The sentence of `check`, found in a process of its own.

    Connections, threads and caches that looking leaves behind end with that process; the
    supervisor, which forks its children later, stays clean.
    """
    reading, writing = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        code = 0
        try:
            check()
        except NotReady as error:
            code = 1
            os.write(writing, str(error).encode()[:4000])
        except BaseException:  # noqa: BLE001  (printed, and the process ends)
            # A bug in a check is no sentence for the user: it looks like what it is.
            code = 2
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        said = pipe.read().decode("utf-8", "replace")
    _, status = os.waitpid(pid, 0)
    if os.waitstatus_to_exitcode(status) == 0:
        return None
    return said or "A check before the start failed: the lines above say how."


def _check_disk() -> None:
    folder = Path(settings.STATE_DIR)
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    if shutil.disk_usage(folder).free < FREE_BYTES:
        raise NotReady(f"The disk of {folder} is full: free at least {FREE_BYTES >> 20} MB.")


def _check_database() -> None:
    connection = connections[DEFAULT_DB_ALIAS]
    if connection.vendor == "sqlite":
        # Connecting would create the file.
        name = str(connection.settings_dict["NAME"])
        if not name.startswith("file:") and not Path(name).exists():
            raise NotReady(f"There is no database at {name}: run `manage.py migrate` first.")
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except DatabaseError as error:
        raise NotReady(
            f"The database cannot be reached: {_first_line(error)}. Start it, or mend DATABASE_URL."
        ) from None


def _check_migrations() -> None:
    try:
        missing = unapplied_migrations()
    except (DatabaseError, InconsistentMigrationHistory) as error:
        raise NotReady(f"The database's migrations cannot be read: {_first_line(error)}.") from None
    if missing:
        count = "1 migration is" if len(missing) == 1 else f"{len(missing)} migrations are"
        raise NotReady(
            f"{count} not applied (the first is {missing[0]}): run `manage.py migrate` first."
        )


def unapplied_migrations() -> list[str]:
    """Names of migrations that the code has and the database lacks."""
    executor = MigrationExecutor(connections[DEFAULT_DB_ALIAS])
    executor.loader.check_consistent_history(executor.connection)
    plan = executor.migration_plan(executor.loader.graph.leaf_nodes())
    return [f"{migration.app_label}.{migration.name}" for migration, _ in plan]


def _check_system() -> None:
    try:
        serious = [message for message in checks.run_checks() if message.is_serious()]
    except ImproperlyConfigured as error:
        raise NotReady(f"{_first_line(error)}.") from None
    if serious:
        first = serious[0]
        hint = f" {first.hint}" if first.hint else ""
        raise NotReady(f"{first.msg}{hint} ({first.id})")


def _check_key_ring() -> None:
    from tenants.vault.services import verify_key_ring

    try:
        verify_key_ring()
    except (GatewayError, ImproperlyConfigured) as error:
        raise NotReady(f"{_first_line(error)}.") from None


def _first_line(error: BaseException) -> str:
    text = str(error).strip()
    return text.splitlines()[0].rstrip(".") if text else type(error).__name__
