"""The timeline of a credential as a strip."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from providers.credentials.strip import NOW_AT, WIDTH, strip_of

NOW = datetime(2026, 3, 20, 12, tzinfo=UTC)


@dataclass
class Event:
    hours_ago: float
    kind: str = "state"
    state: str = "active"

    @property
    def at(self) -> datetime:
        return NOW - timedelta(hours=self.hours_ago)

    @property
    def sentence(self) -> str:
        return f"{self.kind} {self.hours_ago:g} hours ago"


@dataclass
class Kept:
    state: str = "active"
    created_at: datetime = NOW - timedelta(days=10)
    expires_at: datetime | None = None
    refresh_at: datetime | None = None


def test_states_are_spans_and_events_are_marks() -> None:
    strip = strip_of(
        Kept(state="needs_login", created_at=NOW - timedelta(hours=100)),
        [
            Event(100, "issued"),
            Event(75, "refreshed"),
            Event(50, "refused", "needs_login"),
            Event(25, "issued"),
        ],
        now=NOW,
    )
    assert [(span.state, span.x, span.width) for span in strip.spans] == [
        ("active", 0, NOW_AT // 2),
        ("needs_login", NOW_AT // 2, NOW_AT // 4),
        ("active", NOW_AT * 3 // 4, NOW_AT // 4),
    ]
    assert [mark.x for mark in strip.marks] == [0, NOW_AT // 4, NOW_AT // 2, NOW_AT * 3 // 4]
    assert [mark.tone for mark in strip.marks] == ["good", "good", "warn", "good"]
    assert strip.happened[0].sentence == "issued 25 hours ago"


def test_what_lies_ahead_is_right_of_now() -> None:
    kept = Kept(expires_at=NOW + timedelta(hours=8), refresh_at=NOW + timedelta(hours=4))
    renewed, ends = strip_of(kept, [], now=NOW).ahead
    assert (renewed.x, ends.x) == ((NOW_AT + WIDTH) // 2, WIDTH)
    assert (renewed.tone, ends.tone) == ("good", "quiet")
    (ends,) = strip_of(Kept(expires_at=NOW + timedelta(days=400)), [], now=NOW).ahead
    assert (ends.x, ends.tone, ends.sentence) == (WIDTH, "bad", "It ends.")
    gone = Kept(expires_at=NOW - timedelta(hours=1), refresh_at=NOW - timedelta(hours=2))
    assert strip_of(gone, [], now=NOW).ahead == ()


def test_without_events_there_is_the_state_of_today() -> None:
    strip = strip_of(Kept(state="disabled"), [], now=NOW)
    assert [(span.state, span.x, span.width) for span in strip.spans] == [("disabled", 0, NOW_AT)]
    assert (strip.marks, strip.happened) == ((), ())


def test_what_came_before_the_window_says_how_it_began() -> None:
    kept = Kept(created_at=NOW - timedelta(days=40))
    strip = strip_of(kept, [Event(30 * 24, "refused", "suspended"), Event(24)], now=NOW)
    assert strip.since == NOW - timedelta(days=14)
    assert [span.state for span in strip.spans] == ["suspended", "active"]
    assert len(strip.marks) == 1


def test_everything_stays_on_the_strip() -> None:
    draw = random.Random(7)
    for _ in range(300):
        ends, renewed = (draw.choice([None, draw.uniform(-100, 10_000)]) for _ in range(2))
        kept = Kept(
            created_at=NOW - timedelta(hours=draw.uniform(-1, 2_000)),
            expires_at=None if ends is None else NOW + timedelta(hours=ends),
            refresh_at=None if renewed is None else NOW + timedelta(hours=renewed),
        )
        ages = sorted((draw.uniform(0, 2_000) for _ in range(draw.randrange(40))), reverse=True)
        events = [
            Event(age, state=draw.choice(["active", "cooling", "needs_login"])) for age in ages
        ]
        strip = strip_of(kept, events, now=NOW)
        for span in strip.spans:
            assert 0 <= span.x <= NOW_AT
            assert 1 <= span.width <= NOW_AT + 1
        for mark in strip.marks:
            assert 0 <= mark.x <= WIDTH
            assert mark.is_ahead == (mark.at > NOW)
        assert [span.x for span in strip.spans] == sorted(span.x for span in strip.spans)
