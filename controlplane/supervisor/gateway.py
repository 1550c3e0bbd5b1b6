"""The gateway: an ASGI server around the application that ASGI_APPLICATION names.

The supervisor binds the port before anything is forked. Under uvicorn all gateways accept on that
one socket, so a restarted one finds the connections that came meanwhile waiting in its queue.
"""

from __future__ import annotations

import asyncio
import errno
import gc
import logging
import signal
import socket
from typing import Any, Final

from django.conf import settings
from django.utils.module_loading import import_string

from controlplane.supervisor import pulse

BACKLOG: Final = 2048
PULSE_SECONDS: Final = 1
# Objects that may be made and not freed before the collector looks for circles.
_COLLECTED_AFTER: Final = 10_000
# A little less than the supervisor waits, so that the server says what it cut.
GRACE_SECONDS: Final = 29
# Longer than the 60 s after which load balancers in front close an idle connection.
KEEP_ALIVE_SECONDS: Final = 75


class CannotListen(Exception):
    """One sentence that says why, and what to do."""


def bind(host: str, port: int, *, is_shared: bool) -> socket.socket:
    """The socket for `host` and `port`; 0 takes a free port. Raises CannotListen.

    `is_shared`: other processes bind the same port themselves (granian); then ours never listens
    and only keeps the port taken.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except socket.gaierror:
        raise CannotListen(f"--host {host} is no address of this machine.") from None
    sock = _bound(family, kind, protocol, address, host, port)
    if is_shared:
        # Bound alone first: with SO_REUSEPORT a port that somebody shares would look free.
        address = sock.getsockname()
        sock.close()
        sock = _bound(family, kind, protocol, address, host, port, is_shared=True)
    else:
        sock.listen(BACKLOG)
    sock.setblocking(False)
    return sock


def _bound(
    family: int,
    kind: int,
    protocol: int,
    address: Any,
    host: str,
    port: int,
    *,
    is_shared: bool = False,
) -> socket.socket:
    sock = socket.socket(family, kind, protocol)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if is_shared:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        sock.bind(address)
    except OSError as error:
        sock.close()
        match error.errno:
            case errno.EADDRINUSE:
                reason = f"Port {port} on {host} is in use: stop what uses it or choose another"
                raise CannotListen(f"{reason} with --port.") from None
            case errno.EACCES:
                reason = f"Port {port} needs more rights: choose one above 1023 with --port."
                raise CannotListen(reason) from None
            case errno.EADDRNOTAVAIL:
                reason = f"--host {host} is no address of this machine."
                raise CannotListen(reason) from None
            case _:
                reason = f"Cannot listen on {host} port {port}: {error.strerror}."
                raise CannotListen(reason) from None
    return sock


def _application() -> Any:
    application = import_string(settings.ASGI_APPLICATION)
    collect_seldom()
    return application


def collect_seldom() -> None:
    """What is loaded by now stays. What a request makes goes by itself when it ends; looking for
    circles after every few of them was a fifth of what a long request costs."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_COLLECTED_AFTER, 10, 10)


def run_uvicorn(sock: socket.socket) -> None:
    """Serve until SIGTERM, then let open requests finish."""
    import uvicorn

    # Its comings and goings are told by the supervisor.
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)

    async def notify() -> None:
        pulse.beat()

    server = uvicorn.Server(
        uvicorn.Config(
            _application(),
            loop="uvloop",
            http="httptools",
            ws="none",
            log_config=None,
            access_log=False,
            server_header=False,
            # Whose word counts for a caller's address is settled in one place: TRUSTED_PROXIES.
            proxy_headers=False,
            backlog=BACKLOG,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=GRACE_SECONDS,
            callback_notify=notify,
            timeout_notify=PULSE_SECONDS,
        )
    )
    # It raises the signal that stopped it once more when it is done: that is our normal end.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    server.run(sockets=[sock])


def run_granian(sock: socket.socket) -> None:
    """The same by granian, which binds the shared port itself."""
    host, port = sock.getsockname()[:2]
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve_granian(host, port))


async def _serve_granian(host: str, port: int) -> None:
    from granian.constants import Interfaces
    from granian.server.embed import Server

    server = Server(
        _application(),
        address=host,
        port=port,
        interface=Interfaces.ASGI,
        backlog=BACKLOG,
        websockets=False,
        log_enabled=False,
    )
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, server.stop)
    serving = asyncio.create_task(server.serve())
    # It does not say when it listens, and the first pulse means ready.
    while not serving.done() and not await _accepts(host, port):
        await asyncio.wait([serving], timeout=0.05)
    while not serving.done():
        pulse.beat()
        await asyncio.wait([serving], timeout=PULSE_SECONDS)
    await serving


async def _accepts(host: str, port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection(host, port)
    except OSError:
        return False
    writer.close()
    return True
