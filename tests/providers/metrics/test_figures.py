"""Counts and quantiles: right within their buckets, and the sum of parts is the whole."""

from __future__ import annotations

import random

import pytest

from providers.metrics.figures import BOUNDS, Figures, quantile


@pytest.mark.parametrize("share", [0.5, 0.95, 0.99])
@pytest.mark.parametrize("scale", [0.05, 1.0, 40.0])
def test_quantiles_are_near_the_true_ones(share: float, scale: float) -> None:
    draw = random.Random(5)
    seconds = sorted(draw.lognormvariate(0, 0.7) * scale for _ in range(5_000))
    figures = Figures()
    for each in seconds:
        figures.answered(each, each / 2)
    true = seconds[int(share * len(seconds))]
    for counts, wanted in ((figures.latencies, true), (figures.first_tokens, true / 2)):
        found = quantile(counts, share)
        assert found is not None
        assert abs(found - wanted) <= 0.25 * wanted


def test_nothing_is_nothing() -> None:
    assert quantile([], 0.5) is None
    assert quantile(Figures().latencies, 0.5) is None
    assert Figures().success_ratio is None


def test_the_slowest_have_a_place_too() -> None:
    figures = Figures()
    figures.answered(10 * BOUNDS[-1], 10 * BOUNDS[-1])
    found = quantile(figures.latencies, 0.99)
    assert found is not None
    assert found > BOUNDS[-1]


def test_parts_add_up() -> None:
    draw = random.Random(6)
    whole, parts = Figures(), [Figures() for _ in range(4)]
    for _ in range(400):
        seconds = draw.random() * 9
        for figures in (whole, draw.choice(parts)):
            if seconds < 1:
                figures.failed("overload")
            else:
                figures.answered(seconds, seconds / 3)
                figures.used(10, 5, 1_000)
    total = Figures()
    for part in parts:
        total.add(part)
    assert total == whole
    assert whole.success_ratio == pytest.approx(whole.succeeded / 400)


def test_callers_who_left_say_nothing_of_the_provider() -> None:
    figures = Figures()
    figures.answered(1, 1)
    figures.failed("cancelled")
    assert figures.success_ratio == 1.0


def test_what_an_upstream_reports_never_subtracts() -> None:
    figures = Figures()
    figures.used(-5, -6, -7)
    assert (figures.input_tokens, figures.output_tokens, figures.cost_nanos) == (0, 0, 0)
