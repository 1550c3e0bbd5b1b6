"""The file of a batch, a request in each line: which models it asks, and what came back. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from mmap import mmap
from typing import Final

import msgspec

from controlplane.kit.json import dumps
from providers.catalog.pricing import cost_of, priced_nanos, version_of
from providers.catalog.schema import Price
from providers.files.errors import BadBatchFile
from providers.protocols.canonical import Usage
from providers.protocols.errors import LocalProtocolError
from providers.protocols.openai_completions.passthrough import Endpoint, measure
from providers.protocols.openai_completions.splice import Object

MAX_LINE: Final = 32 * 1024 * 1024
MAX_MODELS: Final = 100
_PIECE: Final = 256 * 1024
# About so many bytes of JSON make a token; and what is expected of an answer without a limit.
_BYTES_PER_TOKEN: Final = 4
_EXPECTED_OUTPUT: Final = 1_024
# What the catalog calls the price of a batch.
BATCH_TIER: Final = "batch"


class Work(msgspec.Struct):
    """What a batch asks of one model. Tokens are our estimate. `served` is the vendor's name."""

    asked: str
    served: str = ""
    lines: int = 0
    input: int = 0
    output: int = 0
    nanos: int | None = None


class _Body(msgspec.Struct):
    model: str
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    max_output_tokens: int | None = None


class _Line(msgspec.Struct):
    body: _Body


class _Answered(msgspec.Struct):
    body: msgspec.Raw = msgspec.Raw()


class _Answer(msgspec.Struct):
    response: _Answered | None = None


class _Named(msgspec.Struct):
    model: str | None = None


_line: Final = msgspec.json.Decoder(_Line).decode
_answer: Final = msgspec.json.Decoder(_Answer).decode
_named: Final = msgspec.json.Decoder(_Named).decode
_work: Final = msgspec.json.Decoder(list[Work]).decode


class Lines:
    """Whole lines of what arrives in pieces, empty ones left out. `feed` raises BadBatchFile for a
    line that never ends; `close` gives the last one, which may lack its end."""

    __slots__ = ("_parts", "_size")

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._size = 0

    def feed(self, piece: bytes) -> list[bytes]:
        first, *others = piece.split(b"\n")
        self._parts.append(first)
        self._size += len(first)
        if self._size > MAX_LINE:
            raise BadBatchFile(f"A line of the file has more than {MAX_LINE} bytes.", param="file")
        if not others:
            return []
        *whole, rest = others
        found = [b"".join(self._parts), *whole]
        self._parts, self._size = [rest], len(rest)
        return [line for line in found if line.strip()]

    def close(self) -> list[bytes]:
        rest, self._parts, self._size = b"".join(self._parts), [], 0
        return [rest] if rest.strip() else []


def lines_in(view: bytes | mmap, start: int, end: int) -> Iterator[bytes]:
    """The lines of a part of a file that lies on disk."""
    lines = Lines()
    for position in range(start, end, _PIECE):
        yield from lines.feed(view[position : min(end, position + _PIECE)])
    yield from lines.close()


def work_in(lines: Iterable[bytes]) -> list[Work]:
    """One entry per model, in order of appearance. Raises BadBatchFile naming the line."""
    found: dict[str, Work] = {}
    for number, line in enumerate(lines, 1):
        try:
            body = _line(line).body
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise BadBatchFile(
                f"Line {number} of the file is not a request: each line is a JSON object with "
                "`custom_id`, `method`, `url` and a `body` that names its `model`.",
                param="file",
            ) from None
        work = found.get(body.model)
        if work is None:
            if len(found) >= MAX_MODELS:
                raise BadBatchFile(f"A batch asks at most {MAX_MODELS} models.", param="file")
            work = found[body.model] = Work(body.model)
        work.lines += 1
        work.input += len(line) // _BYTES_PER_TOKEN
        most = body.max_completion_tokens or body.max_tokens or body.max_output_tokens or 0
        work.output += most if 0 < most < 10**9 else _EXPECTED_OUTPUT
    if not found:
        raise BadBatchFile("The file holds no request.", param="file")
    return list(found.values())


