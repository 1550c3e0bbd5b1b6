"""An outbound proxy on this machine that notes who was asked for: HTTP and SOCKS 5."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import threading
from collections.abc import Iterator

from tests.patience import LONG_SECONDS


class Proxy:
    """Speaks both; notes who was asked for, and connects everybody to the one vendor: that of
    `vendor_port`, or whoever on this machine was asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.logins: list[str] = []
        self.port = 0
        self.vendor_port = 0
        self.answer = 0
        self._open: set[asyncio.StreamWriter] = set()

    async def close(self) -> None:
        """Ends what still passes through."""
        ending = list(self._open)
        for writer in ending:
            writer.close()
        await asyncio.gather(*(one.wait_closed() for one in ending), return_exceptions=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def met(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        try:
            first = await reader.readexactly(1)
            if first == b"\x05":
                is_through = await self._socks(reader, writer)
            else:
                is_through = await self._connect(first, reader, writer)
            if is_through:
                await self._join(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            writer.close()
            self._open.discard(writer)

    async def _socks(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        methods = await reader.readexactly((await reader.readexactly(1))[0])
        writer.write(b"\x05" + methods)
        if methods == b"\x02":
            await reader.readexactly(1)
            user = await reader.readexactly((await reader.readexactly(1))[0])
            password = await reader.readexactly((await reader.readexactly(1))[0])
            self.logins.append(f"{user.decode()}:{password.decode()}")
            writer.write(b"\x01\x00")
        *_, kind = await reader.readexactly(4)
        if kind == 3:
            host = (await reader.readexactly((await reader.readexactly(1))[0])).decode()
        else:
            host = ".".join(map(str, await reader.readexactly(4)))
        port = int.from_bytes(await reader.readexactly(2), "big")
        self.asked.append(f"{host}:{port}")
        writer.write(bytes([5, self.answer, 0, 1, 0, 0, 0, 0, 0, 0]))
        return self.answer == 0

    async def _connect(
        self, first: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        head = (first + await reader.readuntil(b"\r\n\r\n")).decode()
        self.asked.append(head.split()[1])
        for line in head.splitlines():
            if line.startswith("Proxy-Authorization: Basic "):
                self.logins.append(base64.b64decode(line.split()[2]).decode())
        if self.answer:
            writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n")
            return False
        writer.write(b"HTTP/1.1 200 Connection established\r\nX: y\r\n\r\n")
        return True

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        port = self.vendor_port or int(self.asked[-1].rpartition(":")[2])
        theirs, ours = await asyncio.open_connection("127.0.0.1", port)
        self._open.add(ours)

        async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            while data := await source.read(65_536):
                sink.write(data)
                await sink.drain()
            sink.close()

        await asyncio.gather(pump(reader, ours), pump(theirs, writer), return_exceptions=True)
        self._open.discard(ours)


@contextlib.contextmanager
def running_proxy() -> Iterator[Proxy]:
    """In a thread of its own, for tests that wait."""
    made = Proxy()
    is_up = threading.Event()
    loop = asyncio.new_event_loop()
    told = asyncio.Event()

    async def serve() -> None:
        server = await asyncio.start_server(made.met, "127.0.0.1", 0)
        made.port = server.sockets[0].getsockname()[1]
        is_up.set()
        await told.wait()
        server.close()
        await made.close()
        await asyncio.gather(*(asyncio.all_tasks() - {asyncio.current_task()}))

    def run() -> None:
        with contextlib.closing(loop):
            loop.run_until_complete(serve())

    thread = threading.Thread(target=run, name="proxy", daemon=True)
    thread.start()
    assert is_up.wait(LONG_SECONDS), "the proxy did not start"
    try:
        yield made
    finally:
        loop.call_soon_threadsafe(told.set)
        thread.join(LONG_SECONDS)
        assert not thread.is_alive(), "the proxy did not stop"
