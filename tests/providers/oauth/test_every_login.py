"""Each login from its code to an answer through the gateway, and on after the vendor forgot its
token: renewed without the caller noticing, or over with a reason where nothing renews it."""

from __future__ import annotations

from typing import Final, NamedTuple

import pytest

from providers.catalog.model_services import add_model
from providers.credentials.models import Credential
from providers.oauth.refresh import ensure_fresh
from providers.simulator.logins.state import logins_of
from tenants import scope
from tests.providers.oauth.conftest import Desk
from tests.providers.oauth.test_pasted_logins import approve_in_browser, hand_in
from tests.providers.oauth.test_proxied import at_simulator, door, key_of, membership

pytestmark = [pytest.mark.storage, pytest.mark.django_db(transaction=True)]

COMPANY: Final = {"start_url": "https://example.awsapps.com/start", "oidc_region": "eu-west-1"}


class Way(NamedTuple):
    catalog_id: str
    way: str
    path: str
    model: str
    inputs: dict[str, str] = {}
    is_pasted: bool = False
    secret: str = ""
    renews: bool = True


WAYS: Final = [
    Way("github-copilot", "device", "/copilot", "sim-gpt"),
    Way("github-copilot", "direct", "/copilot", "sim-gpt", renews=False),
    Way("kiro", "builder_id", "/kiro", "sim-claude"),
    Way("kiro", "identity_center", "/kiro", "sim-claude", inputs=COMPANY),
    Way("kiro", "google", "/kiro", "sim-claude"),
    Way("openai-codex", "device", "/codex/backend-api", "sim-codex"),
    Way("openai-codex", "browser", "/codex/backend-api", "sim-codex", is_pasted=True),
    Way("google-gemini-cli", "browser", "/code-assist", "sim-gemini", {}, True, "operators"),
    Way("google-antigravity", "browser", "/code-assist", "sim-gemini", {}, True, "operators"),
    Way("kimi-coding", "device", "/openai/v1", "sim-kimi"),
    Way("xai", "device", "/openai/v1", "sim-grok"),
    Way("kilo", "device", "/openai/v1", "sim-kilo", renews=False),
    Way("", "device", "", "sim-generic"),
]


@pytest.mark.parametrize("way", WAYS, ids=[f"{way.catalog_id}-{way.way}" for way in WAYS])
def test_from_the_code_to_an_answer_and_on(desk: Desk, way: Way) -> None:
    provider = (
        at_simulator(desk, way.catalog_id, way.path, secret=way.secret)
        if way.path
        else desk.provider(way.catalog_id)
    )
    with scope.platform("tests"):
        add_model(provider=provider, upstream_id=way.model)
    if way.is_pasted:
        login = desk.begin(provider, way.way)
        hand_in(desk, login, approve_in_browser(desk, login))
        credential = desk.confirm(login)
    else:
        credential = desk.sign_in(provider, way.way, inputs=way.inputs)
    mine = key_of(desk.tenant, membership(desk))
    tokens = logins_of(desk.simulator.world).tokens
    with door() as gateway:
        answer = gateway.call(mine, "/v1/chat/completions", way.model)
        assert answer.status_code == 200, answer.text
        shown = ensure_fresh(credential.pk).token.reveal()
        # The vendor forgets this token, hours before its end.
        tokens[shown].is_revoked = True
        answer = gateway.call(mine, "/v1/chat/completions", way.model)
    credential.refresh_from_db()
    if way.renews:
        assert answer.status_code == 200, answer.text
        assert ensure_fresh(credential.pk).token.reveal() != shown
        assert credential.state == Credential.State.ACTIVE
    else:
        assert answer.status_code in (401, 502, 503), answer.text
        assert credential.state == Credential.State.NEEDS_LOGIN
        assert credential.state_reason
    assert desk.simulator.rules() == []
