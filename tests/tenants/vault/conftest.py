from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from django.db import connection
from pytest_django import DjangoDbBlocker

from tenants import scope
from tenants.audit.actor import Kind, acting_as
from tenants.vault import data_keys, fields
from tests.tenants.vault.samples.models import PlatformSecret, TenantSecret

SAMPLES = (TenantSecret, PlatformSecret)


@pytest.fixture(scope="session")
def _sample_tables(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    with django_db_blocker.unblock(), connection.schema_editor() as editor:
        for model in SAMPLES:
            editor.create_model(model)
    yield
    with django_db_blocker.unblock(), connection.schema_editor() as editor:
        for model in SAMPLES:
            editor.delete_model(model)


@pytest.fixture
def samples(
    _sample_tables: None, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """The sample models, as if they were installed, and nobody else's."""
    request.getfixturevalue("db")
    monkeypatch.setattr(fields, "installed_models", lambda: SAMPLES)
    yield
    with scope.platform("tests"):
        for model in SAMPLES:
            model._base_manager.all().delete()


@pytest.fixture(autouse=True)
def _forget_keys() -> Iterator[None]:
    data_keys.open_keys.clear()
    yield
    data_keys.open_keys.clear()


@pytest.fixture(autouse=True)
def _actor() -> Iterator[None]:
    with acting_as(Kind.COMMAND, None, "tests", "127.0.0.1"):
        yield


@pytest.fixture
def key_file(tmp_path: Path, settings: object) -> Path:
    """Where this test's own key file will be; there is none yet."""
    path = tmp_path / "vault_keys"
    settings.VAULT_KEYS_FILE = path  # type: ignore[attr-defined]
    settings.VAULT_KEYS = ""  # type: ignore[attr-defined]
    settings.VAULT_PROVIDER = "file"  # type: ignore[attr-defined]
    return path
