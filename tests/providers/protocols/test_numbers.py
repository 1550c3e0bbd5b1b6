"""Numbers from upstreams are hostile (bar I6)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.protocols.numbers import MAX_COUNT, count, seconds

anything = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=True, allow_infinity=True)
    | st.text()
    | st.lists(st.integers())
    | st.dictionaries(st.text(), st.integers())
)


@given(anything)
def test_a_count_is_always_a_sane_whole_number(value: object) -> None:
    assert type(count(value)) is int
    assert 0 <= count(value) <= MAX_COUNT


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        (7, 7),
        (7.9, 7),
        (0, 0),
        (-1, 0),
        (-0.5, 0),
        (10**30, MAX_COUNT),
        (1e30, MAX_COUNT),
        (float("nan"), 0),
        (float("inf"), 0),
        (float("-inf"), 0),
        (True, 0),
        ("7", 0),
        (None, 0),
        ([7], 0),
    ],
)
def test_counts(value: object, wanted: int) -> None:
    assert count(value) == wanted


@given(anything)
def test_a_delay_is_sane_or_nothing(value: object) -> None:
    delay = seconds(value)
    assert delay is None or 0 <= delay <= 31 * 86400


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        (5, 5.0),
        ("2.5", 2.5),
        (" 3 ", 3.0),
        ("0", 0.0),
        (-1, None),
        ("soon", None),
        ("nan", None),
        ("inf", None),
        (10**400, None),
        (31 * 86400 + 1, None),
        (None, None),
        ({}, None),
    ],
)
def test_delays(value: object, wanted: float | None) -> None:
    assert seconds(value) == wanted
