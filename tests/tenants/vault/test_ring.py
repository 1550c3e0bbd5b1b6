from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.checks import run_checks

from controlplane.kit import clock
from tenants import scope
from tenants.audit.models import AuditEvent
from tenants.members.models import Tenant
from tenants.vault import checks, data_keys, ring, services
from tenants.vault.errors import KeyRingProblem
from tenants.vault.models import DataKey
from tests.tenants.vault.samples.models import TenantSecret
from tests.tenants.vault.samples.rows import data_keys_of, new_ring_key, reread, store

pytestmark = [pytest.mark.storage, pytest.mark.usefixtures("samples")]


def problems() -> list[str]:
    return [str(message.msg) for message in checks.key_ring_fits(None)]


def actions() -> list[str]:
    with scope.platform("tests"):
        return list(AuditEvent.objects.order_by("sequence").values_list("action", flat=True))


# --- bar C4 --------------------------------------------------------------------------------------


def test_a_new_installation_starts_without_a_key_and_makes_one(key_file: Path) -> None:
    assert problems() == []
    with pytest.raises(KeyRingProblem, match=r"is missing.*vault init"):
        services.verify_key_ring()  # nothing can be sealed yet: not ready
    key_id = services.initialise()
    assert key_id is not None
    assert key_id in key_file.read_text()
    services.verify_key_ring()
    assert actions() == ["vault.initialised"]
    before = key_file.read_bytes()
    assert services.initialise() is None
    assert key_file.read_bytes() == before


@pytest.mark.parametrize("how", ["missing", "another", "empty", "no text"])
def test_a_missing_or_wrong_key_beside_secrets_refuses_and_makes_nothing(
    tenant: Tenant, key_file: Path, how: str
) -> None:
    services.initialise()
    row = store(tenant, "mine")
    right = key_file.read_bytes()
    match how:
        case "missing":
            key_file.unlink()
        case "another":
            key_file.write_text(new_ring_key())
        case "empty":
            key_file.write_text("")
        case "no text":
            key_file.write_bytes(b"\xff\x00")
    wrong = key_file.read_bytes() if key_file.exists() else None
    data_keys.open_keys.clear()  # a process that starts remembers nothing

    assert len(problems()) == 1
    assert str(key_file) in problems()[0]
    for refused in (services.verify_key_ring, ring.verify_before_start, services.initialise):
        with pytest.raises(KeyRingProblem):
            refused()
    with pytest.raises(KeyRingProblem):
        reread(row)
    with pytest.raises(KeyRingProblem):
        ring.add_key()
    assert (key_file.read_bytes() if key_file.exists() else None) == wrong
    assert [path.name for path in key_file.parent.iterdir()] == ["vault_keys"][wrong is None :]

    key_file.write_bytes(right)
    assert problems() == []
    services.verify_key_ring()
    assert reread(row) == "mine"


def test_no_second_key_is_wrapped_by_a_wrong_ring(
    tenant: Tenant, other_tenant: Tenant, key_file: Path
) -> None:
    """Sealing for one more tenant would succeed under a wrong ring, and split the database."""
    services.initialise()
    store(tenant, "mine")
    key_file.write_text(new_ring_key())
    data_keys.open_keys.clear()
    with pytest.raises(KeyRingProblem):
        store(other_tenant, "theirs")
    assert data_keys_of(other_tenant) == []


def test_secrets_whose_data_keys_were_emptied_refuse_to_start(
    tenant: Tenant, key_file: Path
) -> None:
    services.initialise()
    store(tenant, "mine")
    with scope.platform("tests"):
        DataKey.objects.all().delete()
    assert "the table of data keys was emptied" in problems()[0]
    key_file.unlink()
    with pytest.raises(KeyRingProblem, match="emptied"):
        services.initialise()
    assert not key_file.exists()


def test_a_shredded_database_still_gets_no_new_ring(tenant: Tenant, key_file: Path) -> None:
    services.initialise()
    store(tenant, "mine")
    services.shred(tenant_id=tenant.pk)
    key_file.unlink()
    with pytest.raises(KeyRingProblem, match="this database was used with one"):
        services.initialise()
    assert not key_file.exists()


def test_an_old_key_missing_from_the_ring_is_noticed(
    tenant: Tenant, other_tenant: Tenant, key_file: Path
) -> None:
    services.initialise()
    store(tenant, "mine")
    key_file.write_text(key_file.read_text() + new_ring_key())
    store(other_tenant, "theirs")
    services.verify_key_ring()
    key_file.write_text(key_file.read_text().splitlines()[-1])
    assert "has no vault key" in problems()[0]


