"""CPU time of the codecs, per operation: `make bench-codecs`.

Every figure is the median of several runs of process CPU time, so that a busy machine does not
count; `--record` writes the table into docs/performance.md. Targets are those of issue 3.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from controlplane.kit import json  # noqa: E402  (the path comes first)
from providers.protocols import registry  # noqa: E402
from providers.protocols.canonical import (  # noqa: E402
    ArgumentsDelta,
    BlockEnd,
    BlockStart,
    End,
    Event,
    Finish,
    Message,
    ModelSpec,
    Request,
    Sampling,
    Start,
    SystemText,
    Text,
    TextDelta,
    Tool,
    ToolCall,
    ToolResult,
    Usage,
    UsageUpdate,
)
from providers.protocols.codec import ClientCall, Reply, Restore  # noqa: E402
from providers.protocols.google_generative_ai.relay import ArrayMeter  # noqa: E402
from providers.protocols.quirks import Quirks  # noqa: E402

PAGE: Final = ROOT / "docs" / "performance.md"
BEGIN: Final = "<!-- codecs: begin -->"
FINISH: Final = "<!-- codecs: end -->"

RELAY_TARGET: Final = 2.0
CHUNK_TARGET: Final = 15.0
SMALL_TARGET: Final = 60.0
AGENT_TARGET: Final = 1200.0
# The last thousand of 10,000 chunks against the first thousand.
FLAT_TARGET: Final = 1.5

DIALECTS: Final = (
    "openai-completions",
    "openai-responses",
    "anthropic-messages",
    "google-generative-ai",
)
SHORT: Final = {
    "openai-completions": "Chat",
    "openai-responses": "Responses",
    "anthropic-messages": "Messages",
    "google-generative-ai": "Gemini",
}
_RESPONSES: Final = ("azure-openai-responses", "openai-codex-responses")
_ENDPOINTS: Final[dict[str, dict[str, str]]] = {
    "google-vertex": {"project": "p", "location": "us-central1"},
    "google-gemini-cli": {"project": "p"},
}
_QUIRKS: Final = {
    "google-gemini-cli": Quirks(schema_dialect="openapi"),
    "bedrock-converse-stream": Quirks(is_claude=True, supports_cache_points=True),
}


def model(slug: str) -> ModelSpec:
    return ModelSpec(
        id="claude-x" if slug == "bedrock-converse-stream" else "model-x",
        protocol=slug,
        reasoning=True,
        max_output_tokens=32_000,
        endpoint=_ENDPOINTS.get(slug, {}),
        quirks=_QUIRKS.get(slug, Quirks()),
    )


# --- measuring -------------------------------------------------------------------------------


@dataclass(slots=True)
class Clock:
    """`seconds` is how long one figure may take; short ones are for tests."""

    seconds: float = 0.5
    runs: int = 7

    def micros(self, operation: Callable[[], object]) -> float:
        """Median CPU time of one call, in microseconds."""
        operation()
        started = time.process_time()
        count = 0
        while time.process_time() - started < self.seconds / self.runs / 4:
            operation()
            count += 1
        count = max(1, count * 2)
        found = []
        for _ in range(self.runs):
            before = time.process_time()
            for _ in range(count):
                operation()
            found.append((time.process_time() - before) / count * 1e6)
        return statistics.median(found)


# --- what is measured ------------------------------------------------------------------------


def stream_events(count: int) -> Iterator[Event]:
    """An answer of `count` small deltas, a tenth of them a call's arguments."""
    yield Start("id", "model-x", 1_700_000_000)
    yield BlockStart(0, Text(text=""))
    text = count - count // 10
    for number in range(text):
        yield TextDelta(0, f" word{number % 97}")
    yield BlockEnd(0)
    yield BlockStart(1, ToolCall(id="call_1", name="get_weather", arguments=""))
    yield ArgumentsDelta(1, '{"a":[0')
    for number in range(count // 10):
        yield ArgumentsDelta(1, f",{number}")
    yield ArgumentsDelta(1, "]}")
    yield BlockEnd(1)
    yield Finish("tool_use")
    yield UsageUpdate(Usage(input=100, output=count))
    yield End()


def wire_pieces(slug: str, count: int) -> list[bytes]:
    """The answer on a vendor's wire, one piece per event, as the simulation plays it."""
    from providers.simulator.asked import Ask
    from providers.simulator.wire import bedrock, code_assist, gemini, kiro, mistral, vertex

    events = list(stream_events(count))
    ask = Ask(model="sim-model", protocol=slug, id="bench", created=1)
    own: dict[str, Any] = {
        "bedrock-converse-stream": bedrock.WIRES[0],
        "google-gemini-cli": code_assist.WIRES[0],
        "google-generative-ai": gemini.WIRES[0],
        "google-vertex": vertex.WIRES[0],
        "kiro-generate-assistant": kiro.WIRES[0],
        "mistral-conversations": mistral.WIRES[0],
    }
    if slug in own:
        body: dict[str, Any] = {"conversationState": {"conversationId": "c"}, "request": {}}
        return list(own[slug].stream(ask, body, events))
    dialect = "openai-responses" if slug in _RESPONSES else slug
    encoder = registry.client(dialect).stream_encoder(reply(dialect))
    return [piece for event in events if (piece := encoder.feed(event))]


def array_pieces(count: int) -> list[bytes]:
    """A Gemini answer as the array that it is without `alt=sse`, one piece per element."""
    events = [piece.removeprefix(b"data: ") for piece in wire_pieces("google-generative-ai", count)]
    first, *others = (event.strip() for event in events)
    return [b"[" + first, *(b",\r\n" + other for other in others), b"]"]


def reply(dialect: str) -> Reply:
    request = Request(model="m", dialect=dialect, stream=True, include_usage=True)
    return Reply(request=request, id="bench", created=1_700_000_000)


def small_request() -> Request:
    """About a kilobyte: a system prompt, three turns, one tool."""
    return Request(
        model="m",
        dialect="",
        system=(SystemText(text="You are a helpful assistant. " * 4),),
        messages=(
            Message(role="user", parts=(Text(text="What is the weather in Bern? " * 4),)),
            Message(role="assistant", parts=(Text(text="It is cold. " * 8),)),
            Message(role="user", parts=(Text(text="And tomorrow?"),)),
        ),
        tools=(_weather(),),
        sampling=Sampling(max_output_tokens=1024, temperature=0.5),
        stream=True,
        include_usage=True,
    )


def agent_request() -> Request:
    """About 60 KB: 40 messages with calls and results, 20 tools."""
    turns: list[Message] = []
    for number in range(10):
        call = ToolCall(
            id=f"call_{number}",
            name=f"tool_{number}",
            arguments=json.dumps_str({"path": f"src/module_{number}.py", "limit": 200}),
        )
        result = ToolResult(
            call_id=call.id,
            name=call.name,
            content=(Text(text="def function(value: int) -> int: return value + 1\n" * 60),),
        )
        turns += [
            Message(role="user", parts=(Text(text=f"Do step {number}. " * 30),)),
            Message(role="assistant", parts=(Text(text="I will look. " * 20), call)),
            Message(role="tool", parts=(result,)),
            Message(role="assistant", parts=(Text(text="It is done. " * 40),)),
        ]
    turns.append(Message(role="user", parts=(Text(text="Go on."),)))
    return Request(
        model="m",
        dialect="",
        system=(SystemText(text="You are a coding agent. " * 200),),
        messages=tuple(turns),
        tools=tuple(_tool(f"tool_{number}") for number in range(20)),
        sampling=Sampling(max_output_tokens=8192),
        stream=True,
        include_usage=True,
    )


def _weather() -> Tool:
    return Tool(
        name="get_weather",
        description="Looks up the weather of a town.",
        schema={
            "type": "object",
            "properties": {
                "city": {"type": "string", "description": "A town"},
                "unit": {"type": "string", "enum": ["C", "F"]},
            },
            "required": ["city"],
        },
    )


def _tool(name: str) -> Tool:
    return Tool(
        name=name,
        description="Reads a file of the project and returns its lines, numbered. " * 4,
        schema={
            "type": "object",
            "properties": {
                "path": {"type": "string", "description": "Where the file is"},
                "offset": {"type": "integer", "minimum": 0, "description": "The first line"},
                "limit": {"type": "integer", "minimum": 1, "maximum": 2000},
                "mode": {"type": "string", "enum": ["text", "lines", "raw"]},
                "globs": {"type": "array", "items": {"type": "string"}},
            },
            "required": ["path"],
            "additionalProperties": False,
        },
    )


def bodies(request: Request) -> dict[str, tuple[bytes, ClientCall]]:
    """The same request in each dialect, as our encoders write it for that vendor."""
    import msgspec

    out: dict[str, tuple[bytes, ClientCall]] = {}
    for dialect in DIALECTS:
        said = msgspec.structs.replace(request, dialect=dialect)
        call = registry.upstream(dialect).encode_request(said, model(dialect), request_id="r")
        body = {key: value for key, value in call.body.items() if key != "model"} | {"model": "m"}
        if dialect == "google-generative-ai":
            del body["model"]
        out[dialect] = (json.dumps(body), ClientCall(model="m", stream=True))
    return out


# --- the figures -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Figure:
    what: str
    micros: float
    target: float
    unit: str = "µs"

    @property
    def verdict(self) -> str:
        if self.micros <= self.target:
            return "met"
        return f"missed by {(self.micros / self.target - 1) * 100:.0f} %"

    def row(self) -> str:
        return (
            f"| {self.what} | {self.micros:.1f} {self.unit} "
            f"| {self.target:g} {self.unit} | {self.verdict} |"
        )


def relayed(clock: Clock) -> Iterator[Figure]:
    """One relayed chunk: what the meter costs beside passing the bytes on."""
    for dialect in DIALECTS:
        pieces = wire_pieces(dialect, 1000)

        def run(dialect: str = dialect, pieces: list[bytes] = pieces) -> None:
            meter = registry.relay(dialect).stream_meter(model(dialect))
            for piece in pieces:
                meter.feed(piece)
            meter.close()

        micros = clock.micros(run) / len(pieces)
        yield Figure(f"relay a chunk, {SHORT[dialect]}", micros, RELAY_TARGET)
    elements = array_pieces(1000)

    def run_array() -> None:
        meter = ArrayMeter()
        for piece in elements:
            meter.feed(piece)
        meter.close()

    micros = clock.micros(run_array) / len(elements)
    yield Figure("relay a chunk, Gemini without `alt=sse`", micros, RELAY_TARGET)


def translated(clock: Clock) -> Iterator[tuple[str, str, float]]:
    """One chunk from a vendor's wire to a client's, decoded and encoded."""
    for slug in registry.slugs():
        pieces = wire_pieces(slug, 500)
        codec, spec = registry.upstream(slug), model(slug)
        for dialect in DIALECTS:
            client = registry.client(dialect)

            def run(
                codec: Any = codec,
                spec: ModelSpec = spec,
                client: Any = client,
                pieces: list[bytes] = pieces,
                dialect: str = dialect,
            ) -> None:
                decoder = codec.stream_decoder(Restore(), spec)
                encoder = client.stream_encoder(reply(dialect))
                for piece in pieces:
                    for event in decoder.feed(piece):
                        encoder.feed(event)
                for event in decoder.close():
                    encoder.feed(event)

            yield slug, dialect, clock.micros(run) / len(pieces)


def asked(clock: Clock, request: Request) -> Iterator[tuple[str, str, float]]:
    """A client's request, from its bytes to the vendor's: JSON in and out is part of it."""
    for dialect, (raw, call) in bodies(request).items():
        client = registry.client(dialect)
        for slug in registry.slugs():
            codec, spec = registry.upstream(slug), model(slug)

            def run(
                raw: bytes = raw,
                call: ClientCall = call,
                client: Any = client,
                codec: Any = codec,
                spec: ModelSpec = spec,
            ) -> None:
                asked = client.decode_request(json.loads_dict(raw), call)
                json.dumps(codec.encode_request(asked, spec, request_id="r").body)

            yield slug, dialect, clock.micros(run)


def flatness(clock: Clock) -> Iterator[Figure]:
    """The last thousand of 10,000 chunks against the first: no work may grow with the answer."""
    for slug in registry.slugs():
        pieces = wire_pieces(slug, 10_000)
        dialect = "anthropic-messages" if slug.startswith("openai") else "openai-completions"
        ratios = []
        for _ in range(max(3, clock.runs // 2)):
            decoder = registry.upstream(slug).stream_decoder(Restore(), model(slug))
            encoder = registry.client(dialect).stream_encoder(reply(dialect))
            spent = []
            # Only text: a call's arguments may be held until they are whole.
            for start in (500, 7500):
                for piece in pieces[(0 if start == 500 else 1500) : start]:
                    for event in decoder.feed(piece):
                        encoder.feed(event)
                before = time.process_time()
                for piece in pieces[start : start + 1000]:
                    for event in decoder.feed(piece):
                        encoder.feed(event)
                spent.append(time.process_time() - before)
            ratios.append(spent[1] / spent[0])
        yield Figure(
            f"chunks 7,500 to 8,500 against 500 to 1,500, {slug}",
            statistics.median(ratios),
            FLAT_TARGET,
            "×",
        )


def matrix(title: str, target: float, cells: list[tuple[str, str, float]]) -> list[str]:
    """Upstreams down, clients across; a figure over the target stands bold."""
    table = {(slug, dialect): micros for slug, dialect, micros in cells}
    slugs = list(dict.fromkeys(slug for slug, _, _ in cells))
    lines = [
        f"{title}; target {target:g} µs, larger figures are bold.",
        "",
        "| Upstream | " + " | ".join(SHORT[d] for d in DIALECTS) + " |",
        "|---" * (len(DIALECTS) + 1) + "|",
    ]
    for slug in slugs:
        row = []
        for dialect in DIALECTS:
            micros = table[slug, dialect]
            row.append(f"**{micros:.1f}**" if micros > target else f"{micros:.1f}")
        lines.append(f"| `{slug}` | " + " | ".join(row) + " |")
    missed = [cell for cell in cells if cell[2] > target]
    met = f"{len(cells) - len(missed)} of {len(cells)} pairs meet it."
    return [*lines, "", met, ""]


def report(clock: Clock) -> str:
    small, agent = small_request(), agent_request()
    kilobytes = [max(len(raw) for raw, _ in bodies(one).values()) / 1000 for one in (small, agent)]
    today = datetime.now(UTC).date().isoformat()
    lines = [
        f"Measured on {today} with Python {platform.python_version()} on shared cores: median CPU "
        f"time of {clock.runs} runs.",
        "",
        "| Operation | Measured | Target | Verdict |",
        "|---|---|---|---|",
        *[figure.row() for figure in relayed(clock)],
        *[figure.row() for figure in flatness(clock)],
        "",
    ]
    lines += matrix(
        "A chunk, decoded and encoded for a client of", CHUNK_TARGET, list(translated(clock))
    )
    lines += matrix(
        f"A request of {kilobytes[0]:.1f} KB, decoded and encoded, from a client of",
        SMALL_TARGET,
        list(asked(clock, small)),
    )
    lines += matrix(
        f"An agent's request of {kilobytes[1]:.0f} KB (41 messages, 20 tools), decoded and "
        "encoded, from a client of",
        AGENT_TARGET,
        list(asked(clock, agent)),
    )
    return "\n".join(lines).rstrip()


def recorded(page: str, text: str) -> str:
    """The page with the figures between its two marks."""
    before, mark, rest = page.partition(BEGIN)
    _, end, after = rest.partition(FINISH)
    if not mark or not end:
        raise SystemExit(f"{PAGE.name} has no marks {BEGIN} and {FINISH}")
    return f"{before}{BEGIN}\n{text}\n{FINISH}{after}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--record", action="store_true", help="write docs/performance.md")
    parser.add_argument("--seconds", type=float, default=0.5, help="CPU time per figure")
    options = parser.parse_args()
    text = report(Clock(seconds=options.seconds))
    print(text)
    if options.record:
        PAGE.write_text(recorded(PAGE.read_text(), text))
        print(f"\nrecorded in {PAGE.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
