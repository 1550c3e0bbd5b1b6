"""Canonical, to the wire, and back: the identity on everything that Google can say, with an
empty loss report."""

from __future__ import annotations

import base64
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from controlplane.kit.json import dumps, dumps_str, loads_dict
from providers.protocols.canonical import (
    Audio,
    Base64,
    Image,
    Message,
    ModelSpec,
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
    Video,
)
from providers.protocols.codec import ClientCall
from providers.protocols.google_generative_ai import CODEC
from providers.protocols.quirks import Quirks
from tests.conformance.examples import examples

SLUG = "google-generative-ai"
MODEL = ModelSpec(
    id="gemini-x",
    protocol=SLUG,
    reasoning=True,
    quirks=Quirks(supports_function_call_ids=True, supports_images_in_tool_results=True),
)

words = st.text(alphabet=st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20).filter(
    lambda text: bool(text.strip())
)
data = st.binary(max_size=12).map(lambda raw: base64.b64encode(raw).decode())
signature = st.binary(min_size=3, max_size=12).map(
    lambda raw: Signature(value=base64.b64encode(b"\x01" + raw).decode(), protocol=SLUG)
)
maybe_signature = st.none() | signature
name = st.from_regex(r"[a-z_][a-z0-9_.:-]{0,12}", fullmatch=True)
arguments = st.dictionaries(words, st.none() | st.integers(-9, 9) | words, max_size=3).map(
    dumps_str
)
image = st.builds(
    Image, source=st.builds(Base64, media_type=st.just("image/png"), data=data)
) | st.builds(
    Image,
    source=st.builds(
        Url, url=words.map(lambda path: "gs://b/" + path), media_type=st.just("image/jpeg")
    ),
)
media = (
    image
    | st.builds(Audio, source=st.builds(Base64, media_type=st.just("audio/wav"), data=data))
    | st.builds(
        Video, source=st.just(Url(url="https://youtu.be/x", media_type="video/mp4"))
    )
)  # fmt: skip
opaque = st.builds(
    Opaque,
    protocol=st.just(SLUG),
    value=words.map(lambda code: {"executableCode": {"language": "PYTHON", "code": code}}),
)
user = st.lists(st.builds(Text, text=words) | media, min_size=1, max_size=3).map(
    lambda parts: Message(role="user", parts=tuple(parts))
)


@st.composite
def conversations(draw: st.DrawFn) -> tuple[Message, ...]:
    out: list[Message] = [draw(user)]
    ids = iter(range(1000))
    for _ in range(draw(st.integers(0, 3))):
        parts: list[Part] = []
        if draw(st.booleans()):
            parts.append(draw(st.builds(Thinking, text=words, signature=signature)))
        parts += draw(
            st.lists(st.builds(Text, text=words, signature=maybe_signature) | opaque, max_size=2)
        )
        calls = [
            ToolCall(
                id=f"id-{next(ids)}",
                name=draw(name),
                arguments=draw(arguments),
                signature=draw(maybe_signature),
            )
            for _ in range(draw(st.integers(0 if parts else 1, 2)))
        ]
        out.append(Message(role="assistant", parts=(*parts, *calls)))
        if calls:
            results = [
                ToolResult(
                    call_id=call.id,
                    name=call.name,
                    is_error=draw(st.booleans()),
                    content=tuple(
                        [Text(text=draw(words)), *draw(st.lists(image, max_size=1))]
                        if draw(st.booleans())
                        else []
                    ),
                )
                for call in calls
            ]
            out.append(Message(role="tool", parts=tuple(results)))
            if draw(st.booleans()):
                continue
        out.append(draw(user))
    return tuple(out)


number = st.none() | st.floats(0, 2)
tools = st.lists(
    st.builds(
        Tool,
        name=name,
        description=st.none() | words,
        schema=st.none() | st.just({"type": "object", "properties": {"a": {"type": "null"}}}),
    ),
    max_size=3,
    unique_by=lambda tool: tool.name,
).map(tuple)
choices = (
    st.none()
    | st.sampled_from(
        [ToolChoice(mode="auto"), ToolChoice(mode="none"), ToolChoice(mode="required")]
    )
    | name.map(lambda one: ToolChoice(mode="named", names=(one,)))
    | st.lists(name, min_size=2, max_size=3, unique=True).map(
        lambda some: ToolChoice(mode="allowed", names=tuple(some), allowed_mode="required")
    )
)
formats = (
    st.none()
    | st.sampled_from([ResponseFormat(kind="text"), ResponseFormat(kind="json_object")])
    | words.map(
        lambda title: ResponseFormat(
            kind="json_schema", name=title, schema={"type": "object", "title": title}
        )
    )
)
reasonings = st.sampled_from(
    [None, Reasoning(adaptive=True), Reasoning(level="off", budget_tokens=0)]
) | st.builds(
    Reasoning, budget_tokens=st.none() | st.integers(1, 30000), show=st.none() | st.booleans()
)

requests = st.builds(
    Request,
    model=st.just("alias"),
    dialect=st.just(SLUG),
    messages=conversations(),
    system=st.lists(st.builds(SystemText, text=words), max_size=2).map(tuple),
    tools=tools,
    tool_choice=choices,
    sampling=st.builds(
        Sampling,
        max_output_tokens=st.none() | st.integers(1, 9999),
        temperature=number,
        top_p=number,
        top_k=st.none() | st.integers(1, 99),
        seed=st.none() | st.integers(0, 99),
        stop=st.lists(words, max_size=3).map(tuple),
        presence_penalty=number,
        frequency_penalty=number,
        n=st.none() | st.integers(1, 8),
        logprobs=st.none() | st.booleans(),
        top_logprobs=st.none() | st.integers(0, 20),
    ),
    response_format=formats,
    reasoning=reasonings,
    service_tier=st.none() | st.sampled_from(["flex", "standard", "priority"]),
    stream=st.booleans(),
    include_usage=st.just(True),
    extra=st.fixed_dictionaries(
        {},
        optional={
            "cachedContent": st.just("cachedContents/1"),
            "generationConfig": st.just({"mediaResolution": "MEDIA_RESOLUTION_LOW"}),
        },
    ),
)


def as_sent(reasoning: Reasoning | None) -> Reasoning | None:
    """An empty wish says nothing on the wire."""
    return None if reasoning == Reasoning() else reasoning


@settings(max_examples=examples(100), deadline=None)
@given(requests)
def test_what_google_can_say_comes_back_as_it_was(request: Request) -> None:
    call = CODEC.encode_request(request, MODEL, request_id="r")
    assert call.losses == ()
    body: dict[str, Any] = loads_dict(dumps(call.body))
    back = CODEC.decode_request(body, ClientCall(model="alias", stream=call.stream))
    fields = {field: getattr(request, field) for field in Request.__struct_fields__}
    fields["reasoning"] = as_sent(request.reasoning)
    assert back == Request(**fields)
