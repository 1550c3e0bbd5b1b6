"""Cloud identities: AWS signatures that AWS's own signer finds right, tokens made and kept, and a
tenant that never gets the machine's own identity."""

from __future__ import annotations

import asyncio
import json
import uuid
from typing import Any

import pytest

from controlplane.kit.secret import Secret
from providers.catalog.services import register
from providers.credentials import clouds
from providers.credentials.clouds import CloudCredentials, region_of
from providers.credentials.elsewhere import SourceUnavailable
from providers.credentials.models import Credential
from providers.credentials.services import add_credential
from providers.routing.table import CredentialRef
from providers.signing.outbound import Outbound
from providers.simulator.access_keys import ACCESS_KEY, SECRET_KEY
from providers.simulator.http import Request
from providers.simulator.wire import Refused, sigv4
from providers.simulator.world import World
from tenants import scope
from tenants.audit.actor import acting_as
from tenants.members.models import Tenant

pytestmark = pytest.mark.django_db(transaction=True)

URL = "http://127.0.0.1:9/bedrock/model/anthropic.claude-3%3A0/converse"


def stored(
    catalog_id: str, secret: str, tenant: Tenant | None = None, **values: Any
) -> CredentialRef:
    place = scope.tenant(tenant.pk) if tenant is not None else scope.platform("tests")
    with acting_as("command", None, "tests"), place:
        provider = register(
            slug=f"c{uuid.uuid4().hex[:6]}",
            catalog_id=catalog_id,
            tenant_id=tenant.pk if tenant is not None else None,
            **values,
        )
        row = add_credential(provider=provider, label="one", secret=Secret(secret))
    return CredentialRef(id=str(row.pk), kind=row.kind)


def headers(ref: CredentialRef, outbound: Outbound) -> dict[str, str]:
    made = CloudCredentials()
    try:
        return asyncio.run(made.headers(ref, outbound))
    finally:
        made.close()


def outbound(url: str = URL, body: bytes = b'{"messages": []}') -> Outbound:
    return Outbound("POST", url, {"Content-Type": "application/json", "Accept": "*/*"}, body)


@pytest.mark.parametrize(
    "secret",
    [
        f"{ACCESS_KEY}:{SECRET_KEY}",
        json.dumps({"access_key_id": ACCESS_KEY, "secret_access_key": SECRET_KEY}),
        f"{ACCESS_KEY}:{SECRET_KEY}:a-session-token",
    ],
    ids=["line", "object", "session"],
)
def test_signatures_are_right_to_the_byte(secret: str) -> None:
    ref = stored("amazon-bedrock", secret)
    assert ref.kind == Credential.Kind.AWS
    sent = outbound()
    made = headers(ref, sent)
    assert ("X-Amz-Security-Token" in made) is secret.endswith("a-session-token")
    assert SECRET_KEY not in str(made)
    lowered = {k.lower(): v for k, v in {**sent.headers, **made}.items()}
    path = URL.removeprefix("http://127.0.0.1:9")
    request = Request("POST", path, {"host": "127.0.0.1:9", **lowered}, sent.body, "")
    sigv4.verify(request, World())
    tampered = Request("POST", path, {"host": "127.0.0.1:9", **lowered}, b'{"messages": [1]}', "")
    with pytest.raises(Refused):
        sigv4.verify(tampered, World())


@pytest.mark.parametrize(
    ("url", "endpoint", "region"),
    [
        ("https://bedrock-runtime.eu-central-1.amazonaws.com/x", {}, "eu-central-1"),
        ("https://bedrock-runtime.us-gov-west-1.amazonaws.com/x", {"region": "x"}, "us-gov-west-1"),
        ("https://proxy.example.com/x", {"region": "eu-west-1"}, "eu-west-1"),
        ("https://proxy.example.com/x", {}, "us-east-1"),
    ],
    ids=["host", "gov", "own address", "default"],
)
def test_regions(url: str, endpoint: dict[str, str], region: str) -> None:
    assert region_of(url, endpoint) == region


