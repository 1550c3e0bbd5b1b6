"""A supervisor over small children, started by the tests: `python -m … ROLE …`.

Each child writes `ROLE PID` when it starts, and `ROLE stopped` when it ended warm.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading

from controlplane.supervisor import pulse
from controlplane.supervisor.supervise import Role, Supervisor


def say(*words: object) -> None:
    # One write for a line: several processes share the pipe.
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


def report(*words: object) -> None:
    """A child's line, if anybody still reads it."""
    with contextlib.suppress(OSError):
        say(*words)


def beat_until_told() -> None:
    told = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: told.set())
    while not told.wait(0.05):
        pulse.beat()


def steady() -> None:
    report("steady", os.getpid())
    beat_until_told()
    report("steady", "stopped")


def stubborn() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    report("stubborn", os.getpid())
    while True:
        pulse.beat()
        threading.Event().wait(0.05)


def broken() -> None:
    raise RuntimeError("cannot import what it needs")


def fleeting() -> None:
    pulse.beat()
    report("fleeting", os.getpid())


def mother() -> None:
    grandchild = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
    report("grandchild", grandchild.pid)
    report("mother", os.getpid())
    beat_until_told()


def main() -> int:
    by_name = {run.__name__: run for run in (steady, stubborn, broken, fleeting, mother)}
    return Supervisor(
        [Role(name, by_name[name], silent_seconds=1.0) for name in sys.argv[1:]],
        say=lambda sentence: say("say", sentence),
        on_ready=lambda: say("ready", os.getpid()),
        grace_seconds=1.0,
        hasty_seconds=0.5,
    ).run()


if __name__ == "__main__":
    sys.exit(main())
