"""Making, changing, replacing, ending keys; bar K1's storage and A2's audit rows."""

from __future__ import annotations

import contextlib
import contextvars
import hashlib
import hmac
import threading
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured, ValidationError
from django.db import connection, transaction

from controlplane.kit import clock
from controlplane.kit.secret import Secret
from tenants import scope as scopes
from tenants.audit.actor import NoActor, acting_as
from tenants.audit.models import AuditEvent
from tenants.errors import NoScope, StaleVersion, StateConflict
from tenants.keys import peppers
from tenants.keys.lookup import digest, parse
from tenants.keys.models import ApiKey
from tenants.keys.services import create_key, revoke_key, rotate_key, update_key
from tenants.members.models import Membership, Tenant, User
from tenants.revisions.services import current
from tests.patience import LONG_SECONDS

pytestmark = [pytest.mark.storage, pytest.mark.django_db]

NOW = clock.now()
HOUR = timedelta(hours=1)


@pytest.fixture(autouse=True)
def _inside(tenant: Tenant) -> Iterator[None]:
    with scopes.tenant(tenant.id), acting_as("command", None, "tests"):
        yield


@pytest.fixture
def made(tenant: Tenant) -> tuple[ApiKey, Secret]:
    return create_key(tenant=tenant, label="laptop", allowed_models=["gpt-*"])


def actions() -> list[str]:
    return list(AuditEvent.objects.order_by("sequence").values_list("action", flat=True))


# --- Create --------------------------------------------------------------------------------------


def test_the_token_is_shown_once_and_not_stored(made: tuple[ApiKey, Secret], settings: Any) -> None:
    key, secret = made
    token = secret.reveal()
    parsed = parse(token)
    assert parsed is not None
    assert parsed.public_id == key.public_id
    stored = ApiKey.objects.get(pk=key.pk)
    pepper = settings.KEY_PEPPERS[0].encode()
    assert bytes(stored.digest) == hmac.new(pepper, token.encode(), hashlib.sha256).digest()
    hidden = token.rpartition("_")[2]
    with connection.cursor() as cursor:
        for table in connection.introspection.table_names(cursor):
            cursor.execute(f"SELECT * FROM {connection.ops.quote_name(table)}")
            assert hidden[:12] not in repr(cursor.fetchall())
    assert hidden not in repr(key) + str(key) + repr(secret) + key.display


def test_two_keys_share_nothing(tenant: Tenant) -> None:
    tokens = [create_key(tenant=tenant, label="same")[1].reveal() for _ in range(20)]
    assert len({token.rpartition("_")[2][:43] for token in tokens}) == 20
    assert len(set(ApiKey.objects.values_list("public_id", flat=True))) == 20


def test_creating_is_audited_and_announced(tenant: Tenant) -> None:
    before = current()["keys"]
    key, secret = create_key(tenant=tenant, label="ci", scopes=["read", "proxy", "read"])
    assert key.scopes == ["proxy", "read"]
    event = AuditEvent.objects.get()
    assert (event.action, event.target_id) == ("key.created", str(key.pk))
    assert event.after is not None
    assert event.after["label"] == "ci"
    assert secret.reveal().rpartition("_")[2] not in event.after_json
    assert current()["keys"] == before + 1


@pytest.mark.parametrize(
    ("fields", "field", "says"),
    [
        ({"label": "  "}, "label", "blank"),
        ({"label": "x" * 121}, "label", "120"),
        ({"scopes": []}, "scopes", "choose at least one"),
        ({"scopes": ["root"]}, "scopes", "no scope root; choose from proxy"),
        ({"allowed_models": [""]}, "allowed_models", "no model name"),
        ({"allowed_models": ["a\nb"]}, "allowed_models", "no model name"),
        ({"allowed_models": [7]}, "allowed_models", "list of texts"),
        ({"allowed_models": ["m"] * 101}, "allowed_models", "At most 100"),
        ({"allowed_networks": ["10.0.0.1/8"]}, "allowed_networks", "host bits"),
        ({"allowed_networks": ["localhost"]}, "allowed_networks", "203.0.113.0/24"),
        ({"expires_at": NOW - HOUR}, "expires_at", "still to come"),
    ],
)
def test_bad_limits_say_what_to_do(
    tenant: Tenant, fields: dict[str, Any], field: str, says: str
) -> None:
    with pytest.raises(ValidationError) as refused:
        create_key(tenant=tenant, now=NOW, **{"label": "x", **fields})
    assert says in str(refused.value.message_dict[field])
    assert not ApiKey.objects.exists()
    assert actions() == []


