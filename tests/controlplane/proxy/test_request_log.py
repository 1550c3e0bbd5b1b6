"""The line of a request: the same whoever listens, and nothing of it can forge another."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any

import pytest

from controlplane.kit.redaction import MASK
from controlplane.logs import StderrHandler
from controlplane.proxy import request_log
from controlplane.proxy.request_log import Line, RequestLog


def line(**fields: object) -> Line:
    return Line(**{"request_id": "r1", "status": 200, "milliseconds": 1.5, **fields})  # type: ignore[arg-type]


@pytest.fixture
def grouping(monkeypatch: pytest.MonkeyPatch, settings: Any) -> RequestLog:
    """As in production: only our own handler listens, and lines are JSON."""
    monkeypatch.setattr(request_log, "nobody_else_listens", lambda: True)
    settings.LOGGING = {"formatters": {"line": {"layout": "json"}}}
    return RequestLog()


def test_lines_are_written_in_a_group(
    grouping: RequestLog, capsys: pytest.CaptureFixture[str]
) -> None:
    async def several() -> None:
        for number in range(3):
            grouping.note(line(status=200 + number, tenant="acme"))
        assert capsys.readouterr().err == ""
        grouping.close()

    asyncio.run(several())
    lines = [json.loads(text) for text in capsys.readouterr().err.splitlines()]
    assert [one["status"] for one in lines] == [200, 201, 202]
    assert lines[0]["event"] == "proxied"
    assert lines[0]["tenant"] == "acme"
    assert lines[0]["timestamp"].endswith("Z")


@pytest.mark.parametrize(
    "value",
    ["a\nb", 'a"}\n{"event":"forged"}', "a\u2028b\u0085c", "\x1b[31mred", "🙂", "\ud83d"],
    ids=["newline", "json", "separators", "escape", "emoji", "surrogate"],
)
def test_a_value_cannot_forge_a_line(
    grouping: RequestLog, capsys: pytest.CaptureFixture[str], value: str
) -> None:
    async def one() -> None:
        grouping.note(line(model=value.encode("utf-8", "replace").decode()))
        grouping.close()

    asyncio.run(one())
    written = capsys.readouterr().err
    assert len(written.splitlines()) == 1
    assert written.isascii()
    assert json.loads(written)["event"] == "proxied"


def test_what_looks_like_a_secret_is_hidden(
    grouping: RequestLog, capsys: pytest.CaptureFixture[str]
) -> None:
    async def one() -> None:
        for name in ("model", "served_by", "client_request_id"):
            grouping.note(line(**{name: "sk-proj-AbCdEfGhIjKlMnOpQrStUvWxYz0123456789"}))
        grouping.close()

    asyncio.run(one())
    written = capsys.readouterr().err
    assert "GhIjKl" not in written
    shown = [json.loads(text) for text in written.splitlines()]
    for one, name in zip(shown, ("model", "served_by", "client_request_id"), strict=True):
        assert MASK in one[name]


def test_others_who_listen_get_records(caplog: pytest.LogCaptureFixture) -> None:
    log = RequestLog()
    with caplog.at_level(logging.INFO):
        log.note(line(tenant="acme"))
    assert caplog.records[-1].msg["tenant"] == "acme"  # type: ignore[index]


def test_who_listens_is_seen_at_each_line(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not request_log.nobody_else_listens(), "the test runner does"
    monkeypatch.setattr(logging.root, "handlers", [StderrHandler()])
    assert request_log.nobody_else_listens()
