"""Targets of a plan, one after the other, until one begins to answer: the side that acts.

What a failure means and what comes next is decided in providers/routing/{outcomes,trying}.py.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final

from controlplane.kit.errors import GatewayError
from controlplane.proxy import mended, own_key
from controlplane.proxy.errors import LossyTranslation, NoUsableTarget
from controlplane.proxy.exchange import Answer, Exchange
from controlplane.proxy.faults import UpstreamFault
from controlplane.proxy.shedding import ProviderBusy
from controlplane.proxy.state import GatewayState
from providers.errors import ProviderError, UpstreamTimeout
from providers.protocols.errors import LocalProtocolError
from providers.routing.decision import Try
from providers.routing.outcomes import Outcome, classify, matching_rule
from providers.routing.state import Routing
from providers.routing.table import CredentialRef, Target
from providers.routing.trying import Course, Step, step_after
from tenants.errors import TenantError

# The event loop looks at the clock once in a turn.
CLOCKS_DIFFER_SECONDS: Final = 0.05

AskOne = Callable[[Exchange, Target, CredentialRef | None, GatewayState], Awaitable[Answer]]


async def first_answer(
    exchange: Exchange, targets: tuple[Target, ...], state: GatewayState, ask_one: AskOne
) -> Answer:
    """The first of these targets, in the order of the request's plan, that begins to answer.
    Raises the last failure when none does, Overloaded when none may be asked now."""
    await state.gate.enter(exchange.tenant)
    try:
        answer = await _first_answer(exchange, targets, state, ask_one)
    except BaseException:
        _over(exchange, state)
        raise
    if answer.stream is None:
        _over(exchange, state)
    return answer


def _over(exchange: Exchange, state: GatewayState) -> None:
    state.gate.leave(exchange.tenant)
    state.finished(exchange)


async def _first_answer(
    exchange: Exchange, targets: tuple[Target, ...], state: GatewayState, ask_one: AskOne
) -> Answer:
    routing, plan = state.routing_of(exchange), exchange.decision.plan
    assert plan is not None, "choose() plans before anything is tried"
    budget = routing.budget(exchange.tenant)
    budget.request(time.monotonic())
    candidates = plan.candidates
    if len(targets) != len(candidates):
        # An endpoint that not all of them have: by identity, for comparing them costs.
        wanted = {id(target) for target in targets}
        candidates = tuple(each for each in candidates if id(each.target) in wanted)
    course = Course(candidates)
    failure: GatewayError | None = None
    is_mended = False
    pair = course.first()
    providers, tenant = state.providers, exchange.tenant
    full: tuple[Target, CredentialRef | None] | None = None
    while True:
        if pair is None:
            # Nobody had room or nobody answered: now one that is full is waited for.
            pair, full = full, None
            if pair is None:
                break
        elif pair[0].endpoint.most_parallel and not providers.has_room(pair[0].endpoint, tenant):
            full = full or pair
            pair = course.after(Step.NEXT_PROVIDER, pair)
            continue
        target, credential = pair
        exchange.decision.losses = 0
        if not routing.admit(target, credential):
            # Somebody else is finding out whether it works again. The last one is asked all the
            # same: nobody is ever put out.
            other = course.after(Step.NEXT_CREDENTIAL, pair)
            if other is not None:
                pair = other
                continue
        # What was never sent multiplies nothing; what is mended is no answer to an outage, and
        # happens once in a request.
        if exchange.attempts and not is_mended and not budget.take():
            exchange.decision.is_out_of_budget = True
            routing.given_up(target, credential)
            break
        if routing.cures:
            mended.recall(exchange, target, routing)
        sent = exchange.attempts
        began = time.monotonic()
        shared = _one_of_several(target, credential)
        routing.loads.began(target, shared)
        try:
            if target.endpoint.most_parallel:
                await providers.enter(exchange, target.endpoint)
            answer = await ask_one(exchange, target, credential, state)
        except GatewayError as error:
            routing.loads.ended(target, shared)
            providers.leave(exchange)
            failure = error
            if is_expired(exchange):
                routing.given_up(target, credential)
                outcome, step = Outcome.EXPIRED, Step.STOP
            else:
                outcome, step = _judged(
                    error, target, credential, routing, exchange.attempts > sent
                )
            exchange.decision.tries.append(
                Try(target, credential, outcome, error.fault().code, time.monotonic() - began)
            )
            if step is Step.STOP:
                break
            is_mended = mended.mends(exchange, error, target)
            if not is_mended:
                pair = course.after(step, pair, outcome)
            if step not in (Step.NEXT_PROVIDER, Step.NEXT_CREDENTIAL):
                # Who was full may be no better for such a request.
                full = None
        except BaseException:
            routing.loads.ended(target, shared)
            providers.leave(exchange)
            routing.given_up(target, credential)
            left = Try(target, credential, Outcome.CANCELLED, "", time.monotonic() - began)
            exchange.decision.tries.append(left)
            raise
        else:
            made = Try(target, credential, Outcome.OK, "", time.monotonic() - began)
            if exchange.mending is not None:
                made.mended = mended.note(exchange, target, routing)
            exchange.decision.tries.append(made)
            seen = exchange.seen
            first = seen.first_content_at - seen.asked_at if seen.first_content_at else made.seconds
            routing.loads.first_token(target, first, shared)
            if plan.shows_route:
                answer.headers += _route_headers(exchange)
            return _followed(exchange, answer, made, state)
    if failure is None:
        failure = NoUsableTarget("No provider can take this request now. Try again.")
    raise own_key.told(exchange, failure)


def _one_of_several(target: Target, credential: CredentialRef | None) -> CredentialRef | None:
    """A credential among others of its registration: only those are compared."""
    return credential if len(target.endpoint.credentials) > 1 else None


def is_expired(exchange: Exchange) -> bool:
    """Whether the time for the whole request is over, or as good as."""
    return 0 < exchange.ends_at <= time.monotonic() + CLOCKS_DIFFER_SECONDS


def _judged(
    error: GatewayError,
    target: Target,
    credential: CredentialRef | None,
    routing: Routing,
    was_sent: bool,
) -> tuple[Outcome, Step]:
    """What the failure means, noted where it counts, and what comes next."""
    status = 0
    fault = error.fault()
    if isinstance(error, UpstreamFault):
        # What the client is shown is neutral; what is decided needs the vendor's own word.
        fault, status = error.original, error.upstream_status
    if not was_sent and not isinstance(error, UpstreamFault | ProviderError):
        # Our own word, not the provider's: it says nothing of the place.
        routing.given_up(target, credential)
        own = Outcome.REFUSED
        if isinstance(error, LocalProtocolError | LossyTranslation):
            own = Outcome.INEXPRESSIBLE
        elif isinstance(error, TenantError | ProviderBusy):
            own = Outcome.LIMITED
        return own, step_after(own)
    outcome = classify(fault)
    rule = matching_rule(target.endpoint.rules, fault, status)
    if rule is not None and rule.action != "cooldown":
        routing.given_up(target, credential)
        return outcome, step_after(outcome, rule)
    routing.failed(
        target,
        credential,
        outcome,
        retry_after_seconds=fault.retry_after_seconds,
        is_forced=rule is not None,
    )
    return outcome, step_after(outcome, rule)


def _route_headers(exchange: Exchange) -> list[tuple[bytes, bytes]]:
    decision = exchange.decision
    target = decision.tries[-1].target
    waited = sum(made.seconds for made in decision.tries)
    overhead = max(0.0, time.monotonic() - decision.started_at - waited) * 1_000
    return [
        (b"x-route-provider", target.endpoint.slug.encode()),
        (b"x-route-model", target.spec.id.encode("ascii", "backslashreplace")),
        (b"x-route-attempts", str(exchange.attempts).encode()),
        (b"x-route-losses", str(decision.losses).encode()),
        (b"x-route-overhead-ms", f"{overhead:.2f}".encode()),
        *own_key.source_headers(exchange),
    ]


def _followed(exchange: Exchange, answer: Answer, made: Try, state: GatewayState) -> Answer:
    """The answer, whose end is noted when it comes."""
    routing = state.routing_of(exchange)
    if answer.stream is None:
        routing.loads.ended(made.target, _one_of_several(made.target, made.credential))
        routing.succeeded(made.target, made.credential, is_whole=True)
        return answer
    routing.succeeded(made.target, made.credential, is_whole=False)
    answer.stream = _Followed(answer.stream, exchange, made, state)
    return answer


class _Followed:
    """A stream whose closing is noticed. Each piece passes without a frame of ours between."""

    __slots__ = ("_exchange", "_is_closed", "_made", "_state", "_stream")

    def __init__(
        self, stream: AsyncIterator[bytes], exchange: Exchange, made: Try, state: GatewayState
    ) -> None:
        self._stream = stream
        self._exchange = exchange
        self._made = made
        self._state = state
        self._is_closed = False

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    def __anext__(self) -> Awaitable[bytes]:
        return self._stream.__anext__()

    async def aclose(self) -> None:
        if self._is_closed:
            return
        self._is_closed = True
        # A generator that ran to its end has no frame any more: else the caller left early.
        was_left = getattr(self._stream, "ag_frame", None) is not None
        try:
            close: Any = getattr(self._stream, "aclose", None)
            if close is not None:
                await close()
        finally:
            self._note(was_left)

    def __del__(self) -> None:
        # Dropped without being closed: the caller left before a first piece was sent.
        if not self._is_closed:
            self._is_closed = True
            self._note(was_left=True)

    def _note(self, was_left: bool) -> None:
        made, routing = self._made, self._state.routing_of(self._exchange)
        routing.loads.ended(made.target, _one_of_several(made.target, made.credential))
        seen = self._exchange.seen
        if seen.is_whole:
            routing.succeeded(made.target, made.credential, is_whole=True)
        elif was_left:
            made.outcome = Outcome.CANCELLED
        elif is_expired(self._exchange):
            made.outcome, made.code = Outcome.EXPIRED, UpstreamTimeout.code
            routing.given_up(made.target, made.credential)
        else:
            made.outcome = classify(seen.fault) if seen.fault is not None else Outcome.BROKEN
            made.code = seen.fault.code if seen.fault is not None else "stream_truncated"
            routing.failed(made.target, made.credential, made.outcome)
        self._state.providers.leave(self._exchange)
        _over(self._exchange, self._state)
