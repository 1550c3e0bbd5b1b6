"""RFC 8628 as written: pollers against the generic server, and the two vendors close to it."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest

from providers.simulator.logins.standard import SECRET
from providers.simulator.logins.tokens import token_status
from tests.providers.simulator.logins.conftest import BASE, Vendors
from tests.providers.simulator.logins.device_client import DEVICE_GRANT, DeviceClient

START = "/rfc8628/device_authorization"
TOKEN = "/rfc8628/token"


def client_of(vendors: Vendors, client_id: str = "simulated-client") -> DeviceClient:
    def send(url: str, form: dict[str, str]) -> tuple[int, bytes]:
        reply = vendors.form(url, form)
        return reply.status, reply.content

    return DeviceClient(send, vendors.wait, client_id)


class Person:
    """Decides when the device has asked so often."""

    def __init__(self, vendors: Vendors, client: DeviceClient, code: str) -> None:
        self.vendors, self.client, self.code = vendors, client, code

    def after(self, polls: int, decide: Callable[[str], None]) -> None:
        wait = self.client.wait

        def waiting(seconds: float) -> None:
            wait(seconds)
            if len(self.client.gaps) == polls:
                decide(self.code)

        self.client.wait = waiting


# The poller cases of a device flow that one poller can show: what is scripted, when the person
# approves, the gaps a right client leaves, and what it hears.
PENDING = (400, "authorization_pending")
SLOW = (400, "slow_down")
TOLD = (200, "access_token")
CASES: dict[str, tuple[str, list[str], int, list[float], list[tuple[int, str]]]] = {
    "pending three times, then a token": (
        "simulated-client",
        [],
        3,
        [5, 5, 5, 5],
        [PENDING, PENDING, PENDING, TOLD],
    ),
    "no interval means five seconds": ("simulated-quiet", [], 1, [5, 5], [PENDING, TOLD]),
    "slow_down adds up": (
        "simulated-client",
        ["slow_down", "slow_down"],
        2,
        [5, 10, 15],
        [SLOW, SLOW, TOLD],
    ),
    "the server's interval wins and stays": (
        "simulated-slow",
        ["slow_down=20", "pending"],
        2,
        [5, 20, 20],
        [SLOW, PENDING, TOLD],
    ),
    "an outage in HTML is not the end": (
        "simulated-client",
        ["html=503", "html=503"],
        0,
        [5, 5, 5],
        [(503, ""), (503, ""), TOLD],
    ),
    "neither is a rate limit, nor an empty answer": (
        "simulated-client",
        ["html=429", "emptybody=500", "emptybody=200"],
        0,
        [5, 5, 5, 5],
        [(429, ""), (500, ""), (200, ""), TOLD],
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_poller(vendors: Vendors, case: tuple[str, list[str], int, list[float], Any]) -> None:
    client_id, script, polls, gaps, heard = case
    client = client_of(vendors, client_id)
    started = client.start(START)
    vendors.script(started["user_code"], *script)
    Person(vendors, client, started["user_code"]).after(polls, vendors.approve)
    assert "access_token" in client.poll(TOKEN, started)
    assert client.gaps == gaps
    assert client.heard[1:] == heard
    assert vendors.rules() == []


def test_denied_is_the_end(vendors: Vendors) -> None:
    client = client_of(vendors)
    started = client.start(START)
    Person(vendors, client, started["user_code"]).after(1, vendors.deny)
    assert client.poll(TOKEN, started)["error"] == "access_denied"
    assert client.heard[1:] == [PENDING, (400, "access_denied")]


def test_a_jump_of_the_clock_is_an_expiry(vendors: Vendors) -> None:
    client = client_of(vendors)
    started = client.start(START)
    vendors.wait(3600)
    assert client.poll(TOKEN, started)["error"] == "expired_token"
    assert len(client.gaps) == 1
    assert vendors.rules() == []
    # Nor can a person approve it now.
    reply = vendors.post("/control/logins/approve", {"user_code": started["user_code"]})
    assert reply.status == 400
    assert "expired" in reply.error


def test_two_pollers_are_too_fast_for_one_code(vendors: Vendors) -> None:
    started = client_of(vendors).start(START)
    form = {
        "grant_type": DEVICE_GRANT,
        "device_code": started["device_code"],
        "client_id": "simulated-client",
    }
    vendors.wait(5)
    assert vendors.form(TOKEN, form).error == "authorization_pending"
    vendors.wait(2.5)
    assert vendors.form(TOKEN, form).error == "slow_down"
    assert vendors.rules() == ["interval"]
    # From now on ten seconds, counted from the question that came too early.
    vendors.wait(9.9)
    assert vendors.form(TOKEN, form).error == "slow_down"
    vendors.wait(15)
    assert vendors.form(TOKEN, form).error == "authorization_pending"


def test_asking_at_once_is_too_fast_even_after_approval(vendors: Vendors) -> None:
    started = client_of(vendors).start(START)
    vendors.approve(started["user_code"])
    form = {
        "grant_type": DEVICE_GRANT,
        "device_code": started["device_code"],
        "client_id": "simulated-client",
    }
    assert vendors.form(TOKEN, form).error == "slow_down"
    vendors.wait(10)
    assert "access_token" in vendors.form(TOKEN, form).json()


def signed_in(vendors: Vendors, account: str = "ada", scope: str = "") -> dict[str, Any]:
    client = client_of(vendors)
    started = client.start(START, scope)
    vendors.approve(started["user_code"], account)
    answer: dict[str, Any] = client.poll(TOKEN, started)
    return answer | {"device_code": started["device_code"]}


def test_a_device_code_works_once(vendors: Vendors) -> None:
    answer = signed_in(vendors)
    vendors.wait(5)
    form = {
        "grant_type": DEVICE_GRANT,
        "device_code": answer["device_code"],
        "client_id": "simulated-client",
    }
    assert vendors.form(TOKEN, form).error == "invalid_grant"
    assert vendors.rules() == ["device_code"]


def test_the_account_chosen_is_the_account_signed_in(vendors: Vendors) -> None:
    answer = signed_in(vendors, "cleo", "openid email")
    assert answer["scope"] == "openid email"
    who = vendors.get("/rfc8628/userinfo", authorization=f"Bearer {answer['access_token']}")
    assert who.json()["email"] == "cleo@example.test"


def test_an_access_token_expires_by_the_worlds_clock(vendors: Vendors) -> None:
    answer = signed_in(vendors)
    token = answer["access_token"]
    assert token_status(vendors.world, "rfc8628", token) == "valid"
    vendors.wait(answer["expires_in"])
    assert token_status(vendors.world, "rfc8628", token) == "expired"
    reply = vendors.get("/rfc8628/userinfo", authorization=f"Bearer {token}")
    assert reply.status == 401
    assert "invalid_token" in reply.headers["www-authenticate"]
    # No mistake of the client.
    assert vendors.rules() == []


def test_reuse_of_a_refresh_token_kills_the_family(vendors: Vendors) -> None:
    client = client_of(vendors)
    old = signed_in(vendors)
    new = client.refresh(TOKEN, old["refresh_token"])
    assert new["refresh_token"] != old["refresh_token"]
    # The old access token lives until it expires.
    assert token_status(vendors.world, "rfc8628", old["access_token"]) == "valid"
    assert client.refresh(TOKEN, old["refresh_token"])["error"] == "invalid_grant"
    assert client.refresh(TOKEN, new["refresh_token"])["error"] == "invalid_grant"
    assert token_status(vendors.world, "rfc8628", new["access_token"]) == "revoked"
    assert vendors.rules() == ["refresh_reuse"]


def test_another_sign_in_of_the_same_person_is_another_family(vendors: Vendors) -> None:
    first, second = signed_in(vendors), signed_in(vendors)
    client = client_of(vendors)
    client.refresh(TOKEN, first["refresh_token"])
    client.refresh(TOKEN, first["refresh_token"])
    assert token_status(vendors.world, "rfc8628", second["access_token"]) == "valid"
    assert "access_token" in client.refresh(TOKEN, second["refresh_token"])


def test_a_refresh_cannot_widen_the_scope(vendors: Vendors) -> None:
    answer = signed_in(vendors, scope="openid")
    form = {
        "grant_type": "refresh_token",
        "refresh_token": answer["refresh_token"],
        "client_id": "simulated-client",
        "scope": "openid models",
    }
    assert vendors.form(TOKEN, form).error == "invalid_scope"


def test_revoked_by_the_client(vendors: Vendors) -> None:
    answer = signed_in(vendors)
    form = {"client_id": "simulated-client", "token": answer["refresh_token"]}
    assert vendors.form("/rfc8628/revoke", form).status == 200
    assert token_status(vendors.world, "rfc8628", answer["access_token"]) == "revoked"
    # An unknown token is as good as revoked (RFC 7009, 2.2).
    assert vendors.form("/rfc8628/revoke", form | {"token": "nobody's"}).status == 200


@pytest.mark.parametrize(
    ("form", "status", "error", "rule"),
    [
        ({"client_id": "stranger"}, 401, "invalid_client", "client_id"),
        ({}, 400, "invalid_request", "client_id"),
        ({"client_id": "simulated-secret"}, 401, "invalid_client", "client_secret"),
        ({"client_id": "simulated-browser-only"}, 400, "unauthorized_client", "client_id"),
        ({"client_id": "simulated-client", "scope": "root"}, 400, "invalid_scope", "scope"),
    ],
)
def test_start_refuses(
    vendors: Vendors, form: dict[str, str], status: int, error: str, rule: str
) -> None:
    reply = vendors.form(START, form)
    assert (reply.status, reply.error) == (status, error)
    assert reply.headers["cache-control"] == "no-store"
    assert vendors.rules() == [rule]


def test_json_is_refused_where_a_form_is_due(vendors: Vendors) -> None:
    reply = vendors.post(START, {"client_id": "simulated-client"})
    assert (reply.status, reply.error) == (400, "invalid_request")
    assert vendors.rules() == ["content_type"]


def test_a_code_is_of_no_use_to_another_client(vendors: Vendors) -> None:
    started = client_of(vendors).start(START)
    vendors.approve(started["user_code"])
    vendors.wait(5)
    form = {
        "grant_type": DEVICE_GRANT,
        "device_code": started["device_code"],
        "client_id": "simulated-quiet",
    }
    assert vendors.form(TOKEN, form).error == "invalid_grant"
    assert vendors.rules() == ["device_code"]
    assert "access_token" in vendors.form(TOKEN, form | {"client_id": "simulated-client"}).json()


@pytest.mark.parametrize("way", ["body", "basic"])
def test_a_client_with_a_secret(vendors: Vendors, way: str) -> None:
    name = "simulated-secret"
    encoded = base64.b64encode(f"{name}:{SECRET}".encode()).decode()
    form = {"client_id": name, "client_secret": SECRET} if way == "body" else {}
    headers = {} if way == "body" else {"authorization": f"Basic {encoded}"}
    assert vendors.form(START, form, **headers).status == 200
    wrong = {"client_id": name, "client_secret": "no"}
    assert vendors.form(START, wrong).error == "invalid_client"


@pytest.mark.parametrize("name", ["openid-configuration", "oauth-authorization-server"])
@pytest.mark.parametrize("vendor", ["rfc8628", "xai"])
def test_discovery_leads_to_endpoints_that_answer(vendors: Vendors, vendor: str, name: str) -> None:
    found = vendors.get(f"/{vendor}/.well-known/{name}").json()
    assert found["issuer"] == f"{BASE}/{vendor}"
    assert DEVICE_GRANT in found["grant_types_supported"]
    for endpoint in ("device_authorization_endpoint", "token_endpoint"):
        assert vendors.form(found[endpoint], {}).status == 400
    assert vendors.get(found["userinfo_endpoint"]).status == 401


def test_unknown_grant(vendors: Vendors) -> None:
    form = {"grant_type": "password", "client_id": "simulated-client"}
    assert vendors.form(TOKEN, form).error == "unsupported_grant_type"


# --- Kimi and xAI ------------------------------------------------------------------------------

KIMI = "17e5f671-d194-4dfb-9706-5516cb48c098"
XAI = "b1a00492-073a-47ea-816f-4c329264a828"


def test_kimi_says_pending_under_200_and_a_dead_refresh_under_401(vendors: Vendors) -> None:
    client = client_of(vendors, KIMI)
    token = "/kimi/api/oauth/token"
    started = client.start("/kimi/api/oauth/device_authorization")
    Person(vendors, client, started["user_code"]).after(1, vendors.approve)
    answer = client.poll(token, started)
    assert client.heard[1:] == [(200, "authorization_pending"), TOLD]
    assert token_status(vendors.world, "kimi", answer["access_token"]) == "valid"
    client.refresh(token, answer["refresh_token"])
    client.refresh(token, answer["refresh_token"])
    assert client.heard[-1] == (401, "invalid_grant")


def test_xai_runs_half_an_hour_and_knows_its_scopes(vendors: Vendors) -> None:
    client = client_of(vendors, XAI)
    scope = "openid profile email offline_access grok-cli:access api:access"
    started = client.start("/xai/oauth2/device/code", scope)
    assert started["expires_in"] == 1800
    Person(vendors, client, started["user_code"]).after(2, vendors.approve)
    answer = client.poll("/xai/oauth2/token", started)
    assert client.heard[1:] == [PENDING, PENDING, TOLD]
    assert answer["scope"] == scope
    assert json.loads(json.dumps(answer))["token_type"] == "Bearer"


@pytest.mark.parametrize(
    "path", ["/kimi/api/oauth/device_authorization", "/xai/oauth2/device/code"]
)
def test_vendors_know_only_their_own_client(vendors: Vendors, path: str) -> None:
    assert vendors.form(path, {"client_id": "simulated-client"}).error == "invalid_client"
