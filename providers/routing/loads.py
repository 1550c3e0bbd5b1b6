"""How busy and how fast targets and credentials are, as this process sees it."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Final, Generic, TypeVar

from providers.routing.table import CredentialRef, Target

# A new figure weighs this much against what was known: the last ten or so decide.
_FRESH: Final = 0.2
# What nobody measured for so long is no longer known, and is tried again.
KNOWN_SECONDS: Final = 300.0
MOST_TARGETS: Final = 50_000


class Loads:
    """Of targets by their place, and of credentials by their id where there are several."""

    __slots__ = ("_clock", "_keys", "_targets")

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._targets: _Gauges[tuple[str, str]] = _Gauges()
        self._keys: _Gauges[str] = _Gauges()

    def running(self, target: Target) -> int:
        return self._targets.running.get(target.place, 0)

    def running_by(self, credential_id: str) -> int:
        return self._keys.running.get(credential_id, 0)

    def running_in_all(self) -> int:
        return sum(self._targets.running.values()) + sum(self._keys.running.values())

    def first_token_seconds(self, target: Target) -> float:
        return self._targets.first_token_seconds(target.place, self._clock())

    def first_token_seconds_by(self, credential_id: str) -> float:
        return self._keys.first_token_seconds(credential_id, self._clock())

    def began(self, target: Target, credential: CredentialRef | None = None) -> None:
        self._targets.began(target.place)
        if credential is not None:
            self._keys.began(credential.id)

    def ended(self, target: Target, credential: CredentialRef | None = None) -> None:
        self._targets.ended(target.place)
        if credential is not None:
            self._keys.ended(credential.id)

    def first_token(
        self, target: Target, seconds: float, credential: CredentialRef | None = None
    ) -> None:
        now = self._clock()
        self._targets.first_token(target.place, seconds, now)
        if credential is not None:
            self._keys.first_token(credential.id, seconds, now)


Name = TypeVar("Name", bound=Hashable)


class _Gauges(Generic[Name]):
    __slots__ = ("_first_tokens", "running")

    def __init__(self) -> None:
        self.running: dict[Name, int] = {}
        self._first_tokens: dict[Name, tuple[float, float]] = {}

    def began(self, name: Name) -> None:
        self.running[name] = self.running.get(name, 0) + 1

    def ended(self, name: Name) -> None:
        left = self.running.get(name, 0) - 1
        if left > 0:
            self.running[name] = left
        else:
            self.running.pop(name, None)

    def first_token_seconds(self, name: Name, now: float) -> float:
        known = self._first_tokens.get(name)
        if known is None or now - known[1] > KNOWN_SECONDS:
            return 0.0
        return known[0]

    def first_token(self, name: Name, seconds: float, now: float) -> None:
        """A decayed median: a step towards each new figure, bounded so that one outlier does not
        move it far."""
        known = self.first_token_seconds(name, now)
        if known:
            seconds = known + _FRESH * max(-known, min(seconds - known, known))
        elif len(self._first_tokens) >= MOST_TARGETS:
            self._first_tokens.clear()
        self._first_tokens[name] = (seconds, now)
