"""Migrating takes seconds, and every process of a run needs the same: the first one does it and
keeps a copy, the others copy that. It lives in the state folder, which the processes share."""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from django.db import connection

ROOT = Path(__file__).resolve().parent.parent


def _folder() -> Path:
    return Path(os.environ["STATE_DIR"])


def _kept_file() -> Path:
    return _folder() / "migrated.sqlite3"


def kept_database() -> str:
    """Its name on PostgreSQL."""
    return f"{_folder().name.replace('-', '_')}_migrated"


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    with (_folder() / "migrated.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def migrate_once() -> None:
    """From here on the suite's database is made from the copy, if there is one."""
    creation = connection.creation
    really_create = creation.create_test_db
    is_sqlite = connection.vendor == "sqlite"

    def create_test_db(*args: Any, **options: Any) -> str:
        with _alone():
            is_kept = _kept_file().exists() if is_sqlite else _is_on_server()
            if is_kept:
                _start_from_the_copy()
            name = really_create(*args, **options)
            if not is_kept:
                _keep()
        return str(name)

    creation.create_test_db = create_test_db


def make_sqlite(path: Path) -> None:
    """A migrated SQLite file for a system of its own."""
    if not _kept_file().exists():
        environment = {**os.environ, "DATABASE_URL": f"sqlite:///{path}"}
        command = [sys.executable, "manage.py", "migrate", "--verbosity", "0"]
        subprocess.run(command, cwd=ROOT, env=environment, check=True)
        return
    # Not by copying bytes: see tests/database_file.py.
    with contextlib.closing(sqlite3.connect(_kept_file())) as kept:
        kept.execute("VACUUM INTO ?", (str(path),))


def _start_from_the_copy() -> None:
    if connection.vendor != "sqlite":
        connection.settings_dict["TEST"]["TEMPLATE"] = kept_database()
        return
    creation = connection.creation
    really_clear = creation._create_test_db

    def clear_and_copy(*args: Any, **options: Any) -> str:
        name = str(really_clear(*args, **options))
        make_sqlite(Path(name))
        return name

    creation._create_test_db = clear_and_copy


def _keep() -> None:
    if connection.vendor == "sqlite":
        with connection.cursor() as cursor:
            cursor.execute("VACUUM INTO %s", [str(_kept_file())])
        return
    name = connection.settings_dict["NAME"]
    connection.close()
    with connection._nodb_cursor() as cursor:
        cursor.execute(f'CREATE DATABASE "{kept_database()}" TEMPLATE "{name}"')


def _is_on_server() -> bool:
    with connection._nodb_cursor() as cursor:
        cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", [kept_database()])
        return cursor.fetchone() is not None


def drop() -> None:
    """Off the server; the file goes with its folder."""
    if url := os.environ.get("DATABASE_URL"):
        import psycopg

        with psycopg.connect(url, autocommit=True) as server:
            server.execute(f'DROP DATABASE IF EXISTS "{kept_database()}"')
