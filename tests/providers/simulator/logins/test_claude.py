"""Claude: a page that shows code#state, tokens that work once, and a usage that may not be asked
often."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlencode

import pytest

from providers.simulator.logins.browser import challenge_of
from providers.simulator.logins.tokens import token_status
from tests.providers.simulator.logins.conftest import BASE, Reply, Vendors

CLIENT = "9d1c250a-e61b-44d9-88ed-5944d1962f5e"
TOKEN = "/claude/v1/oauth/token"
VERIFIER = "verifier-of-at-least-forty-three-characters"
REDIRECT = "https://platform.claude.com/oauth/code/callback"
AUTHORIZE = {
    "code": "true",
    "client_id": CLIENT,
    "response_type": "code",
    "redirect_uri": REDIRECT,
    "scope": "user:inference user:profile",
    "code_challenge": challenge_of(VERIFIER),
    "code_challenge_method": "S256",
    "state": "a-state-of-its-own",
}
BETA = {"anthropic_beta": "oauth-2025-04-20"}


def paste(vendors: Vendors, account: str = "ada", **changed: str) -> tuple[str, str]:
    """What the person copies from the page: code and state."""
    redirect = vendors.authorize("/claude/oauth/authorize", AUTHORIZE | changed, account)
    assert redirect.headers["location"].startswith(f"{BASE}/claude/oauth/code/callback?")
    page = vendors.get(redirect.headers["location"])
    found = re.search(r'id="code"[^>]* value="([^"]+)#([^"]+)"', page.text)
    assert found, page.text
    return found[1], found[2]


def exchange(vendors: Vendors, code: str, **changed: str) -> Reply:
    body = {
        "grant_type": "authorization_code",
        "client_id": CLIENT,
        "code": code,
        "redirect_uri": REDIRECT,
        "code_verifier": VERIFIER,
        "state": AUTHORIZE["state"],
    }
    return vendors.post(TOKEN, body | changed)


def sign_in(vendors: Vendors, account: str = "ada", **changed: str) -> dict[str, Any]:
    code, _ = paste(vendors, account, **changed)
    reply = exchange(vendors, code)
    assert reply.status == 200, reply.text
    answer: dict[str, Any] = reply.json()
    return answer


def test_a_pasted_code_becomes_tokens(vendors: Vendors) -> None:
    code, state = paste(vendors)
    assert state == AUTHORIZE["state"]
    answer = exchange(vendors, code).json()
    assert answer["access_token"].startswith("sk-ant-oat01-")
    assert answer["refresh_token"].startswith("sk-ant-ort01-")
    assert (answer["expires_in"], answer["token_type"]) == (28_800, "Bearer")
    assert answer["account"]["email_address"] == "ada@example.test"
    assert vendors.rules() == []


def test_a_code_works_once_and_not_for_ever(vendors: Vendors) -> None:
    code, _ = paste(vendors)
    token = exchange(vendors, code).json()["access_token"]
    assert exchange(vendors, code).error == "invalid_grant"
    assert token_status(vendors.world, "claude", token) == "revoked"
    late, _ = paste(vendors)
    vendors.wait(600)
    assert exchange(vendors, late).error == "invalid_grant"
    assert vendors.rules() == ["code", "code"]


@pytest.mark.parametrize(
    ("changed", "error", "rule"),
    [
        ({"code_verifier": "another" * 8}, "invalid_grant", "pkce"),
        ({"state": "another"}, "invalid_grant", "state"),
        ({"redirect_uri": "http://localhost:1/callback"}, "invalid_grant", "redirect_uri"),
        ({"client_id": "another"}, "invalid_client", "client_id"),
        ({"state": ""}, "invalid_request", "field"),
        ({"grant_type": "password"}, "unsupported_grant_type", "grant_type"),
    ],
)
def test_exchange_refuses(vendors: Vendors, changed: dict[str, str], error: str, rule: str) -> None:
    code, _ = paste(vendors)
    assert exchange(vendors, code, **changed).error == error
    assert vendors.rules() == [rule]


@pytest.mark.parametrize(
    ("changed", "rule"),
    [
        ({"client_id": "another"}, "client_id"),
        ({"redirect_uri": "https://evil.test/callback"}, "redirect_uri"),
        ({"redirect_uri": "http://localhost.evil.test/callback"}, "redirect_uri"),
        ({"state": ""}, "state"),
        ({"code_challenge_method": "plain"}, "pkce"),
        ({"code_challenge": "short"}, "pkce"),
        ({"response_type": "token"}, "response_type"),
    ],
)
def test_the_page_refuses(vendors: Vendors, changed: dict[str, str], rule: str) -> None:
    page = vendors.get(f"/claude/oauth/authorize?{urlencode(AUTHORIZE | changed)}")
    assert page.status == 400
    assert "location" not in page.headers
    assert vendors.rules() == [rule]


def test_a_form_is_refused(vendors: Vendors) -> None:
    code, _ = paste(vendors)
    form = {"grant_type": "authorization_code", "client_id": CLIENT, "code": code}
    assert vendors.form(TOKEN, form).status == 400
    assert vendors.rules() == ["content_type"]


def test_loopback_is_a_real_redirect(vendors: Vendors) -> None:
    here = {"redirect_uri": "http://localhost:54545/callback"}
    redirect = vendors.authorize("/claude/oauth/authorize", AUTHORIZE | here)
    assert redirect.headers["location"].startswith("http://localhost:54545/callback?code=")
    assert exchange(vendors, redirect.query["code"], **here).status == 200


def test_reuse_of_a_refresh_token_kills_the_family(vendors: Vendors) -> None:
    def refresh(token: str) -> Reply:
        body = {"grant_type": "refresh_token", "client_id": CLIENT, "refresh_token": token}
        return vendors.post(TOKEN, body)

    old = sign_in(vendors)
    new = refresh(old["refresh_token"]).json()
    assert new["scope"] == old["scope"]
    reused = refresh(old["refresh_token"])
    assert (reused.status, reused.error) == (400, "invalid_grant")
    assert refresh(new["refresh_token"]).error == "invalid_grant"
    assert token_status(vendors.world, "claude", new["access_token"]) == "revoked"
    assert vendors.rules() == ["refresh_reuse"]


def api(vendors: Vendors, name: str, token: str, **headers: str) -> Reply:
    headers = headers or BETA
    return vendors.get(f"/claude/api/oauth/{name}", authorization=f"Bearer {token}", **headers)


def test_profile_and_usage(vendors: Vendors) -> None:
    token = sign_in(vendors)["access_token"]
    assert api(vendors, "profile", token).json()["account"]["email"] == "ada@example.test"
    answer = api(vendors, "usage", token).json()
    assert answer["five_hour"]["utilization"] == 22.0
    assert answer["five_hour"]["resets_at"] == "2026-11-21T13:00:00.364238+00:00"
    assert answer["seven_day"]["resets_at"] is None
    used_up = api(vendors, "usage", sign_in(vendors, "eve")["access_token"]).json()
    assert used_up["five_hour"]["utilization"] == 100.0


def test_usage_is_not_to_be_asked_often(vendors: Vendors) -> None:
    token = sign_in(vendors)["access_token"]
    assert [api(vendors, "usage", token).status for _ in range(3)] == [200, 200, 429]
    vendors.wait(60)
    refused = api(vendors, "usage", token)
    assert refused.headers["retry-after"] == "240"
    assert vendors.rules() == ["usage_interval", "usage_interval"]
    vendors.wait(240)
    assert api(vendors, "usage", token).status == 200


def test_who_may_not_ask(vendors: Vendors) -> None:
    token = sign_in(vendors)["access_token"]
    assert api(vendors, "profile", token, anthropic_version="2023-06-01").status == 401
    narrow = sign_in(vendors, scope="user:inference")["access_token"]
    assert api(vendors, "usage", narrow).status == 403
    vendors.wait(28_800)
    assert api(vendors, "profile", token).status == 401
