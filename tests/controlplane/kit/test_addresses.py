from __future__ import annotations

import pytest

from controlplane.kit.addresses import client_address, networks, plain

PROXIES = ("10.0.0.0/8", "2001:db8::/32")


@pytest.mark.parametrize(
    ("peer", "forwarded_for", "trusted", "expected"),
    [
        ("203.0.113.7", "198.51.100.1", (), "203.0.113.7"),
        ("127.0.0.1", "198.51.100.1", (), "127.0.0.1"),
        ("127.0.0.1", "198.51.100.1", PROXIES, "127.0.0.1"),
        ("203.0.113.7", "198.51.100.1", PROXIES, "203.0.113.7"),
        ("10.1.1.1", "198.51.100.1", PROXIES, "198.51.100.1"),
        ("10.1.1.1", "6.6.6.6, 198.51.100.1", PROXIES, "198.51.100.1"),
        ("10.1.1.1", "6.6.6.6, 198.51.100.1, 10.2.2.2", PROXIES, "198.51.100.1"),
        ("10.1.1.1", "10.3.3.3, 10.2.2.2", PROXIES, "10.3.3.3"),
        ("10.1.1.1", "", PROXIES, "10.1.1.1"),
        ("10.1.1.1", " , ,", PROXIES, "10.1.1.1"),
        ("10.1.1.1", "localhost", PROXIES, "10.1.1.1"),
        ("10.1.1.1", "198.51.100.1:4711", PROXIES, "198.51.100.1"),
        ("10.1.1.1", "[2001:DB9::1]:443", PROXIES, "2001:db9::1"),
        ("::ffff:10.1.1.1", "198.51.100.1", PROXIES, "198.51.100.1"),
        ("", "198.51.100.1", PROXIES, ""),
    ],
)
def test_the_caller_is_the_first_address_that_is_no_proxy_of_ours(
    peer: str, forwarded_for: str, trusted: tuple[str, ...], expected: str
) -> None:
    assert client_address(peer, forwarded_for, trusted) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2001:DB8:0::1", "2001:db8::1"),
        ("fe80::1%eth0", "fe80::1"),
        ('"192.0.2.1"', "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
    ],
)
def test_one_spelling_per_address(text: str, expected: str) -> None:
    assert plain(text) == expected


def test_a_bad_proxy_setting_is_named() -> None:
    with pytest.raises(ValueError, match="not-a-network"):
        networks(("not-a-network",))
