"""SQLite: its own backup interface copies one moment of a file that others are writing to."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

from controlplane.backup.errors import BackupFailed


def copy(source: Path, target: Path) -> None:
    """`target` must not be there yet; it becomes one file without a journal beside it."""
    try:
        with (
            closing(sqlite3.connect(f"file:{quote(str(source))}?mode=ro", uri=True)) as reading,
            closing(sqlite3.connect(target)) as writing,
        ):
            # All pages in one step: one read transaction, and writers go on beside it.
            reading.backup(writing, pages=-1)
            writing.execute("PRAGMA journal_mode=DELETE")
            found = writing.execute("PRAGMA quick_check(1)").fetchone()[0]
    except sqlite3.Error as error:
        raise BackupFailed(f"{source} cannot be read as a database: {error}.") from None
    if found != "ok":
        raise BackupFailed(f"{source} is damaged: {found}.")
