"""What the page of a registration does: it calls the services, asks before something is lost, and
answers in a sentence."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.http import HttpResponse
from django.test import Client

from controlplane.kit.secret import Secret
from providers.catalog.models import Provider, ProviderModel
from providers.catalog.services import register
from providers.credentials.models import Credential
from providers.credentials.services import add_credential
from providers.health.models import ProviderCheck
from providers.routing.models import Alias
from providers.simulator.app import SimulatorApplication
from providers.simulator.world import World
from tenants import scope
from tenants.audit.actor import acting_as
from tenants.members.models import Tenant, User
from tests.controlplane.console.registry import (
    CUSTOM,
    furnish,
    said,
    url,
)
from tests.running import served

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _platform() -> Iterator[None]:
    with scope.platform("test"), acting_as("command", None, "tests"):
        yield


@pytest.fixture
def console(staff: User) -> Client:
    client = Client(REMOTE_ADDR="192.0.2.5")
    client.force_login(staff)
    return client


@pytest.fixture(scope="module")
def simulator() -> Iterator[str]:
    with served(SimulatorApplication(World())) as url:
        yield url


def simulated(simulator: str, key: str, settings: Any) -> Provider:
    settings.UPSTREAM_ALLOWED_NETWORKS = ["127.0.0.0/8"]
    provider = register(
        slug="own", protocol="openai-completions", base_url=f"{simulator}/openai/v1"
    )
    add_credential(provider=provider, label="default", secret=Secret(key))
    return provider


@pytest.mark.parametrize(
    ("key", "told"),
    [("sim-good", "Works: "), ("wrong", "Key refused: ")],
    ids=["good key", "wrong key"],
)
def test_testing_the_connection_says_one_sentence_and_keeps_it(
    console: Client, simulator: str, settings: Any, key: str, told: str
) -> None:
    provider = simulated(simulator, key, settings)
    assert console.get(url("test", provider)).status_code == 302
    assert not ProviderCheck.objects.exists()
    answer = console.post(url("test", provider))
    assert said(answer).startswith(told)
    check = ProviderCheck.objects.get()
    page = console.get(url("change", provider))
    assert [bar.sentence for bar in page.context["strip"]] == [check.sentence]
    assert page.context["standing"].label == ("Working" if check.is_ok else "Failing")


def test_one_key_is_tested_by_itself(console: Client, simulator: str, settings: Any) -> None:
    provider = simulated(simulator, "sim-good", settings)
    bad = add_credential(provider=provider, label="bad", secret=Secret("wrong"))
    assert console.get(url("test", bad, "credential")).status_code == 302
    assert not ProviderCheck.objects.exists()
    assert said(console.post(url("test", bad, "credential"))).startswith("Key refused: ")
    good = Credential.objects.get(label="default")
    assert "Works: " in said(console.post(url("test", good, "credential")))


@pytest.mark.parametrize(
    ("catalog_id", "told"),
    [
        ("openai", "No key yet"),
        ("github-copilot", "Nobody has signed in yet"),
        ("ollama", "needs no credential. If yours asks"),
        ("kimi-coding", "No key yet"),
    ],
)
def test_a_page_says_which_credential_is_missing(
    console: Client, catalog_id: str, told: str
) -> None:
    provider = register(slug="own", catalog_id=catalog_id)
    page = console.get(url("change", provider))
    assert told in page.content.decode()
    assert ("Add a key" in page.content.decode()) == ("sign" not in told)


def test_refreshing_shows_the_difference_before_it_writes(
    console: Client, simulator: str, settings: Any
) -> None:
    provider = simulated(simulator, "sim-good", settings)
    assert console.get(url("refresh", provider)).status_code == 302
    asked = console.post(url("refresh", provider))
    assert "What a refresh would change" in asked.content.decode()
    assert "sim-gpt" in asked.content.decode()
    assert not ProviderModel.objects.exists()
    done = console.post(url("refresh", provider), {"confirmed": "yes"})
    count = ProviderModel.objects.filter(origin="listed").count()
    assert said(done) == f"{count} models brought up to date."
    assert said(console.post(url("refresh", provider))).endswith("list says nothing new.")
    # Strangers wait for somebody who switches them on.
    page = console.get(url("change", provider))
    assert page.context["models"]["on"] == 0
    answer = console.post(url("switch_models", provider), {"model": ["sim-gpt"], "to": "on"})
    assert said(answer).endswith("1 model switched on.")
    assert console.get(url("change", provider)).context["models"]["on"] == 1


def test_a_list_that_does_not_come_is_explained(console: Client, simulator: str) -> None:
    provider = register(slug="own", **CUSTOM)
    answer = console.post(url("refresh", provider))
    assert said(answer) == "There is no usable credential to list models with: store one."


def test_one_click_switches_off_and_on_and_a_get_does_nothing(console: Client) -> None:
    provider = register(slug="own", **CUSTOM)
    for view, is_enabled, told in (
        ("disable", False, "own is off. No request uses it from now on."),
        ("disable", False, "own was off before."),
        ("enable", True, "own is on. Requests may use it from now on."),
    ):
        console.get(url("enable" if view == "disable" else "disable", provider))
        assert told in said(console.post(url(view, provider)))
        assert Provider.objects.get().is_enabled is is_enabled


def test_removing_names_what_depends_on_it_and_asks(console: Client, tenant: Tenant) -> None:
    made = furnish("own", text="mine")
    other = register(slug="other", **CUSTOM)
    alias = Alias.objects.create(name="pool")
    alias.targets.create(provider=made.provider, model="m")
    alias.targets.create(provider=other, model="m")
    path = url("remove", made.provider)
    for answer in (console.get(path), console.post(path)):
        text = answer.content.decode()
        assert "1 credential and what it holds: mine" in text
        assert "Aliases that lose a target and go on with their others: pool" in text
        assert "Aliases that are left without any target: own mine" in text
    assert Provider.objects.count() == 2
    assert "own is removed" in said(console.post(path, {"confirmed": "yes"}))
    assert [row.slug for row in Provider.objects.all()] == ["other"]
    assert not Credential.objects.exists()


def test_the_simulator_says_what_it_is_and_how_to_remove_it(console: Client) -> None:
    provider = register(
        slug="simulator", catalog_id="simulator", endpoint={"origin": "http://127.0.0.1:8000/s"}
    )
    text = console.get(url("change", provider)).content.decode()
    assert f'<a class="link" href="{url("remove", provider)}">remove the simulator</a>' in text
    own = register(slug="own", **CUSTOM)
    assert "remove the simulator" not in console.get(url("change", own)).content.decode()
    console.post(url("remove", provider), {"confirmed": "yes"})
    assert [row.slug for row in Provider.objects.all()] == ["own"]


def test_sharing_with_all_or_with_chosen_tenants(
    console: Client, tenant: Tenant, other_tenant: Tenant
) -> None:
    provider = register(slug="own", **CUSTOM)
    path = url("sharing", provider)

    def save(**data: str) -> HttpResponse:
        return console.post(path, data)

    assert "no tenant called nobody" in str(
        save(with_whom="chosen", tenants="acme nobody").context["form"].errors
    )
    done = save(with_whom="chosen", tenants="acme\nglobex, acme")
    assert said(done).endswith("Only these tenants may use it: acme, globex.")
    provider.refresh_from_db()
    assert not provider.is_shared_with_all
    assert {row.tenant for row in provider.shares.all()} == {tenant, other_tenant}
    page = console.get(path)
    assert page.context["form"].initial == {"with_whom": "chosen", "tenants": "acme\nglobex"}
    assert said(save(with_whom="all")).endswith("Every tenant may use it.")
    theirs = register(slug="theirs", tenant_id=tenant.pk, **CUSTOM)
    assert "belongs to one tenant" in said(console.get(url("sharing", theirs)))
