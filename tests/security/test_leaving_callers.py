"""Bars R13 and R14: callers who hang up in the middle, and callers who hardly read."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import os
import socket
import stat
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from controlplane.kit.secret import Secret
from providers.catalog import services
from providers.credentials.services import store_key
from tenants import scope
from tenants.audit.actor import acting_as
from tests.patience import LONG_SECONDS, allowed
from tests.running import served
from tests.security.arena import VENDOR_KEY, Arena
from tests.security.dialects import CHAT, DIALECTS, Dialect
from tests.security.requests import head

AT_ONCE = 50
WaitUntil = Callable[..., Any]


def sockets() -> int:
    """Open sockets of this process. Not every descriptor: threads that wake up under load open
    database files of their own, and keep them."""
    gc.collect()
    open_ones = 0
    for name in os.listdir("/dev/fd"):
        # The folder's own descriptor is gone by now.
        with contextlib.suppress(OSError):
            open_ones += stat.S_ISSOCK(os.stat(f"/dev/fd/{name}").st_mode)
    return open_ones


def request(arena: Arena, dialect: Dialect, model: str, *, stream: bool = True) -> bytes:
    path, body = dialect.ask(model, stream=stream)
    content = json.dumps(body).encode()
    return head(arena, path.replace("+", "%2B"), f"content-length: {len(content)}") + content


async def leave(arena: Arena, data: bytes, after_bytes: int) -> None:
    """Asks, reads so much of the answer, and is gone. -1 = before the answer."""
    reader, writer = await asyncio.open_connection(*arena.address)
    try:
        writer.write(data)
        await writer.drain()
        if after_bytes >= 0:
            # At least the status line; then what comes, up to so much.
            seen = len(await reader.read(1024))
            while seen < after_bytes and (piece := await reader.read(1024)):
                seen += len(piece)
    finally:
        writer.transport.abort()


async def leave_often(arena: Arena, count: int) -> None:
    gate = asyncio.Semaphore(AT_ONCE)
    # Slow enough that nobody has the whole answer when they leave.
    models = [
        (dialect, f"{model}+text+tokens=400+rate=200")
        for dialect in DIALECTS
        for model in (dialect.own_model, "sim-nova")
    ]

    async def one(number: int) -> None:
        async with gate:
            dialect, model = models[number % len(models)]
            await leave(arena, request(arena, dialect, model), (-1, 0, 1500, 3000)[number % 4])

    await asyncio.gather(*(one(number) for number in range(count)))


def twenty_of_twenty(arena: Arena) -> None:
    with httpx.Client(base_url=arena.url, headers=arena.bearer()) as client:
        for number in range(20):
            dialect = DIALECTS[number % len(DIALECTS)]
            path, body = dialect.ask(dialect.own_model, stream=number % 2 == 1)
            answer = client.post(path, json=body)
            assert answer.status_code == 200, answer.text
            assert '"You ' in answer.text or '"You said' in answer.text, answer.text


def survives(arena: Arena, count: int, wait_until: WaitUntil) -> None:
    twenty_of_twenty(arena)
    before = sockets()
    asyncio.run(leave_often(arena, count))
    wait_until(lambda: arena.world.answering == 0, what="every upstream request ended")
    wait_until(lambda: sockets() <= before + 2, what=f"{before} sockets again")
    twenty_of_twenty(arena)
    wait_until(lambda: abs(sockets() - before) <= 2, what=f"{before} sockets still")


def test_three_hundred_callers_hang_up(fast_lane: Arena, wait_until: WaitUntil) -> None:
    survives(fast_lane, 300, wait_until)


@pytest.mark.soak
def test_ten_thousand_callers_hang_up(fast_lane: Arena, wait_until: WaitUntil) -> None:
    survives(fast_lane, 10_000, wait_until)


def test_a_hundred_callers_of_each_lane_hang_up(arena: Arena, wait_until: WaitUntil) -> None:
    survives(arena, 100, wait_until)


def seconds_until_upstream_ends(
    arena: Arena, data: bytes, wait_until: WaitUntil, *, is_answered: bool = True
) -> float:
    with socket.create_connection(arena.address, timeout=LONG_SECONDS) as caller:
        caller.sendall(data)
        wait_until(lambda: arena.world.answering == 1, what="the vendor was asked")
        if is_answered:
            assert caller.recv(1024)
    gone_at = time.monotonic()
    wait_until(lambda: arena.world.answering == 0, what="the vendor was left")
    return time.monotonic() - gone_at


@pytest.mark.parametrize("model", ["sim-gpt", "sim-claude"])
@pytest.mark.timed
def test_a_vendor_is_left_within_a_second(arena: Arena, model: str, wait_until: WaitUntil) -> None:
    data = request(arena, CHAT, f"{model}+text+tokens=4000+rate=50")
    took = [seconds_until_upstream_ends(arena, data, wait_until) for _ in range(5)]
    # The middle of five: a busy machine may be late once.
    assert statistics.median(took) <= allowed(1), took


@pytest.mark.timed
def test_a_vendor_that_has_said_nothing_is_left_too(
    fast_lane: Arena, wait_until: WaitUntil
) -> None:
    for model in ("sim-gpt+first=60", "sim-claude+first=60"):
        for stream in (True, False):
            data = request(fast_lane, CHAT, model, stream=stream)
            took = [
                seconds_until_upstream_ends(fast_lane, data, wait_until, is_answered=False)
                for _ in range(3)
            ]
            assert statistics.median(took) <= allowed(1), took


# --- slow readers --------------------------------------------------------------------------------

PIECE = (
    b'data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"endless","choices":'
    b'[{"index":0,"delta":{"content":"' + b"a" * 16_000 + b'"},"finish_reason":null}]}\n\n'
)


class Endless:
    """A vendor that never stops talking, as fast as it may."""

    def __init__(self) -> None:
        self.sent = 0
        self.open = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        while (await receive()).get("more_body"):
            pass
        headers = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        leaving = asyncio.ensure_future(receive())
        self.open += 1
        try:
            while not leaving.done():
                await send({"type": "http.response.body", "body": PIECE, "more_body": True})
                self.sent += len(PIECE)
        finally:
            self.open -= 1
            leaving.cancel()


@pytest.fixture(scope="module")
def endless(vendors: object) -> Iterator[Endless]:
    vendor = Endless()
    with served(vendor, lifespan="off") as url:
        with acting_as("command", None, "tests"), scope.platform("tests"):
            provider = services.register(
                slug="endless", protocol="openai-completions", base_url=url
            )
            store_key(provider=provider, label="one", secret=Secret(VENDOR_KEY))
            services.add_model(provider=provider, upstream_id="endless")
        yield vendor


def resident_megabytes() -> float:
    gc.collect()
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def stands_still(arena: Arena, endless: Endless, wait_until: WaitUntil) -> int:
    """Waits until the vendor is held back: nothing more leaves it for a second and a half in which
    others got twenty answers, so that a machine that stands still cannot be why."""
    seen = [(time.monotonic(), endless.sent)]
    answers = 0
    with httpx.Client(base_url=arena.url, headers=arena.bearer()) as client:

        def still() -> bool:
            nonlocal answers
            assert client.get("/v1/models/endless").status_code == 200
            answers += 1
            now = time.monotonic()
            if endless.sent != seen[0][1]:
                seen[0], answers = (now, endless.sent), 0
            return now - seen[0][0] > 1.5 and answers >= 20

        wait_until(still, seconds=3 * LONG_SECONDS, what="the vendor was held back")
    return endless.sent


def readers_do_not_fill_memory(
    arena: Arena, endless: Endless, count: int, megabytes: float, wait_until: WaitUntil
) -> None:
    with httpx.Client(base_url=arena.url, headers=arena.bearer()) as client:
        wait_until(lambda: client.get("/v1/models/endless").status_code == 200)
    twenty_of_twenty(arena)
    before, sockets_before = resident_megabytes(), sockets()
    data = request(arena, CHAT, "endless")
    # Each fills every buffer on the way first, and one process plays all the parts.
    patience = LONG_SECONDS + count / 5
    readers = []
    try:
        for _ in range(count):
            reader = socket.socket()
            # Little room in the kernel, so that it is the gateway that has to wait.
            reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            reader.settimeout(LONG_SECONDS)
            reader.connect(arena.address)
            reader.sendall(data)
            readers.append(reader)
        wait_until(lambda: endless.open == count, seconds=patience, what="all are being answered")
        held_at = stands_still(arena, endless, wait_until)
        grown = [resident_megabytes() - before]
        for _ in range(3):
            for reader in readers:
                assert reader.recv(1024)
            grown.append(resident_megabytes() - before)
        # A kilobyte each moves nothing of note at the other end.
        assert stands_still(arena, endless, wait_until) - held_at <= count * 2**20
        assert max(grown) <= megabytes, grown
        # Others are served meanwhile.
        twenty_of_twenty(arena)
    finally:
        for reader in readers:
            reader.close()
    wait_until(lambda: endless.open == 0, seconds=patience, what="the vendor was left by all")
    wait_until(lambda: sockets() <= sockets_before + 2, what="their sockets are closed")


def test_fifty_slow_readers(fast_lane: Arena, endless: Endless, wait_until: WaitUntil) -> None:
    readers_do_not_fill_memory(fast_lane, endless, 50, 32, wait_until)


@pytest.mark.soak
def test_five_hundred_slow_readers(
    fast_lane: Arena, endless: Endless, wait_until: WaitUntil
) -> None:
    # Vendor, gateway and readers share this process: the gateway's part is less than half.
    readers_do_not_fill_memory(fast_lane, endless, 500, 256, wait_until)


@pytest.mark.parametrize("running", ["drf"], indirect=True)
def test_slow_readers_of_the_other_lane(
    arena: Arena, endless: Endless, wait_until: WaitUntil
) -> None:
    readers_do_not_fill_memory(arena, endless, 10, 24, wait_until)
