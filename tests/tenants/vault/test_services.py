from __future__ import annotations

import base64
import threading
import time
import uuid
from itertools import permutations
from typing import Any

import pytest
from django.db import IntegrityError, OperationalError, connection, transaction
from django.test.utils import CaptureQueriesContext

from controlplane.kit.errors import FaultKind
from controlplane.kit.secret import Secret
from tenants import scope
from tenants.audit.models import AuditEvent
from tenants.errors import NoScope
from tenants.members.models import Tenant
from tenants.vault import data_keys, envelope, services
from tenants.vault.errors import CannotUnseal, KeyRingProblem, TenantShredded
from tenants.vault.models import DataKey
from tests.patience import LONG_SECONDS
from tests.tenants.vault.samples.models import PlatformSecret, TenantSecret
from tests.tenants.vault.samples.rows import data_keys_of, reread, store

pytestmark = [pytest.mark.storage, pytest.mark.usefixtures("samples")]


def test_a_secret_comes_back_and_its_row_does_not_show_it(tenant: Tenant) -> None:
    row = store(tenant, "sk-live-äöü-canary")
    assert reread(row) == "sk-live-äöü-canary"
    with scope.platform("tests"):
        stored = TenantSecret.objects.get(pk=row.pk).sealed
    for canary in (b"sk-live", base64.b64encode(b"sk-live-")[:8], b"sk-live".hex().encode()):
        assert canary not in stored


def test_contract_by_words(tenant: Tenant) -> None:
    row_id = uuid.uuid4()
    place: dict[str, Any] = {
        "tenant_id": tenant.pk,
        "model": "tenants.ApiKey",
        "row_id": row_id,
        "field": "sealed",
    }
    sealed = services.seal(**place, secret=Secret("value"))
    assert services.unseal(**place, sealed=sealed) == Secret("value")
    # One spelling of a model's name for all.
    assert (
        services.unseal(**{**place, "model": "tenants.apikey"}, sealed=sealed).reveal() == "value"
    )


def test_ciphertexts_moved_anywhere_are_rejected_with_one_text(
    tenant: Tenant, other_tenant: Tenant
) -> None:
    """Bar C1, on rows: every value in every other place, also with the platform's."""
    rows = [
        store(owner, f"secret {n}", n)
        for n, owner in enumerate([tenant, tenant, other_tenant, other_tenant, None])
    ]
    tried, texts = 0, set()
    sealed = [row.sealed for row in rows]
    for (_, value), (target, _) in permutations(zip(rows, sealed, strict=True), 2):
        for field in ("sealed", "other"):
            setattr(target, field, value)
            with pytest.raises(CannotUnseal) as error:
                services.unseal_from(target, field)
            texts.add(str(error.value))
            tried += 1
    with pytest.raises(CannotUnseal):
        services.unseal_from(PlatformSecret(id=rows[4].pk, sealed=sealed[4]), "sealed")
    assert tried == 40
    assert texts == {"This secret cannot be opened."}


@pytest.mark.parametrize("value", [None, b"", b"\x01", b"plain text", b"\x02" + b"\0" * 60])
def test_what_is_no_sealed_value_is_rejected(tenant: Tenant, value: bytes | None) -> None:
    with pytest.raises(CannotUnseal):
        services.unseal_from(TenantSecret(tenant=tenant, sealed=value), "sealed")


def test_a_data_key_moved_to_another_tenant_opens_nothing(
    tenant: Tenant, other_tenant: Tenant
) -> None:
    """Somebody with the database's password gives a row of theirs another's key."""
    row, theirs = store(tenant, "mine"), store(other_tenant, "theirs")
    (key,) = data_keys_of(tenant)
    with scope.platform("tests"):
        DataKey.objects.filter(tenant=other_tenant).update(wrapped=key.wrapped)
    data_keys.open_keys.clear()
    with pytest.raises(KeyRingProblem, match="altered or belongs elsewhere"):
        reread(theirs)
    assert reread(row) == "mine"


def test_the_outside_learns_nothing_from_an_error() -> None:
    for error in (CannotUnseal(), KeyRingProblem("/secrets/vault_keys is missing")):
        fault = error.fault()
        assert fault.kind is FaultKind.INTERNAL
        assert "vault_keys" not in fault.message
        assert "operator" in fault.message


def test_one_current_key_per_tenant_and_one_for_the_platform(
    tenant: Tenant, other_tenant: Tenant
) -> None:
    rows = [store(owner, "x") for owner in (tenant, other_tenant, None) for _ in range(3)]
    assert len({envelope.key_id_of(row.sealed) for row in rows}) == 3
    for owner in (tenant, None):
        (key,) = data_keys_of(owner)
        with (
            scope.platform("tests"),
            pytest.raises(IntegrityError, match=r"data_key_one_current"),
            transaction.atomic(),
        ):
            DataKey(tenant=owner, wrapped=b"x", wrapped_by=key.wrapped_by).save()


