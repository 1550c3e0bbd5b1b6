"""Bar R9: every fault of a vendor × client dialects × streamed or not × same or other dialect
upstream. Each cell is a well-formed error in the caller's dialect with the right status, as its
official SDK understands it; nothing that broke ends like something that did not."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from typing import Any

import anthropic
import google.genai
import google.genai.errors
import httpx
import openai
import pytest

from controlplane.proxy import loop
from tenants import scope
from tenants.usage.models import Hold
from tests.patience import LONG_SECONDS
from tests.security.arena import Arena
from tests.security.dialects import BY_NAME, DIALECTS, Dialect

AT_ONCE = 48
# Upstreams beside a dialect's own: one more SSE dialect, and a binary stream.
OTHERS = {
    "chat": ("sim-claude", "sim-nova"),
    "responses": ("sim-gemini", "sim-nova"),
    "messages": ("sim-gpt", "sim-mistral"),
    "gemini": ("sim-gpt-responses", "sim-nova"),
}


@dataclass(frozen=True)
class Broken:
    """What a caller has to see. `whole`: the status of a complete answer. `stream`: the status
    while nothing was sent; None = it may break later, with an error event inside a 200."""

    whole: frozenset[int]
    stream: frozenset[int] | None
    retry_after: str = ""
    # A stream may end as a whole one: it was complete when the connection went wrong, or what
    # was damaged is nothing that the caller would have been shown.
    is_complete: bool = False


def status(*codes: int) -> frozenset[int]:
    return frozenset(codes)


FAULTS: dict[str, Broken] = {
    "drop": Broken(status(502), status(502)),
    "reset=0": Broken(status(502), status(502)),
    "reset=3": Broken(status(502), None),
    "stall=0": Broken(status(504), status(504)),
    "stall=3": Broken(status(504), None),
    "cut=0": Broken(status(502), status(502)),
    "cut=3": Broken(status(502), None),
    "first=9": Broken(status(504), status(504)),
    "status=429+after=7": Broken(status(429), status(429), retry_after="7"),
    "status=500": Broken(status(500, 502), status(500, 502)),
    "status=503": Broken(status(502, 503), status(502, 503)),
    "status=529": Broken(status(503, 529), status(503, 529)),
    "status=400": Broken(status(400), status(400)),
    "status=401": Broken(status(502), status(502)),
    "status=403": Broken(status(502), status(502)),
    "status=404": Broken(status(404, 502), status(404, 502)),
    "badjson": Broken(status(502), None),
    "badgzip": Broken(status(502), None),
    "short": Broken(status(502), None, is_complete=True),
    "redirect": Broken(status(502), status(502)),
    "latin": Broken(status(502), None),
    "html=502": Broken(status(502), status(502)),
    "html=200": Broken(status(502), status(502)),
    "emptybody=500": Broken(status(500, 502), status(500, 502)),
    "emptybody=200": Broken(status(502), status(502)),
    "miderror=3": Broken(status(200), None),
}
# What breaks before anything of the answer itself was sent is a status.
BEFORE_THE_FIRST_BYTE = (502, 503, 504, 529)
REFUSED = Broken(status(502), status(502))


def tolerant(dialect: Dialect, model: str, fault: str) -> Broken:
    """Damage hits the third piece. Anthropic's is a ping, which says nothing; a byte that is no
    text becomes U+FFFD where the text is decoded anyway."""
    may_pass = fault == "badjson" and model == "sim-claude"
    may_pass |= fault == "latin" and (model == "sim-claude" or model != dialect.own_model)
    if not may_pass:
        return FAULTS[fault]
    return replace(FAULTS[fault], is_complete=True, whole=FAULTS[fault].whole | status(200))


def cells(lane: str) -> list[tuple[Dialect, str, Broken, bool]]:
    found = []
    for dialect in DIALECTS:
        models = (dialect.own_model, *OTHERS[dialect.name])
        for model in models if lane == "asgi" else models[:1]:
            for stream in (False, True):
                found.append((dialect, f"away/{model}", REFUSED, stream))
                for fault in FAULTS:
                    # Long enough that a fault after three pieces is one in the middle.
                    is_silent = fault.startswith(("stall", "first"))
                    whose = "hasty/" if is_silent else ""
                    name = f"{whose}{model}+text+tokens=40+{fault}"
                    found.append((dialect, name, tolerant(dialect, model, fault), stream))
    return found


# --- what came over the wire ---------------------------------------------------------------------


def events(text: str) -> list[dict[str, Any]]:
    """The JSON of every event. Raises ValueError for one that is half a JSON text."""
    found = []
    for block in text.replace("\r\n", "\n").split("\n\n"):
        lines = [line[5:].strip() for line in block.split("\n") if line.startswith("data:")]
        data = "\n".join(lines)
        if data and data != "[DONE]":
            found.append(json.loads(data))
    return found


def has_error(dialect: Dialect, found: list[dict[str, Any]]) -> bool:
    match dialect.name:
        case "responses":
            return any(event.get("type") in {"error", "response.failed"} for event in found)
        case "messages":
            return any(event.get("type") == "error" for event in found)
        case _:
            return any("error" in event for event in found)


def ends_regularly(dialect: Dialect, text: str, found: list[dict[str, Any]]) -> bool:
    match dialect.name:
        case "chat":
            return "data: [DONE]" in text and not has_error(dialect, found)
        case "responses":
            return any(event.get("type") == "response.completed" for event in found)
        case "messages":
            return any(event.get("type") == "message_stop" for event in found)
        case _:
            return any(
                candidate.get("finishReason")
                for event in found
                for candidate in event.get("candidates", [])
            )


async def wire(client: httpx.AsyncClient, cell: tuple[Dialect, str, Broken, bool]) -> None:
    dialect, model, broken, stream = cell
    path, body = dialect.ask(model, stream=stream)
    answer = await client.post(path.replace("+", "%2B"), json=body)
    expected = (broken.stream or status(200)) if stream else broken.whole
    late = stream and broken.stream is None
    if answer.status_code != 200:
        allowed = expected | status(*BEFORE_THE_FIRST_BYTE) if late else expected
        assert answer.status_code in allowed, (answer.status_code, answer.text[:200])
        assert answer.headers["content-type"] == "application/json"
        dialect.check_error(answer.json(), answer.status_code)
        if broken.retry_after:
            assert answer.headers["retry-after"] == broken.retry_after
        return
    assert 200 in expected, ("200 for a broken answer", answer.text[-300:])
    if not stream:
        assert not answer.json().get("error")
        return
    assert answer.headers["content-type"].startswith("text/event-stream")
    answer.content.decode("utf-8")
    try:
        found = events(answer.text)
    except ValueError as error:
        raise AssertionError(f"an event that is no JSON: {error}; {answer.text[-300:]}") from None
    if broken.is_complete and ends_regularly(dialect, answer.text, found):
        return
    assert has_error(dialect, found), ("no error event", answer.text[-300:])
    assert not ends_regularly(dialect, answer.text, found), answer.text[-300:]


# --- what the official SDKs make of it -----------------------------------------------------------

OPENAI_CLASSES: dict[int, type[Exception]] = {
    400: openai.BadRequestError,
    401: openai.AuthenticationError,
    403: openai.PermissionDeniedError,
    404: openai.NotFoundError,
    429: openai.RateLimitError,
}
ANTHROPIC_CLASSES: dict[int, type[Exception]] = {
    400: anthropic.BadRequestError,
    404: anthropic.NotFoundError,
    429: anthropic.RateLimitError,
}


@dataclass
class SDKs:
    openai: openai.AsyncOpenAI
    anthropic: anthropic.AsyncAnthropic
    google: Any

    @classmethod
    def of(cls, arena: Arena) -> SDKs:
        # With a transport of its own it speaks through httpx: its other way, a subclass of
        # aiohttp's session, warns on every call.
        options = google.genai.types.HttpOptions(
            base_url=arena.url,
            api_version="v1beta",
            async_client_args={"transport": httpx.AsyncHTTPTransport()},
        )
        return cls(
            openai.AsyncOpenAI(
                base_url=f"{arena.url}/v1", api_key=arena.key, max_retries=0, timeout=LONG_SECONDS
            ),
            anthropic.AsyncAnthropic(
                base_url=arena.url, api_key=arena.key, max_retries=0, timeout=LONG_SECONDS
            ),
            google.genai.Client(api_key=arena.key, http_options=options).aio,
        )

    async def close(self) -> None:
        await self.openai.close()
        await self.anthropic.close()
        await self.google.aclose()

    async def ask(self, dialect: Dialect, model: str, stream: bool) -> None:
        """Reads the whole answer; raises what the SDK raises."""
        _, body = dialect.ask(model, stream=stream)
        match dialect.name:
            case "chat":
                answer: Any = await self.openai.chat.completions.create(**body)
            case "responses":
                answer = await self.openai.responses.create(**body)
            case "messages":
                answer = await self.anthropic.messages.create(**body)
            case _:
                call = self.google.models.generate_content
                if stream:
                    call = self.google.models.generate_content_stream
                answer = await call(model=model.replace("+", "%2B"), contents="Hello")
        if not stream:
            return
        async for event in answer:
            if getattr(event, "type", "") in {"error", "response.failed"}:
                raise openai.APIError("inside the stream", None, body=None)  # type: ignore[arg-type]


async def sdk(sdks: SDKs, cell: tuple[Dialect, str, Broken, bool]) -> None:
    dialect, model, broken, stream = cell
    expected = (broken.stream or status(*BEFORE_THE_FIRST_BYTE)) if stream else broken.whole
    try:
        await sdks.ask(dialect, model, stream)
    except (openai.APIError, anthropic.APIError, google.genai.errors.APIError) as error:
        raised: Exception | None = error
    else:
        raised = None
    match raised:
        case None:
            assert broken.is_complete or (not stream and 200 in broken.whole), "no exception"
        case openai.APIStatusError() | anthropic.APIStatusError():
            if stream and broken.stream is None and raised.status_code == 200:
                return  # an error event of Anthropic's dialect, which its SDK calls a 200
            assert raised.status_code in expected, repr(raised)
            of_openai = isinstance(raised, openai.APIStatusError)
            classes = OPENAI_CLASSES if of_openai else ANTHROPIC_CLASSES
            fallback = openai.InternalServerError if of_openai else anthropic.APIStatusError
            assert isinstance(raised, classes.get(raised.status_code, fallback)), repr(raised)
            if broken.retry_after:
                assert raised.response.headers["retry-after"] == broken.retry_after
        case google.genai.errors.APIError():
            assert raised.code in expected | status(500, 502, 504), repr(raised)
            errors = google.genai.errors
            kind = errors.ClientError if raised.code < 500 else errors.ServerError
            assert isinstance(raised, kind), repr(raised)
        case _:
            # An error event of OpenAI's dialects: an APIError without a status.
            assert stream, repr(raised)
            assert not isinstance(raised, openai.APIConnectionError), repr(raised)
            assert not isinstance(raised, anthropic.APIConnectionError), repr(raised)


# --- the matrix ----------------------------------------------------------------------------------


async def at_once(jobs: dict[str, Coroutine[Any, Any, None]]) -> dict[str, str]:
    """Name -> what was wrong, of those that failed."""
    gate = asyncio.Semaphore(AT_ONCE)
    wrong: dict[str, str] = {}

    async def run(name: str, job: Coroutine[Any, Any, None]) -> None:
        async with gate:
            try:
                await job
            except Exception as error:  # noqa: BLE001  (whatever a cell raises is its failure)
                wrong[name] = f"{type(error).__name__}: {error}"[:500]

    await asyncio.gather(*(run(name, job) for name, job in jobs.items()))
    return wrong


def named(cell: tuple[Dialect, str, Broken, bool]) -> str:
    dialect, model, _, stream = cell
    return f"{dialect.name} {'stream' if stream else 'whole'} {model}"


def is_own(cell: tuple[Dialect, str, Broken, bool]) -> bool:
    """Whose bytes an SDK sees as the vendor sent them. Of others it sees ours, and the test on
    the wire has read those."""
    return cell[1].rpartition("/")[2].partition("+")[0] == cell[0].own_model


def report(wrong: dict[str, str]) -> str:
    faults = Counter(name.rpartition("+")[2] for name in wrong)
    lines = [f"{len(wrong)} cells: {dict(faults)}"]
    return "\n".join([*lines, *(f"{name}: {text}" for name, text in sorted(wrong.items()))])


def log_is_clean(caplog: pytest.LogCaptureFixture, *, without: str = "") -> None:
    """Nothing uncaught. `without` a logger to which the client library in front writes, too."""
    for record in caplog.records:
        assert "bug in the proxy" not in record.getMessage(), record.getMessage()
        assert not record.exc_info or record.name == without, caplog.text[-2000:]


def test_every_fault_in_every_dialect_on_the_wire(
    arena: Arena, caplog: pytest.LogCaptureFixture, wait_until: Callable[..., Any]
) -> None:
    """Bar R9, every cell: a well-formed error, nothing uncaught, nothing still reserved."""

    async def run() -> dict[str, str]:
        # Before the server lets an idle connection go: the next request must not meet its end.
        limits = httpx.Limits(max_connections=AT_ONCE, keepalive_expiry=2)
        async with httpx.AsyncClient(
            base_url=arena.url, headers=arena.bearer(), timeout=LONG_SECONDS, limits=limits
        ) as client:
            return await at_once({named(cell): wire(client, cell) for cell in cells(arena.lane)})

    wrong = asyncio.run(run())
    assert not wrong, report(wrong)
    log_is_clean(caplog)
    # What was reserved is free again, in the ledger and in what this process counts.
    state = arena.state or loop.pipeline_loop().state
    wait_until(lambda: not state.gate.running, seconds=60, what="nothing is under way")
    assert state.routing.loads.running_in_all() == 0
    wait_until(lambda: not held(arena), seconds=60, what="every hold is settled")


def held(arena: Arena) -> int:
    with scope.tenant(arena.tenant.id):
        return Hold.objects.count()


def test_every_fault_as_the_official_sdks_understand_it(
    arena: Arena, caplog: pytest.LogCaptureFixture
) -> None:
    async def run() -> dict[str, str]:
        sdks = SDKs.of(arena)
        try:
            asked = [cell for cell in cells(arena.lane) if is_own(cell)]
            return await at_once({named(cell): sdk(sdks, cell) for cell in asked})
        finally:
            await sdks.close()

    wrong = asyncio.run(run())
    assert not wrong, report(wrong)
    log_is_clean(caplog, without="asyncio")


def test_a_vendor_is_asked_once_for_what_another_cannot_mend(arena: Arena) -> None:
    """Bar R10's beginning: attempts do not multiply where there is one target."""
    with httpx.Client(base_url=arena.url, headers=arena.bearer()) as client:
        for fault in ("status=429", "status=500", "drop", "cut=3", "badjson", "status=400"):
            for stream in (False, True):
                arena.world.reset()
                path, body = BY_NAME["chat"].ask(f"sim-gpt+{fault}", stream=stream)
                client.post(path, json=body)
                assert len(arena.world.requests) == 1, (fault, stream)
