"""Bar K4: one-time codes work once, in whatever spelling, in however many processes."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

import pytest
from allauth.mfa.models import Authenticator
from allauth.mfa.recovery_codes.internal.auth import RecoveryCodes
from allauth.mfa.totp.internal import auth as totp
from django.db import connection
from django.test import Client
from django.urls import reverse

from controlplane.console.sign_in import codes, factors
from controlplane.console.sign_in.models import SealedFactor, SpentCode
from tenants import scope
from tenants.audit.actor import acting_as
from tenants.audit.models import AuditEvent
from tenants.members.models import User
from tests.patience import LONG_SECONDS

pytestmark = pytest.mark.storage

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
PASSWORD = "correct horse battery"
SECRET = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"


@pytest.mark.django_db
def test_a_code_is_spent_once_per_authenticator() -> None:
    assert codes.spend(authenticator_id=1, code="123456", now=NOW)
    assert not codes.spend(authenticator_id=1, code="123456", now=NOW)
    assert not codes.spend(authenticator_id=1, code=" 123 456", now=NOW + timedelta(minutes=2))
    assert codes.spend(authenticator_id=2, code="123456", now=NOW)
    assert codes.spend(authenticator_id=1, code="654321", now=NOW)
    # Long after it could be accepted, the same six digits may come up by chance.
    assert codes.spend(authenticator_id=1, code="123456", now=NOW + timedelta(minutes=11))


@pytest.mark.django_db
def test_no_code_is_kept() -> None:
    codes.spend(authenticator_id=1, code="123456", now=NOW)
    assert "123456" not in SpentCode.objects.get().digest


@pytest.mark.django_db(transaction=True)
def test_sixteen_with_one_code_at_once_get_in_once() -> None:
    barrier = threading.Barrier(16)
    results: list[bool] = []

    def spend() -> None:
        try:
            barrier.wait(timeout=LONG_SECONDS)
            results.append(codes.spend(authenticator_id=7, code="246810", now=NOW))
        finally:
            connection.close()

    threads = [threading.Thread(target=spend) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert sorted(results) == [False] * 15 + [True]


@pytest.fixture
def protected(db: None) -> User:
    """An administrator with an authenticator app and recovery codes."""
    admin = User.objects.create_superuser("admin@platform.test", PASSWORD)
    with acting_as("command", None, "tests"):
        for kind, name, text in (
            (Authenticator.Type.TOTP, "secret", SECRET),
            (Authenticator.Type.RECOVERY_CODES, "seed", "5eed" * 20),
        ):
            reference = factors.seal_factor(user=admin, text=text)
            Authenticator.objects.create(
                user=admin, type=kind, data={name: str(reference), "used_mask": 0}
            )
    return admin


def first_step(user: User) -> Client:
    client = Client()
    answer = client.post(reverse("account_login"), {"login": user.email, "password": PASSWORD})
    assert answer["Location"] == reverse("mfa_authenticate")
    return client


def second_step(client: Client, code: str) -> bool:
    answer = client.post(reverse("mfa_authenticate"), {"code": code})
    return answer.status_code == 302


def code_now() -> str:
    counter = list(totp.yield_hotp_counters_from_time())[1]
    return totp.format_hotp_value(totp.hotp_value(SECRET, counter))


def test_the_password_alone_opens_nothing(protected: User) -> None:
    client = first_step(protected)
    assert client.get("/admin/").status_code == 302
    assert second_step(client, code_now())
    assert client.get("/admin/").status_code == 200


def test_the_same_code_opens_no_second_session(protected: User) -> None:
    code = code_now()
    assert second_step(first_step(protected), code)
    assert not second_step(first_step(protected), code)


def test_a_recovery_code_opens_once(protected: User) -> None:
    kept = Authenticator.objects.get(type=Authenticator.Type.RECOVERY_CODES)
    code = RecoveryCodes(kept).generate_codes()[0]
    assert second_step(first_step(protected), code)
    assert not second_step(first_step(protected), code)


def test_guessing_codes_locks_the_account(protected: User) -> None:
    client = first_step(protected)
    for number in range(5):
        assert not second_step(client, f"00000{number}")
    assert not second_step(client, code_now())


def test_secrets_of_factors_are_sealed(protected: User) -> None:
    stored = repr(list(Authenticator.objects.values())) + repr(list(SealedFactor.objects.values()))
    assert SECRET not in stored
    assert "5eed5eed" not in stored


def test_a_secret_that_was_not_confirmed_yet_is_sealed_too(db: None) -> None:
    admin = User.objects.create_superuser("admin@platform.test", PASSWORD)
    client = Client()
    client.force_login(admin)
    client.post(reverse("account_reauthenticate"), {"password": PASSWORD})
    page = client.get(reverse("mfa_activate_totp"))
    secret = page.context["form"].secret
    assert secret.encode() in page.content
    assert secret not in repr(dict(client.session))
    # A wrong code keeps the secret that was scanned.
    again = client.post(reverse("mfa_activate_totp"), {"code": "000000"})
    assert again.context["form"].secret == secret


def test_a_factor_leaves_with_its_secret_and_both_are_on_record(protected: User) -> None:
    client = first_step(protected)
    assert second_step(client, code_now())
    client.post(reverse("account_reauthenticate"), {"password": PASSWORD})
    assert client.post(reverse("mfa_deactivate_totp")).status_code == 302
    assert not Authenticator.objects.exists()
    assert not SealedFactor.objects.exists()
    with scope.platform("test"):
        removed = AuditEvent.objects.filter(action="user.factor_removed", actor_kind="user")
        assert removed.count() == 2
        assert {event.actor_label for event in removed} == {protected.email}
