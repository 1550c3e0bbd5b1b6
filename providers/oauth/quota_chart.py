"""A vendor's quota over time, drawn: one line per window. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

WIDTH: Final = 600
HEIGHT: Final = 80
_MOST_POINTS: Final = 200


@dataclass(frozen=True, slots=True)
class Point:
    at: datetime
    percent_used: float


@dataclass(frozen=True, slots=True)
class Line:
    """`path` is what a polyline's `points` takes: 0 % at the bottom, 100 % at the top."""

    name: str
    path: str
    first: Point
    last: Point
    highest: float


def thinned(points: Sequence[Point], most: int = _MOST_POINTS) -> list[Point]:
    """Of each equal stretch the highest, so that no peak is lost; the last one always."""
    if len(points) <= most:
        return list(points)
    step = len(points) / (most - 1)
    stretches = [points[int(i * step) : int((i + 1) * step)] for i in range(most - 1)]
    found = [max(part, key=lambda point: point.percent_used) for part in stretches if part]
    if found[-1] is not points[-1]:
        found.append(points[-1])
    return found


def lines(
    histories: Iterable[tuple[str, Sequence[Point]]], *, now: datetime, within: timedelta
) -> list[Line]:
    """One for each window that was seen at least twice: a single point says no more than its
    figure."""
    began, seconds = now - within, within.total_seconds()
    found = []
    for name, points in histories:
        if len(points) < 2:
            continue
        placed = [
            (
                min(max((point.at - began).total_seconds() / seconds, 0.0), 1.0) * WIDTH,
                HEIGHT * (1 - min(max(point.percent_used, 0.0), 100.0) / 100),
            )
            for point in points
        ]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in placed)
        highest = max(point.percent_used for point in points)
        found.append(Line(name, path, points[0], points[-1], highest))
    return found
