"""PostgreSQL: pg_dump and pg_restore, told what this database's row-level security needs.

The gateway's role is bound by the policies of its own tables. Without the platform's scope
pg_dump would stop at the first of them, or leave every tenant's rows out.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

from django.db import connection

from controlplane.backup.errors import BackupFailed
from tenants import row_security, scope


def copy(target: Path) -> None:
    _run(
        "pg_dump",
        "--format=custom",
        "--no-owner",
        "--no-privileges",
        "--enable-row-security",
        f"--file={target}",
        f"--dbname={connection.settings_dict['NAME']}",
    )


def is_empty() -> bool:
    with connection.cursor() as cursor:
        return not connection.introspection.table_names(cursor)


def put_back(source: Path) -> None:
    """Into an empty database; in one transaction, so that a dump that is cut off leaves nothing."""
    _run(
        "pg_restore",
        "--no-owner",
        "--no-privileges",
        "--exit-on-error",
        "--single-transaction",
        f"--dbname={connection.settings_dict['NAME']}",
        str(source),
    )


def empty_again() -> None:
    """Takes away all that `put_back` made: the database was empty before."""
    with scope.platform("a backup that did not prove itself"), connection.cursor() as cursor:
        cursor.execute("DROP OWNED BY CURRENT_USER")


def _run(program: str, *arguments: str) -> None:
    found = shutil.which(program)
    if found is None:
        raise BackupFailed(
            f"{program} is not installed here: install the client programs of PostgreSQL, of the "
            "server's version or newer, and have them on the PATH."
        )
    done = subprocess.run(  # noqa: S603  (a fixed program; arguments are settings and a path)
        [found, *arguments],
        # And nothing else: variables of this process may name another server.
        env=_environment(connection.settings_dict),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or [f"it ended with code {done.returncode}"]
        raise BackupFailed(f"{program}: {lines[0]}")


def _environment(settings: dict[str, Any]) -> dict[str, str]:
    """As variables, not arguments: those are visible to everybody on the machine."""
    options = settings.get("OPTIONS", {})
    given = {
        "PGHOST": settings.get("HOST"),
        "PGPORT": settings.get("PORT"),
        "PGUSER": settings.get("USER"),
        "PGPASSWORD": settings.get("PASSWORD"),
        "PGSSLMODE": options.get("sslmode"),
        "PGSSLROOTCERT": options.get("sslrootcert"),
        "PGCONNECT_TIMEOUT": options.get("connect_timeout"),
    }
    named = {name: str(value) for name, value in given.items() if value}
    return {**named, "PGOPTIONS": f"-c {row_security.SETTING}={row_security.PLATFORM}"}
