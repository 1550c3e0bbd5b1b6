"""One event loop in a thread of its own, for the lane that runs under any Django server.

The pipeline is asynchronous and owns connections bound to a loop; Django's sync views come
from many threads. They hand their request to this loop and wait.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Coroutine, Iterator
from concurrent.futures import wait
from typing import Any, Final, TypeVar

from controlplane.proxy.state import GatewayState

T = TypeVar("T")
START_SECONDS: Final = 30


class PipelineLoop:
    """Started by the first request it serves; lives as long as the process."""

    def __init__(self) -> None:
        self.state = GatewayState()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="proxy-pipeline", daemon=True)
        self._thread.start()
        try:
            self.run(self.state.start(), START_SECONDS)
        except BaseException:
            self._loop.call_soon_threadsafe(self._loop.stop)
            raise

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()
        self._loop.close()

    def run(self, coroutine: Coroutine[Any, Any, T], timeout_seconds: float | None = None) -> T:
        future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            return future.result(timeout_seconds)
        except BaseException:
            future.cancel()
            raise

    def iterate(self, stream: AsyncIterator[bytes], beat: bytes = b"") -> Iterator[bytes]:
        """The stream's pieces, one at a time, with `beat` where it is silent. Closing the iterator
        closes the stream."""
        seconds = self.state.keep_alive_seconds if beat else None
        try:
            while True:
                future = asyncio.run_coroutine_threadsafe(_next(stream), self._loop)
                try:
                    while not wait([future], seconds or None).done:
                        yield beat
                except BaseException:
                    future.cancel()
                    raise
                piece = future.result()
                if piece is None:
                    return
                yield piece
        finally:
            close = getattr(stream, "aclose", None)
            if close is not None:
                self.run(close())

    async def aiterate(
        self, stream: AsyncIterator[bytes], beat: bytes = b""
    ) -> AsyncIterator[bytes]:
        """The same for a caller that has an event loop of its own (Django under ASGI)."""
        seconds = self.state.keep_alive_seconds if beat else None
        try:
            while True:
                waiting = asyncio.run_coroutine_threadsafe(_next(stream), self._loop)
                future = asyncio.wrap_future(waiting)
                try:
                    while not (await asyncio.wait([future], timeout=seconds or None))[0]:
                        yield beat
                except BaseException:
                    future.cancel()
                    raise
                piece = future.result()
                if piece is None:
                    return
                yield piece
        finally:
            close = getattr(stream, "aclose", None)
            if close is not None:
                # Not awaited here: a cancelled caller could not wait, and need not.
                asyncio.run_coroutine_threadsafe(close(), self._loop)

    def stop(self) -> None:
        self.run(self.state.stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()


async def _next(stream: AsyncIterator[bytes]) -> bytes | None:
    try:
        return await anext(stream)
    except StopAsyncIteration:
        return None


_lock = threading.Lock()
_running: PipelineLoop | None = None


def pipeline_loop() -> PipelineLoop:
    global _running
    with _lock:
        if _running is None:
            _running = PipelineLoop()
        return _running


def stop() -> None:
    """For tests and clean shutdown: the next request starts a new one."""
    global _running
    with _lock:
        if _running is not None:
            _running.stop()
            _running = None
