"""`manage.py simulator` as a person runs it."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from providers.simulator.faults import FAULTS
from providers.simulator.scenarios import SCENARIOS
from tests.providers.simulator.raw_http import ask, chat

ROOT = Path(__file__).resolve().parents[4]


def run(*arguments: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(
        [sys.executable, "manage.py", "simulator", *arguments],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def base_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    for line in process.stdout:
        if found := re.search(r"OpenAI +(http://[^ ]+)/openai/v1", line):
            return found.group(1)
    raise AssertionError(process.stderr.read() if process.stderr else "it said nothing")


def stop(process: subprocess.Popen[str], how: int = signal.SIGINT) -> str:
    process.send_signal(how)
    _, told = process.communicate(timeout=30)
    return told


def test_it_serves_until_it_is_interrupted() -> None:
    process = run("--seed", "fixed", "--clock", "2026-01-01T00:00:00Z")
    try:
        base = base_of(process)
        answer = ask(base, "/openai/v1/chat/completions", chat("sim-gpt")).json()
        assert answer["created"] == 1_767_225_600
        assert ask(base, "/anthropic/v1/models").status == 200
        caller = ask(base, "/openai/v1/chat/completions", chat("sim-gpt+reset", stream=True))
        assert caller.ending == "reset"
    finally:
        told = stop(process)
    assert told == ""


def test_it_plays_a_day_and_tells_what_happens(tmp_path: Path) -> None:
    script = tmp_path / "day.yaml"
    script.write_text("events:\n  - {at: 0, for: 1h, fault: status=529, vendor: openai}\n")
    process = run("script", str(script))
    try:
        base = base_of(process)
        assert ask(base, "/openai/v1/chat/completions", chat("sim-gpt")).status == 529
        assert process.stdout is not None
        assert any("begins: status=529 at openai" in line for line in process.stdout)
    finally:
        stop(process, signal.SIGTERM)


def test_the_list_names_every_scenario_and_fault(capsys: pytest.CaptureFixture[str]) -> None:
    call_command("simulator", "list")
    told = capsys.readouterr().out
    for name in (*SCENARIOS, *FAULTS):
        assert re.search(rf"^  {name} ", told, re.MULTILINE), name


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["script"], "Name the file"),
        (["serve", "file"], "Name the file"),
        (["script", "/nowhere/day.yaml"], "cannot be read"),
        (["--clock", "noon"], "--clock: 'noon' is no time"),
        (["--port", "99999"], "Cannot listen"),
        (["--host", "192.0.2.1"], "Cannot listen"),
    ],
)
def test_bad_arguments_are_refused_with_a_sentence(arguments: list[str], words: str) -> None:
    with pytest.raises(CommandError, match=words):
        call_command("simulator", *arguments)


def test_a_bad_script_names_its_place(tmp_path: Path) -> None:
    script = tmp_path / "day.yaml"
    script.write_text("events: [{fault: statsu=1}]")
    with pytest.raises(CommandError, match=r"events\[0\]\.fault: 'statsu' is unknown"):
        call_command("simulator", "script", str(script))


def test_a_taken_port_is_a_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: Any = taken.getsockname()[1]
        with pytest.raises(CommandError, match=f"port {port}"):
            call_command("simulator", "--port", str(port))
