"""What a stranger is told to type exists: make targets, container commands, variables, files."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from django.core.management import get_commands, load_command_class

from tests.architecture.test_settings_docs import variables_documented

ROOT = Path(__file__).resolve().parents[2]
MAKEFILE = (ROOT / "Makefile").read_text()
TARGETS = set(re.findall(r"^([a-z][a-z-]*):", MAKEFILE, re.MULTILINE))
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())
OURS = {
    name: service
    for name, service in COMPOSE["services"].items()
    if service.get("image") == "provider-control-plane"
}
PAGES = [
    *ROOT.glob("*.md"),
    *(page for page in (ROOT / "docs").rglob("*.md")),
    ROOT / "compose.yaml",
    ROOT / ".env.example",
]


def accepts(command: list[str]) -> None:
    """Raises SystemExit if `manage.py` does not know the command or one of its words."""
    name, *words = command
    assert name in get_commands(), f"there is no command {name}"
    app = get_commands()[name]
    loaded = load_command_class(app, name) if isinstance(app, str) else app
    loaded.create_parser("manage.py", name).parse_args(words)


def test_every_target_says_what_it_is_for() -> None:
    shown = subprocess.run(
        ["make", "--no-print-directory", "help"], cwd=ROOT, text=True, capture_output=True
    ).stdout
    for target in TARGETS:
        assert re.search(rf"^  {target} +\w", shown, re.MULTILINE), f"make help: {target}"
    assert set(re.findall(r"^\.PHONY: (\S+)", MAKEFILE, re.MULTILINE)) == TARGETS


def test_every_command_and_tool_in_the_makefile_exists() -> None:
    recipes = MAKEFILE.replace("\\\n", " ")
    for line in re.findall(r"^\t.*\$\(MANAGE\) (.+)$", recipes, re.MULTILINE):
        words = shlex.split(line.replace("$(PORT)", "8000"))
        accepts([word for word in words if word])
    for path in re.findall(r"\b(?:tools|tests)/[\w/]+(?:\.py)?", recipes):
        assert (ROOT / path).exists(), path


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_pages_name_what_exists(page: Path) -> None:
    text = page.read_text()
    for target in re.findall(r"(?:`|^ {4,}|^#   |^)make ([a-z][a-z-]*)[`\s]", text, re.MULTILINE):
        assert target in TARGETS, f"{page.name}: make {target}"
    for command in re.findall(r"manage\.py ([a-z_]+)", text):
        assert command in get_commands(), f"{page.name}: manage.py {command}"
    for link in re.findall(r"\]\((?!https?:|#|mailto:)([^)#]+)", text):
        assert (page.parent / link).exists(), f"{page.name}: link to {link}"
    for path in re.findall(
        r"`((?:controlplane|providers|tenants|tests|docs|templates|tools)/[\w/.-]+)`", text
    ):
        if "<" not in path:
            assert (ROOT / path).exists(), f"{page.name}: {path}"


@pytest.mark.parametrize("name", OURS)
def test_containers_run_commands_that_exist(name: str) -> None:
    accepts(OURS[name]["command"])


def test_containers_get_variables_that_exist() -> None:
    known = set(variables_documented())
    for service in OURS.values():
        for variable in service["environment"]:
            assert variable in known or variable.removesuffix("_FILE") in known, variable
    offered = set(re.findall(r"\$\{(\w+)", (ROOT / "compose.yaml").read_text()))
    listed = set(re.findall(r"^(\w+)=", (ROOT / ".env.example").read_text(), re.MULTILINE))
    assert offered == listed


def test_containers_are_told_every_secret_by_file() -> None:
    mounted = {Path(secret["file"]).name for secret in COMPOSE["secrets"].values()}
    assert mounted == set(COMPOSE["secrets"])
    for service in OURS.values():
        for variable, value in service["environment"].items():
            if variable.endswith("_FILE"):
                assert value.removeprefix("/run/secrets/") in service["secrets"]


def test_only_the_gateway_is_reached_and_only_inside() -> None:
    assert not [name for name, service in COMPOSE["services"].items() if "ports" in service]
    for service in OURS.values():
        assert service["read_only"]
        assert service["cap_drop"] == ["ALL"]


def test_the_image_is_built_from_what_is_there() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()
    ignored = (ROOT / ".dockerignore").read_text()
    for source in re.findall(r"^COPY (?!--from)(\S+)", dockerfile, re.MULTILINE):
        assert (ROOT / source).exists(), source
        assert f"!{source}\n" in ignored, f".dockerignore keeps {source} out"
    users = re.findall(r"^USER (\S+)", dockerfile, re.MULTILINE)
    assert users, "the image runs as root"
    assert users[-1] not in {"root", "0"}
    command = re.findall(r"^CMD (\[.*\])", dockerfile, re.MULTILINE)[-1]
    accepts(yaml.safe_load(command))
    assert "--require-hashes" in dockerfile


def test_every_locked_package_has_hashes_and_both_locks_agree() -> None:
    def pins(name: str) -> dict[str, str]:
        text = (ROOT / name).read_text()
        blocks = re.findall(r"^(\S+?)==(\S+)((?:.*\\\n)+.*)", text, re.MULTILINE)
        assert all("--hash=sha256:" in block for _, _, block in blocks)
        assert len(blocks) == len(re.findall(r"^[A-Za-z0-9]", text, re.MULTILINE)), name
        return {package: version for package, version, _ in blocks}

    runs, checks = pins("requirements.txt"), pins("requirements-dev.txt")
    assert runs.items() <= checks.items()


def test_every_package_that_runs_has_its_reason() -> None:
    wanted = re.findall(r"^([A-Za-z][\w-]*)", (ROOT / "requirements.in").read_text(), re.MULTILINE)
    page = (ROOT / "docs/decisions/0002-runtime-packages.md").read_text()
    reasons = re.findall(r"^\| `([\w-]+)` \|", page, re.MULTILINE)
    assert sorted(wanted) == sorted(reasons)
