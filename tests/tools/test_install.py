from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """tools/install.py for a checkout in a temporary folder."""
    spec = importlib.util.spec_from_file_location("tools_install", ROOT / "tools" / "install.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    (tmp_path / "requirements.txt").write_text("a==1 \\\n    --hash=sha256:aa\n")
    (tmp_path / "requirements-dev.txt").write_text(
        "a==1 \\\n    --hash=sha256:aa\nuv==2 \\\n    --hash=sha256:bb \\\n    --hash=sha256:cc\n"
        "    # via x\nz==3 \\\n    --hash=sha256:dd\n"
    )
    monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.setattr(module, "VENV", tmp_path / ".venv")
    monkeypatch.setattr(module, "BIN", tmp_path / ".venv" / "bin")
    monkeypatch.setattr(
        module,
        "LOCKS",
        {
            "runtime": tmp_path / "requirements.txt",
            "dev": tmp_path / "requirements-dev.txt",
        },
    )
    return module


@pytest.fixture
def commands(install: ModuleType, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """What would have been run. Making the environment leaves a Python that starts."""
    seen: list[list[str]] = []

    def run(*command: str, **environ: str | None) -> None:
        seen.append(list(command))
        if command[1:3] == ("-m", "venv"):
            install.BIN.mkdir(parents=True)
            (install.BIN / "python").symlink_to(sys.executable)

    monkeypatch.setattr(install, "run", run)
    return seen


def failing(
    install: ModuleType, seen: list[list[str]], which: Callable[[tuple[str, ...]], bool]
) -> Callable[..., None]:
    inner = install.run

    def run(*command: str, **environ: str | None) -> None:
        inner(*command, **environ)
        if which(command):
            raise install.Failed("no network")

    return run


def test_it_installs_by_hash_once(install: ModuleType, commands: list[list[str]]) -> None:
    install.main("runtime")
    made, fetched, installed = commands
    assert made[1:3] == ["-m", "venv"]
    assert "--require-hashes" in fetched
    assert installed[0].endswith("bin/uv")
    assert "--require-hashes" in installed
    assert installed[-1].endswith("requirements.txt")

    install.main("runtime")
    assert len(commands) == 3, "a second run did something"
    install.LOCKS["runtime"].write_text("a==2 \\\n    --hash=sha256:ee\n")
    install.main("runtime")
    assert commands[-1][-1].endswith("requirements.txt"), "a changed lock was not installed"


def test_what_checks_includes_what_runs(install: ModuleType, commands: list[list[str]]) -> None:
    install.main("dev")
    count = len(commands)
    install.main("runtime")
    assert len(commands) == count


@pytest.mark.parametrize("broken", ["fetching uv", "uv itself"])
def test_pip_does_it_where_uv_cannot(
    broken: str,
    install: ModuleType,
    commands: list[list[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def which(command: tuple[str, ...]) -> bool:
        return "--no-deps" in command if broken == "fetching uv" else command[0].endswith("uv")

    monkeypatch.setattr(install, "run", failing(install, commands, which))
    install.main("runtime")
    assert commands[-1][1:4] == ["-m", "pip", "install"]
    assert "--require-hashes" in commands[-1]
    assert commands[-1][-1].endswith("requirements.txt")
    assert install.has("runtime")


def test_uv_is_fetched_as_the_lock_pins_it(
    install: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    pinned = []
    monkeypatch.setattr(
        install, "run", lambda *command, **_: pinned.append(Path(command[-1]).read_text())
    )
    install.bootstrap_uv()
    assert pinned == ["uv==2 \\\n    --hash=sha256:bb \\\n    --hash=sha256:cc\n"]


def test_what_fails_is_said_and_not_taken_for_done(
    install: ModuleType,
    commands: list[list[str]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(install, "run", failing(install, commands, lambda command: "-r" in command))
    with pytest.raises(SystemExit) as ended:
        install.main("runtime")
    assert ended.value.code == 1
    assert "no network" in capsys.readouterr().err
    assert not install.has("runtime")


def test_a_python_without_ensurepip_and_one_too_old(
    install: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(*command: str, **environ: str | None) -> None:
        raise install.Failed("No module named ensurepip")

    monkeypatch.setattr(install, "run", run)
    with pytest.raises(SystemExit):
        install.main("runtime")
    assert "apt install python3-venv" in capsys.readouterr().err
    monkeypatch.setattr(install.sys, "version_info", (3, 10, 1))
    with pytest.raises(SystemExit):
        install.main("runtime")
    assert "Python 3.11 or newer is needed" in capsys.readouterr().err


def test_an_environment_whose_python_is_gone_is_made_anew(
    install: ModuleType, commands: list[list[str]], tmp_path: Path
) -> None:
    install.main("runtime")
    (install.BIN / "python").unlink()
    (install.BIN / "python").symlink_to(tmp_path / "gone")
    assert not install.has("runtime")