def test_a_key_is_made_in_its_own_tenants_scope_by_somebody(
    tenant: Tenant, other_tenant: Tenant
) -> None:
    with pytest.raises(NoScope), transaction.atomic():
        create_key(tenant=other_tenant, label="x")
    with scopes.platform("test"):
        user = User.objects.create_user("x@globex.test")
        member = Membership.objects.create(tenant=other_tenant, user=user)
        with pytest.raises(ValidationError):
            create_key(tenant=tenant, label="x", member=member)
    failed: list[Exception] = []

    def nobody() -> None:
        try:
            with scopes.tenant(tenant.id):
                create_key(tenant=tenant, label="x")
        except Exception as error:  # noqa: BLE001  (asserted below)
            failed.append(error)

    contextvars.Context().run(nobody)
    assert isinstance(failed[0], NoActor)
    assert not ApiKey.objects.exists()


# --- Peppers -------------------------------------------------------------------------------------


def test_the_first_pepper_signs(tenant: Tenant, settings: Any) -> None:
    old, new = "o" * 40, "n" * 40
    settings.KEY_PEPPERS = [old]
    first, _ = create_key(tenant=tenant, label="old")
    settings.KEY_PEPPERS = [new, old]
    second, secret = create_key(tenant=tenant, label="new")
    assert bytes(second.digest) == digest(secret.reveal(), new.encode())
    assert first.pepper_name == peppers.name(old.encode()) != second.pepper_name
    assert old[:12] not in first.pepper_name


@pytest.mark.parametrize("ring", [[], [""], ["short"], ["a" * 40, "short"], ["a" * 40, "a" * 40]])
def test_a_bad_ring_says_what_to_set(ring: list[str], settings: Any) -> None:
    settings.KEY_PEPPERS = ring
    with pytest.raises(ImproperlyConfigured, match="KEY_PEPPERS"):
        peppers.ring()


# --- Change --------------------------------------------------------------------------------------


def test_a_change_names_the_version_it_saw(made: tuple[ApiKey, Secret]) -> None:
    key = made[0]
    changed = update_key(key=key, version=1, label="desktop", allowed_networks=["10.0.0.0/8"])
    assert (changed.label, changed.version) == ("desktop", 2)
    with pytest.raises(StaleVersion):
        update_key(key=key, version=1, label="lost update")
    assert ApiKey.objects.get(pk=key.pk).label == "desktop"
    event = AuditEvent.objects.get(action="key.changed")
    assert [(c.name, c.before, c.after) for c in event.changes] == [
        ("allowed_networks", [], ["10.0.0.0/8"]),
        ("label", "laptop", "desktop"),
    ]


def test_only_limits_can_be_changed(made: tuple[ApiKey, Secret]) -> None:
    with pytest.raises(TypeError, match="digest"):
        update_key(key=made[0], version=1, digest=b"x")
    with pytest.raises(ValidationError):
        update_key(key=made[0], version=1, scopes=["root"])
    revoke_key(key=made[0])
    with pytest.raises(StateConflict, match="revoked"):
        update_key(key=made[0], version=2, label="x")


# --- Rotate --------------------------------------------------------------------------------------


