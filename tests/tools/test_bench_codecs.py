"""What is measured is what it says: whole answers, requests of the size, every pair."""

from __future__ import annotations

import itertools

import pytest

from controlplane.kit import json
from providers.protocols import registry
from providers.protocols.canonical import End
from providers.protocols.codec import Restore
from providers.protocols.google_generative_ai.relay import ArrayMeter
from tools import bench_codecs

QUICK = bench_codecs.Clock(seconds=0.0005, runs=1)


@pytest.mark.parametrize("slug", registry.slugs())
def test_a_vendors_pieces_are_a_whole_answer(slug: str) -> None:
    pieces = bench_codecs.wire_pieces(slug, 200)
    decoder = registry.upstream(slug).stream_decoder(Restore(), bench_codecs.model(slug))
    events = [event for piece in pieces for event in decoder.feed(piece)] + decoder.close()
    assert isinstance(events[-1], End)
    assert len(pieces) >= 150, "one piece is one chunk"


def test_an_array_is_a_whole_answer() -> None:
    meter = ArrayMeter()
    for piece in bench_codecs.array_pieces(50):
        meter.feed(piece)
    meter.close()
    assert meter.is_ended
    assert meter.usage is not None


def test_requests_have_their_size() -> None:
    for request, kilobytes in (
        (bench_codecs.small_request(), 1),
        (bench_codecs.agent_request(), 60),
    ):
        largest = max(len(raw) for raw, _ in bench_codecs.bodies(request).values())
        assert 0.8 * kilobytes < largest / 1000 < 1.2 * kilobytes
    agent = bench_codecs.agent_request()
    assert (len(agent.messages), len(agent.tools)) == (41, 20)
    for raw, _ in bench_codecs.bodies(agent).values():
        assert json.loads_dict(raw)


def test_every_pair_is_measured() -> None:
    pairs = set(itertools.product(registry.slugs(), bench_codecs.DIALECTS))
    measured = bench_codecs.asked(QUICK, bench_codecs.small_request())
    assert {(slug, dialect) for slug, dialect, _ in measured} == pairs


def test_a_missed_target_says_so() -> None:
    met, missed = (bench_codecs.Figure("x", micros, 10.0) for micros in (10.0, 15.0))
    assert (met.verdict, missed.verdict) == ("met", "missed by 50 %")
    table = bench_codecs.matrix("x", 10.0, [("a", d, 20.0) for d in bench_codecs.DIALECTS])
    assert "**20.0**" in table[4]
    assert "0 of 4 pairs meet it." in table


def test_figures_replace_the_ones_before() -> None:
    page = f"# P\n{bench_codecs.BEGIN}\nold\n{bench_codecs.FINISH}\nend\n"
    once = bench_codecs.recorded(page, "new")
    assert once == bench_codecs.recorded(once, "new")
    assert "old" not in once
    assert once.endswith("end\n")
    with pytest.raises(SystemExit):
        bench_codecs.recorded("# no marks", "new")
