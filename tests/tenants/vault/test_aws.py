from __future__ import annotations

import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tenants.vault.errors import KeyRingProblem, KeyServiceUnavailable
from tenants.vault.wrapping import aws
from tenants.vault.wrapping.aws import Kms
from tenants.vault.wrapping.contract import KeyContext, Wrapped
from tests.tenants.vault.fake_services import FakeKms, running

CONTEXT = KeyContext(uuid.UUID(int=1), uuid.UUID(int=2))
KEY = bytes(range(32))


@pytest.fixture(autouse=True)
def _credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", FakeKms.ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", FakeKms.SECRET_KEY)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    aws._clients.clear()
    yield
    aws._clients.clear()


@pytest.fixture
def fake() -> Iterator[FakeKms]:
    fake = FakeKms()
    with running(fake):
        yield fake
    assert fake.complaints == []


@pytest.fixture
def kms(fake: FakeKms) -> Kms:
    return Kms(key=FakeKms.ALIAS, region=FakeKms.REGION, endpoint_url=fake.url)


def test_it_wraps_and_unwraps_and_remembers_the_key_behind_the_alias(kms: Kms) -> None:
    wrapped = kms.wrap(KEY, CONTEXT)
    assert wrapped.wrapped_by == kms.current() == f"aws-kms:{FakeKms.ARN}"
    assert KEY not in wrapped.blob
    assert kms.unwrap(wrapped, CONTEXT) == KEY


def test_a_wrapped_key_belongs_to_one_row(kms: Kms) -> None:
    wrapped = kms.wrap(KEY, CONTEXT)
    with pytest.raises(KeyRingProblem, match="InvalidCiphertextException"):
        kms.unwrap(wrapped, KeyContext(CONTEXT.key_id, None))
    with pytest.raises(KeyRingProblem, match="InvalidCiphertextException"):
        kms.unwrap(Wrapped(wrapped.wrapped_by, b"forged"), CONTEXT)


def test_wrong_credentials_are_the_operators_to_mend(
    kms: Kms, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another")
    with pytest.raises(KeyRingProblem, match="InvalidSignatureException: signature mismatch"):
        kms.current()


def test_no_credentials_at_all(kms: Kms, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(KeyRingProblem, match="KMS cannot be used: Unable to locate credentials"):
        kms.current()


def test_no_region(kms: Kms) -> None:
    with pytest.raises(KeyRingProblem, match="KMS cannot be used: You must specify a region"):
        replace(kms, region="").current()


def test_an_unknown_key(kms: Kms) -> None:
    with pytest.raises(KeyRingProblem, match="refused describe_key with NotFoundException"):
        replace(kms, key="alias/none").current()


def test_a_disabled_key(fake: FakeKms, kms: Kms) -> None:
    wrapped = kms.wrap(KEY, CONTEXT)
    fake.state = "PendingDeletion"
    with pytest.raises(KeyRingProblem, match="is PendingDeletion: enable it"):
        kms.current()
    with pytest.raises(KeyRingProblem, match="DisabledException"):
        kms.unwrap(wrapped, CONTEXT)


def test_key_not_set() -> None:
    with pytest.raises(KeyRingProblem, match="Set AWS_KMS_KEY_ID"):
        Kms(key="")


@pytest.mark.sleeps("botocore waits between its tries")
def test_an_ailing_service_is_tried_again_and_then_named(fake: FakeKms, kms: Kms) -> None:
    fake.fail_with = 500, {"__type": "KMSInternalException", "message": "try again"}
    with pytest.raises(KeyServiceUnavailable, match="KMSInternalException: try again"):
        kms.current()
    assert len(fake.requests) == 3


@pytest.mark.sleeps("botocore waits between its tries")
def test_nobody_there(kms: Kms) -> None:
    closed = FakeKms()
    with running(closed):
        pass
    with pytest.raises(KeyServiceUnavailable, match="cannot be reached: EndpointConnectionError"):
        replace(kms, endpoint_url=closed.url).current()


def test_proxy_variables_are_ignored(kms: Kms, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert kms.current()


def test_installations_with_a_key_file_load_no_client() -> None:
    """botocore costs 15 MB: importing the vault must not import it."""
    code = (
        "import django, sys; django.setup(); import tenants.vault.services;"
        "print(sorted({'botocore', 'httpx', 'aiohttp'} & set(sys.modules)))"
    )
    ran = subprocess.run(
        [sys.executable, "-W", "error::ImportWarning", "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "DJANGO_SETTINGS_MODULE": "controlplane.settings.test"},
    )
    assert ran.returncode == 0, ran.stderr
    assert "botocore" not in ran.stdout
