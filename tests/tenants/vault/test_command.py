from __future__ import annotations

from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from controlplane.kit.progress import Progress
from tenants import scope
from tenants.audit.models import AuditEvent
from tenants.members.models import Tenant
from tenants.vault.models import DataKey
from tests.database_file import database_bytes
from tests.tenants.vault.samples.models import TenantSecret
from tests.tenants.vault.samples.rows import data_keys_of, new_ring_key, reread, store

pytestmark = [pytest.mark.storage, pytest.mark.usefixtures("samples")]


def vault(*words: str, fails: str = "") -> str:
    out = StringIO()
    if fails:
        with pytest.raises(CommandError, match=fails):
            call_command("vault", *words, stdout=out, stderr=StringIO())
    else:
        call_command("vault", *words, stdout=out, stderr=StringIO())
    return out.getvalue()


def test_init_makes_a_key_once(key_file: Path) -> None:
    assert f"Made {key_file} with vault key" in vault("init")
    assert "nothing was changed" in vault("init")


def test_init_beside_secrets_without_their_key(tenant: Tenant, key_file: Path) -> None:
    vault("init")
    store(tenant, "mine")
    key_file.unlink()
    vault("init", fails="is missing. Put it back")
    assert not key_file.exists()


def test_status_shows_keys_and_secrets(tenant: Tenant, key_file: Path) -> None:
    assert "NONE" in vault("status", fails="run `manage.py vault init`")
    vault("init")
    assert "none yet" in vault("status")
    store(tenant, "sk-canary")
    store(None, "sk-canary")
    vault("rotate")
    text = vault("status")
    assert str(key_file) in text
    assert "4 data keys wrapped by file:" in text
    assert "2 current, 2 retired and unused" in text
    assert "2 readable, 0 not" in text
    assert "2 in vault_samples.tenantsecret.sealed" in text
    assert "canary" not in text


@pytest.mark.django_db(transaction=True)
def test_status_lists_what_nobody_can_open(
    tenant: Tenant, other_tenant: Tenant, key_file: Path
) -> None:
    vault("init")
    good, bad, gone = store(tenant, "good"), store(tenant, "bad"), store(other_tenant, "gone")
    with scope.platform("tests"):
        TenantSecret.objects.filter(pk=bad.pk).update(sealed=good.sealed)
    vault("shred", "globex", "--yes")
    text = vault("status", fails="1 secret cannot be opened")
    assert f"row {bad.pk} of tenant {tenant.pk}: altered" in text
    assert f"row {gone.pk} of tenant {other_tenant.pk}: its data key was shredded" in text
    assert str(good.pk) not in text
    vault("rotate", fails="1 secret cannot be opened, left as before")


def test_status_with_a_wrong_ring_lists_every_row(tenant: Tenant, key_file: Path) -> None:
    from tenants.vault import data_keys

    vault("init")
    row = store(tenant, "mine")
    key_file.write_text(new_ring_key())
    data_keys.open_keys.clear()
    text = vault("status", fails="has no vault key")
    assert "PROBLEM" in text
    assert str(row.pk) in text
    for words in (["rotate"], ["rewrap"], ["rewrap", "--new-key"], ["prune"]):
        vault(*words, fails="has no vault key")
    assert len(key_file.read_text().splitlines()) == 1
    assert len(data_keys_of(tenant)) == 1


def test_rotate_one_tenant(tenant: Tenant, other_tenant: Tenant, key_file: Path) -> None:
    vault("init")
    row = store(tenant, "mine")
    store(other_tenant, "theirs")
    assert "1 secret sealed with new data keys" in vault("rotate", "acme")
    assert reread(row) == "mine"
    vault("rotate", "nobody", fails="There is no tenant 'nobody'")


def test_rewrap_with_a_new_key_and_prune(tenant: Tenant, key_file: Path) -> None:
    vault("init")
    row = store(tenant, "mine")
    text = vault("rewrap", "--new-key")
    assert "Added vault key" in text
    assert "1 data key wrapped with file:" in text
    assert "0 data keys wrapped" in vault("rewrap")
    assert "0 old data keys and 0 old vault keys removed" in vault("prune")
    assert reread(row) == "mine"


@pytest.mark.django_db(transaction=True)
def test_shred_asks_and_leaves_no_trace(
    tenant: Tenant, key_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vault("init")
    store(tenant, "mine")
    wrapped = bytes(data_keys_of(tenant)[0].wrapped)
    monkeypatch.setattr("builtins.input", lambda prompt: "no")
    text = vault("shred", "acme", fails="Nothing was changed")
    assert "unreadable for good" in text
    assert bytes(data_keys_of(tenant)[0].wrapped) == wrapped
    if connection.vendor == "sqlite":
        assert wrapped in database_bytes()
    monkeypatch.setattr("builtins.input", lambda prompt: "acme")
    assert "1 data key of acme destroyed" in vault("shred", "acme")
    if connection.vendor == "sqlite":
        assert wrapped not in database_bytes()
    with scope.platform("tests"):
        assert not DataKey.objects.filter(shredded_at=None).exists()
        event = AuditEvent.objects.get(action="vault.shredded")
    assert event.actor_kind == "command"
    assert event.actor_label.startswith("manage.py vault by ")


def test_a_subcommand_is_needed() -> None:
    vault(fails="required")


# --- the bar -------------------------------------------------------------------------------------


class Terminal(StringIO):
    def isatty(self) -> bool:
        return True


def test_on_a_terminal_the_bar_fills() -> None:
    stream = Terminal()
    with Progress("Sealing", 4, stream) as progress:
        for _ in range(4):
            progress(1)
    first, *_, last = stream.getvalue().split("\r")[1:]
    assert "░" * 30 in first
    assert "█" * 30 in last
    assert "100%  4 of 4" in last
    assert last.endswith("\n")


@pytest.mark.parametrize(("total", "done"), [(0, 0), (2, 5)])
def test_a_total_that_was_off_breaks_nothing(total: int, done: int) -> None:
    stream = Terminal()
    with Progress("Sealing", total, stream) as progress:
        progress(done)
    assert f"{done} of {done}" in stream.getvalue()


def test_in_a_log_a_short_run_says_nothing_and_a_long_one_now_and_then(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now: list[float] = [0.0]
    monkeypatch.setattr("controlplane.kit.progress.time.monotonic", lambda: now[0])
    short, long = StringIO(), StringIO()
    with Progress("Sealing", 10, short) as progress:
        progress(10)
    assert short.getvalue() == ""
    with Progress("Sealing", 10, long) as progress:
        for _ in range(10):
            now[0] += 4.0
            progress(1)
    lines: list[Any] = long.getvalue().splitlines()
    assert len(lines) == 4
    assert "3 of 10, 12 s, 28 s left" in lines[0]
