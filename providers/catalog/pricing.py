"""Usage and a price to integer nano-dollars. Pure, decimal, rounded once at the end.

The figures of one request, added up:

    uncached text input · cache reads · cache writes (5 minutes, 1 hour) · audio and image input
    + text output with reasoning · audio and image output
    + dollars per request + dollars per web search
    + dollars per picture, minute of sound, search or million characters

times the factor of the service tier. A price tier is chosen by the whole prompt (uncached, read
and written) and then holds for the whole request. Which price was valid when is not asked here.
"""

from __future__ import annotations

import hashlib
from decimal import ROUND_HALF_EVEN, Context, Decimal, InvalidOperation
from functools import lru_cache
from typing import Final, Literal

import msgspec

from providers.catalog.schema import Price, Tier
from providers.protocols.canonical import Usage

NANOS_PER_DOLLAR: Final = 1_000_000_000
_PER_DOLLAR: Final = Decimal(NANOS_PER_DOLLAR)
_ZERO: Final = Decimal(0)
# Dollars per million tokens to nano-dollars per token.
_PER_TOKEN: Final = Decimal(1_000)
# Wide enough that nothing is rounded before the end: 18-digit counts, 12-digit prices.
_EXACT: Final = Context(prec=60, rounding=ROUND_HALF_EVEN)
# Words for "no special tier" in the answers of the vendors.
_STANDARD: Final = frozenset({"", "auto", "default", "standard", "standard_only", "on_demand"})


class Cost(msgspec.Struct, frozen=True, kw_only=True):
    """What a request cost. `basis` says who said so: our `price`, or the vendor's own figure."""

    nanos: int
    basis: Literal["price", "reported"]


class Units(msgspec.Struct, frozen=True, kw_only=True):
    """What endpoints beside conversations are billed by. 0 = none, or nobody counted."""

    images: int = 0
    audio_seconds: float = 0.0
    searches: int = 0
    characters: int = 0


NO_UNITS: Final = Units()


def cost_of(usage: Usage | None, price: Price | None, units: Units = NO_UNITS) -> Cost | None:
    """The vendor's own figure where the answer carried one, else ours. `usage` None = nobody
    counted tokens, which matters where they cost something. None = unknown, never 0."""
    reported = reported_nanos(usage) if usage is not None else None
    if reported is not None:
        return Cost(nanos=reported, basis="reported")
    nanos = priced_nanos(usage, price, units)
    return None if nanos is None else Cost(nanos=nanos, basis="price")


def priced_nanos(usage: Usage | None, price: Price | None, units: Units = NO_UNITS) -> int | None:
    """Tokens and units at this price, whatever the vendor says it charged."""
    by_unit = units_nanos(units, price)
    if price is None or by_unit is None:
        return None
    if usage is None and (not has_units(price) or _costs_tokens(price)):
        return None
    nanos = cost_nanos(usage if usage is not None else _NO_USAGE, price)
    return None if nanos is None else nanos + by_unit


def version_of(price: Price) -> str:
    """The same words make the same version, in every process and for ever."""
    spelled = msgspec.json.encode(price, order="deterministic")
    return hashlib.sha256(spelled).hexdigest()[:16]


def has_units(price: Price) -> bool:
    """Whether more than tokens is billed."""
    return bool(
        price.per_image
        or price.per_audio_minute
        or price.per_search
        or price.per_million_characters
    )


def units_nanos(units: Units, price: Price | None) -> int | None:
    """Nano-dollars of these units. None where one of them has a price and nobody counted it."""
    if price is None or not has_units(price):
        return 0
    total = _ZERO
    for rate, count in (
        (price.per_image, Decimal(units.images)),
        (price.per_audio_minute, Decimal(str(units.audio_seconds)) / 60),
        (price.per_search, Decimal(units.searches)),
        (price.per_million_characters, Decimal(units.characters) / 1_000_000),
    ):
        if rate and count <= 0:
            return None
        if rate:
            total = _EXACT.fma(_amount(rate), _EXACT.multiply(count, _PER_DOLLAR), total)
    return _rounded(total)


def _costs_tokens(price: Price) -> bool:
    return any(_amount(rate) for rate in (price.input, price.output))


_NO_USAGE: Final = Usage()


def cost_nanos(usage: Usage, price: Price | None) -> int | None:
    """Nano-dollars of this usage at this price. None when the price is unknown. Never negative:
    counts below 0 (an upstream's lie) count as 0."""
    if price is None:
        return None
    text_in, text_out = max(0, usage.input), max(0, usage.output)
    read, write = max(0, usage.cache_read), max(0, usage.cache_write)
    table: Price | Tier = price
    for tier in price.tiers:
        if text_in + read + write > tier.above_input_tokens:
            table = tier
    total = _ZERO
    # Parts that may have a rate of their own come off the text they are counted in.
    if usage.audio_input > 0:
        part = min(usage.audio_input, text_in)
        text_in -= part
        total = _plus(total, part, price.audio_input or table.input)
    if usage.image_input > 0:
        part = min(usage.image_input, text_in)
        text_in -= part
        total = _plus(total, part, price.image_input or table.input)
    if usage.audio_output > 0:
        part = min(usage.audio_output, text_out)
        text_out -= part
        total = _plus(total, part, price.audio_output or table.output)
    if usage.image_output > 0:
        part = min(usage.image_output, text_out)
        text_out -= part
        total = _plus(total, part, price.image_output or table.output)
    if write:
        rate = table.cache_write or table.input
        hour = min(max(0, usage.cache_write_1h), write)
        total = _plus(total, write - hour, rate)
        total = _plus(total, hour, table.cache_write_1h or rate)
    if read:
        total = _plus(total, read, table.cache_read or table.input)
    total = _plus(total, text_in, table.input)
    total = _plus(total, text_out, table.output)
    total = _EXACT.multiply(total, _PER_TOKEN)
    if price.per_request:
        total = _EXACT.fma(_amount(price.per_request), _PER_DOLLAR, total)
    if price.per_web_search and usage.web_searches > 0:
        each = _EXACT.multiply(_amount(price.per_web_search), Decimal(usage.web_searches))
        total = _EXACT.fma(each, _PER_DOLLAR, total)
    if usage.service_tier:
        total = _EXACT.multiply(total, tier_factor(usage.service_tier, price))
    return _rounded(total)


def tier_factor(service_tier: str | None, price: Price) -> Decimal:
    """What the service tier that answered multiplies the price with; 1 where nothing is known."""
    name = (service_tier or "").lower()
    if name in _STANDARD:
        return Decimal(1)
    return _amount(price.service_tiers.get(name, "1"))


def reported_nanos(usage: Usage) -> int | None:
    """The vendor's own figure; None when there is none, or it is no sane amount of money."""
    if usage.cost_usd is None:
        return None
    try:
        amount = Decimal(usage.cost_usd)
    except InvalidOperation:
        return None
    if not amount.is_finite() or not 0 <= amount < 1_000_000:
        return None
    return _rounded(_EXACT.multiply(amount, _PER_DOLLAR))


def _plus(total: Decimal, count: int, rate: str) -> Decimal:
    return _EXACT.fma(Decimal(count), _amount(rate), total) if count else total


@lru_cache(maxsize=4096)
def _amount(text: str) -> Decimal:
    """Prices are few and asked for with every request."""
    return Decimal(text)


def _rounded(nanos: Decimal) -> int:
    return int(nanos.to_integral_value(context=_EXACT))
