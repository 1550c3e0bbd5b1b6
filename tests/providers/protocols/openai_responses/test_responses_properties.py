"""What holds for all inputs: round trips and hostile requests."""

from __future__ import annotations

import contextlib
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from controlplane.kit.json import dumps
from providers.protocols.canonical import (
    Base64,
    Caching,
    Document,
    FileId,
    Image,
    Message,
    Opaque,
    Part,
    Reasoning,
    Request,
    ResponseFormat,
    Sampling,
    Signature,
    SystemText,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
    Url,
)
from providers.protocols.codec import Restore
from providers.protocols.errors import ProtocolError
from providers.protocols.openai_responses import CODEC
from tests.conformance.examples import examples
from tests.providers.protocols.openai_completions.builders import CALL, check_grammar, spec

words = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cs"]), min_size=1, max_size=12
).filter(str.strip)
names = st.from_regex(r"[A-Za-z][A-Za-z0-9_-]{0,20}", fullmatch=True)
texts = st.builds(Text, text=words)
images = st.builds(
    Image,
    source=st.just(Base64(media_type="image/png", data="QUJD"))
    | st.just(Url(url="https://x/y.png"))
    | st.builds(FileId, id=names),
    detail=st.none() | st.just("high"),
)
documents = st.builds(
    Document, source=st.builds(FileId, id=names) | st.just(Url(url="https://x/a.pdf"))
) | st.builds(
    Document,
    source=st.just(Base64(media_type="application/pdf", data="QUJD")),
    filename=names,
)
user_turns = st.builds(
    Message,
    role=st.just("user"),
    parts=st.lists(texts | images | documents, min_size=1, max_size=3).map(tuple),
)
thinking = st.builds(
    Thinking,
    text=st.just("why"),
    summary=st.just(("why",)),
    signature=st.just(Signature(value="enc", protocol="openai-responses")),
    item_id=st.just("rs_1"),
)
opaque = st.just(Opaque(protocol="openai-responses", value={"type": "web_search_call", "id": "ws"}))


@st.composite
def answered(draw: st.DrawFn) -> list[Message]:
    parts: list[Part] = list(draw(st.lists(thinking, max_size=1)))
    phase = st.sampled_from([None, "commentary", "final_answer"])
    parts += draw(
        st.lists(st.builds(Text, text=words, phase=phase) | opaque, min_size=1, max_size=3)
    )
    ids = draw(st.lists(names, max_size=3, unique=True))
    calls = [
        ToolCall(
            id=f"{id_}x",
            name=draw(names),
            arguments='{"a":1}',
            kind=draw(st.sampled_from(["function", "custom"])),
            namespace=draw(st.none() | names),
        )
        for id_ in ids
    ]
    turns = [Message(role="assistant", parts=(*parts, *calls))]
    if calls:
        results = tuple(
            ToolResult(call_id=call.id, content=(draw(texts | images),), kind=call.kind)
            for call in calls
        )
        turns.append(Message(role="tool", parts=results))
    return turns


conversations = st.lists(st.tuples(user_turns, answered()), max_size=3).map(
    lambda pairs: tuple(turn for question, answer in pairs for turn in (question, *answer))
)
numbers = st.none() | st.floats(0, 1)
requests = st.builds(
    Request,
    model=st.just("upstream-model"),
    dialect=st.just("openai-responses"),
    messages=st.tuples(conversations, user_turns).map(lambda pair: (*pair[0], pair[1])),
    system=st.lists(
        st.builds(SystemText, text=words, origin=st.sampled_from(["system", "developer"])),
        max_size=2,
    ).map(tuple),
    tools=st.lists(
        st.builds(
            Tool,
            name=names,
            description=st.none() | words,
            schema=st.just({"type": "object", "properties": {"a": {"type": "string"}}}),
            strict=st.none() | st.booleans(),
        ),
        max_size=3,
        unique_by=lambda tool: tool.name,
    ).map(tuple),
    tool_choice=st.sampled_from(
        [None, ToolChoice(mode="none"), ToolChoice(mode="named", names=("f",))]
    ),
    sampling=st.builds(
        Sampling,
        max_output_tokens=st.none() | st.integers(16, 9999),
        temperature=numbers,
        top_p=numbers,
        top_logprobs=st.none() | st.integers(0, 5),
        logprobs=st.sampled_from([None, True]),
    ),
    reasoning=st.sampled_from(
        [None, Reasoning(level="high", summary="auto"), Reasoning(level="low")]
    ),
    response_format=st.sampled_from(
        [None, ResponseFormat(kind="json_schema", name="n", schema={"a": 1}, strict=False)]
    ),
    verbosity=st.sampled_from([None, "high"]),
    caching=st.builds(
        Caching, key=st.none() | names, retention=st.sampled_from([None, "short", "long"])
    ),
    store=st.just(False),
    previous_response_id=st.none() | names,
    metadata=st.dictionaries(names, names, max_size=2),
    end_user_id=st.none() | names,
    service_tier=st.sampled_from([None, "flex"]),
    stream=st.booleans(),
    include_usage=st.just(True),
    extra=st.dictionaries(st.just("truncation"), st.just("auto"), max_size=1),
)
MODEL = spec("openai-responses", reasoning=True, quirks={"supports_strict_tools": True})


@settings(max_examples=examples(50), deadline=None)
@given(requests)
def test_what_can_be_expressed_comes_back_as_it_was(request: Request) -> None:
    call = CODEC.encode_request(request, MODEL, request_id="r")
    assert call.losses == ()
    again = CODEC.decode_request(msgspec.json.decode(dumps(call.body)), CALL)
    assert again == request


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)
fields = st.sampled_from(
    [
        "tools", "tool_choice", "text", "reasoning", "include", "conversation", "metadata", "store",
        "instructions", "prompt_cache_retention", "max_output_tokens", "user",
    ]
)  # fmt: skip
item_fields = st.sampled_from(
    [
        "role", "content", "summary", "encrypted_content", "call_id", "name", "arguments", "output",
        "input", "phase", "id", "namespace",
    ]
)  # fmt: skip
kinds = st.sampled_from(
    [
        "message",
        "reasoning",
        "function_call",
        "function_call_output",
        "custom_tool_call",
        "compaction",
    ]
)


@settings(max_examples=examples(133), deadline=None)
@given(
    st.dictionaries(fields, json_values, max_size=3),
    st.lists(st.tuples(kinds, st.dictionaries(item_fields, json_values, max_size=5)), max_size=3),
)
def test_any_json_is_read_or_refused(
    body: dict[str, Any], items: list[tuple[str, dict[str, Any]]]
) -> None:
    """No crash in reading, and none later in writing what was read."""
    input_ = [{"type": kind, **item} for kind, item in items]
    with contextlib.suppress(ProtocolError):
        request = CODEC.decode_request({"model": "m", "input": input_, **body}, CALL)
        CODEC.encode_request(request, MODEL, request_id="r")


@settings(max_examples=examples(100), deadline=None)
@given(json_values, kinds)
def test_any_answer_is_events_or_a_typed_error(value: Any, kind: str) -> None:
    item = value if isinstance(value, dict) else {"content": value}
    for body in (value, {"output": value}, {"output": [{"type": kind, **item}]}, {"error": value}):
        with contextlib.suppress(ProtocolError):
            check_grammar(CODEC.decode_answer(dumps(body), Restore(), MODEL))
