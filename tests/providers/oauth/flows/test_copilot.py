"""Which host takes an account's token: what GitHub says, else what its domain means, never one that
is not listed."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from controlplane.kit import json
from providers.catalog.effective import Registration, effective
from providers.catalog.loader import catalog
from providers.oauth.flows import copilot
from providers.oauth.flows.login import Login, filled
from providers.oauth.flows.wire import Reply

NOW = datetime(2026, 11, 21, tzinfo=UTC)
FILE = catalog()["github-copilot"]


def login(way: str, domain: str = "github.com") -> Login:
    layers = (FILE.endpoint, {"domain": domain})
    return filled(way, FILE.oauth[way], FILE.auth.identifiers, *layers)


def reply(answer: object, status: int = 200) -> Reply:
    return Reply(status, {}, json.dumps(answer))


def said(api: str) -> Reply:
    return reply({"data": {"viewer": {"login": "ada", "copilotEndpoints": {"api": api}}}})


@pytest.mark.parametrize(
    ("domain", "api", "host"),
    [
        ("github.com", "https://api.business.githubcopilot.com", "api.business.githubcopilot.com"),
        ("github.com", "", "api.githubcopilot.com"),
        ("github.com", "https://api.evil.test", "api.githubcopilot.com"),
        ("github.com", "http://api.business.githubcopilot.com", "api.githubcopilot.com"),
        ("acme.ghe.com", "https://copilot-api.acme.ghe.com", "copilot-api.acme.ghe.com"),
        ("acme.ghe.com", "https://api.acme.ghe.com", "api.acme.ghe.com"),
        ("acme.ghe.com", "https://copilot-api.other.ghe.com", "copilot-api.acme.ghe.com"),
        ("acme.ghe.com", "", "copilot-api.acme.ghe.com"),
    ],
)
def test_direct_mode_goes_where_github_says(domain: str, api: str, host: str) -> None:
    assert copilot.read_host(login("direct", domain), said(api)) == {"api_host": host}


@pytest.mark.parametrize("answer", [{"data": None}, {"data": {"viewer": None}}, {"errors": []}])
def test_an_answer_that_names_no_host_is_no_failure(answer: object) -> None:
    assert copilot.read_host(login("direct"), reply(answer)) == {
        "api_host": "api.githubcopilot.com"
    }


@pytest.mark.parametrize(
    ("status", "kind"), [(401, "dead"), (429, "transient"), (502, "transient")]
)
def test_refusals_and_outages(status: int, kind: str) -> None:
    read = copilot.read_host(login("direct"), reply({"message": "no"}, status))
    assert isinstance(read, copilot.NotExchanged)
    assert read.kind == kind


def test_the_question_shows_the_token_to_the_accounts_own_domain() -> None:
    question = copilot.host_ask(login("direct", "acme.ghe.com"), "gho_token")
    assert question.url == "https://api.acme.ghe.com/graphql"
    assert question.headers["Authorization"] == "Bearer gho_token"
    assert b"copilotEndpoints" in (question.body or b"")


@pytest.mark.parametrize(
    ("domain", "host"),
    [
        ("github.com", "api.individual.githubcopilot.com"),
        ("acme.ghe.com", "copilot-api.acme.ghe.com"),
    ],
)
def test_an_exchange_that_names_no_host_leaves_the_domains(domain: str, host: str) -> None:
    answer = {"token": "tid=a;exp=1", "expires_at": NOW.timestamp() + 1800}
    read = copilot.read_exchange(login("device", domain), reply(answer), NOW)
    assert isinstance(read, copilot.Exchanged)
    assert read.endpoint == {"api_host": host}


@pytest.mark.parametrize(
    ("auth_type", "integration"), [("", "vscode-chat"), ("bearer_token", "copilot-developer-cli")]
)
def test_a_registration_with_a_token_of_its_own_says_so(auth_type: str, integration: str) -> None:
    """A token that was pasted is sent as it is: direct mode without a sign-in."""
    found = effective(
        Registration(slug="copilot", catalog_id="github-copilot", auth_type=auth_type), FILE
    )
    assert found.headers["Copilot-Integration-Id"] == integration
    assert {m.headers["Copilot-Integration-Id"] for m in found.models} == {integration}
    own = Registration(
        slug="copilot",
        catalog_id="github-copilot",
        auth_type=auth_type,
        headers={"copilot-integration-id": "ours"},
    )
    assert effective(own, FILE).headers["copilot-integration-id"] == "ours"
