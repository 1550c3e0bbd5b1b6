"""The one choke point: what is answered was held before and is settled before its last byte.

`answer` stands around every operation that calls a provider; `before_sending` stands before
every call of one. The pipeline refuses to answer what came by neither (`check`).
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import replace
from decimal import ROUND_CEILING, Decimal
from functools import lru_cache
from typing import Final

import msgspec

from controlplane.kit.errors import Fault, GatewayError
from controlplane.proxy import own_key, passing, respond
from controlplane.proxy.exchange import Answer, Exchange
from controlplane.proxy.faults import fault_of
from controlplane.proxy.own_limits import own_rules
from controlplane.proxy.state import GatewayState
from providers.catalog.pricing import (
    NANOS_PER_DOLLAR,
    NO_UNITS,
    Units,
    cost_of,
    priced_nanos,
    units_nanos,
    version_of,
)
from providers.catalog.schema import Price
from providers.routing.table import CredentialRef, Target
from tenants.keys.snapshot import KeyRecord
from tenants.quotas.headers import Header
from tenants.quotas.price_lists import in_force
from tenants.usage.metering import Hold
from tenants.usage.outcome import Facts, Outcome, TargetFacts, marked_up

Serve = Callable[[Exchange, tuple[Target, ...], GatewayState], Awaitable[Answer]]
# Input and output tokens to nano-dollars; None = nobody knows.
Nanos = Callable[[int, int], int | None]

# What no provider is asked for. Everything else answers with a hold or not at all.
FREE_OPERATIONS: Final = frozenset({"models", "model", "explain", "metrics", "stored", "kept"})
# Operations that ask a provider, who charges nothing for it: batches not before they are answered.
_UNCHARGED: Final = frozenset({"count_tokens", "files", "batches"})
# About so many bytes of JSON, or characters of text, make a token.
_BYTES_PER_TOKEN: Final = 4
# When neither the caller nor the catalog bounds an answer.
_MOST_OUTPUT: Final = 8_192


class Unmetered(AssertionError):
    """An operation answered without a hold: our bug."""


def check(exchange: Exchange) -> None:
    if exchange.hold is not None or exchange.repeats:
        return
    if exchange.route.operation not in FREE_OPERATIONS:
        raise Unmetered(f"The operation {exchange.route.operation} was not metered.")


async def answer(
    exchange: Exchange,
    caller: KeyRecord,
    targets: tuple[Target, ...],
    state: GatewayState,
    serve: Serve,
    nanos: Nanos | None = None,
) -> Answer:
    """Holds, serves, settles. `nanos` says what is held where the targets' prices do not. Raises
    the refusals of tenants.quotas.errors."""
    agreed = state.metering.limits.policy(caller.tenant_id).price_list
    if agreed:
        exchange.listed = in_force(agreed, exchange.model or "", time.time())
    facts = _facts(exchange, caller, targets)
    if nanos is not None:
        facts = replace(facts, nanos=nanos)
    try:
        hold = await state.metering.begin(exchange.request_id, facts)
    except GatewayError:
        # Planned and refused: the decision is kept as any other.
        state.finished(exchange)
        raise
    exchange.hold = hold
    try:
        found = await serve(exchange, targets, state)
    except GatewayError as error:
        if hold.was_sent:
            await hold.settle(_outcome(exchange, fault=fault_of(error)))
        else:
            hold.end()
        raise
    except BaseException as error:
        # The caller left while a provider was at it, or we have a bug: no time to wait.
        if hold.was_sent:
            fault = fault_of(error) if isinstance(error, Exception) else None
            hold.settle_soon(_outcome(exchange, fault=fault, is_interrupted=True))
        else:
            hold.end()
        raise
    found.headers = _with_ours(found.headers, hold.headers)
    if found.stream is None:
        outcome = _outcome(exchange)
        found.headers += _cost_headers(exchange, outcome, hold)
        await hold.settle(outcome)
    else:
        found.stream = _Settling(found.stream, exchange, hold)
    return found


def _cost_headers(exchange: Exchange, outcome: Outcome, hold: Hold) -> list[Header]:
    """What this answer is charged, in dollars, where the route is shown and the price known."""
    plan = exchange.decision.plan
    charge = outcome.charge_nanos
    if charge is None and outcome.cost_nanos is not None:
        charge = marked_up(outcome.cost_nanos, hold.held.mark_up)
    if charge is None or plan is None or not plan.shows_route:
        return []
    return [(b"x-route-cost", f"{Decimal(charge) / NANOS_PER_DOLLAR:f}".encode())]


async def before_sending(
    exchange: Exchange, target: Target, credential: CredentialRef | None
) -> None:
    """Raises RateLimited or BudgetExhausted when this target's own limits leave no room."""
    hold = exchange.hold
    if hold is None:
        raise Unmetered("A provider was about to be called without a hold.")
    if exchange.seen.usage is not None:
        # The attempt before said what it used, and then failed: it is charged all the same.
        hold.attempt_failed(_outcome(exchange, fault=exchange.seen.fault, is_interrupted=True))
    await hold.attempt(
        TargetFacts(
            provider=target.endpoint.slug,
            model=target.spec.id,
            credential_id=credential.id if credential else "",
            credential_label=credential.label if credential else "",
            upstream_protocol=target.spec.protocol,
            price_version=_price_version(exchange, target),
            own_rules=own_rules(target.endpoint.provider_id, target.endpoint.limits),
        )
    )
    hold.was_sent = True


