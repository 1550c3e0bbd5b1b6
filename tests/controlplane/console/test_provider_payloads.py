"""Bar W2 for the registry's pages: every payload, in every text that people, vendors and addresses
bring, comes out as text."""

from __future__ import annotations

import pytest
from django.test import Client
from django.urls import reverse

from controlplane.kit.json import dumps_str
from providers.catalog.models import Provider, ProviderModel
from providers.health.models import Finding, ProviderCheck
from tenants import scope
from tenants.members.models import User
from tests.controlplane.console.payloads import PAYLOADS
from tests.controlplane.console.registry import furnish
from tests.controlplane.console.test_payloads import parsed

pytestmark = pytest.mark.django_db

VIEWS = ("change", "settings", "remove")


@pytest.fixture
def console(client: Client, staff: User) -> Client:
    client.force_login(staff)
    return client


def test_every_payload_is_text_on_every_page_of_a_registration(console: Client) -> None:
    """One registration whose texts change: the same page, the same elements, other words."""
    made = furnish("own", text="harmless")
    made_paths = [
        *(reverse(f"admin:providers_provider_{view}", args=[made.provider.pk]) for view in VIEWS),
        reverse("admin:providers_credential_change", args=[made.credential.pk]),
        reverse("admin:providers_credential_remove", args=[made.credential.pk]),
        reverse("admin:providers_providermodel_change", args=[made.model.pk]),
        reverse("admin:providers_modelmapping_change", args=[made.mapping.pk]),
        *(
            reverse(f"admin:providers_{kind}_changelist")
            for kind in ("provider", "credential", "providermodel", "modelmapping")
        ),
        reverse("admin:providers_provider_capabilities"),
    ]
    with scope.platform("test"):
        rewrite(made.provider.pk, "harmless")
    plain = {path: parsed(console.get(path).content.decode()).shapes for path in made_paths}
    for payload in PAYLOADS[::3]:
        with scope.platform("test"):
            rewrite(made.provider.pk, payload)
        for path in made_paths:
            text = console.get(path).content.decode()
            evil = parsed(text)
            assert evil.shapes == plain[path], (path, payload)
            assert not evil.active, path
            assert "pwned" in text or "capabilities" in path, path


def rewrite(provider_id: object, payload: str) -> None:
    """Past the validators: what an older version, a bundle or a vendor may have left."""
    provider = Provider.objects.get(pk=provider_id)
    Provider.objects.filter(pk=provider.pk).update(
        name=payload, fallback_notes=payload, headers={"x-team": payload}, prefix=payload[:60]
    )
    provider.credentials.update(label=payload, state_reason=payload)
    provider.models.update(alias=payload, display_name=payload, facts={"name": payload})
    provider.mappings.update(client_model=payload, upstream_model=payload)
    provider.checks.update(sentence=payload)


def test_every_payload_in_the_address_is_text(console: Client) -> None:
    made = furnish("own", text="harmless")
    names = ("find", "type", "can", "provider", "show", "page", "model")
    query = {"provider": str(made.provider.pk)}
    for payload in PAYLOADS[::3]:
        for path, more in (
            (reverse("admin:providers_provider_add"), {}),
            (reverse("admin:providers_provider_capabilities"), {}),
            (reverse("admin:providers_provider_change", args=[made.provider.pk]), {}),
            (reverse("admin:providers_providermodel_add"), query),
            (reverse("admin:providers_credential_add"), query),
        ):
            answer = console.get(path, {**dict.fromkeys(names, payload), **more}, follow=True)
            assert answer.status_code == 200, path
            text = answer.content.decode()
            assert not parsed(text).active, path
            assert "<script>window.pwned" not in text


def test_every_payload_in_a_search_or_filter_is_text(console: Client) -> None:
    for kind in ("provider", "credential"):
        path = reverse(f"admin:providers_{kind}_changelist")
        for payload in PAYLOADS[::3]:
            text = console.get(path, {"q": payload, "owner": payload}).content.decode()
            assert not parsed(text).active
            assert "<script>window.pwned" not in text


def test_what_a_provider_lists_is_text(console: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    made = furnish("own", text="harmless")
    listed = {"object": "list", "data": [{"id": payload} for payload in PAYLOADS]}

    async def read(*_: object) -> bytes:
        return dumps_str(listed).encode()

    monkeypatch.setattr("providers.inventory.ask._read", read)
    path = reverse("admin:providers_provider_refresh", args=[made.provider.pk])
    shown = console.post(path).content.decode()
    assert "pwned" in shown
    assert not parsed(shown).active
    console.post(path, {"confirmed": "yes"})
    with scope.platform("test"):
        assert ProviderModel.objects.filter(origin="listed").exists()
        ProviderCheck.objects.create(
            provider=made.provider, is_ok=False, finding=Finding.BAD_REQUEST, sentence=PAYLOADS[2]
        )
    page = reverse("admin:providers_provider_change", args=[made.provider.pk])
    for query in ("", "?page=2", "?find=pwned"):
        text = console.get(page + query).content.decode()
        assert "pwned" in text
        assert not parsed(text).active
