"""Sign-ins that end in a pasted code: Claude's code#state, Google's and Codex' addresses."""

from __future__ import annotations

import urllib.error
import urllib.request
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest

from providers.credentials.models import Credential
from providers.oauth import quota, services
from providers.oauth.errors import BadPastedCode, LoginClosed
from providers.oauth.flows.login import BadLoginSettings
from providers.oauth.models import DeviceLogin
from providers.oauth.words import words_for
from tenants import scope
from tests.providers.oauth.conftest import Desk

pytestmark = [pytest.mark.storage, pytest.mark.django_db]

WAYS = [
    ("claude-subscription", "paste", ""),
    ("google-gemini-cli", "browser", "operators-secret"),
    ("google-antigravity", "browser", "operators-secret"),
    ("openai-codex", "browser", ""),
]
IDS = [way[0] for way in WAYS]


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        return None


def approve_in_browser(desk: Desk, login: DeviceLogin, account: str = "ada") -> str:
    """Where the browser ends up after the person pressed Approve."""
    with scope.tenant(desk.tenant.pk):
        url = services.authorize_url(login)
    opener = urllib.request.build_opener(_NoRedirect)
    page = opener.open(url, timeout=10).read().decode()
    name = page.partition('name="login" value="')[2].partition('"')[0]
    form = urlencode({"login": name, "account": account, "decision": "approve"}).encode()
    try:
        opener.open(url, form, timeout=10)
    except urllib.error.HTTPError as redirect:
        with redirect:
            return str(redirect.headers["location"])
    raise AssertionError("nobody was redirected")


def hand_in(desk: Desk, login: DeviceLogin, pasted: str) -> DeviceLogin:
    with scope.tenant(desk.tenant.pk):
        return services.hand_in(login, pasted, now=desk.clock.now())


def as_code_and_state(address: str) -> str:
    found = parse_qs(urlsplit(address).query)
    return f"{found['code'][0]}#{found['state'][0]}"


@pytest.mark.parametrize(("catalog_id", "way", "secret"), WAYS, ids=IDS)
@pytest.mark.parametrize("form", ["address", "code#state", "with spaces", "query"])
def test_a_pasted_code_becomes_a_credential(
    desk: Desk, catalog_id: str, way: str, secret: str, form: str
) -> None:
    provider = desk.provider(catalog_id, secret=secret)
    login = desk.begin(provider, way)
    assert login.is_pasted
    address = approve_in_browser(desk, login)
    pasted = {
        "address": address,
        "code#state": as_code_and_state(address),
        "with spaces": f"  {as_code_and_state(address)[:10]}\n {as_code_and_state(address)[10:]} ",
        "query": urlsplit(address).query,
    }[form]
    hand_in(desk, login, pasted)
    assert login.status == "confirm", (login.error_code, login.error_detail)
    assert login.account_label == "ada@example.test"
    credential = desk.confirm(login)
    assert credential.state == Credential.State.ACTIVE
    assert credential.refresh_at is not None
    assert desk.simulator.rules() == []


@pytest.mark.parametrize(("catalog_id", "way", "secret"), WAYS, ids=IDS)
def test_a_paste_of_another_sign_in_is_refused_before_the_vendor_is_asked(
    desk: Desk, catalog_id: str, way: str, secret: str
) -> None:
    provider = desk.provider(catalog_id, secret=secret)
    first = desk.begin(provider, way)
    address = approve_in_browser(desk, first)
    second = desk.begin(provider, way)
    first.refresh_from_db()
    assert (first.status, first.error_code) == ("cancelled", "replaced")
    asked = len(desk.simulator.world.requests)
    with pytest.raises(BadPastedCode, match="another sign-in"):
        hand_in(desk, second, address)
    with pytest.raises(LoginClosed):
        hand_in(desk, first, address)
    assert len(desk.simulator.world.requests) == asked
    second.refresh_from_db()
    assert second.status == "pending"


def test_a_code_works_once_however_often_the_button_is_pressed(desk: Desk) -> None:
    login = desk.begin(desk.provider("claude-subscription"), "paste")
    address = approve_in_browser(desk, login)
    stale = DeviceLogin.objects.get(pk=login.pk)
    hand_in(desk, login, address)
    with pytest.raises(LoginClosed):
        hand_in(desk, stale, address)
    login.refresh_from_db()
    assert login.status == "confirm"
    assert desk.simulator.rules() == []


def test_without_the_operators_secret_google_is_not_even_asked(desk: Desk) -> None:
    with pytest.raises(BadLoginSettings, match="client secret"):
        desk.begin(desk.provider("google-gemini-cli"), "browser")
    assert not DeviceLogin.objects.exists()


@pytest.mark.parametrize(
    ("account", "project", "expected"),
    [
        ("ada", "", "simulated-project-ada"),
        # Nobody has used it yet: the free tier is set up, which takes two more looks.
        ("ben", "", "simulated-project-ben"),
        ("cleo", "companys-project", "companys-project"),
    ],
)
def test_google_finds_or_makes_the_project(
    desk: Desk, account: str, project: str, expected: str
) -> None:
    provider = desk.provider("google-gemini-cli", secret="operators-secret")
    inputs = {"project": project} if project else {}
    login = desk.begin(provider, "browser", inputs=inputs)
    hand_in(desk, login, approve_in_browser(desk, login, account))
    for _ in range(3):
        if login.status == "confirm":
            break
        assert login.status == "approved", (login.error_code, login.error_detail)
        desk.poll(login)
    credential = desk.confirm(login)
    assert credential.endpoint["project"] == expected
    assert desk.simulator.rules() == []
    if account == "ada":
        names = {snapshot.name for snapshot in quota.fetch(credential.pk)}
        assert "sim-gemini" in names


@pytest.mark.parametrize(
    ("account", "code"),
    [("cleo", "project_required"), ("dan", "no_entitlement"), ("finn", "validation_required")],
)
def test_google_accounts_that_cannot_be_used_are_told_why(
    desk: Desk, account: str, code: str
) -> None:
    provider = desk.provider("google-gemini-cli", secret="operators-secret")
    login = desk.begin(provider, "browser")
    hand_in(desk, login, approve_in_browser(desk, login, account))
    assert (login.status, login.error_code) == ("error", code)
    assert words_for(login).advice
    assert not Credential.objects.exists()
