"""The logins' part of the switchboard; and that a seed makes the same world again."""

from __future__ import annotations

from urllib.parse import urlencode

import pytest

from providers.simulator.logins.tokens import token_status
from tests.providers.simulator.logins import (
    test_claude,
    test_codex,
    test_github,
    test_google,
    test_kiro,
)
from tests.providers.simulator.logins.conftest import Vendors
from tests.providers.simulator.logins.test_standard import START, client_of, signed_in


def test_lists_who_waits_without_secrets(vendors: Vendors) -> None:
    started = client_of(vendors).start(START, "openid")
    test_github.start(vendors)
    reply = vendors.get("/control/logins?vendor=rfc8628")
    (waiting,) = reply.json()["pending"]
    assert waiting["user_code"] == started["user_code"]
    assert (waiting["client"], waiting["scope"]) == ("Simulated client", "openid")
    assert started["device_code"] not in reply.text
    assert len(vendors.get("/control/logins").json()["pending"]) == 2
    vendors.wait(3600)
    assert vendors.get("/control/logins").json()["pending"] == []


def test_an_authorize_page_is_approved_by_api(vendors: Vendors) -> None:
    vendors.get(f"/claude/oauth/authorize?{urlencode(test_claude.AUTHORIZE)}")
    (waiting,) = vendors.get("/control/logins").json()["pending"]
    body = {"login": waiting["login"], "account": "ben"}
    redirect = vendors.post("/control/logins/approve", body).json()["redirect"]
    code = redirect.partition("code=")[2].partition("&")[0]
    signed = test_claude.exchange(vendors, code).json()
    assert signed["account"]["email_address"] == "ben@example.test"


def test_revoking_ends_all_sign_ins_of_an_account(vendors: Vendors) -> None:
    signed = [signed_in(vendors)["access_token"] for _ in range(2)]
    other = signed_in(vendors, "ben")["access_token"]
    body = {"vendor": "rfc8628", "account": "ada"}
    assert vendors.post("/control/logins/revoke", body).json() == {"ended": 2}
    for token in signed:
        assert token_status(vendors.world, "rfc8628", token) == "revoked"
    assert token_status(vendors.world, "rfc8628", other) == "valid"
    shown = vendors.get("/control/logins?vendor=rfc8628").json()["sign_ins"]
    assert [entry["is_alive"] for entry in shown] == [False, False, True]
    assert shown[0]["reason"] == "revoked by its owner"


@pytest.mark.parametrize(
    ("path", "body", "said"),
    [
        ("approve", {}, "user_code"),
        ("approve", {"user_code": "NOPE"}, "No device"),
        ("approve", {"login": "nothing"}, "no sign-in"),
        ("deny", [], "object"),
        ("revoke", {"vendor": "github", "account": "zoe"}, "take one of ada"),
    ],
)
def test_mistakes_are_told(vendors: Vendors, path: str, body: object, said: str) -> None:
    reply = vendors.post(f"/control/logins/{path}", body)
    assert reply.status == 400
    assert said in reply.error


@pytest.mark.parametrize("answers", [["nonsense"], ["slow_down=soon"], "pending", [1]])
def test_a_script_is_checked(vendors: Vendors, answers: object) -> None:
    started = client_of(vendors).start(START)
    body = {"user_code": started["user_code"], "answers": answers}
    assert vendors.post("/control/logins/script", body).status == 400


def test_an_account_that_is_not_there_approves_nothing(vendors: Vendors) -> None:
    started = client_of(vendors).start(START)
    body = {"user_code": started["user_code"], "account": "zoe"}
    assert vendors.post("/control/logins/approve", body).status == 400
    assert len(vendors.get("/control/logins").json()["pending"]) == 1


def test_scheduled_outages_hit_logins_but_not_people(vendors: Vendors) -> None:
    client = client_of(vendors)
    started = client.start(START)
    fault = {"script": "status=503+after=7", "vendor": "rfc8628"}
    assert vendors.post("/control/faults", fault).status == 200
    reply = vendors.form(START, {"client_id": "simulated-client"})
    assert (reply.status, reply.headers["retry-after"]) == (503, "7")
    assert reply.error == "temporarily_unavailable"
    page = vendors.get(f"/rfc8628/device?user_code={started['user_code']}")
    assert page.status == 200


