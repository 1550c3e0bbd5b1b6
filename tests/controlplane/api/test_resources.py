"""What each endpoint does, told as small stories. Who may is in test_matrix.py."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils.dateparse import parse_datetime

from controlplane.kit import clock
from tenants import scope as scopes
from tenants.audit.actor import acting_as
from tenants.audit.models import AuditEvent
from tenants.audit.verify import read_heads
from tenants.keys.snapshot import KeySnapshot
from tenants.members.models import Tenant, User
from tests.controlplane.api.conftest import (
    V1,
    Api,
    Home,
    error_of,
    json_bytes,
    signed_in,
    with_key,
)

pytestmark = pytest.mark.django_db


def last_event(tenant: Tenant) -> AuditEvent:
    with scopes.tenant(tenant.id):
        return AuditEvent.objects.latest("sequence")


# --- Tenants -------------------------------------------------------------------------------------


def test_staff_create_describe_suspend_and_bring_back_a_tenant(as_staff: Api, staff: User) -> None:
    made = as_staff("post", f"{V1}/tenants", {"slug": "initech", "name": " Initech "})
    assert made.status_code == 201
    tenant = Tenant.objects.get(slug="initech")
    assert made.json()["name"] == "Initech"
    assert made["Location"] == f"{V1}/tenants/{tenant.id}"
    assert (made["ETag"], made.json()["status"]) == ('"1"', "active")
    event = last_event(tenant)
    assert (event.action, event.actor_kind, event.actor_id) == (
        "tenant.created",
        "user",
        str(staff.pk),
    )
    path = made["Location"]
    notes = {"plan_notes": "Gold until May", "time_zone": "Europe/Berlin"}
    changed = as_staff("patch", path, notes, if_match=made["ETag"])
    assert changed.json()["plan_notes"] == "Gold until May"
    for status in ("suspended", "closing", "active"):
        answer = as_staff("post", f"{path}/status", {"status": status})
        assert answer.json()["status"] == status
    again = as_staff("post", f"{path}/status", {"status": "active"})
    assert (again.status_code, error_of(again)["code"]) == (409, "state_conflict")


def test_the_operators_notes_are_for_the_operator(home: Home, admin: Api, as_staff: Api) -> None:
    path = f"{V1}/tenants/{home.tenant.id}"
    as_staff("patch", path, {"plan_notes": "late payer"}, if_match='"1"')
    for api in (admin, with_key(home.tenant)):
        assert api("get", path).json()["plan_notes"] is None
        assert b"late payer" not in api("get", f"{V1}/tenants").content
    refused = admin("patch", path, {"plan_notes": "best payer"}, if_match='"2"')
    assert (refused.status_code, error_of(refused)["param"]) == (403, "plan_notes")
    renamed = admin("patch", path, {"name": "Acme Ltd"}, if_match='"2"')
    assert renamed.json()["name"] == "Acme Ltd"
    assert as_staff("get", path).json()["plan_notes"] == "late payer"


# --- Members -------------------------------------------------------------------------------------


def test_inviting_and_joining(home: Home, admin: Api) -> None:
    invited = admin(
        "post",
        f"{V1}/tenants/{home.tenant.id}/invitations",
        {"email": "Ada@New.test", "role": "member"},
    )
    assert invited.status_code == 201
    token = invited.json()["token"]
    assert "token" not in admin("get", invited["Location"]).json()
    assert admin("get", invited["Location"]).json()["is_open"] is True

    ada = signed_in(User.objects.create_user("ada@new.test"))
    somebody = signed_in(User.objects.create_user("somebody@new.test"))
    accept = f"{V1}/invitations/accept"
    assert somebody("post", accept, {"token": token}).status_code == 404
    joined = ada("post", accept, {"token": token})
    assert joined.status_code == 201
    assert joined.json()["role"] == "member"
    assert joined.json()["user"]["email"] == "ada@new.test"
    assert ada("post", accept, {"token": token}).status_code == 404
    assert admin("get", invited["Location"]).json()["is_open"] is False
    assert last_event(home.tenant).actor_label == "ada@new.test"
    twice = admin(
        "post",
        f"{V1}/tenants/{home.tenant.id}/invitations",
        {"email": "ada@new.test", "role": "viewer"},
    )
    assert (twice.status_code, error_of(twice)["code"]) == (409, "state_conflict")


def test_a_withdrawn_invitation_opens_nothing(home: Home, admin: Api) -> None:
    path = f"{V1}/tenants/{home.tenant.id}/invitations"
    made = admin("post", path, {"email": "ada@new.test", "role": "member"})
    closed = admin("post", f"{made['Location']}/withdraw")
    assert (closed.status_code, closed.json()["is_open"]) == (200, False)
    assert admin("post", f"{made['Location']}/withdraw").status_code == 409
    ada = signed_in(User.objects.create_user("ada@new.test"))
    answer = ada("post", f"{V1}/invitations/accept", {"token": made.json()["token"]})
    assert answer.status_code == 404


def test_only_owners_make_change_and_remove_owners(home: Home, owner: Api, admin: Api) -> None:
    members = f"{V1}/tenants/{home.tenant.id}/members"
    viewer = f"{members}/{home.members['viewer'].id}"
    boss = f"{members}/{home.members['owner'].id}"
    refused = admin("patch", viewer, {"role": "owner"}, if_match='"1"')
    assert (refused.status_code, error_of(refused)["param"]) == (403, "role")
    assert admin("patch", boss, {"role": "viewer"}, if_match='"1"').status_code == 403
    assert admin("delete", boss, if_match='"1"').status_code == 403
    invite = admin(
        "post",
        f"{V1}/tenants/{home.tenant.id}/invitations",
        {"email": "b@b.test", "role": "owner"},
    )
    assert invite.status_code == 403
    last = owner("patch", boss, {"role": "viewer"}, if_match='"1"')
    assert (last.status_code, error_of(last)["code"]) == (409, "state_conflict")
    assert owner("delete", boss, if_match='"1"').status_code == 409
    assert owner("patch", viewer, {"role": "owner"}, if_match='"1"').status_code == 200
    assert owner("delete", boss, if_match='"1"').status_code == 204


def test_who_leaves_takes_their_keys_along(home: Home, admin: Api) -> None:
    member = home.members["member"]
    key = f"{V1}/tenants/{home.tenant.id}/keys/{home.member_key.id}"
    assert admin("get", key).json()["state"] == "active"
    path = f"{V1}/tenants/{home.tenant.id}/members/{member.id}"
    assert admin("delete", path, if_match='"1"').status_code == 204
    assert admin("get", key).json()["state"] == "revoked"
    assert signed_in(member.user)("get", path).status_code == 404


# --- Keys ----------------------------------------------------------------------------------------


def test_a_key_is_shown_once_and_works(home: Home, admin: Api) -> None:
    keys = f"{V1}/tenants/{home.tenant.id}/keys"
    made = admin(
        "post",
        keys,
        {
            "label": "ci",
            "scopes": ["proxy", "read"],
            "allowed_models": ["gpt-*"],
            "allowed_networks": ["127.0.0.0/8"],
            "expires_at": "2100-01-01T00:00:00+02:00",
        },
    )
    assert made.status_code == 201, made.content
    secret = made.json()["secret"]
    assert made.json()["expires_at"] == "2099-12-31T22:00:00Z"
    for path in (keys, made["Location"]):
        assert secret[-49:].encode() not in admin("get", path).content
    snapshot = KeySnapshot()
    snapshot.reload()
    record = snapshot.find(secret, "127.0.0.1", clock.now())
    assert (record.label, record.allowed_models) == ("ci", ("gpt-*",))
    reader = Api(Client(), {"Authorization": f"Bearer {secret}"})
    assert reader("get", keys).status_code == 200
    assert secret.encode() not in json_bytes(str(last_event(home.tenant).after))


def test_members_make_keys_for_themselves_and_admins_for_anybody(
    home: Home, admin: Api, elsewhere: Home
) -> None:
    keys = f"{V1}/tenants/{home.tenant.id}/keys"
    member = home.members["member"]
    own = signed_in(member.user)
    made = own("post", keys, {"label": "mine"})
    assert made.json()["member_id"] == str(member.id)
    assert own("patch", made["Location"], {"label": "still"}, if_match='"1"').status_code == 200
    others = own("post", keys, {"label": "x", "member_id": str(home.members["viewer"].id)})
    assert (others.status_code, error_of(others)["param"]) == (403, "member_id")
    shared = f"{keys}/{home.key.id}"
    assert own("patch", shared, {"label": "x"}, if_match='"1"').status_code == 403
    for_viewer = {"label": "x", "member_id": str(home.members["viewer"].id)}
    assert admin("post", keys, for_viewer).status_code == 201
    for foreign in (elsewhere.members["viewer"].id, home.tenant.id):
        answer = admin("post", keys, {"label": "x", "member_id": str(foreign)})
        assert (answer.status_code, error_of(answer)["param"]) == (404, "member_id")


def test_rotation_with_overlap(home: Home, admin: Api) -> None:
    keys = f"{V1}/tenants/{home.tenant.id}/keys"
    old = f"{keys}/{home.key.id}"
    began = clock.now()
    new = admin("post", f"{old}/rotate", {"overlap_seconds": 3600})
    assert new.status_code == 201
    assert new.json()["rotated_from_id"] == str(home.key.id)
    assert new.json()["secret"].startswith("pcp_live_")
    now = admin("get", old).json()
    assert now["state"] == "rotated"
    ends = parse_datetime(now["expires_at"])
    assert ends is not None
    assert timedelta(minutes=59) < ends - began < timedelta(minutes=61)
    again = admin("post", f"{old}/rotate", {"overlap_seconds": 3600})
    assert (again.status_code, error_of(again)["code"]) == (409, "state_conflict")
    at_once = admin("post", f"{new['Location']}/rotate", {"overlap_seconds": 0})
    assert at_once.status_code == 201
    assert admin("get", new["Location"]).json()["state"] == "revoked"
    for wrong in ({}, {"overlap_seconds": -1}, {"overlap_seconds": 91 * 86400}):
        assert admin("post", f"{at_once['Location']}/rotate", wrong).status_code == 400


def test_revoking_is_for_good_and_twice_is_once(home: Home, admin: Api) -> None:
    path = f"{V1}/tenants/{home.tenant.id}/keys/{home.key.id}"
    first = admin("post", f"{path}/revoke")
    assert (first.status_code, first.json()["state"]) == (200, "revoked")
    again = admin("post", f"{path}/revoke")
    assert again.json() == first.json()
    changed = admin("patch", path, {"label": "x"}, if_match=again["ETag"])
    assert (changed.status_code, error_of(changed)["code"]) == (409, "state_conflict")
    with scopes.tenant(home.tenant.id):
        assert AuditEvent.objects.filter(action="key.revoked").count() == 1


# --- Audit ---------------------------------------------------------------------------------------


def test_the_log_says_who_changed_what(home: Home, admin: Api) -> None:
    path = f"{V1}/tenants/{home.tenant.id}"
    admin("patch", f"{path}/keys/{home.key.id}", {"label": "renamed"}, if_match='"1"')
    events = admin("get", f"{path}/audit/events").json()["items"]
    newest = events[0]
    assert newest["action"] == "key.changed"
    assert newest["actor"]["label"] == home.members["admin"].user.email
    assert newest["actor"]["address"] == "127.0.0.1"
    assert newest["target"]["id"] == str(home.key.id)
    assert newest["before"]["label"] == "acme shared"
    assert newest["after"]["label"] == "renamed"
    assert [event["sequence"] for event in events] == list(range(len(events), 0, -1))
    one = admin("get", f"{path}/audit/events/{newest['id']}")
    assert one.json() == newest


def test_verification_notices_what_an_exported_head_remembers(home: Home, admin: Api) -> None:
    path = f"{V1}/tenants/{home.tenant.id}/audit"
    head = admin("get", f"{path}/head")
    read_heads(head.content)  # the command line reads the same document
    report = admin("post", f"{path}/verify", {"heads": head.json()}).json()
    assert report["is_intact"] is True
    assert report["events"] == len(admin("get", f"{path}/events?limit=200").json()["items"])
    other = head.json()
    other["chains"][str(home.tenant.id)]["hash"] = "0" * 64
    report = admin("post", f"{path}/verify", {"heads": other}).json()
    assert report["is_intact"] is False
    assert "exported head" in report["findings"][0]["what"]


def test_a_tenants_verification_says_nothing_of_others(
    home: Home, elsewhere: Home, admin: Api, as_staff: Api
) -> None:
    heads = as_staff("get", f"{V1}/audit/heads").json()
    assert {str(home.tenant.id), str(elsewhere.tenant.id)} <= set(heads["chains"])
    for head in heads["chains"].values():
        head["hash"] = "0" * 64
    own = admin("post", f"{V1}/tenants/{home.tenant.id}/audit/verify", {"heads": heads}).json()
    assert {finding["chain"] for finding in own["findings"]} == {str(home.tenant.id)}
    assert own["chains"] == 1
    everywhere = as_staff("post", f"{V1}/audit/verify", {"heads": heads}).json()
    assert {str(home.tenant.id), str(elsewhere.tenant.id)} <= {
        finding["chain"] for finding in everywhere["findings"]
    }


@pytest.mark.parametrize(
    "heads",
    [
        {},
        {"format": 2, "exported_at": "2026-01-01T00:00:00Z", "chains": {}},
        {"format": 1, "exported_at": "x", "chains": {}},
        {"format": 1, "exported_at": "2026-01-01T00:00:00Z", "chains": {"x": {"sequence": -1}}},
        {
            "format": 1,
            "exported_at": "2026-01-01T00:00:00Z",
            "chains": {"x": {"sequence": 1e400, "hash": "0" * 64}},
        },
        {
            "format": 1,
            "exported_at": "2026-01-01T00:00:00Z",
            "chains": {"x": {"sequence": 2**64, "hash": "0" * 64}},
        },
        {"format": 1, "exported_at": "2026-01-01T00:00:00Z", "chains": {"x": 1.5}},
        {"format": 1, "exported_at": "2026-01-01T00:00:00Z", "chains": [1]},
        7,
    ],
)
def test_heads_that_are_none(home: Home, admin: Api, heads: Any) -> None:
    path = f"{V1}/tenants/{home.tenant.id}/audit/verify"
    assert admin("post", path, {"heads": heads}).status_code == 400


def test_a_very_long_chain_is_left_to_the_command_line(
    home: Home, admin: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("controlplane.api.audit.MOST_EVENTS", 3)
    answer = admin("post", f"{V1}/tenants/{home.tenant.id}/audit/verify", {})
    assert (answer.status_code, error_of(answer)["code"]) == (422, "too_many_events")
    assert "manage.py audit verify" in error_of(answer)["message"]


def test_the_platforms_own_events_are_for_staff(home: Home, admin: Api, as_staff: Api) -> None:
    from tenants.members.people import add_person

    with acting_as("command", None, "tests"):
        add_person(email="new@platform.test")
    listed = as_staff("get", f"{V1}/audit/events?action=user.added").json()["items"]
    assert listed[0]["chain"] == "platform"
    assert listed[0]["tenant"]["id"] is None
    foreign = admin("get", f"{V1}/tenants/{home.tenant.id}/audit/events/{listed[0]['id']}")
    assert foreign.status_code == 404
