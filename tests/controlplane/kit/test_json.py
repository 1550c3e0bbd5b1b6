"""JSON by msgspec: what it refuses, what it mends, and how deep it looks."""

from __future__ import annotations

import json as stdlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.kit.json import (
    MAX_DEPTH,
    InvalidJSON,
    depth_exceeds,
    dumps,
    dumps_str,
    loads,
    loads_dict,
)

# Strings that try hard to look like structure.
nasty = st.text(alphabet='[]{}"\\,:aé\n', max_size=8)
values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | nasty,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(nasty, inner, max_size=3),
    max_leaves=25,
)


def depth_of(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + max((depth_of(item) for item in value.values()), default=0)
    if isinstance(value, list):
        return 1 + max((depth_of(item) for item in value), default=0)
    return 0


@given(values)
def test_what_is_written_is_read_back(value: Any) -> None:
    assert loads(dumps(value)) == value
    assert loads(dumps_str(value)) == value


@given(values, st.integers(0, 6), st.booleans())
def test_depth_is_exact_whatever_the_strings_hold(value: Any, limit: int, is_padded: bool) -> None:
    # Padding takes the value past the size below which only brackets are counted.
    data = dumps([value, "x" * 4096 if is_padded else ""])
    assert depth_exceeds(data, limit) is (depth_of([value, ""]) > limit)


@pytest.mark.parametrize("layers", [MAX_DEPTH - 1, MAX_DEPTH, MAX_DEPTH + 1, 1000])
@pytest.mark.parametrize("pair", [("[", "]"), ('{"a":', "}")])
def test_depth_limit(layers: int, pair: tuple[str, str]) -> None:
    data = (pair[0] * layers + "1" + pair[1] * layers).encode()
    assert depth_exceeds(data) is (layers > MAX_DEPTH)


@pytest.mark.parametrize("padding", ["", "y" * 4096])
def test_brackets_in_strings_cannot_hide_real_ones(padding: str) -> None:
    # Each bracket in a string would cancel a real one: 100 levels that look like one.
    data = ('["]",' * 100 + f'"{padding}"' + ',"["]' * 100).encode()
    assert depth_of(stdlib.loads(data)) == 100
    assert depth_exceeds(data)
    # And with escapes, before and after a quote.
    data = ('["\\"]\\\\",' * 100 + f'"{padding}"' + ',"\\\\["]' * 100).encode()
    assert depth_of(stdlib.loads(data)) == 100
    assert depth_exceeds(data)


def test_brackets_in_strings_are_not_depth() -> None:
    assert not depth_exceeds(dumps({"text": "[" * 5000}))
    assert not depth_exceeds(dumps({"text": '"[' * 5000}))


def test_nesting_far_beyond_the_limit_is_refused_not_a_crash() -> None:
    with pytest.raises(InvalidJSON):
        loads(b"[" * 200_000)
    with pytest.raises(InvalidJSON):
        loads(b"[" * 50_000 + b"]" * 50_000)


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"nul", b'{"a":}', b"\xff", b'"\xff"', b"{'a':1}", b"[1,]", b"NaN", b"Infinity"],
)
def test_what_is_not_json_is_one_error(data: bytes) -> None:
    with pytest.raises(InvalidJSON):
        loads(data)


@pytest.mark.parametrize(
    ("data", "wanted"),
    [
        (rb'"\ud800"', "\ufffd"),
        (rb'"\udc00"', "\ufffd"),
        (rb'"a\ud83db"', "a\ufffdb"),
        (rb'"\ud83d\ude00"', "\U0001f600"),
        (rb'"\ud83d\ud83d\ude00"', "\ufffd\U0001f600"),
        (rb'"\\ud800 \ud800"', "\\ud800 \ufffd"),
    ],
)
def test_trap_011_half_a_surrogate_pair_is_replaced(data: bytes, wanted: str) -> None:
    assert loads(data) == wanted
    dumps(loads(data)).decode()  # and is text again


def test_trap_011_half_a_pair_in_a_python_string() -> None:
    assert loads('"\ud800"') == "\ufffd"
    assert loads('"\ud83d\ude00"') == "\U0001f600"


@pytest.mark.parametrize("data", [b"[]", b"1", b'"a"', b"null"])
def test_a_dict_is_asked_for(data: bytes) -> None:
    with pytest.raises(InvalidJSON, match="JSON object"):
        loads_dict(data)


def test_a_dict_is_given() -> None:
    assert loads_dict(b'{"a":[1,2.5,null,true]}') == {"a": [1, 2.5, None, True]}
