"""Outages on demand: by the model's name, by header, or by schedule."""

from __future__ import annotations

import asyncio
import gzip
import math
import random
import struct
import zlib
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from email.utils import format_datetime
from typing import Final

from providers.simulator.asked import script_of
from providers.simulator.http import Ending, Request, Response
from providers.simulator.wire import Refused
from providers.simulator.world import World

HEADER: Final = "x-sim-script"
# What may stand in a model's name or the header; scenarios.SCENARIOS adds its own.
FAULTS: Final[dict[str, str]] = {
    "status": "answers with this status (`status=529`), in the vendor's own error shape",
    "after": "Retry-After seconds for `status` (`after=2`)",
    "afterdate": "the same as a date, N seconds from now (`afterdate=2`)",
    "quota": "quota exhausted for N seconds from the first such request (`quota=3600`)",
    "first": "seconds before the status line (`first=2`)",
    "rate": "tokens per second (`rate=50`)",
    "stall": "falls silent after N pieces (`stall=3`), until the caller goes",
    "cut": "ends the answer after N pieces as if that were all (`cut=3`)",
    "reset": "resets the connection after N pieces (`reset=3`)",
    "drop": "resets the connection instead of answering",
    "miderror": "an error event after N pieces (`miderror=3`)",
    "short": "says a Content-Length longer than what it sends, and closes",
    "badgzip": "a gzip body cut in half",
    "gzip": "a proper gzip body",
    "latin": "bytes that are not UTF-8 in the middle",
    "badjson": "half a JSON body, whole by its length; in a stream one event of half JSON",
    "line": "one line (or binary frame) of N bytes in the stream, or before the body "
    "(`line=1048576`)",
    "redirect": "a redirect to another path",
    "html": "an HTML error page with this status (`html=502`)",
    "emptybody": "this status and no body (`emptybody=500`)",
    "promptfilter": "the prompt is refused by a content filter, in the vendor's own error shape",
    "done": "Codex: the stream ends with its other name, `response.done`",
    "canned": "the bytes of the first such answer again, unchecked: for load tests",
}
# Followed by nobody who behaves: a request there shows in /control/violations.
ELSEWHERE: Final = "/elsewhere"
SSE: Final = "text/event-stream"
EVENT_STREAM: Final = "application/vnd.amazon.eventstream"
MAX_LINE: Final = 1 << 30
_BLOCK: Final = b"x" * 65_536
_SPACES: Final = b" " * 65_536
_BATCH_BYTES: Final = 16_384
# What changes an answer that is there already, and so cannot be served from a can.
_DAMAGE: Final = frozenset(
    "rate stall cut reset miderror short badgzip gzip latin badjson line".split(" ")
)
_ENDS: Final = ("stall", "cut", "reset", "miderror")


@dataclass(frozen=True, slots=True)
class Scheduled:
    """`share` of the requests between two moments get `options`. Empty vendor = all."""

    options: dict[str, str]
    share: float = 1.0
    vendor: str = ""
    model: str = ""
    begins_at: datetime | None = None
    ends_at: datetime | None = None

    def is_on(self, now: datetime, vendor: str, model: str) -> bool:
        return (
            (self.begins_at is None or self.begins_at <= now)
            and (self.ends_at is None or now < self.ends_at)
            and self.vendor in ("", vendor)
            and self.model in ("", model)
        )


class Schedule:
    """The world's plan of outages; shares are drawn from the seed, so a run repeats."""

    def __init__(self, seed: str) -> None:
        self.entries: list[Scheduled] = []
        self._random = random.Random(seed)  # noqa: S311  (a run must repeat, not surprise)

    def options(self, now: datetime, vendor: str, model: str) -> dict[str, str]:
        found: dict[str, str] = {}
        for entry in self.entries:
            if entry.is_on(now, vendor, model) and self._random.random() < entry.share:
                found |= entry.options
        return found


def schedule_of(world: World) -> Schedule:
    made: Schedule | None = world.parts.get("schedule")
    if made is None:
        made = world.parts["schedule"] = Schedule(world.seed)
    return made


def options_of(request: Request, model: str, vendor: str, world: World) -> dict[str, str]:
    """All that applies to this request: name, then header, then schedule."""
    script = script_of(model)
    options = dict(script.options)
    if header := request.headers.get(HEADER):
        options |= script_of("x+" + header).options
    schedule = schedule_of(world)
    if schedule.entries:
        options |= schedule.options(world.now(), vendor, script.base)
    return options


def error_position(options: dict[str, str]) -> int:
    """After how many pieces `miderror` strikes."""
    return int(min(_number(options, "miderror", 3), 10**9))


