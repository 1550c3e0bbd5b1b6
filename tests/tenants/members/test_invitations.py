"""An invitation works once, in time, for the one it names."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import timedelta

import pytest
from django.core.exceptions import ValidationError
from django.db import connection

from controlplane.kit import clock
from tenants import scope as scopes
from tenants.audit.actor import acting_as
from tenants.audit.models import AuditEvent
from tenants.errors import NotFound, StateConflict
from tenants.keys.lookup import SECRET_BYTES, TokenKind, render
from tenants.members.invitations import VALID_FOR, accept, invite, withdraw
from tenants.members.models import Invitation, Membership, Tenant, User
from tests.patience import LONG_SECONDS

pytestmark = [pytest.mark.storage, pytest.mark.django_db]
Role = Membership.Role
NOW = clock.now()


@pytest.fixture(autouse=True)
def _acting() -> Iterator[None]:
    with acting_as("command", None, "tests"):
        yield


@pytest.fixture
def ada(db: None) -> User:
    return User.objects.create_user("ada@acme.test")


def send(tenant: Tenant, email: str = "Ada@Acme.test ", role: str = Role.ADMIN) -> str:
    with scopes.tenant(tenant.id):
        return invite(tenant=tenant, email=email, role=role, now=NOW)[1].reveal()


def members(tenant: Tenant) -> list[tuple[str, str]]:
    with scopes.tenant(tenant.id):
        return list(Membership.objects.values_list("user__email", "role"))


def test_who_is_invited_joins_once(tenant: Tenant, ada: User) -> None:
    token = send(tenant)
    assert scopes.current() is None
    membership = accept(token=token, user=ada, now=NOW)
    assert (membership.role, membership.tenant) == ("admin", tenant)
    assert members(tenant) == [("ada@acme.test", "admin")]
    with pytest.raises(NotFound):
        accept(token=token, user=ada, now=NOW)
    with scopes.tenant(tenant.id):
        assert token not in "".join(AuditEvent.objects.values_list("after_json", flat=True))


def test_what_is_wrong_is_always_the_same_answer(
    tenant: Tenant, ada: User, other_tenant: Tenant
) -> None:
    token = send(tenant)
    bob = User.objects.create_user("bob@acme.test")
    gone = User.objects.create_user("gone@acme.test", is_active=False)
    said = set()
    for text, user, now in (
        (token, bob, NOW),
        (token, gone, NOW),
        (token, ada, NOW + VALID_FOR),
        (token[:-1], ada, NOW),
        ("", ada, NOW),
        (render(TokenKind.INVITE, "0" * 12, b"\x01" * SECRET_BYTES), ada, NOW),
        (token.replace("invite", "live"), ada, NOW),
    ):
        with pytest.raises(NotFound) as refused:
            accept(token=text, user=user, now=now)
        said.add(str(refused.value))
    assert len(said) == 1
    assert members(tenant) == []
    assert accept(token=token, user=ada, now=NOW + VALID_FOR - timedelta(seconds=1))


def test_a_newer_invitation_replaces_the_older(tenant: Tenant, ada: User) -> None:
    old = send(tenant)
    new = send(tenant, email="ada@acme.test", role=Role.VIEWER)
    with pytest.raises(NotFound):
        accept(token=old, user=ada, now=NOW)
    assert accept(token=new, user=ada, now=NOW).role == Role.VIEWER
    with pytest.raises(StateConflict, match="member already"):
        send(tenant)


def test_a_withdrawn_invitation_is_over(tenant: Tenant, ada: User) -> None:
    token = send(tenant)
    with scopes.tenant(tenant.id):
        invitation = Invitation.objects.open(now=NOW).get()
        withdraw(invitation=invitation)
        with pytest.raises(StateConflict):
            withdraw(invitation=invitation)
    with pytest.raises(NotFound):
        accept(token=token, user=ada, now=NOW)


@pytest.mark.parametrize(("email", "role"), [("nobody", "admin"), ("", "admin"), ("a@b.test", "x")])
def test_a_bad_invitation_is_refused(tenant: Tenant, email: str, role: str) -> None:
    with pytest.raises(ValidationError):
        send(tenant, email=email, role=role)


@pytest.mark.django_db(transaction=True)
def test_an_invitation_accepted_at_once_by_two_windows_joins_once(
    tenant: Tenant, ada: User
) -> None:
    token = send(tenant)
    start = threading.Barrier(3, timeout=20)
    results: list[str] = []

    def join() -> None:
        try:
            with acting_as("user", ada.pk, ada.email):
                start.wait()
                accept(token=token, user=ada)
            results.append("joined")
        except NotFound:
            results.append("refused")
        finally:
            connection.close()

    threads = [threading.Thread(target=join) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LONG_SECONDS)
    assert sorted(results) == ["joined", "refused", "refused"]
