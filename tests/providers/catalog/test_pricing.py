"""Money: exact, rounded once, unknown never 0."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.catalog.pricing import (
    Cost,
    Units,
    cost_nanos,
    cost_of,
    reported_nanos,
    tier_factor,
)
from providers.catalog.schema import Price, Tier
from providers.protocols.canonical import Usage

SONNET = Price(
    input="3", output="15", cache_read="0.3", cache_write="3.75", cache_write_1h="6",
)  # fmt: skip
TIERED = Price(
    input="2",
    output="10",
    cache_read="0.1",
    cache_write="2.5",
    service_tiers={"flex": "0.5", "priority": "2"},
    tiers=(
        Tier(above_input_tokens=200_000, input="4", output="15", cache_read="0.2"),
        Tier(above_input_tokens=500_000, input="8", output="30"),
    ),
)


@pytest.mark.parametrize(
    ("usage", "price", "nanos"),
    [
        (Usage(), SONNET, 0),
        (Usage(input=1), SONNET, 3_000),
        (Usage(input=1_000_000, output=1_000_000), SONNET, 18_000_000_000),
        # Reasoning is inside the output.
        (Usage(output=10, reasoning=7), SONNET, 150_000),
        (Usage(cache_read=10), SONNET, 3_000),
        (Usage(cache_write=10), SONNET, 37_500),
        (Usage(cache_write=10, cache_write_1h=4), SONNET, 6 * 3_750 + 4 * 6_000),
        # The bound itself is still the lower tier; one more token lifts the whole request.
        (Usage(input=200_000), TIERED, 400_000_000),
        (Usage(input=200_001), TIERED, 800_004_000),
        # Cached tokens count towards the bound.
        (Usage(input=1, cache_read=200_000, output=1), TIERED, 4_000 + 200_000 * 200 + 15_000),
        # A tier that says nothing of caches bills them as its input.
        (Usage(input=1, cache_read=500_000), TIERED, 500_001 * 8_000),
        (Usage(input=10, service_tier="flex"), TIERED, 10_000),
        (Usage(input=10, service_tier="priority"), TIERED, 40_000),
        (Usage(input=10, service_tier="default"), TIERED, 20_000),
        (Usage(input=10, service_tier="scale"), TIERED, 20_000),
        # No cache price: the input's.
        (Usage(cache_read=10, cache_write=10), Price(input="1", output="2"), 20_000),
        # Parts of input and output with rates of their own.
        (
            Usage(input=100, output=50, audio_input=40, audio_output=30, image_input=10),
            Price(input="1", output="2", audio_input="10", audio_output="20", image_input="5"),
            50 * 1_000 + 40 * 10_000 + 10 * 5_000 + 20 * 2_000 + 30 * 20_000,
        ),
        (Usage(output=5, image_output=5), Price(input="1", output="2", image_output="40"), 200_000),
        (Usage(), Price(input="0", output="0", per_request="0.01"), 10_000_000),
        (Usage(web_searches=3), Price(input="0", output="0", per_web_search="0.01"), 30_000_000),
        # Half a nano-dollar goes to the even neighbour, once, at the end.
        (Usage(input=1), Price(input="0.0005", output="0"), 0),
        (Usage(input=3), Price(input="0.0005", output="0"), 2),
        (Usage(input=1, output=1), Price(input="0.0005", output="0.0005"), 1),
    ],
)  # fmt: skip
def test_examples(usage: Usage, price: Price, nanos: int) -> None:
    assert cost_nanos(usage, price) == nanos


def test_an_unknown_price_is_no_price() -> None:
    assert cost_nanos(Usage(input=1), None) is None
    assert cost_of(Usage(input=1), None) is None
    assert cost_nanos(Usage(), None) is None


def test_free_is_zero() -> None:
    assert cost_nanos(Usage(input=10, output=10), Price(input="0", output="0")) == 0


def test_the_vendors_own_figure_wins() -> None:
    usage = Usage(input=1_000_000, cost_usd="0.0123456789")
    assert cost_of(usage, SONNET) == Cost(nanos=12_345_679, basis="reported")
    assert cost_of(usage, None) == Cost(nanos=12_345_679, basis="reported")
    assert cost_of(Usage(input=1), SONNET) == Cost(nanos=3_000, basis="price")


@pytest.mark.parametrize("figure", ["", "NaN", "Infinity", "-1", "1e9", "a lot"])
def test_a_figure_that_makes_no_sense_is_not_taken(figure: str) -> None:
    usage = Usage(input=1, cost_usd=figure)
    assert reported_nanos(usage) is None
    assert cost_of(usage, SONNET) == Cost(nanos=3_000, basis="price")


# --- properties ---------------------------------------------------------------------------

amounts = st.decimals(0, 1_000, places=6).map(lambda amount: format(amount, "f"))
counts = st.integers(0, 10**12)
# Also what a lying upstream might send.
any_counts = st.integers(-(10**6), 10**15)
prices = st.builds(
    Price,
    input=amounts,
    output=amounts,
    cache_read=amounts | st.just(""),
    cache_write=amounts | st.just(""),
    cache_write_1h=amounts | st.just(""),
    audio_input=amounts | st.just(""),
    image_output=amounts | st.just(""),
    service_tiers=st.just({"flex": "0.5", "priority": "2"}),
)
usages = st.builds(
    Usage,
    input=counts,
    cache_read=counts,
    cache_write=counts,
    cache_write_1h=counts,
    output=counts,
    reasoning=counts,
    service_tier=st.sampled_from([None, "default", "flex", "priority"]),
)
lying_usages = st.builds(
    Usage,
    **dict.fromkeys(
        (
            "input", "cache_read", "cache_write", "cache_write_1h", "output", "reasoning",
            "audio_input", "audio_output", "image_input", "image_output", "web_searches",
        ),
        any_counts,
    ),
)  # fmt: skip


def known(usage: Usage, price: Price) -> int:
    cost = cost_nanos(usage, price)
    assert cost is not None
    return cost


@given(usage=usages, price=prices)
def test_it_is_the_exact_sum_rounded_once(usage: Usage, price: Price) -> None:
    """Held against fractions, which never round."""
    hour = min(usage.cache_write_1h, usage.cache_write)
    write = Fraction(price.cache_write or price.input)
    exact = (
        usage.input * Fraction(price.input)
        + usage.output * Fraction(price.output)
        + usage.cache_read * Fraction(price.cache_read or price.input)
        + (usage.cache_write - hour) * write
        + hour * Fraction(price.cache_write_1h or write)
    )
    exact *= 1_000 * Fraction(tier_factor(usage.service_tier, price))
    assert known(usage, price) == round(exact)


@given(usage=lying_usages, price=prices)
def test_no_upstream_can_make_it_negative(usage: Usage, price: Price) -> None:
    cost = known(usage, price)
    assert isinstance(cost, int)
    assert cost >= 0


@given(usage=usages, price=prices, field=st.sampled_from(["input", "output", "cache_read"]))
def test_more_tokens_never_cost_less(usage: Usage, price: Price, field: str) -> None:
    more = msgspec.structs.replace(usage, **{field: getattr(usage, field) + 1_000})
    assert known(more, price) >= known(usage, price)


@given(usage=usages, price=prices)
def test_parts_are_counted_once(usage: Usage, price: Price) -> None:
    """Reasoning is part of the output; a part dearer or cheaper than text replaces it."""
    without = msgspec.structs.replace(usage, reasoning=0)
    assert known(usage, price) == known(without, price)
    plain = msgspec.structs.replace(price, audio_input="", image_output="")
    heard = msgspec.structs.replace(usage, audio_input=usage.input)
    assert known(heard, plain) == known(usage, plain)


@given(tokens=st.integers(0, 10**7), bound=st.integers(1, 10**6))
def test_the_tier_is_that_of_the_whole_prompt(tokens: int, bound: int) -> None:
    price = Price(
        input="1", output="1", tiers=(Tier(above_input_tokens=bound, input="3", output="3"),)
    )
    rate = 3_000 if tokens > bound else 1_000
    assert known(Usage(input=tokens), price) == tokens * rate
    split = Usage(input=tokens // 2, cache_read=tokens - tokens // 2)
    assert known(split, price) == tokens * rate


@given(price=prices)
def test_factors_multiply_the_whole(price: Price) -> None:
    usage = Usage(input=2_000_000, output=2_000_000)
    standard = known(usage, price)
    assert known(msgspec.structs.replace(usage, service_tier="priority"), price) == 2 * standard
    assert known(msgspec.structs.replace(usage, service_tier="flex"), price) * 2 == standard


@pytest.mark.parametrize("name", ["", "auto", "default", "standard", "STANDARD", None])
def test_standard_has_many_names(name: str | None) -> None:
    assert tier_factor(name, TIERED) == Decimal(1)


def test_units_are_priced_where_somebody_counted_them() -> None:
    pictures = Price(input="0", output="0", per_image="0.04")
    assert cost_of(None, pictures, Units(images=3)) == Cost(nanos=120_000_000, basis="price")
    assert cost_of(None, pictures) is None, "unknown, never free"
    assert cost_of(Usage(input=5), pictures) is None
    minutes = Price(input="0", output="0", per_audio_minute="0.006")
    assert cost_of(None, minutes, Units(audio_seconds=8.470000267028809)) == Cost(
        nanos=847_000, basis="price"
    )
    characters = Price(input="0", output="0", per_million_characters="15")
    assert cost_of(None, characters, Units(characters=7)) == Cost(nanos=105_000, basis="price")
    searches = Price(input="0", output="0", per_search="0.002")
    assert cost_of(None, searches, Units(searches=2)) == Cost(nanos=4_000_000, basis="price")


def test_units_beside_tokens() -> None:
    both = Price(input="2", output="0", per_image="0.01")
    assert cost_of(Usage(input=10), both, Units(images=1)) == Cost(nanos=10_020_000, basis="price")
    assert cost_of(None, both, Units(images=1)) is None, "the tokens cost something too"
    assert cost_of(None, SONNET, Units(images=1)) is None
    reported = Usage(cost_usd="0.5")
    assert cost_of(reported, both) == Cost(nanos=500_000_000, basis="reported")
