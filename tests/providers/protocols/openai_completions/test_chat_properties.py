"""What holds for all inputs: round trips, hostile bytes, hostile requests."""

from __future__ import annotations

import contextlib
import random
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from controlplane.kit.json import dumps
from providers.protocols.canonical import (
    Audio,
    Base64,
    CacheMark,
    Caching,
    Document,
    Event,
    FileId,
    Image,
    Message,
    Part,
    Reasoning,
    Refusal,
    Request,
    ResponseFormat,
    Sampling,
    SystemText,
    Text,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
    Url,
)
from providers.protocols.codec import Restore
from providers.protocols.errors import ProtocolError
from providers.protocols.openai_completions import CODEC
from tests.conformance.examples import examples
from tests.providers.protocols.openai_completions.builders import (
    CALL,
    check_grammar,
    chunk,
    spec,
    sse,
)

words = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cs"]), min_size=1, max_size=12
).filter(str.strip)
names = st.from_regex(r"[A-Za-z][A-Za-z0-9_-]{0,20}", fullmatch=True)
texts = st.builds(Text, text=words)
marked = st.builds(Text, text=words, cache=st.none() | st.just(CacheMark()))
images = st.builds(
    Image,
    source=st.builds(Base64, media_type=st.just("image/png"), data=st.just("QUJD"))
    | st.builds(Url, url=st.just("https://x/y.png")),
    detail=st.none() | st.just("high"),
)
documents = st.builds(Document, source=st.builds(FileId, id=names), filename=st.none()) | st.builds(
    Document,
    source=st.builds(Base64, media_type=st.just("application/pdf"), data=st.just("QUJD")),
    filename=names,
)
sounds = st.builds(Audio, source=st.just(Base64(media_type="audio/wav", data="QUJD")))
user_turns = st.builds(
    Message,
    role=st.just("user"),
    parts=st.lists(marked | images | documents | sounds, min_size=1, max_size=3).map(tuple),
    name=st.none() | names,
)


@st.composite
def answered(draw: st.DrawFn) -> list[Message]:
    """An assistant turn in this protocol's order, and the results of its calls."""
    parts: list[Part] = list(draw(st.lists(texts, max_size=1)))
    parts += draw(st.lists(st.builds(Refusal, text=words), max_size=0 if parts else 1))
    ids = draw(st.lists(names, max_size=3, unique=True))
    calls = [
        ToolCall(id=f"{id_}x", name=draw(names), arguments=draw(st.sampled_from(["{}", '{"a":1}'])))
        for id_ in ids
    ]
    if not parts and not calls:
        parts = [Text(text="ok")]
    turns = [Message(role="assistant", parts=(*parts, *calls))]
    if calls:
        results = tuple(
            ToolResult(call_id=call.id, content=(draw(texts),), name=call.name) for call in calls
        )
        turns.append(Message(role="tool", parts=results))
    return turns


conversations = st.lists(st.tuples(user_turns, answered()), max_size=3).map(
    lambda pairs: tuple(turn for question, answer in pairs for turn in (question, *answer))
)
numbers = st.none() | st.floats(0, 1)
samplings = st.builds(
    Sampling,
    max_output_tokens=st.none() | st.integers(1, 9999),
    temperature=numbers,
    top_p=numbers,
    top_k=st.none() | st.integers(1, 9),
    seed=st.none() | st.integers(0, 9),
    stop=st.lists(words, max_size=3).map(tuple),
    presence_penalty=numbers,
    n=st.none() | st.integers(1, 3),
    logprobs=st.none() | st.booleans(),
)
tools = st.lists(
    st.builds(
        Tool,
        name=names,
        description=st.none() | words,
        schema=st.none() | st.just({"type": "object", "properties": {"a": {"type": "string"}}}),
        strict=st.none() | st.booleans(),
        kind=st.just("function"),
    ),
    max_size=3,
    unique_by=lambda tool: tool.name,
).map(tuple)
requests = st.builds(
    Request,
    model=st.just("upstream-model"),
    dialect=st.just("openai-completions"),
    messages=st.tuples(conversations, user_turns).map(lambda pair: (*pair[0], pair[1])),
    system=st.lists(st.builds(SystemText, text=words, origin=st.just("developer")), max_size=2).map(
        tuple
    ),
    tools=tools,
    tool_choice=st.sampled_from(
        [None, ToolChoice(mode="auto"), ToolChoice(mode="named", names=("f",))]
    ),
    sampling=samplings,
    reasoning=st.sampled_from([None, Reasoning(level="low"), Reasoning(level="high")]),
    response_format=st.sampled_from(
        [
            None,
            ResponseFormat(kind="json_object"),
            ResponseFormat(kind="json_schema", name="n", schema={"type": "object"}, strict=True),
        ]
    ),
    verbosity=st.sampled_from([None, "low"]),
    caching=st.builds(Caching, key=st.none() | names),
    store=st.sampled_from([False]),
    metadata=st.dictionaries(names, names, max_size=2),
    end_user_id=st.none() | names,
    service_tier=st.sampled_from([None, "flex"]),
    stream=st.just(True),
    include_usage=st.just(True),
    extra=st.dictionaries(st.just("modalities"), st.just(["text"]), max_size=1),
)
MODEL = spec(
    reasoning=True,
    quirks={
        "supports_strict_tools": True,
        "supports_prompt_cache_key": "enabled",
        "requires_tool_result_name": True,
        "requires_string_assistant_content": False,
        "cache_control_format": "anthropic",
    },
)


