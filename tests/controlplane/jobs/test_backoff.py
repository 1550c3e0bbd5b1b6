from __future__ import annotations

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from controlplane.kit.jobs import backoff


@given(attempts=st.integers(0, 100_000), spread=st.floats(0, 1))
def test_rest_is_bounded_and_never_nothing(attempts: int, spread: float) -> None:
    rest = backoff.rest(attempts, spread=spread).total_seconds()
    assert backoff.FIRST_SECONDS / 2 <= rest <= backoff.LONGEST_SECONDS


def test_rest_doubles() -> None:
    rests = [backoff.rest(attempts, spread=0.0) for attempts in (1, 2, 3, 4)]
    assert rests == [timedelta(seconds=seconds) for seconds in (2, 4, 8, 16)]


def test_jobs_that_failed_together_come_back_apart() -> None:
    assert len({backoff.rest(5) for _ in range(50)}) > 40
