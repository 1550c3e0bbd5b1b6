"""Who has to rest, and for how long. Values in, values out: `now` is passed in (epoch seconds,
because processes share what stands here).

A place is (provider, credential, model); an empty part means all of them:

    network, 5 in a row              the provider
    401, quota                       the credential
    403, rate, overload, timeout …   this credential with this model

After 5 failures in a row a place rests 30 s (the registration's `cooldown_seconds`), the second
time twice as long, up to 5 minutes; then one request may probe while the others still wait. What a
vendor states itself (Retry-After, a quota's reset) is believed at once. When nothing else is left
a resting place is still asked (see plan.py), but for a used-up quota whose reset is known.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from providers.routing.outcomes import Outcome

Place = tuple[str, str, str]

FAILURES_IN_A_ROW: Final = 5
LONGEST_REST_SECONDS: Final = 300.0
# A rate limit that asks for longer is believed for so long, then probed.
LONGEST_RATE_SECONDS: Final = 300.0
LONGEST_QUOTA_SECONDS: Final = 7 * 86_400.0
REFUSED_SECONDS: Final = 300.0
# A probe that never came back must not keep a place shut.
PROBE_SECONDS: Final = 120.0
MOST_PLACES: Final = 20_000

_COUNTED: Final = frozenset(
    {
        Outcome.OVERLOAD,
        Outcome.NETWORK,
        Outcome.BROKEN,
        Outcome.TIMEOUT,
        Outcome.PROTOCOL,
        Outcome.RATE,
        Outcome.UNAVAILABLE,
    }
)


class Rest(msgspec.Struct, kw_only=True):
    """`until` in epoch seconds. `is_shut`: out even as the last one. `times` = how often in a row
    it had to rest."""

    until: float
    since: float
    outcome: str
    is_shut: bool = False
    times: int = 1
    probe_until: float = 0.0

    def is_over(self, now: float) -> bool:
        """One request may try; nobody is trying yet."""
        return self.until <= now and self.probe_until <= now


class Cooldowns:
    """What one process knows. `changed` collects places that other processes should hear of."""

    def __init__(self) -> None:
        self.rests: dict[Place, Rest] = {}
        self.changed: set[Place] = set()
        self._failures: dict[Place, int] = {}
        self._resting_providers: dict[str, int] = {}

    def is_quiet(self, provider_id: str) -> bool:
        """Nothing of this provider rests: the usual case, cheaply."""
        return provider_id not in self._resting_providers

    def resting(self, provider_id: str, credential_id: str, model: str, now: float) -> Rest | None:
        """The rest that keeps this place from being used now; the longest of those that do."""
        found: Rest | None = None
        for place in _places(provider_id, credential_id, model):
            rest = self.rests.get(place)
            if rest is None or rest.is_over(now):
                continue
            if found is None or rest.until > found.until:
                found = rest
        return found

    def admit(self, provider_id: str, credential_id: str, model: str, now: float) -> bool:
        """Before an attempt. Where a rest has just ended, the first caller becomes its probe and
        the others are told False."""
        if self.is_quiet(provider_id):
            return True
        over = [
            rest
            for place in _places(provider_id, credential_id, model)
            if (rest := self.rests.get(place)) is not None and rest.until <= now
        ]
        if any(rest.probe_until > now for rest in over):
            return False
        for rest in over:
            rest.probe_until = now + PROBE_SECONDS
        return True

    def succeeded(
        self, provider_id: str, credential_id: str, model: str, *, is_whole: bool = True
    ) -> None:
        """Ends its rests. With `is_whole` False (a first byte) failures still count on: a provider
        that breaks off every answer is no better than one that gives none."""
        if not self._failures and not self.rests:
            return
        for place in _places(provider_id, credential_id, model):
            if is_whole:
                self._failures.pop(place, None)
            self._end(place)

    def given_up(self, provider_id: str, credential_id: str, model: str) -> None:
        """The attempt ended without saying anything of the provider: a probe is free again."""
        for place in _places(provider_id, credential_id, model):
            rest = self.rests.get(place)
            if rest is not None:
                rest.probe_until = 0.0

    def failed(
        self,
        provider_id: str,
        credential_id: str,
        model: str,
        *,
        outcome: Outcome,
        now: float,
        cooldown_seconds: float,
        retry_after_seconds: float | None = None,
        is_forced: bool = False,
    ) -> Rest | None:
        """The rest that this failure began or prolonged. `is_forced`: a rule says so, at once."""
        place = _place(outcome, provider_id, credential_id, model)
        known = self.rests.get(place)
        if cooldown_seconds <= 0:
            self.given_up(provider_id, credential_id, model)
            return None
        if retry_after_seconds is not None and retry_after_seconds > 0:
            longest = LONGEST_QUOTA_SECONDS if outcome is Outcome.QUOTA else LONGEST_RATE_SECONDS
            seconds = min(retry_after_seconds, longest)
            is_shut = outcome is Outcome.QUOTA
            return self._begin(place, outcome, now, seconds, is_shut=is_shut, known=known)
        if outcome in (Outcome.AUTH, Outcome.FORBIDDEN):
            return self._begin(place, outcome, now, REFUSED_SECONDS, known=known)
        if outcome not in _COUNTED and outcome is not Outcome.QUOTA and not is_forced:
            self.given_up(provider_id, credential_id, model)
            return None
        count = self._failures.get(place, 0) + 1
        # A failed probe needs no five more, and a used-up quota none at all.
        is_at_once = known is not None or is_forced or outcome is Outcome.QUOTA
        if not is_at_once and count < FAILURES_IN_A_ROW:
            if len(self._failures) >= MOST_PLACES:
                self._failures.clear()
            self._failures[place] = count
            return None
        if known is not None and known.until > now:
            # It rests already and is only tried because nothing else is left.
            return known
        times = known.times + 1 if known is not None else 1
        seconds = min(cooldown_seconds * times, max(LONGEST_REST_SECONDS, cooldown_seconds))
        return self._begin(place, outcome, now, seconds, known=known)

    def reset(self, places: Iterable[Place]) -> None:
        for place in list(places):
            self._failures.pop(place, None)
            self._end(place)

    def untold(self) -> dict[Place, Rest | None]:
        """What other processes have not heard of yet. None = rests no more."""
        return {place: self.rests.get(place) for place in self.changed}

    def told(self, sent: Mapping[Place, Rest | None]) -> None:
        """They have heard this; what changed since is still to be told."""
        for place, rest in sent.items():
            if self.rests.get(place) is rest:
                self.changed.discard(place)

    def adopt(self, shared: Mapping[Place, Rest]) -> None:
        """What all processes know together takes the place of what this one knew; of its own it
        keeps what the others have not heard yet."""
        for place in [place for place in self.rests if place not in shared]:
            if place not in self.changed:
                self._failures.pop(place, None)
                self._end(place, tell=False)
        for place, rest in shared.items():
            own = self.rests.get(place)
            if place in self.changed or (own is not None and own.until >= rest.until):
                continue
            self._put(place, rest)

    def _begin(
        self,
        place: Place,
        outcome: Outcome,
        now: float,
        seconds: float,
        *,
        is_shut: bool = False,
        known: Rest | None,
    ) -> Rest:
        rest = Rest(
            until=now + seconds,
            since=known.since if known is not None else now,
            outcome=outcome.value,
            is_shut=is_shut,
            times=known.times + 1 if known is not None else 1,
        )
        self._failures.pop(place, None)
        self._put(place, rest)
        self.changed.add(place)
        return rest

    def _put(self, place: Place, rest: Rest) -> None:
        if place not in self.rests:
            if len(self.rests) >= MOST_PLACES:
                self._end(next(iter(self.rests)), tell=False)
            self._resting_providers[place[0]] = self._resting_providers.get(place[0], 0) + 1
        self.rests[place] = rest

    def _end(self, place: Place, *, tell: bool = True) -> None:
        if self.rests.pop(place, None) is None:
            return
        left = self._resting_providers[place[0]] - 1
        if left:
            self._resting_providers[place[0]] = left
        else:
            del self._resting_providers[place[0]]
        if tell:
            self.changed.add(place)


def _places(provider_id: str, credential_id: str, model: str) -> tuple[Place, Place, Place]:
    return (
        (provider_id, "", ""),
        (provider_id, credential_id, ""),
        (provider_id, credential_id, model),
    )


def _place(outcome: Outcome, provider_id: str, credential_id: str, model: str) -> Place:
    match outcome:
        case Outcome.NETWORK:
            return (provider_id, "", "")
        case Outcome.AUTH | Outcome.QUOTA | Outcome.UNAVAILABLE:
            return (provider_id, credential_id, "")
        case _:
            return (provider_id, credential_id, model)
