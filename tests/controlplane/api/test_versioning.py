"""Two admins who edit the same thing: the second is told, nothing is overwritten unseen."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from django.db import connections

from tenants import scope as scopes
from tenants.audit.models import AuditEvent
from tenants.keys.models import ApiKey
from tenants.keys.services import update_key
from tenants.members.models import Membership, Tenant
from tests.controlplane.api.conftest import V1, Api, Home, error_of, furnish, signed_in

pytestmark = pytest.mark.django_db

# What is edited, and two edits of it.
EDITS: dict[str, tuple[Callable[[Home], str], dict[str, Any], dict[str, Any]]] = {
    "tenant": (lambda home: "", {"name": "One"}, {"name": "Two"}),
    "key": (lambda home: f"/keys/{home.key.id}", {"label": "One"}, {"label": "Two"}),
    "member": (
        lambda home: f"/members/{home.members['viewer'].id}",
        {"role": "member"},
        {"role": "admin"},
    ),
}


@pytest.mark.storage
@pytest.mark.parametrize("what", EDITS)
def test_the_second_of_two_who_saw_the_same_is_told(home: Home, owner: Api, what: str) -> None:
    where, one, two = EDITS[what]
    path = f"{V1}/tenants/{home.tenant.id}{where(home)}"
    seen = owner("get", path)["ETag"]
    first = owner("patch", path, one, if_match=seen)
    assert first.status_code == 200
    assert first["ETag"] != seen
    assert first["ETag"] == f'"{first.json()["version"]}"'
    second = owner("patch", path, two, if_match=seen)
    assert second.status_code == 412
    assert error_of(second)["code"] == "stale_version"
    assert error_of(second)["param"] == "If-Match"
    now = owner("get", path)
    assert one.items() <= now.json().items()
    assert now["ETag"] == first["ETag"]
    assert owner("patch", path, two, if_match=now["ETag"]).status_code == 200


@pytest.mark.parametrize("what", EDITS)
@pytest.mark.parametrize(
    ("if_match", "status"),
    [
        (None, 428),
        ("", 428),
        ("*", 428),
        ('"2"', 412),
        ('"abc"', 412),
        ("1", 412),
        ('"01"', 412),
        ('"' + "9" * 400 + '"', 412),
        ('"1"', 200),
        ('W/"1"', 200),
        ('"7", "1"', 200),
    ],
)
def test_what_if_match_may_say(
    home: Home, owner: Api, what: str, if_match: str | None, status: int
) -> None:
    where, one, _ = EDITS[what]
    path = f"{V1}/tenants/{home.tenant.id}{where(home)}"
    headers = {} if if_match is None else {"if_match": if_match}
    answer = owner("patch", path, one, **headers)
    assert answer.status_code == status
    if status == 428:
        assert error_of(answer)["code"] == "precondition_required"


@pytest.mark.storage
def test_removing_somebody_needs_to_have_seen_them(home: Home, owner: Api) -> None:
    member = home.members["viewer"]
    path = f"{V1}/tenants/{home.tenant.id}/members/{member.id}"
    assert owner("delete", path).status_code == 428
    assert owner("patch", path, {"role": "member"}, if_match='"1"').status_code == 200
    assert owner("delete", path, if_match='"1"').status_code == 412
    assert owner("delete", path, if_match='"2"').status_code == 204
    assert owner("delete", path, if_match='"2"').status_code == 404


@pytest.mark.storage
def test_changing_nothing_moves_nothing(
    home: Home, owner: Api, everything: Callable[[], Any]
) -> None:
    before = everything()
    for what, (where, _, _) in EDITS.items():
        path = f"{V1}/tenants/{home.tenant.id}{where(home)}"
        answer = owner("patch", path, {}, if_match='"1"')
        assert (answer.status_code, answer["ETag"]) == (200, '"1"'), what
    assert everything() == before


@pytest.mark.storage
def test_a_change_between_the_check_and_the_update_is_noticed(
    home: Home, admin: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The check reads a moment earlier than the conditional UPDATE decides."""
    path = f"{V1}/tenants/{home.tenant.id}/keys/{home.key.id}"

    def overtaken(*, key: ApiKey, version: int, **changes: Any) -> ApiKey:
        ApiKey.objects.filter(pk=key.pk).update(label="theirs", version=2)
        return update_key(key=key, version=version, **changes)

    monkeypatch.setattr("controlplane.api.keys.update_key", overtaken)
    answer = admin("patch", path, {"label": "mine"}, if_match='"1"')
    assert answer.status_code == 412
    assert admin("get", path).json()["label"] == "theirs"


@pytest.mark.storage
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("what", EDITS)
def test_of_many_at_once_one_wins(tenant: Tenant, what: str) -> None:
    home = furnish(tenant)
    where, one, two = EDITS[what]
    path = f"{V1}/tenants/{tenant.id}{where(home)}"
    user = home.members["owner"].user
    count = 8
    apis = [signed_in(user) for _ in range(count)]
    start = threading.Barrier(count, timeout=30)
    answers: list[Any] = []

    def run(number: int, api: Api) -> None:
        try:
            start.wait()
            answers.append(api("patch", path, (one, two)[number % 2], if_match='"1"'))
        finally:
            connections.close_all()

    threads = [threading.Thread(target=run, args=entry) for entry in enumerate(apis)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert Counter(answer.status_code for answer in answers) == {200: 1, 412: count - 1}
    (won,) = [answer for answer in answers if answer.status_code == 200]
    with scopes.tenant(tenant.id):
        row: Any = {
            "tenant": Tenant.objects.get(pk=tenant.pk),
            "key": ApiKey.objects.get(pk=home.key.pk),
            "member": Membership.objects.get(pk=home.members["viewer"].pk),
        }[what]
        changed = AuditEvent.objects.filter(
            action__in=["tenant.changed", "key.changed", "member.role_changed"]
        )
        assert changed.count() == 1
    assert row.version == 2
    assert won.json()["version"] == 2
