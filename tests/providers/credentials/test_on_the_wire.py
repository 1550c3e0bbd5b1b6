"""Secrets and identities that are kept elsewhere, asked for over real sockets."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from google.auth.compute_engine import _metadata

from controlplane.kit.secret import Secret
from providers.catalog.services import register
from providers.credentials import elsewhere
from providers.credentials.clouds import CloudCredentials
from providers.credentials.elsewhere import SourceUnavailable
from providers.credentials.models import Credential
from providers.credentials.services import add_credential
from providers.credentials.sources import secret_of
from providers.routing.table import CredentialRef
from providers.signing.outbound import Outbound
from tenants import scope
from tenants.audit.actor import acting_as
from tests.providers.credentials.wire_servers import (
    GoogleTokens,
    Kv2,
    SecretsManager,
    Server,
    listening,
    metadata_server,
)

pytestmark = pytest.mark.django_db

TOKEN = "hvs.test-0123456789"


@pytest.fixture(autouse=True)
def _here(settings: Any) -> None:
    settings.UPSTREAM_ALLOWED_NETWORKS = ["127.0.0.0/8"]


def read(source: str, reference: str) -> str:
    with acting_as("command", None, "tests"), scope.platform("tests"):
        provider = register(slug="acme", catalog_id="openai")
        row = add_credential(provider=provider, label="one", source=source, reference=reference)
    return secret_of(str(row.pk)).reveal()


# --- HashiCorp Vault ------------------------------------------------------------------------------


@pytest.fixture
def kv() -> Kv2:
    return Kv2(
        token=TOKEN,
        secrets={"team/acme": {"key": "sk-from-vault", "count": 5, "none": None, "blank": " "}},
        deleted={"team/gone"},
    )


@pytest.fixture
def vault(kv: Kv2, settings: Any) -> Iterator[Server]:
    with listening(kv.answer) as server:
        settings.HASHICORP_VAULT_URL = server.url
        settings.HASHICORP_VAULT_TOKEN = Secret(TOKEN).reveal()
        settings.HASHICORP_VAULT_TOKEN_FILE = ""
        settings.HASHICORP_VAULT_NAMESPACE = ""
        yield server


def test_vault_gives_the_field(vault: Server) -> None:
    assert read("vault_kv", "secret/team/acme#key") == "sk-from-vault"
    [seen] = vault.requests
    assert seen.path == "/v1/secret/data/team/acme"


def test_vault_in_a_namespace_by_a_token_from_a_file(
    vault: Server, kv: Kv2, settings: Any, tmp_path: Path
) -> None:
    kv.namespace = "acme/models"
    settings.HASHICORP_VAULT_NAMESPACE = "acme/models"
    settings.HASHICORP_VAULT_TOKEN = ""
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    settings.HASHICORP_VAULT_TOKEN_FILE = str(file)
    assert read("vault_kv", "secret/team/acme#key") == "sk-from-vault"


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ("secret/team/acme#other", "no text under"),
        ("secret/team/acme#count", "no text under"),
        ("secret/team/acme#none", "no text under"),
        ("secret/team/acme#blank", "gave nothing"),
        ("secret/team/gone#key", "answered 404"),
        ("secret/team/never#key", "answered 404"),
        ("other/team/acme#key", "answered 404"),
    ],
)
def test_what_vault_does_not_have_is_told_by_its_name(
    vault: Server, reference: str, words: str
) -> None:
    with pytest.raises(SourceUnavailable, match=words) as caught:
        read("vault_kv", reference)
    assert "sk-from-vault" not in str(caught.value)


@pytest.mark.parametrize("why", ["wrong token", "sealed", "away"])
def test_a_vault_that_does_not_answer(vault: Server, kv: Kv2, settings: Any, why: str) -> None:
    words = {"wrong token": "answered 403", "sealed": "answered 503", "away": "cannot be reached"}
    kv.is_sealed = why == "sealed"
    if why == "wrong token":
        settings.HASHICORP_VAULT_TOKEN = "hvs.other"
    if why == "away":
        settings.HASHICORP_VAULT_URL = "http://127.0.0.1:1"
    with pytest.raises(SourceUnavailable, match=words[why]):
        read("vault_kv", "secret/team/acme#key")


# --- AWS Secrets Manager --------------------------------------------------------------------------


@pytest.fixture
def manager() -> SecretsManager:
    return SecretsManager(
        access_key="AKIDEXAMPLE",
        secret_key="wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
        region="eu-west-1",
        secrets={"acme/prod": json.dumps({"key": "sk-from-aws", "count": 5}), "plain": "sk-plain"},
    )


@pytest.fixture
def aws(
    manager: SecretsManager, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Server]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", manager.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", manager.secret_key)
    monkeypatch.delenv("AWS_SESSION_TOKEN", raising=False)
    # Nothing goes through a proxy of the environment (bar N6).
    for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    with listening(manager.answer) as server:
        settings.AWS_SECRETS_ENDPOINT_URL = server.url
        settings.AWS_SECRETS_REGION = "eu-west-1"
        yield server


@pytest.mark.parametrize("reference", ["acme/prod#key", "{arn}#key", "plain"])
def test_aws_gives_the_secret_or_its_field(
    aws: Server, manager: SecretsManager, reference: str
) -> None:
    found = read("aws_secrets", reference.format(arn=manager.arn("acme/prod")))
    assert found == ("sk-plain" if reference == "plain" else "sk-from-aws")


def test_the_region_is_that_of_the_arn(aws: Server, manager: SecretsManager, settings: Any) -> None:
    settings.AWS_SECRETS_REGION = "us-east-1"
    assert read("aws_secrets", f"{manager.arn('plain')}") == "sk-plain"


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ("acme/prod#other", "no text under"),
        ("acme/prod#count", "no text under"),
        ("plain#key", "no text under"),
        ("never", "ResourceNotFoundException"),
    ],
)
def test_what_aws_does_not_have_is_told_by_its_name(
    aws: Server, reference: str, words: str
) -> None:
    with pytest.raises(SourceUnavailable, match=words) as caught:
        read("aws_secrets", reference)
    assert "sk-" not in str(caught.value)


def test_an_identity_that_aws_does_not_know(aws: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another")
    with pytest.raises(SourceUnavailable, match="gave nothing for plain"):
        read("aws_secrets", "plain")


def test_an_aws_that_is_away_is_given_up_soon(aws: Server, settings: Any) -> None:
    settings.AWS_SECRETS_ENDPOINT_URL = "http://127.0.0.1:1"
    with pytest.raises(SourceUnavailable, match="EndpointConnectionError"):
        read("aws_secrets", "plain")
    client = elsewhere.aws_client("eu-west-1")
    options = client.meta.config
    assert (options.connect_timeout, options.read_timeout) == (5.0, 10.0)
    assert options.retries["total_max_attempts"] == 2


# --- Google's defaults ----------------------------------------------------------------------------


def google_headers() -> dict[str, str]:
    with acting_as("command", None, "tests"), scope.platform("tests"):
        provider = register(
            slug="vertex",
            catalog_id="google-vertex",
            endpoint={"project": "acme-project", "location": "europe-west4"},
        )
        row: Credential = add_credential(
            provider=provider, label="one", secret=Secret('{"adc": true}')
        )
    made = CloudCredentials()
    try:
        ref = CredentialRef(id=str(row.pk), kind=row.kind)
        return asyncio.run(made.headers(ref, Outbound("POST", "https://x.example/", {}, b"")))
    finally:
        made.close()


@pytest.mark.django_db(transaction=True)
def test_googles_defaults_from_a_key_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    tokens = GoogleTokens(key.public_key(), "svc@acme-project.iam.gserviceaccount.com")
    with listening(tokens.answer) as server:
        pem = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        file = tmp_path / "key.json"
        file.write_text(
            json.dumps(
                {
                    "type": "service_account",
                    "project_id": "acme-project",
                    "private_key_id": "one",
                    "private_key": pem.decode(),
                    "client_email": tokens.email,
                    "token_uri": f"{server.url}/token",
                }
            )
        )
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(file))
        assert google_headers() == {"Authorization": f"Bearer {tokens.token}"}


@pytest.mark.django_db(transaction=True)
def test_googles_defaults_from_the_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    # No user file of whoever runs the tests.
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    with listening(metadata_server) as server:
        host = server.url.removeprefix("http://")
        monkeypatch.setenv("GCE_METADATA_IP", host)
        # Read from the environment when the library is imported.
        monkeypatch.setattr(_metadata, "_GCE_METADATA_HOST", host)
        assert google_headers() == {"Authorization": "Bearer ya29.of-the-machine"}


@pytest.mark.django_db(transaction=True)
def test_a_machine_without_googles_defaults(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "none.json"))
    with pytest.raises(SourceUnavailable, match="Google gave no token"):
        google_headers()
