"""Copilot's two modes: an exchanged token of half an hour, or GitHub's own, sent as it is. The
vendor refuses each of them under the other's name."""

from __future__ import annotations

import base64
from datetime import timedelta

import httpx
import pytest

from providers.catalog.model_services import add_model
from providers.catalog.models import Provider
from providers.catalog.services import change_registration
from providers.credentials.models import Credential
from providers.credentials.services import store_key
from providers.health.models import Finding
from providers.health.probe import probe
from providers.oauth import quota
from providers.oauth.flows.tokens import Tokens, unpacked
from providers.oauth.model_terms import TermsUnanswered, accept, terms_of
from providers.oauth.models import DeviceLogin, LoginSettings
from providers.oauth.refresh import due_ids, ensure_fresh
from providers.simulator.faults import schedule_of
from tenants import scope
from tenants.vault import services as vault
from tests.patience import LONG_SECONDS
from tests.providers.oauth.conftest import Desk
from tests.providers.oauth.test_proxied import at_simulator, door, key_of, membership

pytestmark = [pytest.mark.storage, pytest.mark.django_db(transaction=True)]

PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n").decode()
EXPIRING = "Iv23liSimulatedExpiry"
FOREIGN = "Ov23li8tweQw6odWQebz"
MODES = pytest.mark.parametrize(
    ("way", "integration", "prefix"),
    [("device", "vscode-chat", "tid="), ("direct", "copilot-developer-cli", "ghu_")],
)


@pytest.fixture
def copilot(desk: Desk) -> Provider:
    provider = at_simulator(desk, "github-copilot", "/copilot")
    with scope.platform("tests"):
        add_model(provider=provider, upstream_id="sim-gpt")
    return provider


def held(credential: Credential) -> Tokens:
    credential.refresh_from_db()
    return unpacked(vault.unseal_from(credential, "sealed").reveal())


def asked(desk: Desk, path: str) -> list[dict[str, str]]:
    found = [r for r in desk.simulator.world.requests if r.path == path]
    return [{name.lower(): value for name, value in r.headers.items()} for r in found]


def of_client(client_id: str) -> None:
    """As an operator with an app of their own sets it."""
    with scope.platform("tests"):
        row = LoginSettings.objects.get(catalog_id="github-copilot")
        row.overrides["direct"]["client_id"] = client_id
        row.save()


def refused(desk: Desk, provider: Provider, account: str) -> DeviceLogin:
    login = desk.begin(provider, "direct")
    desk.approve(login, account)
    desk.poll(login)
    return login


@MODES
def test_a_request_shows_the_token_of_its_mode(
    desk: Desk, copilot: Provider, way: str, integration: str, prefix: str
) -> None:
    credential = desk.sign_in(copilot, way)
    assert ensure_fresh(credential.pk).token.reveal().startswith(prefix)
    mine = key_of(desk.tenant, membership(desk))
    with door() as gateway:
        answer = gateway.call(mine, "/v1/chat/completions", "sim-gpt")
    assert answer.status_code == 200, answer.text
    [sent] = asked(desk, "/copilot/chat/completions")
    assert sent["copilot-integration-id"] == integration
    assert sent["x-initiator"] == "user"
    assert "copilot-vision-request" not in sent
    assert desk.simulator.rules() == []


@pytest.mark.parametrize(
    ("protocol", "model", "path"),
    [
        ("anthropic-messages", "sim-claude", "/copilot/v1/messages"),
        ("openai-responses", "sim-gpt", "/copilot/responses"),
    ],
)
def test_models_are_asked_in_their_own_protocol(
    desk: Desk, copilot: Provider, protocol: str, model: str, path: str
) -> None:
    with scope.platform("tests"):
        copilot.models.all().delete()
        add_model(provider=copilot, upstream_id=model, protocol=protocol)
    made = desk.sign_in(copilot, "direct")
    credential = Credential.objects.select_related("provider").get(pk=made.pk)
    accept(credential, "sim-claude")
    mine = key_of(desk.tenant, membership(desk))
    with door() as gateway:
        answer = gateway.call(mine, "/v1/chat/completions", model)
    assert answer.status_code == 200, answer.text
    [sent] = asked(desk, path)
    assert sent["copilot-integration-id"] == "copilot-developer-cli"
    assert sent["x-initiator"] == "user"
    assert desk.simulator.rules() == []


@pytest.mark.parametrize("way", ["device", "direct"])
def test_each_mode_reads_and_accepts_terms_with_its_own_token(
    desk: Desk, copilot: Provider, way: str
) -> None:
    made = desk.sign_in(copilot, way)
    credential = Credential.objects.select_related("provider").get(pk=made.pk)
    assert accept(credential, "sim-claude")
    assert {each.id: each.is_enabled for each in terms_of(credential)}["sim-claude"]
    assert desk.simulator.rules() == []


def test_an_image_is_announced(desk: Desk, copilot: Provider) -> None:
    desk.sign_in(copilot, "direct")
    mine = key_of(desk.tenant, membership(desk))
    picture = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}}
    with door() as gateway:
        answer = httpx.post(
            f"{gateway.url}/v1/chat/completions",
            json={"model": "sim-gpt", "messages": [{"role": "user", "content": [picture]}]},
            headers={"Authorization": f"Bearer {mine}"},
            timeout=LONG_SECONDS,
        )
    assert answer.status_code == 200, answer.text
    assert desk.simulator.rules() == []