def test_opening_asks_the_database_once(tenant: Tenant) -> None:
    rows = [store(tenant, f"secret {n}") for n in range(3)]
    data_keys.open_keys.clear()
    with CaptureQueriesContext(connection) as queries:
        for row in rows:
            services.unseal_from(row, "sealed")
    asked = [query for query in queries if "tenants_datakey" in query["sql"]]
    assert len(asked) == 1


async def test_async_code_opens_without_a_thread_hop_once_the_key_is_known(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    key = data_keys.open_keys.put(
        data_keys.OpenKey(
            uuid.uuid4(), None, envelope.AESGCM(bytes(32)), b"", time.monotonic(), time.monotonic()
        )
    )
    place = envelope.Place(None, "providers.credential", uuid.uuid4(), "sealed")
    sealed = envelope.seal(key.cipher, key.id, place, b"value")
    monkeypatch.setattr(data_keys, "find", None)  # it would query
    words: dict[str, Any] = {"model": place.model, "row_id": place.row_id, "field": place.field}
    assert (await services.aunseal(tenant_id=None, **words, sealed=sealed)).reveal() == "value"
    with pytest.raises(CannotUnseal):
        await services.aunseal(tenant_id=uuid.uuid4(), **words, sealed=sealed)


@pytest.mark.django_db(transaction=True)
async def test_async_code_opens_with_a_key_not_yet_known() -> None:
    from asgiref.sync import sync_to_async

    words: dict[str, Any] = {
        "tenant_id": None,
        "model": "a.b",
        "row_id": uuid.uuid4(),
        "field": "c",
    }
    sealed = await sync_to_async(services.seal)(**words, secret=Secret("value"))
    data_keys.open_keys.clear()
    assert (await services.aunseal(**words, sealed=sealed)).reveal() == "value"
    await sync_to_async(lambda: connection.close())()  # that thread's own


def test_a_tenants_request_opens_what_the_platform_owns_but_no_other_tenants(
    tenant: Tenant, other_tenant: Tenant
) -> None:
    platform, other = store(None, "platform's"), store(other_tenant, "other's")
    with scope.tenant(tenant.pk):
        assert services.unseal_from(platform, "sealed").reveal() == "platform's"
        with pytest.raises(NoScope):
            TenantSecret.objects.create(tenant=other_tenant, sealed=other.sealed)


def test_only_sealed_columns_are_sealed_into(tenant: Tenant) -> None:
    with pytest.raises(TypeError, match="is not a SealedField"):
        services.seal_into(TenantSecret(tenant=tenant), "number", Secret("x"))


# --- shredding and forgetting --------------------------------------------------------------------


def test_shredding_ends_one_tenant_and_no_other(tenant: Tenant, other_tenant: Tenant) -> None:
    row, other = store(tenant, "mine"), store(other_tenant, "theirs")
    assert reread(row) == "mine"
    wrapped = bytes(data_keys_of(tenant)[0].wrapped)
    assert services.shred(tenant_id=tenant.pk) == 1
    (key,) = data_keys_of(tenant)
    assert bytes(key.wrapped) == b""
    assert key.shredded_at is not None
    data_keys.open_keys.clear()  # as in every other process, after CONFIRM_SECONDS
    with pytest.raises(CannotUnseal):
        reread(row)
    assert reread(other) == "theirs"
    with scope.tenant(tenant.pk):
        event = AuditEvent.objects.get(action="vault.shredded")
    assert event.before == {"data_keys": 1}
    # No way back, not even by putting the wrapped bytes back by hand: the mark forbids it.
    with (
        scope.platform("tests"),
        pytest.raises(IntegrityError, match="data_key_shredded_is_empty"),
        transaction.atomic(),
    ):
        DataKey.objects.filter(pk=key.pk).update(wrapped=wrapped)


@pytest.mark.django_db(transaction=True)
def test_this_process_forgets_a_shredded_key_at_once(tenant: Tenant) -> None:
    row = store(tenant, "mine")
    assert reread(row) == "mine"
    services.shred(tenant_id=tenant.pk)
    with pytest.raises(CannotUnseal):
        reread(row)


def test_a_closing_tenant_gets_no_new_key_after_shredding(tenant: Tenant) -> None:
    store(tenant, "old")
    Tenant.objects.filter(pk=tenant.pk).update(status=Tenant.Status.CLOSING)
    store(tenant, "closing takes time")
    services.shred(tenant_id=tenant.pk)
    with pytest.raises(TenantShredded, match="Set the tenant to active"):
        store(tenant, "too late")
    Tenant.objects.filter(pk=tenant.pk).update(status=Tenant.Status.ACTIVE)
    assert reread(store(tenant, "a new beginning")) == "a new beginning"


class FakeTime:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1_000.0
        monkeypatch.setattr(data_keys.time, "monotonic", lambda: self.now)


def test_a_key_shredded_elsewhere_is_forgotten_within_a_minute(
    tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = FakeTime(monkeypatch)
    row = store(tenant, "mine")
    services.unseal_from(row, "sealed")
    with scope.platform("another process"):
        now = "2030-01-01T00:00:00Z"
        DataKey.objects.update(wrapped=b"", shredded_at=now, retired_at=now)
    assert data_keys.CONFIRM_SECONDS <= 60
    clock.now += data_keys.CONFIRM_SECONDS
    with pytest.raises(CannotUnseal):
        services.unseal_from(row, "sealed")
    assert len(data_keys.open_keys) == 0


def test_a_known_key_outlasts_a_short_outage_of_the_database(
    tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = FakeTime(monkeypatch)
    row = store(tenant, "mine")
    services.unseal_from(row, "sealed")

    def away(*args: object, **kwargs: object) -> None:
        raise OperationalError("server closed the connection")

    monkeypatch.setattr(DataKey.objects, "filter", away)
    clock.now += data_keys.OUTAGE_SECONDS - 1
    assert services.unseal_from(row, "sealed").reveal() == "mine"
    clock.now += 1
    with pytest.raises(OperationalError):
        services.unseal_from(row, "sealed")


def test_the_ring_is_asked_again_after_a_while_and_not_at_every_look(
    tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = FakeTime(monkeypatch)
    asked: list[uuid.UUID] = []
    really = data_keys.unwrap

    def unwrap(row: DataKey) -> bytes:
        asked.append(row.pk)
        return really(row)

    monkeypatch.setattr(data_keys, "unwrap", unwrap)
    row = store(tenant, "mine")
    for _ in range(int(data_keys.UNWRAP_AGAIN_SECONDS / data_keys.CONFIRM_SECONDS)):
        services.unseal_from(row, "sealed")
        clock.now += data_keys.CONFIRM_SECONDS
    assert len(asked) == 1
    services.unseal_from(row, "sealed")
    assert len(asked) == 2


def test_open_keys_are_bounded() -> None:
    keys = data_keys.OpenKeys(limit=3)
    ids = [uuid.uuid4() for _ in range(5)]
    for key_id in ids:
        keys.put(data_keys.OpenKey(key_id, None, envelope.AESGCM(bytes(32)), b"", 0, 0))
    assert len(keys) == 3
    assert [keys.get(key_id) is not None for key_id in ids] == [False, False, True, True, True]


# --- how much one key seals ----------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_seals_are_counted_after_the_commit(
    tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = data_keys.current(tenant.pk)
    monkeypatch.setattr(data_keys.os, "urandom", lambda count: b"\0" * count)
    with transaction.atomic():
        data_keys.count_seal(key.id, tenant.pk)
        assert data_keys_of(tenant)[0].seals_estimate == 0
    assert data_keys_of(tenant)[0].seals_estimate == 2**16
    monkeypatch.setattr(data_keys.os, "urandom", lambda count: b"\0\1"[:count])
    data_keys.count_seal(key.id, tenant.pk)
    assert data_keys_of(tenant)[0].seals_estimate == 2**16


def test_a_key_that_sealed_enough_is_followed_by_another(tenant: Tenant) -> None:
    old = store(tenant, "old")
    with scope.platform("tests"):
        DataKey.objects.update(seals_estimate=data_keys.SEALS_PER_KEY)
    new = store(tenant, "new")
    assert envelope.key_id_of(old.sealed) != envelope.key_id_of(new.sealed)
    assert (reread(old), reread(new)) == ("old", "new")
    first, second = data_keys_of(tenant)
    assert first.retired_at is not None
    assert second.retired_at is None


@pytest.mark.django_db(transaction=True)
def test_first_seals_at_once_agree_on_one_key(tenant: Tenant) -> None:
    barrier = threading.Barrier(8)
    used: list[uuid.UUID] = []

    def work() -> None:
        barrier.wait(LONG_SECONDS)
        try:
            sealed = services.seal(
                tenant_id=tenant.pk,
                model="a.b",
                row_id=uuid.uuid4(),
                field="c",
                secret=Secret("x"),
            )
            used.append(envelope.key_id_of(sealed))
        finally:
            connection.close()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LONG_SECONDS)
    assert len(used) == 8
    assert len(set(used)) == 1
    assert len(data_keys_of(tenant)) == 1


def test_deleting_a_tenant_deletes_its_keys(tenant: Tenant) -> None:
    store(tenant, "mine")
    with scope.platform("tests"):
        tenant.delete()
        assert not DataKey.objects.exists()


# --- fingerprints --------------------------------------------------------------------------------


def test_fingerprints_tell_secrets_apart_and_depend_on_our_key(settings: Any) -> None:
    first = services.fingerprint(Secret("one"))
    assert first == services.fingerprint(Secret("one"))
    assert first != services.fingerprint(Secret("two"))
    assert len(first) == 12
    settings.SECRET_KEY = "x" * 50
    assert first != services.fingerprint(Secret("one"))
