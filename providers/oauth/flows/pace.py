"""When to ask again. Nobody is ever asked before the interval is over. Pure."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

DEFAULT_INTERVAL_SECONDS: Final = 5.0
LONGEST_INTERVAL_SECONDS: Final = 120.0
LONGEST_LIFE_SECONDS: Final = 3_600.0
# RFC 8628, 3.5: by this much at each slow_down, for good.
SLOW_DOWN_SECONDS: Final = 5.0
# For scheduling and the network: GitHub looks at the pace before it looks at the approval, so
# who is always a little early is told to slow down for ever (charmbracelet/crush#3399).
MARGIN_SECONDS: Final = 1.0
LONGEST_REST_SECONDS: Final = 60.0


def interval(told: float | None, default: float = DEFAULT_INTERVAL_SECONDS) -> float:
    """What a server told, within reason; 5 seconds when it told nothing."""
    if told is None or told <= 0:
        told = default
    return min(max(told, 1.0), LONGEST_INTERVAL_SECONDS)


def slower(now_seconds: float, told: float | None) -> float:
    """After a slow_down. What the server tells never makes us faster."""
    return min(max(now_seconds + SLOW_DOWN_SECONDS, told or 0.0), LONGEST_INTERVAL_SECONDS)


def life(told: float | None, default: float) -> float:
    if told is None or told <= 0:
        told = default
    return min(told, LONGEST_LIFE_SECONDS)


def next_poll(
    asked_at: datetime, interval_seconds: float, *, failures: int = 0, least: float | None = None
) -> datetime:
    """Counted from the end of the previous request. `failures` in a row double the pause."""
    seconds = interval_seconds * 2.0 ** min(failures, 6)
    if failures:
        seconds = max(interval_seconds, min(seconds, LONGEST_REST_SECONDS))
    return asked_at + timedelta(seconds=max(seconds, least or 0.0) + MARGIN_SECONDS)
