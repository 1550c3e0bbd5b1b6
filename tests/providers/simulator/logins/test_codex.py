"""Codex: pending is a refusal, the interval a text, and every refresh token works once."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from providers.simulator.logins.browser import challenge_of
from providers.simulator.logins.tokens import token_status
from tests.providers.simulator.logins.conftest import Reply, Vendors

CLIENT = "app_EMoamEEZ73f0CkXaXp7hrann"
START = "/codex/api/accounts/deviceauth/usercode"
POLL = "/codex/api/accounts/deviceauth/token"
TOKEN = "/codex/oauth/token"
DEVICE_REDIRECT = "https://auth.openai.com/deviceauth/callback"
VERIFIER = "v" * 64
AUTHORIZE = {
    "response_type": "code",
    "client_id": CLIENT,
    "redirect_uri": "http://localhost:1455/auth/callback",
    "scope": "openid profile email offline_access",
    "code_challenge": challenge_of(VERIFIER),
    "code_challenge_method": "S256",
    "state": "state-1",
}


def start(vendors: Vendors) -> dict[str, Any]:
    answer: dict[str, Any] = vendors.post(START, {"client_id": CLIENT}).json()
    return answer


def poll(vendors: Vendors, started: dict[str, Any]) -> Reply:
    body = {name: started[name] for name in ("device_auth_id", "user_code")}
    return vendors.post(POLL, body)


def approved(vendors: Vendors, account: str = "ada") -> dict[str, str]:
    started = start(vendors)
    vendors.approve(started["user_code"], account)
    vendors.wait(5)
    answer: dict[str, str] = poll(vendors, started).json()
    return answer


def exchange(vendors: Vendors, code: str, verifier: str, redirect: str, **more: str) -> Reply:
    form = {
        "grant_type": "authorization_code",
        "client_id": CLIENT,
        "code": code,
        "code_verifier": verifier,
        "redirect_uri": redirect,
    }
    return vendors.form(TOKEN, form | more)


def sign_in(vendors: Vendors, account: str = "ada") -> dict[str, Any]:
    answer = approved(vendors, account)
    code, verifier = answer["authorization_code"], answer["code_verifier"]
    assert challenge_of(verifier) == answer["code_challenge"]
    reply = exchange(vendors, code, verifier, DEVICE_REDIRECT)
    assert reply.status == 200, reply.text
    found: dict[str, Any] = reply.json()
    return found


def claims(token: str) -> dict[str, Any]:
    part = token.split(".")[1]
    found: dict[str, Any] = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return found


def test_pending_is_403_or_404(vendors: Vendors) -> None:
    started = start(vendors)
    assert started["interval"] == "5"
    assert len(started["user_code"]) == 10
    statuses = []
    for _ in range(3):
        vendors.wait(5)
        reply = poll(vendors, started)
        assert reply.error == "deviceauth_authorization_pending"
        statuses.append(reply.status)
    assert statuses == [403, 404, 403]
    assert poll(vendors, started).error == "slow_down"
    assert vendors.rules() == ["interval"]
    vendors.approve(started["user_code"])
    vendors.wait(10)
    assert poll(vendors, started).status == 200
    vendors.wait(10)
    assert poll(vendors, started).status == 400


def test_denied_and_expired(vendors: Vendors) -> None:
    denied, expired = start(vendors), start(vendors)
    vendors.deny(denied["user_code"])
    vendors.wait(5)
    assert poll(vendors, denied).error == "access_denied"
    vendors.wait(900)
    assert poll(vendors, expired).error == "expired_token"


def test_the_user_code_is_part_of_the_poll(vendors: Vendors) -> None:
    started = start(vendors)
    vendors.approve(started["user_code"])
    vendors.wait(5)
    assert poll(vendors, started | {"user_code": "BBBB-BBBBB"}).status == 400
    assert vendors.rules() == ["device_code"]
    assert poll(vendors, started).status == 200


def test_claims_name_the_account(vendors: Vendors) -> None:
    signed = sign_in(vendors, "cleo")
    now = int(vendors.world.now().timestamp())
    access, identity = claims(signed["access_token"]), claims(signed["id_token"])
    assert access["exp"] == now + 864_000
    for found in (access, identity):
        auth = found["https://api.openai.com/auth"]
        assert auth["chatgpt_plan_type"] == "business"
        assert auth["chatgpt_account_id"]
    assert identity["email"] == "cleo@example.test"
    assert token_status(vendors.world, "codex", signed["access_token"]) == "valid"
    vendors.wait(864_000)
    assert token_status(vendors.world, "codex", signed["access_token"]) == "expired"


@pytest.mark.parametrize("kind", ["form", "json"])
def test_reuse_of_a_refresh_token_kills_the_family(vendors: Vendors, kind: str) -> None:
    signed = sign_in(vendors)

    def refresh(token: str) -> Reply:
        body = {"grant_type": "refresh_token", "client_id": CLIENT, "refresh_token": token}
        return vendors.form(TOKEN, body) if kind == "form" else vendors.post(TOKEN, body)

    fresh = refresh(signed["refresh_token"]).json()
    reused = refresh(signed["refresh_token"])
    assert (reused.status, reused.error) == (401, "refresh_token_reused")
    assert refresh(fresh["refresh_token"]).error == "refresh_token_invalidated"
    assert token_status(vendors.world, "codex", fresh["access_token"]) == "revoked"
    assert vendors.rules() == ["refresh_reuse"]


def test_in_the_browser(vendors: Vendors) -> None:
    redirect = vendors.authorize("/codex/oauth/authorize", AUTHORIZE, "ben")
    assert redirect.status == 303
    assert redirect.headers["location"].startswith("http://localhost:1455/auth/callback?code=")
    assert redirect.query["state"] == "state-1"
    code = redirect.query["code"]
    reply = exchange(vendors, code, VERIFIER, AUTHORIZE["redirect_uri"])
    assert claims(reply.json()["id_token"])["email"] == "ben@example.test"
    # The second time also ends what the first gave.
    again = exchange(vendors, code, VERIFIER, AUTHORIZE["redirect_uri"])
    assert again.error == "invalid_grant"
    assert token_status(vendors.world, "codex", reply.json()["access_token"]) == "revoked"


@pytest.mark.parametrize(
    ("verifier", "redirect", "client", "error", "rule"),
    [
        ("w" * 64, AUTHORIZE["redirect_uri"], CLIENT, "invalid_grant", "pkce"),
        ("short", AUTHORIZE["redirect_uri"], CLIENT, "invalid_grant", "pkce"),
        (VERIFIER, DEVICE_REDIRECT, CLIENT, "invalid_grant", "redirect_uri"),
        (VERIFIER, AUTHORIZE["redirect_uri"], "app_other", "invalid_client", "client_id"),
    ],
)
def test_exchange_refuses(
    vendors: Vendors, verifier: str, redirect: str, client: str, error: str, rule: str
) -> None:
    code = vendors.authorize("/codex/oauth/authorize", AUTHORIZE).query["code"]
    assert exchange(vendors, code, verifier, redirect, client_id=client).error == error
    assert vendors.rules() == [rule]


def usage(vendors: Vendors, signed: dict[str, Any], path: str = "/codex/wham/usage") -> Reply:
    auth = claims(signed["access_token"])["https://api.openai.com/auth"]
    return vendors.get(
        path,
        authorization=f"Bearer {signed['access_token']}",
        chatgpt_account_id=auth["chatgpt_account_id"],
    )


def test_usage(vendors: Vendors) -> None:
    signed = sign_in(vendors)
    for path in ("/codex/wham/usage", "/codex/backend-api/wham/usage"):
        answer = usage(vendors, signed, path).json()
        window = answer["rate_limit"]["primary_window"]
        assert window["limit_window_seconds"] == 18_000
        now = int(vendors.world.now().timestamp())
        assert window["reset_at"] == now + window["reset_after_seconds"]
    assert usage(vendors, sign_in(vendors, "eve")).json()["rate_limit"]["limit_reached"] is True
    foreign = vendors.get(
        "/codex/wham/usage",
        authorization=f"Bearer {signed['access_token']}",
        chatgpt_account_id="another",
    )
    assert foreign.status == 401
    vendors.wait(864_000)
    assert usage(vendors, signed).status == 401


def test_the_wire_refuses_an_expired_token(vendors: Vendors) -> None:
    """What a login issued is honoured where models answer."""
    signed = sign_in(vendors)
    auth = claims(signed["access_token"])["https://api.openai.com/auth"]
    headers = {
        "authorization": f"Bearer {signed['access_token']}",
        "chatgpt_account_id": auth["chatgpt_account_id"],
        "originator": "tests",
    }
    path = "/codex/codex/models?client_version=1.0.0"
    assert vendors.get(path, **headers).status == 200
    vendors.form("/codex/oauth/revoke", {"token": signed["refresh_token"]})
    assert vendors.get(path, **headers).status == 401