@settings(max_examples=examples(50), deadline=None)
@given(requests)
def test_what_can_be_expressed_comes_back_as_it_was(request: Request) -> None:
    """Where marks exceed what the vendor takes, the loss report says so, and only then."""
    call = CODEC.encode_request(request, MODEL, request_id="r")
    body = msgspec.json.decode(dumps(call.body))
    again = CODEC.decode_request(body, CALL)
    if not any(loss.path.endswith(".cache") for loss in call.losses):
        # A wish to cache that has no marks is carried out with marks of ours.
        assert _unmarked(again) == _unmarked(request)
    assert {loss.path for loss in call.losses if not loss.path.endswith(".cache")} == set()


def _unmarked(request: Request) -> Request:
    def clean(part: Any) -> Any:
        if isinstance(part, ToolResult):
            content = tuple(clean(inner) for inner in part.content)
            return msgspec.structs.replace(part, content=content)
        return msgspec.structs.replace(part, cache=None) if hasattr(part, "cache") else part

    has_own = any(
        getattr(part, "cache", None) for message in request.messages for part in message.parts
    )
    if has_own and not request.caching.key:
        return request
    return msgspec.structs.replace(
        request,
        messages=tuple(
            msgspec.structs.replace(message, parts=tuple(clean(part) for part in message.parts))
            for message in request.messages
        ),
        system=tuple(msgspec.structs.replace(block, cache=None) for block in request.system),
    )


STREAM = sse(
    chunk({"role": "assistant", "content": ""}),
    chunk(
        {
            "reasoning": "hm",
            "reasoning_details": [{"type": "reasoning.text", "text": "hm", "index": 0}],
        }
    ),
    chunk({"content": "text 🚀"}),
    chunk(
        {"tool_calls": [{"index": 0, "id": "a", "function": {"name": "f", "arguments": '{"x"'}}]}
    ),
    chunk({"tool_calls": [{"index": 0, "function": {"arguments": ":1}"}}]}),
    chunk({}, "tool_calls"),
    {**chunk(), "choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 5}},
)
_SPICES = (
    b"null",
    b"{}",
    b"[]",
    b"-1",
    b"1e999",
    b'"',
    b"\\ud800",
    b"\xff",
    b"true",
    b":",
    b"\n\n",
)


def test_mutated_streams_give_typed_errors_and_sound_events() -> None:
    source = random.Random(20261121)
    for _ in range(6000):
        data = bytearray(STREAM)
        for _ in range(source.randint(1, 6)):
            position = source.randrange(len(data))
            how = source.random()
            if how < 0.4:
                data[position] = source.randrange(256)
            elif how < 0.7:
                del data[position : position + source.randint(1, 20)]
            else:
                data[position : position + source.randint(0, 9)] = source.choice(_SPICES)
        decoder = CODEC.stream_decoder(Restore(), spec())
        events: list[Event] = []
        try:
            size = source.randint(1, 400)
            for start in range(0, len(data), size):
                events += decoder.feed(bytes(data[start : start + size]))
            events += decoder.close()
        except ProtocolError:
            continue
        check_grammar(events)
        meter = CODEC.stream_meter(spec())
        meter.feed(bytes(data))
        meter.close()


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-5, 5)
    | st.floats(allow_nan=False)
    | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)
fields = st.sampled_from(
    [
        "messages", "tools", "tool_choice", "stop", "reasoning", "reasoning_effort", "n",
        "response_format", "stream_options", "functions", "function_call", "logit_bias", "metadata",
        "user", "store", "temperature", "max_tokens", "prompt_cache_retention", "verbosity",
    ]
)  # fmt: skip
message_fields = st.sampled_from(
    [
        "role",
        "content",
        "tool_calls",
        "reasoning_details",
        "tool_call_id",
        "name",
        "audio",
        "refusal",
    ]
)


@settings(max_examples=examples(133), deadline=None)
@given(
    st.dictionaries(fields, json_values, max_size=4),
    st.lists(st.dictionaries(message_fields, json_values, max_size=4), max_size=3),
    st.sampled_from(["user", "assistant", "tool", "system", "function"]),
)
def test_any_json_is_read_or_refused_with_a_field(
    body: dict[str, Any], messages: list[dict[str, Any]], role: str
) -> None:
    """No crash in reading, and none later in writing what was read."""
    messages = [{"role": role, **message} for message in messages]
    with contextlib.suppress(ProtocolError):
        request = CODEC.decode_request({"model": "m", "messages": messages, **body}, CALL)
        CODEC.encode_request(request, spec(), request_id="r")


@settings(max_examples=examples(66), deadline=None)
@given(st.integers(200, 599), st.binary(max_size=60) | json_values.map(dumps))
def test_any_error_body_becomes_a_fault(status: int, body: bytes) -> None:
    assert CODEC.decode_error(status, {}, body).message


@settings(max_examples=examples(66), deadline=None)
@given(json_values)
def test_any_answer_is_events_or_a_typed_error(value: Any) -> None:
    for body in (value, {"choices": value}, {"choices": [{"message": value}]}, {"error": value}):
        try:
            events = CODEC.decode_answer(dumps(body), Restore(), spec())
        except ProtocolError:
            continue
        check_grammar(events)
