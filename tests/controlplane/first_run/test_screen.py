from __future__ import annotations

import json
import shlex

from controlplane.first_run import screen
from controlplane.first_run.steps import Made
from controlplane.kit.secret import Secret

BASE_URL = "http://127.0.0.1:8000"


def test_the_first_screen_has_all_that_is_needed_and_ends_with_how_to_stop() -> None:
    made = Made("admin@localhost", Secret("ABCDE-FGHJK"), Secret("pcp_live_x"))
    shown = screen.text(BASE_URL, made)
    for part in (f"{BASE_URL}/admin/", "admin@localhost", "ABCDE-FGHJK", f"{BASE_URL}/v1"):
        assert part in shown
    assert len(shown.strip().splitlines()) < 20
    assert shown.rstrip().endswith("Ctrl-C stops everything.")
    line = next(line for line in shown.splitlines() if line.strip().startswith("curl "))
    program, url, *options = shlex.split(line)
    assert (program, url) == ("curl", f"{BASE_URL}/v1/chat/completions")
    headers = [
        value for flag, value in zip(options[::2], options[1::2], strict=True) if flag == "-H"
    ]
    assert headers == ["Authorization: Bearer pcp_live_x", "Content-Type: application/json"]
    assert options[-2] == "-d"
    body = json.loads(options[-1])
    assert body["model"] == "sim-gpt"
    assert body["messages"]


def test_later_screens_show_no_secret_and_say_how_to_get_a_key() -> None:
    shown = screen.text(BASE_URL, Made("boss@example.com"))
    assert "boss@example.com   with your password" in shown
    assert "curl" not in shown
    assert "`make demo-key`" in shown


def test_what_was_made_is_shown_also_when_nothing_runs() -> None:
    made = Made("admin@localhost", Secret("ABCDE-FGHJK"), Secret("pcp_live_x"))
    shown = screen.credentials(made)
    assert "ABCDE-FGHJK" in shown
    assert "pcp_live_x" in shown
    assert "prepared before" in screen.credentials(Made("admin@localhost"))