def test_rotation_overlaps(made: tuple[ApiKey, Secret]) -> None:
    old, old_secret = made
    new, new_secret = rotate_key(key=old, overlap_until=NOW + HOUR, now=NOW)
    assert new_secret != old_secret
    old.refresh_from_db()
    assert (old.expires_at, old.revoked_at, old.rotated_at) == (NOW + HOUR, None, NOW)
    assert (new.expires_at, new.rotated_from) == (None, old)
    assert (new.label, new.allowed_models, new.scopes) == ("laptop", ["gpt-*"], ["proxy"])
    usable = ApiKey.objects.usable
    assert set(usable(now=NOW)) == {old, new}
    assert set(usable(now=NOW + HOUR)) == {new}
    assert old.state(now=NOW) == ApiKey.State.ROTATED
    assert old.state(now=NOW + HOUR) == ApiKey.State.EXPIRED
    assert new.state(now=NOW) == ApiKey.State.ACTIVE
    assert actions() == ["key.created", "key.rotated", "key.created"]


def test_rotation_extends_nothing(tenant: Tenant) -> None:
    end = NOW + HOUR
    key, _ = create_key(tenant=tenant, label="x", expires_at=end, now=NOW)
    new, _ = rotate_key(key=key, overlap_until=NOW + 10 * HOUR, now=NOW)
    key.refresh_from_db()
    assert (key.expires_at, new.expires_at) == (end, end)


def test_rotation_without_overlap_ends_the_old_key(made: tuple[ApiKey, Secret]) -> None:
    rotate_key(key=made[0], overlap_until=NOW, now=NOW)
    made[0].refresh_from_db()
    assert made[0].state(now=NOW) == ApiKey.State.REVOKED


def test_a_key_is_replaced_once(made: tuple[ApiKey, Secret]) -> None:
    key = made[0]
    rotate_key(key=key, overlap_until=NOW + HOUR, now=NOW)
    with pytest.raises(StateConflict):
        rotate_key(key=key, overlap_until=NOW + HOUR, now=NOW)
    with pytest.raises(StateConflict, match="rotation"):
        update_key(key=key, version=2, expires_at=None)
    assert ApiKey.objects.count() == 2
    with pytest.raises(ValidationError):
        rotate_key(key=key, overlap_until=NOW + timedelta(days=91), now=NOW)


def test_a_key_that_no_longer_works_is_not_replaced(tenant: Tenant) -> None:
    expired, _ = create_key(tenant=tenant, label="x", expires_at=NOW, now=NOW - HOUR)
    revoked, _ = create_key(tenant=tenant, label="y")
    revoke_key(key=revoked)
    for key in (expired, revoked):
        with pytest.raises(StateConflict):
            rotate_key(key=key, overlap_until=NOW + HOUR, now=NOW)


@pytest.mark.django_db(transaction=True)
def test_of_two_rotations_at_once_one_wins(tenant: Tenant) -> None:
    key, _ = create_key(tenant=tenant, label="contested")
    start = threading.Barrier(4, timeout=20)
    won: list[Any] = []
    lost: list[Exception] = []

    def rotate() -> None:
        try:
            with scopes.tenant(tenant.id), acting_as("command", None, "tests"):
                start.wait()
                won.append(rotate_key(key=key, overlap_until=clock.now() + HOUR))
        except StateConflict as error:
            lost.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=rotate) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LONG_SECONDS)
    assert (len(won), len(lost)) == (1, 3)
    assert ApiKey.objects.count() == 2


# --- Revoke --------------------------------------------------------------------------------------


def test_revoking_happens_once(made: tuple[ApiKey, Secret]) -> None:
    before = current()["keys"]
    assert revoke_key(key=made[0]) is True
    assert made[0].revoked_at is not None
    assert revoke_key(key=made[0]) is False
    assert actions() == ["key.created", "key.revoked"]
    assert current()["keys"] == before + 1


def test_a_change_that_fails_leaves_no_audit_row(made: tuple[ApiKey, Secret]) -> None:
    with contextlib.suppress(ZeroDivisionError), transaction.atomic():
        assert revoke_key(key=made[0])
        _ = 1 / 0
    assert actions() == ["key.created"]
    assert ApiKey.objects.get(pk=made[0].pk).revoked_at is None
