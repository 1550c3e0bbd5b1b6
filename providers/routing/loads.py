"""How busy and how fast each target is, as this process sees it. `now` is passed in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from providers.routing.table import Target

# A new figure weighs this much against what was known: the last ten or so decide.
_FRESH: Final = 0.2
# What nobody measured for so long is no longer known, and is tried again.
KNOWN_SECONDS: Final = 300.0
MOST_TARGETS: Final = 50_000

Place = tuple[str, str]


class Loads:
    __slots__ = ("_clock", "_first_tokens", "_running")

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._running: dict[Place, int] = {}
        self._first_tokens: dict[Place, tuple[float, float]] = {}

    def running(self, target: Target) -> int:
        return self._running.get(target.place, 0)

    def running_in_all(self) -> int:
        return sum(self._running.values())

    def first_token_seconds(self, target: Target) -> float:
        known = self._first_tokens.get(target.place)
        if known is None or self._clock() - known[1] > KNOWN_SECONDS:
            return 0.0
        return known[0]

    def began(self, target: Target) -> None:
        place = target.place
        self._running[place] = self._running.get(place, 0) + 1

    def ended(self, target: Target) -> None:
        place = target.place
        left = self._running.get(place, 0) - 1
        if left > 0:
            self._running[place] = left
        else:
            self._running.pop(place, None)

    def first_token(self, target: Target, seconds: float) -> None:
        """A decayed median: a step towards each new figure, bounded so that one outlier does not
        move it far."""
        place, now = target.place, self._clock()
        known = self.first_token_seconds(target)
        if known:
            seconds = known + _FRESH * max(-known, min(seconds - known, known))
        elif len(self._first_tokens) >= MOST_TARGETS:
            self._first_tokens.clear()
        self._first_tokens[place] = (seconds, now)
