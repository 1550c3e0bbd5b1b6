"""What `make run` starts: the screen comes when the system answers, and Ctrl-C ends it all."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.controlplane.first_run.conftest import ROOT, FirstStart
from tests.patience import LONG_SECONDS, allowed

STOP_SECONDS = 10


@pytest.mark.timed
def test_it_runs_answers_and_stops(
    first_start: FirstStart, tmp_path: Path, wait_until: Callable[..., Any]
) -> None:
    # As if an earlier start had been ended when its secrets were written and nothing else was.
    (first_start.copied_to(tmp_path) / "control-plane.sqlite3").unlink()
    first = _start_and_stop(tmp_path, wait_until)
    assert "making secrets" not in first
    assert "pcp_live_" in first
    assert "one-time password" in first
    assert "curl http://127.0.0.1:" in first
    second = _start_and_stop(tmp_path, wait_until)
    assert "✓" not in second
    assert "one-time password" not in second
    assert "pcp_live_" not in second


def _start_and_stop(folder: Path, wait_until: Callable[..., Any]) -> str:
    out = folder / "out"
    with out.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "manage.py", "first_run", "--serve", "--port", "0"],
            cwd=ROOT,
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(folder),
                "STATE_DIR": str(folder / "state"),
                "PYTHONDONTWRITEBYTECODE": "1",
            },
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    try:
        wait_until(
            lambda: process.poll() is not None or "Ctrl-C stops" in out.read_text(),
            seconds=180,
            what="the screen",
        )
        shown = out.read_text()
        address = re.search(r"Admin +(http://127\.0\.0\.1:\d+)/admin/", shown)
        assert address, shown
        with urllib.request.urlopen(f"{address[1]}/health", timeout=LONG_SECONDS) as answer:
            assert answer.status == 200
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=allowed(STOP_SECONDS)) == 0
        assert time.monotonic() - began < allowed(STOP_SECONDS)
        return shown
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
