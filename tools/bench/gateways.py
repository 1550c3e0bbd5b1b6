"""What is measured: this gateway, nginx, and any other one by its start command."""

from __future__ import annotations

import contextlib
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tools.bench.machine import (
    CannotMeasure,
    free_port,
    pinned,
    tree,
    wait_for_line,
    wait_for_port,
)

ROOT = Path(__file__).resolve().parent.parent.parent


@dataclass
class Gateway:
    """Where it answers, and the processes whose time counts."""

    name: str
    port: int
    pids: list[int]
    key: str = ""
    # Of a tenant whose ledger may be a second late.
    relaxed_key: str = ""
    start_seconds: float = 0.0
    # The paths of streams, where they are not told apart by the model's name.
    stream_paths: Mapping[str, str] = field(default_factory=dict)

    def path(self, model: str) -> str:
        return self.stream_paths.get(model, "/v1/chat/completions")


def _manage(arguments: list[str], environment: Mapping[str, str]) -> str:
    import os

    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    if done.returncode:
        raise CannotMeasure(f"{' '.join(arguments)} failed:\n{done.stdout}{done.stderr}"[-2000:])
    return done.stdout


@contextlib.contextmanager
def ours(
    folder: Path, core: int, canned: int, paced: int, more: Mapping[str, str]
) -> Iterator[Gateway]:
    """This gateway as `manage.py serve` runs it, with a database and secrets of its own."""
    folder.mkdir(mode=0o700)
    environment = {
        "DJANGO_SETTINGS_MODULE": "controlplane.settings.local",
        "STATE_DIR": str(folder),
        "DATABASE_URL": "",
        "REDIS_URL": "",
        "SIMULATOR": "no",
        "UPSTREAM_ALLOWED_NETWORKS": "127.0.0.0/8",
        # As in production: a line for each request, for machines.
        "LOG_FORMAT": "json",
        **more,
    }
    _manage(["manage.py", "first_run"], environment)
    key, relaxed_key = _manage(
        ["-m", "tools.bench.prepare", str(canned), str(paced)], environment
    ).split()
    log = folder / "gateway.log"
    began = time.monotonic()
    command = [sys.executable, "manage.py", "serve", "--port", "0"]
    with pinned(command, core, environment=environment, log=log, cwd=ROOT) as process:
        port = int(wait_for_line(r"Ready on http://127\.0\.0\.1:(\d+)", process, log)[1])
        ready = time.monotonic() - began
        pids = [_gateway_of(process.pid)]
        yield Gateway("this gateway", port, pids, key, relaxed_key, ready)


def _gateway_of(supervisor: int) -> int:
    """The one child that serves; the other does jobs in the background."""
    children = tree(supervisor)[1:]
    for pid in children:
        if Path(f"/proc/{pid}/comm").read_text().startswith("pcp-gateway"):
            return pid
    return min(children)


@contextlib.contextmanager
def peer(command: str, core: int, port: int, key: str, folder: Path) -> Iterator[Gateway]:
    """Another gateway, whose configuration leads its models to the canned vendors."""
    log = folder / "peer.log"
    began = time.monotonic()
    with pinned(shlex.split(command), core, log=log) as process:
        wait_for_port(port, process, log)
        ready = time.monotonic() - began
        yield Gateway("peer", port, tree(process.pid), key, start_seconds=ready)


@contextlib.contextmanager
def paced_vendor(core: int, folder: Path) -> Iterator[int]:
    port = free_port()
    log = folder / "paced.log"
    command = [sys.executable, "-m", "tools.bench.streams", str(port)]
    with pinned(command, core, log=log, cwd=ROOT) as process:
        wait_for_port(port, process, log)
        yield port
