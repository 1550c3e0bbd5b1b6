"""Canonical → wire → canonical, over all protocols that are spoken in both directions.

What the protocol can express comes back as it was; the loss report names exactly the rest: no
knob changes without a loss, and no loss is told of a knob that did not change.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings

from controlplane.kit import json
from providers.protocols import levels, registry
from providers.protocols.canonical import (
    Document,
    Level,
    Message,
    Part,
    Reasoning,
    Request,
    ToolChoice,
)
from providers.protocols.codec import ClientCall
from providers.protocols.losses import Loss, LossCode
from tests.conformance import upstreams
from tests.conformance.drawn import requests
from tests.conformance.meaning import plain
from tests.conformance.written import DIALECTS

# Told for the record: a name that is restored, a placeholder, content at another place. They
# explain a difference in the conversation, and need none.
REVERSIBLE = (LossCode.RENAMED, LossCode.MOVED, LossCode.SYNTHESISED)


def knobs(request: Request, protocol: str) -> dict[str, Any]:
    """Field → value, with what means the same written the same way."""
    meant = plain(request, protocol)
    out: dict[str, Any] = {}
    for name in meant.__struct_fields__:
        value = getattr(meant, name)
        if name in ("sampling", "caching"):
            out |= {f"{name}.{inner}": getattr(value, inner) for inner in value.__struct_fields__}
        else:
            out[name] = value
    out["tools.strict"] = tuple(tool.strict for tool in meant.tools)
    out["tools"] = tuple(msgspec.structs.replace(tool, strict=None) for tool in meant.tools)
    out["system"] = [block.text for block in meant.system]
    out["messages"] = [msgspec.structs.replace(m, parts=_parts(m)) for m in meant.messages]
    # What leaving it out means as well.
    out["store"] = meant.store or False
    if meant.parallel_tool_calls:
        out["parallel_tool_calls"] = None
    if meant.sampling.n == 1:
        out["sampling.n"] = None
    if meant.service_tier == "auto":
        out["service_tier"] = None
    if meant.response_format is not None and meant.response_format.kind == "text":
        out["response_format"] = None
    match meant.tool_choice:
        case ToolChoice(mode="auto"):
            out["tool_choice"] = None
        case ToolChoice(mode="allowed", names=(name,), allowed_mode="required"):
            out["tool_choice"] = ToolChoice(mode="named", names=(name,))
    if meant.reasoning is not None:
        out["reasoning"] = _thought(meant.reasoning, protocol)
    if protocol == "anthropic-messages" and request.sampling.max_output_tokens is None:
        # A limit is required there: the model's own.
        out["sampling.max_output_tokens"] = upstreams.MODELS[protocol].max_output_tokens
    if protocol == "google-generative-ai" and meant.response_format is not None:
        # The name travels as the schema's title.
        schema = {k: v for k, v in (meant.response_format.schema or {}).items() if k != "title"}
        out["response_format"] = msgspec.structs.replace(meant.response_format, schema=schema)
    for name in ("model", "dialect", "include_usage"):
        del out[name]
    return out


def _parts(message: Message) -> tuple[Part, ...]:
    """Messages has one field for a document's name and its title."""
    return tuple(
        msgspec.structs.replace(part, filename=part.filename or part.title, title=None)
        if isinstance(part, Document)
        else part
        for part in message.parts
    )


def _thought(reasoning: Reasoning, protocol: str) -> Level | int:
    """The level; where the wire has a budget, the tokens that the level stands for."""
    level = levels.requested_level(reasoning)
    if protocol != "anthropic-messages" or level == "off":
        return level
    return reasoning.budget_tokens or levels.budget_of_level(level, upstreams.MODELS[protocol])


def field_of(loss: Loss) -> str:
    path = re.sub(r"\[\d+\]", "", loss.path)
    for whole in ("messages", "metadata", "reasoning"):
        if path == whole or path.startswith(f"{whole}."):
            return whole
    return path


SOAK_EXAMPLES = 5_000

every_protocol = pytest.mark.parametrize("protocol", DIALECTS)
# No example is wrong for being slow, large or rare.
unhurried = settings(deadline=None, suppress_health_check=list(HealthCheck), database=None)


@every_protocol
@settings(unhurried, max_examples=50, derandomize=True)
@given(requests())
def test_the_loss_report_names_exactly_what_does_not_come_back(
    protocol: str, drawn: Request
) -> None:
    check_round_trip(protocol, drawn)


@pytest.mark.soak
@every_protocol
@settings(unhurried, max_examples=SOAK_EXAMPLES)
@given(requests())
def test_five_thousand_requests_come_back(protocol: str, drawn: Request) -> None:
    check_round_trip(protocol, drawn)


def check_round_trip(protocol: str, drawn: Request) -> None:
    request = msgspec.structs.replace(drawn, dialect=protocol)
    call = registry.upstream(protocol).encode_request(
        request, upstreams.MODELS[protocol], request_id="r"
    )
    back = registry.client(protocol).decode_request(
        json.loads_dict(json.dumps(call.body)), ClientCall(model="drawn", stream=call.stream)
    )
    emulated = {loss.path for loss in call.losses if loss.code is LossCode.EMULATED}
    if "tool_choice" in emulated and request.tool_choice is not None:
        # A subset without a word of its own: the other tools are not declared.
        allowed = tuple(t for t in request.tools if t.name in request.tool_choice.names)
        request = msgspec.structs.replace(request, tools=allowed)
    was, now = knobs(request, protocol), knobs(back, protocol)
    changed = {name for name in was if was[name] != now[name]}
    lost = {field_of(loss) for loss in call.losses if loss.code not in REVERSIBLE}
    if "response_format" in emulated:
        # It became a sentence of the system prompt, and nothing else did.
        assert now["system"][:-1] == was["system"]
        changed.discard("system")
    explained = lost | {field_of(loss) for loss in call.losses}
    assert changed <= explained, {name: (was[name], now[name]) for name in changed - explained}
    assert lost <= changed, [loss for loss in call.losses if field_of(loss) in lost - changed]
