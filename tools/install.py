"""Puts the pinned packages into .venv. Needs nothing but Python; a second run does nothing.

    python3 tools/install.py runtime|dev

Every package is checked against its hash. `uv`, itself pinned and checked, does the work because
it needs a fifth of pip's time; where it cannot be had or cannot reach the index, pip does it.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
BIN = VENV / "bin"
LOCKS = {"runtime": ROOT / "requirements.txt", "dev": ROOT / "requirements-dev.txt"}


def main(kind: str) -> None:
    if sys.version_info < (3, 11):  # noqa: UP036  (the very point of the check)
        version = sys.version.split()[0]
        stop(f"Python 3.11 or newer is needed; this is {version}. Try: make PYTHON=python3.12 …")
    if has(kind) or (kind == "runtime" and has("dev")):
        return
    if not works():
        step("making .venv", make_venv)
    step(f"installing {LOCKS[kind].name}, every package checked by hash", lambda: install(kind))
    stamp(kind).write_text(digest(kind))


def digest(kind: str) -> str:
    return hashlib.sha256(LOCKS[kind].read_bytes()).hexdigest()


def stamp(kind: str) -> Path:
    return VENV / f".installed-{kind}"


def has(kind: str) -> bool:
    return stamp(kind).is_file() and stamp(kind).read_text() == digest(kind) and works()


def works() -> bool:
    """Whether .venv's Python starts: it does not after its base Python was removed."""
    python = BIN / "python"
    return (
        python.exists() and subprocess.run([python, "-c", ""], capture_output=True).returncode == 0
    )


def make_venv() -> None:
    try:
        run(sys.executable, "-m", "venv", "--clear", str(VENV))
    except Failed as failed:
        shutil.rmtree(VENV, ignore_errors=True)
        if "ensurepip" in str(failed):
            stop(
                "This Python cannot make virtual environments. On Debian and Ubuntu:"
                " apt install python3-venv. Then run the same command again."
            )
        raise


def install(kind: str) -> None:
    lock = str(LOCKS[kind])
    try:
        bootstrap_uv()
        run(
            *(str(BIN / "uv"), "pip", "install", "--python", str(BIN / "python")),
            *("--require-hashes", "--compile-bytecode", "-r", lock),
            UV_DEFAULT_INDEX=os.environ.get("PIP_INDEX_URL"),
        )
    except Failed:
        # No wheel for this machine, an index that only pip's configuration names, a proxy that
        # only pip knows. If the cause is a real one, pip says it.
        run(str(BIN / "python"), "-m", "pip", "install", "--require-hashes", "-r", lock)


def bootstrap_uv() -> None:
    if (BIN / "uv").exists():
        return
    lines = iter(LOCKS["dev"].read_text().splitlines())
    pinned = [next(line for line in lines if line.startswith("uv=="))]
    while pinned[-1].endswith("\\"):
        pinned.append(next(lines))
    with tempfile.TemporaryDirectory() as folder:
        only_uv = Path(folder, "uv.txt")
        only_uv.write_text("\n".join(pinned) + "\n")
        run(
            *(str(BIN / "python"), "-m", "pip", "install", "--require-hashes", "--no-deps"),
            *("--only-binary=:all:", "-r", str(only_uv)),
        )


class Failed(Exception):
    """A command ended badly; the text is what it said."""


def run(*command: str, **environ: str | None) -> None:
    env = {**os.environ, **{name: value for name, value in environ.items() if value}}
    done = subprocess.run(command, text=True, capture_output=True, env=env, cwd=ROOT)
    if done.returncode:
        raise Failed((done.stdout + done.stderr).strip() or f"{command[0]} failed")


def step(what: str, action: Callable[[], None]) -> None:
    is_live = sys.stdout.isatty()
    if is_live:
        print(f"  … {what}", end="", flush=True)
    began = time.monotonic()
    try:
        action()
    except Failed as failed:
        print("" if is_live else f"  ✗ {what}")
        stop(f"{failed}\n\nThat went wrong while {what}. Nothing else was changed.")
    start = "\r" if is_live else ""
    print(f"{start}  ✓ {what} ({time.monotonic() - began:.1f} s)", flush=True)


def stop(sentence: str) -> NoReturn:
    sys.stderr.write(sentence + "\n")
    sys.exit(1)


if __name__ == "__main__":
    if sys.argv[1:] not in (["runtime"], ["dev"]):
        stop(__doc__ or "")
    main(sys.argv[1])
