"""The page on which terms of models are read and accepted, and the same by API."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client

from providers.catalog.models import Provider
from providers.credentials.models import Credential
from tenants import scope
from tenants.audit.models import AuditEvent
from tenants.members.models import Membership, Tenant, User
from tests.controlplane.api.conftest import Api, error_of
from tests.controlplane.logins.test_pages import signed_in, text
from tests.providers.oauth.conftest import Clock, Desk, desk, moving, simulator, simulator_door

__all__ = ["Clock", "desk", "moving", "simulator", "simulator_door"]
# Requests end with a commit of their own, as a server's do: the audit log insists on it.
pytestmark = [pytest.mark.storage, pytest.mark.django_db(transaction=True)]


def connected(desk: Desk, account: str = "ada", way: str = "direct") -> Credential:
    provider = desk.provider("github-copilot")
    with scope.platform("tests"):
        url = f"{desk.simulator.url}/copilot"
        Provider.objects.filter(pk=provider.pk).update(base_url=url)
    made = desk.sign_in(provider, way, account=account)
    found: Credential = Credential.objects.select_related("provider").get(pk=made.pk)
    return found


def models_page(credential: Credential, what: str = "") -> str:
    return f"/login/github-copilot/connected/{credential.pk}/models{what}"


def colleague(desk: Desk, role: str) -> User:
    user = User.objects.create_user(f"{role}@colleagues.test")
    with scope.platform("tests"):
        Membership.objects.create(tenant=desk.tenant, user=user, role=role)
    return user


def accepted() -> list[Any]:
    with scope.platform("tests"):
        events = AuditEvent.objects.filter(action="login.model_terms_accepted")
        return [(event.actor_id, event.after["model"]) for event in events]


@pytest.fixture
def me(desk: Desk) -> Client:
    return signed_in(desk.user)


@pytest.mark.parametrize("way", ["device", "direct"])
def test_read_then_accept_one(desk: Desk, me: Client, way: str) -> None:
    credential = connected(desk, way=way)
    assert models_page(credential) in text(me.get("/login/github-copilot/"))
    shown = text(me.get(models_page(credential)))
    assert "Models of @ada" in shown
    assert shown.count("Accept the terms") == 2
    assert "The terms of an example. Read what its maker says." in shown
    link = 'href="https://docs.example.test/terms" target="_blank" rel="noopener noreferrer"'
    assert link in shown
    answer = me.post(models_page(credential, "/accept"), {"model": "sim-claude"}, follow=True)
    shown = text(answer)
    assert "The terms of sim-claude are accepted for @ada." in shown
    assert shown.count("Accept the terms") == 1
    assert shown.count("Accepted</span>") == 1
    assert accepted() == [(str(desk.user.pk), "sim-claude")]
    again = me.post(models_page(credential, "/accept"), {"model": "sim-claude"}, follow=True)
    assert "had been accepted before" in text(again)
    assert len(accepted()) == 1
    assert desk.simulator.rules() == []


def test_an_administrator_reads_and_accepts_for_nobody(desk: Desk) -> None:
    credential = connected(desk)
    admin = signed_in(colleague(desk, "admin"))
    shown = text(admin.get(models_page(credential)))
    assert "Only the person who signed in can do that" in shown
    assert "<button" not in shown.partition("<main")[2].partition("</main")[0]
    refused = admin.post(models_page(credential, "/accept"), {"model": "sim-claude"})
    assert refused.status_code == 404
    assert accepted() == []


@pytest.mark.parametrize("who", ["colleague", "viewer", "stranger", "anonymous"])
def test_it_is_not_there_for_anybody_else(desk: Desk, other_tenant: Tenant, who: str) -> None:
    credential = connected(desk)
    client: Client = Client()
    if who == "stranger":
        foreigner = User.objects.create_user("owner@globex.test")
        with scope.platform("tests"):
            Membership.objects.create(tenant=other_tenant, user=foreigner, role="owner")
        client = signed_in(foreigner)
    elif who != "anonymous":
        client = signed_in(colleague(desk, "viewer" if who == "viewer" else "member"))
    wanted = 302 if who == "anonymous" else 404
    assert client.get(models_page(credential)).status_code == wanted
    answer = client.post(models_page(credential, "/accept"), {"model": "sim-claude"})
    assert answer.status_code == wanted
    assert accepted() == []


def test_a_get_accepts_nothing(desk: Desk, me: Client) -> None:
    credential = connected(desk)
    answer = me.get(models_page(credential, "/accept") + "?model=sim-claude")
    assert answer.status_code == 405
    assert accepted() == []


def test_both_parts_of_the_address_are_looked_at(desk: Desk, me: Client) -> None:
    credential = connected(desk)
    path = models_page(credential).replace("github-copilot", "kiro")
    assert me.get(path).status_code == 404
    assert me.post(f"{path}/accept", {"model": "sim-claude"}).status_code == 404
    assert accepted() == []


def test_an_organisation_decides(desk: Desk, me: Client) -> None:
    credential = connected(desk, "cleo")
    answer = me.post(models_page(credential, "/accept"), {"model": "sim-claude"}, follow=True)
    assert "The organisation behind this account decides about this model" in text(answer)
    assert accepted() == []


def test_a_vendor_that_is_away_has_its_sentence_and_a_next_step(desk: Desk, me: Client) -> None:
    credential = connected(desk)
    desk.simulator.control("faults", {"script": "status=503", "vendor": "copilot"})
    answer = me.get(models_page(credential))
    assert answer.status_code == 502
    shown = text(answer)
    assert "The provider answered 503" in shown
    assert "Look again" in shown


def test_a_sign_in_that_is_over_says_so(desk: Desk, me: Client) -> None:
    credential = connected(desk)
    with scope.platform("tests"):
        Credential.objects.filter(pk=credential.pk).update(
            state=Credential.State.NEEDS_LOGIN, state_reason="The login has ended."
        )
    shown = text(me.get(models_page(credential)))
    assert "The login has ended." in shown
    assert "sign in again" in shown


def test_providers_without_terms_have_no_such_page(desk: Desk, me: Client) -> None:
    credential = desk.sign_in(desk.provider("kilo"), "device")
    assert "/models" not in text(me.get("/login/kilo/"))
    assert me.get(f"/login/kilo/connected/{credential.pk}/models").status_code == 404
    path = f"/api/v1/connections/{credential.pk}/models"
    assert Api(me)("get", path).json() == {"items": []}
    refused = Api(me)("post", f"{path}/accept", {"model": "sim-claude"})
    assert (refused.status_code, error_of(refused)["code"]) == (404, "no_model_terms")


# --- by API ------------------------------------------------------------------------------------


def test_the_same_by_api(desk: Desk, me: Client) -> None:
    credential = connected(desk)
    api = Api(me)
    path = f"/api/v1/connections/{credential.pk}/models"
    [claude, _] = api("get", path).json()["items"]
    assert (claude["id"], claude["is_enabled"]) == ("sim-claude", False)
    assert claude["links"][0]["url"] == "https://docs.example.test/terms"
    answer = api("post", f"{path}/accept", {"model": "sim-claude"})
    assert answer.status_code == 200, answer.content
    assert [item["is_enabled"] for item in answer.json()["items"]] == [True, False]
    assert accepted() == [(str(desk.user.pk), "sim-claude")]
    none = api("post", f"{path}/accept", {"model": "sim-gpt"})
    assert (none.status_code, error_of(none)["code"]) == (404, "no_model_terms")
    admin = Api(signed_in(colleague(desk, "admin")))
    assert admin("get", path).status_code == 200
    refused = admin("post", f"{path}/accept", {"model": "sim-gemini"})
    assert (refused.status_code, error_of(refused)["code"]) == (403, "role_forbidden")
    assert len(accepted()) == 1