class _Settling:
    """The pieces as they come. The one that ends the answer waits until it is settled.

    No generator: one that is dropped before its first piece never runs, and settles nothing."""

    __slots__ = ("_exchange", "_hold", "_stream")

    def __init__(self, stream: AsyncIterator[bytes], exchange: Exchange, hold: Hold) -> None:
        self._stream = stream
        self._exchange = exchange
        self._hold = hold

    def __aiter__(self) -> _Settling:
        return self

    async def __anext__(self) -> bytes:
        seen = self._exchange.seen
        try:
            piece = await self._stream.__anext__()
        except StopAsyncIteration:
            broke = not seen.is_whole
            await self._hold.settle(
                _outcome(self._exchange, fault=seen.fault, is_interrupted=broke)
            )
            raise
        if seen.is_whole and not self._hold.is_over:
            await self._hold.settle(_outcome(self._exchange))
        return piece

    async def aclose(self) -> None:
        try:
            close = getattr(self._stream, "aclose", None)
            if close is not None:
                await close()
        finally:
            self._left()

    def __del__(self) -> None:
        self._left()

    def _left(self) -> None:
        """The caller left, or something of ours broke: what was produced is charged."""
        if not self._hold.is_over:
            fault = self._exchange.seen.fault
            self._hold.settle_soon(_outcome(self._exchange, fault=fault, is_interrupted=True))


def refusal_headers(exchange: Exchange) -> list[Header]:
    """An error after the hold was taken tells what is left as well."""
    return exchange.hold.headers if exchange.hold is not None else []


def _facts(exchange: Exchange, caller: KeyRecord, targets: tuple[Target, ...]) -> Facts:
    is_free = exchange.route.operation in _UNCHARGED
    # The vendor bills whoever's key it is.
    costs_nothing = is_free or exchange.own_key is not None
    listed = exchange.listed
    prices = [target.price for target in targets if target.price is not None]
    agreed = None if costs_nothing or listed is None else [_listed_price(listed.price)]
    window = max((target.spec.context_window for target in targets), default=0)
    # Pictures in a body weigh more in bytes than in tokens: no prompt exceeds the window.
    input_tokens = len(exchange.body) // _BYTES_PER_TOKEN
    return Facts(
        tenant_id=caller.tenant_id,
        key_id=caller.id,
        member_id=caller.member_id,
        model=exchange.model or "",
        operation=exchange.route.operation,
        client_protocol=exchange.route.dialect,
        is_stream=bool(exchange.stream),
        trace_id=exchange.shown_id,
        input_tokens=0 if is_free else min(input_tokens, window or input_tokens),
        output_tokens=0 if is_free else _most_output(exchange, targets),
        nanos=_free if costs_nothing else _dearest(prices, exchange.asked),
        charge=None if agreed is None else _dearest(agreed, exchange.asked),
    )


class _Generation(msgspec.Struct):
    maxOutputTokens: int | None = None  # noqa: N815  (Google's name)
    candidateCount: int | None = None  # noqa: N815  (Google's name)


class _Asked(msgspec.Struct):
    """How the dialects bound an answer."""

    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    max_output_tokens: int | None = None
    n: int | None = None
    generationConfig: _Generation | None = None  # noqa: N815  (Google's name)


_asked: Final = msgspec.json.Decoder(_Asked).decode
_figure: Final = msgspec.json.Decoder(int | None).decode
_generation: Final = msgspec.json.Decoder(_Generation | None).decode


def _asked_of(exchange: Exchange) -> _Asked:
    body = exchange.members
    if body is None:
        return _asked(exchange.body)
    return _Asked(
        max_tokens=_figure(body.text("max_tokens") or b"null"),
        max_completion_tokens=_figure(body.text("max_completion_tokens") or b"null"),
        max_output_tokens=_figure(body.text("max_output_tokens") or b"null"),
        n=_figure(body.text("n") or b"null"),
        generationConfig=_generation(body.text("generationConfig") or b"null"),
    )


def _most_output(exchange: Exchange, targets: tuple[Target, ...]) -> int:
    try:
        asked = _asked_of(exchange)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        # Not what the dialect means: its codec refuses it in its own words.
        asked = _Asked()
    google = asked.generationConfig or _Generation()
    bound = (
        asked.max_completion_tokens
        or asked.max_tokens
        or asked.max_output_tokens
        or google.maxOutputTokens
    )
    most = max((target.spec.max_output_tokens for target in targets), default=0) or _MOST_OUTPUT
    answers = max(1, asked.n or 1, google.candidateCount or 1)
    return (min(bound, most) if bound and bound > 0 else most) * answers


class _Rates(msgspec.Struct, frozen=True):
    """The dearest a token can be, in thousandths of a nano-dollar; and which price it is."""

    version: str
    input: int
    output: int
    per_request_nanos: int


