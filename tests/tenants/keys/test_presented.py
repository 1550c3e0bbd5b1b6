"""The one function that reads a caller's key."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenants.errors import InvalidKey
from tenants.keys.presented import presented_key

KEY, OTHER = b"pcp_live_one", b"pcp_live_two"
BEARER = (b"authorization", b"Bearer " + KEY)


@pytest.mark.parametrize(
    ("headers", "query"),
    [
        ([BEARER], b""),
        ([(b"Authorization", b"bearer  " + KEY + b" ")], b""),
        ([(b"x-api-key", KEY)], b""),
        ([(b"X-API-Key", b"\t" + KEY)], b""),
        ([(b"api-key", KEY)], b""),
        ([(b"x-goog-api-key", KEY)], b""),
        ([], b"alt=sse&key=" + KEY),
        ([], b"key=pcp%5Flive_one"),
        ([BEARER, (b"x-api-key", KEY), (b"x-goog-api-key", KEY)], b"key=" + KEY),
        ([BEARER, BEARER, (b"accept", OTHER)], b"q=" + OTHER),
    ],
)
def test_every_dialects_way_is_read(headers: list[tuple[bytes, bytes]], query: bytes) -> None:
    assert presented_key(headers, query, allow_query=True) == KEY.decode()


@pytest.mark.parametrize(
    ("headers", "query"),
    [
        ([], b""),
        ([], b"key="),
        ([], b"key"),
        ([], b"Key=" + KEY),
        ([(b"authorization", b"Bearer")], b""),
        ([(b"authorization", b"Bearer ")], b""),
        ([(b"authorization", b"Basic " + KEY)], b""),
        ([(b"authorization", b"Bearer" + KEY)], b""),
        ([(b"proxy-authorization", b"Bearer " + KEY)], b""),
        ([(b"x_api_key", KEY)], b""),
        ([(b"x-api-key", KEY), (b"api-key", OTHER)], b""),
        ([(b"x-api-key", KEY), (b"x-api-key", OTHER)], b""),
        ([(b"x-api-key", KEY), (b"api-key", b"")], b""),
        ([BEARER], b"key=" + OTHER),
        ([BEARER], b"key="),
        ([], b"key=" + KEY + b"&key=" + OTHER),
        ([(b"x-api-key", b"a" * 513)], b""),
        ([(b"x-api-key", "ключ".encode())], b""),
        ([(b"x-api-key", b"a\0b")], b""),
        ([], b"key=a%00b"),
        ([], b"key=%ff"),
    ],
)
def test_what_is_doubtful_is_refused(headers: list[tuple[bytes, bytes]], query: bytes) -> None:
    with pytest.raises(InvalidKey) as refused:
        presented_key(headers, query, allow_query=True)
    assert "one" not in str(refused.value).replace("send one", "")


def test_the_query_is_read_for_google_clients_only() -> None:
    with pytest.raises(InvalidKey):
        presented_key([], b"key=" + KEY, allow_query=False)
    assert presented_key([BEARER], b"key=" + OTHER, allow_query=False) == KEY.decode()


_names = st.sampled_from([b"authorization", b"x-api-key", b"api-key", b"x-goog-api-key", b"host"])


@given(st.lists(st.tuples(_names, st.binary(max_size=600)), max_size=6), st.binary(max_size=200))
def test_anything_gives_a_printable_key_or_is_refused(
    headers: list[tuple[bytes, bytes]], query: bytes
) -> None:
    try:
        key = presented_key(headers, query, allow_query=True)
    except InvalidKey:
        return
    assert key
    assert key.isascii()
    assert key.isprintable()
