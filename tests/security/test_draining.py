"""Bar R8 through the proxy: streams that are open when the process is told to stop end whole.

The supervisor's own tests hold the same for both servers and 200 streams of a probe."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import httpx

from providers.simulator.world import World
from tests.patience import LONG_SECONDS
from tests.security.arena import gateway
from tests.security.dialects import DIALECTS, Dialect

STREAMS = 40
# What each dialect's stream ends with when it is whole.
ENDS = {
    "chat": "data: [DONE]",
    "responses": "event: response.completed",
    "messages": "event: message_stop",
    "gemini": '"finishReason":"STOP"',
}


def test_no_open_stream_is_cut_by_a_stop(vendors: tuple[str, World]) -> None:
    vendors[1].reset()
    are_open = threading.Barrier(STREAMS + 1)

    with ThreadPoolExecutor(STREAMS) as pool:
        with gateway("asgi", *vendors) as arena:

            def read(dialect: Dialect) -> str:
                path, body = dialect.ask(f"{dialect.own_model}+text+tokens=40+rate=40", stream=True)
                with httpx.stream(
                    "POST",
                    arena.url + path.replace("+", "%2B"),
                    headers=arena.bearer(),
                    json=body,
                    timeout=30,
                ) as answer:
                    assert answer.status_code == 200
                    are_open.wait(LONG_SECONDS)
                    return answer.read().decode()

            reading = [
                (dialect, pool.submit(read, dialect)) for dialect in DIALECTS * (STREAMS // 4)
            ]
            are_open.wait(LONG_SECONDS)
            assert vendors[1].answering > STREAMS / 2, "most of them are in their middle"
        # Here the server was told to stop and has stopped.
        ends = [(dialect.name, future.result()) for dialect, future in reading]
    cut = [(name, text[-200:]) for name, text in ends if ENDS[name] not in text]
    assert not cut