def with_models(lines: Iterable[bytes], served: dict[str, str]) -> Iterator[bytes]:
    """The same requests under the vendor's names of their models; every other byte as it was."""
    for line in lines:
        name = served[_line(line).body.model]
        try:
            outer = Object(line)
            inner = Object(outer.value("body"), "body")
            inner.set("model", dumps(name))
            outer.set("body", inner.render())
        except LocalProtocolError as error:
            raise BadBatchFile(
                f"A line of the file is wrong: {error.message}", param="file"
            ) from None
        yield outer.render().strip() + b"\n"


def written(work: list[Work]) -> str:
    return msgspec.json.encode(work).decode()


def read(text: str) -> list[Work]:
    return _work(text) if text else []


class Bill(msgspec.Struct):
    """What the answers of one model used, and what that costs: None = its price is not known.
    `charge_nanos` is that at the price agreed with the tenant; None = none is."""

    served: str
    asked: str
    usage: Usage
    nanos: int | None = 0
    charge_nanos: int | None = None
    answers: int = 0
    price_version: str = ""


class Bills:
    """Adds up the answers of a batch, one bill per model. Each answer is priced by itself, for
    prices have tiers, and at the price of a batch where the catalog has one. A line that cannot be
    read used nothing that anybody could know.

    `price_of` is asked with the vendor's name of a model, `agreed_of` with the one that the tenant
    asked for."""

    def __init__(
        self,
        work: list[Work],
        price_of: Callable[[str], Price | None],
        agreed_of: Callable[[str], Price | None],
    ) -> None:
        self._work = work
        self._price_of = price_of
        self._agreed_of = agreed_of
        self._bills: dict[str, Bill] = {}

    def see(self, line: bytes) -> None:
        try:
            answered = _answer(line).response
            body = bytes(answered.body) if answered is not None else b""
            name = (_named(body).model or "") if body else ""
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return
        usage = measure(Endpoint.COMPLETIONS, "application/json", body).usage if body else None
        if usage is None:
            return
        one = _work_of(name, self._work)
        served = one.served if one is not None else name[:200]
        bill = self._bills.get(served)
        if bill is None:
            asked = one.asked if one is not None else served
            bill = self._bills[served] = Bill(served, asked, Usage())
        bill.answers += 1
        bill.usage = _sum(bill.usage, usage)
        tier = msgspec.structs.replace(usage, service_tier=BATCH_TIER)
        price = self._price_of(served)
        if price is not None:
            bill.price_version = version_of(price)
        cost = cost_of(tier, price)
        bill.nanos = None if cost is None or bill.nanos is None else bill.nanos + cost.nanos
        charge = priced_nanos(tier, self._agreed_of(bill.asked))
        if charge is not None:
            bill.charge_nanos = (bill.charge_nanos or 0) + charge

    def all(self) -> list[Bill]:
        return list(self._bills.values())


def _work_of(name: str, work: list[Work]) -> Work | None:
    """Vendors answer with a dated name of the model: the longest that it begins with is meant."""
    if len(work) == 1:
        return work[0]
    fitting = [one for one in work if name == one.served or name.startswith(f"{one.served}-")]
    return max(fitting, key=lambda one: len(one.served), default=None)


def _sum(one: Usage, other: Usage) -> Usage:
    return Usage(
        input=one.input + max(0, other.input),
        cache_read=one.cache_read + max(0, other.cache_read),
        cache_write=one.cache_write + max(0, other.cache_write),
        output=one.output + max(0, other.output),
        reasoning=one.reasoning + max(0, other.reasoning),
        audio_input=one.audio_input + max(0, other.audio_input),
        audio_output=one.audio_output + max(0, other.audio_output),
        image_input=one.image_input + max(0, other.image_input),
        image_output=one.image_output + max(0, other.image_output),
    )
