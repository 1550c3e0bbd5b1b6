"""Kiro's social device flow, its refresh, and the limits of each kind of sign-in."""

from __future__ import annotations

from typing import Any

import pytest

from providers.simulator.logins.accounts import ACCOUNTS
from providers.simulator.logins.kiro import profile_arn
from providers.simulator.logins.tokens import token_status
from tests.providers.simulator.logins.conftest import Reply, Vendors
from tests.providers.simulator.logins.device_client import DEVICE_GRANT

START = "/kiro/oauth/device/authorization"
POLL = "/kiro/oauth/device/poll"
LIMITS = "/kiro/getUsageLimits?origin=AI_EDITOR&resourceType=AGENTIC_REQUEST"


def start(vendors: Vendors, provider: str = "Google") -> dict[str, Any]:
    reply = vendors.post(START, {"clientId": "kiro-cli", "loginProvider": provider})
    assert reply.status == 200, reply.text
    answer: dict[str, Any] = reply.json()
    return answer


def poll(vendors: Vendors, started: dict[str, Any]) -> Reply:
    return vendors.post(POLL, {"clientId": "kiro-cli", "deviceCode": started["deviceCode"]})


def sign_in(vendors: Vendors, account: str = "ada", provider: str = "Google") -> dict[str, Any]:
    started = start(vendors, provider)
    vendors.approve(started["userCode"], account)
    vendors.wait(5)
    answer: dict[str, Any] = poll(vendors, started).json()
    return answer


def test_milliseconds_and_pending_under_200(vendors: Vendors) -> None:
    started = start(vendors)
    assert started["intervalInMilliseconds"] == 5000
    assert started["expiresInMilliseconds"] == 300_000
    vendors.wait(5)
    pending = poll(vendors, started)
    assert (pending.status, pending.json()) == (200, {"status": "authorization_pending"})
    assert poll(vendors, started).json() == {"status": "slow_down"}
    assert vendors.rules() == ["interval"]
    vendors.approve(started["userCode"])
    vendors.wait(10)
    answer = poll(vendors, started).json()
    assert answer["identityProvider"] == "Google"
    assert answer["profileArn"] == profile_arn(ACCOUNTS["ada"])
    assert len(answer["refreshToken"]) > 100
    vendors.wait(10)
    assert poll(vendors, started).status == 400


def test_denied_and_expired_are_words(vendors: Vendors) -> None:
    denied, expired = start(vendors), start(vendors)
    vendors.deny(denied["userCode"])
    vendors.wait(5)
    assert "denied" in poll(vendors, denied).json()["status"]
    vendors.wait(300)
    assert "expired" in poll(vendors, expired).json()["status"]


@pytest.mark.parametrize(
    ("body", "rule"),
    [
        ({"clientId": "somebody", "loginProvider": "Google"}, "client_id"),
        ({"clientId": "kiro-cli", "loginProvider": "Myspace"}, "login_provider"),
        ({"loginProvider": "Google"}, "field"),
    ],
)
def test_start_refuses(vendors: Vendors, body: dict[str, str], rule: str) -> None:
    assert vendors.post(START, body).status == 400
    assert vendors.rules() == [rule]


def test_refresh_keeps_the_refresh_token(vendors: Vendors) -> None:
    signed = sign_in(vendors)
    body = {"refreshToken": signed["refreshToken"]}
    for _ in range(2):
        answer = vendors.post("/kiro/refreshToken", body).json()
        assert "refreshToken" not in answer
        assert token_status(vendors.world, "kiro", answer["accessToken"]) == "valid"
    vendors.post("/control/logins/revoke", {"vendor": "kiro", "account": "ada"})
    dead = vendors.post("/kiro/refreshToken", body)
    assert dead.status == 401
    assert "Invalid refresh token" in dead.text


def limits(vendors: Vendors, token: str, more: str = "", **headers: str) -> Reply:
    return vendors.get(LIMITS + more, authorization=f"Bearer {token}", **headers)


def test_limits(vendors: Vendors) -> None:
    token = sign_in(vendors)["accessToken"]
    answer = limits(vendors, token, "&isEmailRequired=true").json()
    assert answer["userInfo"]["email"] == "ada@example.test"
    (credit,) = answer["usageBreakdownList"]
    assert credit["usageLimitWithPrecision"] == 1000.0
    assert credit["bonuses"][0]["status"] == "ACTIVE"
    # 1 December, as seconds in a float.
    assert answer["nextDateReset"] == 1_796_083_200.0
    assert isinstance(answer["nextDateReset"], float)


def test_an_expired_bearer_is_a_403(vendors: Vendors) -> None:
    token = sign_in(vendors)["accessToken"]
    vendors.wait(3600)
    reply = limits(vendors, token)
    assert reply.status == 403
    assert reply.json()["reason"] is None
    assert "bearer token" in reply.json()["message"]


def test_plans_without_limits_to_show(vendors: Vendors) -> None:
    suspended = limits(vendors, sign_in(vendors, "finn")["accessToken"])
    assert suspended.status == 403
    assert suspended.json()["reason"] == "TEMPORARILY_SUSPENDED"
    assert limits(vendors, sign_in(vendors, "dan")["accessToken"]).status == 403
    used_up = limits(vendors, sign_in(vendors, "eve")["accessToken"]).json()
    (credit,) = used_up["usageBreakdownList"]
    assert credit["currentUsage"] == credit["usageLimit"]


def aws(vendors: Vendors, start_url: str, account: str) -> str:
    found = vendors.post(
        "/aws-oidc/client/register", {"clientName": "Test", "clientType": "public"}
    ).json()
    client = {name: found[name] for name in ("clientId", "clientSecret")}
    started = vendors.post(
        "/aws-oidc/device_authorization", {**client, "startUrl": start_url}
    ).json()
    vendors.approve(started["userCode"], account)
    vendors.wait(1)
    body = {**client, "grantType": DEVICE_GRANT, "deviceCode": started["deviceCode"]}
    token: str = vendors.post("/aws-oidc/token", body).json()["accessToken"]
    return token


def profiles(vendors: Vendors, token: str) -> list[dict[str, str]]:
    reply = vendors.post("/kiro/ListAvailableProfiles", {}, authorization=f"Bearer {token}")
    found: list[dict[str, str]] = reply.json()["profiles"]
    return found


def test_a_builder_id_has_no_profile(vendors: Vendors) -> None:
    token = aws(vendors, "https://view.awsapps.com/start", "ada")
    assert profiles(vendors, token) == []
    assert limits(vendors, token).status == 200
    arn = profile_arn(ACCOUNTS["ada"])
    assert limits(vendors, token, f"&profileArn={arn}").status == 403
    assert vendors.rules() == ["profile_arn"]


def test_a_company_needs_its_profile(vendors: Vendors) -> None:
    token = aws(vendors, "https://acme.awsapps.com/start", "cleo")
    (profile,) = profiles(vendors, token)
    assert limits(vendors, token).status == 400
    assert limits(vendors, token, f"&profileArn={profile['arn']}").status == 200
    assert limits(vendors, token, "&profileArn=arn:aws:codewhisperer:x").status == 403


def test_api_keys(vendors: Vendors) -> None:
    key = {"tokentype": "API_KEY"}
    assert limits(vendors, "kiro-key", **key).status == 200
    assert limits(vendors, "wrong-key", **key).status == 403
    assert limits(vendors, "kiro-key").status == 403
