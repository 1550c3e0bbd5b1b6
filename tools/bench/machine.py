"""Processes of a measurement: pinned to one core, their time and memory read, ended by id."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


class CannotMeasure(Exception):
    """One sentence that says what is missing, and what to do."""


def tool(name: str, package: str) -> str:
    """Where a program is. Raises CannotMeasure."""
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")
    if found is None:
        raise CannotMeasure(f"`{name}` is not installed: apt-get install {package}")
    return found


def cores() -> tuple[int, int]:
    """The core of what is measured, and the one of everything else."""
    usable = sorted(os.sched_getaffinity(0))
    if len(usable) < 2:
        raise CannotMeasure("Two cores are needed: one for the gateway, one for those who load it.")
    return usable[0], usable[1]


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@contextlib.contextmanager
def pinned(
    command: Sequence[str],
    core: int,
    *,
    environment: Mapping[str, str] | None = None,
    log: Path,
    cwd: Path | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """A command on one core, in a group of its own, which is gone afterwards."""
    output: IO[bytes]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [tool("taskset", "util-linux"), "-c", str(core), *command],
            env={**os.environ, **(environment or {})},
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=cwd,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait(5)


def wait_for_port(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.02)
    tail = log.read_text(errors="replace")[-2000:]
    raise CannotMeasure(f"{process.args!r} does not answer on port {port}:\n{tail}")


def wait_for_line(pattern: str, process: subprocess.Popen[bytes], log: Path) -> re.Match[str]:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        if found := re.search(pattern, log.read_text(errors="replace")):
            return found
        time.sleep(0.01)
    raise CannotMeasure(f"no line like {pattern!r} in:\n{log.read_text(errors='replace')[-2000:]}")


def tree(pid: int) -> list[int]:
    """The process and all that came from it."""
    found = [pid]
    for parent in found:
        for task in Path(f"/proc/{parent}/task").glob("*/children"):
            with contextlib.suppress(OSError):
                found += [int(child) for child in task.read_text().split()]
    return found


def cpu_seconds(pids: Sequence[int]) -> float:
    """User and system time so far."""
    ticks = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / _TICKS


def resident_megabytes(pids: Sequence[int]) -> float:
    pages = sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in pids)
    return pages * _PAGE / 2**20
