from __future__ import annotations

import json
import logging
import random
import secrets
from collections.abc import Callable, Iterator

import pytest
import structlog
from django.http import HttpRequest

from controlplane import logs
from controlplane.kit.secret import MASK, Secret

# What was written since it was last asked.
Written = Callable[[], str]


@pytest.fixture(params=logs.LAYOUTS)
def layout(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def written(layout: str, capsys: pytest.CaptureFixture[str]) -> Iterator[Written]:
    """A logger named `probe` that writes as the settings' handler does."""
    handler = logs.StderrHandler()
    handler.setFormatter(logs.formatter(layout=layout))
    probe = logging.getLogger("probe")
    probe.handlers, probe.propagate = [handler], False
    probe.setLevel(logging.DEBUG)
    yield lambda: capsys.readouterr().err
    probe.handlers, probe.propagate = [], True


def test_both_ways_of_logging_come_out_alike(written: Written, layout: str) -> None:
    with structlog.contextvars.bound_contextvars(request_id="request-1"):
        logs.get_logger("probe").warning("key_refused", tenant="acme", attempts=3)
        logging.getLogger("probe").warning("key %s", "refused", extra={"tenant": "acme"})
    lines = written().splitlines()
    assert len(lines) == 2
    if layout == "json":
        first, second = map(json.loads, lines)
        assert first["event"] == "key_refused"
        assert second["event"] == "key refused"
        for event in (first, second):
            assert event["level"] == "warning"
            assert event["logger"] == "probe"
            assert event["tenant"] == "acme"
            assert event["request_id"] == "request-1"
            assert event["timestamp"].endswith("Z")
    else:
        assert "key_refused" in lines[0]
        assert "attempts=3" in lines[0]
        assert all("tenant=acme" in line and "request_id=request-1" in line for line in lines)


# What ends a line, moves a cursor, or opens a string, for some reader.
NASTY = [
    *("\n", "\r", "\r\n", "\x00", "\x1b[2J", "\x85", "\u2028", "\u2029", "\x0b", "\x0c", "\x1c"),
    *('"', "\\", "\\n", "{", "}", "\ud800", "\u202e", "%s", "%(event)s", "🙂", "\x7f", "\t", "'"),
    *('{"event":"forged","level":"info"}', "12:00:00 info    forged"),
]


def test_one_event_is_one_line(written: Written, layout: str) -> None:
    """Bar A3: 10,000 fuzzed values, in every place that a value can take."""
    dice = random.Random(9)
    structured, standard = logs.get_logger("probe"), logging.getLogger("probe")

    def value() -> str:
        return "".join(
            dice.choice(NASTY) if dice.random() < 0.4 else chr(dice.randrange(32, 0x250))
            for _ in range(dice.randrange(1, 12))
        )

    for number in range(2_500):
        if number % 4 == 0:
            structured.info(value(), text=value(), more={value(): [value()]})
        elif number % 4 == 1:
            standard.info("caller said %s and %s", value(), value(), extra={"agent": value()})
        elif number % 4 == 2:
            structured.info("event", **{f"name{value()}": value()}, model=value())
        else:
            with structlog.contextvars.bound_contextvars(path=value(), agent=value()):
                structured.info(value(), address=value())
    lines = written().splitlines()
    assert len(lines) == 2_500
    assert all(line.isprintable() for line in lines)
    if layout == "json":
        assert all({"event", "level", "logger", "timestamp"} <= json.loads(x).keys() for x in lines)
        assert not any(json.loads(line)["event"] == "forged" for line in lines)


def test_tracebacks_cannot_forge_a_line(written: Written, layout: str) -> None:
    try:
        raise ValueError("boom\n12:00:00 info    forged\n" + '{"event":"forged"}')
    except ValueError:
        logs.get_logger("probe").exception("failed")
    text = written()
    lines = text.splitlines()
    assert "boom" in text
    if layout == "json":
        assert len(lines) == 1
    else:
        assert all(line.startswith("    ") for line in lines[1:])


def test_no_secret_reaches_a_line(written: Written) -> None:
    raw = secrets.token_urlsafe(40)
    structured, standard = logs.get_logger("probe"), logging.getLogger("probe")
    structured.debug(f"Bearer {raw}", api_key=raw, kept=Secret(raw), headers={"Cookie": raw[:9]})
    standard.debug("GET /models?key=%s", raw)
    standard.debug("object %r", {"authorization": f"Bearer {raw}"})
    request = HttpRequest()
    request.META["HTTP_AUTHORIZATION"] = f"Bearer {raw}"
    standard.error("Internal Server Error", extra={"status_code": 500, "request": request})
    try:
        raise RuntimeError(f"https://user:{raw}@example.test/?key={raw}")
    except RuntimeError:
        structured.exception("failed", token=raw)
    text = written()
    assert len([line for line in text.splitlines() if not line.startswith("    ")]) == 5
    assert raw[:9] not in text
    assert MASK in text or MASK.encode("ascii", "backslashreplace").decode() in text


def test_a_line_that_cannot_be_written_is_reported_without_its_content(
    capsys: pytest.CaptureFixture[str], layout: str
) -> None:
    handler = logs.StderrHandler()
    handler.setFormatter(logs.formatter(layout=layout))
    record = logging.LogRecord("probe", logging.INFO, "", 0, "%d wanted", ("hunter2",), None)
    handler.handle(record)
    lost = json.loads(capsys.readouterr().err)
    assert lost == {"event": "log_line_lost", "logger": "probe", "reason": "TypeError"}


def test_configuration_leaves_nobody_else_a_handler() -> None:
    config = logs.configure(layout="json", level="INFO")
    assert config["root"]["handlers"] == ["out"]
    assert all(not logger["handlers"] for logger in config["loggers"].values())
