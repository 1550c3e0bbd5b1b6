"""The grammar of events that every decoder keeps, whatever bytes it was given (13.2)."""

from __future__ import annotations

from typing import Final

from providers.protocols.canonical import (
    ArgumentsDelta,
    BlockEnd,
    BlockStart,
    CitationDelta,
    End,
    Event,
    Failed,
    Finish,
    KeepAlive,
    Refusal,
    SignatureDelta,
    Start,
    Text,
    TextDelta,
    Thinking,
    ThinkingDelta,
    ToolCall,
    UsageUpdate,
)

_TAKES: Final[dict[type, tuple[type, ...]]] = {
    TextDelta: (Text, Refusal),
    CitationDelta: (Text, Refusal),
    ThinkingDelta: (Thinking,),
    ArgumentsDelta: (ToolCall,),
    SignatureDelta: (Text, Thinking, ToolCall),
}


def check_grammar(events: list[Event]) -> None:
    """Start first; a block begins once, takes its deltas while it is open, and ends before its
    choice finishes; one Finish per choice; End or Failed last, and only there. A broken answer
    may leave blocks open. Figures are never negative."""
    assert events
    assert isinstance(events[-1], End | Failed)
    is_whole = isinstance(events[-1], End)
    is_started = False
    kinds: dict[int, type] = {}
    opened: dict[int, int] = {}
    finished: set[int] = set()
    for event in events[:-1]:
        match event:
            case End() | Failed():
                raise AssertionError("something follows the end")
            case KeepAlive():
                continue
            case Start():
                assert not is_started, "Start comes first, and once"
            case BlockStart():
                assert event.index not in kinds, "an index is never used again"
                assert event.choice not in finished, "nothing begins after Finish"
                kinds[event.index] = type(event.block)
                opened[event.index] = event.choice
            case BlockEnd():
                assert event.index in opened, "only open blocks end"
                del opened[event.index]
            case TextDelta() | CitationDelta() | ThinkingDelta() | ArgumentsDelta():
                _check_delta(event, kinds, opened)
            case SignatureDelta():
                _check_delta(event, kinds, opened)
                assert event.signature.value
            case Finish():
                assert event.choice not in finished, "one Finish per choice"
                assert event.choice not in opened.values(), "blocks end before Finish"
                finished.add(event.choice)
            case UsageUpdate():
                usage = event.usage
                assert min(usage.input, usage.cache_read, usage.cache_write, usage.output) >= 0
                assert usage.cache_write_1h <= usage.cache_write
            case _:
                pass
        is_started = True
    if is_whole:
        assert not opened, "a whole answer leaves no block open"
        assert finished, "a whole answer says why it ended"


def _check_delta(
    event: TextDelta | CitationDelta | ThinkingDelta | ArgumentsDelta | SignatureDelta,
    kinds: dict[int, type],
    opened: dict[int, int],
) -> None:
    assert event.index in opened, "only open blocks grow"
    assert opened[event.index] == event.choice, "a block belongs to one choice"
    assert issubclass(kinds[event.index], _TAKES[type(event)]), "of its own kind"
