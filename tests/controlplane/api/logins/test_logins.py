"""Logins by API, as who starts them meets them."""

from __future__ import annotations

import contextvars
from typing import Any

import pytest
from django.test import Client

from providers.catalog.models import Provider
from providers.credentials.models import Credential
from providers.oauth import quota
from providers.oauth.models import DeviceLogin
from tenants import scope
from tenants.audit.actor import acting_as
from tenants.keys.services import create_key
from tenants.members.models import Membership
from tests.controlplane.api.conftest import Api, error_of
from tests.providers.oauth.conftest import Desk, desk, moving, simulator, simulator_door
from tests.providers.oauth.test_pasted_logins import approve_in_browser

__all__ = ["desk", "moving", "simulator", "simulator_door"]
pytestmark = [pytest.mark.storage, pytest.mark.django_db]


class Outside(Client):
    """Its requests begin in nobody's scope, as a server's do."""

    def request(self, **request: Any) -> Any:
        return contextvars.Context().run(super().request, **request)


@pytest.fixture
def me(desk: Desk) -> Api:
    client = Outside()
    client.force_login(desk.user)
    return Api(client)


def with_my_key(desk: Desk, *, is_mine: bool = True) -> Api:
    with acting_as("command", None, "tests"), scope.platform("tests"):
        member = Membership.objects.get(user=desk.user) if is_mine else None
        _, secret = create_key(
            tenant=desk.tenant, label="control", scopes=["manage"], member=member
        )
    return Api(Outside(), {"Authorization": f"Bearer {secret.reveal()}"})


def start(api: Api, provider: str, login: str, **values: Any) -> dict[str, Any]:
    body = {"provider": provider, "login": login, **values}
    answer = api("post", "/api/v1/logins", body)
    assert answer.status_code == 202, answer.content
    found: dict[str, Any] = answer.json()
    return found


def latest() -> DeviceLogin:
    found: DeviceLogin = DeviceLogin.objects.select_related("provider").latest("created_at")
    return found


def test_from_start_to_disconnect(desk: Desk, me: Api) -> None:
    desk.provider("github-copilot")
    login = start(me, "github-copilot", "device", tenant="acme")
    assert login["status"] == "pending"
    assert login["user_code"]
    assert "device_code" not in login
    path = f"/api/v1/logins/{login['id']}"
    assert me("get", path).json()["status"] == "pending"
    early = me("post", f"{path}/confirm")
    assert (early.status_code, error_of(early)["code"]) == (409, "login_closed")
    desk.approve(latest())
    desk.poll(latest())
    waiting = me("get", path).json()
    assert (waiting["status"], waiting["account_label"]) == ("confirm", "@ada")
    done = me("post", f"{path}/confirm").json()
    assert done["status"] == "completed"
    [connection] = me("get", "/api/v1/connections").json()["items"]
    assert connection["id"] == done["credential_id"]
    with scope.platform("tests"):
        quota.fetch(connection["id"])
    health = me("get", f"/api/v1/connections/{connection['id']}").json()
    assert health["state"] == "active"
    assert health["next_action"] == ""
    assert [event["kind"] for event in health["timeline"]] == ["issued"]
    windows = {window["name"]: window for window in health["quotas"]}
    assert windows["premium_interactions"]["used"] == 1030.5
    assert windows["chat"]["is_unlimited"]
    assert "completions" not in windows  # "0 of 0" says nothing
    text = str(health) + str(done)
    assert "ghu_" not in text
    assert "tid=" not in text
    assert me("post", f"/api/v1/connections/{connection['id']}/disconnect").status_code == 204
    assert not Credential.objects.exists()


def test_a_sign_in_disconnects_what_it_connected(desk: Desk, me: Api) -> None:
    desk.provider("github-copilot")
    login = start(me, "github-copilot", "direct", tenant="acme")
    path = f"/api/v1/logins/{login['id']}"
    early = me("post", f"{path}/disconnect")
    assert (early.status_code, error_of(early)["code"]) == (409, "login_closed")
    row = latest()
    with scope.platform("tests"):
        Provider.objects.update(base_url=f"{desk.simulator.url}/copilot")
    row.refresh_from_db()
    desk.approve(row)
    desk.poll(row)
    assert me("post", f"{path}/confirm").json()["status"] == "completed"
    assert me("post", f"{path}/disconnect").status_code == 204
    assert not Credential.objects.exists()
    again = me("post", f"{path}/disconnect")
    assert (again.status_code, error_of(again)["code"]) == (409, "login_closed")


def test_a_members_key_signs_in_for_its_member(desk: Desk) -> None:
    desk.provider("claude-subscription")
    api = with_my_key(desk)
    login = start(api, "claude-subscription", "paste")
    assert login["tenant"] == "acme"
    row = latest()
    assert row.started_by_id == desk.user.pk
    address = approve_in_browser(desk, row)
    wrong = api("post", f"/api/v1/logins/{login['id']}/code", {"code": "x#y"})
    assert (wrong.status_code, error_of(wrong)["param"]) == (400, "code")
    done = api("post", f"/api/v1/logins/{login['id']}/code", {"code": address}).json()
    assert (done["status"], done["account_label"]) == ("confirm", "ada@example.test")


def test_a_tenants_key_signs_in_for_nobody(desk: Desk) -> None:
    desk.provider("kilo")
    answer = with_my_key(desk, is_mine=False)(
        "post", "/api/v1/logins", {"provider": "kilo", "login": "device"}
    )
    assert (answer.status_code, error_of(answer)["code"]) == (403, "key_forbidden")


def test_cancelled_is_over(desk: Desk, me: Api) -> None:
    desk.provider("")
    login = start(me, "generic", "device", tenant="acme")
    over = me("post", f"/api/v1/logins/{login['id']}/cancel").json()
    assert (over["status"], over["user_code"]) == ("cancelled", "")
    assert over["error"].startswith("You cancelled this sign-in.")
    [listed] = me("get", "/api/v1/logins").json()["items"]
    assert listed["id"] == login["id"]


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"provider": "generic", "login": "device", "tenant": "globex"}, 404, "not_found"),
        ({"provider": "generic", "login": "device"}, 404, "not_found"),
        ({"provider": "nothing", "login": "device", "tenant": "acme"}, 404, "not_found"),
        ({"provider": "generic", "login": "smoke", "tenant": "acme"}, 400, "unknown_login"),
        ({"provider": "generic", "tenant": "acme"}, 400, "invalid_request"),
        ({"provider": "generic", "login": "device", "tenant": "acme", "is_personal": False},
         403, "role_forbidden"),
    ],
    ids=["foreign tenant", "platform", "provider", "way", "no way", "sharing"],
)  # fmt: skip
def test_what_is_refused(desk: Desk, me: Api, body: dict[str, Any], status: int, code: str) -> None:
    desk.provider("")
    answer = me("post", "/api/v1/logins", body)
    assert answer.status_code == status, answer.content
    assert error_of(answer)["code"] == code
