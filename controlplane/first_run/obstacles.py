"""What would stop a start, looked for before anything is made. Looks only; changes nothing."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from django.apps import apps
from django.conf import settings
from django.db import DatabaseError, connection
from django.db.migrations.exceptions import InconsistentMigrationHistory
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.operations import CreateModel

from controlplane.first_run import secret_files
from controlplane.first_run.errors import CannotStart
from controlplane.kit.errors import GatewayError
from controlplane.supervisor import gateway
from tenants import scope

# What the packages of a new installation need at once: database, journal, a first day of rows.
FREE_BYTES: Final = 64 * 1024 * 1024


def check(*, host: str, port: int) -> None:
    """Raises CannotStart for the first obstacle, in the order in which one would mend them."""
    check_port(host, port)
    check_folders()
    if not is_new_file():
        check_database()
        check_migrations()
        check_secrets()
        check_vault_key()


def check_port(host: str, port: int) -> None:
    if not 0 <= port <= 65535:
        raise CannotStart(f"{port} is no port: use 0 to 65535.")
    try:
        gateway.bind(host, port, is_shared=False).close()
    except gateway.CannotListen as error:
        raise CannotStart(f"{error} With make: make run PORT={min(port + 1, 65535)}") from None


def check_folders() -> None:
    """The folders that will be written to, or the nearest above them that are there."""
    for folder in (
        {settings.STATE_DIR, database_file().parent} if is_file() else {settings.STATE_DIR}
    ):
        there = Path(folder)
        while not there.exists() and there != there.parent:
            there = there.parent
        if not there.is_dir():
            raise CannotStart(f"{there} is no folder: move it away, or set STATE_DIR elsewhere.")
        free = shutil.disk_usage(there).free
        if free < FREE_BYTES:
            raise CannotStart(
                f"The disk of {there} is full: {free >> 20} MB are free and {FREE_BYTES >> 20} MB "
                "are needed. Free some, or set STATE_DIR to a folder on another disk."
            )
        try:
            # Rights alone do not tell: read-only mounts, quotas and full inodes refuse as well.
            with tempfile.TemporaryFile(dir=there) as probe:
                probe.write(b"\0" * 4096)
                probe.flush()
        except OSError as error:
            raise CannotStart(
                f"{there} cannot be written to: {error.strerror}. "
                "Give this user the right to, or set STATE_DIR to another folder."
            ) from None


def check_database() -> None:
    try:
        connection.ensure_connection()
        with connection.cursor() as cursor:
            # SQLite reads the file only when asked for something that is in it.
            connection.introspection.table_names(cursor)
    except DatabaseError as error:
        if is_file():
            raise CannotStart(
                f"{database_file()} cannot be used as a database: {first_line(error)}. "
                "Put it back from its backup, or move it away to begin anew."
            ) from None
        raise CannotStart(
            f"The database cannot be reached: {first_line(error)}. Start it, or mend DATABASE_URL."
        ) from None


def check_migrations() -> None:
    remedy = (
        "Put the database back from its backup"
        + (f"; if {database_file()} holds nothing you need, move it away" if is_file() else "")
        + ". Then start again."
    )
    executor = MigrationExecutor(connection)
    try:
        executor.loader.check_consistent_history(connection)
    except InconsistentMigrationHistory as error:
        raise CannotStart(
            f"The database's migrations are out of order: {first_line(error)}. {remedy}"
        ) from None
    known = executor.loader.disk_migrations
    ours = {app.label for app in apps.get_app_configs()}
    newer = [
        key for key in executor.loader.applied_migrations if key[0] in ours and key not in known
    ]
    if newer:
        raise CannotStart(
            f"The database was made by a newer version: it has {'.'.join(min(newer))}, which this "
            "code does not know. Use that version again."
        )
    with connection.cursor() as cursor:
        tables = set(connection.introspection.table_names(cursor))
    for migration, _ in executor.migration_plan(executor.loader.graph.leaf_nodes()):
        for operation in migration.operations:
            if not isinstance(operation, CreateModel):
                continue
            table = operation.options.get(
                "db_table", f"{migration.app_label}_{operation.name_lower}"
            )
            if table in tables:
                raise CannotStart(
                    f"Migration {migration.app_label}.{migration.name} stopped half-way: table "
                    f"{table} is there, but the migration is not recorded. {remedy}"
                )


def check_secrets() -> None:
    """New secrets are made only for a database that holds nothing made with others."""
    gone = secret_files.missing()
    if gone and (rows := _rows_made_with_secrets()):
        names = " and ".join(str(path) for path in gone)
        are = "is" if len(gone) == 1 else "are"
        raise CannotStart(
            f"{names} {are} missing, but the database has {rows} that were made with what they "
            "held. Put them back from their backup, or set SECRET_KEY and KEY_PEPPERS."
        )


def _rows_made_with_secrets() -> str:
    from tenants.keys.models import ApiKey
    from tenants.members.models import User

    with scope.platform("first start: which secrets are in use"):
        for model, what in ((ApiKey, "API keys"), (User, "people")):
            if _ask(model._base_manager.exists):
                return what
    return ""


def check_vault_key() -> None:
    from tenants.vault.ring import verify_before_start

    try:
        _ask(verify_before_start)
    except GatewayError as error:
        raise CannotStart(first_line(error) + ".") from None


def _ask(question: Callable[[], Any]) -> Any:
    """The answer, or None where the tables are not there yet, or not yet in today's shape."""
    try:
        return question()
    except DatabaseError:
        connection.close()
        return None


def is_file() -> bool:
    return connection.vendor == "sqlite"


def database_file() -> Path:
    return Path(str(connection.settings_dict["NAME"]))


def is_new_file() -> bool:
    """Whether the database is a file that is not there yet: connecting would make it."""
    return is_file() and not database_file().exists()


def first_line(error: BaseException) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0].rstrip(".")
