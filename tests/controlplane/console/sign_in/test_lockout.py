"""Bar K4: 5 failures per account and 20 per address in any 5 minutes, shared by all processes."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection
from django.test import Client
from django.urls import reverse

from controlplane.console.sign_in import lockout
from controlplane.console.sign_in.models import SignInSlot
from tenants.members.models import User
from tests.patience import LONG_SECONDS

pytestmark = pytest.mark.storage

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
PASSWORD = "correct horse battery"


def fail(account: str = "a", address: str = "192.0.2.1", now: datetime = NOW) -> None:
    with lockout.attempt(account=account, address=address, now=now):
        pass


@pytest.mark.django_db
def test_the_sixth_failure_of_an_account_is_refused_until_the_first_is_five_minutes_old() -> None:
    for second in range(5):
        fail(address=f"192.0.2.{second}", now=NOW + timedelta(seconds=second))
    with pytest.raises(lockout.LockedOut) as refused:
        fail(address="192.0.2.99", now=NOW + timedelta(seconds=60))
    assert refused.value.until == NOW + lockout.WINDOW
    fail(address="192.0.2.99", now=NOW + lockout.WINDOW)
    # The window slides: only one slot has come free.
    with pytest.raises(lockout.LockedOut):
        fail(address="192.0.2.99", now=NOW + lockout.WINDOW)


@pytest.mark.django_db
def test_the_twenty_first_failure_of_an_address_is_refused_whatever_the_account() -> None:
    for number in range(20):
        fail(account=f"account-{number}")
    with pytest.raises(lockout.LockedOut):
        fail(account="another")
    fail(account="another", address="192.0.2.2")


@pytest.mark.django_db
def test_an_address_that_is_locked_out_costs_the_account_nothing() -> None:
    for number in range(20):
        fail(account=f"account-{number}")
    for _ in range(9):
        with pytest.raises(lockout.LockedOut):
            fail(account="victim")
    for number in range(5):
        fail(account="victim", address=f"198.51.100.{number}")


@pytest.mark.django_db
def test_success_gives_its_slots_back_and_no_others() -> None:
    for _ in range(4):
        fail()
    for _ in range(10):
        with lockout.attempt(account="a", address="192.0.2.1", now=NOW) as current:
            current.forgive()
    fail()
    with pytest.raises(lockout.LockedOut):
        fail()


@pytest.mark.django_db
def test_old_slots_are_swept_away() -> None:
    fail()
    fail(account="b", address="192.0.2.2", now=NOW + timedelta(days=2))
    assert SignInSlot.objects.count() == 2


@pytest.mark.django_db(transaction=True)
def test_sixteen_at_once_get_exactly_five_tries() -> None:
    barrier = threading.Barrier(16)
    admitted: list[int] = []
    refused: list[int] = []
    broken: list[BaseException] = []

    def guess(number: int) -> None:
        try:
            barrier.wait(timeout=LONG_SECONDS)
            fail(account="target", address=f"192.0.2.{number}")
            admitted.append(number)
        except lockout.LockedOut:
            refused.append(number)
        except BaseException as error:  # noqa: BLE001  # shown by the assertion below
            broken.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=guess, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert not broken
    assert (len(admitted), len(refused)) == (5, 11)


def post(client: Client, name: str, password: str, address: str = "192.0.2.7") -> str:
    answer = client.post(
        reverse("account_login"), {"login": name, "password": password}, REMOTE_ADDR=address
    )
    return "in" if answer.status_code == 302 else answer.content.decode()


# One address in ten spellings: case, width, composition, a dotless i that upper-cases to I.
SPELLINGS = [
    "admin@platform.test",
    "ADMIN@PLATFORM.TEST",
    "Admin@platform.test",
    " admin@platform.test ",
    "\uff41dmin@platform.test",
    "a\u0064min@platform.test",
    "admin@PLATFORM.test",
    "AdMiN@platform.TEST",
    "admin@platform.test\t",
    "\uff21\uff24\uff2d\uff29\uff2e@platform.test",
]


@pytest.mark.django_db
def test_spellings_of_one_name_count_as_one(client: Client) -> None:
    User.objects.create_superuser("admin@platform.test", PASSWORD)
    answers = [
        post(client, name, "wrong", f"192.0.2.{number}") for number, name in enumerate(SPELLINGS)
    ]
    looked_at = [text for text in answers if "are not correct" in text]
    assert len(looked_at) <= 5
    # The right password, spelt as stored, from an address of its own: locked out.
    assert "Too many failed sign-ins" in post(client, SPELLINGS[0], PASSWORD, "192.0.2.200")


@pytest.mark.django_db
def test_a_name_that_only_a_database_would_take_for_another_opens_nothing(client: Client) -> None:
    User.objects.create_superuser("admin@platform.test", PASSWORD)
    # UPPER() of both is the same in PostgreSQL; the accounts are not.
    assert "are not correct" in post(client, "adm\u0131n@platform.test", PASSWORD)
    assert post(client, "ADMIN@platform.test", PASSWORD) == "in"


@pytest.mark.django_db
def test_unknown_names_are_counted_and_answered_alike(client: Client) -> None:
    User.objects.create_superuser("admin@platform.test", PASSWORD)
    known = [post(client, "admin@platform.test", "wrong", f"192.0.2.{n}") for n in range(6)]
    unknown = [post(client, "nobody@platform.test", "wrong", f"192.0.3.{n}") for n in range(6)]

    def told(page: str) -> str:
        return page.split('role="alert">')[1].split("<")[0]

    assert [told(page) for page in known] == [told(page) for page in unknown]
    assert told(known[5]) == "Too many failed sign-ins. Try again in 5 minutes."


@pytest.mark.django_db
def test_forwarding_headers_do_not_make_new_addresses(client: Client) -> None:
    for number in range(20):
        client.post(
            reverse("account_login"),
            {"login": f"user-{number}@a.test", "password": "wrong"},
            headers={"X-Forwarded-For": f"203.0.113.{number}"},
        )
    answer = client.post(
        reverse("account_login"),
        {"login": "last@a.test", "password": "wrong"},
        headers={"X-Forwarded-For": "203.0.113.99"},
    )
    assert "Too many failed sign-ins" in answer.content.decode()


@pytest.mark.django_db
def test_confirming_and_changing_the_password_count_too(client: Client) -> None:
    admin = User.objects.create_superuser("admin@platform.test", PASSWORD)
    client.force_login(admin)
    for _ in range(3):
        client.post(reverse("account_reauthenticate"), {"password": "wrong"})
    change = {"oldpassword": "wrong", "password1": "x" * 20, "password2": "x" * 20}
    for _ in range(2):
        client.post(reverse("account_change_password"), change)
    refused = client.post(reverse("account_change_password"), {**change, "oldpassword": PASSWORD})
    assert "Too many failed sign-ins" in refused.content.decode()
    assert "Too many" in post(Client(), admin.email, PASSWORD)
