"""Take a backup; put one back. Which database it is, the settings say."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from django.db import connection

from controlplane.backup import postgres, sqlite
from controlplane.backup.errors import BackupFailed
from controlplane.backup.files import made_whole
from controlplane.backup.proof import Proof, prove


def back_up(target: Path) -> int:
    """Writes one moment of the database to `target`. Returns its size in bytes."""
    with made_whole(target) as part:
        if connection.vendor == "sqlite":
            sqlite.copy(_file(), part)
        else:
            postgres.copy(part)
    return target.stat().st_size


def restore(source: Path) -> Proof:
    """Puts `source` where the settings say the database is. Nothing is there before, and nothing
    after if the backup does not prove itself with the keys of this installation."""
    if not source.is_file():
        raise BackupFailed(f"{source} is no file.")
    if connection.vendor == "sqlite":
        return _restore_file(source)
    if not postgres.is_empty():
        raise BackupFailed(
            f"The database {connection.settings_dict['NAME']} has tables already: make a new one, "
            "and name it in DATABASE_URL."
        )
    postgres.put_back(source)
    try:
        return prove()
    except BaseException:
        postgres.empty_again()
        raise


def _restore_file(source: Path) -> Proof:
    target = _file()
    with made_whole(target) as part:
        sqlite.copy(source, part)
        with _connected_to(part):
            proof = prove()
    return proof


@contextmanager
def _connected_to(file: Path) -> Iterator[None]:
    """Queries of this process go to `file`. Its journal is gone again at the end."""
    kept = connection.settings_dict["NAME"]
    connection.close()
    connection.settings_dict["NAME"] = str(file)
    try:
        yield
    finally:
        connection.close()
        connection.settings_dict["NAME"] = kept


def _file() -> Path:
    return Path(str(connection.settings_dict["NAME"]))
