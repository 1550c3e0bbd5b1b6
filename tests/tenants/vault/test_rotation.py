from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from django.db import close_old_connections, connection

from controlplane.kit import clock
from controlplane.kit.secret import Secret
from tenants import scope
from tenants.audit.models import AuditEvent
from tenants.members.models import Tenant
from tenants.vault import data_keys, envelope, rotation, services
from tenants.vault.errors import KeyRingProblem
from tenants.vault.models import DataKey, KeyRotation
from tenants.vault.ring import SETTLED_AFTER
from tests.patience import LONG_SECONDS
from tests.tenants.vault.samples.models import PlatformSecret, TenantSecret
from tests.tenants.vault.samples.rows import data_keys_of, reread, store

ROOT = Path(__file__).resolve().parents[3]

pytestmark = [pytest.mark.storage, pytest.mark.usefixtures("samples")]


def rotate(tenant: Tenant | None = None) -> rotation.Outcome:
    work, _ = rotation.begin(tenant.pk if tenant else None)
    return rotation.run(work)


def test_every_secret_moves_to_a_new_key_and_still_opens(
    tenant: Tenant, other_tenant: Tenant
) -> None:
    rows = [store(owner, f"secret {n}") for n in range(3) for owner in (tenant, other_tenant, None)]
    platform = PlatformSecret()
    services.seal_into(platform, "sealed", Secret("platform's own"))
    platform.save()
    old = {envelope.key_id_of(row.sealed) for row in rows}
    outcome = rotate()
    assert (outcome.resealed, outcome.left, outcome.unreadable) == (10, 0, [])
    with scope.platform("tests"):
        new = {envelope.key_id_of(row.sealed) for row in TenantSecret.objects.all()}
        actions = list(AuditEvent.objects.order_by("sequence").values_list("action", flat=True))
    assert len(new) == 3
    assert new.isdisjoint(old)
    assert [reread(row) for row in rows] == [f"secret {n}" for n in range(3) for _ in range(3)]
    platform.refresh_from_db()
    assert services.unseal_from(platform, "sealed").reveal() == "platform's own"
    assert actions == ["vault.rotation_begun", "vault.rotation_finished"]


def test_one_tenant_alone(tenant: Tenant, other_tenant: Tenant) -> None:
    mine, theirs = store(tenant, "mine"), store(other_tenant, "theirs")
    assert rotate(tenant).resealed == 1
    assert (len(data_keys_of(tenant)), len(data_keys_of(other_tenant))) == (2, 1)
    assert (reread(mine), reread(theirs)) == ("mine", "theirs")