def test_an_unknown_provider_is_named(settings: Any) -> None:
    settings.VAULT_PROVIDER = "vault"
    with pytest.raises(KeyRingProblem, match="file, hashicorp-transit, aws-kms"):
        services.verify_key_ring()


def test_the_check_is_registered_and_runs_with_all_others(tenant: Tenant, key_file: Path) -> None:
    services.initialise()
    store(tenant, "mine")
    key_file.unlink()
    found = [message for message in run_checks() if message.id == "vault.E001"]
    assert len(found) == 1
    assert found[0].is_serious()


def test_the_check_leaves_an_unreachable_database_to_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from django.db import OperationalError

    def away() -> None:
        raise OperationalError("connection refused")

    monkeypatch.setattr(checks, "verify_before_start", away)
    assert problems() == []


# --- new ring keys -------------------------------------------------------------------------------


def no_progress(total: int) -> Any:
    from controlplane.kit.progress import Progress

    return Progress("Wrapping", total)


def test_rewrapping_moves_every_key_and_touches_no_secret(
    tenant: Tenant, other_tenant: Tenant, key_file: Path
) -> None:
    services.initialise()
    rows = [store(owner, "secret") for owner in (tenant, other_tenant, None)]
    new = ring.add_key()
    assert ring.rewrap_all(no_progress) == 3
    assert ring.rewrap_all(no_progress) == 0
    with scope.platform("tests"):
        assert set(DataKey.objects.values_list("wrapped_by", flat=True)) == {f"file:{new}"}
        for row in rows:
            assert TenantSecret.objects.get(pk=row.pk).sealed == row.sealed
    data_keys.open_keys.clear()
    assert [reread(row) for row in rows] == ["secret"] * 3


def test_rewrapping_goes_on_where_it_stopped(
    tenant: Tenant, other_tenant: Tenant, key_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    services.initialise()
    for owner in (tenant, other_tenant, None):
        store(owner, "secret")
    new = ring.add_key()
    really, calls = ring._rewrap, []

    def killed(row: DataKey) -> int:
        calls.append(row)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return really(row)

    monkeypatch.setattr(ring, "_rewrap", killed)
    with pytest.raises(KeyboardInterrupt):
        ring.rewrap_all(no_progress)
    monkeypatch.setattr(ring, "_rewrap", really)
    assert ring.rewrap_all(no_progress) == 2
    with scope.platform("tests"):
        assert not DataKey.objects.exclude(wrapped_by=f"file:{new}").exists()


def test_an_old_ring_key_goes_only_when_nothing_needs_it(
    tenant: Tenant, key_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    services.initialise()
    row = store(tenant, "mine")
    ring.add_key()
    later = clock.now() + ring.SETTLED_AFTER + timedelta(minutes=1)
    assert ring.drop_unused_keys() == []
    monkeypatch.setattr(clock, "now", lambda: later)
    assert ring.drop_unused_keys() == []  # it still wraps the tenant's data key
    ring.rewrap_all(no_progress)
    assert len(ring.drop_unused_keys()) == 1
    data_keys.open_keys.clear()
    assert reread(row) == "mine"
    assert "vault.keys_dropped" in actions()


def test_a_ring_key_just_replaced_is_kept_a_while(tenant: Tenant, key_file: Path) -> None:
    """A transaction begun before may be about to commit a data key that it wraps."""
    services.initialise()
    store(tenant, "mine")
    ring.add_key()
    ring.rewrap_all(no_progress)
    assert ring.drop_unused_keys() == []


def test_moving_from_the_key_file_to_a_key_service_and_back(
    tenant: Tenant, key_file: Path, settings: Any
) -> None:
    from tests.tenants.vault.fake_services import FakeTransit, running

    services.initialise()
    row = store(tenant, "mine")
    fake = FakeTransit()
    with running(fake):
        settings.VAULT_PROVIDER = "hashicorp-transit"
        settings.HASHICORP_VAULT_URL = fake.url
        settings.HASHICORP_VAULT_TOKEN = FakeTransit.TOKEN
        settings.HASHICORP_VAULT_TRANSIT_KEY = "gateway"
        services.verify_key_ring()
        assert ring.rewrap_all(no_progress) == 1
        key_file.rename(key_file.with_name("kept"))
        data_keys.open_keys.clear()
        assert reread(row) == "mine"
        assert services.initialise() is None
        with pytest.raises(KeyRingProblem, match="make the new key version there"):
            ring.add_key()
        fake.versions = 2
        assert ring.rewrap_all(no_progress) == 1

        key_file.with_name("kept").rename(key_file)
        settings.VAULT_PROVIDER = "file"
        assert ring.rewrap_all(no_progress) == 1
    data_keys.open_keys.clear()
    assert reread(row) == "mine"
    assert fake.complaints == []
