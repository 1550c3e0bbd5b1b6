"""Signing in at each vendor, from the code to a credential: real HTTP, time moved by hand."""

from __future__ import annotations

import pytest

from providers.credentials.models import Credential
from providers.oauth.flows.tokens import unpacked
from tenants.vault import services as vault
from tests.providers.oauth.conftest import Desk

pytestmark = [pytest.mark.storage, pytest.mark.django_db]

WAYS = [
    ("github-copilot", "device", {}, "@ada"),
    ("kiro", "builder_id", {}, "ada@example.test"),
    (
        "kiro",
        "identity_center",
        {"start_url": "https://example.awsapps.com/start", "oidc_region": "eu-west-1"},
        "ada@example.test",
    ),
    ("kiro", "google", {}, "ada@example.test"),
    ("openai-codex", "device", {}, "ada@example.test"),
    ("kimi-coding", "device", {}, "account "),
    ("xai", "device", {}, "ada@example.test"),
    ("kilo", "device", {}, "ada@example.test"),
    ("", "device", {}, "ada@example.test"),
]


@pytest.mark.parametrize(
    ("catalog_id", "way", "inputs", "label"), WAYS, ids=[f"{w[0]}-{w[1]}" for w in WAYS]
)
def test_a_login_becomes_a_credential(
    desk: Desk, catalog_id: str, way: str, inputs: dict[str, str], label: str
) -> None:
    provider = desk.provider(catalog_id)
    login = desk.begin(provider, way, inputs=inputs)
    assert login.status == "pending", (login.error_code, login.error_detail)
    assert login.user_code
    assert login.verification_uri.startswith(desk.simulator.url)
    for _ in range(2):
        desk.poll(login)
        assert login.status == "pending", (login.error_code, login.error_detail)
    desk.approve(login)
    desk.poll(login)
    assert login.status == "confirm", (login.error_code, login.error_detail)
    assert login.account_label.startswith(label)
    # Nothing serves before the person said that it is the right account.
    assert not Credential.objects.exists()
    credential = desk.confirm(login)
    login.refresh_from_db()
    assert login.status == "completed"
    assert login.credential_id == credential.pk
    assert login.sealed is None
    assert credential.tenant_id == desk.tenant.pk
    assert credential.owner_id == desk.user.pk
    assert credential.is_personal
    tokens = unpacked(vault.unseal_from(credential, "sealed").reveal())
    assert tokens.access_token
    assert tokens.access_token.encode() not in bytes(credential.sealed or b"")
    assert desk.simulator.rules() == []
