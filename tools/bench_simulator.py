"""CPU time of the simulator, per answer and per chunk: is it fast enough to load others with?

Starts `manage.py simulator` and asks it over 16 kept connections. What counts is the CPU time of
the server's process, so the asker and other work on the machine do not. Linux only (/proc).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parent.parent
PAGE: Final = ROOT / "docs" / "simulator.md"
BEGIN: Final = "<!-- speed: begin -->"
FINISH: Final = "<!-- speed: end -->"
CONNECTIONS: Final = 16
TOKENS: Final = 2000
START_SECONDS: Final = 30.0
SAID: Final = [{"role": "user", "content": "hi"}]


@dataclass(frozen=True, slots=True)
class Load:
    """`per_answer`: how many units one answer holds, 1 where the answer itself is the unit."""

    what: str
    path: str
    body: dict[str, Any]
    unit: str
    per_answer: int
    # Units a second on one core.
    target: int


def _streamed(model: str, **fields: Any) -> dict[str, Any]:
    return {"model": f"{model}+text+tokens={TOKENS}", "stream": True, **fields}


LOADS: Final = (
    Load(
        "chat, 8 tokens, `+canned`", "/openai/v1/chat/completions",
        {"model": "sim-gpt+text+tokens=8+canned", "messages": SAID}, "answers", 1, 5_000,
    ),
    Load(
        "chat, 8 tokens", "/openai/v1/chat/completions",
        {"model": "sim-gpt+text+tokens=8", "messages": SAID}, "answers", 1, 0,
    ),
    Load(
        "chat stream", "/openai/v1/chat/completions",
        _streamed("sim-gpt", messages=SAID), "chunks", TOKENS, 100_000,
    ),
    Load(
        "Anthropic stream", "/anthropic/v1/messages",
        _streamed("sim-claude", messages=SAID, max_tokens=9999), "chunks", TOKENS, 100_000,
    ),
    Load(
        "Responses stream", "/openai/v1/responses",
        _streamed("sim-gpt", input="hi", store=False), "chunks", TOKENS, 100_000,
    ),
)  # fmt: skip


@contextmanager
def simulator() -> Iterator[tuple[int, int]]:
    """(process id, port) of a simulator that answers."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, str(ROOT / "manage.py"), "simulator", "--port", str(port)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise SystemExit("the simulator did not start") from None
                time.sleep(0.05)
        yield process.pid, port
    finally:
        process.terminate()
        process.wait(20)


def cpu_seconds(pid: int) -> float:
    """User and system time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Connection:
    """One kept connection: send, then read one whole answer."""

    def __init__(self, port: int, load: Load) -> None:
        raw = json.dumps(load.body).encode()
        head = (
            f"POST {load.path} HTTP/1.1\r\nhost: simulator\r\nauthorization: Bearer sk-any\r\n"
            f"anthropic-version: 2023-06-01\r\ncontent-length: {len(raw)}\r\n\r\n"
        )
        self._request = head.encode() + raw
        self._socket = socket.create_connection(("127.0.0.1", port), 30)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(self) -> None:
        self._socket.sendall(self._request)

    def receive(self) -> bytes:
        data = self._socket.recv(1 << 18)
        while b"\r\n\r\n" not in data:
            data += self._more()
        head, _, body = data.partition(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200"):
            raise SystemExit(f"the simulator said {head[:200]!r} {body[:300]!r}")
        length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
        parts, size, tail = [body], len(body), body[-5:]
        while size < int(length) if length else tail != b"0\r\n\r\n":
            piece = self._more()
            parts.append(piece)
            size += len(piece)
            tail = (tail + piece)[-5:]
        return b"".join(parts)

    def _more(self) -> bytes:
        data = self._socket.recv(1 << 18)
        if not data:
            raise SystemExit("the simulator closed a connection")
        return data

    def close(self) -> None:
        self._socket.close()


def measure(pid: int, port: int, load: Load, seconds: float, runs: int) -> float:
    """Median CPU time of one unit, in microseconds."""
    connections = [Connection(port, load) for _ in range(CONNECTIONS)]
    try:
        _round(connections)
        found = []
        for _ in range(runs):
            before, answers = cpu_seconds(pid), 0
            # Until enough of it was spent: the clock of /proc ticks a hundred times a second.
            while (spent := cpu_seconds(pid) - before) < seconds:
                _round(connections)
                answers += CONNECTIONS
            found.append(spent / answers / load.per_answer * 1e6)
        return statistics.median(found)
    finally:
        for connection in connections:
            connection.close()


def _round(connections: list[Connection]) -> None:
    for connection in connections:
        connection.send()
    for connection in connections:
        connection.receive()


def row(load: Load, micros: float) -> str:
    rate = 1e6 / micros
    verdict = "–"
    if load.target:
        verdict = f"{load.target:,}: {'met' if rate >= load.target else 'missed'}"
    return f"| {load.what} | {micros:.1f} µs | {rate:,.0f} {load.unit}/s | {verdict} |"


def report(seconds: float, runs: int) -> str:
    today = datetime.now(UTC).date().isoformat()
    lines = [
        f"Measured on {today} with Python {platform.python_version()}, {CONNECTIONS} connections, "
        f"streams of {TOKENS:,} tokens, on shared cores: median of {runs} runs.",
        "",
        "| | CPU of one | one core | at least |",
        "|---|---|---|---|",
    ]
    with simulator() as (pid, port):
        for load in LOADS:
            lines.append(row(load, measure(pid, port, load, seconds, runs)))
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--record", action="store_true", help="write docs/simulator.md")
    parser.add_argument("--seconds", type=float, default=0.5, help="CPU time of one run")
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    if not Path("/proc/self/stat").exists():
        sys.exit("CPU time of another process is read from /proc, which this system has not.")
    text = report(options.seconds, options.runs)
    print(text)
    if options.record:
        page = PAGE.read_text()
        before, begin, rest = page.partition(BEGIN)
        _, finish, after = rest.partition(FINISH)
        if not begin or not finish:
            sys.exit(f"{PAGE.name} has no marks {BEGIN} and {FINISH}")
        PAGE.write_text(f"{before}{BEGIN}\n{text}\n{FINISH}{after}")
        print(f"\nrecorded in {PAGE.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
