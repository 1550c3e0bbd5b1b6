from __future__ import annotations

import re
import sqlite3
import stat
from pathlib import Path

from tests.controlplane.first_run.conftest import FirstStart, contents, manage

CHECK_WHAT_WAS_SHOWN = """
from tenants import scope
from tenants.keys import peppers
from tenants.keys.lookup import digests
from tenants.keys.models import ApiKey
from tenants.members.models import User
with scope.platform("test"):
    admin = User.objects.get()
    assert admin.check_password({password!r}), "password"
    assert admin.is_superuser and admin.is_staff and admin.must_change_password
    key = ApiKey.objects.get(digest__in=digests({key!r}, peppers.ring()))
    assert key.tenant.slug == "demo"
"""


def test_a_new_installation_gets_all_it_needs_and_only_its_owner_can_read_it(
    first_start: FirstStart, tmp_path: Path
) -> None:
    state = first_start.copied_to(tmp_path)
    assert set(contents(state)) == {
        "control-plane.sqlite3",
        "secrets/django_secret_key",
        "secrets/key_peppers",
        "secrets/vault_keys",
    }
    for path in first_start.state.rglob("*"):
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode == (0o700 if path.is_dir() else 0o600), path
    assert stat.S_IMODE(first_start.state.stat().st_mode) & 0o077 == 0

    shown = re.search(r"admin@localhost   one-time password  (\S+)", first_start.shown)
    token = re.search(r"Key +(pcp_live_\w+)", first_start.shown)
    assert shown
    assert token
    assert re.fullmatch(r"([A-Z2-9]{5}-){3}[A-Z2-9]{5}", shown[1])
    code = CHECK_WHAT_WAS_SHOWN.format(password=shown[1], key=token[1])
    checked = manage(state, "shell", "-v", "0", "-c", code)
    assert checked.returncode == 0, checked.stderr

    database = state / "control-plane.sqlite3"
    stored = b"".join(contents(state).values())
    assert shown[1].encode() not in stored
    assert token[1].encode() not in stored
    with sqlite3.connect(database) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        actions = {row[0] for row in connection.execute("SELECT action FROM tenants_auditevent")}
    connection.close()
    assert {"vault.initialised", "staff.created", "tenant.created", "key.created"} <= actions


def test_a_second_start_repeats_nothing(state: Path) -> None:
    before = contents(state)
    done = manage(state, "first_run", "--port", "0")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "Everything was prepared before."
    assert contents(state) == before


def test_an_interrupted_start_goes_on(state: Path) -> None:
    """As if it had been ended before the admin was made."""
    with sqlite3.connect(state / "control-plane.sqlite3") as connection:
        connection.execute("DELETE FROM tenants_user")
    connection.close()
    done = manage(state, "first_run", "--port", "0")
    assert done.returncode == 0, done.stderr
    assert "one-time password" in done.stdout
    assert "Key" not in done.stdout


def test_one_more_key_for_who_lost_the_first(state: Path) -> None:
    done = manage(state, "first_run", "--new-key")
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"\s*Key +pcp_live_\w+   for tenant demo\s*", done.stdout)
