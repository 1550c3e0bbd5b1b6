"""Bar R5: supervisor, gateway and background process killed at random; no job is lost, none
finishes twice, no process is left behind."""

from __future__ import annotations

import http.client
import json
import os
import random
import signal
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.patience import LONG_SECONDS

from .conftest import Home, Running, Serve, children_of, members_of_groups
from .test_serve import get

JOBS_PER_KILL = 55

pytestmark = pytest.mark.storage

Wait = Callable[..., Any]


class System:
    """`manage.py serve`, started again whenever its supervisor was killed."""

    def __init__(self, home: Home, serve: Serve) -> None:
        self._home = home
        self._serve = serve
        self.groups: set[int] = set()
        self.running: Running
        self.url: str
        self.start()

    def start(self) -> None:
        self.running, self.url = self._serve(self._home)
        self.note_children()

    def note_children(self) -> dict[int, str]:
        children = children_of(self.running.pid)
        self.groups |= set(children)
        return children

    def ask(self, path: str) -> dict[str, Any]:
        """The answer, by whichever gateway lives long enough to give one."""
        deadline = time.monotonic() + LONG_SECONDS
        while True:
            try:
                status, body = get(self.url, path)
            except (OSError, http.client.HTTPException):
                assert time.monotonic() < deadline, self.running.output
                continue
            assert status == 200, body
            return dict(json.loads(body))


def kill_at_random(
    targets: list[str], home: Home, serve: Serve, wait_until: Wait
) -> dict[str, int]:
    """Kills one after the other, each in the middle of its jobs. Checks that nothing was lost."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    dice = random.Random(seed)
    system = System(home, serve)
    dice.shuffle(targets)
    acknowledged = 0
    orphans: set[int] = set()

    for target in targets:
        before = system.ask("/probe/report")["done"]
        system.ask(f"/probe/enqueue/{acknowledged}/{JOBS_PER_KILL}")
        acknowledged += JOBS_PER_KILL
        # Somewhere in the middle of the work.
        wanted = before + dice.randint(1, JOBS_PER_KILL // 2)
        wait_until(
            lambda wanted=wanted: system.ask("/probe/report")["done"] >= wanted,
            what=f"{wanted} jobs done",
        )
        children = system.note_children()
        if target == "supervisor":
            os.kill(system.running.pid, signal.SIGKILL)
            system.running.exit_code()
            try:
                wait_until(lambda: not members_of_groups(system.groups))
            except AssertionError:
                orphans |= members_of_groups(system.groups)
            system.start()
        else:
            # By order of start where the system does not show names; it may be resting.
            pids = [pid for pid, name in children.items() if name == f"pcp-{target}"[:15]]
            pids = pids or sorted(children)
            assert pids, "no child is running"
            os.kill(dice.choice(pids), signal.SIGKILL)

    def is_finished() -> bool:
        return not system.ask("/probe/report")["unfinished"]

    wait_until(is_finished, seconds=180, what="all jobs are finished")
    report = system.ask("/probe/report")
    system.note_children()
    system.running.signal(signal.SIGTERM)
    assert system.running.exit_code() == 0
    orphans |= members_of_groups(system.groups)

    figures = {
        "kills": len(targets),
        "jobs": report["jobs"],
        "lost": acknowledged - report["distinct_effects"],
        "finished twice": report["finished_twice"],
        "orphans": len(orphans),
        "attempts repeated": report["effects"] - report["distinct_effects"],
    }
    print(figures)
    assert (report["jobs"], report["done"]) == (acknowledged, acknowledged)
    assert figures["lost"] == figures["finished twice"] == figures["orphans"] == 0
    return figures


def test_random_kills_lose_nothing(stored_home: Home, serve: Serve, wait_until: Wait) -> None:
    kill_at_random(["supervisor", "gateway", "background"], stored_home, serve, wait_until)


@pytest.mark.soak
def test_twenty_random_kills_among_a_thousand_jobs_lose_nothing(
    stored_home: Home,
    serve: Serve,
    wait_until: Wait,
    record_property: Callable[[str, object], None],
) -> None:
    targets = ["supervisor"] * 5 + ["gateway"] * 7 + ["background"] * 8
    figures = kill_at_random(targets, stored_home, serve, wait_until)
    record_property("R5", figures)
    assert figures["kills"] == 20
    assert figures["jobs"] >= 1000
