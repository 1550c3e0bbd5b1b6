"""docs/settings.md lists exactly the variables that the code reads, and one module reads them."""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from controlplane.settings import env

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "settings.md"

READERS = {
    "text": "text",
    "address": "address",
    "flag": "yes/no",
    "integer": "number",
    "days_or_never": "number",
    "words": "list",
    "choice": "one of",
    "secret": "secret",
    "optional_secret": "secret",
}
# Sets variables for itself before the settings are read; reads none for the product.
MAKES_VALUES = {"controlplane/settings/env.py", "controlplane/settings/test.py"}


def sources() -> Iterator[tuple[str, ast.Module]]:
    for folder in ("controlplane", "providers", "tenants"):
        for file in sorted((ROOT / folder).rglob("*.py")):
            yield file.relative_to(ROOT).as_posix(), ast.parse(file.read_text())
    yield "manage.py", ast.parse((ROOT / "manage.py").read_text())


@functools.cache
def variables_read() -> dict[str, str]:
    """Name to kind, of every `env.reader("NAME", …)` in the code."""
    found = {}
    for name, tree in sources():
        for node in ast.walk(tree):
            match node:
                case ast.Call(
                    func=ast.Attribute(value=ast.Name(id="env"), attr=reader), args=[first, *_]
                ) if reader in READERS:
                    assert isinstance(first, ast.Constant), f"{name}:{node.lineno}: a name, please"
                    found[str(first.value)] = READERS[reader]
    return found


def variables_documented() -> dict[str, str]:
    rows = re.findall(r"^\| `([A-Z0-9_]+)` \| ([^|]+) \|", PAGE.read_text(), re.MULTILINE)
    assert len(rows) == len({name for name, _ in rows}), "a variable has two rows"
    return {name: kind.strip() for name, kind in rows}


def test_every_variable_has_its_row_and_every_row_its_variable() -> None:
    read, documented = variables_read(), variables_documented()
    assert read.keys() - documented.keys() == set(), "not in docs/settings.md"
    assert documented.keys() - read.keys() == set(), "in docs/settings.md, but nothing reads it"
    wrong = {
        name: (documented[name], kind)
        for name, kind in read.items()
        if not documented[name].startswith(kind)
    }
    assert not wrong, f"kind in docs/settings.md, kind in the code: {wrong}"


def test_what_was_read_while_running_was_found_by_reading() -> None:
    assert set(env.SEEN) <= set(variables_read())


def test_only_env_py_reads_the_environment() -> None:
    readers = [
        f"{name} reads the environment: use settings/env.py"
        for name, tree in sources()
        if name not in MAKES_VALUES and _reads_environment(tree)
    ]
    assert not readers, "\n".join(readers)


@pytest.mark.parametrize(
    ("source", "reads"),
    [
        ("import os\nos.environ.setdefault('DJANGO_SETTINGS_MODULE', 'x')", False),
        ("import os\nos.environ['FOR_A_LIBRARY'] = '1'", False),
        ("import os\nos.environ.setdefault('PORT', '1')", True),
        ("import os\nprint(os.environ['PORT'])", True),
        ("import os\nos.environ.get('PORT')", True),
        ("import os\nos.getenv('PORT')", True),
        ("from os import environ", True),
        ("from os import getenv as anything", True),
    ],
)
def test_the_rule_tells_reading_from_writing(source: str, reads: bool) -> None:
    assert _reads_environment(ast.parse(source)) is reads


def _reads_environment(tree: ast.Module) -> bool:
    uses = 0
    for node in ast.walk(tree):
        match node:
            case ast.ImportFrom(module="os", names=names):
                uses += any(item.name in {"environ", "getenv"} for item in names)
            case ast.Attribute(value=ast.Name(id="os"), attr="environ" | "getenv"):
                uses += 1
            case ast.Call(
                func=ast.Attribute(value=ast.Attribute(attr="environ"), attr="setdefault"),
                args=[ast.Constant(value="DJANGO_SETTINGS_MODULE"), _],
            ):
                uses -= 1
            case ast.Subscript(value=ast.Attribute(attr="environ"), ctx=ast.Store()):
                # Telling a library or a child something reads nothing.
                uses -= 1
    return uses > 0
