"""docs/providers.md is what the provider files say; `make docs` writes it."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from providers.catalog.loader import catalog

ROOT = Path(__file__).resolve().parents[3]
SCRIPT = ROOT / "tools" / "docs" / "providers.py"


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("providers_page", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_up_to_date(generator: ModuleType) -> None:
    written = (ROOT / "docs" / "providers.md").read_text(encoding="utf-8")
    assert written == generator.page(), "run `make docs`"


def test_every_provider_has_its_section(generator: ModuleType) -> None:
    text = generator.page()
    for provider in catalog():
        assert f'<a id="provider-{provider}"></a>' in text
        assert f"(#provider-{provider})" in text


def test_every_row_has_the_width_of_its_table(generator: ModuleType) -> None:
    width = 0
    for line in generator.page().splitlines():
        if not line.startswith("|"):
            width = 0
            continue
        cells = len(re.findall(r"\|", line))
        width = width or cells
        assert cells == width, line


def test_an_old_page_is_noticed(generator: ModuleType, tmp_path: Path) -> None:
    generator.ROOT, generator.PAGE = tmp_path, tmp_path / "providers.md"
    assert generator.main(["--check"]) == 1
    assert generator.main([]) == 0
    assert generator.main(["--check"]) == 0


def test_it_runs_as_a_script() -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--check"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
