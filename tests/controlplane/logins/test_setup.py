"""From nothing to a first sign-in without leaving the pages of logins."""

from __future__ import annotations

import html
from typing import Any

import pytest
from django.test import Client

from providers.catalog.models import Provider
from providers.oauth.models import LoginSettings
from tenants import scope
from tenants.audit.models import AuditEvent
from tenants.members.models import Membership, Tenant, User

pytestmark = pytest.mark.django_db

PATHS = {"/v0/oauth/kiro": "kiro", "/v0/oauth/copilot": "github-copilot", "/login/xai/": "xai"}


@pytest.fixture
def operator(staff: User) -> Client:
    client = Client()
    client.force_login(staff)
    return client


@pytest.fixture
def member(tenant: Tenant) -> Client:
    user = User.objects.create_user("member@acme.test")
    with scope.platform("tests"):
        Membership.objects.create(tenant=tenant, user=user, role=Membership.Role.OWNER)
    client = Client()
    client.force_login(user)
    return client


def text(answer: Any) -> str:
    return html.unescape(answer.content.decode())


@pytest.mark.parametrize("path", PATHS)
def test_staff_switches_on_what_it_finds_off(operator: Client, path: str) -> None:
    catalog_id = PATHS[path]
    page = operator.get(path)
    assert page.status_code == 200
    assert "Switch it on" in text(page)
    assert not LoginSettings.objects.exists()
    after = operator.post(f"/login/{catalog_id}/switch-on", follow=True)
    assert after.status_code == 200
    assert "accounts now" in text(after)
    with scope.platform("tests"):
        provider = Provider.objects.get(catalog_id=catalog_id)
        settings = LoginSettings.objects.get(catalog_id=catalog_id)
        actions = set(AuditEvent.objects.values_list("action", flat=True))
    assert (provider.tenant_id, provider.is_enabled, settings.is_on) == (None, True, True)
    assert settings.sharing == LoginSettings.Sharing.OWNER
    assert {"provider.registered", "login_settings.made"} <= actions
    # Now the same address is the sign-in.
    assert "Switch it on" not in text(operator.get(path))
    assert operator.post(f"/login/{catalog_id}/switch-on").status_code == 404


def test_what_was_switched_off_comes_back_as_it_was(operator: Client) -> None:
    operator.post("/login/kiro/switch-on")
    with scope.platform("tests"):
        LoginSettings.objects.update(is_on=False, sharing="tenant", permission="Contract 12.")
        Provider.objects.update(is_enabled=False)
    assert "switched on again" in text(operator.get("/login/kiro/"))
    operator.post("/login/kiro/switch-on")
    with scope.platform("tests"):
        settings, provider = LoginSettings.objects.get(), Provider.objects.get()
    assert provider.is_enabled
    assert (settings.is_on, settings.sharing, settings.permission) == (
        True,
        "tenant",
        "Contract 12.",
    )


def test_the_list_shows_staff_what_can_be_switched_on(operator: Client, member: Client) -> None:
    assert "Off until you switch them on" in text(operator.get("/login/"))
    shown = text(member.get("/login/"))
    assert "Off until you switch them on" not in shown
    assert "A platform administrator switches" in shown


def test_others_are_told_whom_to_ask_and_can_switch_nothing(member: Client) -> None:
    page = member.get("/v0/oauth/kiro")
    assert page.status_code == 404
    assert "Kiro" in text(page)
    assert "platform administrator" in text(page)
    assert member.post("/login/kiro/switch-on").status_code == 404
    assert Client().post("/login/kiro/switch-on").status_code == 302
    with scope.platform("tests"):
        assert not Provider.objects.exists()


def test_a_name_without_logins_is_not_there(operator: Client) -> None:
    for name in ("mistral", "nothing"):
        assert operator.get(f"/login/{name}/").status_code == 404
        assert operator.post(f"/login/{name}/switch-on").status_code == 404
