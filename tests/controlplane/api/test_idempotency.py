"""Bar R18: a creation sent again happens once, is answered as before, and leaves no secret."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from unittest import mock

import pytest
from django.db import connection, connections
from django.test import Client

from controlplane.kit import clock
from tenants import scope as scopes
from tenants.audit.models import AuditEvent
from tenants.idempotency.models import RememberedAnswer
from tenants.idempotency.services import KEPT_FOR, sweep
from tenants.keys.models import ApiKey
from tenants.members.models import Invitation, Tenant, User
from tests.controlplane.api.conftest import V1, Api, Home, error_of, furnish, signed_in, with_key

pytestmark = [pytest.mark.storage, pytest.mark.django_db]


def keys_of(tenant: Tenant) -> int:
    with scopes.tenant(tenant.id):
        return ApiKey.objects.filter(tenant=tenant).count()


def raw_rows() -> str:
    """Every column of every remembered answer, as a dump would show it."""
    with scopes.platform("test"), connection.cursor() as cursor:
        cursor.execute("SELECT * FROM tenants_rememberedanswer")
        return repr([[bytes(v) if isinstance(v, memoryview) else v for v in row] for row in cursor])


def test_a_replayed_key_creation_answers_with_the_same_secret_which_is_stored_sealed(
    home: Home, admin: Api
) -> None:
    path = f"{V1}/tenants/{home.tenant.id}/keys"
    before = keys_of(home.tenant)
    first = admin("post", path, {"label": "label-canary-7731"}, idempotency_key="key-canary-9917")
    again = admin("post", path, {"label": "label-canary-7731"}, idempotency_key="key-canary-9917")
    assert (first.status_code, again.status_code) == (201, 201)
    assert first.json() == again.json()
    assert again["ETag"] == first["ETag"] == '"1"'
    assert again["Location"] == first["Location"]
    assert admin("get", again["Location"]).json()["id"] == first.json()["id"]
    assert "Idempotent-Replayed" not in first
    assert again["Idempotent-Replayed"] == "true"
    assert keys_of(home.tenant) == before + 1
    secret = first.json()["secret"]
    works = Api(Client(), {"Authorization": f"Bearer {secret}"})
    assert works("get", path).status_code == 403, "it is a key for models, and a working one"
    rows = raw_rows()
    for piece in (secret, secret[-49:], secret[:24], "key-canary-9917", "label-canary"):
        assert piece not in rows
    with scopes.tenant(home.tenant.id):
        assert (
            AuditEvent.objects.filter(action="key.created", target_id=first.json()["id"]).count()
            == 1
        )


@pytest.mark.parametrize(
    "other",
    [
        {"label": "another"},
        {"label": "ci", "scopes": ["read"]},
    ],
)
def test_another_body_under_the_same_key_is_refused(
    home: Home, admin: Api, other: dict[str, Any], everything: Callable[[], Any]
) -> None:
    path = f"{V1}/tenants/{home.tenant.id}/keys"
    assert admin("post", path, {"label": "ci"}, idempotency_key="a-1").status_code == 201
    before = everything()
    answer = admin("post", path, other, idempotency_key="a-1")
    assert answer.status_code == 422
    assert error_of(answer)["code"] == "idempotency_key_reused"
    invite = admin(
        "post",
        f"{V1}/tenants/{home.tenant.id}/invitations",
        {"email": "a@b.test", "role": "viewer"},
        idempotency_key="a-1",
    )
    assert invite.status_code == 422, "another path is another request"
    assert everything() == before


def test_keys_of_different_callers_and_tenants_never_meet(home: Home, elsewhere: Home) -> None:
    both = home.members["owner"].user
    with scopes.tenant(elsewhere.tenant.id):
        type(home.members["owner"]).objects.create(tenant=elsewhere.tenant, user=both, role="owner")
    callers = [
        (signed_in(both), home),
        (signed_in(both), elsewhere),
        (signed_in(home.members["admin"].user), home),
        (with_key(home.tenant), home),
        (with_key(home.tenant), home),
    ]
    made = [
        api("post", f"{V1}/tenants/{place.tenant.id}/keys", {"label": "x"}, idempotency_key="same")
        for api, place in callers
    ]
    assert {answer.status_code for answer in made} == {201}
    assert len({answer.json()["secret"] for answer in made}) == len(callers)


def test_what_failed_is_not_remembered(home: Home, admin: Api) -> None:
    path = f"{V1}/tenants/{home.tenant.id}/keys"
    wrong = {"label": "ci", "allowed_networks": ["nowhere"]}
    assert admin("post", path, wrong, idempotency_key="a-1").status_code == 400
    with mock.patch("controlplane.api.keys.create_key", side_effect=RuntimeError("boom")):
        broken = admin("post", path, {"label": "ci"}, idempotency_key="a-1")
    assert broken.status_code == 500
    assert keys_of(home.tenant) == 2
    answer = admin("post", path, {"label": "ci"}, idempotency_key="a-1")
    assert answer.status_code == 201
    assert "Idempotent-Replayed" not in answer


def test_who_may_no_longer_create_gets_no_replay(home: Home, admin: Api) -> None:
    path = f"{V1}/tenants/{home.tenant.id}/keys"
    assert admin("post", path, {"label": "ci"}, idempotency_key="a-1").status_code == 201
    with scopes.tenant(home.tenant.id):
        type(home.members["admin"]).objects.filter(pk=home.members["admin"].pk).update(
            role="viewer"
        )
    answer = admin("post", path, {"label": "ci"}, idempotency_key="a-1")
    assert answer.status_code == 403
    assert b"pcp_live" not in answer.content


@pytest.mark.parametrize("key", ["", " ", "a" * 256, "with space", "ключ"])
def test_a_key_that_is_none_is_refused(home: Home, admin: Api, key: str) -> None:
    path = f"{V1}/tenants/{home.tenant.id}/keys"
    answer = admin("post", path, {"label": "ci"}, idempotency_key=key)
    assert answer.status_code == 400
    assert error_of(answer)["param"] == "Idempotency-Key"
    assert keys_of(home.tenant) == 2


def test_after_a_day_the_answer_is_gone_and_the_key_is_free(home: Home, admin: Api) -> None:
    path = f"{V1}/tenants/{home.tenant.id}/keys"
    first = admin("post", path, {"label": "ci"}, idempotency_key="a-1").json()
    later = clock.now() + KEPT_FOR + timedelta(seconds=1)
    with mock.patch("controlplane.api.idempotency.clock.now", return_value=later):
        again = admin("post", path, {"label": "ci"}, idempotency_key="a-1")
    assert again.status_code == 201
    assert again.json()["secret"] != first["secret"]
    assert sweep(now=clock.now()) == 0
    assert sweep(now=later + KEPT_FOR) == 1
    with scopes.platform("test"):
        assert not RememberedAnswer.objects.exists()


def test_tenants_invitations_and_rotations_too(home: Home, admin: Api, as_staff: Api) -> None:
    requests = [
        (as_staff, f"{V1}/tenants", {"slug": "initech", "name": "Initech"}),
        (
            admin,
            f"{V1}/tenants/{home.tenant.id}/invitations",
            {"email": "a@b.test", "role": "viewer"},
        ),
        (admin, f"{V1}/tenants/{home.tenant.id}/keys/{home.key.id}/rotate", {"overlap_seconds": 5}),
    ]
    for number, (api, path, body) in enumerate(requests):
        first = api("post", path, body, idempotency_key=f"once-{number}")
        again = api("post", path, body, idempotency_key=f"once-{number}")
        assert first.status_code == 201, first.content
        assert again.json() == first.json()
        assert again["Idempotent-Replayed"] == "true"
    assert Tenant.objects.filter(slug="initech").count() == 1
    with scopes.tenant(home.tenant.id):
        assert Invitation.objects.filter(email="a@b.test").count() == 1


@pytest.mark.django_db(transaction=True)
def test_one_key_32_times_at_once_is_one_effect(tenant: Tenant) -> None:
    home = furnish(tenant)
    before = keys_of(tenant)
    user: User = home.members["admin"].user
    path = f"{V1}/tenants/{tenant.id}/keys"
    apis = [signed_in(user) for _ in range(32)]
    start = threading.Barrier(32, timeout=30)
    answers: list[Any] = []

    def run(api: Api) -> None:
        try:
            start.wait()
            answers.append(api("post", path, {"label": "race"}, idempotency_key="race-1"))
        finally:
            connections.close_all()

    threads = [threading.Thread(target=run, args=(api,)) for api in apis]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert Counter(answer.status_code for answer in answers) == {201: 32}
    assert len({answer.json()["secret"] for answer in answers}) == 1
    assert Counter("Idempotent-Replayed" in answer for answer in answers) == {True: 31, False: 1}
    assert keys_of(tenant) == before + 1
    with scopes.tenant(tenant.id):
        assert (
            AuditEvent.objects.filter(action="key.created", target_label__contains="race").count()
            == 1
        )