def test_an_unfinished_rotation_is_taken_up_again(
    tenant: Tenant, other_tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [store(owner, "x", n) for owner in (tenant, other_tenant) for n in range(5)]
    monkeypatch.setattr(rotation, "_BATCH", 2)
    really, writes = rotation._write, []

    def killed(batch: list[tuple[rotation.SealedRow, bytes]]) -> int:
        writes.append(len(batch))
        if len(writes) == 3:
            raise KeyboardInterrupt
        return really(batch)

    monkeypatch.setattr(rotation, "_write", killed)
    with pytest.raises(KeyboardInterrupt):
        rotate()
    monkeypatch.setattr(rotation, "_write", really)
    assert [reread(row) for row in rows] == ["x"] * 10
    work, is_resumed = rotation.begin()
    assert is_resumed
    outcome = rotation.run(work)
    assert outcome.resealed == 6
    # It went on with the keys it had made: none was made twice.
    assert (len(data_keys_of(tenant)), len(data_keys_of(other_tenant))) == (2, 2)
    assert rotation.begin()[1] is False


def test_a_row_written_meanwhile_keeps_what_was_written(
    tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = store(tenant, "before")
    really = rotation._write
    raced: list[bool] = []

    def slow(batch: list[tuple[rotation.SealedRow, bytes]]) -> int:
        if batch and not raced:
            raced.append(True)
            # Somebody whose transaction began with the old key commits just now.
            with scope.platform("tests"):
                old = DataKey.objects.get(retired_at__isnull=False)
                key = data_keys.find(old.pk, tenant.pk)
                place = services.place_of(row, "sealed")
                sealed = envelope.seal(key.cipher, key.id, place, b"after")
                TenantSecret.objects.filter(pk=row.pk).update(sealed=sealed)
        return really(batch)

    monkeypatch.setattr(rotation, "_write", slow)
    outcome = rotate()
    assert raced
    assert outcome.left == 0
    assert reread(row) == "after"
    with scope.platform("tests"):
        sealed = TenantSecret.objects.get(pk=row.pk).sealed
        assert envelope.key_id_of(sealed) == DataKey.objects.get(retired_at=None).pk


def test_what_cannot_be_opened_is_listed_and_left_alone(
    tenant: Tenant, other_tenant: Tenant
) -> None:
    good, moved, damaged = (store(tenant, text) for text in ("good", "moved", "damaged"))
    gone = store(other_tenant, "gone")
    broken = {
        moved.pk: gone.sealed,
        damaged.pk: damaged.sealed[:-1] + bytes([damaged.sealed[-1] ^ 1]),
    }
    with scope.platform("tests"):
        for pk, sealed in broken.items():
            TenantSecret.objects.filter(pk=pk).update(sealed=sealed)
        TenantSecret.objects.filter(pk=good.pk).update(other=b"plain")
    services.shred(tenant_id=other_tenant.pk)
    data_keys.open_keys.clear()

    for found in (rotation.inspect(), rotate()):
        listed = {(each.row.row_id, each.row.column.field): each.why for each in found.unreadable}
        assert set(listed) == {
            (moved.pk, "sealed"),
            (damaged.pk, "sealed"),
            (gone.pk, "sealed"),
            (good.pk, "other"),
        }
        assert listed[gone.pk, "sealed"] == rotation.SHREDDED
        assert "altered" in listed[damaged.pk, "sealed"]
        assert "no sealed value" in listed[good.pk, "other"]
        assert str(damaged.pk) in " ".join(str(each) for each in found.unreadable)
    assert reread(good) == "good"
    with scope.platform("tests"):
        for pk, sealed in broken.items():
            assert TenantSecret.objects.get(pk=pk).sealed == sealed


def test_a_shredded_tenant_gets_no_new_key_from_a_rotation(tenant: Tenant) -> None:
    store(tenant, "gone")
    services.shred(tenant_id=tenant.pk)
    data_keys.open_keys.clear()
    assert len(rotate().unreadable) == 1
    assert len(data_keys_of(tenant)) == 1


def test_a_failing_ring_stops_a_rotation_before_anything_is_lost(
    tenant: Tenant, key_file: Path
) -> None:
    services.initialise()
    row = store(tenant, "mine")
    ring_text = key_file.read_text()
    work, _ = rotation.begin()
    key_file.unlink()
    data_keys.open_keys.clear()
    with pytest.raises(KeyRingProblem):
        rotation.run(work)
    assert len(data_keys_of(tenant)) == 1
    key_file.write_text(ring_text)
    assert rotation.run(work).resealed == 1
    assert reread(row) == "mine"


def test_old_data_keys_go_only_unused_and_after_a_while(
    tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = store(tenant, "mine")
    before = row.sealed
    rotate()
    assert rotation.prune() == 0  # retired just now
    later = clock.now() + SETTLED_AFTER + timedelta(minutes=1)
    monkeypatch.setattr(clock, "now", lambda: later)
    with scope.platform("tests"):
        after = TenantSecret.objects.get(pk=row.pk).sealed
        TenantSecret.objects.filter(pk=row.pk).update(sealed=before)
        assert rotation.prune() == 0  # one row uses it
        TenantSecret.objects.filter(pk=row.pk).update(sealed=after)
    assert rotation.prune() == 1
    assert len(data_keys_of(tenant)) == 1
    data_keys.open_keys.clear()
    assert reread(row) == "mine"


# --- bar C2 --------------------------------------------------------------------------------------

SECRETS = 10_000


@pytest.mark.django_db(transaction=True)
def test_ten_thousand_secrets_under_load_with_a_kill_in_the_middle(
    wait_until: Callable[..., object],
) -> None:
    tenants = [Tenant.objects.create(slug=f"load-{n}", name="Load") for n in range(4)]
    rows = fill(tenants)
    old_keys = {envelope.key_id_of(row.sealed) for row in rows}
    load = Load(rows)
    load.start()
    try:
        first = start_rotation()
        wait_until(lambda: has_begun(old_keys) or first.poll() is not None, seconds=60)
        first.send_signal(signal.SIGKILL)
        assert first.wait(LONG_SECONDS) == -signal.SIGKILL
        first.communicate()
        moved = count_moved(old_keys)
        assert 100 < moved < SECRETS, "the kill came too late to show anything"
        data_keys.open_keys.clear()
        second = start_rotation()
        output, errors = second.communicate(timeout=120)
    finally:
        load.stop()
    assert second.returncode == 0, output + errors
    assert "Going on with the rotation" in output
    assert load.failures == []
    assert load.opened > 500
    assert load.written > 10

    with scope.platform("tests"):
        stored = {row.pk: row for row in TenantSecret.objects.all()}
        keys = list(DataKey.objects.all())
        assert KeyRotation.objects.get().finished_at is not None
    assert len(stored) == SECRETS
    assert len(keys) == 2 * len(tenants)
    current = {key.pk for key in keys if key.retired_at is None}
    failed = 0
    for pk, row in stored.items():
        assert envelope.key_id_of(row.sealed) in current
        failed += services.unseal_from(row, "sealed").reveal() != load.texts[pk]
    assert failed == 0
    print(
        f"C2: {SECRETS:,} secrets, killed after {moved:,}; {load.opened:,} opened and "
        f"{load.written:,} rewritten meanwhile, 0 failed"
    )


def fill(tenants: list[Tenant]) -> list[TenantSecret]:
    """As `seal` makes them, without asking for the current key ten thousand times."""
    keys = {tenant.pk: data_keys.current(tenant.pk) for tenant in tenants}
    rows = []
    for number in range(SECRETS):
        key = keys[tenants[number % len(tenants)].pk]
        row = TenantSecret(id=uuid.uuid4(), tenant_id=key.tenant_id, number=number)
        place = services.place_of(row, "sealed")
        row.sealed = envelope.seal(key.cipher, key.id, place, f"secret {number}".encode())
        rows.append(row)
    with scope.platform("tests"):
        TenantSecret.objects.bulk_create(rows, batch_size=500)
    return rows


def has_begun(old_keys: set[uuid.UUID]) -> bool:
    """Whether 10 of 200 rows have moved: asked often, so not of all."""
    with scope.platform("tests"):
        some = TenantSecret.objects.filter(number__lt=200).values_list("sealed", flat=True)
        return sum(envelope.key_id_of(value) not in old_keys for value in some) > 10


def count_moved(old_keys: set[uuid.UUID]) -> int:
    with scope.platform("tests"):
        sealed = TenantSecret.objects.values_list("sealed", flat=True)
        return sum(envelope.key_id_of(value) not in old_keys for value in sealed)


def start_rotation() -> subprocess.Popen[str]:
    name = str(connection.settings_dict["NAME"])
    if connection.vendor == "sqlite":
        url = f"sqlite:///{name}"
    else:
        url = urlsplit(os.environ["DATABASE_URL"])._replace(path=f"/{name}").geturl()
    return subprocess.Popen(
        [sys.executable, "manage.py", "vault", "rotate"],
        cwd=ROOT,
        env={
            **os.environ,
            "DATABASE_URL": url,
            "DJANGO_SETTINGS_MODULE": "tests.tenants.vault.samples.settings",
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


class Load:
    """Two threads that open secrets without pause, one that keeps writing new ones."""

    def __init__(self, rows: list[TenantSecret]) -> None:
        self.texts = {row.pk: f"secret {row.number}" for row in rows}
        self.failures: list[str] = []
        self.opened = self.written = 0
        self._ids = [row.pk for row in rows]
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._guard, args=(work,))
            for work in (self._open, self._open, self._write)
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(LONG_SECONDS)

    def _guard(self, work: Callable[[int], None]) -> None:
        try:
            number = 0
            while not self._stop.is_set():
                work(number)
                number += 1
                # Leaves the other core to the rotation: this is a load, not a blockade.
                self._stop.wait(0.03)
        except Exception as error:  # noqa: BLE001  (whatever it is, the test must show it)
            self.failures.append(repr(error))
        finally:
            close_old_connections()
            connection.close()

    def _open(self, number: int) -> None:
        step = self._ids[(number * 37) % SECRETS :][:8]
        with scope.platform("load"):
            for row in TenantSecret.objects.filter(pk__in=step):
                text = services.unseal_from(row, "sealed").reveal()
                if not text.startswith("secret "):
                    self.failures.append(f"{row.pk} opened as something else")
                self.opened += 1

    def _write(self, number: int) -> None:
        row_id = self._ids[(number * 101) % SECRETS]
        with scope.platform("load"):
            row = TenantSecret.objects.get(pk=row_id)
            text = f"secret {row.number} written {number}"
            services.seal_into(row, "sealed", Secret(text))
            row.save(update_fields=["sealed"])
        self.texts[row_id] = text
        self.written += 1
        self._stop.wait(0.02)
