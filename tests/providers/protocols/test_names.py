"""Names and ids that a target would refuse: changed so that they can be restored."""

from __future__ import annotations

import re
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.protocols.names import SAFE, NameMap, digest, safe_id

GOOGLE = re.compile(r"[A-Za-z_][A-Za-z0-9_.:-]*\Z")
alphabet = string.ascii_letters + string.digits + "_-.:/ é\n"
names = st.lists(st.text(alphabet=alphabet, max_size=90), max_size=8)


@given(names, st.sampled_from([(64, SAFE), (64, GOOGLE), (24, SAFE)]))
def test_trap_066_wire_names_are_valid_unique_and_restorable(
    wanted: list[str], rules: tuple[int, re.Pattern[str]]
) -> None:
    limit, allowed = rules
    found = NameMap(wanted, limit=limit, allowed=allowed)
    wires = {name: found.wire(name) for name in wanted}
    for wire in wires.values():
        assert 0 < len(wire) <= limit
        assert allowed.match(wire)
    assert len(set(wires.values())) == len(wires)
    restore = found.restore()
    for name, wire in wires.items():
        assert restore.get(wire, wire) == name


@given(names, st.text(alphabet=alphabet, max_size=90))
def test_trap_067_names_only_in_the_history_join_the_same_map(wanted: list[str], late: str) -> None:
    found = NameMap(wanted)
    before = {name: found.wire(name) for name in wanted}
    wire = found.wire(late)
    assert found.wire(late) == wire
    assert {name: found.wire(name) for name in wanted} == before
    if late not in wanted:
        assert wire not in before.values()


def test_trap_069_a_valid_name_wins_over_a_sanitised_one() -> None:
    found = NameMap(["a.b", "a_b"])
    assert found.wire("a_b") == "a_b"
    assert found.wire("a.b").startswith("a_b_")


def test_trap_050_the_same_on_every_turn() -> None:
    def wires() -> list[str]:
        found = NameMap(["ok", "a.b", "a_b", "x" * 99, "x" * 98 + "y"])
        return [found.wire(name) for name in ("ok", "a.b", "a_b", "x" * 99, "x" * 98 + "y")]

    assert wires() == wires()
    assert len(set(wires())) == 5


def test_a_name_must_not_begin_with_a_digit_where_that_is_refused() -> None:
    assert NameMap(["9lives"], allowed=GOOGLE).wire("9lives") == "t_9lives"
    assert NameMap(["9lives"]).wire("9lives") == "9lives"


@pytest.mark.parametrize("length", [41, 65, 450])
def test_trap_026_long_ids_are_cut_by_hash(length: int) -> None:
    first, second = "a" * length + "1", "a" * length + "2"
    for limit in (40, 64):
        cut = [safe_id(first, limit), safe_id(second, limit)]
        assert all(len(one) <= limit and SAFE.match(one) for one in cut)
        assert cut[0] != cut[1]
        assert safe_id(first, limit) == cut[0]


def test_trap_027_no_underscore_at_the_end() -> None:
    for value in ("call_", "a" * 54 + "_" * 20, "___", "a|"):
        assert not safe_id(value, 64).endswith("_")


@pytest.mark.parametrize("value", ["", "|", "call|fc", "é", "\ud800", "a b", "toolu.1:2"])
def test_trap_029_ids_keep_to_letters_digits_underscore_hyphen(value: str) -> None:
    assert SAFE.match(safe_id(value, 64))


def test_a_good_id_is_left_alone() -> None:
    assert safe_id("call_Abc-9", 40) == "call_Abc-9"
    assert safe_id("a.b:c", 64, re.compile(r"[A-Za-z0-9_.:-]+\Z")) == "a.b:c"


@given(st.text(max_size=200), st.text(max_size=200))
def test_different_ids_stay_different(one: str, other: str) -> None:
    if one != other:
        assert safe_id(one, 40) != safe_id(other, 40)


def test_digest_is_of_the_asked_length() -> None:
    assert len(digest("x", 8)) == 8
    assert digest("x", 8) == digest("x", 8) != digest("y", 8)
