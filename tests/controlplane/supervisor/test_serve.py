from __future__ import annotations

import http.client
import os
import re
import signal
import socket
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from django.core.management import CommandError, call_command
from django.test import override_settings

from controlplane.management.commands.serve import Command
from tests.patience import LONG_SECONDS, allowed

from .conftest import Home, Running, Serve, Start, children_of, is_alive

Wait = Callable[..., object]

OPEN_STREAMS = 200


def connect(base_url: str) -> http.client.HTTPConnection:
    parts = urlsplit(base_url)
    assert parts.hostname is not None
    return http.client.HTTPConnection(parts.hostname, parts.port, timeout=LONG_SECONDS)


def get(base_url: str, path: str) -> tuple[int, bytes]:
    connection = connect(base_url)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def pid_of(running: Running, name: str) -> int:
    """By name where the system shows it, else by order of start."""
    children = children_of(running.pid)
    for pid, shown in children.items():
        if shown.startswith(f"pcp-{name}"[:15]):
            return pid
    return sorted(children)[["gateway", "background"].index(name)]


# --- Start and stop ------------------------------------------------------------------------------


@pytest.mark.parametrize("server", ["uvicorn", "granian"])
def test_open_streams_end_whole_when_it_stops(home: Home, serve: Serve, server: str) -> None:
    """Bar R8: none of 200 open streams is cut by a stop, and then nothing is left behind."""
    running, url = serve(home, "--server", server)
    assert urlsplit(url).hostname == "127.0.0.1", "loopback unless told otherwise"
    children = children_of(running.pid)
    assert len(children) == 2
    assert get(url, "/health") == (200, b'{"status": "ok"}')
    assert get(url, "/ready") == (200, b'{"status": "ok"}')

    streams = []
    for _ in range(OPEN_STREAMS):
        connection = connect(url)
        connection.request("GET", "/probe/slow")
        streams.append((connection, connection.getresponse()))
    assert all(stream.readline() == b"first\n" for _, stream in streams)

    running.signal(signal.SIGTERM)
    running.line("Stopping")
    Path(home.environment["PROBE_RELEASE"]).touch()
    ends = []
    for connection, stream in streams:
        ends.append(stream.read())
        connection.close()
    cut = sum(end != b"last\n" for end in ends)
    assert (len(ends), cut) == (OPEN_STREAMS, 0)

    assert running.exit_code() == 0
    assert not any(is_alive(child) for child in children)
    with pytest.raises(ConnectionRefusedError):
        connect(url).request("GET", "/health")


@pytest.mark.timed
def test_ctrl_c_does_not_wait_for_a_stream_that_never_ends(home: Home, serve: Serve) -> None:
    running, url = serve(home)
    connection = connect(url)
    connection.request("GET", "/probe/slow")
    stream = connection.getresponse()
    assert stream.readline() == b"first\n"
    began = time.monotonic()
    running.signal(signal.SIGINT)
    running.line("Stopping")
    assert running.exit_code() == 0
    assert time.monotonic() - began < allowed(10)
    connection.close()


def test_a_killed_gateway_comes_back_on_the_same_port(home: Home, serve: Serve) -> None:
    running, url = serve(home)
    os.kill(pid_of(running, "gateway"), signal.SIGKILL)
    # The port was never closed: the connection waits for the new gateway instead of failing.
    assert get(url, "/health") == (200, b'{"status": "ok"}')


@pytest.mark.timed
def test_several_gateways_share_the_port(home: Home, serve: Serve) -> None:
    running, url = serve(home, "--workers", "2")
    assert len(children_of(running.pid)) == 3
    os.kill(pid_of(running, "gateway-1"), signal.SIGKILL)
    began = time.monotonic()
    assert get(url, "/health")[0] == 200
    assert time.monotonic() - began < allowed(5), "the other one answers meanwhile"


# --- What is wrong is said in one sentence -------------------------------------------------------


def refused(start: Start, home: Home, *arguments: str, **environment: str) -> str:
    """The one sentence with which `serve` ends."""
    before = snapshot(home.folder)
    running = start(
        "manage.py",
        "serve",
        *(arguments or ("--port", "0")),
        environment={**home.environment, **environment},
    )
    assert running.exit_code() == 1, running.output
    assert snapshot(home.folder) == before, "something was changed"
    sentences = [line for line in running.lines if line.strip()]
    assert len(sentences) == 1, running.output
    assert "Traceback" not in running.output
    return re.sub(r"^CommandError: ", "", sentences[0])


def snapshot(folder: Path) -> dict[str, bytes]:
    return {
        str(path): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        # What SQLite keeps while somebody reads comes and goes, and holds no change of ours.
        if path.is_file() and not path.name.endswith(("-shm", "-wal"))
    }


def test_a_port_in_use(home: Home, start: Start) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        sentence = refused(start, home, "--port", str(port))
    assert sentence == (
        f"Port {port} on 127.0.0.1 is in use: stop what uses it or choose another with --port."
    )


def test_no_database(home: Home, start: Start) -> None:
    (home.folder / "control-plane.sqlite3").unlink()
    sentence = refused(start, home)
    assert sentence.startswith("There is no database at ")
    assert "manage.py migrate" in sentence


def test_a_file_that_is_no_database(home: Home, start: Start) -> None:
    for path in home.folder.glob("control-plane.sqlite3*"):
        path.unlink()
    (home.folder / "control-plane.sqlite3").write_bytes(b"not a database, " * 1000)
    assert refused(start, home).startswith("The database cannot be reached: file is not a database")


def test_an_unreachable_database(home: Home, start: Start) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        url = f"postgres://me:hunter2@127.0.0.1:{nobody.getsockname()[1]}/gateway"
        sentence = refused(start, home, DATABASE_URL=url)
    assert sentence.startswith("The database cannot be reached: ")
    assert sentence.endswith("Start it, or mend DATABASE_URL.")
    assert "hunter2" not in sentence


def test_unapplied_migrations(home: Home, start: Start) -> None:
    with sqlite3.connect(home.folder / "control-plane.sqlite3") as database:
        database.execute("DELETE FROM django_migrations WHERE app = 'probe'")
    database.close()
    assert refused(start, home) == (
        "1 migration is not applied (the first is probe.0001_initial): "
        "run `manage.py migrate` first."
    )


def test_a_missing_vault_key_and_a_start_once_it_is_back(
    home: Home, start: Start, serve: Serve
) -> None:
    key = home.folder / "secrets" / "vault_keys"
    kept = key.read_bytes()
    key.unlink()
    assert "vault_keys" in refused(start, home)
    key.write_bytes(kept)
    key.chmod(0o600)
    _, url = serve(home)
    assert get(url, "/ready")[0] == 200


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--port", "65536"], "is no port: use 0 to 65535"),
        (["--port", "http"], "is no port"),
        (["--workers", "0"], "use 1 to 64"),
        (["--server", "apache"], "invalid choice"),
    ],
)
def test_bad_options_say_what_is_allowed(arguments: list[str], words: str) -> None:
    parser = Command().create_parser("manage.py", "serve")
    with pytest.raises(CommandError, match=words):
        parser.parse_args(arguments)


def test_one_side_alone_needs_the_broker_between_them() -> None:
    with override_settings(REDIS_URL=""), pytest.raises(CommandError, match="needs REDIS_URL"):
        call_command("serve", "--only", "gateway")
