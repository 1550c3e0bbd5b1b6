"""Bar R17: a backup taken while others write, put back elsewhere, is whole; without the keys that
belong to it nothing is put back. On SQLite and on PostgreSQL, by the commands that users run."""

from __future__ import annotations

import base64
import os
import re
import secrets
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.core.management import CommandError, call_command
from django.db import connection, connections
from django.db.models import Sum

from controlplane.kit.secret import Secret
from providers.catalog import services
from providers.credentials.services import store_key
from tenants import scope
from tenants.audit.actor import acting_as
from tenants.audit.models import AuditEvent
from tenants.keys.services import create_key
from tenants.members.models import Tenant
from tenants.usage.models import UsageEvent
from tests.conftest import ROOT
from tests.controlplane.supervisor.conftest import database_of_its_own
from tests.ledger import spend
from tests.patience import LONG_SECONDS

pytestmark = [pytest.mark.storage, pytest.mark.django_db(transaction=True)]

# What the restored installation tells of itself, read by its own code.
TELL = """
from django.db.models import Sum
from tenants import scope
from tenants.audit.models import AuditEvent
from tenants.usage.models import UsageEvent
with scope.platform("test"):
    spent = UsageEvent.objects.aggregate(spent=Sum("charge_nanos"))["spent"]
    print("TOLD", AuditEvent.objects.count(), UsageEvent.objects.count(), spent)
"""


@pytest.fixture(autouse=True)
def _programs_of_postgresql() -> None:
    if connection.vendor == "postgresql" and shutil.which("pg_dump") is None:
        pytest.skip("pg_dump of the server that DATABASE_URL names is not on the PATH.")


class Elsewhere:
    """Another installation: a folder and a database of its own, and the secrets it is given."""

    def __init__(self, folder: Path, database_url: str, vault_keys: str) -> None:
        folder.mkdir()
        (folder / "secrets").mkdir(mode=0o700)
        (folder / "secrets" / "vault_keys").write_text(vault_keys)
        self.folder = folder
        self._environment = {
            **os.environ,
            "STATE_DIR": str(folder),
            "DATABASE_URL": database_url,
            "REDIS_URL": "",
        }

    def manage(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "manage.py", *words],
            cwd=ROOT,
            env={**self._environment, "DJANGO_SETTINGS_MODULE": "controlplane.settings.local"},
            text=True,
            capture_output=True,
            timeout=5 * LONG_SECONDS,
        )


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Callable[[str], Elsewhere]]:
    """Installations by the vault keys they have."""
    if connection.vendor == "sqlite":
        yield lambda keys: Elsewhere(tmp_path / secrets.token_hex(4), "", keys)
        return
    with database_of_its_own() as url:
        yield lambda keys: Elsewhere(tmp_path / secrets.token_hex(4), url, keys)


class Writers:
    """Threads that make keys, credentials and ledger entries until told to stop."""

    def __init__(self, tenant: Tenant, threads: int = 2) -> None:
        self.rounds = 0
        self.wrong: list[BaseException] = []
        self._tenant = tenant
        self._done = threading.Event()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._run, args=(n,)) for n in range(threads)]

    def __enter__(self) -> Writers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        for thread in self._threads:
            thread.join(LONG_SECONDS)

    def _run(self, number: int) -> None:
        try:
            while not self._done.is_set():
                write(self._tenant, f"w{number}-{secrets.token_hex(4)}")
                with self._lock:
                    self.rounds += 1
        except BaseException as error:  # noqa: BLE001  (told to the test)
            self.wrong.append(error)
        finally:
            connections.close_all()


def write(tenant: Tenant, name: str) -> None:
    with acting_as("command", None, "tests"):
        with scope.platform("tests"):
            provider = services.register(
                slug=name, protocol="openai-completions", base_url="https://vendor.test/v1"
            )
            store_key(provider=provider, label="one", secret=Secret(f"sk-{name}"))
        with scope.tenant(tenant.id):
            create_key(tenant=tenant, label=name)
    spend(tenant, 1_000, None, 500)


def told(tenant: Tenant) -> tuple[int, int, int]:
    with scope.platform("tests"):
        spent = UsageEvent.objects.aggregate(spent=Sum("charge_nanos"))["spent"] or 0
        return AuditEvent.objects.count(), UsageEvent.objects.count(), spent


