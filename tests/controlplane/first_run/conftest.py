"""A new installation, in a folder of its own and by the command that users run."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
Manage = Callable[..., "subprocess.CompletedProcess[str]"]

# Makes a data key, as the first stored credential would: from then on the vault key matters.
SEAL_SOMETHING = """
from tenants import scope
from tenants.vault import data_keys
with scope.platform("test"):
    data_keys.current(None)
"""


def manage(state: Path, *words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """`manage.py words…` with nothing of this process's environment but the path."""
    env = {
        "PATH": os.environ["PATH"],
        "HOME": str(state.parent),
        "STATE_DIR": str(state),
        "PYTHONDONTWRITEBYTECODE": "1",
        **environ,
    }
    return subprocess.run(
        [sys.executable, "manage.py", *words],
        cwd=ROOT,
        env=env,
        text=True,
        capture_output=True,
        timeout=300,
    )


@dataclass(frozen=True)
class FirstStart:
    """What the first start made from nothing, and what it showed."""

    state: Path
    shown: str

    def copied_to(self, folder: Path) -> Path:
        return Path(shutil.copytree(self.state, folder / "state"))


@pytest.fixture(scope="session")
def first_start(tmp_path_factory: pytest.TempPathFactory) -> FirstStart:
    """Copy its folder, do not use it."""
    state = tmp_path_factory.mktemp("first") / "state"
    done = manage(state, "first_run", "--port", "0")
    assert done.returncode == 0, done.stderr
    return FirstStart(state, done.stdout)


@pytest.fixture(scope="session")
def installed(first_start: FirstStart, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The state folder of an installation that holds a sealed secret. Copy it, do not use it."""
    state = first_start.copied_to(tmp_path_factory.mktemp("installed"))
    done = manage(state, "shell", "-v", "0", "-c", SEAL_SOMETHING)
    assert done.returncode == 0, done.stderr
    return state


@pytest.fixture
def state(installed: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(installed, tmp_path / "state"))


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below `folder`; SQLite's own scratch files are none of ours."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.endswith(("-wal", "-shm"))
    }
