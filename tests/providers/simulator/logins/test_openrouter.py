"""OpenRouter sends the browser back to the caller, with a code for a key."""

from __future__ import annotations

from urllib.parse import urlencode

import pytest

from providers.simulator.logins.browser import challenge_of
from providers.simulator.logins.tokens import token_status
from tests.providers.simulator.logins.conftest import Vendors

VERIFIER = "o" * 43
CALLBACK = "https://gateway.test/login/openrouter/?ours=7"
QUERY = {
    "callback_url": CALLBACK,
    "code_challenge": challenge_of(VERIFIER),
    "code_challenge_method": "S256",
}
KEYS = "/openrouter/api/v1/auth/keys"


def test_a_key_for_a_code(vendors: Vendors) -> None:
    redirect = vendors.authorize("/openrouter/auth", QUERY)
    assert redirect.headers["location"].startswith(CALLBACK + "&code=")
    body = {
        "code": redirect.query["code"],
        "code_verifier": VERIFIER,
        "code_challenge_method": "S256",
    }
    answer = vendors.post(KEYS, body)
    assert answer.json()["key"].startswith("sk-or-v1-")
    assert token_status(vendors.world, "openrouter", answer.json()["key"]) == "valid"
    assert vendors.post(KEYS, body).status == 403
    assert token_status(vendors.world, "openrouter", answer.json()["key"]) == "revoked"


@pytest.mark.parametrize(
    ("changed", "status"),
    [
        ({"code_verifier": "p" * 43}, 403),
        ({"code": "another"}, 403),
        ({"code_challenge_method": "plain"}, 400),
    ],
)
def test_keys_are_refused(vendors: Vendors, changed: dict[str, str], status: int) -> None:
    code = vendors.authorize("/openrouter/auth", QUERY).query["code"]
    body = {"code": code, "code_verifier": VERIFIER} | changed
    assert vendors.post(KEYS, body).status == status
    assert len(vendors.rules("openrouter")) == 1


@pytest.mark.parametrize("callback", ["http://gateway.test/", "javascript:alert(1)", ""])
def test_only_https_or_this_machine_is_called_back(vendors: Vendors, callback: str) -> None:
    page = vendors.get(f"/openrouter/auth?{urlencode(QUERY | {'callback_url': callback})}")
    assert page.status == 400
    assert vendors.rules() == ["redirect_uri"]
