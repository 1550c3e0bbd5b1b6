"""What to try after a failure, and how often. Pure.

    outcome             next
    auth, quota, rate   another credential, else another provider
    overload, broken,   another provider
      timeout, protocol
    network             another provider, else the same once more: nothing was sent
    missing             another provider: this one does not have the model
    overflow            a target with a larger window
    refused, filtered   stop: it stays refused everywhere
    unsuited            the same without what was refused, else another provider
    inexpressible       another protocol: nothing was sent
    limited             another credential or provider: the limit is ours
    expired             stop: the time for the whole request is over

What operators say of a provider's error answers (ErrorRule) comes before the table.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from enum import StrEnum
from typing import Final

from providers.routing.outcomes import Outcome
from providers.routing.plan import Candidate
from providers.routing.table import CredentialRef, ErrorRule, Target


class Step(StrEnum):
    NEXT_CREDENTIAL = "next_credential"
    NEXT_PROVIDER = "next_provider"
    LARGER_WINDOW = "larger_window"
    OTHER_PROTOCOL = "other_protocol"
    STOP = "stop"


_STEPS: Final[dict[Outcome, Step]] = {
    Outcome.OK: Step.STOP,
    Outcome.UNAVAILABLE: Step.NEXT_CREDENTIAL,
    Outcome.AUTH: Step.NEXT_CREDENTIAL,
    Outcome.FORBIDDEN: Step.NEXT_CREDENTIAL,
    Outcome.QUOTA: Step.NEXT_CREDENTIAL,
    Outcome.RATE: Step.NEXT_CREDENTIAL,
    Outcome.OVERLOAD: Step.NEXT_PROVIDER,
    Outcome.NETWORK: Step.NEXT_PROVIDER,
    Outcome.BROKEN: Step.NEXT_PROVIDER,
    Outcome.TIMEOUT: Step.NEXT_PROVIDER,
    Outcome.PROTOCOL: Step.NEXT_PROVIDER,
    Outcome.MISSING: Step.NEXT_PROVIDER,
    Outcome.OVERFLOW: Step.LARGER_WINDOW,
    Outcome.REFUSED: Step.STOP,
    Outcome.FILTERED: Step.STOP,
    Outcome.UNSUITED: Step.NEXT_PROVIDER,
    Outcome.INEXPRESSIBLE: Step.OTHER_PROTOCOL,
    Outcome.LIMITED: Step.NEXT_CREDENTIAL,
    Outcome.CANCELLED: Step.STOP,
    Outcome.EXPIRED: Step.STOP,
}


def step_after(outcome: Outcome, rule: ErrorRule | None = None) -> Step:
    match rule.action if rule is not None else None:
        case "stop":
            return Step.STOP
        case "continue" | "cooldown":
            step = _STEPS[outcome]
            return Step.NEXT_PROVIDER if step is Step.STOP else step
        case _:
            return _STEPS[outcome]


class Course:
    """Walks a plan: each pair of target and credential at most once, and where the network failed
    and nothing else is left, the same pair once more."""

    __slots__ = ("_has_repeated", "_left", "_untouched")

    def __init__(self, candidates: Iterable[Candidate]) -> None:
        # Most requests need the first pair alone: the others are laid out when one is missed.
        self._untouched = iter(candidates)
        self._left: deque[tuple[Target, CredentialRef | None]] = deque()
        self._has_repeated = False

    def first(self) -> tuple[Target, CredentialRef | None] | None:
        while not self._left:
            candidate = next(self._untouched, None)
            if candidate is None:
                return None
            self._left.extend(_pairs(candidate))
        return self._left.popleft()

    def after(
        self,
        step: Step,
        tried: tuple[Target, CredentialRef | None],
        outcome: Outcome = Outcome.OVERLOAD,
    ) -> tuple[Target, CredentialRef | None] | None:
        """None = nothing is left to try."""
        target = tried[0]
        for candidate in self._untouched:
            self._left.extend(_pairs(candidate))
        match step:
            case Step.STOP:
                return None
            case Step.NEXT_CREDENTIAL:
                # They stand in order: those of the same target come first.
                return self.first()
            case Step.NEXT_PROVIDER:
                provider = target.endpoint.provider_id
                found = self._take(lambda other: other.endpoint.provider_id != provider)
                found = found or self._take(lambda other: other.spec.id != target.spec.id)
                if found is None and outcome is not Outcome.NETWORK:
                    return self.first()
                return found or self.first() or self._again(tried)
            case Step.LARGER_WINDOW:
                window = target.spec.context_window
                return self._take(lambda other: other.spec.context_window > window)
            case Step.OTHER_PROTOCOL:
                protocol = target.spec.protocol
                return self._take(lambda other: other.spec.protocol != protocol)

    def _take(self, suits: Callable[[Target], bool]) -> tuple[Target, CredentialRef | None] | None:
        for place, pair in enumerate(self._left):
            if suits(pair[0]):
                del self._left[place]
                return pair
        return None

    def _again(
        self, tried: tuple[Target, CredentialRef | None]
    ) -> tuple[Target, CredentialRef | None] | None:
        if self._has_repeated:
            return None
        self._has_repeated = True
        return tried


def _pairs(candidate: Candidate) -> Iterator[tuple[Target, CredentialRef | None]]:
    for credential in candidate.credentials or (None,):
        yield candidate.target, credential


WINDOW_SECONDS: Final = 10.0
RATIO: Final = 0.2
FEWEST: Final = 3


class Budget:
    """Further attempts within a window: at most a fifth of its requests, and three always, so that
    an outage is not multiplied by us (bar R10)."""

    __slots__ = ("_requests", "_retries", "_since")

    def __init__(self) -> None:
        self._since = 0.0
        self._requests = 0
        self._retries = 0

    def request(self, now: float) -> None:
        if now - self._since >= WINDOW_SECONDS:
            self._since, self._requests, self._retries = now, 0, 0
        self._requests += 1

    def take(self) -> bool:
        """Whether one more attempt may be made."""
        if self._retries >= max(FEWEST, int(self._requests * RATIO)):
            return False
        self._retries += 1
        return True
