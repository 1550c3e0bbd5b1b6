"""`manage.py catalog`, as somebody with a shell uses it."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError

from providers.catalog.loader import catalog
from providers.catalog.models import ProviderModel
from providers.catalog.services import register
from providers.management.commands import catalog as command
from tenants import scope
from tenants.audit.actor import Kind, acting_as
from tenants.audit.models import AuditEvent


def run(*arguments: str, **options: Any) -> str:
    out, err = io.StringIO(), io.StringIO()
    call_command("catalog", *arguments, stdout=out, stderr=err, **options)
    return out.getvalue()


@pytest.fixture
def platform(db: None) -> Iterator[None]:
    with acting_as(Kind.COMMAND, None, "tests"), scope.platform("tests"):
        yield


@pytest.fixture
def facts(tmp_path: Path) -> str:
    path = tmp_path / "facts.json"
    models = {
        "gpt-4o": {"limit": {"context": 256_000}, "cost": {"input": 2.5, "output": 11}},
        "gpt-99": {"limit": {"context": 5}},
    }
    path.write_text(json.dumps({"openai": {"models": models}}))
    return str(path)


def test_check_counts_what_is_good() -> None:
    models = sum(len(file.models) for file in catalog().values())
    assert f"{len(catalog())} provider files with {models:,} models are good" in run("check")


def test_check_tells_every_bad_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.toml").write_text("id = ")
    monkeypatch.setattr(command, "DATA", tmp_path)
    err = io.StringIO()
    with pytest.raises(CommandError, match="2 provider files cannot be used"):
        call_command("catalog", "check", stderr=err)
    assert "a.toml: " in err.getvalue()
    assert "b.toml: " in err.getvalue()


def test_list_shows_providers_and_models() -> None:
    providers = run("list")
    assert "amazon-bedrock" in providers
    assert "openai-completions, anthropic-messages" in providers
    models = run("list", "claude")
    assert "claude-sonnet-4-5" in models
    assert "200,000" in models
    assert "claude-3-opus-20240229 (retired)" in models
    with pytest.raises(CommandError, match="has no 'codeguru-x'"):
        run("list", "codeguru-x")


def test_diff_writes_nothing_refresh_does(platform: None, facts: str) -> None:
    register(slug="openai", catalog_id="openai")
    shown = run("diff", "--facts", facts, "--no-listings")
    assert "gpt-4o: context_window 128,000 → 256,000" in shown
    assert "gpt-4o: price input 2.5 output 10 cache_read 1.25" in shown
    assert "→ input 2.5 output 11 cache_read 1.25" in shown
    assert "new: gpt-99" in shown
    assert "nothing written" in shown
    assert not ProviderModel.objects.exists()
    written = run("refresh", "--facts", facts, "--no-listings")
    assert "2 overrides written" in written
    assert ProviderModel.objects.count() == 2
    event = AuditEvent.objects.get(action="provider.models_refreshed")
    assert event.actor_label.startswith("manage.py catalog by ")
    assert "0 overrides written" in run("refresh", "--facts", facts, "--no-listings")


def test_a_listing_that_fails_is_shown(platform: None) -> None:
    register(slug="groq", catalog_id="groq")
    shown = run("refresh", "--provider", "groq")
    assert "no listing: There is no usable credential" in shown
    assert "1 without their listing" in shown


def test_shipped_files_are_compared_without_a_registration(db: None, facts: str) -> None:
    shown = run("diff", "--shipped", "--facts", facts)
    assert "new: gpt-99" in shown
    assert "not named there: " in shown
    assert "1 provider file compared, nothing written" in shown


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["refresh", "--no-listings"], "name --facts, or allow the listings"),
        (["diff", "--shipped"], "name it with --facts"),
        (["refresh", "--provider", "nobody"], "no enabled registration called nobody"),
        (["diff", "--facts", "/nowhere/facts.json"], "/nowhere/facts.json"),
    ],
)
def test_mistakes_are_told_in_one_sentence(
    platform: None, arguments: list[str], words: str
) -> None:
    register(slug="groq", catalog_id="groq")
    with pytest.raises(CommandError, match=words):
        run(*arguments)


def test_a_file_that_is_no_facts_file(platform: None, tmp_path: Path) -> None:
    register(slug="groq", catalog_id="groq")
    (tmp_path / "x.json").write_text("[]")
    with pytest.raises(CommandError, match="providers by id"):
        run("diff", "--facts", str(tmp_path / "x.json"))


def test_nothing_registered_is_said(db: None) -> None:
    assert "No provider is registered" in run("refresh")


def test_sync_says_what_it_did(platform: None) -> None:
    provider = register(slug="openai", catalog_id="openai")
    type(provider).objects.filter(pk=provider.pk).update(catalog_id="openai-api")
    assert "openai: openai-api is called openai now." in run("sync")
    assert "0 registrations changed" in run("sync")
