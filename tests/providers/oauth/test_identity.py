"""Which account it is: told by the vendor before the person confirms, or the sign-in ends with a
reason that helps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from controlplane.kit import json
from controlplane.kit.secret import Secret
from providers.catalog.models import Provider
from providers.catalog.services import change_registration
from providers.credentials.services import store_key
from providers.errors import UpstreamUnreachable
from providers.health.models import Finding
from providers.health.probe import probe
from providers.oauth import identity
from providers.oauth.flows.accounts import Account
from providers.oauth.flows.login import Login
from providers.oauth.flows.outcomes import Ended, Transient
from providers.oauth.flows.tokens import Tokens
from providers.oauth.flows.wire import Ask, Reply
from providers.oauth.models import DeviceLogin, LoginSettings
from providers.oauth.ways import login_of
from providers.oauth.words import words_for
from tenants import scope
from tests.providers.oauth.conftest import Desk
from tests.providers.oauth.test_proxied import at_simulator

pytestmark = [pytest.mark.storage, pytest.mark.django_db]

COMPANY = {"start_url": "https://example.awsapps.com/start", "oidc_region": "eu-west-1"}
ARN = "arn:aws:codewhisperer:{}:111122223333:profile/EXAMPLE"


def approved(
    desk: Desk, catalog_id: str, way: str, account: str, inputs: dict[str, str]
) -> DeviceLogin:
    path = {"github-copilot": "/copilot", "kiro": "/kiro"}[catalog_id]
    login = desk.begin(at_simulator(desk, catalog_id, path), way, inputs=inputs)
    desk.approve(login, account)
    desk.poll(login)
    return login


@pytest.mark.parametrize(
    ("catalog_id", "way", "account", "inputs", "label", "plan"),
    [
        ("github-copilot", "device", "ada", {}, "@ada", "Copilot Individual Pro"),
        ("github-copilot", "direct", "cleo", {}, "@cleo", "Copilot Business"),
        ("kiro", "builder_id", "ada", {}, "ada@example.test", "KIRO PRO"),
        ("kiro", "builder_id", "ben", {}, "ben@example.test", "KIRO FREE"),
        ("kiro", "identity_center", "cleo", COMPANY, "cleo@example.test", "KIRO PRO"),
        ("kiro", "github", "ada", {}, "ada@example.test", "KIRO PRO"),
    ],
)
def test_account_and_plan_are_shown_before_it_serves(
    desk: Desk,
    catalog_id: str,
    way: str,
    account: str,
    inputs: dict[str, str],
    label: str,
    plan: str,
) -> None:
    login = approved(desk, catalog_id, way, account, inputs)
    assert (login.status, login.account_label, login.plan) == ("confirm", label, plan)
    assert login.account_id
    assert desk.simulator.rules() == []


@pytest.mark.parametrize(
    ("way", "account", "inputs", "code", "advice"),
    [
        ("identity_center", "dan", COMPANY, "no_profile", "administrator of your organisation"),
        ("builder_id", "dan", {}, "no_entitlement", "an account that has one"),
        ("builder_id", "finn", {}, "suspended", "Ask the provider"),
        ("google", "finn", {}, "suspended", "Ask the provider"),
    ],
)
def test_the_wrong_account_has_its_own_sentence_and_next_step(
    desk: Desk, way: str, account: str, inputs: dict[str, str], code: str, advice: str
) -> None:
    login = approved(desk, "kiro", way, account, inputs)
    assert (login.status, login.error_code) == ("error", code)
    assert advice in words_for(login).advice
    assert login.sealed is None


def test_a_profile_that_could_not_be_asked_for_is_asked_for_again(desk: Desk) -> None:
    login = desk.begin(desk.provider("kiro"), "identity_center", inputs=COMPANY)
    desk.approve(login, "cleo")
    desk.simulator.control("faults", {"script": "status=503", "vendor": "kiro", "for_seconds": 60})
    desk.poll(login)
    assert login.status == "approved"
    desk.clock.pass_(61)
    desk.poll(login)
    assert (login.status, login.account_label) == ("confirm", "cleo@example.test")


# --- a company's region --------------------------------------------------------------------------


@dataclass
class Company:
    """A login at the vendor's real addresses, and what they answer."""

    provider: Provider
    login: Login
    asked: list[str]

    def identified(self) -> object:
        with scope.platform("tests"):
            return identity.identified(
                self.provider, self.login, Tokens(access_token="x"), Account()
            )


@pytest.fixture
def company(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[str, object]], Company]:
    """By region, what the list of profiles says there; others are away."""

    def made(profiles: dict[str, object]) -> Company:
        provider, asked = desk.provider("kiro"), list[str]()
        with scope.platform("tests"):
            LoginSettings.objects.update(overrides={})
            row = LoginSettings.objects.get()
            login = login_of(provider, row, "identity_center", COMPANY)

        def ask(_provider: object, question: Ask) -> Reply:
            asked.append(question.url)
            region = question.url.split(".")[1]
            if region not in profiles:
                raise UpstreamUnreachable("nobody there")
            is_usage = "getUsageLimits" in question.url
            said = {"userInfo": {"email": "a@example.test"}} if is_usage else profiles[region]
            return Reply(200, {}, json.dumps(said))

        monkeypatch.setattr(identity.asking, "ask", ask)
        return Company(provider, login, asked)

    return made


@pytest.mark.parametrize("region", ["us-east-1", "eu-central-1"])
def test_the_profile_is_looked_for_where_the_service_is(
    company: Callable[[dict[str, object]], Company], region: str
) -> None:
    none: object = {"profiles": []}
    there = {"profiles": [{"arn": ARN.format(region)}]}
    at = company({"us-east-1": none, "eu-central-1": none, region: there})
    found = at.identified()
    assert isinstance(found, Account)
    assert found.endpoint == {"profile_arn": ARN.format(region), "region": region}
    assert found.label == "a@example.test"
    # Requests, quotas and this question go where the profile is.
    assert at.asked[-1].startswith(f"https://q.{region}.amazonaws.com/getUsageLimits")


def test_no_profile_anywhere_is_the_companys_matter(
    company: Callable[[dict[str, object]], Company],
) -> None:
    at = company({"us-east-1": {"profiles": []}, "eu-central-1": {"profiles": []}})
    assert at.identified() == Ended("error", "no_profile")
    assert len(at.asked) == 2


@pytest.mark.parametrize("answers", [{}, {"us-east-1": {"profiles": []}}])
def test_silence_is_no_answer(
    company: Callable[[dict[str, object]], Company], answers: dict[str, object]
) -> None:
    assert isinstance(company(answers).identified(), Transient)


# --- keys instead --------------------------------------------------------------------------------


def test_a_kiro_key_says_that_it_is_one(desk: Desk) -> None:
    provider = at_simulator(desk, "kiro", "/kiro")
    with scope.platform("tests"):
        change_registration(provider, auth_type="api_key")
        provider.refresh_from_db()
        store_key(provider=provider, label="key", secret=Secret("ksk-1234567890"))
        found = probe(provider)
    assert found.finding is Finding.WORKS, found.sentence
    headers = desk.simulator.world.requests[-1].headers
    assert {k.lower(): v for k, v in headers.items()}["tokentype"] == "API_KEY"
