"""Small builders and the official SDK as a judge, for every OpenAI protocol's tests."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import httpx2
import msgspec
import openai
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.chat.completion_create_params import CompletionCreateParams
from openai.types.responses import Response, ResponseStreamEvent
from openai.types.responses.response_create_params import ResponseCreateParams
from pydantic import TypeAdapter

from controlplane.kit.json import JSONDict, dumps
from providers.protocols.canonical import (
    ArgumentsDelta,
    BlockEnd,
    BlockStart,
    End,
    Event,
    Failed,
    Finish,
    ModelSpec,
    Refusal,
    Request,
    SignatureDelta,
    Start,
    Text,
    TextDelta,
    Thinking,
    ThinkingDelta,
    ToolCall,
    Usage,
    UsageUpdate,
)
from providers.protocols.codec import ClientCall, Reply
from providers.protocols.losses import Loss
from providers.protocols.quirks import Quirks

_CHAT_PARAMS: TypeAdapter[Any] = TypeAdapter(CompletionCreateParams)
_RESPONSES_PARAMS: TypeAdapter[Any] = TypeAdapter(ResponseCreateParams)
_RESPONSES_EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
CALL = ClientCall()


def spec(
    protocol: str = "openai-completions", quirks: dict[str, Any] | None = None, **fields: Any
) -> ModelSpec:
    return ModelSpec(
        id=fields.pop("id", "upstream-model"),
        protocol=protocol,
        quirks=Quirks(**(quirks or {})),
        **fields,
    )


def reply(request: Request | None = None, **fields: Any) -> Reply:
    return Reply(
        request=request or Request(model="asked", dialect="openai-completions", **fields),
        id="r1",
        created=1_700_000_000,
    )


def paths(losses: Iterable[Loss]) -> set[str]:
    return {loss.path for loss in losses}


def exhaust(value: Any) -> Any:
    """The SDK types arrays as iterables; pydantic checks those only when they are read."""
    if isinstance(value, dict):
        return {key: exhaust(item) for key, item in value.items()}
    if isinstance(value, str | bytes | int | float | None):
        return value
    return [exhaust(item) for item in value]


def check_chat_params(body: JSONDict) -> None:
    """Raises when the SDK's own types do not allow this request body."""
    exhaust(_CHAT_PARAMS.validate_python(body))


def check_responses_params(body: JSONDict) -> None:
    exhaust(_RESPONSES_PARAMS.validate_python(body))


def check_completion(body: JSONDict) -> ChatCompletion:
    return ChatCompletion.model_validate(msgspec.json.decode(dumps(body)))


def check_response(body: JSONDict) -> Response:
    return Response.model_validate(msgspec.json.decode(dumps(body)))


def datas(stream: bytes) -> list[Any]:
    """The JSON of every event of a stream we wrote; `[DONE]` as text."""
    found: list[Any] = []
    for event in stream.decode().split("\n\n"):
        for line in event.splitlines():
            if line.startswith("data: "):
                text = line.removeprefix("data: ")
                found.append(text if text == "[DONE]" else msgspec.json.decode(text))
    return found


def _client(stream: bytes) -> openai.OpenAI:
    def answer(request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, content=stream, headers={"content-type": "text/event-stream"})

    return openai.OpenAI(
        api_key="none",
        base_url="http://gateway.test/v1",
        max_retries=0,
        http_client=httpx2.Client(transport=httpx2.MockTransport(answer)),
    )


def sdk_chunks(stream: bytes) -> list[ChatCompletionChunk]:
    """The chunks as the SDK's stream parser reads them, strictly typed."""
    with _client(stream) as client:
        chunks = list(client.chat.completions.create(model="m", messages=[], stream=True))
    return [ChatCompletionChunk.model_validate(chunk.to_dict()) for chunk in chunks]


def sdk_completion(stream: bytes) -> ChatCompletion:
    """What the SDK's own accumulator makes of the stream."""
    with (
        _client(stream) as client,
        client.chat.completions.stream(model="m", messages=[]) as events,
    ):
        for _ in events:
            pass
        return events.get_final_completion()


def sdk_events(stream: bytes) -> list[Any]:
    with _client(stream) as client:
        events = list(client.responses.create(model="m", input="", stream=True))
    for event in events:
        _RESPONSES_EVENT.validate_python(event.to_dict())
    return events


def sdk_response(stream: bytes) -> Response:
    with _client(stream) as client, client.responses.stream(model="m", input="") as events:
        for _ in events:
            pass
        return events.get_final_response()


