"""The bytes of the test database, and a guard: this process must not open that file itself.

POSIX ends all locks that a process has on a file when it closes any descriptor of that file. SQLite
then holds a database open without its locks; the next process that opens and closes it thinks that
it was the last, removes the journal, and every later connection here fails with "disk I/O error".
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

from django.db import connection


def database_bytes() -> bytes:
    """Of the file and its journals, read by another process."""
    path = Path(str(connection.settings_dict["NAME"]))
    files = sorted(str(file) for file in path.parent.glob(f"{path.name}*") if file.is_file())
    assert files
    return subprocess.run(["cat", *files], check=True, capture_output=True).stdout


class DatabaseOpened(AssertionError):
    """A test opened the file that this process's connections have locked."""


def watch(event: str, arguments: tuple[Any, ...]) -> None:
    """An audit hook. SQLite opens its files in C and does not pass here."""
    if event == "open" and "/test.sqlite3" in str(arguments[0]):
        raise DatabaseOpened(
            f"Opening {arguments[0]} would end SQLite's locks on it: use database_bytes()."
        )
