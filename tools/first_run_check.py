"""What a stranger meets, measured: clone into a new folder, empty home, `make run`, the curl.

    python3 tools/first_run_check.py [--record]

Prints how long each part took; --record writes it into docs/performance.md. The packages come
from wherever pip is configured to get them, so state with the figures whether its cache was warm.
"""

from __future__ import annotations

import os
import platform
import re
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "performance.md"
LONGEST_SECONDS = 600
STOP_SECONDS = 10
# What a shell on a new machine would have: no virtual environment, no settings of ours.
KEPT = re.compile(
    r"^(PATH|LANG|LC_.*|TERM|TMPDIR|PIP_.*|UV_.*|SSL_.*|REQUESTS_CA_BUNDLE|https?_proxy|no_proxy)$",
    re.IGNORECASE,
)


class Failed(Exception):
    """A part did not do what a stranger was told it would."""


def main(words: list[str]) -> int:
    with tempfile.TemporaryDirectory(prefix="first-run-") as folder:
        try:
            figures = measure(Path(folder))
        except Failed as error:
            print(f"✗ {error}", file=sys.stderr)
            return 1
    for name, seconds in figures.items():
        print(f"{name:<42} {seconds:6.1f} s")
    if "--record" in words:
        record(figures)
    return 0


def measure(folder: Path) -> dict[str, float]:
    home, clone = folder / "home", folder / "clone"
    home.mkdir()
    environ = {name: value for name, value in os.environ.items() if KEPT.match(name)}
    environ |= {"HOME": str(home), "PYTHONUNBUFFERED": "1"}
    port = free_port()

    began = time.monotonic()
    run(["git", "clone", "--quiet", str(ROOT), str(clone)], environ)
    cloned = time.monotonic()
    with Started(clone, environ, port, folder / "first.log") as first:
        first.wait_for(r"Ctrl-C stops everything")
        shown = time.monotonic()
        line = first.find(r"^\s*(curl .+)$")
        key = first.find(r"(pcp_live_\w+)")
        answer = run(["sh", "-c", line + " --silent --show-error --fail-with-body"], environ)
        if '"choices"' not in answer:
            raise Failed(f"The printed curl answered: {answer[:400]}")
        answered = time.monotonic()
        first.stop()
        stopped = time.monotonic()

    again = time.monotonic()
    with Started(clone, environ, port, folder / "second.log") as second:
        second.wait_for(r"Ctrl-C stops everything")
        up_again = time.monotonic()
        if repeated := re.findall(r"✓ .*", second.said()):
            raise Failed(f"A second start repeated: {repeated}")
        base_url = shlex.split(line)[1].partition("/v1/")[0]
        answer = run(["sh", "-c", line + " --silent --show-error --fail-with-body"], environ)
        if '"choices"' not in answer:
            raise Failed(f"After a restart the curl to {base_url} answered: {answer[:400]}")
        second.stop()
    if key in (folder / "second.log").read_text():
        raise Failed("The key was shown a second time.")
    return {
        "clone": cloned - began,
        "make run until the screen": shown - cloned,
        "the printed curl": answered - shown,
        "clone to answer": answered - began,
        "Ctrl-C until everything is gone": stopped - answered,
        "second make run until the screen": up_again - again,
    }


class Started:
    """`make run` in a group of its own, so that Ctrl-C reaches it as a terminal would send it."""

    def __init__(self, clone: Path, environ: dict[str, str], port: int, log: Path) -> None:
        self._log = log
        with log.open("wb") as out:
            self._make = subprocess.Popen(
                ["make", "run", f"PORT={port}"],
                cwd=clone,
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def __enter__(self) -> Started:
        return self

    def __exit__(self, *_: object) -> None:
        if self._make.poll() is None:
            os.killpg(self._make.pid, signal.SIGKILL)
            self._make.wait()

    def said(self) -> str:
        return self._log.read_text(encoding="utf-8", errors="replace")

    def find(self, pattern: str) -> str:
        found = re.search(pattern, self.said(), re.MULTILINE)
        if not found:
            raise Failed(f"`make run` never showed {pattern}:\n{self.said()[-3000:]}")
        return found[1]

    def wait_for(self, pattern: str) -> None:
        deadline = time.monotonic() + LONGEST_SECONDS
        while not re.search(pattern, self.said()):
            if self._make.poll() is not None:
                raise Failed(
                    f"`make run` ended with {self._make.returncode}:\n{self.said()[-3000:]}"
                )
            if time.monotonic() > deadline:
                raise Failed(f"`make run` took over {LONGEST_SECONDS} s:\n{self.said()[-3000:]}")
            time.sleep(0.02)

    def stop(self) -> None:
        os.killpg(self._make.pid, signal.SIGINT)
        deadline = time.monotonic() + STOP_SECONDS
        while processes_of(self._make.pid) or self._make.poll() is None:
            if time.monotonic() > deadline:
                left = processes_of(self._make.pid)
                raise Failed(f"{STOP_SECONDS} s after Ctrl-C these still ran: {left}")
            time.sleep(0.02)


def processes_of(session: int) -> list[int]:
    """Processes of the session that `make run` began, children of children too. Without /proc
    (macOS) only `make` itself is watched."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            # After the name in parentheses: state, parent, group, session.
            state, _, _, its_session = stat.read_text().rpartition(")")[2].split()[:4]
        except OSError:
            continue
        if int(its_session) == session and state != "Z":
            found.append(int(stat.parent.name))
    return found


def run(command: list[str], environ: dict[str, str]) -> str:
    done = subprocess.run(command, env=environ, text=True, capture_output=True)
    if done.returncode:
        raise Failed(f"{shlex.join(command)[:200]} failed: {done.stdout}{done.stderr}")
    return done.stdout


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def record(figures: dict[str, float]) -> None:
    """Replaces the part of docs/performance.md between its two marks."""
    lines = [
        f"Measured on {datetime.now(UTC):%Y-%m-%d} with {os.cpu_count()} cores, Python "
        f"{platform.python_version()}, package cache as found:",
        "",
        "| From a clone in an empty home | Seconds |",
        "|---|---|",
        *(f"| {name} | {seconds:.1f} |" for name, seconds in figures.items()),
    ]
    begin, end = "<!-- first run: begin -->", "<!-- first run: end -->"
    text = PAGE.read_text()
    before, _, rest = text.partition(begin)
    _, _, after = rest.partition(end)
    PAGE.write_text(f"{before}{begin}\n" + "\n".join(lines) + f"\n{end}{after}")
    print(f"Recorded in {PAGE.relative_to(ROOT)}.")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
