"""What a vendor refused, left out of the request: for one more attempt at the same target. Pure.

    upstream_invalid_signature   reasoning that is bound to another prompt or account (90, 91)
    upstream_strict_refused      the strictness of tools (62)
    upstream_effort_refused      one level of effort (110)
    context_length_exceeded      the part of the answer's limit that has no room beside the prompt,
                                 where the vendor said both figures (171)

The numbers are those of the traps in the wire protocols. It works on the body that was sent, so
that relayed and translated requests are mended alike.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import msgspec

from controlplane.kit.errors import Fault, FaultKind
from controlplane.kit.json import InvalidJSON, JSONDict, dumps, loads_dict
from providers.protocols.losses import Loss, LossCode

SIGNATURE: Final = "upstream_invalid_signature"
STRICT: Final = "upstream_strict_refused"
EFFORT: Final = "upstream_effort_refused"
OVERFLOW: Final = "context_length_exceeded"

# A shorter answer is worth less than the refusal, upon which clients shorten their history.
LEAST_ROOM: Final = 256

_EFFORTS: Final = ("max", "xhigh", "high", "medium", "low")
# Where the dialects bound an answer.
_LIMITS: Final = ("max_tokens", "max_completion_tokens", "max_output_tokens")
# The window and the prompt, in the words of the vendors that count both in one window.
_FIGURES: Final = (
    # input length and `max_tokens` exceed context limit: 188240 + 21333 > 200000
    re.compile(r"context limit: (?P<prompt>\d+) \+ \d+ > (?P<window>\d+)"),
    # maximum context length is 8192 tokens … (7000 in the messages, 2000 in the completion)
    re.compile(
        r"maximum context length is (?P<window>\d+).{0,200}?"
        r"\((?P<prompt>\d+) (?:in the messages|of text input)",
        re.DOTALL,
    ),
    # maximum context length is 32768 tokens and your request has 20000 input tokens
    re.compile(
        r"maximum context length is (?P<window>\d+) tokens and your request has "
        r"(?P<prompt>\d+) input"
    ),
)


class Mended(msgspec.Struct, frozen=True):
    """`code` = what was refused before."""

    code: str
    payload: bytes
    losses: tuple[Loss, ...]


def mended(fault: Fault, payload: bytes) -> Mended | None:
    """The request without what was refused. None where nothing can be left out."""
    if fault.kind is FaultKind.CONTEXT_OVERFLOW:
        room = room_beside_prompt(fault.message)
        if room < LEAST_ROOM:
            return None
        return _applied(OVERFLOW, partial(_shorter, room=room), payload)
    cure = _CURES.get(fault.code)
    return _applied(fault.code, cure, payload) if cure is not None else None


def is_lasting(code: str) -> bool:
    """Whether the next request of the same conversation would be refused for the same."""
    return code in _CURES


def mended_before(code: str, payload: bytes) -> Mended | None:
    """The same for a code that an earlier request of the conversation met."""
    return _applied(code, _CURES[code], payload)


def room_beside_prompt(message: str) -> int:
    """How many tokens an answer may have, by the figures of a refusal; 0 = it does not say."""
    for pattern in _FIGURES:
        found = pattern.search(message)
        if found is not None:
            return max(0, int(found["window"][:12]) - int(found["prompt"][:12]))
    return 0


def _applied(code: str, cure: _Cure, payload: bytes) -> Mended | None:
    try:
        body = loads_dict(payload)
    except InvalidJSON:
        return None  # a form: nothing here is in one
    losses = cure(body)
    return Mended(code, dumps(body), tuple(losses)) if losses else None


_Cure = Callable[[JSONDict], list[Loss]]


def _without_reasoning(body: JSONDict) -> list[Loss]:
    """Anthropic's and Bedrock's blocks, and the items of Responses."""
    losses: list[Loss] = []
    messages = body.get("messages")
    if isinstance(messages, list):
        body["messages"] = _messages_without(messages, losses)
        if losses:
            _stop_thinking(body, losses)
    items = body.get("input")
    if isinstance(items, list):
        kept = []
        for number, item in enumerate(items):
            if isinstance(item, dict) and item.get("type") == "reasoning":
                losses.append(_dropped(f"input[{number}]"))
            else:
                kept.append(item)
        if losses:
            # An item that the vendor has kept wants its reasoning beside it: without its name it
            # is taken as it stands.
            body["input"] = [_nameless(item) for item in kept]
    return losses


def _messages_without(messages: list[Any], losses: list[Loss]) -> list[Any]:
    found = []
    for number, message in enumerate(messages):
        content = message.get("content") if isinstance(message, dict) else None
        if not isinstance(content, list) or message.get("role") != "assistant":
            found.append(message)
            continue
        kept = [part for part in content if not _is_reasoning(part)]
        if len(kept) < len(content):
            losses.append(_dropped(f"messages[{number}]"))
        # A turn of nothing but reasoning goes whole: none may be empty.
        if kept:
            found.append(message | {"content": kept})
    return found


def _is_reasoning(part: Any) -> bool:
    return isinstance(part, dict) and (
        part.get("type") in ("thinking", "redacted_thinking") or "reasoningContent" in part
    )


def _stop_thinking(body: JSONDict, losses: list[Loss]) -> None:
    """With a budget, a turn whose calls are answered must begin with its thinking."""
    extra = body.get("additionalModelRequestFields")
    holder = extra if isinstance(extra, dict) else body
    thinking = holder.get("thinking")
    if not isinstance(thinking, dict) or thinking.get("type") != "enabled":
        return
    if _answers_calls(body["messages"]):
        del holder["thinking"]
        losses.append(
            Loss("reasoning", LossCode.DROPPED, "not without the thinking that was refused")
        )


def _answers_calls(messages: list[Any]) -> bool:
    content = messages[-1].get("content") if messages and isinstance(messages[-1], dict) else None
    return isinstance(content, list) and any(
        isinstance(part, dict) and (part.get("type") == "tool_result" or "toolResult" in part)
        for part in content
    )


def _dropped(path: str) -> Loss:
    return Loss(path, LossCode.SIGNATURE_DROPPED, "the vendor refused the proof of its reasoning")


def _nameless(item: Any) -> Any:
    if not isinstance(item, dict) or item.get("type") == "item_reference":
        return item
    return {name: value for name, value in item.items() if name != "id"}


def _not_strict(body: JSONDict) -> list[Loss]:
    config = body.get("toolConfig")
    tools = config.get("tools") if isinstance(config, dict) else body.get("tools")
    losses = []
    for number, tool in enumerate(tools if isinstance(tools, list) else ()):
        spec = tool.get("toolSpec", tool) if isinstance(tool, dict) else None
        if isinstance(spec, dict) and spec.pop("strict", None):
            losses.append(
                Loss(f"tools[{number}].strict", LossCode.DROPPED, "the vendor refused it as strict")
            )
    return losses


def _less_effort(body: JSONDict) -> list[Loss]:
    for holder in (body, body.get("additionalModelRequestFields")):
        for name in ("output_config", "outputConfig"):
            config = holder.get(name) if isinstance(holder, dict) else None
            if not isinstance(config, dict):
                continue
            effort = config.get("effort")
            if effort in _EFFORTS[:-1]:
                config["effort"] = _EFFORTS[_EFFORTS.index(effort) + 1]
                why = f"{effort} was refused, {config['effort']} is sent"
                return [Loss("reasoning.level", LossCode.CLAMPED, why)]
    return []


def _shorter(body: JSONDict, room: int) -> list[Loss]:
    config = body.get("inferenceConfig")
    places = [(body, name) for name in _LIMITS]
    if isinstance(config, dict):
        places.append((config, "maxTokens"))
    for holder, name in places:
        limit = holder.get(name)
        if type(limit) is int and limit > room and _leaves_thinking(body, room):
            holder[name] = room
            why = f"{limit} is sent as {room}: the rest of the window is the prompt's"
            return [Loss("sampling.max_output_tokens", LossCode.CLAMPED, why)]
    return []


def _leaves_thinking(body: JSONDict, room: int) -> bool:
    """An answer must be longer than its budget for thinking (trap 111)."""
    thinking = body.get("thinking")
    budget = thinking.get("budget_tokens") if isinstance(thinking, dict) else None
    return not isinstance(budget, int) or budget < room


# They hold for the next request of the same conversation too.
_CURES: Final[dict[str, _Cure]] = {
    SIGNATURE: _without_reasoning,
    STRICT: _not_strict,
    EFFORT: _less_effort,
}
