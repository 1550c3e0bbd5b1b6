"""Headers toward an upstream: whose wins, what adds up, what never travels."""

from __future__ import annotations

from controlplane.proxy.respond import dialect_headers, merged, passed_on


def test_later_layers_win_whatever_the_case() -> None:
    assert merged({"Accept": "a", "X-One": "1"}, {"accept": "b"}) == {"accept": "b", "X-One": "1"}


def test_betas_add_up_once_each() -> None:
    found = merged({"anthropic-beta": "a,b"}, {"Anthropic-Beta": "b, c"})
    assert found == {"Anthropic-Beta": "a,b,c"}


def test_only_dialect_headers_of_a_caller_travel() -> None:
    headers = [
        (b"anthropic-version", b"2026-10-21"),
        (b"anthropic-beta", b"a,b"),
        (b"authorization", b"Bearer pcp_live_x"),
        (b"cookie", b"a=b"),
        (b"host", b"evil.example"),
        (b"openai-beta", b"a\r\nX-Evil: 1"),
    ]
    assert dialect_headers(headers) == {"anthropic-version": "2026-10-21", "anthropic-beta": "a,b"}


def test_rate_limits_of_the_upstream_pass_and_nothing_else() -> None:
    upstream = {
        "Retry-After": "7",
        "x-ratelimit-remaining-tokens": "10",
        "anthropic-ratelimit-requests-limit": "5",
        "Set-Cookie": "a=b",
        "openai-organization": "org",
    }
    assert dict(passed_on(upstream)) == {
        b"retry-after": b"7",
        b"x-ratelimit-remaining-tokens": b"10",
        b"anthropic-ratelimit-requests-limit": b"5",
    }
