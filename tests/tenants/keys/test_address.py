"""Bar K5: caller addresses only from configured proxies, in both spellings."""

from __future__ import annotations

import pytest

from tenants.keys.address import caller_address, trusted_proxies

PROXIES = trusted_proxies(["10.0.0.0/8", "2001:db8::/32"])


def forwarded(*lines: str, name: bytes = b"x-forwarded-for") -> list[tuple[bytes, bytes]]:
    return [(name, line.encode()) for line in lines]


@pytest.mark.parametrize(
    ("peer", "headers", "address"),
    [
        # Nobody but a proxy of ours speaks for others, loopback included.
        ("203.0.113.9", forwarded("198.51.100.1"), "203.0.113.9"),
        ("127.0.0.1", forwarded("198.51.100.1"), "127.0.0.1"),
        ("::1", forwarded("198.51.100.1"), "::1"),
        ("192.168.0.1", forwarded("198.51.100.1"), "192.168.0.1"),
        # One proxy, two proxies, several header lines.
        ("10.0.0.1", forwarded("198.51.100.1"), "198.51.100.1"),
        ("10.0.0.1", forwarded("198.51.100.1, 10.0.0.2"), "198.51.100.1"),
        ("10.0.0.1", forwarded("198.51.100.1", "10.0.0.2"), "198.51.100.1"),
        ("2001:db8::7", forwarded("2001:4860::1"), "2001:4860::1"),
        ("::ffff:10.0.0.1", forwarded("198.51.100.1"), "198.51.100.1"),
        # What the caller wrote stands left of what the proxy saw, and does not count.
        ("10.0.0.1", forwarded("127.0.0.1, 198.51.100.1"), "198.51.100.1"),
        ("10.0.0.1", forwarded("1.2.3.4, 10.0.0.9, 198.51.100.1"), "198.51.100.1"),
        ("10.0.0.1", forwarded("127.0.0.1", "198.51.100.1"), "198.51.100.1"),
        # The other spelling is a header of the caller's own.
        ("10.0.0.1", forwarded("127.0.0.1", name=b"x_forwarded_for"), "10.0.0.1"),
        (
            "10.0.0.1",
            [*forwarded("198.51.100.1"), *forwarded("127.0.0.1", name=b"X_Forwarded_For")],
            "198.51.100.1",
        ),
        ("10.0.0.1", forwarded("198.51.100.1", name=b"X-Forwarded-For"), "198.51.100.1"),
        ("10.0.0.1", [(b"x-real-ip", b"127.0.0.1"), (b"forwarded", b"for=127.0.0.1")], "10.0.0.1"),
        # Ports, brackets; a word that is no address.
        ("10.0.0.1", forwarded("198.51.100.1:4711"), "198.51.100.1"),
        ("10.0.0.1", forwarded("[2001:4860::1]:4711"), "2001:4860::1"),
        ("10.0.0.1", forwarded("unknown"), "10.0.0.1"),
        ("10.0.0.1", [(b"x-forwarded-for", b"\xff\x00")], "10.0.0.1"),
        ("10.0.0.1", [], "10.0.0.1"),
        ("", forwarded("127.0.0.1"), ""),
    ],
)
def test_the_callers_address(peer: str, headers: list[tuple[bytes, bytes]], address: str) -> None:
    assert caller_address(peer, headers, PROXIES) == address


@pytest.mark.parametrize("peer", ["127.0.0.1", "::1", "10.0.0.1", "203.0.113.9"])
def test_without_configured_proxies_nobody_is_believed(peer: str) -> None:
    assert caller_address(peer, forwarded("198.51.100.1"), ()) == peer


@pytest.mark.parametrize("text", ["proxy.internal", "10.0.0.0/33", "", "*"])
def test_a_bad_setting_says_what_to_set(text: str) -> None:
    with pytest.raises(ValueError, match="Set TRUSTED_PROXIES to addresses"):
        trusted_proxies(["10.0.0.1", text])