OUTAGES = {
    "/rfc8628/device_authorization": ("error", "temporarily_unavailable", "slow_down"),
    "/github-api/user": ("message", "Simulated status 503.", "Simulated status 429."),
    "/copilot/models": ("error.code", 503, 429),
    "/aws-oidc/us-east-1/token": ("error", "server_error", "slow_down"),
    "/kiro/refreshToken": ("__type", "InternalServerException", "ThrottlingException"),
    "/codex/oauth/token": ("error.type", "server_error", "rate_limit_exceeded"),
    "/claude/v1/oauth/token": ("error.type", "api_error", "rate_limit_error"),
    "/google/token": ("error", "internal_failure", "rate_limit_exceeded"),
    "/google/oauth2/v2/userinfo": ("error.status", "UNAVAILABLE", "RESOURCE_EXHAUSTED"),
    "/code-assist/v1internal:loadCodeAssist": (
        "error.status",
        "UNAVAILABLE",
        "RESOURCE_EXHAUSTED",
    ),
    "/openrouter/api/v1/auth/keys": ("error.code", 503, 429),
    "/kilo/api/device-auth/codes": ("error", "Simulated status 503.", "Simulated status 429."),
}


@pytest.mark.parametrize("path", OUTAGES)
def test_an_outage_has_the_form_of_its_vendor(vendors: Vendors, path: str) -> None:
    where, *words = OUTAGES[path]
    for status, word in zip((503, 429), words, strict=True):
        vendors.world.reset()
        vendors.post("/control/faults", {"script": f"status={status}+after=7"})
        is_read = path in ("/github-api/user", "/copilot/models", "/google/oauth2/v2/userinfo")
        reply = vendors.get(path) if is_read else vendors.post(path, {})
        assert (reply.status, reply.headers["retry-after"]) == (status, "7")
        value = reply.json()
        for step in where.split("."):
            value = value[step]
        assert value == word


def test_githubs_own_site_is_down_with_a_page(vendors: Vendors) -> None:
    vendors.post("/control/faults", {"script": "status=503", "vendor": "github"})
    reply = vendors.form("/github/login/device/code", {}, accept="application/json")
    assert (reply.status, reply.headers["content-type"]) == (503, "text/html; charset=utf-8")
    assert "Unicorn!" in reply.text


def test_the_log_shows_no_secrets(vendors: Vendors) -> None:
    signed = signed_in(vendors)
    client_of(vendors).refresh("/rfc8628/token", signed["refresh_token"])
    vendors.form(
        "/rfc8628/revoke", {"client_id": "simulated-client", "token": signed["access_token"]}
    )
    vendors.get("/rfc8628/userinfo", authorization=f"Bearer {signed['access_token']}")
    test_claude.sign_in(vendors)
    test_google.sign_in(vendors)
    test_codex.sign_in(vendors)
    test_github.copilot(vendors)
    expiring = test_github.sign_in(vendors, client_id=test_github.EXPIRING)
    test_github.refresh(vendors, expiring["refresh_token"])
    social = test_kiro.sign_in(vendors)
    vendors.post("/kiro/refreshToken", {"refreshToken": social["refreshToken"]})
    test_kiro.limits(vendors, test_kiro.aws(vendors, "https://view.awsapps.com/start", "ada"))
    log = vendors.get("/control/requests?limit=10000").text
    state = vendors.world.parts["logins"]
    devices = [name for name, attempt in state.attempts.items() if attempt.kind == "device"]
    secrets = [registration.secret for registration in state.registrations.values()]
    for secret in (*state.tokens, *state.codes, *devices, *secrets):
        assert secret not in log
    for verifier in (test_claude.VERIFIER, test_google.VERIFIER):
        assert verifier not in log


def test_a_reset_forgets_everything(vendors: Vendors) -> None:
    token = signed_in(vendors)["access_token"]
    vendors.post("/control/reset", {})
    assert token_status(vendors.world, "rfc8628", token) == "unknown"


def test_the_same_seed_makes_the_same_world() -> None:
    def story(seed: str) -> list[object]:
        vendors = Vendors()
        vendors.world.seed = seed
        return [
            test_github.sign_in(vendors),
            test_github.exchange(vendors, test_github.sign_in(vendors)["access_token"]).json(),
            test_claude.sign_in(vendors),
            signed_in(vendors),
        ]

    assert story("one") == story("one")
    assert story("one") != story("two")
