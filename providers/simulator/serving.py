"""The simulation as a server of its own, and a day's timeline told while it runs."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import socket
from collections.abc import Callable
from datetime import datetime, timedelta

import uvicorn

from providers.simulator.app import SimulatorApplication
from providers.simulator.day import Day
from providers.simulator.world import World

_TELL_SECONDS = 0.25


class Timeline:
    """Says each step of a day when its time has come."""

    def __init__(self, day: Day, begins_at: datetime, world: World) -> None:
        moments: list[tuple[datetime, str]] = []
        for step in day.steps:
            start = begins_at + timedelta(seconds=step.at_seconds)
            moments.append((start, f"begins: {step.sentence()}"))
            if step.until_seconds is not None:
                end = begins_at + timedelta(seconds=step.until_seconds)
                moments.append((end, f"ends: {step.sentence()}"))
        self._moments = sorted(moments)
        self._world = world

    def due(self) -> list[str]:
        """What has come since the last call."""
        now = self._world.now()
        told: list[str] = []
        while self._moments and self._moments[0][0] <= now:
            at, sentence = self._moments.pop(0)
            told.append(f"{at:%H:%M:%S} {sentence}")
        return told


def bind(host: str, port: int) -> socket.socket:
    """Raises OSError when the address is taken or not ours."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.create_server((host, port), family=family, backlog=1024)
    # asyncio sees no TCP in a listener made like this, and would let answers wait for 40 ms.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def address_of(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def serve(
    world: World,
    listener: socket.socket,
    *,
    when_ready: Callable[[], None],
    timeline: Timeline | None = None,
    tell: Callable[[str], None] = print,
) -> None:
    """Until interrupted. Long answers that still run then are cut off after a moment."""
    server = uvicorn.Server(
        uvicorn.Config(
            SimulatorApplication(world),
            http="httptools",
            ws="none",
            lifespan="off",
            log_level="warning",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=1,
        )
    )

    async def run() -> None:
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        when_ready()
        while not serving.done():
            for sentence in timeline.due() if timeline is not None else ():
                tell(sentence)
            await asyncio.wait([serving], timeout=_TELL_SECONDS if timeline is not None else None)
        await serving

    # uvicorn repeats the signal that stopped it when it is done: that is our normal end.
    with contextlib.suppress(KeyboardInterrupt), asyncio.Runner(loop_factory=_loop()) as runner:
        runner.run(run())


def _loop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop where it exists (not on Windows)."""
    if not importlib.util.find_spec("uvloop"):
        return None
    import uvloop

    return uvloop.new_event_loop
