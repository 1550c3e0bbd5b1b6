"""No knob is dropped in silence, toward any upstream: taking it out of the request changes what is
sent, or the loss report names it. This needs no decoder, so it holds for all upstream protocols.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from providers.protocols import registry
from providers.protocols.canonical import Caching, Reasoning, Request, Sampling, Tool, ToolChoice
from providers.protocols.codec import UpstreamCall
from providers.protocols.errors import LocalProtocolError
from tests.conformance import upstreams
from tests.conformance.drawn import requests
from tests.conformance.examples import examples
from tests.conformance.written import DIALECTS

NOTHING = Request(model="", dialect="")
# What means the same as leaving it out, to every vendor.
DEFAULTS: dict[str, tuple[Any, ...]] = {
    "parallel_tool_calls": (True,),
    "service_tier": ("auto",),
    "sampling.n": (1,),
    "store": (False,),
}
# What a wire does unasked: Codex is always told a level, Kiro thinks only where it is told to.
SAME_AS_UNSET: dict[tuple[str, str], Any] = {
    ("openai-codex-responses", "reasoning"): Reasoning(level="medium"),
    ("kiro-generate-assistant", "reasoning"): Reasoning(level="off"),
}
KNOBS = (
    "tool_choice",
    "parallel_tool_calls",
    "reasoning",
    "response_format",
    "verbosity",
    "store",
    "metadata",
    "end_user_id",
    "service_tier",
)


def without_each(request: Request) -> Iterator[tuple[str, Request]]:
    """Each knob that is set and means something, and the request without it."""
    for name in KNOBS:
        value = getattr(request, name)
        if _says(name, value, getattr(NOTHING, name)):
            yield name, msgspec.structs.replace(request, **{name: getattr(NOTHING, name)})
    for group, empty in (("sampling", Sampling()), ("caching", Caching())):
        knobs = getattr(request, group)
        for name in knobs.__struct_fields__:
            value, default = getattr(knobs, name), getattr(empty, name)
            if _says(f"{group}.{name}", value, default):
                less = msgspec.structs.replace(knobs, **{name: default})
                yield f"{group}.{name}", msgspec.structs.replace(request, **{group: less})
    for index, tool in enumerate(request.tools):
        if tool.strict and _may_be_called(tool, request.tool_choice):
            less = msgspec.structs.replace(tool, strict=None)
            tools = (*request.tools[:index], less, *request.tools[index + 1 :])
            yield f"tools[{index}].strict", msgspec.structs.replace(request, tools=tools)


def _may_be_called(tool: Tool, choice: ToolChoice | None) -> bool:
    """Others need not even be declared."""
    if choice is None:
        return True
    return choice.mode != "none" and (choice.mode != "allowed" or tool.name in choice.names)


def _says(name: str, value: Any, default: Any) -> bool:
    if value == default or value in DEFAULTS.get(name, ()):
        return False
    if name == "tool_choice":
        return bool(value.mode != "auto")
    if name == "response_format":
        return bool(value.kind != "text")
    return True


def sent(request: Request, upstream: str) -> UpstreamCall | None:
    """None = refused, which is anything but silent."""
    codec, model = registry.upstream(upstream), upstreams.MODELS[upstream]
    try:
        return codec.encode_request(request, model, request_id="r")
    except LocalProtocolError:
        return None


@pytest.mark.parametrize("upstream", upstreams.UPSTREAMS)
@settings(
    max_examples=examples(15),
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
@given(drawn=requests(), dialect=st.sampled_from(DIALECTS))
def test_every_knob_is_sent_or_named(upstream: str, drawn: Request, dialect: str) -> None:
    request = msgspec.structs.replace(drawn, dialect=dialect)
    call = sent(request, upstream)
    if call is None:
        return
    named = {loss.path for loss in call.losses}
    for knob, less in without_each(request):
        other = sent(less, upstream)
        always = SAME_AS_UNSET.get((upstreams.known_as(upstream), knob))
        if other is None or (always is not None and getattr(request, knob) == always):
            continue
        is_same = (call.path, call.query, call.headers, call.body) == (
            other.path,
            other.query,
            other.headers,
            other.body,
        )
        is_named = any(path == knob or path.startswith(f"{knob}.") for path in named)
        assert is_named or not is_same, (knob, call.losses)
