"""Events as Responses streams them; the complete answer is what the last event holds.

Written from the vendor's grammar, not with our own codec: Azure and Codex bend it in ways that
our callers never see (wire-protocols 3.4, 4 and 5).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from controlplane.kit.json import JSONDict
from providers.protocols.canonical import (
    ArgumentsDelta,
    Base64,
    BlockEnd,
    BlockStart,
    CitationDelta,
    Event,
    Finish,
    Image,
    LogprobsDelta,
    Refusal,
    SignatureDelta,
    Text,
    TextDelta,
    Thinking,
    ThinkingDelta,
    ToolCall,
    Usage,
    UsageUpdate,
)
from providers.simulator.asked import Ask
from providers.simulator.wire.responses_items import (
    CallItem,
    Item,
    MessageItem,
    PictureItem,
    ReasoningItem,
    Tape,
)

ENCRYPTED: Final = "reasoning.encrypted_content"
_INCOMPLETE: Final = {"length": "max_output_tokens", "content_filter": "content_filter"}
# What the answer repeats of the request, and what it says where the request was silent.
_ECHOED: Final[JSONDict] = {
    "background": False,
    "instructions": None,
    "max_output_tokens": None,
    "max_tool_calls": None,
    "parallel_tool_calls": True,
    "previous_response_id": None,
    "prompt_cache_key": None,
    "reasoning": {"effort": None, "summary": None},
    "safety_identifier": None,
    "service_tier": "default",
    "store": True,
    "temperature": 1.0,
    "text": {"format": {"type": "text"}, "verbosity": "medium"},
    "tool_choice": "auto",
    "tools": [],
    "top_logprobs": 0,
    "top_p": 1.0,
    "truncation": "disabled",
    "user": None,
    "metadata": {},
}


@dataclass(frozen=True, slots=True)
class Manner:
    """How one vendor's stream departs from the rule."""

    # Text may come before its part is announced; proofs only with the whole answer (Azure).
    is_late: bool = False
    # The last event's response holds no output, and no blank line ends it; it may also be called
    # `response.done` (Codex).
    is_terse: bool = False


PLAIN: Final = Manner()


def stream(
    ask: Ask, body: JSONDict, events: list[Event], manner: Manner = PLAIN
) -> Iterator[bytes]:
    """One piece per event of the vendor."""
    answer = _Answer(ask, body, manner)
    begun = answer.response("in_progress", [])
    yield answer.tape.emit("response.created", response=begun)
    yield answer.tape.emit("response.in_progress", response=begun)
    yield from answer.play(events)
    final = answer.finished()
    if ask.on_answer is not None:
        ask.on_answer(final)
    name = f"response.{final['status']}"
    if not manner.is_terse:
        yield answer.tape.emit(name, response=final)
        return
    if "done" in ask.options:
        name = "response.done"
    yield answer.tape.emit(name, response={**final, "output": []}).rstrip(b"\n")


def whole(ask: Ask, body: JSONDict, events: list[Event]) -> JSONDict:
    answer = _Answer(ask, body, PLAIN)
    for _ in answer.play(events):
        pass
    final = answer.finished()
    if ask.on_answer is not None:
        ask.on_answer(final)
    return final


