"""Bar N4: what goes into a URL matches its pattern as a whole, or nothing is sent."""

from __future__ import annotations

import pytest

from providers.catalog.effective import Registration, effective
from providers.catalog.loader import catalog
from providers.catalog.urls import IdentifierError, check, endpoint_of, fill
from tests.providers.catalog.every_provider import ENDPOINTS, IDS

BREAKERS = [
    "#", "a#b", "@evil.example", "user@evil.example", "/", "a/b", "../..", "a/../b", "\\", "a\\b",
    "\r\n", "a\r\nHost: evil", "a\nb", "a\tb", "a b", " ", "%2f", "a%2fb", "%00", "a\x00b", "?",
    "a?b=c", "&", "a&b", ":", "a:443", "evil.example/", "evil.example#", "a;b", "a,b", "{region}",
    "[::1]", "169.254.169.254/", "localhost/", "a\u2044b", "a\uff0fb", "\u0430bc", "a\u200bb",
    "us-east-1\n", "us-east-1.evil.example#",
]  # fmt: skip
IDENTIFIERS = [
    (provider, name) for provider in IDS for name in catalog()[provider].auth.identifiers
]
GOOD = {
    ("azure", "resource"): ["acme", "Acme-East-2"],
    ("azure", "api_version"): ["v1", "2024-02-01", "2025-04-01-preview"],
    ("azure", "deployment"): ["gpt-4o", "my.gpt_4"],
    ("amazon-bedrock", "region"): ["us-east-1", "eu-central-1", "us-gov-west-1", "ap-southeast-2"],
    ("google-vertex", "project"): ["acme-prod-1"],
    ("google-vertex", "location"): ["global", "us-central1", "europe-west10", "us", "eu"],
    ("kiro", "start_url"): [
        "https://view.awsapps.com/start", "https://d-1234567890.awsapps.com/start",
    ],
    ("kiro", "profile_arn"): ["arn:aws:codewhisperer:us-east-1:123456789012:profile/EHGA3GRVQMUK"],
    ("github-copilot", "domain"): ["github.com", "company.ghe.com"],
    ("github-copilot", "api_host"): [
        "api.githubcopilot.com", "api.business.githubcopilot.com", "copilot-api.company.ghe.com",
    ],
    ("simulator", "origin"): ["http://127.0.0.1:8000", "http://127.0.0.1:8000/simulator"],
}  # fmt: skip


def test_there_are_forty_breakers() -> None:
    assert len(set(BREAKERS)) >= 40


@pytest.mark.parametrize(("provider", "name"), IDENTIFIERS)
def test_no_breaker_is_accepted(provider: str, name: str) -> None:
    identifier = catalog()[provider].auth.identifiers[name]
    good = GOOD.get((provider, name), [identifier.default or "x"])[0]
    for breaker in BREAKERS:
        for value in (breaker, good + breaker, breaker + good):
            if (provider, name) == ("simulator", "origin") and value in (f"{good}/a", f"{good}/"):
                continue
            with pytest.raises(IdentifierError):
                check(name, value, identifier)


@pytest.mark.parametrize(("provider", "name"), GOOD)
def test_what_vendors_hand_out_is_accepted(provider: str, name: str) -> None:
    identifier = catalog()[provider].auth.identifiers[name]
    for value in GOOD[provider, name]:
        check(name, value, identifier)


@pytest.mark.parametrize("value", ["evil.example", "github.com.evil.example", "api.ghe.com.evil"])
@pytest.mark.parametrize("name", ["domain", "api_host"])
def test_a_live_token_goes_to_no_other_host(name: str, value: str) -> None:
    with pytest.raises(IdentifierError):
        check(name, value, catalog()["github-copilot"].auth.identifiers[name])


def test_an_identifier_outside_the_url_is_checked_too() -> None:
    """The project stands in Vertex's path, not in its base URL."""
    file = catalog()["google-vertex"]
    bad = Registration(
        slug="v", catalog_id="google-vertex", endpoint={"project": "a/../b", "location": "us"}
    )
    with pytest.raises(IdentifierError, match="'project'"):
        effective(bad, file)


def test_a_missing_identifier_is_named() -> None:
    with pytest.raises(IdentifierError, match="Give 'account_id'"):
        effective(Registration(slug="w", catalog_id="x"), catalog()["cloudflare-workers-ai"])


def test_a_value_with_an_address_of_another_form() -> None:
    identifiers = catalog()["google-vertex"].auth.identifiers
    url = catalog()["google-vertex"].base_url
    assert fill(url, identifiers, {}) == "https://aiplatform.googleapis.com"
    assert fill(url, identifiers, {"location": "global"}) == "https://aiplatform.googleapis.com"
    regional = fill(url, identifiers, {"location": "us-central1"})
    assert regional == "https://us-central1-aiplatform.googleapis.com"


def test_layers_lie_over_defaults() -> None:
    identifiers = catalog()["amazon-bedrock"].auth.identifiers
    assert endpoint_of(identifiers) == {"region": "us-east-1"}
    layered = endpoint_of(identifiers, {"region": "eu-west-1"}, {"region": ""}, {"other": "x"})
    assert layered == {"region": "eu-west-1", "other": "x"}


def test_europes_bedrock_models_follow_a_configured_region() -> None:
    file = catalog()["amazon-bedrock"]

    def region_of(endpoint: dict[str, str]) -> tuple[str, str]:
        made = effective(Registration(slug="b", catalog_id="b", endpoint=endpoint), file)
        model = next(m for m in made.models if m.spec.id == "eu.amazon.nova-pro-v1:0")
        return model.base_url, model.spec.endpoint["region"]

    assert region_of({}) == ("https://bedrock-runtime.eu-central-1.amazonaws.com", "eu-central-1")
    assert region_of({"region": "eu-west-1"})[1] == "eu-west-1"


def test_every_required_identifier_is_asked_for() -> None:
    for provider in IDS:
        required = {n for n, one in catalog()[provider].auth.identifiers.items() if one.required}
        assert required <= set(ENDPOINTS.get(provider, {})), provider
