"""Requests drawn at random, with every knob there is: more than any one protocol can express."""

from __future__ import annotations

from typing import Final

from hypothesis import strategies as st

from controlplane.kit.json import dumps_str
from providers.protocols.canonical import (
    Base64,
    Caching,
    Document,
    Image,
    Message,
    Part,
    Reasoning,
    Request,
    ResponseFormat,
    Sampling,
    SystemText,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
)
from providers.simulator.scenarios import PIXEL
from tests.conformance.request_scenarios import PDF, STRICT, WEATHER

# No surrogates, and something to see: half a pair is no text on any wire, and empty text is
# dropped by all of them (trap 8).
words: Final = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), min_size=1, max_size=20
).filter(lambda text: bool(text.strip()))
names: Final = st.from_regex(r"[a-z][a-z0-9_]{0,12}", fullmatch=True)
values: Final = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**31), 2**31) | words,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(names, inner, max_size=2),
    max_leaves=4,
)
arguments: Final = st.dictionaries(names, values, max_size=3).map(dumps_str)
pictures: Final = st.just(Image(source=Base64(media_type="image/png", data=PIXEL)))
documents: Final = st.just(
    Document(source=Base64(media_type="application/pdf", data=PDF), filename="report.pdf")
)
said: Final = st.builds(Text, text=words)
shown: Final = st.lists(said | said | pictures | documents, min_size=1, max_size=3)
results: Final = st.lists(said | said | pictures, min_size=1, max_size=2)


@st.composite
def conversations(draw: st.DrawFn) -> tuple[Message, ...]:
    """User first; every call is answered; thoughts without a proof now and then."""
    out = [Message(role="user", parts=tuple(draw(shown)))]
    number = 0
    for _ in range(draw(st.integers(0, 2))):
        parts: list[Part] = []
        if draw(st.integers(0, 5)) == 0:
            parts.append(Thinking(text=draw(words)))
        parts.append(Text(text=draw(words)))
        calls = []
        for _ in range(draw(st.integers(0, 2))):
            number += 1
            calls.append(ToolCall(id=f"call_{number}", name=draw(names), arguments=draw(arguments)))
        out.append(Message(role="assistant", parts=(*parts, *calls)))
        if calls:
            out.append(
                Message(
                    role="tool",
                    parts=tuple(
                        ToolResult(
                            call_id=call.id,
                            content=tuple(draw(results)),
                            is_error=draw(st.integers(0, 4)) == 0,
                        )
                        for call in calls
                    ),
                )
            )
        out.append(Message(role="user", parts=tuple(draw(shown))))
    return tuple(out)


def maybe(strategy: st.SearchStrategy[object]) -> st.SearchStrategy[object]:
    """Set in a quarter of the draws: requests with everything set hide what one knob does."""
    return st.one_of(st.none(), st.none(), st.none(), strategy)


samplings: Final = st.builds(
    Sampling,
    max_output_tokens=maybe(st.integers(1024, 8192)),
    temperature=maybe(st.floats(0, 1)),
    top_p=maybe(st.floats(0, 1)),
    top_k=maybe(st.integers(1, 99)),
    min_p=maybe(st.floats(0.01, 1)),
    seed=maybe(st.integers(0, 99)),
    stop=st.lists(words, max_size=2).map(tuple),
    presence_penalty=maybe(st.floats(-2, 2)),
    frequency_penalty=maybe(st.floats(-2, 2)),
    repetition_penalty=maybe(st.floats(1, 2)),
    logit_bias=maybe(st.dictionaries(st.just("42"), st.floats(-100, 100), min_size=1)),
    logprobs=maybe(st.just(True)),
    n=maybe(st.just(1)),
)
tools: Final = st.lists(
    st.builds(
        Tool,
        name=names,
        description=st.none() | words,
        schema=st.just(WEATHER),
    )
    | st.builds(Tool, name=names, schema=st.just(STRICT), strict=st.just(True)),
    max_size=3,
    unique_by=lambda tool: tool.name,
).map(tuple)


@st.composite
def requests(draw: st.DrawFn) -> Request:
    declared = draw(tools)
    choice = None
    if declared:
        choice = draw(
            st.sampled_from(
                [
                    None,
                    ToolChoice(mode="auto"),
                    ToolChoice(mode="none"),
                    ToolChoice(mode="required"),
                    ToolChoice(mode="named", names=(declared[0].name,)),
                    ToolChoice(
                        mode="allowed",
                        names=tuple(tool.name for tool in declared[:2]),
                        allowed_mode="required",
                    ),
                ]
            )
        )
    return Request(
        model="drawn",
        dialect="",
        messages=draw(conversations()),
        system=tuple(draw(st.lists(st.builds(SystemText, text=words), max_size=2))),
        tools=declared,
        tool_choice=choice,
        parallel_tool_calls=draw(maybe(st.booleans())),  # type: ignore[arg-type]
        sampling=draw(samplings),
        reasoning=draw(maybe(st.sampled_from([Reasoning(level=one) for one in _EFFORTS]))),  # type: ignore[arg-type]
        response_format=draw(  # type: ignore[arg-type]
            maybe(st.sampled_from(_FORMATS))
        ),
        verbosity=draw(maybe(st.sampled_from(["low", "high"]))),  # type: ignore[arg-type]
        caching=draw(st.builds(Caching, key=maybe(names))),
        store=draw(maybe(st.just(True))),  # type: ignore[arg-type]
        metadata=draw(maybe(st.dictionaries(names, words, min_size=1, max_size=2))) or {},  # type: ignore[arg-type]
        end_user_id=draw(maybe(names)),  # type: ignore[arg-type]
        service_tier=draw(maybe(st.sampled_from(["auto", "flex", "priority"]))),  # type: ignore[arg-type]
        stream=draw(st.booleans()),
        include_usage=True,
    )


_EFFORTS: Final = ("off", "low", "medium", "high")
_FORMATS: Final = (
    ResponseFormat(kind="json_schema", name="v", schema=STRICT, strict=True),
    ResponseFormat(kind="json_object"),
    ResponseFormat(kind="text"),
)
