"""Each obstacle: one sentence, exit code 1, nothing changed; mended, the start works."""

from __future__ import annotations

import base64
import errno
import os
import secrets
import shutil
import socket
import sqlite3
import tempfile
from collections import namedtuple
from pathlib import Path
from typing import Any, NoReturn

import pytest
from django.conf import settings

from controlplane.first_run import obstacles, secret_files
from controlplane.first_run.errors import CannotStart
from tests import ports
from tests.controlplane.first_run.conftest import contents, manage


def refused(state: Path, *because: str, port: int = 0, **environ: str) -> str:
    before = contents(state) if state.is_dir() else {}
    done = manage(state, "first_run", "--port", str(port), **environ)
    assert done.returncode == 1, done.stdout
    assert done.stdout == ""
    sentence = done.stderr.strip()
    assert "Traceback" not in sentence
    assert len(sentence.splitlines()) == 1, sentence
    for part in because:
        assert part in sentence
    assert (contents(state) if state.is_dir() else {}) == before
    return sentence


def accepted(state: Path, **environ: str) -> str:
    done = manage(state, "first_run", "--port", "0", **environ)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_wrong_vault_key(state: Path) -> None:
    file = state / "secrets" / "vault_keys"
    right = file.read_text()
    file.write_text(base64.b64encode(secrets.token_bytes(32)).decode())
    refused(state, str(file), "key")
    file.write_text("not a key\n")
    refused(state, str(file), "line 1")
    file.unlink()
    refused(state, str(file), "missing")
    file.write_text(right)
    accepted(state)


def test_missing_secrets_are_never_made_anew_beside_rows_that_need_them(state: Path) -> None:
    for name in ("key_peppers", "django_secret_key"):
        file = state / "secrets" / name
        kept = file.read_text()
        file.unlink()
        refused(state, str(file), "missing", "API keys", "backup")
        file.write_text(kept)
    accepted(state)


def test_an_unreachable_database(tmp_path: Path) -> None:
    state = tmp_path / "state"
    address = f"postgres://gateway:hunter2hunter2@127.0.0.1:{ports.unused()}/gateway"
    sentence = refused(state, "cannot be reached", "DATABASE_URL", DATABASE_URL=address)
    assert "hunter2" not in sentence
    assert not state.exists()


def test_a_port_in_use(tmp_path: Path) -> None:
    state = tmp_path / "state"
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        refused(state, f"Port {port} on 127.0.0.1 is in use", "make run PORT=", port=port)
    assert not state.exists()
    refused(state, "70000 is no port", port=70000)


def test_a_migration_that_stopped_half_way(state: Path) -> None:
    database = state / "control-plane.sqlite3"
    forget = "DELETE FROM django_migrations WHERE app = 'jobs' RETURNING app, name, applied"
    with sqlite3.connect(database) as connection:
        rows = connection.execute(forget).fetchall()
    connection.close()
    assert rows
    refused(state, "Migration jobs.0001_initial stopped half-way", str(database), "backup")
    with sqlite3.connect(database) as connection:
        connection.executemany(
            "INSERT INTO django_migrations (app, name, applied) VALUES (?, ?, ?)", rows
        )
    connection.close()
    accepted(state)


def test_migrations_out_of_order_and_from_the_future(state: Path) -> None:
    database = state / "control-plane.sqlite3"
    with sqlite3.connect(database) as connection:
        connection.execute(
            "INSERT INTO django_migrations (app, name, applied)"
            " VALUES ('tenants', '9999_later', '2030-01-01')"
        )
    connection.close()
    refused(state, "newer version", "tenants.9999_later")
    with sqlite3.connect(database) as connection:
        connection.execute("DELETE FROM django_migrations WHERE name = '9999_later'")
        connection.execute("DELETE FROM django_migrations WHERE app = 'contenttypes'")
    connection.close()
    refused(state, "out of order")


def test_a_file_that_is_no_database(state: Path) -> None:
    database = state / "control-plane.sqlite3"
    kept = database.read_bytes()
    database.write_bytes(b"this is a letter, not a database\n" * 400)
    for scratch in state.glob("*.sqlite3-*"):
        scratch.unlink()
    refused(state, str(database), "cannot be used as a database", "backup")
    database.write_bytes(kept)
    accepted(state)


def test_a_state_folder_that_is_none(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.write_text("a file")
    done = manage(state, "first_run", "--port", "0")
    assert done.returncode == 1
    assert done.stderr.strip().splitlines() == [done.stderr.strip()]
    assert f"{state} is no folder" in done.stderr
    assert state.read_text() == "a file"


@pytest.mark.parametrize(
    ("environ", "because"),
    [
        ({"SECRET_KEY": "change-me-change-me-change-me-change-me"}, "sample value"),
        ({"SECRET_KEY": "short"}, "too short"),
        ({"KEY_PEPPERS_FILE": "/nonexistent"}, "KEY_PEPPERS"),
        ({"DATABASE_URL": "mysql://root@localhost/x"}, "scheme is 'mysql'"),
        ({"LOG_LEVEL": "loud"}, "LOG_LEVEL"),
        ({"SECURE_HSTS_SECONDS": "many"}, "whole number"),
    ],
)
def test_settings_that_make_no_sense(environ: dict[str, str], because: str, tmp_path: Path) -> None:
    refused(tmp_path / "state", because, **environ)


# A disk that is really full, and rights that root lacks, cannot be had everywhere that the suite
# runs; what the system would say can.

Usage = namedtuple("Usage", "total used free")


def test_a_full_disk_is_seen_before_anything_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings, "STATE_DIR", tmp_path / "state")
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: Usage(10**9, 10**9 - 1, 1))
    with pytest.raises(CannotStart, match=r"disk of .* is full: 0 MB are free and 64 MB"):
        obstacles.check_folders()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS, errno.EDQUOT, errno.ENOSPC])
def test_a_folder_that_cannot_be_written_to(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(**_: Any) -> NoReturn:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(settings, "STATE_DIR", tmp_path / "state")
    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    with pytest.raises(CannotStart, match=f"cannot be written to: {os.strerror(number)}"):
        obstacles.check_folders()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("call", ["open", "fsync", "link"])
def test_a_disk_that_fills_while_a_secret_is_written(
    call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> NoReturn:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    path = tmp_path / "secrets" / "key_peppers"
    with monkeypatch.context() as patch:
        patch.setattr(os, call, full)
        with pytest.raises(CannotStart, match=r"key_peppers cannot be written: No space left"):
            secret_files.write_new(path, "value\n")
    assert list(path.parent.iterdir()) == []
    secret_files.write_new(path, "value\n")
    assert path.read_text() == "value\n"


def test_a_secret_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "key_peppers"
    path.write_text("first")
    with pytest.raises(CannotStart, match="File exists"):
        secret_files.write_new(path, "second")
    assert path.read_text() == "first"
    assert list(tmp_path.iterdir()) == [path]
