"""Accounts: one spelling per address, one-time passwords, a last administrator that stays, and an
audit event for each change."""

from __future__ import annotations

import re

import pytest
from django.core.exceptions import ValidationError

from controlplane.kit.secret import Secret
from tenants import scope
from tenants.audit.actor import acting_as
from tenants.audit.models import AuditEvent
from tenants.errors import StateConflict
from tenants.members import people
from tenants.members.models import User, canonical_email

pytestmark = [pytest.mark.storage, pytest.mark.django_db, pytest.mark.usefixtures("somebody")]


@pytest.fixture
def somebody() -> object:
    with acting_as("command", None, "tests"):
        yield


def recorded() -> list[tuple[str, str]]:
    with scope.platform("test"):
        events = AuditEvent.objects.order_by("sequence")
        return [(event.action, event.target_label) for event in events]


@pytest.mark.parametrize(
    "text", ["Ann@A.Test", " ann@a.test ", "\uff21nn@a.test", "ANN@A.TEST", "ann@a.test\n"]
)
def test_spellings_of_one_address_are_one_account(text: str) -> None:
    assert canonical_email(text) == "ann@a.test"
    people.add_person(email="ann@a.test")
    with pytest.raises(ValidationError, match="account with this address"):
        people.add_person(email=text)
    assert User.objects.get_by_natural_key(text).email == "ann@a.test"


@pytest.mark.parametrize("text", ["", "ann", "ann@", "a@b\x00.test", "x" * 300 + "@a.test"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValidationError):
        people.add_person(email=text)
    assert not User.objects.exists()
    assert recorded() == []


def test_a_new_person_starts_with_a_password_that_must_be_replaced() -> None:
    user, password = people.add_person(email="ann@a.test", name=" Ann ")
    assert isinstance(password, Secret)
    assert re.fullmatch(r"([2-9a-z]{5}-){3}[2-9a-z]{5}", password.reveal())
    user.refresh_from_db()
    assert user.check_password(password.reveal())
    assert (user.name, user.must_change_password, user.is_staff) == ("Ann", True, False)
    assert recorded() == [("user.added", "ann@a.test")]
    with scope.platform("test"):
        event = AuditEvent.objects.get()
    assert password.reveal() not in event.after_json
    assert user.password not in event.after_json


def test_one_time_passwords_are_not_repeated() -> None:
    made = {people.one_time_password().reveal() for _ in range(1000)}
    assert len(made) == 1000


def test_a_new_one_time_password_replaces_the_old_password() -> None:
    user = User.objects.create_user("ann@a.test", "correct horse battery")
    password = people.give_one_time_password(user=user)
    user.refresh_from_db()
    assert user.check_password(password.reveal())
    assert not user.check_password("correct horse battery")
    assert user.must_change_password
    assert recorded() == [("user.password_given", "ann@a.test")]


def test_closing_and_opening_an_account_is_recorded_once() -> None:
    user = User.objects.create_user("ann@a.test", "correct horse battery")
    assert people.deactivate(user=user)
    assert not people.deactivate(user=user)
    assert people.reactivate(user=user)
    assert not people.reactivate(user=user)
    assert [action for action, _ in recorded()] == ["user.deactivated", "user.reactivated"]


def test_the_last_administrator_stays() -> None:
    first = User.objects.create_superuser("first@a.test", "correct horse battery")
    with pytest.raises(StateConflict, match="last administrator"):
        people.deactivate(user=first)
    with pytest.raises(StateConflict, match="last administrator"):
        people.change_person(user=first, name="", is_staff=False)
    assert recorded() == []
    User.objects.create_superuser("second@a.test", "correct horse battery")
    assert people.deactivate(user=first)


def test_a_change_is_recorded_with_before_and_after() -> None:
    user = User.objects.create_user("ann@a.test", "correct horse battery")
    people.change_person(user=user, name="Ann", is_staff=True)
    people.change_person(user=user, name="Ann", is_staff=True)
    with scope.platform("test"):
        event = AuditEvent.objects.get()
    assert [(change.name, change.before, change.after) for change in event.changes] == [
        ("is_staff", False, True),
        ("name", "", "Ann"),
    ]
