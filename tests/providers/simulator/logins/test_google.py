"""Google's installed-app flow, and Cloud Code behind it."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlencode

import pytest

from providers.simulator.logins.browser import challenge_of
from providers.simulator.logins.tokens import token_status
from tests.providers.simulator.logins.conftest import BASE, Reply, Vendors

GEMINI = "681255809395-oo8ft2oprdrnp9e3aqf6av3hmdib135j.apps.googleusercontent.com"
ANTIGRAVITY = "1071006060591-tmhssin2h21lcre235vtolojh4g403ep.apps.googleusercontent.com"
SCOPE = (
    "https://www.googleapis.com/auth/cloud-platform "
    "https://www.googleapis.com/auth/userinfo.email "
    "https://www.googleapis.com/auth/userinfo.profile"
)
PAGE = "/google/o/oauth2/v2/auth"
VERIFIER = "g" * 50
AUTHORIZE = {
    "client_id": GEMINI,
    "redirect_uri": "https://codeassist.google.com/authcode",
    "response_type": "code",
    "scope": SCOPE,
    "access_type": "offline",
    "prompt": "consent",
    "state": "state-1",
    "code_challenge": challenge_of(VERIFIER),
    "code_challenge_method": "S256",
}


def exchange(vendors: Vendors, code: str, **changed: str) -> Reply:
    form = {
        "grant_type": "authorization_code",
        "client_id": GEMINI,
        "client_secret": "given-by-the-operator",
        "code": code,
        "redirect_uri": AUTHORIZE["redirect_uri"],
        "code_verifier": VERIFIER,
    }
    return vendors.form("/google/token", form | changed)


def sign_in(vendors: Vendors, account: str = "ada", **changed: str) -> dict[str, Any]:
    redirect = vendors.authorize(PAGE, AUTHORIZE | changed, account)
    reply = exchange(vendors, redirect.query["code"])
    assert reply.status == 200, reply.text
    answer: dict[str, Any] = reply.json()
    return answer


def test_the_page_shows_a_code(vendors: Vendors) -> None:
    redirect = vendors.authorize(PAGE, AUTHORIZE)
    assert redirect.headers["location"].startswith(f"{BASE}/google/authcode?")
    page = vendors.get(redirect.headers["location"])
    shown = re.search(r'id="code"[^>]* value="([^"]+)"', page.text)
    assert shown
    answer = exchange(vendors, shown[1]).json()
    assert answer["access_token"].startswith("ya29.")
    assert (answer["expires_in"], answer["scope"]) == (3599, SCOPE)
    who = vendors.get(
        "/google/oauth2/v2/userinfo", authorization=f"Bearer {answer['access_token']}"
    )
    assert who.json()["email"] == "ada@example.test"
    assert vendors.rules() == []


def test_antigravity_goes_to_loopback_without_pkce(vendors: Vendors) -> None:
    redirect_uri = "http://localhost:51121/oauth-callback"
    query = AUTHORIZE | {"client_id": ANTIGRAVITY, "redirect_uri": redirect_uri}
    query |= {"scope": SCOPE + " https://www.googleapis.com/auth/cclog"}
    for name in ("code_challenge", "code_challenge_method"):
        query.pop(name)
    redirect = vendors.authorize(PAGE, query)
    assert redirect.headers["location"].startswith(redirect_uri)
    form = {"client_id": ANTIGRAVITY, "redirect_uri": redirect_uri, "code_verifier": ""}
    assert exchange(vendors, redirect.query["code"], **form).status == 200


@pytest.mark.parametrize(
    ("changed", "rule"),
    [
        ({"client_id": "x.apps.googleusercontent.com"}, "client_id"),
        ({"redirect_uri": "https://evil.test/authcode"}, "redirect_uri"),
        ({"scope": "https://www.googleapis.com/auth/drive"}, "scope"),
        ({"scope": ""}, "scope"),
        ({"code_challenge": "", "code_challenge_method": ""}, "pkce"),
        ({"client_id": ANTIGRAVITY}, "redirect_uri"),
    ],
)
def test_the_page_refuses(vendors: Vendors, changed: dict[str, str], rule: str) -> None:
    query = {name: value for name, value in (AUTHORIZE | changed).items() if value}
    assert vendors.get(f"{PAGE}?{urlencode(query)}").status == 400
    assert vendors.rules() == [rule]


@pytest.mark.parametrize(
    ("changed", "status", "error", "rule"),
    [
        ({"client_secret": ""}, 401, "invalid_client", "client_secret"),
        ({"client_secret": "wrong"}, 401, "invalid_client", "client_secret"),
        ({"client_id": "another"}, 401, "invalid_client", "client_id"),
        ({"code_verifier": "h" * 50}, 400, "invalid_grant", "pkce"),
        (
            {"redirect_uri": "http://localhost:1/oauth2callback"},
            400,
            "redirect_uri_mismatch",
            "redirect_uri",
        ),
    ],
)
def test_exchange_refuses(
    vendors: Vendors, changed: dict[str, str], status: int, error: str, rule: str
) -> None:
    code = vendors.authorize(PAGE, AUTHORIZE).query["code"]
    reply = exchange(vendors, code, **changed)
    assert (reply.status, reply.error) == (status, error)
    assert vendors.rules() == [rule]


def test_a_code_works_once(vendors: Vendors) -> None:
    code = vendors.authorize(PAGE, AUTHORIZE).query["code"]
    assert exchange(vendors, code).status == 200
    assert exchange(vendors, code).error == "invalid_grant"


def test_denied(vendors: Vendors) -> None:
    url = f"{PAGE}?{urlencode(AUTHORIZE)}"
    login = vendors.get(url).text.partition('name="login" value="')[2].partition('"')[0]
    redirect = vendors.form(url, {"login": login, "decision": "deny"})
    assert redirect.query["error"] == "access_denied"
    assert "access_denied" in vendors.get(redirect.headers["location"]).text


def test_a_second_refresh_token_needs_consent_again(vendors: Vendors) -> None:
    assert "refresh_token" in sign_in(vendors, prompt="")
    assert "refresh_token" not in sign_in(vendors, prompt="")
    assert "refresh_token" in sign_in(vendors)
    assert "refresh_token" not in sign_in(vendors, access_type="online")


def test_refresh_keeps_the_refresh_token(vendors: Vendors) -> None:
    signed = sign_in(vendors)
    form = {
        "grant_type": "refresh_token",
        "client_id": GEMINI,
        "client_secret": "given-by-the-operator",
        "refresh_token": signed["refresh_token"],
    }
    vendors.wait(3599)
    assert token_status(vendors.world, "google", signed["access_token"]) == "expired"
    for _ in range(2):
        fresh = vendors.form("/google/token", form).json()
        assert "refresh_token" not in fresh
        assert token_status(vendors.world, "google", fresh["access_token"]) == "valid"
    assert vendors.form("/google/revoke", {"token": signed["refresh_token"]}).status == 200
    dead = vendors.form("/google/token", form)
    assert (dead.status, dead.error) == (400, "invalid_grant")
    assert vendors.form("/google/revoke", {"token": "nobody's"}).error == "invalid_token"


# --- Cloud Code --------------------------------------------------------------------------------

METADATA = {"ideType": "IDE_UNSPECIFIED", "pluginType": "GEMINI"}


class Cloud:
    def __init__(self, vendors: Vendors, account: str) -> None:
        self.vendors = vendors
        self.bearer = f"Bearer {sign_in(vendors, account)['access_token']}"

    def call(self, verb: str, **body: Any) -> Reply:
        path = f"/code-assist/v1internal:{verb}"
        return self.vendors.post(path, body, authorization=self.bearer)

    def operation(self, name: str) -> dict[str, Any]:
        path = f"/code-assist/v1internal/{name}"
        found: dict[str, Any] = self.vendors.get(path, authorization=self.bearer).json()
        return found


def test_who_is_set_up_already(vendors: Vendors) -> None:
    cloud = Cloud(vendors, "ada")
    answer = cloud.call("loadCodeAssist", metadata=METADATA).json()
    assert answer["currentTier"]["id"] == "standard-tier"
    project = answer["cloudaicompanionProject"]
    (first, *_) = cloud.call("retrieveUserQuota", project=project).json()["buckets"]
    assert (first["remainingFraction"], first["remainingAmount"]) == (0.74, "740")
    assert first["resetTime"] == "2026-11-22T07:00:00Z"
    summary = cloud.call("retrieveUserQuotaSummary", project=project).json()
    assert {bucket["window"] for bucket in summary["groups"][0]["buckets"]} == {"5h", "weekly"}
    assert cloud.call("retrieveUserQuota", project="another").status == 400


def test_the_free_tier_is_set_up_in_the_background(vendors: Vendors) -> None:
    cloud = Cloud(vendors, "ben")
    answer = cloud.call("loadCodeAssist", metadata=METADATA).json()
    assert answer["currentTier"] is None
    (default,) = [tier for tier in answer["allowedTiers"] if tier.get("isDefault")]
    assert default["id"] == "free-tier"
    own = cloud.call(
        "onboardUser", tierId="free-tier", metadata=METADATA, cloudaicompanionProject="my-project"
    )
    assert own.status == 412
    begun = cloud.call("onboardUser", tierId="free-tier", metadata=METADATA).json()
    assert begun["done"] is False
    vendors.wait(5)
    assert cloud.operation(begun["name"]) == {"name": begun["name"], "done": False}
    # Asking to be set up again meets the same operation.
    again = cloud.call("onboardUser", tierId="free-tier", metadata=METADATA).json()
    assert again["name"] == begun["name"]
    vendors.wait(5)
    done = cloud.operation(begun["name"])
    project = done["response"]["cloudaicompanionProject"]["id"]
    loaded = cloud.call("loadCodeAssist", metadata=METADATA).json()
    assert (loaded["cloudaicompanionProject"], loaded["currentTier"]["id"]) == (
        project,
        "free-tier",
    )
    assert vendors.rules() == ["project"]


def test_a_company_brings_its_project(vendors: Vendors) -> None:
    cloud = Cloud(vendors, "cleo")
    answer = cloud.call("loadCodeAssist", metadata=METADATA).json()
    assert [tier["reasonCode"] for tier in answer["ineligibleTiers"]] == ["DASHER_USER"]
    tier = {"tierId": "standard-tier", "metadata": METADATA}
    assert cloud.call("onboardUser", **tier).status == 400
    assert cloud.call("onboardUser", **tier, cloudaicompanionProject="123456").status == 400
    begun = cloud.call("onboardUser", **tier, cloudaicompanionProject="acme-project").json()
    vendors.wait(10)
    done = cloud.operation(begun["name"])
    assert done["response"]["cloudaicompanionProject"]["id"] == "acme-project"


@pytest.mark.parametrize(
    ("account", "code"), [("dan", "UNSUPPORTED_LOCATION"), ("finn", "VALIDATION_REQUIRED")]
)
def test_who_is_not_let_in(vendors: Vendors, account: str, code: str) -> None:
    cloud = Cloud(vendors, account)
    answer = cloud.call("loadCodeAssist", metadata=METADATA).json()
    assert answer["allowedTiers"] == []
    assert answer["ineligibleTiers"][0]["reasonCode"] == code
    assert cloud.call("onboardUser", tierId="free-tier", metadata=METADATA).status == 403
    assert cloud.call("retrieveUserQuota", project="x").status == 403


def test_who_may_not_ask(vendors: Vendors) -> None:
    cloud = Cloud(vendors, "ada")
    assert cloud.call("loadCodeAssist").status == 400
    narrow = sign_in(vendors, scope="https://www.googleapis.com/auth/userinfo.email")
    cloud.bearer = f"Bearer {narrow['access_token']}"
    assert cloud.call("loadCodeAssist", metadata=METADATA).status == 403
    cloud.bearer = "Bearer ya29.unknown"
    assert cloud.call("loadCodeAssist", metadata=METADATA).status == 401
    other = Cloud(vendors, "ben")
    assert "error" in other.operation("operations/of-somebody-else")


def test_antigravity_spells_it_otherwise(vendors: Vendors) -> None:
    cloud = Cloud(vendors, "ben")
    metadata = {"ide_type": "ANTIGRAVITY", "ide_version": "1", "ide_name": "antigravity"}
    begun = cloud.call("onboardUser", tier_id="free-tier", metadata=metadata)
    assert begun.json()["name"].startswith("operations/")
