"""Variables of the catalog's table, and no others."""

from __future__ import annotations

import pytest

from controlplane.kit.secret import Secret
from providers.bundle.apply import apply, plan
from providers.bundle.document import ProviderEntry
from providers.catalog.loader import catalog
from providers.catalog.models import Provider
from providers.credentials.sources import secret_of
from providers.imports import environment
from providers.imports.found import Imported, UnreadableImport
from tenants import scope as scopes
from tenants.audit.actor import acting_as


def read(content: str) -> Imported:
    return environment.read(Secret(content))


def entries(found: Imported) -> dict[str, ProviderEntry]:
    return {entry.slug: entry for entry in found.bundle.providers}


def test_lines_in_the_usual_spellings() -> None:
    text = "A=1\nexport B='two words'\n# no\nC=\"x=y\"\nD=\nrest of a value\nA=2\n E = 5\n"
    assert environment.variables(text) == {"A": "2", "B": "two words", "C": "x=y"}


def test_names_of_the_table_become_registrations() -> None:
    found = read("OPENAI_API_KEY=sk-1\nDJANGO_SECRET_KEY=canary\nUNRELATED=canary")
    assert set(entries(found)) == {"openai"}
    [credential] = entries(found)["openai"].credentials
    assert credential.label == "OPENAI_API_KEY"
    assert dict(found.secrets.keys) == {(("", "openai"), "OPENAI_API_KEY"): Secret("sk-1")}
    assert not found.ignored


def test_a_bearer_token_outranks_the_key() -> None:
    claude = entries(read("ANTHROPIC_API_KEY=a\nANTHROPIC_AUTH_TOKEN=b"))["anthropic"]
    assert claude.auth_type == "bearer_token"
    assert [one.label for one in claude.credentials] == ["ANTHROPIC_AUTH_TOKEN"]


def test_identifiers_come_along_and_their_lack_is_said() -> None:
    account = "0123456789abcdef0123456789abcdef"
    found = read(f"CLOUDFLARE_API_KEY=k\nCLOUDFLARE_ACCOUNT_ID={account}")
    assert entries(found)["cloudflare-workers-ai"].endpoint == {"account_id": account}
    assert "cloudflare-ai-gateway" not in entries(found)
    [ignored] = found.ignored
    assert "set CLOUDFLARE_GATEWAY_ID" in ignored.reason


def test_logins_and_several_values_are_not_copied() -> None:
    found = read("GITHUB_TOKEN=canary\nAWS_ACCESS_KEY_ID=canary\nAWS_SECRET_ACCESS_KEY=canary")
    assert not entries(found)
    said = {entry.key: entry.reason for entry in found.ignored}
    assert "sign in there" in said["GITHUB_TOKEN"]
    assert "several values" in said["AWS_ACCESS_KEY_ID"]
    assert "canary" not in str(said)


def test_every_key_variable_of_the_catalog_is_read() -> None:
    """A new provider file needs no word here."""
    for file in catalog().values():
        for name in file.auth.env:
            found = read(f"{name}=value")
            taken = {entry.catalog_id for entry in found.bundle.providers}
            assert file.id in taken or any(one.key == name for one in found.ignored), (
                file.id,
                name,
            )


def test_too_much_is_refused() -> None:
    with pytest.raises(UnreadableImport):
        read("A=" + "x" * 1_100_000)


@pytest.mark.storage
@pytest.mark.django_db
def test_it_works_and_twice_changes_nothing() -> None:
    found = read("OPENAI_API_KEY=sk-1\nGROQ_API_KEY=gsk")
    with acting_as("command", None, "tests"), scopes.platform("test"):
        apply(found.bundle, secrets=found.secrets)
        [key] = Provider.objects.get(slug="openai").credentials.all()
        assert secret_of(str(key.pk)) == Secret("sk-1")
        assert plan(found.bundle, secrets=found.secrets).steps == ()
