"""What one gateway process knows of its targets, beside the tables."""

from __future__ import annotations

import random
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from providers.routing.cooldown import Cooldowns, Rest
from providers.routing.loads import Loads
from providers.routing.outcomes import Outcome
from providers.routing.plan import Standing
from providers.routing.strategies import Turns
from providers.routing.table import CredentialRef, Target
from providers.routing.trying import Budget

MOST_BUDGETS: Final = 2_000
MOST_CURES: Final = 2_000
WORKED_LATELY_SECONDS: Final = 600.0
# So many refusals in a row say that a credential is no good any more.
_NEEDED: Final = {Outcome.AUTH: 1, Outcome.FORBIDDEN: 3}


class Routing:
    """Used in one event loop only. `clock` gives epoch seconds: rests are shared by processes."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self.cooldowns = Cooldowns()
        self.turns = Turns(random.randrange(1 << 30))  # noqa: S311  (fairness, not a secret)
        self.loads = Loads(clock)
        # Credentials that their vendor does not take any more: sharing.py writes it down.
        self.refused: dict[str, tuple[CredentialRef, str]] = {}
        self._refusals: dict[str, int] = {}
        self._worked_at: dict[str, float] = {}
        self._budgets: OrderedDict[str, Budget] = OrderedDict()
        # (tenant, conversation, target) -> the refusal that its requests have to avoid.
        self.cures: OrderedDict[tuple[str, str, tuple[str, str]], str] = OrderedDict()

    def now(self) -> float:
        return self._clock()

    def standing(self) -> Standing:
        return Standing(
            cooldowns=self.cooldowns,
            turns=self.turns,
            loads=self.loads,
            draw=random.randrange,
            now=self._clock(),
        )

    def budget(self, tenant: str) -> Budget:
        """Per tenant: one tenant's broken provider does not use up the tries of the others."""
        budget = self._budgets.get(tenant)
        if budget is None:
            budget = self._budgets[tenant] = Budget()
            if len(self._budgets) > MOST_BUDGETS:
                self._budgets.popitem(last=False)
        return budget

    def cured(self, tenant: str, session: str, place: tuple[str, str], code: str) -> None:
        """This target took the request without what it had refused with this code."""
        key = (tenant, session, place)
        self.cures[key] = code
        self.cures.move_to_end(key)
        if len(self.cures) > MOST_CURES:
            self.cures.popitem(last=False)

    def admit(self, target: Target, credential: CredentialRef | None) -> bool:
        """Before an attempt; False = somebody else is probing this place."""
        return self.cooldowns.admit(*_place(target, credential), self._clock())

    def succeeded(
        self, target: Target, credential: CredentialRef | None, *, is_whole: bool
    ) -> None:
        self.cooldowns.succeeded(*_place(target, credential), is_whole=is_whole)
        if credential is not None:
            self._worked_at[credential.id] = self._clock()
            self._refusals.pop(credential.id, None)

    def given_up(self, target: Target, credential: CredentialRef | None) -> None:
        """The attempt said nothing of the provider (the caller left)."""
        self.cooldowns.given_up(*_place(target, credential))

    def failed(
        self,
        target: Target,
        credential: CredentialRef | None,
        outcome: Outcome,
        *,
        retry_after_seconds: float | None = None,
        is_forced: bool = False,
    ) -> Rest | None:
        if credential is not None and outcome in _NEEDED:
            self._refuse(credential, outcome)
        return self.cooldowns.failed(
            *_place(target, credential),
            outcome=outcome,
            now=self._clock(),
            cooldown_seconds=target.endpoint.cooldown_seconds,
            retry_after_seconds=retry_after_seconds,
            is_forced=is_forced,
        )

    def _refuse(self, credential: CredentialRef, outcome: Outcome) -> None:
        """A key that worked lately may be refused for one model, or by a hiccup: then once is no
        proof, and being forbidden something never is."""
        worked_at = self._worked_at.get(credential.id, float("-inf"))
        worked_lately = self._clock() - worked_at < WORKED_LATELY_SECONDS
        if worked_lately and outcome is Outcome.FORBIDDEN:
            return
        count = self._refusals.get(credential.id, 0) + 1
        if count < _NEEDED[outcome] + 2 * worked_lately:
            self._refusals[credential.id] = count
            return
        self._refusals.pop(credential.id, None)
        word = "401" if outcome is Outcome.AUTH else "403"
        self.refused[credential.id] = (credential, f"The provider refused it ({word}).")


def _place(target: Target, credential: CredentialRef | None) -> tuple[str, str, str]:
    return (
        target.endpoint.provider_id,
        credential.id if credential is not None else "",
        target.spec.id,
    )
