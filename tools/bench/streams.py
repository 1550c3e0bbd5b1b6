"""Streams: a vendor that sends each event alone, and clients that time what arrives.

    python -m tools.bench.streams PORT

runs the vendor. It is no nginx, which cannot send event by event; its own time does not count, and
at the rates that are asked of it one core is enough.
"""

from __future__ import annotations

import asyncio
import json
import re
import statistics
import sys
import time
from dataclasses import dataclass
from typing import Any

_FRAME = re.compile(rb"\r\n[0-9A-Fa-f]+\r\n")
STAGGER_SECONDS = 0.02
FIRST = 3
_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\n"
    b"Connection: close\r\n\r\n"
)
_WORDS = "quick brown fox jumps over the lazy dog near the river bank while leaves drift".split()
# In the path below which the vendor answers: /rate=20/count=100/v1/…; a rate of 0 is flat out.
_OPTIONS = re.compile(rb"/rate=(\d+)/count=(\d+)/(\S*)")


def _chat(count: int) -> list[bytes]:
    common = {"id": "chatcmpl-canned", "object": "chat.completion.chunk", "created": 1700000000}

    def event(delta: dict[str, Any], finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        chunk = {**common, "model": "canned", "choices": [choice]}
        return b"data: " + json.dumps(chunk, separators=(",", ":")).encode() + b"\n\n"

    words = [event({"content": _WORDS[n % len(_WORDS)] + " "}) for n in range(count)]
    usage = {"prompt_tokens": 120, "completion_tokens": count, "total_tokens": 120 + count}
    last = {**common, "model": "canned", "choices": [], "usage": usage}
    return [
        event({"role": "assistant", "content": ""}),
        *words,
        event({}, "stop"),
        b"data: " + json.dumps(last, separators=(",", ":")).encode() + b"\n\n",
        b"data: [DONE]\n\n",
    ]


def _messages(count: int) -> list[bytes]:
    def event(name: str, **fields: Any) -> bytes:
        data = json.dumps({"type": name, **fields}, separators=(",", ":")).encode()
        return b"event: " + name.encode() + b"\ndata: " + data + b"\n\n"

    message: dict[str, Any] = {
        "id": "msg_canned",
        "type": "message",
        "role": "assistant",
        "model": "canned",
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {"input_tokens": 120, "output_tokens": 1},
    }
    return [
        event("message_start", message=message),
        event("content_block_start", index=0, content_block={"type": "text", "text": ""}),
        *(
            event(
                "content_block_delta",
                index=0,
                delta={"type": "text_delta", "text": _WORDS[n % len(_WORDS)] + " "},
            )
            for n in range(count)
        ),
        event("content_block_stop", index=0),
        event(
            "message_delta",
            delta={"stop_reason": "end_turn", "stop_sequence": None},
            usage={"output_tokens": count},
        ),
        event("message_stop"),
    ]


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    head = await reader.readuntil(b"\r\n\r\n")
    length = re.search(rb"(?i)content-length: *(\d+)", head)
    if length:
        await reader.readexactly(int(length.group(1)))
    options = _OPTIONS.search(head)
    assert options is not None, head
    rate, count = int(options.group(1)), int(options.group(2))
    events = _messages(count) if b"messages" in options.group(3) else _chat(count)
    writer.write(_HEAD)
    try:
        due = time.monotonic()
        # The first word comes with its handshake: a gateway may wait for it, to know all is well.
        writer.write(b"".join(events[:FIRST]))
        for event in events[FIRST:]:
            writer.write(event)
            if rate:
                due += 1 / rate
                await asyncio.sleep(due - time.monotonic())
            else:
                # The write alone sends nothing together with the next one.
                await asyncio.sleep(0)
                await writer.drain()
        await writer.drain()
    except ConnectionError:
        return  # whoever asked is gone
    finally:
        writer.close()


async def _serve(port: int) -> None:
    server = await asyncio.start_server(_answer, "127.0.0.1", port, backlog=1024)
    async with server:
        await server.serve_forever()


@dataclass(frozen=True)
class Read:
    """What a number of simultaneous clients saw."""

    events: int
    seconds: float
    first_byte_p50_ms: float
    whole: int


async def _read_one(port: int, request: bytes, end: bytes, after: float) -> tuple[float, int, bool]:
    # Not all in the same moment: that would time the queue.
    await asyncio.sleep(after)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    asked = time.monotonic()
    first, events, tail = 0.0, 0, b""
    while data := await reader.read(65_536):
        if not first and (b"data:" in data or b"event:" in data):
            first = time.monotonic() - asked
        events += data.count(b"\n\n")
        tail = (tail + data)[-400:]
    writer.close()
    # A busy server may cut anywhere: what frames the pieces is taken out of the end.
    return first, events, end in _FRAME.sub(b"", tail)


async def _read_all(port: int, request: bytes, end: bytes, count: int) -> Read:
    began = time.monotonic()
    results = await asyncio.gather(
        *(_read_one(port, request, end, number * STAGGER_SECONDS) for number in range(count))
    )
    return Read(
        events=sum(events for _, events, _ in results),
        seconds=time.monotonic() - began,
        first_byte_p50_ms=statistics.median(first for first, _, _ in results) * 1000,
        whole=sum(is_whole for _, _, is_whole in results),
    )


def read(port: int, path: str, key: str, model: str, *, streams: int) -> Read:
    """`streams` clients at once, each reading its stream to the end. All must be whole."""
    body = json.dumps(
        {"model": model, "stream": True, "messages": [{"role": "user", "content": "Hello"}]}
    )
    request = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {key}\r\n"
        f"Content-Type: application/json\r\nConnection: close\r\n"
        f"Content-Length: {len(body)}\r\n\r\n{body}"
    ).encode()
    return asyncio.run(_read_all(port, request, b"data: [DONE]", streams))


if __name__ == "__main__":
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(int(sys.argv[1])))
