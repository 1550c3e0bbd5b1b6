"""Models whose terms a person has to accept first: shown, asked for, and never accepted quietly."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from providers.catalog.models import Provider
from providers.credentials.models import Credential
from providers.errors import ProviderError
from providers.oauth.model_terms import NoModelTerms, NotForThisAccount, accept, terms_of
from tenants import scope
from tenants.audit.actor import acting_as
from tenants.audit.models import AuditEvent
from tests.providers.oauth.conftest import Desk

pytestmark = [pytest.mark.storage, pytest.mark.django_db]


@pytest.fixture(autouse=True)
def _platform() -> Iterator[None]:
    with scope.platform("tests"), acting_as("command", None, "tests"):
        yield


def connected(desk: Desk, catalog_id: str = "github-copilot", account: str = "ada") -> Credential:
    provider = desk.provider(catalog_id)
    if catalog_id == "github-copilot":
        url = f"{desk.simulator.url}/copilot"
        Provider.objects.filter(pk=provider.pk).update(base_url=url)
    made = desk.sign_in(provider, "device", account=account)
    return Credential.objects.select_related("provider").get(pk=made.pk)


def states(credential: Credential) -> dict[str, bool]:
    return {each.id: each.is_enabled for each in terms_of(credential)}


def test_one_model_is_accepted_and_no_other(desk: Desk) -> None:
    credential = connected(desk)
    assert states(credential) == {"sim-claude": False, "sim-gemini": False}
    assert accept(credential, "sim-claude")
    assert states(credential) == {"sim-claude": True, "sim-gemini": False}
    assert not accept(credential, "sim-claude")
    [event] = AuditEvent.objects.filter(action="login.model_terms_accepted")
    assert event.after["model"] == "sim-claude"
    assert desk.simulator.rules() == []


@pytest.mark.parametrize("model", ["sim-gpt", "never", "a/../b", ""])
def test_what_has_no_terms_is_not_asked_for(desk: Desk, model: str) -> None:
    credential = connected(desk)
    with pytest.raises(NoModelTerms, match="terms to accept"):
        accept(credential, model)
    assert not [r for r in desk.simulator.world.requests if r.path.endswith("/policy")]


def test_an_organisation_decides_for_its_seats(desk: Desk) -> None:
    credential = connected(desk, account="cleo")
    with pytest.raises(NotForThisAccount, match="organisation"):
        accept(credential, "sim-claude")
    assert not AuditEvent.objects.filter(action="login.model_terms_accepted").exists()


def test_other_providers_have_none(desk: Desk) -> None:
    with pytest.raises(NoModelTerms):
        terms_of(connected(desk, "kilo"))


def test_a_vendor_that_is_away_accepts_nothing(desk: Desk) -> None:
    credential = connected(desk)
    desk.simulator.control("faults", {"script": "status=503", "vendor": "copilot"})
    with pytest.raises(ProviderError):
        accept(credential, "sim-claude")


def test_the_command_shows_asks_and_accepts(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    connected(desk)
    where = ("github-copilot", "--tenant", desk.tenant.slug, "--as", desk.user.email)
    call_command("login_models", *where)
    assert "sim-claude: waiting for you" in capsys.readouterr().out
    monkeypatch.setattr("builtins.input", lambda _: "n")
    with pytest.raises(CommandError, match="Nothing was accepted"):
        call_command("login_models", *where, "--enable", "sim-claude")
    monkeypatch.setattr("builtins.input", lambda _: "y")
    call_command("login_models", *where, "--enable", "sim-claude")
    said = capsys.readouterr().out
    assert "The terms of an example." in said
    assert "sim-claude are accepted" in said
    with pytest.raises(CommandError, match="No account is connected"):
        call_command("login_models", "github-copilot")