@pytest.mark.parametrize("model", ["sim-claude", "sim-gone"])
def test_a_model_without_accepted_terms_does_not_answer(
    desk: Desk, copilot: Provider, model: str
) -> None:
    with scope.platform("tests"):
        add_model(provider=copilot, upstream_id=model)
    desk.sign_in(copilot, "direct")
    mine = key_of(desk.tenant, membership(desk))
    with door() as gateway:
        answer = gateway.call(mine, "/v1/chat/completions", model)
    assert answer.status_code == 400, answer.text
    assert "not supported" in answer.text


def test_nothing_is_exchanged_and_nothing_ends_by_itself(desk: Desk, copilot: Provider) -> None:
    credential = desk.sign_in(copilot, "direct")
    assert (credential.expires_at, credential.refresh_at) == (None, None)
    assert credential.account_label == "@ada"
    desk.clock.pass_(timedelta(days=300).total_seconds())
    assert ensure_fresh(credential.pk).token.reveal().startswith("ghu_")
    assert due_ids(now=desk.clock.now(), limit=10) == []
    assert desk.polls("/github-api/copilot_internal/v2/token") == 0
    windows = {window.name for window in quota.fetch(credential.pk)}
    assert "premium_interactions" in windows


def test_a_token_that_github_took_back_asks_for_a_new_sign_in(
    desk: Desk, copilot: Provider
) -> None:
    credential = desk.sign_in(copilot, "direct")
    mine = key_of(desk.tenant, membership(desk))
    desk.simulator.control("logins/revoke", {"vendor": "github", "account": "ada"})
    with door() as gateway:
        answer = gateway.call(mine, "/v1/chat/completions", "sim-gpt")
    assert answer.status_code in (401, 502, 503), answer.text
    credential.refresh_from_db()
    assert credential.state == Credential.State.NEEDS_LOGIN
    assert desk.polls("/github-api/copilot_internal/v2/token") == 0


def test_tokens_that_do_end_are_renewed_in_pairs(desk: Desk, copilot: Provider) -> None:
    of_client(EXPIRING)
    credential = desk.sign_in(copilot, "direct")
    before = held(credential)
    assert credential.expires_at is not None
    assert credential.refresh_at is not None
    desk.clock.pass_(28_000)
    fresh = ensure_fresh(credential.pk, is_due=True)
    assert fresh.token.reveal().startswith("ghu_")
    assert fresh.token.reveal() != before.access_token
    assert held(credential).refresh_token != before.refresh_token
    assert desk.simulator.rules() == []


def test_another_apps_token_serves_though_its_quota_is_not_told(
    desk: Desk, copilot: Provider
) -> None:
    of_client(FOREIGN)
    credential = desk.sign_in(copilot, "direct")
    assert held(credential).access_token.startswith("gho_")
    assert quota.fetch(credential.pk) == []
    credential.refresh_from_db()
    assert credential.state == Credential.State.ACTIVE


@pytest.mark.parametrize("account", ["dan", "finn"])
def test_without_a_seat_the_sign_in_says_so(desk: Desk, copilot: Provider, account: str) -> None:
    login = refused(desk, copilot, account)
    assert (login.status, login.error_code) == ("error", "no_entitlement")
    assert "GitHub says: not authorized" in login.error_detail
    assert login.sealed is None


def test_an_outage_is_waited_out(desk: Desk, copilot: Provider) -> None:
    login = desk.begin(copilot, "direct")
    desk.approve(login)
    desk.simulator.control("faults", {"script": "status=503", "vendor": "github-api"})
    desk.poll(login)
    assert login.status == "approved"
    schedule_of(desk.simulator.world).entries.clear()
    desk.poll(login)
    assert login.status == "confirm"


def test_signing_in_again_changes_the_mode_in_place(desk: Desk, copilot: Provider) -> None:
    first = desk.sign_in(copilot, "device")
    second = desk.sign_in(copilot, "direct")
    assert second.pk == first.pk
    assert second.login == "direct"
    assert held(second).base_token == ""
    assert ensure_fresh(second.pk).token.reveal().startswith("ghu_")


def test_an_exchanged_token_without_an_exchange_is_refused(desk: Desk, copilot: Provider) -> None:
    """Should the two ever be mixed up, the vendor says which rule was broken."""
    credential = desk.sign_in(copilot, "device")
    with scope.platform("tests"):
        Credential.objects.filter(pk=credential.pk).update(login="direct")
    credential = Credential.objects.select_related("provider").get(pk=credential.pk)
    with pytest.raises(TermsUnanswered, match="403"):
        terms_of(credential)
    assert desk.simulator.rules() == ["integration_id"]


@pytest.mark.parametrize(
    ("auth_type", "status", "finding"),
    [("bearer_token", 200, Finding.WORKS), ("", 502, Finding.FORBIDDEN)],
)
def test_a_token_of_ones_own_needs_no_sign_in(
    desk: Desk, copilot: Provider, auth_type: str, status: int, finding: Finding
) -> None:
    """Only where the registration says that it is one: else it is shown as an exchanged one."""
    theirs = desk.sign_in(copilot, "direct")
    token = ensure_fresh(theirs.pk).token
    with scope.platform("tests"):
        theirs.delete()
        change_registration(copilot, auth_type=auth_type)
        copilot.refresh_from_db()
        store_key(provider=copilot, label="pasted", secret=token)
        found = probe(copilot)
    assert found.finding is finding, found.sentence
    assert token.reveal() not in found.sentence
    mine = key_of(desk.tenant)
    with door() as gateway:
        answer = gateway.call(mine, "/v1/chat/completions", "sim-gpt")
    assert answer.status_code == status, answer.text
