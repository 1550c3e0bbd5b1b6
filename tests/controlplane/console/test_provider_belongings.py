"""Models, mappings and credentials of a registration: made, changed and taken away on its pages,
and no secret ever shown."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.test import Client

from controlplane.kit.secret import Secret
from providers.catalog.models import ModelMapping, ProviderModel
from providers.catalog.services import register
from providers.credentials.models import Credential
from providers.credentials.services import add_credential
from providers.credentials.sources import unsealed
from tenants import scope
from tenants.audit.actor import acting_as
from tenants.members.models import Tenant, User
from tests.controlplane.console.registry import (
    CANARY,
    CUSTOM,
    filled,
    said,
    url,
)

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


def test_models_are_searched_and_paged(console: Client) -> None:
    provider = register(slug="router", catalog_id="openrouter", excluded_models=["openai/*"])
    whole = console.get(url("change", provider)).context["models"]
    assert whole["total"] > 300
    assert len(whole["page"].object_list) == 25
    second = console.get(url("change", provider) + whole["after"].partition("#")[0])
    assert second.context["models"]["page"].number == 2
    found = console.get(url("change", provider) + "?find=anthropic+opus").context["models"]
    names = [line.upstream_id for line in found["page"]]
    assert names
    assert all("opus" in name and "anthropic" in name for name in names)
    off = console.get(url("change", provider) + "?show=off").context["models"]
    assert {line.offer.label for line in off["page"]} == {"Excluded by pattern"}
    assert off["found"] == whole["total"] - whole["on"]
    for odd in ("?page=x", "?page=-1", "?page=999", "?find=%00%F0", "?show=x"):
        assert console.get(url("change", provider) + odd).status_code == 200


def test_models_are_switched_off_and_on_where_they_stand(console: Client) -> None:
    provider = register(slug="openai", catalog_id="openai")
    path = url("switch_models", provider)
    sent = {
        "model": ["gpt-4o", "gpt-4o-mini", "made-up"],
        "find": "gpt-4o",
        "show": "",
        "page": "1",
    }
    answer = console.post(path, {**sent, "to": "off"})
    assert said(answer).endswith("2 models switched off.")
    assert answer.headers["Location"].endswith("?find=gpt-4o&page=1#models")
    page = console.get(url("change", provider) + "?show=off")
    assert [line.upstream_id for line in page.context["models"]["page"]] == [
        "gpt-4o",
        "gpt-4o-mini",
    ]
    assert said(console.post(path, {**sent, "to": "on"})).endswith("2 models switched on.")
    assert console.get(url("change", provider)).context["models"]["on"] == 51


def test_a_model_is_described_changed_and_taken_back(console: Client) -> None:
    provider = register(slug="own", **CUSTOM)
    path = url("add", kind="providermodel") + f"?provider={provider.pk}&model=llama"
    page = console.get(path)
    assert page.context["form"]["upstream_id"].value() == "llama"
    price = '{"price": {"input": "0.5", "output": "1.25"}}'
    console.post(path, filled(page, is_enabled="on", context_window="8192", facts=price))
    row = ProviderModel.objects.get()
    line = console.get(url("change", provider)).context["models"]["page"][0]
    assert (line.upstream_id, line.context_window, line.price) == ("llama", 8192, "$0.50 / $1.25")
    change = url("change", row, "providermodel")
    refused = console.post(change, filled(console.get(change), facts='{"colour": 1}'))
    assert "is no fact of a model" in refused.context["form"].errors["facts"][0]
    twice = console.post(path, filled(console.get(path), is_enabled="on"))
    assert "has 'llama' already" in twice.context["form"].errors["upstream_id"][0]
    saved = console.post(change, filled(console.get(change), alias="small", is_enabled="on"))
    assert saved.status_code == 302
    row.refresh_from_db()
    assert (row.alias, row.context_window, row.version) == ("small", 8192, 2)
    console.post(url("remove", row, "providermodel"), {"confirmed": "yes"})
    assert not ProviderModel.objects.exists()


def test_mappings_are_made_changed_and_removed(console: Client) -> None:
    provider = register(slug="openai", catalog_id="openai")
    assert "gpt-4-turbo" in console.get(url("change", provider)).context["usual_mappings"]
    assert said(console.post(url("default_mappings", provider))) == "1 mapping added."
    path = url("add", kind="modelmapping") + f"?provider={provider.pk}"
    twice = console.post(path, {"client_model": "gpt-4-turbo", "upstream_model": "gpt-5"})
    assert "maps 'gpt-4-turbo' already" in twice.context["form"].errors["client_model"][0]
    console.post(path, {"client_model": "best", "upstream_model": "gpt-5"})
    row = ModelMapping.objects.get(client_model="best")
    change = url("change", row, "modelmapping")
    console.post(change, filled(console.get(change), upstream_model="gpt-5.1"))
    row.refresh_from_db()
    assert row.upstream_model == "gpt-5.1"
    console.post(url("remove", row, "modelmapping"), {"confirmed": "yes"})
    assert [one.client_model for one in ModelMapping.objects.all()] == ["gpt-4-turbo"]


def test_a_credential_is_stored_replaced_switched_and_removed_and_never_shown(
    console: Client,
) -> None:
    provider = register(slug="own", **CUSTOM)
    path = url("add", kind="credential") + f"?provider={provider.pk}"
    page = console.get(path)
    assert page.context["form"]["label"].value() == "default"
    assert console.post(path, filled(page)).context["form"].errors["secret"]
    assert console.post(path, filled(page, secret=CANARY)).status_code == 302
    row = Credential.objects.get()
    twice = console.post(path, filled(console.get(path), label="default", secret="sk-other"))
    assert "has a credential 'default' already" in twice.context["form"].errors["label"][0]
    change = url("change", row, "credential")
    shown = console.get(change).content.decode()
    assert row.fingerprint in shown
    assert CANARY not in shown
    console.post(change, filled(console.get(change), priority="3"))
    row.refresh_from_db()
    assert (row.priority, unsealed(row).reveal()) == (3, CANARY)
    console.post(change, filled(console.get(change), secret="sk-second"))
    row.refresh_from_db()
    assert unsealed(row).reveal() == "sk-second"
    way = "http://proxy.example.com:3128"
    unsure = console.post(change, filled(console.get(change), proxy_url=way))
    assert "give the secret again" in unsure.context["form"].errors["secret"][0]
    console.post(change, filled(console.get(change), proxy_url=way, secret="sk-second"))
    row.refresh_from_db()
    assert row.proxy_url == way
    stale = {**filled(console.get(change)), "seen_version": "1"}
    assert "Somebody else changed" in str(console.post(change, stale).context["form"].errors)
    assert "No request uses" in said(console.post(url("disable", row, "credential")))
    row.refresh_from_db()
    assert row.state == Credential.State.DISABLED
    assert "may use" in said(console.post(url("enable", row, "credential")))
    remove = url("remove", row, "credential")
    assert "gone for good" in console.get(remove).content.decode()
    console.post(remove, {"confirmed": "yes"})
    assert not Credential.objects.exists()


ELSEWHERE = [
    ("environment", "ACME_KEY", "UNLISTED_KEY", "not listed in SECRET_VARIABLES"),
    ("file", "/run/acme/key", "/etc/passwd", "in no folder of SECRET_FOLDERS"),
    ("command", "acme", "/bin/sh", "not listed in SECRET_COMMANDS"),
    ("vault_kv", "secret/team/acme#key", "secret/../acme#key", "named mount/path#field"),
    ("aws_secrets", "acme/prod#key", "acme prod", "named by its name or ARN"),
]


@pytest.fixture
def _sources(settings: Any) -> None:
    settings.SECRET_VARIABLES = ["ACME_KEY"]
    settings.SECRET_VALUES = {"ACME_KEY": Secret(CANARY)}
    settings.SECRET_FOLDERS = ["/run/acme"]
    settings.SECRET_COMMANDS = {"acme": ["/bin/echo", "x"]}
    settings.HASHICORP_VAULT_URL = "https://vault.example.com"


@pytest.mark.usefixtures("_sources")
@pytest.mark.parametrize(
    ("source", "reference", "wrong", "words"), ELSEWHERE, ids=[row[0] for row in ELSEWHERE]
)
def test_a_platforms_credential_may_be_kept_elsewhere(
    console: Client, source: str, reference: str, wrong: str, words: str
) -> None:
    provider = register(slug="own", **CUSTOM)
    path = url("add", kind="credential") + f"?provider={provider.pk}"
    page = console.get(path)
    assert "ACME_KEY in SECRET_VARIABLES" in page.content.decode()

    def errors(name: str, **more: str) -> str:
        answer = console.post(path, filled(page, source=source, **more))
        assert answer.status_code == 200
        return str(answer.context["form"].errors[name])

    assert words in errors("reference", reference=wrong)
    assert "Say where" in errors("reference", reference="")
    assert "Leave it empty" in errors("secret", reference=reference, secret=CANARY)
    assert console.post(path, filled(page, source=source, reference=reference)).status_code == 302
    row = Credential.objects.get()
    assert (row.source, row.reference, row.sealed, row.fingerprint) == (source, reference, None, "")
    # To a secret of ours, and back: what was sealed is gone.
    change = url("change", row, "credential")
    refused = console.post(change, filled(console.get(change), source="stored"))
    assert "Give the secret" in str(refused.context["form"].errors["secret"])
    kept = filled(console.get(change), source="stored", secret=CANARY)
    assert console.post(change, kept).status_code == 302
    row.refresh_from_db()
    assert (row.source, row.reference, unsealed(row).reveal()) == ("stored", "", CANARY)
    moved = filled(console.get(change), source=source, reference=reference)
    assert console.post(change, moved).status_code == 302
    row.refresh_from_db()
    assert (row.source, row.reference, row.sealed, row.fingerprint) == (source, reference, None, "")


def test_a_tenants_credential_is_kept_here(console: Client, tenant: Tenant) -> None:
    provider = register(slug="theirs", tenant_id=tenant.pk, **CUSTOM)
    path = url("add", kind="credential") + f"?provider={provider.pk}"
    page = console.get(path)
    assert not {"source", "reference"} & page.context["form"].fields.keys()
    sent = {"source": "environment", "reference": "ACME_KEY"}
    assert console.post(path, filled(page, **sent)).context["form"].errors["secret"]
    assert console.post(path, filled(page, secret=CANARY, **sent)).status_code == 302
    row = Credential.objects.get()
    assert (row.source, row.reference) == ("stored", "")


@pytest.mark.usefixtures("_sources")
def test_the_page_says_whose_key_requests_show(console: Client) -> None:
    provider = register(slug="own", **CUSTOM)
    assert console.get(url("change", provider)).context["key_sources"] == []
    add_credential(
        provider=provider, label="later", source="environment", reference="ACME_KEY", priority=9
    )
    add_credential(provider=provider, label="first", secret=Secret(CANARY))
    page = console.get(url("change", provider))
    assert page.context["key_sources"] == [
        "Stored here, sealed: first",
        "Environment variable: later",
    ]
    assert CANARY not in page.content.decode()


def test_signing_in_is_one_click_away_where_there_is_a_login(console: Client) -> None:
    login = register(slug="copilot", catalog_id="github-copilot")
    page = console.get(url("change", login)).content.decode()
    assert 'href="/login/copilot/?owner=platform"' in page
    key = register(slug="own", **CUSTOM)
    assert "/login/own/" not in console.get(url("change", key)).content.decode()


def test_what_belongs_to_a_provider_is_not_made_without_one(console: Client) -> None:
    for kind in ("credential", "providermodel", "modelmapping"):
        for odd in ("", "?provider=nonsense", "?provider=00000000-0000-0000-0000-000000000000"):
            answer = console.get(url("add", kind=kind) + odd)
            assert answer.headers["Location"] == url("changelist")
            assert "belongs to a provider" in said(answer)
