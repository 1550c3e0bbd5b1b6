"""Bar R19: any cutting of a stream gives the same events and the same usage."""

from __future__ import annotations

import random

import pytest

from providers.protocols import registry
from tests.conformance import cuttings, reply_cells, upstreams
from tests.conformance.hostile import transcripts
from tests.conformance.written import DIALECTS

SOAK_CUTTINGS = 10_000
CUTTINGS = 250


def cut(upstream: str, count: int) -> None:
    """`count` cuttings, spread over all transcripts of this protocol, broken ones too."""
    source = random.Random(f"cuttings/{upstream}")
    codec, model = registry.upstream(upstream), upstreams.MODELS[upstream]
    played = transcripts(upstream)
    expected = [reply_cells.decoded(upstream, one.stream, one.call.restore) for one in played]
    for number in range(count):
        one = played[number % len(played)]
        decoder = codec.stream_decoder(one.call.restore, model)
        events = [
            event for piece in cuttings.pieces(one.stream, source) for event in decoder.feed(piece)
        ] + decoder.close()
        assert events == expected[number % len(played)], (upstream, number)


def cut_relayed(dialect: str, count: int) -> None:
    """The same for what only watches a relayed stream."""
    source = random.Random(f"relayed/{dialect}")
    played = transcripts(dialect)
    seen: dict[int, tuple[object, ...]] = {}
    for number in range(count):
        one = played[number % len(played)]
        meter = registry.relay(dialect).stream_meter(upstreams.MODELS[dialect])
        for piece in cuttings.pieces(one.stream, source):
            meter.feed(piece)
        meter.close()
        found = (meter.usage, meter.fault, meter.is_ended, meter.has_content)
        assert seen.setdefault(number % len(played), found) == found, (dialect, number)


@pytest.mark.parametrize("upstream", upstreams.UPSTREAMS)
def test_any_cutting_gives_the_same_events(upstream: str) -> None:
    cut(upstream, CUTTINGS)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_any_cutting_is_metered_the_same(dialect: str) -> None:
    cut_relayed(dialect, CUTTINGS)


@pytest.mark.soak
@pytest.mark.parametrize("upstream", upstreams.UPSTREAMS)
def test_ten_thousand_cuttings(upstream: str) -> None:
    cut(upstream, SOAK_CUTTINGS)


@pytest.mark.soak
@pytest.mark.parametrize("dialect", DIALECTS)
def test_ten_thousand_metered_cuttings(dialect: str) -> None:
    cut_relayed(dialect, SOAK_CUTTINGS)
