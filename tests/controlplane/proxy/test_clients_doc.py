"""docs/clients.md says what works: its curl and Python snippets are run, its settings are read."""

from __future__ import annotations

import json
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

from providers.catalog import services
from providers.catalog.models import Provider
from tenants import scope
from tenants.audit.actor import acting_as
from tests.controlplane.proxy.conftest import Gateway

PAGE = Path(__file__).resolve().parents[3] / "docs" / "clients.md"
HERE = "http://127.0.0.1:8000"
_BLOCK = re.compile(r"(<!-- not run: [^\n]+ -->\n)?^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
BLOCKS = [
    (bool(match[1]), match[2], match[3], PAGE.read_text()[: match.start()].rpartition("## ")[2])
    for match in _BLOCK.finditer(PAGE.read_text())
]


def blocks(language: str) -> list[pytest.param]:  # type: ignore[valid-type]
    return [
        pytest.param(text, id=f"{title.splitlines()[0]}-{number}")
        for number, (is_excused, found, text, title) in enumerate(BLOCKS)
        if found == language and not is_excused
    ]


@pytest.fixture(scope="module")
def registry(registry: dict[str, Provider]) -> dict[str, Provider]:
    """The page asks what `make run` offers, and that keeps files."""
    with acting_as("command", None, "tests", ""), scope.platform("tests"):
        services.change_registration(
            provider=registry["sim-openai"], features={"files": True, "batches": True}
        )
    return registry


@pytest.fixture
def environment(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> Gateway:
    monkeypatch.setenv("GATEWAY_KEY", gateway.key)
    return gateway


@pytest.mark.parametrize("snippet", blocks("python"))
def test_python_snippets(
    environment: Gateway, capsys: pytest.CaptureFixture[str], snippet: str
) -> None:
    assert HERE in snippet
    exec(compile(snippet.replace(HERE, environment.url), str(PAGE), "exec"), {})
    said = [line for line in capsys.readouterr().out.splitlines() if line]
    assert said == ["You said: Hello"] * snippet.count("print(")


@pytest.mark.parametrize("snippet", [one for one in blocks("sh") if "curl" in one.values[0]])
def test_curl_snippets(environment: Gateway, snippet: str) -> None:
    done = subprocess.run(
        ["sh", "-e"],
        input=snippet.replace(HERE, environment.url),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "You said: Hello" in json.dumps(json.loads(done.stdout))


def test_settings_files_can_be_read() -> None:
    read = [json.loads(text) for _, found, text, _ in BLOCKS if found == "json"]
    assert len(read) == 2
    codex = [tomllib.loads(text) for _, found, text, _ in BLOCKS if found == "toml"]
    assert [one["model_providers"]["gateway"]["wire_api"] for one in codex] == ["responses"]


@pytest.mark.parametrize(
    "client",
    "curl|OpenAI for Python|OpenAI for Node|Anthropic|Google Gen AI|LangChain|Claude Code|Codex CLI"
    "|Gemini CLI|pi|opencode|Cursor and its like".split("|"),
)
def test_each_client_has_its_section(client: str) -> None:
    assert f"\n## {client}\n" in PAGE.read_text()
