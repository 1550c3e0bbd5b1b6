"""A quota's history as a line: nothing invented, no peak lost."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from providers.oauth.quota_chart import HEIGHT, WIDTH, Point, lines, thinned

NOW = datetime(2026, 11, 20, tzinfo=UTC)
DAY = timedelta(days=1)


def points(*percents: float) -> list[Point]:
    first = NOW - DAY
    return [Point(first + i * DAY / len(percents), each) for i, each in enumerate(percents)]


def test_the_highest_and_the_last_survive_thinning() -> None:
    many = points(*(0.0 for _ in range(999)), 5.0)
    many[500] = Point(many[500].at, 97.0)
    found = thinned(many, most=50)
    assert len(found) <= 50
    assert max(point.percent_used for point in found) == 97.0
    assert found[-1] is many[-1]
    assert [point.at for point in found] == sorted(point.at for point in found)
    assert thinned(many[:3], most=50) == many[:3]


def test_a_line_stays_in_its_frame() -> None:
    odd = [Point(NOW - 5 * DAY, -3.0), Point(NOW, 250.0)]
    [line] = lines([("odd", odd)], now=NOW, within=DAY)
    assert line.path == f"0.0,{HEIGHT:.1f} {WIDTH:.1f},0.0"


def test_one_point_is_no_history() -> None:
    assert lines([("once", points(5.0)), ("never", [])], now=NOW, within=DAY) == []