def _free(*_tokens: int) -> int:
    return 0


@lru_cache(maxsize=4096)
def _listed_price(text: str) -> Price:
    return msgspec.json.decode(text, type=Price)


def _price_version(exchange: Exchange, target: Target) -> str:
    """The provider's price, and behind a slash the tenant's own where that is charged."""
    version = _rates(target.price).version if target.price is not None else ""
    return f"{version}/{exchange.listed.version}" if exchange.listed is not None else version


def _dearest(prices: Sequence[Price], asked: Units = NO_UNITS) -> Callable[[int, int], int | None]:
    """Prices the worst case over these; None while no price is known. What is not counted before it
    is answered (minutes of sound) is not held."""
    rates = [_rates(price) for price in prices]
    by_unit = 0
    if asked is not NO_UNITS:
        by_unit = max((units_nanos(asked, price) or 0 for price in prices), default=0)

    def nanos(input_tokens: int, output_tokens: int) -> int | None:
        return max(
            (
                (input_tokens * rate.input + output_tokens * rate.output) // 1000
                + rate.per_request_nanos
                + by_unit
                for rate in rates
            ),
            default=None,
        )

    return nanos


# By the price's identity; the price is kept beside it, so that no other gets its identity.
_known_rates: dict[int, tuple[Price, _Rates]] = {}
_MOST_RATES: Final = 10_000


def _rates(price: Price) -> _Rates:
    known = _known_rates.get(id(price))
    if known is not None:
        return known[1]
    given, made = [price.input], [price.output]
    given += [price.cache_write, price.cache_write_1h, price.audio_input, price.image_input]
    made += [price.audio_output, price.image_output]
    for tier in price.tiers:
        given += [tier.input, tier.cache_write, tier.cache_write_1h]
        made.append(tier.output)
    factor = max([Decimal(1), *(Decimal(text) for text in price.service_tiers.values())])

    def dearest(texts: list[str], unit: int) -> int:
        amount = max(Decimal(text) for text in texts if text) * factor * unit
        return int(amount.to_integral_value(ROUND_CEILING))

    found = _Rates(
        version_of(price),
        # Dollars per million tokens are millions of thousandths of nano-dollars per token.
        dearest(given, 1_000_000),
        dearest(made, 1_000_000),
        dearest([price.per_request or "0"], NANOS_PER_DOLLAR),
    )
    if len(_known_rates) >= _MOST_RATES:
        _known_rates.clear()
    _known_rates[id(price)] = (price, found)
    return found


def _outcome(
    exchange: Exchange, *, fault: Fault | None = None, is_interrupted: bool = False
) -> Outcome:
    """What the ledger writes of how it stands now."""
    seen = exchange.seen
    usage = seen.usage
    has_begun = bool(seen.first_content_at) or usage is not None
    found = Outcome(
        # A stream that broke had said 200 before.
        status=200 if fault is None or (is_interrupted and has_begun) else fault.http_status,
        finish_reason=seen.finish,
        error_code=fault.code if fault is not None else "",
        is_interrupted=is_interrupted,
    )
    if fault is None and is_interrupted:
        found.error_code = "caller_left"
        found.status = 200 if has_begun else 499
    if seen.asked_at:
        found.latency_ms = (time.monotonic() - seen.asked_at) * 1000
        if seen.first_content_at:
            found.first_byte_ms = (seen.first_content_at - seen.asked_at) * 1000
    if exchange.route.operation in _UNCHARGED:
        found.input = found.output = found.cost_nanos = 0
    elif usage is not None:
        found.input, found.output = usage.input, usage.output
        found.cache_read, found.cache_write = usage.cache_read, usage.cache_write
        found.reasoning = usage.reasoning
        found.audio_input, found.audio_output = usage.audio_input, usage.audio_output
        found.image_input, found.image_output = usage.image_input, usage.image_output
    elif seen.output_characters or seen.output_events or is_interrupted:
        found.estimated_output = max(seen.output_characters // _BYTES_PER_TOKEN, seen.output_events)
    if exchange.route.operation not in _UNCHARGED and (found.status < 400 or usage is not None):
        units = passing.used(exchange)
        cost = cost_of(usage, seen.target.price if seen.target else None, units)
        if exchange.listed is not None and exchange.own_key is None:
            agreed = _listed_price(exchange.listed.price)
            found.charge_nanos = priced_nanos(usage, agreed, units)
        if exchange.own_key is not None:
            found.cost_nanos, found.price_basis = 0, own_key.PRICE_BASIS
        elif cost is not None:
            found.cost_nanos, found.price_basis = cost.nanos, cost.basis
        elif usage is not None or exchange.route.operation == "pass":
            found.price_basis = "unpriced"
    return found


def _with_ours(headers: list[tuple[bytes, bytes]], ours: list[Header]) -> list[tuple[bytes, bytes]]:
    """Our limits are the caller's; the vendor's, by whatever name, are ours alone."""
    if not ours:
        return headers
    return [*(pair for pair in headers if not pair[0].startswith(respond.RATE_LIMITS)), *ours]
