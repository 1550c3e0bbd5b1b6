"""Secrets that are kept elsewhere: only what the operator listed, and never for a tenant (C7)."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured

from controlplane.kit.secret import Secret
from controlplane.settings import env
from providers.catalog.models import Provider
from providers.catalog.services import register
from providers.credentials import elsewhere
from providers.credentials.elsewhere import SourceUnavailable
from providers.credentials.models import Credential
from providers.credentials.services import BadCredential, add_credential
from providers.credentials.sources import secret_of
from tenants import scope
from tenants.audit.actor import acting_as
from tenants.members.models import Tenant
from tests.patience import allowed

pytestmark = pytest.mark.django_db
Source = Credential.Source

INJECTIONS = [
    "; id", "$(id)", "`id`", "| id", "&& id", "> /tmp/x", "../../bin/sh", "/bin/sh",
    "/bin/sh -c id", "!id", "!/bin/sh", "$HOME", "${PATH}", "key\nid", "key;id", "key id", "", " ",
    "\x00", "key\x00",
    "KEY", "kEy", "key ", " key", "%6bey", "key=", "key/", "./key", "*", "?", "[k]ey", "~/key",
    "\\key", "'key'", '"key"', "{key}", "key,key", "-key", "--help", "kéy",
]  # fmt: skip


@pytest.fixture(autouse=True)
def _anew() -> None:
    elsewhere.forget()


@pytest.fixture
def provider() -> Provider:
    with acting_as("command", None, "tests"), scope.platform("tests"):
        return register(slug="anthropic", catalog_id="anthropic")


def credential(provider: Provider, source: str, reference: str) -> Credential:
    with acting_as("command", None, "tests"), scope.platform("tests"):
        return add_credential(
            provider=provider,
            label=f"{source} {reference}"[:100],
            source=source,
            reference=reference,
        )


def test_a_listed_variable_and_no_other(
    provider: Provider, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACME_KEY", "sk-from-the-environment")
    settings.SECRET_VALUES = env.values_of("SECRET_VARIABLES", ["ACME_KEY", "ACME_EMPTY"])
    row = credential(provider, Source.ENVIRONMENT, "ACME_KEY")
    with pytest.raises(SourceUnavailable, match="not listed"):
        secret_of(str(row.pk))
    settings.SECRET_VARIABLES = ["ACME_KEY", "ACME_EMPTY"]
    assert secret_of(str(row.pk)) == Secret("sk-from-the-environment")
    for name in ("SECRET_KEY", "DATABASE_URL", "PATH"):
        row = Credential(provider=provider, label=name, source=Source.ENVIRONMENT, reference=name)
        with pytest.raises(SourceUnavailable, match="not listed"):
            elsewhere.read(row)
    with pytest.raises(SourceUnavailable, match="was not set"):
        secret_of(str(credential(provider, Source.ENVIRONMENT, "ACME_EMPTY").pk))


@pytest.mark.parametrize("name", ["SECRET_KEY", "DATABASE_URL", "KEY_PEPPERS_FILE", "PATH"])
def test_our_own_settings_cannot_be_listed(name: str) -> None:
    with pytest.raises(ImproperlyConfigured, match="setting of this service"):
        env.values_of("SECRET_VARIABLES", ["ACME_KEY", name])


def test_a_file_in_a_listed_folder_wherever_links_lead(
    provider: Provider, settings: Any, tmp_path: Path
) -> None:
    folder, outside = tmp_path / "secrets", tmp_path / "outside"
    folder.mkdir()
    outside.write_text("not yours")
    (folder / "key").write_text("sk-from-a-file\n")
    (folder / "link").symlink_to(outside)
    settings.SECRET_FOLDERS = [str(folder)]
    row = credential(provider, Source.FILE, str(folder / "key"))
    assert secret_of(str(row.pk)) == Secret("sk-from-a-file")
    for reference in (outside, folder / "link", folder / ".." / "outside", "/etc/passwd"):
        with pytest.raises(SourceUnavailable, match="in no folder"):
            secret_of(str(credential(provider, Source.FILE, str(reference)).pk))


def test_a_listed_command_runs_once_without_a_shell_or_our_environment(
    provider: Provider, settings: Any, tmp_path: Path
) -> None:
    ran = tmp_path / "ran"
    code = (
        f"open({str(ran)!r}, 'a').write('x'); import os; "
        "print('sk-' + '-'.join(sorted(os.environ)))"
    )
    settings.SECRET_COMMANDS = {"key": [sys.executable, "-I", "-S", "-c", code]}
    row = credential(provider, Source.COMMAND, "key")
    said = {secret_of(str(row.pk)).reveal() for _ in range(3)}
    assert len(said) == 1
    assert "SECRET_KEY" not in said.pop()
    assert ran.read_text() == "x"


@pytest.mark.parametrize(
    ("code", "seconds"),
    [
        ("import time; time.sleep(60)", 7),
        ("import sys; sys.exit(3)", 5),
        ("import sys; sys.stdout.write('x' * 70000)", 5),
        ("import sys; sys.stdout.buffer.write(bytes([255]))", 5),
        ("pass", 5),
    ],
    ids=["stalls", "fails", "floods", "no text", "nothing"],
)
@pytest.mark.timed
def test_commands_that_misbehave(
    provider: Provider, settings: Any, code: str, seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(elsewhere, "COMMAND_SECONDS", 0.5 if "sleep" in code else 5.0)
    settings.SECRET_COMMANDS = {"key": [sys.executable, "-I", "-S", "-c", code]}
    row = credential(provider, Source.COMMAND, "key")
    began = time.monotonic()
    with pytest.raises(SourceUnavailable):
        secret_of(str(row.pk))
    assert time.monotonic() - began < allowed(seconds)


@pytest.mark.parametrize("reference", INJECTIONS, ids=range(len(INJECTIONS)))
def test_nothing_that_is_not_listed_is_run(
    provider: Provider, settings: Any, reference: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.SECRET_COMMANDS = {"key": ["/bin/echo", "sk"]}
    ran: list[Any] = []
    monkeypatch.setattr(elsewhere.subprocess, "Popen", lambda *a, **_: ran.append(a))
    row = Credential(provider=provider, label="x", source=Source.COMMAND, reference=reference)
    with pytest.raises(SourceUnavailable):
        elsewhere.read(row)
    assert ran == []


@pytest.mark.parametrize("source", [s for s in Source if s != Source.STORED], ids=str)
def test_no_source_serves_a_tenant(source: str, tenant: Tenant) -> None:
    with acting_as("command", None, "tests"), scope.tenant(tenant.pk):
        provider = register(slug="own", catalog_id="anthropic", tenant_id=tenant.pk)
        with pytest.raises(BadCredential, match="operator's"):
            add_credential(provider=provider, label="one", source=source, reference="ACME_KEY")
        row = Credential(
            provider=provider, tenant=tenant, label="x", source=source, reference="ACME_KEY"
        )
        with pytest.raises(SourceUnavailable, match="platform"):
            elsewhere.read(row)


@pytest.mark.parametrize(
    "text", ["key", "key=relative/program", "=/bin/echo", "key=", "key='/bin/echo"], ids=range(5)
)
def test_commands_are_written_with_a_name_and_an_absolute_path(
    text: str,
) -> None:
    with pytest.raises(ImproperlyConfigured, match="absolute"):
        env.as_commands("SECRET_COMMANDS", text)


@pytest.mark.parametrize(
    "reference", ["x", "kv/path", "kv/../sys#f", "#f", "kv/p#a b"], ids=range(5)
)
def test_references_to_vault_have_one_form(provider: Provider, reference: str) -> None:
    row = Credential(provider=provider, label="x", source=Source.VAULT_KV, reference=reference)
    with pytest.raises(SourceUnavailable, match="mount/path#field"):
        elsewhere.read(row)