def damages(options: dict[str, str]) -> bool:
    """Whether `options` change the bytes or the pace of an answer."""
    return not _DAMAGE.isdisjoint(options)


async def before(options: dict[str, str], model: str, vendor: str, world: World) -> Response | None:
    """Faults that answer instead of the model. Raises Refused for those in vendor shape."""
    if "first" in options:
        await world.pause(_number(options, "first", 1))
    if "drop" in options:
        return Response(0, ending="reset")
    if "quota" in options:
        _quota(options, f"{vendor}/{script_of(model).base}", world)
    if "redirect" in options:
        return Response(307, b"", {"location": ELSEWHERE})
    if "html" in options:
        status = _status(options, "html", 502)
        page = f"<html><head><title>{status}</title></head><body><h1>{status}</h1></body></html>"
        return Response(status, page.encode(), {"content-type": "text/html"})
    if "emptybody" in options:
        return Response(_status(options, "emptybody", 500), b"")
    if "promptfilter" in options:
        raise Refused(400, "The prompt was filtered by a content policy.", code="content_filter")
    if "status" in options:
        status = _status(options, "status", 500)
        raise Refused(
            status, f"Simulated status {status}.", retry_after=_retry_after(options, world)
        )
    return None


def _retry_after(options: dict[str, str], world: World) -> str:
    if "afterdate" in options:
        at = world.now() + timedelta(seconds=_number(options, "afterdate", 2))
        return format_datetime(at.replace(microsecond=0), usegmt=True)
    return options.get("after", "")


def _quota(options: dict[str, str], whose: str, world: World) -> None:
    """Exhausted until a time: the clock of the world decides when it is over."""
    ends: dict[str, datetime] = world.parts.setdefault("quota_ends", {})
    seconds = min(_number(options, "quota", 3600), 10**9)
    until = ends.setdefault(whose, world.now() + timedelta(seconds=seconds))
    left = (until - world.now()).total_seconds()
    if left > 0:
        raise Refused(
            429,
            "You exceeded your current quota.",
            code="insufficient_quota",
            retry_after=str(math.ceil(left)),
            resets_at=math.ceil(until.timestamp()),
        )


# --- an answer in one piece ------------------------------------------------------------------


