"""Bar K1: the form of a key, its checksum, its digest."""

from __future__ import annotations

import re
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenants.keys import lookup
from tenants.keys.lookup import ALPHABET, TokenKind, digest, digests, parse, render

SECRET = bytes(range(32))
TOKEN = render(TokenKind.LIVE, "A1b2C3d4E5f6", SECRET)


def test_the_form_is_fixed() -> None:
    """A change here makes every key in use invalid."""
    assert TOKEN == "pcp_live_A1b2C3d4E5f6_003aUlTJC7tjlCTQj2uNU3MFagCXG9LRKRcwGkBIDlf1Ng55J"
    assert len(TOKEN) == 71
    assert re.fullmatch(lookup.LEAK_PATTERN, TOKEN)
    assert set(TOKEN) <= {*string.ascii_letters, *string.digits, "_"}
    parsed = parse(TOKEN)
    assert parsed is not None
    assert (parsed.kind, parsed.public_id, parsed.token) == ("live", "A1b2C3d4E5f6", TOKEN)
    assert TOKEN not in repr(parsed)


@given(st.binary(min_size=32, max_size=32), st.text(ALPHABET, min_size=12, max_size=12))
def test_every_secret_fits_and_is_recognised(secret: bytes, public_id: str) -> None:
    for kind in TokenKind:
        token = render(kind, public_id, secret)
        assert re.fullmatch(lookup.LEAK_PATTERN, token)
        assert parse(token, kind) is not None
        assert all(parse(token, other) is None for other in TokenKind if other != kind)
        # 256 bits survive: the text gives the number back.
        number = 0
        for letter in token.rpartition("_")[2][:43]:
            number = number * 62 + ALPHABET.index(letter)
        assert number == int.from_bytes(secret, "big")


def test_any_single_wrong_letter_is_noticed() -> None:
    for place in range(len(TOKEN)):
        for letter in "0Az_-":
            if letter != TOKEN[place]:
                assert parse(TOKEN[:place] + letter + TOKEN[place + 1 :]) is None


def test_neighbours_that_changed_places_are_noticed() -> None:
    for place in range(len(TOKEN) - 1):
        swapped = TOKEN[:place] + TOKEN[place + 1] + TOKEN[place] + TOKEN[place + 2 :]
        if swapped != TOKEN:
            assert parse(swapped) is None


@given(st.text())
def test_any_text_is_judged_without_raising(text: str) -> None:
    assert parse(text) is None
    assert parse(TOKEN + text) is None or not text


@pytest.mark.parametrize("text", [TOKEN + "\n", " " + TOKEN, TOKEN.upper(), "a" * 10_000_000])
def test_what_is_nearly_a_key_is_none(text: str) -> None:
    assert parse(text) is None


def test_a_digest_needs_its_pepper() -> None:
    old, new = b"o" * 32, b"n" * 32
    assert digests(TOKEN, [new, old]) == [digest(TOKEN, new), digest(TOKEN, old)]
    assert len({digest(TOKEN, old), digest(TOKEN, new), digest(TOKEN + "a", old)}) == 3
    assert len(digest(TOKEN, old)) == 32


def test_a_short_secret_is_refused() -> None:
    with pytest.raises(ValueError, match="32 random bytes"):
        render(TokenKind.LIVE, "A1b2C3d4E5f6", b"short")
