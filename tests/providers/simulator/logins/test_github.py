"""GitHub's device flow, and the Copilot that is behind it."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs

import pytest

from providers.simulator.logins.tokens import token_status
from tests.providers.simulator.logins.conftest import BASE, Reply, Vendors
from tests.providers.simulator.logins.device_client import DEVICE_GRANT

VSCODE = "Iv1.b507a08c87ecfe98"
OPENCODE = "Ov23li8tweQw6odWQebz"
EXPIRING = "Iv23liSimulatedExpiry"
START = "/github/login/device/code"
TOKEN = "/github/login/oauth/access_token"
EDITOR = {"editor_version": "vscode/1.107.0", "copilot_integration_id": "vscode-chat"}


def start(vendors: Vendors, client_id: str = VSCODE, scope: str = "read:user") -> dict[str, Any]:
    form = {"client_id": client_id, "scope": scope}
    answer: dict[str, Any] = vendors.form(START, form, accept="application/json").json()
    return answer


def poll(vendors: Vendors, started: dict[str, Any], client_id: str = VSCODE) -> Reply:
    form = {
        "client_id": client_id,
        "device_code": started["device_code"],
        "grant_type": DEVICE_GRANT,
    }
    return vendors.form(TOKEN, form, accept="application/json")


def sign_in(vendors: Vendors, account: str = "ada", client_id: str = VSCODE) -> dict[str, Any]:
    started = start(vendors, client_id)
    vendors.approve(started["user_code"], account)
    vendors.wait(5)
    answer: dict[str, Any] = poll(vendors, started, client_id).json()
    assert "access_token" in answer, answer
    return answer


def test_pending_slow_down_and_token_are_all_200(vendors: Vendors) -> None:
    started = start(vendors)
    assert started["verification_uri"] == f"{BASE}/github/login/device"
    assert "verification_uri_complete" not in started
    vendors.wait(5)
    pending = poll(vendors, started)
    assert (pending.status, pending.error) == (200, "authorization_pending")
    slow = poll(vendors, started)
    assert (slow.status, slow.error, slow.json()["interval"]) == (200, "slow_down", 10)
    vendors.approve(started["user_code"])
    # GitHub looks at the pace before it looks at the decision.
    vendors.wait(5)
    assert poll(vendors, started).json()["interval"] == 15
    vendors.wait(15)
    answer = poll(vendors, started).json()
    assert answer["access_token"].startswith("ghu_")
    assert answer["token_type"] == "bearer"
    assert answer["scope"] == ""
    assert "expires_in" not in answer
    assert "refresh_token" not in answer
    assert vendors.rules() == ["interval", "interval"]


def test_answers_are_urlencoded_unless_json_is_asked_for(vendors: Vendors) -> None:
    reply = vendors.form(START, {"client_id": VSCODE})
    assert reply.headers["content-type"].startswith("application/x-www-form-urlencoded")
    assert parse_qs(reply.text)["interval"] == ["5"]


def test_denied_then_expired(vendors: Vendors) -> None:
    denied, expired = start(vendors), start(vendors)
    vendors.deny(denied["user_code"])
    vendors.wait(5)
    assert poll(vendors, denied).error == "access_denied"
    vendors.wait(900)
    assert poll(vendors, expired).error == "expired_token"


def test_a_device_code_works_once(vendors: Vendors) -> None:
    started = start(vendors)
    vendors.approve(started["user_code"])
    vendors.wait(5)
    poll(vendors, started)
    vendors.wait(5)
    assert poll(vendors, started).error == "incorrect_device_code"


@pytest.mark.parametrize(
    ("client_id", "error"),
    [
        ("Iv1.0000000000000000", "incorrect_client_credentials"),
        ("Iv23liSimulatedBrowser", "device_flow_disabled"),
    ],
)
def test_wrong_client(vendors: Vendors, client_id: str, error: str) -> None:
    reply = vendors.form(START, {"client_id": client_id}, accept="application/json")
    assert (reply.status, reply.error) == (200, error)
    assert vendors.rules() == ["client_id"]


def refresh(vendors: Vendors, token: str) -> Reply:
    form = {"client_id": EXPIRING, "grant_type": "refresh_token", "refresh_token": token}
    return vendors.form(TOKEN, form, accept="application/json")


def test_expiring_tokens_are_replaced_in_pairs(vendors: Vendors) -> None:
    old = sign_in(vendors, client_id=EXPIRING)
    assert (old["expires_in"], old["refresh_token_expires_in"]) == (28800, 15897600)
    new = refresh(vendors, old["refresh_token"]).json()
    # Both old ones stop at once.
    assert token_status(vendors.world, "github", old["access_token"]) == "revoked"
    assert token_status(vendors.world, "github", new["access_token"]) == "valid"
    reused = refresh(vendors, old["refresh_token"])
    assert (reused.status, reused.error) == (200, "bad_refresh_token")
    assert token_status(vendors.world, "github", new["access_token"]) == "revoked"
    assert refresh(vendors, new["refresh_token"]).error == "bad_refresh_token"
    assert vendors.rules() == ["refresh_reuse"]


def test_an_expired_refresh_token(vendors: Vendors) -> None:
    old = sign_in(vendors, client_id=EXPIRING)
    vendors.wait(15897600)
    assert refresh(vendors, old["refresh_token"]).error == "bad_refresh_token"
    assert vendors.rules() == []


def test_the_eleventh_sign_in_pushes_out_the_first(vendors: Vendors) -> None:
    signed = [sign_in(vendors, client_id=OPENCODE)["access_token"] for _ in range(11)]
    status = [token_status(vendors.world, "github", token) for token in signed]
    assert status == ["revoked", *["valid"] * 10]


def test_user(vendors: Vendors) -> None:
    token = sign_in(vendors, "ben")["access_token"]
    for scheme in ("Bearer", "token"):
        answer = vendors.get("/github-api/user", authorization=f"{scheme} {token}").json()
        assert (answer["login"], answer["email"]) == ("ben", None)
        assert isinstance(answer["id"], int)
    assert vendors.get("/github-api/user", authorization="Bearer ghu_none").status == 401
    assert vendors.get("/github-api/user", user_agent="").status == 403


# --- Copilot -----------------------------------------------------------------------------------


def exchange(vendors: Vendors, github: str) -> Reply:
    path = "/github-api/copilot_internal/v2/token"
    return vendors.get(path, authorization=f"Bearer {github}")


def copilot(vendors: Vendors, account: str = "ada") -> str:
    token: str = exchange(vendors, sign_in(vendors, account)["access_token"]).json()["token"]
    return token


def test_exchange(vendors: Vendors) -> None:
    answer = exchange(vendors, sign_in(vendors)["access_token"]).json()
    now = int(vendors.world.now().timestamp())
    assert answer["expires_at"] == now + 1800
    assert answer["refresh_in"] == 1500
    fields = dict(pair.split("=", 1) for pair in answer["token"].split(";"))
    assert int(fields["exp"]) == answer["expires_at"]
    assert fields["proxy-ep"].startswith("proxy.")
    assert answer["endpoints"]["api"] == f"{BASE}/copilot"
    assert token_status(vendors.world, "copilot", answer["token"]) == "valid"
    vendors.wait(1800)
    assert token_status(vendors.world, "copilot", answer["token"]) == "expired"


def test_exchange_refuses(vendors: Vendors) -> None:
    without_seat = exchange(vendors, sign_in(vendors, "dan")["access_token"])
    assert without_seat.status == 403
    assert "dan" in without_seat.json()["error_details"]["message"]
    foreign = exchange(vendors, sign_in(vendors, client_id=OPENCODE)["access_token"])
    assert foreign.status == 404
    assert exchange(vendors, "ghu_unknown").status == 401


def test_a_revoked_sign_in_gets_no_more_tokens(vendors: Vendors) -> None:
    github = sign_in(vendors)["access_token"]
    vendors.post("/control/logins/revoke", {"vendor": "github", "account": "ada"})
    assert exchange(vendors, github).status == 401


def test_models_are_switched_on_per_account(vendors: Vendors) -> None:
    token = copilot(vendors)
    headers = {"authorization": f"Bearer {token}", **EDITOR}

    def policy(name: str) -> str:
        listed = vendors.get("/copilot/models", **headers).json()["data"]
        found = next(model for model in listed if model["id"] == name)
        return str(found.get("policy", {}).get("state", "none"))

    assert (policy("sim-gpt"), policy("sim-claude")) == ("none", "disabled")
    body = {"state": "enabled"}
    assert vendors.post("/copilot/models/sim-claude/policy", body, **headers).status == 200
    assert policy("sim-claude") == "enabled"
    missing = vendors.post("/copilot/models/nothing/policy", body, **headers)
    assert missing.status == 404
    company = {"authorization": f"Bearer {copilot(vendors, 'cleo')}", **EDITOR}
    assert vendors.post("/copilot/models/sim-claude/policy", body, **company).status == 403


def test_the_api_knows_its_editors(vendors: Vendors) -> None:
    github = sign_in(vendors)["access_token"]
    bearer = f"Bearer {exchange(vendors, github).json()['token']}"
    without = vendors.get("/copilot/models", authorization=bearer)
    assert without.status == 400
    assert "Editor-Version" in without.text
    strange = EDITOR | {"copilot_integration_id": "my-editor"}
    assert vendors.get("/copilot/models", authorization=bearer, **strange).status == 403
    direct = EDITOR | {"copilot_integration_id": "copilot-developer-cli"}
    # The command line sends GitHub's own token, and only that.
    assert vendors.get("/copilot/models", authorization=bearer, **direct).status == 403
    github_bearer = f"Bearer {github}"
    assert vendors.get("/copilot/models", authorization=github_bearer, **direct).status == 200
    assert vendors.get("/copilot/models", authorization=github_bearer, **EDITOR).status == 403
    vendors.wait(1800)
    assert vendors.get("/copilot/models", authorization=bearer, **EDITOR).status == 401
    query = {"query": "{ viewer { login copilotEndpoints { api } } }"}
    found = vendors.post("/github-api/graphql", query, authorization=github_bearer).json()
    assert found["data"]["viewer"]["copilotEndpoints"]["api"] == f"{BASE}/copilot"


def quota(vendors: Vendors, account: str) -> Reply:
    token = sign_in(vendors, account)["access_token"]
    return vendors.get("/github-api/copilot_internal/user", authorization=f"Bearer {token}")


def test_quotas_in_all_their_shapes(vendors: Vendors) -> None:
    pro = quota(vendors, "ada").json()
    premium = pro["quota_snapshots"]["premium_interactions"]
    assert (premium["entitlement"], premium["remaining"]) == (1500, 469.5)
    assert pro["quota_reset_date_utc"] == "2026-12-01T00:00:00.000Z"
    assert pro["token_based_billing"] is True
    free = quota(vendors, "ben").json()
    assert free["monthly_quotas"]["chat"] > free["limited_user_quotas"]["chat"]
    assert free["limited_user_reset_date"] == "2026-12-01"
    assert quota(vendors, "cleo").json()["quota_snapshots"] == {}
    used_up = quota(vendors, "eve").json()["quota_snapshots"]["premium_interactions"]
    assert (used_up["remaining"], used_up["has_quota"]) == (-1, False)
    assert quota(vendors, "dan").status == 403