async def whole(
    response: Response, options: dict[str, str], world: World, *, tokens: int = 0
) -> Response:
    """A complete answer, slowed and damaged as asked. `tokens` is how long a model would take."""
    body = response.body
    if not damages(options) or not isinstance(body, bytes):
        return response
    if rate := _number(options, "rate", 0):
        await world.pause(tokens / rate)
    headers = response.headers
    if "gzip" in options:
        response.body = gzip.compress(body, mtime=0)
        headers["content-encoding"] = "gzip"
    elif "badgzip" in options:
        packed = gzip.compress(body, mtime=0)
        response.body = packed[: len(packed) // 2]
        headers["content-encoding"] = "gzip"
    elif "badjson" in options:
        response.body = body[: len(body) // 2]
    elif "latin" in options:
        middle = len(body) // 2
        response.body = body[:middle] + b"\xff\xfe\xfa" + body[middle:]
    elif "line" in options:
        size = _line_size(options)
        headers["content-length"] = str(size + len(body))
        response.body = _spaces_before(body, size)
    elif "short" in options:
        headers["content-length"] = str(len(body) + 100)
        response.ending = "close"
    elif ends := [name for name in ("stall", "cut", "reset") if name in options]:
        headers["content-length"] = str(len(body))
        response.body = body[: len(body) // 2]
        response.ending = _WHOLE_ENDINGS[ends[0]]
    return response


_WHOLE_ENDINGS: Final[dict[str, Ending]] = {"stall": "hold", "cut": "close", "reset": "reset"}


async def _spaces_before(body: bytes, count: int) -> AsyncIterator[bytes]:
    """White space may stand before JSON: one long line, and still a right answer."""
    spaces = _BLOCK.replace(b"x", b" ")
    for size in _blocks(count):
        yield spaces[:size]
    yield body


# --- an answer in pieces ---------------------------------------------------------------------


def streamed(
    pieces: Iterable[bytes],
    options: dict[str, str],
    error_piece: bytes,
    world: World,
    media_type: str,
) -> Response:
    """A streamed answer, paced and damaged as asked."""
    headers = {"content-type": media_type, "cache-control": "no-cache"}
    if not damages(options):
        return Response(200, _batched(pieces), headers)
    if "badgzip" in options:
        packed = gzip.compress(b"".join(pieces), mtime=0)
        headers["content-encoding"] = "gzip"
        return Response(200, packed[: len(packed) // 2], headers)
    if "short" in options:
        body = b"".join(pieces)
        headers["content-length"] = str(len(body) + 100)
        return Response(200, body, headers, ending="close")
    if "gzip" in options:
        headers["content-encoding"] = "gzip"
    ends: dict[str, int] = {
        name: int(min(_number(options, name, 3), 10**9)) for name in _ENDS if name in options
    }
    name = min(ends, key=lambda end: ends[end], default="")
    damaged = _damaged(pieces, options, media_type)
    body_pieces = _paced(
        damaged,
        rate=_number(options, "rate", 0),
        last=ends.get(name, -1),
        error_piece=error_piece if name == "miderror" else b"",
        packer=zlib.compressobj(wbits=31) if "gzip" in options else None,
        world=world,
    )
    ending: Ending = "whole"
    if name == "stall":
        ending = "hold"
    elif name == "reset":
        ending = "reset"
    return Response(200, body_pieces, headers, ending=ending)


async def _batched(pieces: Iterable[bytes]) -> AsyncIterator[bytes]:
    """In few and large writes: nobody asked for a pace."""
    waiting: list[bytes] = []
    size = 0
    for piece in pieces:
        waiting.append(piece)
        size += len(piece)
        if size >= _BATCH_BYTES:
            yield b"".join(waiting)
            waiting.clear()
            size = 0
            # A long answer must not keep others waiting.
            await asyncio.sleep(0)
    if waiting:
        yield b"".join(waiting)


def _damaged(pieces: Iterable[bytes], options: dict[str, str], media_type: str) -> Iterator[bytes]:
    """Each piece as it shall leave. The long line comes in blocks, never whole."""
    is_text = media_type.startswith(SSE)
    for number, piece in enumerate(pieces):
        if number == 1 and "line" in options:
            size = _line_size(options)
            yield from _long(size, media_type)
        if number == 2 and "latin" in options:
            yield piece.replace(b'"', b'"\xff\xfe', 1)
        elif number == 2 and "badjson" in options:
            yield piece[: len(piece) // 2] + (b"\n\n" if is_text else b"")
        else:
            yield piece


def _long(size: int, media_type: str) -> Iterator[bytes]:
    """What the framing lets a reader skip: a comment, a message without meaning, white space."""
    if media_type.startswith(SSE):
        return _comment(size)
    if media_type.startswith(EVENT_STREAM):
        return _frame(size)
    return (_SPACES[:count] for count in _blocks(size))


def _comment(size: int) -> Iterator[bytes]:
    yield b": "
    for count in _blocks(size):
        yield _BLOCK[:count]
    yield b"\n\n"


def _frame(size: int) -> Iterator[bytes]:
    """One message of the binary event stream without headers, its checksums right."""
    prelude = struct.pack(">II", size + 16, 0)
    head = prelude + struct.pack(">I", zlib.crc32(prelude))
    sum_so_far = zlib.crc32(head)
    yield head
    for count in _blocks(size):
        sum_so_far = zlib.crc32(_BLOCK[:count], sum_so_far)
        yield _BLOCK[:count]
    yield struct.pack(">I", sum_so_far)


def _blocks(size: int) -> Iterator[int]:
    while size > 0:
        count = min(size, len(_BLOCK))
        yield count
        size -= count


async def _paced(
    pieces: Iterator[bytes],
    *,
    rate: float,
    last: int,
    error_piece: bytes,
    packer: zlib._Compress | None,
    world: World,
) -> AsyncIterator[bytes]:
    """Piece by piece; with a rate, each at its time. Ends after `last` pieces (-1 = never)."""
    loop = asyncio.get_running_loop()
    next_at = loop.time()
    for number, piece in enumerate(pieces):
        if number == last:
            if error_piece:
                yield error_piece if packer is None else packer.compress(error_piece)
            break
        if packer is not None:
            piece = packer.compress(piece) + packer.flush(zlib.Z_SYNC_FLUSH)
        yield piece
        if rate:
            next_at += 1 / rate
            wait = 1 / rate if world.frozen_at is not None else next_at - loop.time()
            if wait > 0:
                await world.pause(wait)
    if packer is not None:
        yield packer.flush()


def _line_size(options: dict[str, str]) -> int:
    return min(int(_number(options, "line", 1_048_576)), MAX_LINE)


def _status(options: dict[str, str], name: str, default: int) -> int:
    """A status that HTTP knows; what is none counts as the default."""
    status = int(min(_number(options, name, default), 1000))
    return status if 200 <= status <= 599 else default


def _number(options: dict[str, str], name: str, default: float) -> float:
    try:
        number = float(options.get(name) or default)
    except ValueError:
        return default
    return number if math.isfinite(number) and number >= 0 else default
