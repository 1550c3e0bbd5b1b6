"""Checks and listings show the key that a request would show, and say where it came from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from controlplane.kit.secret import Secret
from providers.catalog.models import Provider
from providers.catalog.registrations import effective_of
from providers.catalog.services import change_registration, register
from providers.credentials.models import Credential
from providers.credentials.services import add_credential, disable_credential, store_key
from providers.health.keys import key_for, merged
from providers.health.models import Finding
from providers.health.probe import probe
from providers.health.questions import questions_for
from providers.inventory import ask
from providers.inventory.ask import models_of
from providers.oauth.refresh import LoginUnusable
from tenants import scope
from tests.providers.health.test_probe import (
    KEY,
    LISTING,
    Seen,
    only_with_key,
    operator,
    registration,
    said,
    seen,
    serve,
)
from tests.providers.oauth.conftest import Clock, Desk, desk, moving, simulator, simulator_door
from tests.providers.oauth.test_proxied import at_simulator

__all__ = [
    "Clock",
    "desk",
    "moving",
    "operator",
    "seen",
    "serve",
    "simulator",
    "simulator_door",
]
pytestmark = pytest.mark.django_db

VALUE = "from-the-environment"


@pytest.fixture
def variable(settings: Any) -> None:
    settings.SECRET_VALUES = {"OPENAI_API_KEY": Secret(VALUE)}
    settings.SECRET_VARIABLES = ["OPENAI_API_KEY"]


def openai() -> Provider:
    return register(slug="openai", catalog_id="openai")


def said_key(provider: Provider) -> str | None:
    key = key_for(provider, effective_of(provider))
    return key.said if key is not None else None


def test_a_variable_of_the_catalog_is_shown_in_checks(variable: None) -> None:
    asked = questions_for(openai())
    assert asked.key is not None
    assert asked.key.said == "the variable OPENAI_API_KEY"
    assert asked.listing is not None
    assert asked.listing.headers["Authorization"] == f"Bearer {VALUE}"
    assert "Authorization" not in asked.listing.open_headers
    assert asked.call is None or VALUE in asked.call.question.headers["Authorization"]
    assert asked.secrets == (Secret(VALUE),)
    assert VALUE not in repr(asked)


def test_and_in_listings(variable: None, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[dict[str, str]] = []

    async def read(_client: Any, _method: str, _url: str, headers: Any, _body: Any) -> bytes:
        sent.append(headers)
        return b'{"object": "list", "data": [{"id": "m"}]}'

    monkeypatch.setattr(ask, "_read", read)
    assert [model.id for model in models_of(openai()) or ()] == ["m"]
    assert sent[0]["Authorization"] == f"Bearer {VALUE}"


def test_a_stored_key_owns_its_registration_here_too(variable: None) -> None:
    provider = openai()
    assert said_key(provider) == "the variable OPENAI_API_KEY"
    stored = store_key(provider=provider, label="mine", secret=Secret("sk-stored-1234567890"))
    assert said_key(provider) == "credential 'mine'"
    disable_credential(stored)
    assert said_key(provider) is None
    assert probe(provider).finding is Finding.NO_CREDENTIAL


def test_a_named_variable_says_where_it_is(settings: Any, tmp_path: Any) -> None:
    settings.SECRET_VALUES = {"ACME_KEY": Secret(VALUE)}
    settings.SECRET_VARIABLES = ["ACME_KEY"]
    provider = openai()
    add_credential(
        provider=provider,
        label="env",
        source=Credential.Source.ENVIRONMENT,
        reference="ACME_KEY",
    )
    assert said_key(provider) == "credential 'env' (Environment variable)"


def test_the_registrations_own_header_is_shown_and_told(
    serve: Callable[..., str], seen: Seen
) -> None:
    url = serve({"GET /v1/models": only_with_key(said(LISTING))})
    provider = registration(f"{url}/v1", key="", model="")
    assert probe(provider).finding is Finding.NO_CREDENTIAL
    change_registration(provider, secret_headers={"authorization": Secret(f"Bearer {KEY}")})
    provider.refresh_from_db()
    found = probe(provider)
    assert found.finding is Finding.WORKS, found.sentence
    assert found.sentence.endswith("Shown was the registration's own header.")
    assert KEY not in found.sentence
    assert [model.id for model in models_of(provider) or ()] == ["m"]
    assert seen[-1][2]["authorization"] == f"Bearer {KEY}"


def test_a_refusal_names_the_source(serve: Callable[..., str]) -> None:
    url = serve({"GET /v1/models": only_with_key(said(LISTING))})
    provider = registration(f"{url}/v1", key="", model="")
    change_registration(provider, secret_headers={"Authorization": Secret("Bearer sk-wrong")})
    provider.refresh_from_db()
    found = probe(provider)
    assert found.finding is Finding.KEY_REFUSED
    assert "check the registration's own header" in found.sentence
    assert "sk-wrong" not in found.sentence


@pytest.mark.parametrize("way", ["device", "direct"])
def test_a_login_is_checked_as_requests_use_it(desk: Desk, way: str) -> None:
    provider = at_simulator(desk, "github-copilot", "/copilot")
    made = desk.sign_in(provider, way)
    # Its token ended long ago, where it ends at all.
    desk.clock.pass_(7_200)
    credential = Credential.objects.select_related("provider").get(pk=made.pk)
    found = probe(provider, credential=credential)
    assert found.finding is Finding.WORKS, found.sentence
    assert found.sentence.endswith("Shown was credential '@ada'.")
    assert desk.simulator.rules() == []


def test_a_persons_login_is_not_used_unasked(desk: Desk) -> None:
    provider = at_simulator(desk, "github-copilot", "/copilot")
    desk.sign_in(provider, "direct")
    seen_before = len(desk.simulator.world.requests)
    found = probe(provider)
    assert found.finding is Finding.NO_CREDENTIAL
    assert "Only logins of people and tenants" in found.sentence
    assert len(desk.simulator.world.requests) == seen_before


def test_a_login_that_is_over_says_why(desk: Desk) -> None:
    provider = at_simulator(desk, "github-copilot", "/copilot")
    made = desk.sign_in(provider, "direct")
    with scope.platform("tests"):
        Credential.objects.filter(pk=made.pk).update(
            state=Credential.State.NEEDS_LOGIN, state_reason="The login has ended."
        )
    credential = Credential.objects.select_related("provider").get(pk=made.pk)
    with pytest.raises(LoginUnusable):
        key_for(provider, effective_of(provider), credential)
    found = probe(provider, credential=credential)
    assert found.finding is Finding.MISCONFIGURED
    assert "The login has ended." in found.sentence


def test_headers_compare_without_case() -> None:
    assert merged({"X-A": "1", "b": "2"}, {"x-a": "3"}) == {"x-a": "3", "b": "2"}
