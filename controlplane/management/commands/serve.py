"""`manage.py serve`: the gateway and the background process, kept running."""

from __future__ import annotations

import argparse
import os
import socket
import sys
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import connections

from controlplane.supervisor import gateway, preflight
from controlplane.supervisor.supervise import Role, Supervisor


class Command(BaseCommand):
    help = (
        "Runs the gateway and the background process: restarts what dies or hangs, stops warm on "
        "SIGTERM, leaves nothing behind. Listens on loopback unless --host says otherwise."
    )
    # The checks before the start run them, after the database was looked at.
    requires_system_checks: list[str] = []
    # For callers in Python: called with the base URL instead of printing the line about it.
    stealth_options = ("when_ready",)

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--host", default="127.0.0.1", help="Address to listen on.")
        parser.add_argument("--port", type=_port, default=8000, help="0 takes a free port.")
        parser.add_argument("--server", choices=["uvicorn", "granian"], default="uvicorn")
        parser.add_argument(
            "--workers", type=_count, default=1, metavar="N", help="Gateway processes."
        )
        parser.add_argument(
            "--only",
            choices=["gateway", "background"],
            help="Run one side, where the other runs elsewhere (needs REDIS_URL).",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if not hasattr(os, "fork"):
            raise CommandError("serve needs Linux, macOS or another Unix. On Windows use WSL.")
        from django.conf import settings

        if options["only"] and not settings.REDIS_URL:
            raise CommandError(
                "--only needs REDIS_URL: without it, the two sides run on one machine together."
            )
        has_gateway = options["only"] != "background"
        sock = None
        if has_gateway:
            try:
                sock = gateway.bind(
                    options["host"], options["port"], is_shared=options["server"] == "granian"
                )
            except gateway.CannotListen as error:
                raise CommandError(str(error)) from None
        problem = preflight.problem()
        if problem is not None:
            raise CommandError(problem)
        # None is open here; should a later check open one, children must not share it.
        connections.close_all()

        roles: list[Role] = []
        if sock is not None:
            roles += _gateways(sock, options["server"], options["workers"])
        if options["only"] != "gateway":
            roles += _background(is_embedded=not settings.REDIS_URL, sock=sock)

        base_url = "" if sock is None else _base_url(sock)
        when_ready: Callable[[str], None] = options.get("when_ready") or self._say_ready

        supervisor = Supervisor(
            roles,
            say=self._say,
            on_ready=partial(when_ready, base_url),
            on_stop=sock.close if sock is not None else lambda: None,
        )
        sys.exit(supervisor.run())

    def _say_ready(self, base_url: str) -> None:
        # A space after the address: it is there to be clicked on.
        what = f"Ready on {base_url} " if base_url else "Ready: the background side runs "
        self._say(f"{what}(Ctrl-C stops everything)")

    def _say(self, sentence: str) -> None:
        self.stdout.write(sentence)
        self.stdout.flush()


def _gateways(sock: socket.socket, server: str, count: int) -> Iterator[Role]:
    serve = gateway.run_uvicorn if server == "uvicorn" else gateway.run_granian
    for number in range(1, count + 1):
        yield Role("gateway" if count == 1 else f"gateway-{number}", partial(serve, sock))


def _background(*, is_embedded: bool, sock: socket.socket | None) -> Iterator[Role]:
    def run(name: str) -> None:
        if sock is not None:
            # Held open here, the port would stay taken, and callers waiting, after a stop.
            sock.close()
        from controlplane.supervisor import background

        getattr(background, name)()

    if is_embedded:
        yield Role("background", partial(run, "run_embedded"))
    else:
        yield Role("worker", partial(run, "run_worker"))
        yield Role("beat", partial(run, "run_beat"))


def _base_url(sock: socket.socket) -> str:
    host, port = sock.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is no port: use 0 to 65535.")
    return int(text)


def _count(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 64:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of processes: use 1 to 64.")
    return int(text)