class _Answer:
    """State of one answer on its way out."""

    def __init__(self, ask: Ask, body: JSONDict, manner: Manner) -> None:
        self.tape = Tape()
        self._ask = ask
        self._body = body
        self._manner = manner
        self._open: dict[int, Item] = {}
        self._items: list[Item] = []
        self._finish = Finish("stop")
        self._usage = Usage()
        self._shows_proofs = ENCRYPTED in (body.get("include") or ())
        reasoning = body.get("reasoning") or {}
        # Summaries are shown when asked for; a script that thinks unasked shows them too.
        self._shows_words = not reasoning or bool(
            reasoning.get("summary") or reasoning.get("generate_summary")
        )

    def play(self, events: list[Event]) -> Iterator[bytes]:
        finish = next((event for event in events if type(event) is Finish), self._finish)
        self._finish = finish
        status = "incomplete" if finish.reason in _INCOMPLETE else "completed"
        opened = self._open
        for position, event in enumerate(events):
            kind = type(event)
            if kind is TextDelta or kind is ThinkingDelta:
                item = opened[event.index]  # type: ignore[union-attr]
                after = events[position + 1]
                if type(after) is LogprobsDelta and isinstance(item, MessageItem):
                    yield from item.add_with_logprobs(event.text, after.content)  # type: ignore[union-attr]
                else:
                    yield from item.add(event.text)  # type: ignore[union-attr]
            elif isinstance(event, ArgumentsDelta):
                yield from opened[event.index].add(event.fragment)
            elif isinstance(event, BlockStart):
                yield from self._begin(event)
            elif isinstance(event, BlockEnd):
                yield from opened.pop(event.index).end(status)
            elif isinstance(event, SignatureDelta):
                reasoning = opened[event.index]
                if isinstance(reasoning, ReasoningItem):
                    reasoning.proof = event.signature.value
            elif isinstance(event, CitationDelta):
                message = opened[event.index]
                if isinstance(message, MessageItem):
                    yield from message.cite(event.citation)
            elif isinstance(event, UsageUpdate):
                self._usage = event.usage

    def _begin(self, event: BlockStart) -> Iterator[bytes]:
        item = self._item(event.block)
        self._items.append(item)
        self._open[event.index] = item
        yield from item.begin()

    def _item(self, block: object) -> Item:
        index, late = len(self._items), self._manner.is_late
        id_ = f"{self._ask.id}{index:04x}"
        match block:
            case Text() | Refusal():
                is_refusal = isinstance(block, Refusal)
                return MessageItem(self.tape, index, id_, is_refusal=is_refusal, is_late=late)
            case Thinking():
                item = ReasoningItem(
                    self.tape,
                    index,
                    id_,
                    shows_words=self._shows_words,
                    shows_proof=self._shows_proofs,
                    is_late=late,
                )
                item.proof = block.signature.value if block.signature is not None else ""
                return item
            case ToolCall():
                return CallItem(self.tape, index, id_, block)
            case Image(source=Base64(data=data)):
                return PictureItem(self.tape, index, id_, data)
            case _:
                raise TypeError(f"no scenario makes a {type(block).__name__} for Responses")

    # --- the response around the items ---

    def finished(self) -> JSONDict:
        reason = _INCOMPLETE.get(self._finish.reason)
        status = "completed" if reason is None else "incomplete"
        response = self.response(status, [item.value(status) for item in self._items])
        response["usage"] = _usage(self._usage)
        if reason is not None:
            response["incomplete_details"] = {"reason": reason}
        else:
            response["completed_at"] = self._ask.created
        return response

    def response(self, status: str, output: list[JSONDict]) -> JSONDict:
        body = self._body
        echoed = {
            name: silent if body.get(name) is None else body[name]
            for name, silent in _ECHOED.items()
        }
        if "format" not in echoed["text"]:
            echoed["text"] = {"format": {"type": "text"}, **echoed["text"]}
        if echoed["service_tier"] == "auto":
            echoed["service_tier"] = "default"
        return {
            "id": f"resp_{self._ask.id}",
            "object": "response",
            "created_at": self._ask.created,
            "status": status,
            "error": None,
            "incomplete_details": None,
            "model": self._ask.model,
            "output": output,
            "usage": None,
            **echoed,
        }


def _usage(usage: Usage) -> JSONDict:
    """The two `details` are always there: typed clients require them."""
    return {
        "input_tokens": usage.prompt,
        "input_tokens_details": {
            "cached_tokens": usage.cache_read,
            "cache_write_tokens": usage.cache_write,
        },
        "output_tokens": usage.output,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning},
        "total_tokens": usage.total,
    }
