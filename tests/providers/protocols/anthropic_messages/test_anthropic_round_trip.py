"""Canonical to wire and back is identity for all that the protocol can express."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from controlplane.kit.json import dumps, dumps_str, loads
from providers.protocols.anthropic_messages import CODEC
from providers.protocols.canonical import (
    Base64,
    CacheMark,
    Document,
    FileId,
    Image,
    Message,
    ModelSpec,
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
from providers.protocols.codec import ClientCall
from providers.protocols.quirks import Quirks

MODEL = ModelSpec(
    id="claude-x",
    protocol="anthropic-messages",
    reasoning=True,
    max_output_tokens=64_000,
    levels={"xhigh": "xhigh", "max": "max", "minimal": None},
    quirks=Quirks(
        force_adaptive_thinking=True, supports_output_format=True, supports_strict_tools=True
    ),
)

words = st.text(min_size=1, max_size=30).filter(lambda text: bool(text.strip()))
# Half a surrogate pair is no text on any wire.
texts = words.map(lambda text: text.encode("utf-8", "ignore").decode()).filter(
    lambda text: bool(text.strip())
)
names = st.from_regex(r"[a-zA-Z][a-zA-Z0-9_-]{0,20}", fullmatch=True)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=6,
)
objects = st.dictionaries(names, values, max_size=3)
native = st.builds(Signature, value=st.just("c2lnbmF0dXJl"), protocol=st.just("anthropic-messages"))
plain = st.builds(Text, text=texts)
pictures = st.builds(
    Image,
    source=st.one_of(
        st.just(Base64(media_type="image/png", data="iVBORw0KGgo=")),
        st.builds(Url, url=st.just("https://x.test/a.png")),
        st.builds(FileId, id=names),
    ),
)
documents = st.builds(
    Document,
    source=st.one_of(
        st.just(Base64(media_type="application/pdf", data="JVBERi0=")),
        st.just(Base64(media_type="text/plain", data="aGVsbG8=")),
        st.builds(FileId, id=names),
    ),
    title=st.none() | texts,
    context=st.none() | texts,
    citations=st.booleans(),
)
shown = plain | pictures | documents
thoughts = st.builds(Thinking, text=texts, signature=native) | st.builds(
    Thinking, redacted=st.just(True), signature=native
)


@st.composite
def conversations(draw: st.DrawFn) -> tuple[Message, ...]:
    """User first, then turns whose calls are all answered."""
    out = [Message(role="user", parts=tuple(draw(st.lists(shown, min_size=1, max_size=3))))]
    for turn in range(draw(st.integers(0, 3))):
        parts: list[Part] = [*draw(st.lists(thoughts, max_size=1)), draw(plain)]
        calls = [
            ToolCall(id=f"toolu_{turn}_{n}", name=draw(names), arguments=dumps_str(draw(objects)))
            for n in range(draw(st.integers(0, 2)))
        ]
        out.append(Message(role="assistant", parts=(*parts, *calls)))
        if calls:
            results = tuple(
                ToolResult(
                    call_id=call.id, content=tuple(draw(st.lists(plain, min_size=1, max_size=2)))
                )
                for call in calls
            )
            out.append(Message(role="tool", parts=results))
        out.append(Message(role="user", parts=tuple(draw(st.lists(shown, min_size=1, max_size=2)))))
    return tuple(out)


tools = st.builds(
    Tool,
    name=names,
    description=st.none() | texts,
    schema=st.just({"type": "object", "properties": {"a": {"type": "string"}}}),
    strict=st.sampled_from([None, True]),
    extra=st.sampled_from([{}, {"defer_loading": True}]),
)
requests = st.builds(
    Request,
    model=st.just("claude-x"),
    dialect=st.just("anthropic-messages"),
    messages=conversations(),
    system=st.lists(
        st.builds(
            SystemText,
            text=texts.filter(lambda text: not text.startswith("x-anthropic-billing")),
            cache=st.none() | st.just(CacheMark(ttl="1h")),
        ),
        max_size=2,
    ).map(tuple),
    tools=st.lists(tools, max_size=3, unique_by=lambda tool: tool.name).map(tuple),
    sampling=st.builds(
        Sampling,
        max_output_tokens=st.integers(1, 64_000),
        stop=st.lists(texts, max_size=2).map(tuple),
    ),
    reasoning=st.sampled_from(
        [
            None,
            Reasoning(level="off"),
            Reasoning(adaptive=True),
            Reasoning(adaptive=True, level="low"),
            Reasoning(adaptive=True, level="max", show=True),
            Reasoning(adaptive=True, level="xhigh", show=False),
        ]
    ),
    response_format=st.none()
    | st.just(ResponseFormat(kind="json_schema", schema={"type": "object"}, strict=True)),
    end_user_id=st.none() | names,
    service_tier=st.sampled_from([None, "auto", "standard_only"]),
    stream=st.booleans(),
    include_usage=st.just(True),
)


@given(requests, st.booleans())
def test_canonical_to_wire_to_canonical(request: Request, parallel: bool) -> None:
    if request.tools:
        choice = ToolChoice(mode="auto")
        request = _with(request, tool_choice=choice, parallel_tool_calls=parallel)
    call = CODEC.encode_request(request, MODEL, request_id="r")
    assert call.losses == ()
    back = CODEC.decode_request(loads(dumps(call.body)), ClientCall())
    assert back == request


def _with(request: Request, **changes: object) -> Request:
    from msgspec.structs import replace

    return replace(request, **changes)
