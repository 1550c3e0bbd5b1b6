from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

from controlplane.supervisor.supervise import Child, Role, Supervisor
from tests.patience import LONG_SECONDS, allowed

from .conftest import ROOT, Running, Start, children_of, is_alive

Wait = Callable[..., object]


@pytest.fixture
def supervise(start: Start) -> Callable[..., Running]:
    def run(*roles: str) -> Running:
        return start("-m", "tests.controlplane.supervisor.little", *roles)

    return run


Supervise = Callable[..., Running]


def pid_in(running: Running, name: str) -> int:
    return int(running.line(rf"^{name} (\d+)$")[1])


def test_a_dead_child_is_started_again(supervise: Supervise) -> None:
    running = supervise("steady")
    first = pid_in(running, "steady")
    running.line("^ready")
    os.kill(first, signal.SIGKILL)
    running.line(r"say The steady stopped \(signal 9\)")
    second = pid_in(running, "steady")
    assert second != first
    assert is_alive(second)


def test_a_silent_child_is_started_again(supervise: Supervise) -> None:
    running = supervise("steady")
    first = pid_in(running, "steady")
    running.line("^ready")
    os.kill(first, signal.SIGSTOP)
    running.line("say The steady is silent")
    assert pid_in(running, "steady") != first
    assert not is_alive(first)


def test_a_child_that_keeps_dying_rests_longer_each_time(supervise: Supervise) -> None:
    running = supervise("fleeting", "steady")
    rests = [float(running.line(r"starts again in ([\d.]+) s")[1]) for _ in range(3)]
    assert rests == [0.25, 0.5, 1.0]


def test_stop_is_warm_and_the_exit_code_zero(supervise: Supervise) -> None:
    running = supervise("steady")
    child = pid_in(running, "steady")
    running.line("^ready")
    running.signal(signal.SIGTERM)
    running.line("^steady stopped")
    assert running.exit_code() == 0
    assert not is_alive(child)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.timed
def test_a_child_that_will_not_stop_is_ended_after_the_grace(
    supervise: Supervise, number: signal.Signals
) -> None:
    running = supervise("stubborn", "steady")
    child = pid_in(running, "stubborn")
    running.line("^ready")
    began = time.monotonic()
    running.signal(number)
    assert running.exit_code() == 0
    grace = 0.5 if number == signal.SIGINT else 1.0
    assert grace <= time.monotonic() - began < grace + allowed(2.0)
    assert not is_alive(child)
    assert "steady stopped" in running.output


def test_a_second_signal_ends_everything_at_once(supervise: Supervise) -> None:
    running = supervise("stubborn")
    child = pid_in(running, "stubborn")
    running.line("^ready")
    running.signal(signal.SIGTERM)
    running.line("say Stopping")
    running.signal(signal.SIGTERM)
    assert running.exit_code() == 0
    assert not is_alive(child)


def test_children_die_with_a_killed_supervisor(supervise: Supervise, wait_until: Wait) -> None:
    running = supervise("steady", "stubborn")
    children = [pid_in(running, "steady"), pid_in(running, "stubborn")]
    running.line("^ready")
    running.signal(signal.SIGKILL)
    wait_until(lambda: not any(is_alive(child) for child in children), what="no orphans")


def test_grandchildren_go_with_their_mother(supervise: Supervise, wait_until: Wait) -> None:
    running = supervise("mother")
    grandchild = pid_in(running, "grandchild")
    mother = pid_in(running, "mother")
    running.line("^ready")
    os.kill(mother, signal.SIGKILL)
    running.line("say The mother stopped")
    wait_until(lambda: not is_alive(grandchild), what="the grandchild is gone")


def test_a_child_that_cannot_start_ends_the_supervisor(supervise: Supervise) -> None:
    running = supervise("steady", "broken")
    assert running.exit_code() == 1
    assert "say The broken did not start (exit code 1): the lines above say why." in running.output
    assert "RuntimeError: cannot import what it needs" in running.output
    assert "ready" not in running.output.split()
    # Ended so early that the other may not even have come to say its number.
    children = re.findall(r"^steady (\d+)$", running.output, re.MULTILINE)
    assert not [child for child in children if is_alive(int(child))]


def test_it_goes_on_when_nobody_reads_what_it_says(wait_until: Wait) -> None:
    command = [sys.executable, "-m", "tests.controlplane.supervisor.little", "steady"]
    supervisor = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert supervisor.stdout is not None
    first = int(supervisor.stdout.readline().split()[1])
    assert supervisor.stdout.readline().startswith("ready")
    supervisor.stdout.close()

    os.kill(first, signal.SIGKILL)
    wait_until(lambda: set(children_of(supervisor.pid)) - {first}, what="a new child")
    supervisor.terminate()
    assert supervisor.wait(timeout=LONG_SECONDS) == 0


def test_a_child_outside_the_terminals_group_misses_its_ctrl_c(supervise: Supervise) -> None:
    """The terminal signals a whole group; only the supervisor is in it, and stops in order."""
    running = supervise("steady")
    child = pid_in(running, "steady")
    running.line("^ready")
    assert os.getpgid(child) == child != os.getpgid(running.pid)
    os.killpg(os.getpgid(running.pid), signal.SIGINT)
    running.line("^steady stopped")
    assert running.exit_code() == 0


def test_a_supervisor_that_stood_still_does_not_blame_its_children() -> None:
    role = Role("steady", run=lambda: None, silent_seconds=30.0, start_seconds=60.0)
    child = Child(role, pid=1, started_at=0.0, heard_at=100.0)
    supervisor = Supervisor([role], say=print, on_ready=lambda: None, _children=[child])

    supervisor._excuse(now=131.0, looked_at=130.5)
    assert child.is_silent(131.0), "it was watched all the time"

    supervisor._excuse(now=200.0, looked_at=100.0)
    assert not child.is_silent(200.0)
    assert child.is_silent(231.0)


def test_a_child_gets_longer_to_start_than_to_answer() -> None:
    role = Role("steady", run=lambda: None, silent_seconds=30.0, start_seconds=60.0)
    child = Child(role, pid=1, started_at=100.0)
    assert not child.is_silent(150.0)
    assert child.is_silent(161.0)