def own_vault_keys() -> str:
    return Path(settings.VAULT_KEYS_FILE).read_text()


def test_taken_during_writes_and_put_back_elsewhere(
    tenant: Tenant,
    tmp_path: Path,
    elsewhere: Callable[[str], Elsewhere],
    wait_until: Callable[..., Any],
) -> None:
    backup = tmp_path / "backup"
    write(tenant, "first")
    with Writers(tenant) as writers:
        wait_until(lambda: writers.rounds >= 4 or writers.wrong, what="the writers write")
        before = told(tenant)
        call_command("backup", backup, verbosity=0)
        after = told(tenant)
        rounds = writers.rounds
        wait_until(lambda: writers.rounds > rounds or writers.wrong, what="and they still do")
    assert writers.wrong == []
    assert backup.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.glob(".pcp-*")) == []

    place = elsewhere(own_vault_keys())
    done = place.manage("restore", str(backup))
    assert done.returncode == 0, done.stderr
    found = re.search(r"([\d,]+) secrets open, ([\d,]+) audit events and ([\d,]+)", done.stdout)
    assert found, done.stdout
    sealed, events, entries = (int(number.replace(",", "")) for number in found.groups())
    read = place.manage("shell", "-v", "0", "-c", TELL)
    figures = re.search(r"TOLD (\d+) (\d+) (\d+)", read.stdout)
    assert figures, read.stderr
    restored = tuple(int(number) for number in figures.groups())
    assert restored[:2] == (events, entries)
    # One moment between the two looks: nothing that was there before is missing.
    assert all(low <= seen <= high for low, seen, high in zip(before, restored, after, strict=True))
    assert sealed >= 5


def test_without_its_keys_nothing_is_put_back(
    tenant: Tenant, tmp_path: Path, elsewhere: Callable[[str], Elsewhere]
) -> None:
    write(tenant, "first")
    backup = tmp_path / "backup"
    call_command("backup", backup, verbosity=0)
    place = elsewhere(base64.b64encode(secrets.token_bytes(32)).decode())
    done = place.manage("restore", str(backup))
    assert done.returncode == 1
    assert re.match(r"CommandError: The backup's secrets cannot be opened: .+", done.stderr)
    assert "Traceback" not in done.stderr
    assert [path.name for path in place.folder.iterdir()] == ["secrets"]
    # Nor in a database that is no file: with the right keys the same place takes it.
    right = elsewhere(own_vault_keys()).manage("restore", str(backup))
    assert right.returncode == 0, right.stderr


def test_nothing_is_written_over(tenant: Tenant, tmp_path: Path) -> None:
    there = tmp_path / "there"
    there.write_text("mine")
    with pytest.raises(CommandError, match="already"):
        call_command("backup", there)
    assert there.read_text() == "mine"
    with pytest.raises(CommandError, match="No such file"):
        call_command("backup", tmp_path / "nowhere" / "backup")
    with pytest.raises(CommandError, match="is no file"):
        call_command("restore", tmp_path / "nothing")
    with pytest.raises(CommandError, match="already"):
        call_command("restore", there)


@pytest.mark.skipif("connection.vendor != 'sqlite'", reason="pg_restore refuses by itself")
@pytest.mark.parametrize("what", ["text", "cut off", "another program's"])
def test_what_is_no_backup_is_refused_in_a_sentence(
    tenant: Tenant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    file, target = tmp_path / "file", tmp_path / "installation" / "database"
    target.parent.mkdir()
    if what == "text":
        file.write_text("no database\n" * 1000)
    elif what == "cut off":
        call_command("backup", file, verbosity=0)
        os.truncate(file, file.stat().st_size // 2)
    else:
        with sqlite3.connect(file) as other:
            other.execute("CREATE TABLE notes (text)")
        other.close()
    monkeypatch.setattr("controlplane.backup.services._file", lambda: target)
    with pytest.raises(CommandError) as refused:
        call_command("restore", file)
    assert "\n" not in str(refused.value)
    assert list(target.parent.iterdir()) == []
    assert Tenant.objects.get() == tenant, "this process is back at its own database"
