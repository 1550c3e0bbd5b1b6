"""Pure: the timeline of a credential as a strip. Spans of states up to now, marks for what
happened, and ahead of now when it is renewed and when it ends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Protocol

from controlplane.kit.badges import Tone

# In the strip's own units; the page scales it.
WIDTH: Final = 720
# What lies ahead takes the right part.
NOW_AT: Final = 560
_SHORTEST: Final = timedelta(hours=1)
_LONGEST: Final = timedelta(days=14)
_AHEAD_SHORTEST: Final = timedelta(hours=1)
_AHEAD_LONGEST: Final = timedelta(days=30)

_TONES: Final = {
    "active": Tone.GOOD,
    "expiring": Tone.WARN,
    "refreshing": Tone.INFO,
    "cooling": Tone.WARN,
    "needs_login": Tone.BAD,
    "no_entitlement": Tone.BAD,
    "suspended": Tone.BAD,
}
_MARKS: Final = {
    "issued": Tone.GOOD,
    "refreshed": Tone.GOOD,
    "state": Tone.INFO,
}


class Happened(Protocol):
    """A row of the timeline."""

    @property
    def at(self) -> datetime: ...
    @property
    def kind(self) -> str: ...
    @property
    def state(self) -> str: ...
    @property
    def sentence(self) -> str: ...


class Kept(Protocol):
    """What a credential says of itself."""

    @property
    def state(self) -> str: ...
    @property
    def created_at(self) -> datetime: ...
    @property
    def expires_at(self) -> datetime | None: ...
    @property
    def refresh_at(self) -> datetime | None: ...


class _Place(Protocol):
    def __call__(self, at: datetime, /) -> int: ...


@dataclass(frozen=True, slots=True)
class Span:
    x: int
    width: int
    tone: Tone
    state: str
    since: datetime


@dataclass(frozen=True, slots=True)
class Mark:
    """`is_ahead`: it has not happened yet."""

    x: int
    tone: Tone
    at: datetime
    sentence: str
    is_ahead: bool = False


@dataclass(frozen=True, slots=True)
class Strip:
    since: datetime
    until: datetime
    spans: tuple[Span, ...]
    marks: tuple[Mark, ...]
    width: int = WIDTH
    now_at: int = NOW_AT

    @property
    def ahead_width(self) -> int:
        return self.width - self.now_at

    @property
    def happened(self) -> tuple[Mark, ...]:
        """The newest first, as people read a list."""
        return tuple(mark for mark in reversed(self.marks) if not mark.is_ahead)

    @property
    def ahead(self) -> tuple[Mark, ...]:
        return tuple(mark for mark in self.marks if mark.is_ahead)


def strip_of(credential: Kept, events: Sequence[Happened], *, now: datetime) -> Strip:
    """`events` oldest first."""
    first = min([credential.created_at, *(event.at for event in events)])
    since = min(max(first, now - _LONGEST), now - _SHORTEST)
    shown = [event for event in events if since <= event.at <= now]
    before = [event for event in events if event.at < since]
    ahead = _ahead(credential, now)
    last = max([now + _AHEAD_SHORTEST, *(at for at, _, _ in ahead)])
    until = min(last, now + _AHEAD_LONGEST)

    def x(at: datetime) -> int:
        if at <= now:
            return max(0, round((at - since) / (now - since) * NOW_AT))
        return NOW_AT + round((min(at, until) - now) / (until - now) * (WIDTH - NOW_AT))

    marks = [
        Mark(x(event.at), _MARKS.get(event.kind, Tone.WARN), event.at, event.sentence)
        for event in shown
    ]
    marks += [Mark(x(at), tone, at, words, is_ahead=True) for at, tone, words in ahead]
    return Strip(
        since=since,
        until=until,
        spans=tuple(_spans(credential, before, shown, since, now, x)),
        marks=tuple(marks),
    )


def _spans(
    credential: Kept,
    before: Sequence[Happened],
    shown: Sequence[Happened],
    since: datetime,
    now: datetime,
    x: _Place,
) -> list[Span]:
    """One for each stretch in one state. What no event tells of has the state of today."""
    began = max(since, credential.created_at)
    state = before[-1].state if before else (shown[0].state if shown else credential.state)
    spans: list[tuple[datetime, str]] = [(began, state or credential.state)]
    for event in shown:
        if event.state and event.state != spans[-1][1]:
            spans.append((max(event.at, began), event.state))
    ends = [at for at, _ in spans[1:]] + [now]
    return [
        Span(x(at), max(1, x(end) - x(at)), _TONES.get(state, Tone.QUIET), state, at)
        for (at, state), end in zip(spans, ends, strict=True)
    ]


def _ahead(credential: Kept, now: datetime) -> list[tuple[datetime, Tone, str]]:
    found: list[tuple[datetime, Tone, str]] = []
    renewed, ends = credential.refresh_at, credential.expires_at
    if renewed is not None and renewed > now:
        found.append((renewed, Tone.GOOD, "It is renewed by itself."))
    if ends is not None and ends > now:
        tone = Tone.QUIET if renewed is not None else Tone.BAD
        words = "It ends, unless it is renewed before." if renewed is not None else "It ends."
        found.append((ends, tone, words))
    return sorted(found, key=lambda one: one[0])
