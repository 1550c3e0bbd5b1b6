"""Mends a conversation before it is encoded: the rules every vendor shares (traps 1-8, 73-79).

Encoders call `mended()` first and may then rely on the canonical shape in Message's docstring.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from providers.protocols.canonical import (
    Message,
    Part,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
)
from providers.protocols.losses import Loss, LossCode

MISSING_RESULT = "No result provided"


def mended(messages: Iterable[Message], losses: list[Loss]) -> tuple[Message, ...]:
    """Calls and results paired, nothing between them, no empty turns.

    - results without a call are dropped, of several for one call the last counts (73, 79);
    - a call without a result gets an error result (4), unless it ends the conversation;
    - user and system messages between a call and its results move behind them (5, 6);
    - empty text parts and assistant turns without content go (8, 9).
    """
    out: list[Message] = []
    turns = list(messages)
    position = 0
    while position < len(turns):
        message = turns[position]
        position += 1
        if message.role == "tool":
            _report_orphans(message, f"messages[{position - 1}]", losses)
            continue
        cleaned = _without_empty_text(message)
        if cleaned is None:
            if message.role == "assistant":
                losses.append(
                    Loss(f"messages[{position - 1}]", LossCode.DROPPED, "an empty assistant turn")
                )
            continue
        out.append(cleaned)
        calls = [part for part in cleaned.parts if isinstance(part, ToolCall)]
        if message.role != "assistant" or not calls:
            continue
        position = _pair(turns, position, calls, out, losses)
    return tuple(out)


def _pair(
    turns: list[Message],
    position: int,
    calls: list[ToolCall],
    out: list[Message],
    losses: list[Loss],
) -> int:
    """Append the results of `calls` and whatever stood between; returns where to go on."""
    wanted = Counter(call.id for call in calls)
    found: dict[str, list[ToolResult]] = {}
    held: list[Message] = []
    end = position
    for index in range(position, len(turns)):
        message = turns[index]
        if message.role == "assistant":
            break
        end = index + 1
        if message.role != "tool":
            held.append(message)
            continue
        for part in message.parts:
            if not isinstance(part, ToolResult):
                continue
            path = f"messages[{index}]"
            if part.call_id not in wanted:
                losses.append(Loss(path, LossCode.DROPPED, f"no call has id {part.call_id!r}"))
            else:
                results_so_far = found.setdefault(part.call_id, [])
                # Calls that share an id take their results in order (trap 28).
                if len(results_so_far) >= wanted[part.call_id]:
                    losses.append(
                        Loss(path, LossCode.DROPPED, f"a later result for {part.call_id!r} counts")
                    )
                    results_so_far.pop()
                results_so_far.append(part)
            if held:
                losses.append(
                    Loss(path, LossCode.MOVED, "results stand directly after their calls")
                )
    is_last = end == len(turns)
    if found or not is_last or held:
        results: list[Part] = []
        for call in calls:
            waiting = found.get(call.id)
            result = waiting.pop(0) if waiting else None
            if result is None:
                losses.append(
                    Loss("messages", LossCode.SYNTHESISED, f"call {call.id!r} had no result")
                )
                result = ToolResult(
                    call_id=call.id,
                    content=(Text(text=MISSING_RESULT),),
                    is_error=True,
                    name=call.name,
                    kind=call.kind,
                )
            elif result.name is None:
                result = ToolResult(
                    call_id=result.call_id,
                    content=result.content,
                    is_error=result.is_error,
                    name=call.name,
                    kind=call.kind,
                    cache=result.cache,
                )
            results.append(result)
        out.append(Message(role="tool", parts=tuple(results)))
    for message in held:
        cleaned = _without_empty_text(message)
        if cleaned is not None:
            out.append(cleaned)
    return end


def _report_orphans(message: Message, path: str, losses: list[Loss]) -> None:
    for part in message.parts:
        if isinstance(part, ToolResult):
            losses.append(Loss(path, LossCode.DROPPED, f"no call has id {part.call_id!r}"))


def _without_empty_text(message: Message) -> Message | None:
    """The message without empty text parts; None when nothing would be left."""
    for part in message.parts:
        if type(part) is not Text or not part.text:
            break
    else:
        # Nothing but words, as most turns are.
        return message if message.parts else None
    parts = tuple(
        part
        for part in message.parts
        if not (isinstance(part, Text) and not part.text and part.signature is None)
    )
    if message.role == "assistant" and all(
        isinstance(part, Thinking) and part.signature is None and not part.text for part in parts
    ):
        return None
    if not parts:
        return None
    if len(parts) == len(message.parts):
        return message
    return Message(role=message.role, parts=parts, name=message.name)
