"""The one pass over a body: what it tells is what reading it whole tells."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.kit.json import depth_exceeds, dumps
from providers.protocols.errors import LocalProtocolError
from providers.protocols.members import Members

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=8,
)
NAMES = st.sampled_from(["model", "messages", "input", "tools", "metadata", "é"])


def nested(levels: int) -> Any:
    value: Any = "deep"
    for _ in range(levels):
        value = [value]
    return value


@given(st.dictionaries(NAMES, VALUES))
def test_it_reads_like_the_dict_that_it_is(body: dict[str, Any]) -> None:
    members = Members(dumps(body))
    assert dict(members) == body
    assert list(members) == list(body)
    for name in ("model", "messages", "absent"):
        assert members.get(name, 7) == body.get(name, 7)
        assert (name in members) is (name in body)
        if body.get(name):
            assert members.says(name)


@given(st.dictionaries(NAMES, VALUES | st.builds(nested, st.integers(1, 9))), st.integers(4, 8))
def test_it_knows_how_deep_the_whole_text_nests(body: dict[str, Any], limit: int) -> None:
    raw = dumps(body)
    assert Members(raw).depth_exceeds(limit) is depth_exceeds(raw, limit)


@pytest.mark.parametrize("levels", range(5, 9))
@pytest.mark.parametrize(
    "placed",
    [
        lambda deep: {"metadata": deep},
        lambda deep: {"messages": deep},
        lambda deep: {"messages": [{"role": "user", "content": deep}]},
        lambda deep: {"messages": [{"role": "user", "content": {"a": deep}}]},
        lambda deep: {"messages": ["text", {"content": deep}]},
        lambda deep: {"contents": [{"parts": [{"text": deep}]}]},
    ],
)
def test_every_place_counts(placed: Any, levels: int) -> None:
    raw = dumps(placed(nested(levels)))
    exact = next(limit for limit in range(1, 20) if not depth_exceeds(raw, limit))
    members = Members(raw)
    assert not members.depth_exceeds(exact)
    assert members.depth_exceeds(exact - 1)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"null", False),
        (b"[ ]", False),
        (b"{}", False),
        (b'""', False),
        (b"false", False),
        (b"[0]", True),
        (b"[" + b" " * 100 + b"]", True),
        (b"1", True),
    ],
)
def test_whether_a_member_says_something(text: bytes, says: bool) -> None:
    assert Members(b'{"tools": ' + text + b"}").says("tools") is says
    assert not Members(b"{}").says("tools")


def test_entries_are_those_of_a_list_of_objects() -> None:
    body = Members(b'{"messages":[{"role":"user","content":"a"}],"input":"text","contents":[1]}')
    assert body.entries("messages") == [{"role": "user", "content": "a"}]
    assert body.entries("input") is None
    assert body.entries("contents") is None
    assert body.entries("absent") is None


@pytest.mark.parametrize("raw", [b"", b"[]", b"{", b'{"a":}', b'{"a":"\xff"}', b'{"a":{"\xff":1}}'])
def test_what_is_no_object_of_text_is_refused(raw: bytes) -> None:
    with pytest.raises((msgspec.DecodeError, UnicodeDecodeError)):
        Members(raw)


def test_a_member_that_is_no_value_is_refused_by_name() -> None:
    body = Members(b'{"top_p":1e999,"model":"m"}')
    assert body["model"] == "m"
    with pytest.raises(LocalProtocolError) as refused:
        body["top_p"]
    assert refused.value.fault().param == "top_p"
