"""A conversation as strictly alternating turns, for wires that accept nothing else.

Anthropic, Bedrock and Kiro share these rules: user first, user and assistant in turn, all
results of one turn together and first, no whitespace-only text, no call left unanswered.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Final, Literal

import msgspec

from providers.protocols.canonical import (
    Image,
    Message,
    Part,
    Request,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
)
from providers.protocols.history import MISSING_RESULT, mended
from providers.protocols.losses import Loss, LossCode
from providers.protocols.names import SAFE, safe_id

# A turn that says nothing new, where the wire insists on a user turn.
FILLER: Final = "Continue."


class Turn:
    """Parts of one wire message. A user turn's ToolResult parts come first."""

    __slots__ = ("parts", "role")

    def __init__(self, role: Literal["user", "assistant", "system"], parts: list[Part]) -> None:
        self.role = role
        self.parts = parts


def path_of(request: Request, part: Part) -> str:
    """Where a part stands in the client's conversation. Only for reports: it searches."""
    for position, message in enumerate(request.messages):
        for index, candidate in enumerate(message.parts):
            if candidate is part:
                return f"messages[{position}].parts[{index}]"
            if (
                isinstance(part, ToolCall | ToolResult)
                and type(candidate) is type(part)
                and _call_id(candidate) == _call_id(part)
            ):
                return f"messages[{position}].parts[{index}]"
    return "messages"


def _call_id(part: Part) -> str:
    if isinstance(part, ToolCall):
        return part.id
    return part.call_id if isinstance(part, ToolResult) else ""


def alternating(
    request: Request,
    losses: list[Loss],
    *,
    keeps_thinking: Callable[[Thinking], bool],
    keeps_system: bool = False,
    id_limit: int = 64,
    id_allowed: re.Pattern[str] = SAFE,
) -> list[Turn]:
    """The turns to send. Call ids are already the wire's: valid, unique, the same on a result.

    `keeps_system`: the wire takes a system turn directly before an assistant turn or at the end.
    """
    messages = mended(request.messages, losses)
    ids = _Ids(id_limit, id_allowed)
    turns: list[Turn] = []
    for position, message in enumerate(messages):
        if message.role == "system":
            _add_system(message, messages[position + 1 :], turns, losses, keeps_system)
            continue
        if message.name is not None:
            losses.append(Loss("messages", LossCode.DROPPED, f"the name {message.name!r}"))
        if message.role == "tool":
            _push(turns, "user", ids.results(message.parts))
        elif message.role == "user":
            _push(turns, "user", _without_blank_text(message.parts))
        else:
            parts = _assistant_parts(request, message, losses, keeps_thinking)
            _push(turns, "assistant", ids.calls(parts))
    _answer_open_calls(turns, ids, losses)
    if not turns or turns[0].role != "user":
        turns.insert(0, Turn("user", [Text(text=FILLER)]))
        losses.append(
            Loss("messages", LossCode.SYNTHESISED, "the conversation must begin with a user turn")
        )
    return turns


class _Ids:
    """Wire ids of calls: valid, and unique in the conversation (traps 28, 29)."""

    def __init__(self, limit: int, allowed: re.Pattern[str]) -> None:
        self._limit = limit
        self._allowed = allowed
        self._taken: set[str] = set()
        self.open: list[str] = []

    def calls(self, parts: list[Part]) -> list[Part]:
        for index, part in enumerate(parts):
            if not isinstance(part, ToolCall):
                continue
            wire = safe_id(part.id, self._limit, self._allowed)
            repeat = 1
            while wire in self._taken:
                repeat += 1
                wire = safe_id(f"{part.id}.{repeat}", self._limit, SAFE)
            self._taken.add(wire)
            self.open.append(wire)
            if wire != part.id:
                parts[index] = msgspec.structs.replace(part, id=wire)
        return parts

    def results(self, parts: Iterable[Part]) -> list[Part]:
        """`mended` put one result per call, in the order of the calls."""
        out: list[Part] = []
        for wire, part in zip(self.open, parts, strict=False):
            if isinstance(part, ToolResult) and part.call_id != wire:
                part = msgspec.structs.replace(part, call_id=wire)
            out.append(part)
        self.open = []
        return out


def _push(turns: list[Turn], role: Literal["user", "assistant"], parts: list[Part]) -> None:
    if not parts:
        return
    if turns and turns[-1].role == role:
        turns[-1].parts.extend(parts)
    else:
        turns.append(Turn(role, parts))


def _without_blank_text(parts: Iterable[Part]) -> list[Part]:
    # Whitespace says nothing and is refused as a block of its own: no loss to report (trap 9).
    return [part for part in parts if not (isinstance(part, Text) and not part.text.strip())]


def _assistant_parts(
    request: Request,
    message: Message,
    losses: list[Loss],
    keeps_thinking: Callable[[Thinking], bool],
) -> list[Part]:
    out: list[Part] = []
    for part in message.parts:
        if isinstance(part, Thinking):
            if not keeps_thinking(part):
                losses.append(
                    Loss(
                        path_of(request, part),
                        LossCode.SIGNATURE_DROPPED,
                        "reasoning of another model, or unsigned, cannot be replayed here",
                    )
                )
                continue
        elif isinstance(part, Text):
            if not part.text.strip():
                continue
            if part.signature is not None:
                _report_signature(request, part, losses)
        elif isinstance(part, ToolCall | Image) and part.signature is not None:
            _report_signature(request, part, losses)
        out.append(part)
    return out


def _report_signature(request: Request, part: Part, losses: list[Loss]) -> None:
    losses.append(
        Loss(
            path_of(request, part),
            LossCode.SIGNATURE_DROPPED,
            "this wire has no signature on such a part",
        )
    )


def _add_system(
    message: Message,
    rest: tuple[Message, ...],
    turns: list[Turn],
    losses: list[Loss],
    keeps_system: bool,
) -> None:
    if keeps_system and turns and turns[-1].role == "system":
        turns[-1].parts.extend(message.parts)
        return
    if keeps_system and turns and turns[-1].role == "user":
        following = next((m for m in rest if m.role != "system"), None)
        # A turn that holds only reasoning may vanish, and then nothing follows (trap 7).
        if following is None or (following.role == "assistant" and _says_something(following)):
            turns.append(Turn("system", list(message.parts)))
            return
    parts: list[Part] = []
    for part in _without_blank_text(message.parts):
        if isinstance(part, Text):
            part = Text(
                text=f"<system-reminder>\n{part.text}\n</system-reminder>", cache=part.cache
            )
        parts.append(part)
    if parts:
        losses.append(
            Loss("messages", LossCode.MOVED, "a system message in mid-conversation, to a user turn")
        )
        _push(turns, "user", parts)


def _says_something(message: Message) -> bool:
    return any(
        part.text.strip() if isinstance(part, Text) else not isinstance(part, Thinking)
        for part in message.parts
    )


def _answer_open_calls(turns: list[Turn], ids: _Ids, losses: list[Loss]) -> None:
    if not turns or turns[-1].role != "assistant" or not ids.open:
        return
    results: list[Part] = []
    for wire in ids.open:
        losses.append(Loss("messages", LossCode.SYNTHESISED, f"call {wire!r} had no result"))
        results.append(
            ToolResult(call_id=wire, content=(Text(text=MISSING_RESULT),), is_error=True)
        )
    turns.append(Turn("user", results))