@pytest.mark.parametrize(
    ("catalog_id", "secret", "sentence"),
    [
        ("amazon-bedrock", '{"chain": true}', "its own keys"),
        ("amazon-bedrock", '{"chain": true, "profile": "default"}', "its own keys"),
        ("google-vertex", '{"adc": true}', "its own key file"),
    ],
    ids=["chain", "profile", "adc"],
)
def test_a_tenant_never_gets_the_machines_own_identity(
    tenant: Tenant,
    catalog_id: str,
    secret: str,
    sentence: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
    ref = stored(catalog_id, secret, tenant)
    with pytest.raises(SourceUnavailable, match=sentence):
        headers(ref, outbound())


def test_the_platform_may_use_the_chain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    made = headers(stored("amazon-bedrock", '{"chain": true}'), outbound())
    assert f"Credential={ACCESS_KEY}/" in made["Authorization"]


@pytest.mark.parametrize(
    "value",
    [
        {"type": "external_account", "credential_source": {"file": "/etc/passwd"}},
        {"type": "external_account", "credential_source": {"executable": {"command": "id"}}},
        {"type": "impersonated_service_account", "source_credentials": {}},
        {"type": "service_account", "token_uri": "https://evil.test/token"},
        {"type": "service_account"},
        {"type": "authorized_user", "token_uri": "http://169.254.169.254/"},
        {},
    ],
    ids=["file", "executable", "impersonated", "token host", "no token host", "metadata", "empty"],
)
def test_key_files_that_would_reach_elsewhere_are_refused(
    tenant: Tenant, value: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(clouds, "_ask", lambda _m, url, *_: asked.append(url))
    with pytest.raises(SourceUnavailable):
        headers(stored("google-vertex", json.dumps(value), tenant), outbound())
    assert asked == []


def test_google_user_files_become_tokens_and_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bytes] = []

    def answer(_m: str, _u: str, _h: dict[str, str], body: bytes) -> tuple[int, bytes]:
        asked.append(body)
        return 200, b'{"access_token": "ya29.made", "expires_in": 3599, "token_type": "Bearer"}'

    monkeypatch.setattr(clouds, "_ask", answer)
    value = {
        "type": "authorized_user",
        "client_id": "c",
        "client_secret": "s",
        "refresh_token": "1//r",
    }
    ref = stored("google-vertex", json.dumps(value))
    made = CloudCredentials()
    try:
        found = [asyncio.run(made.headers(ref, outbound())) for _ in range(3)]
    finally:
        made.close()
    assert found == [{"Authorization": "Bearer ya29.made"}] * 3
    assert len(asked) == 1
    assert b"refresh_token=1%2F%2Fr" in asked[0]


def test_entra_client_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, bytes]] = []

    def answer(_m: str, url: str, _h: dict[str, str], body: bytes) -> tuple[int, bytes]:
        asked.append((url, body))
        return 200, b'{"access_token": "eyJ.made", "expires_in": 3599}'

    monkeypatch.setattr(clouds, "_ask", answer)
    value = {"tenant_id": "contoso.example", "client_id": "c", "client_secret": "s"}
    with acting_as("command", None, "tests"), scope.platform("tests"):
        provider = register(slug="azure", catalog_id="azure", endpoint={"resource": "mine"})
        row = add_credential(
            provider=provider,
            label="one",
            kind=Credential.Kind.AZURE,
            secret=Secret(json.dumps(value)),
        )
    ref = CredentialRef(id=str(row.pk), kind=row.kind)
    assert headers(ref, outbound()) == {"Authorization": "Bearer eyJ.made"}
    [(url, body)] = asked
    assert url == "https://login.microsoftonline.com/contoso.example/oauth2/v2.0/token"
    assert b"scope=https%3A%2F%2Fcognitiveservices.azure.com%2F.default" in body


@pytest.mark.parametrize("tenant_id", ["", "a/b", "a?b", "a#b", "a%2fb", "a b", "a\r\nb", "../x"])
def test_entra_tenants_end_up_in_an_address(tenant_id: str) -> None:
    value = {"tenant_id": tenant_id, "client_id": "c", "client_secret": "s"}
    with pytest.raises(SourceUnavailable, match="tenant_id"):
        clouds._entra_token(value, False)
