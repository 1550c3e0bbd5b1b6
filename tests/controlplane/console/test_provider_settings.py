"""The settings of a registration as a form: only what was changed is saved, and whoever sends
stored secrets elsewhere has to know them (bar C6)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.http import HttpResponse
from django.test import Client
from django.urls import reverse

from controlplane.kit.secret import Secret
from providers.catalog.models import Provider
from providers.catalog.services import register
from providers.credentials.models import Credential
from providers.credentials.services import add_credential
from providers.credentials.sources import unsealed
from tenants import scope
from tenants.audit.actor import acting_as
from tenants.members.models import User
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


def of_each_kind() -> list[Provider]:
    rich: dict[str, Any] = {
        "features": {"vision": False, "audio": True},
        "limits": {"parallel": 3},
        "quirks": {"max_tokens_field": "max_tokens"},
        "headers": {"x-team": "blue"},
        "excluded_models": ["*-preview"],
        "force_model_prefix": True,
        "prefix": "p",
        "cooldown_seconds": 7,
        "idle_timeout_seconds": 2.5,
        "secret_headers": {"x-api-key": Secret(CANARY)},
    }
    return [
        register(slug="plain", catalog_id="openai"),
        register(
            slug="azure",
            catalog_id="azure",
            endpoint={"resource": "acme"},
            fallback_notes="two\nlines",
        ),
        register(slug="rich", **CUSTOM, **rich),
    ]


def test_settings_sent_back_as_they_came_change_nothing(console: Client) -> None:
    for provider in of_each_kind():
        path = url("settings", provider)
        page = console.get(path)
        assert CANARY not in page.content.decode()
        answer = console.post(path, filled(page))
        assert answer.status_code == 302, answer.context["form"].errors
        assert said(answer).endswith("Nothing was changed.")
        before, after = provider.version, Provider.objects.get(pk=provider.pk).version
        assert before == after


def test_settings_are_saved_and_the_page_says_who_decided_them(console: Client) -> None:
    provider = register(slug="openai", catalog_id="openai")
    path = url("settings", provider)
    answer = console.post(
        path,
        filled(
            console.get(path),
            prefix="oa",
            excluded_models="gpt-4*\n*-preview",
            limit_parallel="5",
            feature_vision="no",
            headers="X-Team: blue\nX-Other: a: b",
            passes_unknown_models="on",
            cooldown_seconds="12",
        ),
    )
    assert answer.status_code == 302, answer.context["form"].errors
    provider.refresh_from_db()
    assert provider.excluded_models == ["gpt-4*", "*-preview"]
    assert (provider.prefix, provider.limits) == ("oa", {"parallel": 5})
    assert provider.features == {"vision": False}
    assert provider.headers == {"X-Team": "blue", "X-Other": "a: b"}
    assert provider.passes_unknown_models
    page = console.get(url("change", provider))
    origins = {
        setting.name: setting.origin.label
        for _, settings in page.context["groups"]
        for setting in settings
    }
    assert origins["Base URL"] == "Catalog"
    history = console.get(url("history", provider), follow=True).context["cl"].result_list
    assert [event.action for event in history] == ["provider.changed", "provider.registered"]
    about = console.get(reverse("admin:tenants_auditevent_changelist") + "?about=provider")
    assert about.context["cl"].result_count == 2
    assert origins["Prefix"] == origins["Cooldown seconds"] == origins["Parallel"] == "Platform"
    assert origins["Weight"] == "Default"
    own = console.get(url("change", register(slug="own", **CUSTOM))).context["groups"]
    labels = {setting.origin.label for _, settings in own for setting in settings}
    assert labels == {"Platform", "Default"}
    hidden = {line.upstream_id: line.offer for line in page.context["models"]["page"]}
    console.post(path, filled(console.get(path), headers="no colon here"))
    assert hidden


def test_two_admins_cannot_overwrite_each_others_settings(console: Client) -> None:
    provider = register(slug="own", **CUSTOM)
    path = url("settings", provider)
    mine = filled(console.get(path), name="Mine")
    console.post(path, filled(console.get(path), name="Theirs"))
    answer = console.post(path, mine)
    assert answer.status_code == 200
    assert "Somebody else changed this registration" in answer.content.decode()
    assert Provider.objects.get().name == "Theirs"


@pytest.mark.parametrize(
    "address",
    [
        "http://models.example.com/v1",
        "https://other.example.com/v1",
        "https://models.example.com:8443",
    ],
    ids=["scheme", "host", "port"],
)
def test_another_address_takes_the_stored_secrets_again(console: Client, address: str) -> None:
    provider = register(slug="own", **CUSTOM)
    rows = [
        add_credential(provider=provider, label=label, secret=Secret(f"{CANARY}-{label}"))
        for label in ("one", "two")
    ]
    path = url("settings", provider)
    one, two = (f"secret_{row.pk.hex}" for row in rows)
    for given in ({}, {one: "sk-guess"}):
        answer = console.post(path, filled(console.get(path), base_url=address, **given))
        assert answer.status_code == 200
        errors = answer.context["form"].errors
        assert errors[two] == ["Give this secret again."]
        assert (one in errors) == (one not in given)
        assert "sk-guess" not in answer.content.decode()
        assert Provider.objects.get().base_url == CUSTOM["base_url"]
    again = {one: "sk-new-one", two: f"{CANARY}-two"}
    answer = console.post(path, filled(console.get(path), base_url=address, **again))
    assert answer.status_code == 302, answer.context["form"].errors
    assert Provider.objects.get().base_url == address
    kept = {row.label: unsealed(row).reveal() for row in Credential.objects.all()}
    assert kept == {"one": "sk-new-one", "two": f"{CANARY}-two"}


def test_secret_headers_are_written_kept_and_taken_away(console: Client) -> None:
    provider = register(slug="own", **CUSTOM)
    path = url("settings", provider)

    def save(**changes: str) -> HttpResponse:
        answer = console.post(path, filled(console.get(path), **changes))
        provider.refresh_from_db()
        return answer

    save(secret_headers=f"x-api-key: {CANARY}")
    assert provider.sealed_header_names == ["x-api-key"]
    save(name="Renamed")
    assert provider.sealed_header_names == ["x-api-key"]
    page = console.get(path).content.decode()
    assert "Stored now: x-api-key" in page
    assert CANARY not in page + console.get(url("change", provider)).content.decode()
    save(removes_secret_headers="on")
    assert provider.sealed_header_names == []


def test_an_edit_that_a_bundle_would_undo_says_so(console: Client) -> None:
    provider = register(
        slug="own", **CUSTOM, owned_fields={"base_url": "base", "limits": "base"}, owned_by="base"
    )
    page = console.get(url("settings", provider)).context["form"]
    assert "its next apply undoes" in page.fields["base_url"].help_text
    assert "its next apply undoes" in page.fields["limit_parallel"].help_text
    assert "next apply" not in page.fields["prefix"].help_text
    assert "kept by the bundle base" in console.get(url("change", provider)).content.decode()
