from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from controlplane.kit.secret import Secret
from tenants.vault.errors import KeyRingProblem, KeyServiceUnavailable
from tenants.vault.wrapping.contract import KeyContext, Wrapped
from tenants.vault.wrapping.hashicorp import Transit
from tests.tenants.vault.fake_services import FakeTransit, running

CONTEXT = KeyContext(uuid.UUID(int=1), uuid.UUID(int=2))
KEY = bytes(range(32))


@pytest.fixture
def fake() -> Iterator[FakeTransit]:
    fake = FakeTransit()
    with running(fake):
        yield fake
    assert fake.complaints == []


@pytest.fixture
def transit(fake: FakeTransit) -> Transit:
    return Transit(url=fake.url, key="gateway", token=Secret(FakeTransit.TOKEN))


def test_it_wraps_and_unwraps(fake: FakeTransit, transit: Transit) -> None:
    wrapped = transit.wrap(KEY, CONTEXT)
    assert wrapped.wrapped_by == transit.current() == "hashicorp-transit:transit/gateway:v1"
    assert wrapped.blob.startswith(b"vault:v1:")
    assert transit.unwrap(wrapped, CONTEXT) == KEY
    fake.versions = 2
    assert transit.current() == "hashicorp-transit:transit/gateway:v2"
    assert transit.unwrap(wrapped, CONTEXT) == KEY


def test_a_wrapped_key_belongs_to_one_row(transit: Transit) -> None:
    wrapped = transit.wrap(KEY, CONTEXT)
    with pytest.raises(KeyRingProblem, match="message authentication failed"):
        transit.unwrap(wrapped, KeyContext(CONTEXT.key_id, None))
    with pytest.raises(KeyRingProblem, match="message authentication failed"):
        transit.unwrap(Wrapped(wrapped.wrapped_by, b"vault:v1:AAAA"), CONTEXT)


def test_mount_namespace_and_token_file_are_used(tmp_path: Path) -> None:
    fake = FakeTransit(mount="teams/transit", namespace="teams/ai")
    token_file = tmp_path / "token"
    token_file.write_text("expired\n")
    with running(fake):
        transit = Transit(
            url=fake.url + "/",
            key="gateway",
            mount="teams/transit",
            namespace="teams/ai",
            token_file=token_file,
        )
        with pytest.raises(KeyRingProblem, match="403: permission denied"):
            transit.current()
        token_file.write_text(f"{FakeTransit.TOKEN}\n")  # as Vault Agent renews it
        # A mount may hold a slash, and the row must still find its way back.
        wrapped = transit.wrap(KEY, CONTEXT)
        assert transit.unwrap(wrapped, CONTEXT) == KEY
    assert fake.complaints == []


def test_a_misspelt_key_is_refused_before_vault_makes_it(
    fake: FakeTransit, transit: Transit
) -> None:
    with pytest.raises(KeyRingProblem, match="refused keys/gatewy with 404"):
        replace(transit, key="gatewy").wrap(KEY, CONTEXT)
    assert not any("encrypt" in request for request in fake.requests)


def test_a_key_of_another_type_is_refused(fake: FakeTransit, transit: Transit) -> None:
    fake.type = "rsa-4096"
    with pytest.raises(KeyRingProblem, match="use one of type aes256-gcm96"):
        transit.wrap(KEY, CONTEXT)


@pytest.mark.parametrize("status", [429, 500, 503])
def test_an_ailing_server_may_be_asked_again(
    fake: FakeTransit, transit: Transit, status: int
) -> None:
    fake.fail_with = status, {"errors": ["Vault is sealed"]}
    with pytest.raises(KeyServiceUnavailable, match=f"{status}: Vault is sealed"):
        transit.current()


@pytest.mark.parametrize(
    "document", [{}, {"data": None}, {"data": {}}, {"data": {"plaintext": "###"}}]
)
def test_a_strange_answer_is_no_key(
    fake: FakeTransit, transit: Transit, document: dict[str, object]
) -> None:
    wrapped = transit.wrap(KEY, CONTEXT)
    fake.fail_with = 200, document
    with pytest.raises(KeyServiceUnavailable, match="Vault's answer"):
        transit.unwrap(wrapped, CONTEXT)


def test_nobody_there_says_where(fake: FakeTransit, transit: Transit) -> None:
    closed = FakeTransit()
    with running(closed):
        pass
    with pytest.raises(KeyServiceUnavailable, match=r"cannot be reached: .*refused"):
        replace(transit, url=closed.url).current()


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("", "Set HASHICORP_VAULT_URL"),
        ("vault:8200", "Set HASHICORP_VAULT_URL"),
        ("ftp://vault", "Set HASHICORP_VAULT_URL"),
        ("http://vault.internal:8200", "must be https"),
        ("http://127.0.0.1.evil.example", "must be https"),
    ],
)
def test_addresses_that_cannot_be_meant(url: str, sentence: str) -> None:
    with pytest.raises(KeyRingProblem, match=sentence):
        Transit(url=url, key="gateway")


def test_what_is_not_set_is_asked_for(fake: FakeTransit, tmp_path: Path) -> None:
    with pytest.raises(KeyRingProblem, match="Set HASHICORP_VAULT_TRANSIT_KEY"):
        Transit(url=fake.url, key="")
    with pytest.raises(KeyRingProblem, match="Set HASHICORP_VAULT_TOKEN"):
        Transit(url=fake.url, key="gateway").current()
    with pytest.raises(KeyRingProblem, match=r"HASHICORP_VAULT_TOKEN_FILE .* cannot be read"):
        Transit(url=fake.url, key="gateway", token_file=tmp_path / "none").current()


def test_proxy_variables_are_ignored(
    fake: FakeTransit, transit: Transit, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert transit.current()


def test_the_token_is_not_in_what_is_printed(transit: Transit) -> None:
    assert FakeTransit.TOKEN not in repr(transit)