def sse(*chunks: Any, done: bool = True) -> bytes:
    """A vendor's stream of unnamed events."""
    out = b"".join(
        b"data: " + (chunk if isinstance(chunk, bytes) else dumps(chunk)) + b"\n\n"
        for chunk in chunks
    )
    return out + (b"data: [DONE]\n\n" if done else b"")


def chunk(delta: JSONDict | None = None, finish: str | None = None, **fields: Any) -> JSONDict:
    index = fields.pop("index", 0)
    choice = {"index": index, "delta": delta or {}, "finish_reason": finish}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 17,
        "model": "vendor-model",
        "choices": [choice],
        **fields,
    }


def named(*events: JSONDict) -> bytes:
    """A vendor's stream of named events, numbered."""
    return b"".join(
        b"event: "
        + event["type"].encode()
        + b"\ndata: "
        + dumps({"sequence_number": number, **event})
        + b"\n\n"
        for number, event in enumerate(events)
    )


def texts(events: Iterable[Event], choice: int = 0) -> str:
    return "".join(e.text for e in events if isinstance(e, TextDelta) and e.choice == choice)


def thoughts(events: Iterable[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, ThinkingDelta))


def of(kind: type, events: Iterable[Event]) -> list[Any]:
    return [event for event in events if isinstance(event, kind)]


def calls(events: Iterable[Event]) -> list[tuple[str, str, str]]:
    """(id, name, arguments) of every tool call, in order of their beginnings."""
    found: dict[int, list[str]] = {}
    for event in events:
        if isinstance(event, BlockStart) and isinstance(event.block, ToolCall):
            found[event.index] = [event.block.id, event.block.name, ""]
        elif isinstance(event, ArgumentsDelta):
            found[event.index][2] += event.fragment
    return [(id_, name, arguments) for id_, name, arguments in found.values()]


_TAKES: dict[type, tuple[type, ...]] = {
    TextDelta: (Text, Refusal),
    ThinkingDelta: (Thinking,),
    ArgumentsDelta: (ToolCall,),
    SignatureDelta: (Text, Thinking, ToolCall),
}


def check_grammar(events: list[Event]) -> None:
    """The invariants of 13.2: blocks begin once, take deltas while open, end before Finish; one
    Finish per choice; the last event is End or Failed."""
    assert events
    assert isinstance(events[-1], End | Failed)
    opened: set[int] = set()
    open_blocks: dict[int, int] = {}
    kinds: dict[int, type] = {}
    finished: set[int] = set()
    for position, event in enumerate(events):
        is_last = position == len(events) - 1
        if isinstance(event, End | Failed):
            assert is_last
        elif isinstance(event, Start):
            assert position == 0
        elif isinstance(event, BlockStart):
            assert event.index not in opened
            assert event.choice not in finished
            opened.add(event.index)
            open_blocks[event.index] = event.choice
            kinds[event.index] = type(event.block)
        elif isinstance(event, BlockEnd):
            del open_blocks[event.index]
        elif isinstance(event, TextDelta | ThinkingDelta | ArgumentsDelta | SignatureDelta):
            assert event.index in open_blocks
            assert kinds[event.index] in _TAKES[type(event)]
        elif isinstance(event, Finish):
            assert event.choice not in finished
            assert event.choice not in open_blocks.values()
            finished.add(event.choice)
    assert not open_blocks
    assert finished or isinstance(events[-1], Failed)


# --- an answer of every kind of block, as any decoder would yield it ------------------------------

THOUGHT_AND_CALL: tuple[Event, ...] = (
    Start("up-1", "vendor-model", 17),
    BlockStart(0, Thinking()),
    ThinkingDelta(0, "Let me "),
    ThinkingDelta(0, "see."),
    BlockEnd(0),
    BlockStart(1, Text(text="")),
    TextDelta(1, "Calling "),
    TextDelta(1, "Zürich 🚀."),
    BlockEnd(1),
    BlockStart(2, ToolCall(id="call_a", name="weather", arguments="")),
    ArgumentsDelta(2, '{"city":'),
    BlockStart(3, ToolCall(id="call_b", name="clock", arguments="")),
    ArgumentsDelta(2, '"Bern"}'),
    BlockEnd(2),
    BlockEnd(3),
    Finish("tool_use", "tool_calls"),
    UsageUpdate(Usage(input=7, cache_read=3, cache_write=2, output=9, reasoning=4)),
    End(),
)


def encode(encoder: Any, events: Iterable[Event]) -> bytes:
    return b"".join(encoder.feed(event) for event in events)
