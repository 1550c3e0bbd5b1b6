"""Kiro's own files: taken over when one renewal proves them, refused with the reason when not."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from providers.credentials.models import Credential
from providers.oauth.errors import BadPastedCode
from providers.oauth.flows.kiro_file import BadFile, Imported, read_file
from providers.oauth.flows.tokens import unpacked
from providers.oauth.imports import import_kiro
from providers.oauth.models import DeviceLogin
from providers.oauth.refresh import ensure_fresh
from tenants import scope
from tenants.vault import services as vault
from tests.providers.oauth.conftest import Desk

pytestmark = [pytest.mark.storage, pytest.mark.django_db]
NOW = datetime(2026, 11, 21, tzinfo=UTC)
LONG = "aorAAAAAG" + "x" * 120


def files_of(credential: Credential, method: str, provider: str) -> tuple[str, str]:
    """The files of the desktop program, had it signed in there."""
    held = unpacked(vault.unseal_from(credential, "sealed").reveal())
    token = {
        "accessToken": held.access_token,
        "refreshToken": held.refresh_token,
        "expiresAt": "2026-01-01T00:00:00.000Z",
        "authMethod": method,
        "provider": provider,
        "clientIdHash": "0123456789abcdef0123456789abcdef01234567",
        "region": "us-east-1",
    }
    client = {"clientId": held.client_id, "clientSecret": held.client_secret}
    return json.dumps(token), json.dumps(client) if held.client_id else ""


def take(desk: Desk, provider: Any, token_file: str, client_file: str) -> DeviceLogin:
    with scope.tenant(desk.tenant.pk):
        return import_kiro(
            user=desk.user,
            tenant=desk.tenant,
            provider=provider,
            token_file=token_file,
            client_file=client_file,
            now=desk.clock.now(),
        )


@pytest.mark.parametrize(
    ("way", "method", "name"),
    [("builder_id", "IdC", "BuilderId"), ("google", "social", "Google"),
     ("github", "social", "Github")],
)  # fmt: skip
def test_a_file_becomes_a_credential_that_renews(
    desk: Desk, way: str, method: str, name: str
) -> None:
    provider = desk.provider("kiro")
    elsewhere = desk.sign_in(provider, way)
    token_file, client_file = files_of(elsewhere, method, name)
    elsewhere.delete()
    login = take(desk, provider, token_file, client_file)
    assert (login.status, login.login) == ("confirm", way)
    assert not Credential.objects.exists()
    credential = desk.confirm(login)
    first = ensure_fresh(credential.pk)
    assert ensure_fresh(credential.pk, refused=first.token).token != first.token


def test_a_file_whose_sign_in_ended_says_so(desk: Desk) -> None:
    provider = desk.provider("kiro")
    token_file, client_file = files_of(desk.sign_in(provider, "google"), "social", "Google")
    desk.simulator.control("logins/revoke", {"vendor": "kiro", "account": "ada"})
    login = take(desk, provider, token_file, client_file)
    assert (login.status, login.error_code, login.sealed) == ("error", "import_dead", None)


@pytest.mark.parametrize(
    ("token", "sentence"),
    [
        ("", "no JSON"),
        ("[]", "no JSON"),
        ("x" * 70_000, "larger"),
        ({"authMethod": "social", "refreshToken": "aor...short"}, "cut"),
        ({"authMethod": "social", "refreshToken": LONG + "..."}, "cut"),
        ({"authMethod": "IdC", "refreshToken": LONG, "clientIdHash": "abc1"}, "abc1.json"),
        ({"authMethod": "IdC", "refreshToken": LONG, "clientIdHash": "../x"}, "client's file"),
        ({"authMethod": "external_idp", "refreshToken": LONG}, "external_idp"),
        ({"refreshToken": LONG}, "unknown"),
    ],
    ids=range(9),
)
def test_files_that_are_none(desk: Desk, token: Any, sentence: str) -> None:
    text = token if isinstance(token, str) else json.dumps(token)
    with pytest.raises(BadPastedCode, match=sentence):
        take(desk, desk.provider("kiro"), text, "")
    assert not DeviceLogin.objects.exists()


def test_what_is_read_of_a_companys_file() -> None:
    token = {
        "refreshToken": LONG, "accessToken": "aoa", "authMethod": "IdC", "provider": "Enterprise",
        "region": "eu-west-1", "expiresAt": "2026-11-21T01:00:00.000Z",
    }  # fmt: skip
    client = {"clientId": "c", "clientSecret": "s", "expiresAt": "2026-12-01T00:00:00.000Z"}
    read = read_file(json.dumps(token), json.dumps(client), NOW)
    assert isinstance(read, Imported)
    assert (read.way, read.endpoint) == ("identity_center", {"oidc_region": "eu-west-1"})
    assert read.tokens.expires_at - NOW.timestamp() == 3_600
    assert isinstance(read_file(json.dumps(token), "{}", NOW), BadFile)
    assert LONG not in repr(read)
