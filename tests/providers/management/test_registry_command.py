"""`manage.py registry` and `manage.py import`, as somebody with a shell uses them."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError

from controlplane.kit.secret import Secret
from providers.catalog.models import Provider
from providers.catalog.services import register
from providers.credentials.services import add_credential
from providers.credentials.sources import secret_of
from tenants import scope as scopes
from tenants.audit.actor import acting_as

pytestmark = [pytest.mark.storage, pytest.mark.django_db]

CANARY = "sk-canary-1234567890"


def run(*arguments: str) -> str:
    out, err = io.StringIO(), io.StringIO()
    try:
        call_command(*arguments, stdout=out, stderr=err)
    except CommandError as error:
        raise CommandError(f"{out.getvalue()}{err.getvalue()}{error}") from None
    assert CANARY not in out.getvalue() + err.getvalue()
    return out.getvalue()


@pytest.fixture
def claude() -> Iterator[Provider]:
    with acting_as("command", None, "tests"), scopes.platform("tests"):
        provider = register(slug="claude", catalog_id="anthropic", priority=3)
        add_credential(provider=provider, label="main", secret=Secret(CANARY))
        yield provider


def test_out_and_in_again(claude: Provider, tmp_path: Path) -> None:
    file, secrets = tmp_path / "registry.yaml", tmp_path / "secrets.yaml"
    run("registry", "export", str(file), "--name", "main")
    assert run("registry", "export", "--name", "main") == file.read_text()
    claude.delete()
    assert "+ registration claude\n    catalog_id: anthropic" in run("registry", "plan", str(file))
    assert not Provider.objects.exists()
    secrets.write_text(f"secrets: {{claude/main: {CANARY}}}\n")
    said = run("registry", "apply", str(file), "--secrets", str(secrets))
    assert "2 to create." in said
    assert "Applied." in said
    [key] = Provider.objects.get().credentials.all()
    assert secret_of(str(key.pk)) == Secret(CANARY)
    assert "The registry is so already." in run("registry", "apply", str(file))
    file.write_text(file.read_text().replace("priority: 3", "priority: 9"))
    assert "~ registration claude\n    priority: 3 → 9\n1 to change." in run(
        "registry", "plan", str(file)
    )


def test_what_cannot_be_is_said_and_not_done(claude: Provider, tmp_path: Path) -> None:
    file = tmp_path / "registry.yaml"
    file.write_text("name: main\nproviders: [{slug: a}, {slug: b, catalog_id: openai}]\n")
    for todo in ("plan", "apply"):
        with pytest.raises(CommandError, match="registration a: 'a' is not in the catalog"):
            run("registry", todo, str(file))
    assert Provider.objects.count() == 1
    for content in ("name: [", "name: x\nbad: 1", "!!python/name:os.system x"):
        file.write_text(content)
        with pytest.raises(CommandError):
            run("registry", "plan", str(file))
    with pytest.raises(CommandError, match="No such file"):
        run("registry", "plan", str(tmp_path / "none"))
    file.write_bytes(b"\xff\xfe\xff")
    with pytest.raises(CommandError, match="UTF-8"):
        run("registry", "plan", str(file))
    file.write_bytes(b"x" * 1_100_000)
    with pytest.raises(CommandError, match="at most"):
        run("registry", "plan", str(file))


def test_an_import_only_looks_until_it_is_told(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text(f"OPENAI_API_KEY={CANARY}\nGITHUB_TOKEN=x\n")
    said = run("import", "environment", str(file))
    assert "ignored GITHUB_TOKEN: " in said
    assert "+ registration openai" in said
    assert "add --apply" in said
    with scopes.platform("tests"):
        assert not Provider.objects.exists()
        assert "Applied." in run("import", "environment", str(file), "--apply")
        assert Provider.objects.get().slug == "openai"
    assert "so already" in run("import", "environment", str(file), "--apply")


def test_files_may_come_through_a_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    def pipe(content: bytes) -> None:
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content)))

    pipe(f"HOME=/root\nOPENAI_API_KEY={CANARY}\n".encode())
    assert "+ registration openai" in run("import", "environment", "-")
    pipe(b"name: main\nproviders: [{slug: a, catalog_id: groq}]\n")
    assert "Applied." in run("registry", "apply", "-")
    with pytest.raises(CommandError, match="Only one of the two"):
        run("registry", "apply", "-", "--secrets", "-")


def test_the_other_formats(tmp_path: Path) -> None:
    config, auth = tmp_path / "config.yaml", tmp_path / "auth.json"
    config.write_text(f"groq: [{{api-key: {CANARY}}}]\nport: 1\n")
    auth.write_text(f'{{"openai": {{"type": "api_key", "key": "{CANARY}"}}}}')
    assert "+ registration groq" in run("import", "cliproxy", str(config))
    assert "+ registration openai" in run("import", "pi", "--auth", str(auth))
    with pytest.raises(CommandError, match="--auth and --models"):
        run("import", "pi")
    with pytest.raises(CommandError, match="no tenant 'nobody'"):
        run("import", "cliproxy", str(config), "--tenant", "nobody")
