"""wrk: requests as fast as they are answered, and what they cost the one who answers."""

from __future__ import annotations

import json
import re
import statistics
import subprocess
import threading
from dataclasses import dataclass
from pathlib import Path

from tools.bench.gateways import Gateway
from tools.bench.machine import CannotMeasure, cpu_seconds, resident_megabytes, tool

_SCRIPT = """
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.headers["Authorization"] = "Bearer {key}"
wrk.body = [==[{body}]==]
"""
_UNITS = {"us": 0.001, "ms": 1.0, "s": 1000.0, "m": 60_000.0}


@dataclass(frozen=True)
class Spell:
    """One short run."""

    requests: int
    cpu_us: float
    p50_ms: float
    p99_ms: float
    megabytes: float


def body(model: str, size: int = 0) -> str:
    """A chat request; with a size, one as agents send: many messages, and tools."""
    messages = [{"role": "user", "content": "Say something about foxes, please."}]
    asked: dict[str, object] = {"model": model, "messages": messages}
    if size:
        text = "Line of a file that an agent has read, neither short nor long. " * 16
        asked["tools"] = [
            {
                "type": "function",
                "function": {
                    "name": f"tool_{number}",
                    "description": "Does one thing that an agent may want.",
                    "parameters": {"type": "object", "properties": {"path": {"type": "string"}}},
                },
            }
            for number in range(20)
        ]
        while len(json.dumps(asked)) < size:
            messages += [
                {"role": "assistant", "content": text},
                {"role": "user", "content": "Go on."},
            ]
    return json.dumps(asked)


def spell(
    gateway: Gateway, text: str, connections: int, seconds: int, core: int, folder: Path
) -> Spell:
    script = folder / "post.lua"
    script.write_text(_SCRIPT.format(key=gateway.key, body=text))
    command = [
        *(tool("taskset", "util-linux"), "-c", str(core), tool("wrk", "wrk")),
        *("-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "-s", str(script)),
        f"http://127.0.0.1:{gateway.port}/v1/chat/completions",
    ]
    before = cpu_seconds(gateway.pids)
    peak = _Peak(gateway.pids)
    with peak:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    used = cpu_seconds(gateway.pids) - before
    found = re.search(r"(\d+) requests in", done.stdout)
    if (
        done.returncode
        or found is None
        or "Non-2xx" in done.stdout
        or "Socket errors" in done.stdout
    ):
        raise CannotMeasure(f"{gateway.name}: {done.stdout}{done.stderr}")
    requests = int(found[1])
    return Spell(
        requests=requests,
        cpu_us=used / requests * 1e6,
        p50_ms=_percentile(done.stdout, 50),
        p99_ms=_percentile(done.stdout, 99),
        megabytes=peak.megabytes,
    )


def middle(spells: list[Spell]) -> Spell:
    """The median of each figure."""
    return Spell(
        requests=sum(one.requests for one in spells),
        cpu_us=statistics.median(one.cpu_us for one in spells),
        p50_ms=statistics.median(one.p50_ms for one in spells),
        p99_ms=statistics.median(one.p99_ms for one in spells),
        megabytes=max(one.megabytes for one in spells),
    )


def _percentile(text: str, which: int) -> float:
    found = re.search(rf"^ +{which}% +([\d.]+)(us|ms|s|m) *$", text, re.MULTILINE)
    if found is None:
        raise CannotMeasure(f"wrk told no {which}th percentile:\n{text}")
    return float(found[1]) * _UNITS[found[2]]


class _Peak:
    """The most memory that was used meanwhile."""

    def __init__(self, pids: list[int]) -> None:
        self._pids = pids
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.megabytes = resident_megabytes(pids)

    def _watch(self) -> None:
        while not self._over.wait(0.2):
            self.megabytes = max(self.megabytes, resident_megabytes(self._pids))

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
