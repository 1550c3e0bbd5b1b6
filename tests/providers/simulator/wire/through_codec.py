"""Our own upstream codecs as the client: request out, real HTTP, events back."""

from __future__ import annotations

import json
from typing import Any

import httpx

from providers.protocols.canonical import (
    ArgumentsDelta,
    BlockStart,
    Event,
    Failed,
    Finish,
    Message,
    ModelSpec,
    Request,
    Text,
    TextDelta,
    ThinkingDelta,
    Tool,
    ToolCall,
)
from providers.protocols.codec import UpstreamCodec
from providers.protocols.quirks import Quirks
from tests.providers.simulator.wire.said import TIME, WEATHER, Said

TOOLS = (
    Tool(name="get_weather", description="The weather.", schema=WEATHER),
    Tool(name="get_time", description="The time.", schema=TIME),
)


def spec(codec: UpstreamCodec, name: str, **facts: Any) -> ModelSpec:
    return ModelSpec(id=name, protocol=codec.slug, reasoning=True, **{"quirks": Quirks(), **facts})


def hello(*messages: Message, **fields: Any) -> Request:
    said = messages or (Message(role="user", parts=(Text(text="hello"),)),)
    return Request(model="any", dialect="openai-completions", messages=said, **fields)


def play(url: str, codec: UpstreamCodec, request: Request, model: ModelSpec) -> list[Event]:
    """The events of one answer; an error answer is an assertion error with its text."""
    call = codec.encode_request(request, model, request_id="test-request")
    answer = httpx.post(
        url + call.path,
        params=call.query,
        json=call.body,
        headers={"authorization": "Bearer test", **call.headers},
    )
    assert answer.status_code == 200, answer.text
    if not call.stream:
        return codec.decode_answer(answer.content, call.restore, model)
    assert answer.headers["content-type"].split(";")[0] == codec.stream_media_type
    decoder = codec.stream_decoder(call.restore, model)
    content = answer.content
    events: list[Event] = []
    # Cut in the middle of everything.
    for start in range(0, len(content), 97):
        events += decoder.feed(content[start : start + 97])
    return events + decoder.close()


def heard(events: list[Event]) -> Said:
    text = thoughts = reason = ""
    names: dict[int, str] = {}
    arguments: dict[int, str] = {}
    for event in events:
        match event:
            case TextDelta():
                text += event.text
            case ThinkingDelta():
                thoughts += event.text
            case BlockStart(block=ToolCall() as call):
                names[event.index] = call.name
                arguments[event.index] = ""
            case ArgumentsDelta():
                arguments[event.index] += event.fragment
            case Finish():
                reason = event.reason
            case Failed():
                raise AssertionError(event.fault)
            case _:
                pass
    calls = tuple((name, _parsed(arguments[index])) for index, name in names.items())
    return Said(text, thoughts, calls, reason)


def _parsed(text: str) -> Any:
    """None for what is no JSON."""
    try:
        return json.loads(text) if text else {}
    except ValueError:
        return None
