"""The guards of tests/conftest.py guard: a rule that catches nothing would pass for ever."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from pathlib import Path

import pytest
from django.db import connection

from tests.database_file import DatabaseOpened, database_bytes


@pytest.mark.parametrize("host", ["192.0.2.1", "10.0.0.1", "169.254.169.254", "::ffff:192.0.2.1"])
def test_other_machines_cannot_be_reached(host: str, network_tries: list[str]) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as sock, pytest.raises(AssertionError, match="stay on this machine"):
        sock.connect((host, 80))
    with socket.socket(family, socket.SOCK_DGRAM) as sock, pytest.raises(AssertionError):
        sock.sendto(b"", (host, 53))
    assert len(network_tries) == 2
    network_tries.clear()


def test_names_are_not_looked_up(network_tries: list[str]) -> None:
    with pytest.raises(AssertionError, match="stay on this machine"):
        socket.getaddrinfo("api.example.com", 443)
    assert network_tries
    network_tries.clear()


async def test_this_machine_can_be_reached() -> None:
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    reader, writer = await asyncio.open_connection("localhost", port)
    assert await reader.read() == b""
    writer.close()
    await writer.wait_closed()
    server.close()
    await server.wait_closed()


def test_tests_do_not_sleep() -> None:
    with pytest.raises(AssertionError, match="wait on a condition"):
        time.sleep(0.1)
    time.sleep(0.001)


async def test_tests_do_not_sleep_in_async_code_either() -> None:
    with pytest.raises(AssertionError, match="wait on a condition"):
        await asyncio.sleep(0.1)
    await asyncio.sleep(0)


@pytest.mark.sleeps(reason="shows that a reason allows it")
def test_with_a_reason_they_may() -> None:
    began = time.monotonic()
    time.sleep(0.06)
    assert time.monotonic() - began >= 0.05


@pytest.mark.django_db(transaction=True)
def test_only_sqlite_opens_the_test_database() -> None:
    name = Path(str(connection.settings_dict["NAME"]))
    with pytest.raises(DatabaseOpened, match="end SQLite's locks"):
        name.read_bytes()
    with pytest.raises(DatabaseOpened):
        os.open(name, os.O_RDONLY)
    assert database_bytes().startswith(b"SQLite format 3\0")
