from __future__ import annotations

import http.server
import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from controlplane import probe

Answering = Callable[[int], int]


@pytest.fixture
def answering() -> Iterator[Answering]:
    """Starts a server on a free port that answers /ready with the given status."""
    servers = []

    def start(status: int) -> int:
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                good = self.path == "/ready" and self.headers["Host"] == "llm.example.com"
                self.send_response(status if good else 400)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Not into the test's output."""

        server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        servers.append(server)
        return server.server_address[1]

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(("status", "is_ready"), [(200, True), (503, False), (301, False)])
def test_it_tells_ready_from_not(
    status: int, is_ready: bool, answering: Answering, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALLOWED_HOSTS", "llm.example.com,other.example.com")
    assert probe.is_ready(answering(status)) is is_ready


def test_a_closed_port_is_not_ready() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        assert not probe.is_ready(closed.getsockname()[1])
