"""Measures this gateway beside nginx in the same run, interleaved, and prints the table of targets.

    python -m tools.bench [--rounds 3] [--seconds 3] [--env NAME=VALUE …] [--record]
                          [--peer-command CMD --peer-port PORT --peer-key KEY]

Everything is on: key check, five limits at three scopes, routing, ledger, request log, as
`manage.py serve` runs it, in one worker on one core; vendors and clients are on another. Time is
user and system time of the serving processes. A peer must lead the models of
tools/bench/prepare.py to the vendors whose ports stand in BENCH_CANNED_PORT and BENCH_PACED_PORT
while its command starts.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import re
import statistics
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from tools.bench import canned, gateways, load, streams
from tools.bench.gateways import ROOT, Gateway
from tools.bench.load import Spell
from tools.bench.machine import CannotMeasure, cores, cpu_seconds, resident_megabytes, tool

PAGE = ROOT / "docs" / "performance.md"
BEGIN, END = "<!-- bench: begin -->", "<!-- bench: end -->"
STREAMS = 64


@dataclass(frozen=True)
class Row:
    """One line of the table: a figure that the design set, and what was reached."""

    name: str
    reached: float
    unit: str
    must: float
    aim: float
    how: str = ""

    @property
    def verdict(self) -> str:
        return (
            "aim" if self.reached <= self.aim else "must" if self.reached <= self.must else "MISS"
        )


@dataclass(frozen=True)
class Stream:
    """What streams cost one gateway."""

    event_us: float
    first_byte_p50_ms: float


class Bench:
    def __init__(self, options: argparse.Namespace, folder: Path, core: int) -> None:
        self._rounds: int = options.rounds
        self._seconds: int = options.seconds
        self._folder = folder
        self._core = core

    def chat(
        self, all_of_them: list[Gateway], connections: int, model: str = "canned", size: int = 0
    ) -> dict[str, Spell]:
        """Round by round, one after the other, so that a busy minute hits all alike."""
        text = load.body(model, size)
        spells: dict[str, list[Spell]] = {gateway.name: [] for gateway in all_of_them}
        for _ in range(self._rounds):
            for gateway in all_of_them:
                one = load.spell(
                    gateway, text, connections, self._seconds, self._core, self._folder
                )
                spells[gateway.name].append(one)
        return {name: load.middle(each) for name, each in spells.items()}

    def streams(self, all_of_them: list[Gateway], model: str) -> dict[str, Stream]:
        found: dict[str, list[Stream]] = {gateway.name: [] for gateway in all_of_them}
        for _ in range(self._rounds):
            for gateway in all_of_them:
                before = cpu_seconds(gateway.pids)
                seen = streams.read(
                    gateway.port, gateway.path(model), gateway.key, model, streams=STREAMS
                )
                used = cpu_seconds(gateway.pids) - before
                if seen.whole != STREAMS:
                    raise CannotMeasure(
                        f"{gateway.name}: only {seen.whole} of {STREAMS} streams ended whole"
                    )
                found[gateway.name].append(Stream(used / seen.events * 1e6, seen.first_byte_p50_ms))
        return {
            name: Stream(
                statistics.median(one.event_us for one in each),
                statistics.median(one.first_byte_p50_ms for one in each),
            )
            for name, each in found.items()
        }


@contextlib.contextmanager
def everyone(
    options: argparse.Namespace, folder: Path
) -> Iterator[tuple[Gateway, Gateway, Gateway, list[Gateway]]]:
    """Us, nginx, the bare vendor (to subtract), and peers."""
    core, other = cores()
    with contextlib.ExitStack() as stack:
        port = stack.enter_context(canned.upstream(folder / "canned", other))
        paced = stack.enter_context(gateways.paced_vendor(other, folder))
        os.environ["BENCH_CANNED_PORT"], os.environ["BENCH_PACED_PORT"] = str(port), str(paced)
        at = {
            "paced": "/rate=20/count=80/v1/chat/completions",
            "flat": "/rate=0/count=1000/v1/chat/completions",
        }
        proxied = {name: f"/paced{path}" for name, path in at.items()}
        nginx_port, workers = stack.enter_context(
            canned.reverse_proxy(folder / "nginx", core, port, paced)
        )
        more = dict(pair.split("=", 1) for pair in options.env)
        us = stack.enter_context(gateways.ours(folder / "ours", core, port, paced, more))
        peers = []
        if options.peer_command:
            peers.append(
                stack.enter_context(
                    gateways.peer(
                        options.peer_command, core, options.peer_port, options.peer_key, folder
                    )
                )
            )
        nginx = Gateway("nginx", nginx_port, workers, stream_paths=proxied)
        yield us, nginx, Gateway("vendor", port, [os.getpid()], stream_paths=at), peers


def measure(options: argparse.Namespace, folder: Path) -> tuple[list[Row], list[str]]:
    tool("nginx", "nginx-light"), tool("wrk", "wrk"), tool("taskset", "util-linux")
    _, other = cores()
    notes: list[str] = []
    with everyone(options, folder) as (us, nginx, vendor, peers):
        bench = Bench(options, folder, other)
        me, him, bare = us.name, nginx.name, vendor.name
        # The first requests load codecs and open connections.
        bench.chat([us], 4)
        idle = resident_megabytes(us.pids)
        relaxed = replace(us, name="relaxed", key=us.relaxed_key)
        one = bench.chat([us, relaxed, nginx, vendor, *peers], 1)
        some = bench.chat([us, nginx, *peers], 16)
        many = bench.chat([us, nginx, vendor, *peers], 64)
        large = bench.chat([us, nginx, *peers], 16, size=55_000)
        translated = bench.chat([us], 16, "canned-messages")
        paced = bench.streams([us, nginx, *peers], "paced")
        # Not the same vendor connection: the one behind the gateways.
        flat = bench.streams([us, nginx, *peers], "flat")
        foreign = bench.streams([us], "flat-messages")
        after = resident_megabytes(us.pids)
        for name in (him, me, *(peer.name for peer in peers)):
            notes.append(
                f"{name}: {some[name].cpu_us:.0f} µs a request at c=16 "
                f"({1e6 / some[name].cpu_us:.0f} per CPU-second), {one[name].cpu_us:.0f} at c=1, "
                f"{many[name].cpu_us:.0f} at c=64, {large[name].cpu_us:.0f} of 55 kB; an event "
                f"{paced[name].event_us:.1f} µs in {STREAMS} paced streams, "
                f"{flat[name].event_us:.1f} flat out; p99 at c=64 {many[name].p99_ms:.1f} ms"
            )
        notes.append(
            f"memory of {me}: {idle:.0f} MB idle, {many[me].megabytes:.0f} at c=64, {after:.0f} "
            "after all"
        )
        rows = [
            Row("chat c=16, CPU", some[me].cpu_us / some[him].cpu_us, "× nginx", 12, 5),
            Row(
                "chat c=16, translated",
                translated[me].cpu_us / some[me].cpu_us,
                "× same dialect",
                1.4,
                1.2,
            ),
            Row("55 kB chat c=16", large[me].cpu_us / large[him].cpu_us, "× nginx", 8, 5),
            *(
                Row(
                    f"added latency c=1, {durability}, {which}",
                    getattr(one[name], f"{which}_ms") - getattr(one[bare], f"{which}_ms"),
                    "ms",
                    must,
                    aim,
                )
                for durability, name, which, must, aim in (
                    ("relaxed", relaxed.name, "p50", 0.4, 0.2),
                    ("relaxed", relaxed.name, "p99", 4, 2),
                    ("strict", me, "p50", 0.9, 0.5),
                    ("strict", me, "p99", 8, 4),
                )
            ),
            Row("added p99 at c=64", many[me].p99_ms - many[bare].p99_ms, "ms", 40, 15),
            Row(
                "relayed event, 64 paced streams",
                paced[me].event_us / paced[him].event_us,
                "× nginx",
                2,
                1.5,
            ),
            Row("relayed event flat out", flat[me].event_us, "µs", 15, 9),
            Row("translated event flat out", foreign[me].event_us, "µs", 35, 20),
            Row(
                "first byte added, 64 streams, p50",
                # What nginx needs is what the machine needs for 128 more connections.
                paced[me].first_byte_p50_ms - paced[him].first_byte_p50_ms,
                "ms",
                1.5,
                0.6,
            ),
            Row("RSS idle", idle, "MB", 110, 80),
            Row("RSS under load", many[me].megabytes, "MB", 140, 100),
            Row("start to ready", us.start_seconds, "s", 2.5, 1.5),
        ]
    return rows, notes


def table(rows: list[Row], notes: list[str], options: argparse.Namespace) -> str:
    lines = [
        f"Measured on {datetime.now(UTC):%Y-%m-%d} with `make bench` ({options.rounds} rounds of "
        f"{options.seconds} s, Python {platform.python_version()}"
        + (f", {' '.join(options.env)}" if options.env else "")
        + ").",
        "",
        "| | Reached | Must | Aim | |",
        "|---|---|---|---|---|",
        *(
            f"| {row.name} | {row.reached:.2f} {row.unit} | {row.must:g} | {row.aim:g} "
            f"| {row.verdict} |"
            for row in rows
        ),
        "",
        *(f"- {note}" for note in notes),
    ]
    return "\n".join(lines)


def record(text: str) -> None:
    page = PAGE.read_text()
    new = re.sub(
        f"{BEGIN}.*?{END}", lambda _: f"{BEGIN}\n{text}\n{END}", page, count=1, flags=re.DOTALL
    )
    PAGE.write_text(new)


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--env", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--record", action="store_true", help="write it into docs/performance.md")
    parser.add_argument("--peer-command", default="")
    parser.add_argument("--peer-port", type=int, default=4000)
    parser.add_argument("--peer-key", default="")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        # nginx as root serves as somebody else, who has to get in.
        Path(folder).chmod(0o755)
        try:
            text = table(*measure(options, Path(folder)), options)
        except CannotMeasure as error:
            print(f"✗ {error}", file=sys.stderr)
            return 1
    print(text)
    if options.record:
        record(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
