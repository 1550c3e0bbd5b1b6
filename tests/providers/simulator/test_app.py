"""The application under real servers: paths, limits, and connections that break quietly."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import uvicorn

from controlplane.kit import json
from providers.simulator import app as app_module
from providers.simulator.app import SimulatorApplication
from providers.simulator.connection import Dropped
from providers.simulator.world import World
from tests.patience import LONG_SECONDS
from tests.providers.simulator.raw_http import Caller, ask, chat
from tests.simulator_server import SimulatorServer, serve

CHAT = "/openai/v1/chat/completions"


def test_an_unknown_path_is_a_404_and_noted(simulator: SimulatorServer) -> None:
    answer = ask(simulator.url, "/nobody/v1/chat/completions", {})
    assert answer.status == 404
    assert answer.json()["error"]["type"] == "invalid_request_error"
    assert simulator.rules() == ["path"]


@pytest.mark.parametrize(
    "path",
    ["/openai/v1/models/{}", "/mistral/v1/models/{}", "/anthropic/v1/models/{}"],
)
def test_names_in_a_path_are_percent_decoded(simulator: SimulatorServer, path: str) -> None:
    listed = ask(simulator.url, path.removesuffix("/{}")).json()["data"][0]["id"]
    encoded = listed.replace("-", "%2D")
    assert ask(simulator.url, path.format(encoded)).json()["id"] == listed
    assert ask(simulator.url, path.format(encoded + "%2Bstatus=503")).status == 503


def test_a_known_path_with_another_method_names_those_it_answers(
    simulator: SimulatorServer,
) -> None:
    answer = ask(simulator.url, CHAT, method="GET")
    assert (answer.status, answer.headers["allow"]) == (405, "POST")
    answer = ask(simulator.url, "/openai/v1/responses/resp_1", {}, method="POST")
    assert (answer.status, answer.headers["allow"]) == (405, "DELETE, GET")


@pytest.mark.parametrize("body", [b"{", b"[]", b"", b'"x"', b"\xff\xfe"])
def test_a_body_that_is_no_json_object_is_the_vendors_400(
    simulator: SimulatorServer, body: bytes
) -> None:
    answer = ask(simulator.url, CHAT, body)
    assert (answer.status, simulator.rules()) == (400, ["json"])
    assert "Invalid JSON" in answer.json()["error"]["message"]


def test_a_body_over_the_limit_is_a_413(
    simulator: SimulatorServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app_module, "MAX_BODY", 10_000)
    answer = ask(simulator.url, CHAT, chat("sim-gpt", user="x" * 20_000))
    assert (answer.status, simulator.rules()) == (413, ["size"])
    body = {"model": "sim-claude", "max_tokens": 1, "messages": [], "system": "x" * 20_000}
    answer = ask(simulator.url, "/anthropic/v1/messages", body)
    assert answer.json()["error"]["type"] == "request_too_large"


def test_it_lives_under_a_prefix() -> None:
    with serve(prefix="/simulator") as simulator:
        assert simulator.url.endswith("/simulator")
        assert ask(simulator.url, CHAT, chat("sim-gpt")).status == 200
        assert simulator.control("requests")["requests"][0]["path"] == CHAT


def test_worlds_in_one_process_know_nothing_of_each_other() -> None:
    with serve(World(seed="a")) as one, serve(World(seed="b")) as other:
        first = ask(one.url, CHAT, chat("sim-gpt")).json()
        second = ask(other.url, CHAT, chat("sim-gpt")).json()
        assert first["id"] != second["id"]
        assert len(one.world.requests) == len(other.world.requests) == 1


def test_the_same_seed_gives_the_same_answers() -> None:
    def played() -> list[bytes]:
        with serve(World(seed="again")) as simulator:
            simulator.control("clock", {"at": "2026-01-01T00:00:00Z"})
            model = "sim-gpt+thinktool"
            return [ask(simulator.url, CHAT, chat(model, stream=True)).body for _ in range(3)]

    once = played()
    assert once == played()
    assert len(set(once)) == 3


# --- connections -------------------------------------------------------------------------------


class _Lines(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno >= logging.INFO:
            self.lines.append(record.getMessage())


@contextlib.contextmanager
def _served(application: Any, loop: str, http: str) -> Iterator[tuple[str, _Lines]]:
    """uvicorn as people run it, with its log in sight."""
    seen = _Lines()
    loggers = [logging.getLogger(name) for name in ("uvicorn.error", "asyncio")]
    for logger in loggers:
        logger.addHandler(seen)
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(
        uvicorn.Config(
            application, loop=loop, http=http, ws="none", lifespan="off", log_config=None
        )
    )
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", seen
    finally:
        server.should_exit = True
        thread.join(LONG_SECONDS)
        for logger in loggers:
            logger.removeHandler(seen)
        assert not thread.is_alive()


BREAKS = ("drop", "reset=2", "cut", "short", "text+tokens=50+rate=100+reset=4")


@pytest.mark.parametrize("http", ["httptools", "h11"])
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_a_dropped_connection_leaves_no_line_in_the_servers_log(loop: str, http: str) -> None:
    application = SimulatorApplication()
    with _served(application, loop, http) as (url, seen):
        for model in BREAKS:
            for stream in (False, True):
                answer = ask(url, CHAT, chat(f"sim-gpt+{model}", stream=stream))
                is_cut_stream = model == "cut" and stream
                assert answer.ending == "whole" if is_cut_stream else answer.ending != "whole"
        with Caller(url) as caller:
            caller.ask(CHAT, chat("sim-gpt+stall", stream=True))
            assert caller.head().status == 200
        assert ask(url, CHAT, chat("sim-gpt")).status == 200
    told = [line for line in seen.lines if "Traceback" in line or "Exception" in line]
    assert told == []
    assert not any("without completing" in line or "ASGI" in line for line in seen.lines)


def test_mounted_in_another_application_it_drops_as_quietly() -> None:
    simulation = SimulatorApplication(prefix="/simulator")

    async def gateway(scope: Any, receive: Any, send: Any) -> None:
        assert scope["path"].startswith("/simulator/")
        await simulation(scope, receive, send)

    with _served(gateway, "uvloop", "httptools") as (url, seen):
        for model in ("drop", "reset", "short"):
            answer = ask(f"{url}/simulator", CHAT, chat(f"sim-gpt+{model}"))
            assert answer.ending == ("closed" if model == "short" else "reset")
    assert not any("ASGI" in line for line in seen.lines)


class _Wrapped:
    """A middleware that hands on a `send` of its own."""

    def __init__(self, application: SimulatorApplication) -> None:
        self._application = application

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def wrapped(message: Any) -> None:
            await send(message)

        await self._application(scope, receive, wrapped)


@pytest.mark.parametrize("model", ["sim-gpt+drop", "sim-gpt+reset"])
async def test_where_only_the_server_can_drop_it_is_told_to(model: str) -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    with pytest.raises(Dropped):
        await _through(_Wrapped(SimulatorApplication()), chat(model), send)
    assert not any(message.get("more_body") is False for message in sent)


async def _through(application: Any, body: Any, send: Any) -> None:
    scope = {
        "type": "http",
        "method": "POST",
        "path": CHAT,
        "raw_path": CHAT.encode(),
        "query_string": b"",
        "headers": [(b"authorization", b"Bearer sk")],
    }
    messages = [{"type": "http.request", "body": json.dumps(body)}]

    async def receive() -> Any:
        if messages:
            return messages.pop()
        return await asyncio.get_running_loop().create_future()

    await application(scope, receive, send)


async def test_a_body_may_come_in_pieces_or_not_at_all() -> None:
    application = SimulatorApplication()
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": CHAT,
        "query_string": b"",
        "headers": [(b"authorization", b"Bearer sk")],
    }
    pieces = [b'{"model": "sim-gpt", "messages"', b': [{"role": "user", "content": "x"}]}']
    messages = [
        {"type": "http.request", "body": pieces[0], "more_body": True},
        {"type": "http.request", "body": pieces[1], "more_body": False},
    ]

    async def receive() -> Any:
        return messages.pop(0) if messages else {"type": "http.disconnect"}

    await application(scope, receive, send)
    assert sent[0]["status"] == 200
    sent.clear()
    await application(scope, receive, send)
    assert sent == []
