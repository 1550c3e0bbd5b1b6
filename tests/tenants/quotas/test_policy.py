"""Which bucket a moment falls into, in whose calendar."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from tenants.quotas.policy import NEVER, Period, Window, bounds, crossed, has_room, slot_at


def epoch(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


@pytest.mark.parametrize(
    ("period", "zone", "day", "now", "start", "end"),
    [
        ("minute", "UTC", 1, "2026-03-05T10:20:59Z", "2026-03-05T10:20Z", "2026-03-05T10:21Z"),
        ("hour", "UTC", 1, "2026-03-05T10:20Z", "2026-03-05T10:00Z", "2026-03-05T11:00Z"),
        ("day", "Asia/Tokyo", 1, "2026-03-05T16:00Z", "2026-03-05T15:00Z", "2026-03-06T15:00Z"),
        # Clocks go forward: a day of 23 hours.
        ("day", "Europe/Berlin", 1, "2026-03-29T12:00Z", "2026-03-28T23:00Z", "2026-03-29T22:00Z"),
        # And back: one of 25.
        ("day", "Europe/Berlin", 1, "2026-10-25T12:00Z", "2026-10-24T22:00Z", "2026-10-25T23:00Z"),
        ("week", "UTC", 1, "2026-03-08T23:59Z", "2026-03-02T00:00Z", "2026-03-09T00:00Z"),
        ("month", "UTC", 1, "2026-02-28T12:00Z", "2026-02-01T00:00Z", "2026-03-01T00:00Z"),
        ("month", "UTC", 1, "2026-12-31T23:59Z", "2026-12-01T00:00Z", "2027-01-01T00:00Z"),
        ("month", "UTC", 15, "2026-03-14T23:59Z", "2026-02-15T00:00Z", "2026-03-15T00:00Z"),
        ("month", "UTC", 15, "2026-01-02T00:00Z", "2025-12-15T00:00Z", "2026-01-15T00:00Z"),
        ("month", "UTC", 28, "2026-02-28T00:00Z", "2026-02-28T00:00Z", "2026-03-28T00:00Z"),
    ],
)
def test_calendar_periods(period: str, zone: str, day: int, now: str, start: str, end: str) -> None:
    assert bounds(Period(period), epoch(now), zone, day) == (epoch(start), epoch(end))


@pytest.mark.parametrize("zone", ["UTC", "Asia/Kathmandu", "America/St_Johns", "Pacific/Apia"])
@pytest.mark.parametrize("period", [Period.DAY, Period.WEEK, Period.MONTH])
def test_periods_follow_each_other_without_gap(period: Period, zone: str) -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC).timestamp()
    for _ in range(60):
        start, end = bounds(period, now, zone)
        assert start <= now < end
        assert bounds(period, end - 1, zone) == (start, end)
        now = end


def test_a_total_never_starts_anew() -> None:
    slot = slot_at(Period.TOTAL, Window.CALENDAR, 1e9)
    assert (slot.bucket, slot.resets_at) == ("all", NEVER)


def test_a_rolling_window_covers_its_period_at_least() -> None:
    for now in (1_000_000.0, 1_000_004.9, 1_000_005.0):
        slot = slot_at(Period.MINUTE, Window.ROLLING, now)
        assert len(slot.buckets) == 13
        assert slot.buckets[-1] == slot.bucket
        oldest = int(slot.buckets[0][1:]) * 5
        assert oldest <= now - 60


@pytest.mark.parametrize(
    ("used", "amount", "cap", "fits"),
    [(0, 1, 1, True), (1, 1, 1, False), (0, 0, 0, False), (0, 0, 1, True), (1, 0, 1, False)],
)
def test_room(used: int, amount: int, cap: int, fits: bool) -> None:
    assert has_room(used, amount, cap) is fits


def test_thresholds() -> None:
    assert crossed(49, 100, (50, 80, 100)) == []
    assert crossed(80, 100, (50, 80, 100)) == [50, 80]
    assert crossed(0, 0, (50, 80, 100)) == []
