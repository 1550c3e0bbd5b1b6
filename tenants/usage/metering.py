"""What the proxy calls, from its event loop: hold before sending, settle before the last byte.

    hold = await metering.begin(request_id, facts)
    try:
        for target in targets:
            await hold.attempt(target_facts)         # refusal here: try the next target
            ...
        await hold.settle(outcome)                   # before the last byte goes down
    finally:
        hold.end()                                   # if nobody settled: it never happened

Nothing here queries: limits come from a snapshot, and writing is the writer's (one commit for all
who wait at that moment).
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections import deque
from collections.abc import Sequence
from typing import Final

from django.conf import settings

from controlplane.kit.ids import uuid7
from tenants.quotas import refusals
from tenants.quotas.errors import LedgerUnavailable, QuotaError, UnpricedModel
from tenants.quotas.headers import Standing, rate_limit_headers
from tenants.quotas.models import UsagePolicy
from tenants.quotas.policy import PER_REQUEST, Amounts, Decision, Kind, Take
from tenants.quotas.snapshot import Bound, LimitSnapshot, Policy
from tenants.usage.group import Begin, Settle
from tenants.usage.outcome import (
    MOST_NANOS,
    MOST_TOKENS,
    Facts,
    Held,
    HeldTake,
    Outcome,
    TargetFacts,
    count,
    marked_up,
)
from tenants.usage.writer import Writer
from tenants.usage.writing import Part

# What is expected of an answer when nothing has been learned yet, at most.
_EXPECTED_OUTPUT: Final = 1_024
_LEARNED_FROM: Final = 20
_LEARNED_MOST: Final = 200
_MOST_LEARNED: Final = 10_000


class Learned:
    """How long the answers of a tenant's model were lately: the 95th percentile."""

    def __init__(self) -> None:
        self._seen: dict[tuple[uuid.UUID, str], deque[int]] = {}
        self._known: dict[tuple[uuid.UUID, str], int] = {}

    def note(self, tenant_id: uuid.UUID, model: str, output_tokens: int) -> None:
        name = (tenant_id, model)
        seen = self._seen.get(name)
        if seen is None:
            if len(self._seen) >= _MOST_LEARNED:
                self._seen.clear()
                self._known.clear()
            seen = self._seen[name] = deque(maxlen=_LEARNED_MOST)
        seen.append(output_tokens)
        # Sorted now and then: it moves slowly.
        if len(seen) >= _LEARNED_FROM and (name not in self._known or len(seen) % 10 == 0):
            ordered = sorted(seen)
            self._known[name] = ordered[len(ordered) * 95 // 100]

    def of(self, tenant_id: uuid.UUID, model: str) -> int | None:
        return self._known.get((tenant_id, model))


class Metering:
    """One per process and event loop."""

    def __init__(self, redis_url: str | None = None) -> None:
        self.limits = LimitSnapshot()
        self.learned = Learned()
        self.writer = Writer(settings.REDIS_URL if redis_url is None else redis_url)

    def start(self) -> None:
        """In the running event loop. `limits` must have been loaded before the first request."""
        self.writer.start()

    def stop(self) -> None:
        """Blocks until everything is written: call it off the event loop."""
        self.writer.stop()

    async def begin(self, request_id: str, facts: Facts) -> Hold:
        """Raises RateLimited, BudgetExhausted, RequestTooCostly, UnpricedModel and
        LedgerUnavailable; then nothing was taken."""
        now = time.time()
        policy = self.limits.policy(facts.tenant_id)
        bounds = self.limits.early(facts.tenant_id, facts.member_id, facts.key_id, facts.model)
        held, reserved = self._reserve(request_id, facts, policy, now)
        hold = Hold(self, held, policy, reserved, now)
        takes = hold.wanted(bounds, reserved)
        hold.has_row = policy.is_strict or bool(takes)
        if not hold.has_row:
            if self.writer.journal.is_full:
                raise LedgerUnavailable(
                    "Usage cannot be recorded at the moment: try again soon.", retry_after=5.0
                )
            return hold
        begin = Begin(hold.id, held, takes)
        try:
            await self.writer.run(begin)
        except asyncio.CancelledError:
            # It may still be granted: given back right after, in the same queue.
            self.writer.post(Settle(hold.id, held))
            raise
        if begin.error is not None:
            raise begin.error
        # A journal holds under a name of its own.
        hold.id = begin.hold_id
        hold.granted(bounds, takes, begin.decision)
        return hold

    def _reserve(
        self, request_id: str, facts: Facts, policy: Policy, now: float
    ) -> tuple[Held, Amounts]:
        input_tokens = count(facts.input_tokens) or 0
        most = count(facts.output_tokens) or 0
        learned = self.learned.of(facts.tenant_id, facts.model)
        expected = min(most, _EXPECTED_OUTPUT) if learned is None else min(learned, most or learned)
        nanos = _priced(facts, input_tokens, expected)
        if nanos is None and policy.refuses_unpriced:
            raise UnpricedModel(
                f"Nobody knows the price of {facts.model[:200]!r}, and this tenant refuses such "
                "models: set a price for it, or allow them."
            )
        if policy.reservation == UsagePolicy.Reservation.NONE:
            reserved = Amounts(requests=1)
        else:
            is_learned = policy.reservation == UsagePolicy.Reservation.LEARNED
            output_tokens = expected if is_learned and learned is not None else most
            worst = _priced(facts, input_tokens, output_tokens) or 0
            reserved = Amounts(
                requests=1,
                input_tokens=input_tokens,
                output_tokens=output_tokens,
                cost_nanos=worst,
                charge_nanos=_charged(facts, input_tokens, output_tokens, worst, policy),
            )
        held = Held(
            request_id=request_id,
            tenant_id=facts.tenant_id,
            taken_at=now,
            model=facts.model,
            key_id=facts.key_id,
            member_id=facts.member_id,
            operation=facts.operation,
            client_protocol=facts.client_protocol,
            is_stream=facts.is_stream,
            trace_id=facts.trace_id,
            expected_input=input_tokens,
            expected_output=expected,
            expected_nanos=nanos or 0,
            mark_up=policy.mark_up,
        )
        return held, reserved


def _priced(facts: Facts, input_tokens: int, output_tokens: int) -> int | None:
    if facts.nanos is None:
        return None
    return count(
        facts.nanos(min(input_tokens, MOST_TOKENS), min(output_tokens, MOST_TOKENS)), MOST_NANOS
    )


def _charged(
    facts: Facts, input_tokens: int, output_tokens: int, cost_nanos: int, policy: Policy
) -> int:
    """By the tenant's own price where one is agreed, else by the provider's and the mark-up."""
    if facts.charge is None:
        return marked_up(cost_nanos, policy.mark_up)
    return (
        count(
            facts.charge(min(input_tokens, MOST_TOKENS), min(output_tokens, MOST_TOKENS)),
            MOST_NANOS,
        )
        or 0
    )


class Hold:
    """One request's reservation. Settled once; what is not settled is given back by `end`."""

    __slots__ = (
        "_amounts",
        "_began",
        "_early",
        "_is_over",
        "_metering",
        "_parts",
        "_policy",
        "_standings",
        "_target",
        "_target_takes",
        "_unsure",
        "_would_refuse",
        "has_row",
        "held",
        "id",
        "was_sent",
    )

    def __init__(
        self, metering: Metering, held: Held, policy: Policy, amounts: Amounts, now: float
    ) -> None:
        self.id = uuid7()
        self.held = held
        self.has_row = True
        # Set once anything went to a provider: from then on the request counts.
        self.was_sent = False
        self._metering = metering
        self._policy = policy
        self._amounts = amounts
        self._began = now
        self._early: list[HeldTake] = []
        self._parts: list[Part] = []
        self._target: TargetFacts | None = None
        self._target_takes: list[HeldTake] = []
        self._would_refuse: list[str] = []
        self._standings: list[Standing] = []
        self._is_over = False
        # A wait for a target's limits that was cancelled: nobody knows yet how it ended.
        self._unsure: tuple[Begin, list[HeldTake]] | None = None

    @property
    def is_over(self) -> bool:
        return self._is_over

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """How much is left, in the words of OpenAI and of Anthropic."""
        return rate_limit_headers(self._standings, self._began)

    def wanted(self, bounds: Sequence[Bound], amounts: Amounts) -> list[Take]:
        """The takes for these rules, entered into the hold. Raises RequestTooCostly."""
        takes: list[Take] = []
        entered: list[HeldTake] = []
        for rule, subject in bounds:
            if rule.kind in PER_REQUEST:
                if amounts.of(rule.kind, rule.scope) > rule.amount:
                    if rule.is_enforced:
                        raise refusals.too_costly(rule, subject, amounts.of(rule.kind, rule.scope))
                    self._would_refuse.append(rule.id)
                continue
            take = rule.take(subject, amounts, self._began)
            takes.append(take)
            entered.append(HeldTake(take.key, take.amount, take.ends_at, rule.kind, rule.scope))
        self.held.takes = [*self.held.takes, *entered]
        return takes

    def granted(
        self, bounds: Sequence[Bound], takes: Sequence[Take], decision: Decision | None
    ) -> None:
        """The store's answer to `wanted`. Raises what refuses."""
        if decision is None:
            self._early = list(self.held.takes)
            return
        asked = [bound for bound in bounds if bound[0].kind not in PER_REQUEST]
        if decision.refused is not None:
            rule, subject = asked[decision.refused]
            raise refusals.exceeded(
                rule, subject, decision.used[decision.refused], takes[decision.refused], self._began
            )
        for (rule, _), take, used in zip(asked, takes, decision.used, strict=True):
            if not take.is_enforced and used + take.amount > take.cap:
                self._would_refuse.append(rule.id)
            if rule.kind is not Kind.PARALLEL:
                self._standings.append(
                    Standing(rule, max(0, take.cap - used - take.amount), self._began)
                )
        self._early = list(self.held.takes)

    async def attempt(self, target: TargetFacts) -> None:
        """Before anything is sent to this target. Raises RateLimited or BudgetExhausted when the
        provider's, credential's or served model's limits leave no room: try the next target."""
        self._close_attempt()
        self._target = target
        held = self.held
        bounds = self._metering.limits.late(
            held.tenant_id, target.provider, target.credential_id, target.model, held.model
        )
        if target.own_rules:
            bounds = (*bounds, *((rule, target.provider) for rule in target.own_rules))
        if not bounds:
            return
        before, early, standings = held.takes, self._early, self._standings
        try:
            takes = self.wanted(bounds, self._amounts)
            if not takes:
                return
            begin = Begin(self.id, held, takes, extends=self.has_row)
            self._unsure = (begin, held.takes[len(before) :])
            await self._metering.writer.run(begin)
            self._unsure = None
            if begin.error is not None:
                raise begin.error
            self.granted(bounds, takes, begin.decision)
            self.has_row = True
        except QuotaError:
            held.takes, self._early = before, early
            self._target = None
            raise
        self._early, self._standings = early, standings
        self._target_takes = held.takes[len(before) :]

    def attempt_failed(self, outcome: Outcome) -> None:
        """An attempt that cost money, or may have, before another target is tried."""
        self._parts.append(
            Part(outcome, self._target, self._target_takes, part=len(self._parts) + 1)
        )
        self._target, self._target_takes = None, []

    async def settle(self, outcome: Outcome) -> None:
        """Writes what was used. Before the last byte goes down. The second call does nothing."""
        operation = self._settlement(outcome)
        if operation is None:
            return
        if self._policy.is_strict:
            await self._metering.writer.run(operation)
        else:
            self._metering.writer.post(operation)

    def settle_soon(self, outcome: Outcome) -> None:
        """For those who cannot wait: their caller left."""
        operation = self._settlement(outcome)
        if operation is not None:
            self._metering.writer.post(operation)

    def end(self) -> None:
        """Gives everything back, unless it was settled: nothing was sent, nothing was spent."""
        if self._is_over:
            return
        self._is_over = True
        if self.has_row or self.held.takes:
            self._metering.writer.post(
                Settle(self.id, self.held, unsure=self._unsure, has_row=self.has_row)
            )

    def _close_attempt(self) -> None:
        """An attempt that failed without usage: its takes wait for the settlement."""
        if self._target is not None and self._target_takes:
            self.attempt_failed(Outcome(status=502, error_code="attempt_failed"))

    def _settlement(self, outcome: Outcome) -> Settle | None:
        if self._is_over:
            return None
        self._is_over = True
        if not outcome.latency_ms:
            outcome.latency_ms = (time.time() - self._began) * 1000
        takes = [*self._early, *self._target_takes]
        parts = [*self._parts, Part(outcome, self._target, takes)]
        output = count(outcome.output)
        if output is not None and outcome.status < 400:
            self._metering.learned.note(self.held.tenant_id, self.held.model, output)
        return Settle(
            self.id,
            self.held,
            parts,
            would_refuse=",".join(self._would_refuse),
            unsure=self._unsure,
            has_row=self.has_row,
        )
